"""The command line: `main` finds the verb in `commands` and turns errors into exit codes.

Start reading at `main.main`. The installed command calls `start`.
"""

import gc
import sys

_INTERRUPTED = 130


def start() -> None:
    """Import and run the command line; Ctrl-C during the import ends it without a traceback."""
    try:
        from launcher.frontends.cli.main import main  # takes most of the time of a short command
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        sys.exit(_INTERRUPTED)
    try:
        main()
    finally:
        # Otherwise Python searches all modules for garbage while it exits: an eighth of a short command's CPU time
        gc.freeze()
