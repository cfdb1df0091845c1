"""`python -m trueface`: the flags of the original train.py, or a command of `trueface`."""

import sys
from collections.abc import Sequence

from trueface.cli import main as cli
from trueface.cli.classic import train
from trueface.cli.exit_codes import MACHINE, can_work


def main(argv: Sequence[str]) -> int:
    """Run the command line and return the exit code; a first word without dash is a command."""
    if argv and not argv[0].startswith("-"):
        return cli.run(argv)
    return train.main(argv) if can_work(argv) else MACHINE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
