"""The command `launcher`, which soon shows why nothing starts, and soon notices that nobody reads it.

`python -m tests.launcher.screens.impatient status --watch`
"""

from launcher.frontends.cli.main import main as launcher
from launcher.frontends.screens import watch


def main() -> None:
    """Run the command."""
    watch.PATIENCE_S = 0.5
    watch.CHECK_EVERY_S = 0.1
    launcher()


if __name__ == "__main__":
    main()
