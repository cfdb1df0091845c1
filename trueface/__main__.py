"""`python -m trueface`: the flags of the original train.py, or a command of `trueface`."""

import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run the command line and return the exit code; a first word without dash is a command."""
    try:  # imported here, so that Ctrl-C meanwhile ends without a traceback
        from trueface.cli import main as cli
        from trueface.cli.classic import train as classic_train
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    if argv and not argv[0].startswith("-"):
        return cli.run(argv)
    return classic_train.main(argv) if cli.can_work(argv) else cli.MACHINE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
