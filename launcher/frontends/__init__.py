"""Front ends: command line, terminal screens, browser page, messages, plugins of other tools, and the simulator.

No package below imports one of these. `launcher.cli`, `launcher.notify` and `launcher.api` lead here.
Start reading at `cli.main`, then `screens.queue_view`.
"""
