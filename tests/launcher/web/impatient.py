"""The command `launcher`, whose pages look for changes every 0.1 s, whatever a rendering costs.

`python -m tests.launcher.web.impatient web --port 0`
"""

from launcher.frontends.cli.main import main as launcher
from launcher.frontends.web import live, runs, view

POLL_INTERVAL_S = 0.1
RENEW_S = 1.0


def main() -> None:
    """Run the command."""
    live.POLL_INTERVAL_S = runs.CURVES_POLL_INTERVAL_S = POLL_INTERVAL_S
    live.RENEW_S = RENEW_S  # a change while a page is rendered is seen only then
    live.SHARE = live.PENDING_SHARE = view.SHARE = 1.0
    launcher()


if __name__ == "__main__":
    main()
