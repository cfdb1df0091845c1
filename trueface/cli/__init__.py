"""The command `trueface`: every command here and now, without the queue.

Start reading at `main.run`. The installed command calls `start`.
"""

import sys

_INTERRUPTED = 130


def start() -> None:
    """Import and run the command line; Ctrl-C during the import ends it without a traceback."""
    try:
        from trueface.cli.main import main  # takes most of the time of a short command
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    main()
