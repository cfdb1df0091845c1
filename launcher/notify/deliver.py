"""Sends one message through apprise, in a process of its own: one that hangs is killed, and nothing else waits.

The order comes through the standard input, so that no list of processes shows an address.
"""

import contextlib
import json
import logging
import signal
import sys
from typing import Any

from launcher.notify.settings import without_secrets

MISSING = "apprise is not installed for {python}: pip install 'launcher-trueface[notify]'"
UNKNOWN = "apprise knows no service of this address; its forms: https://appriseit.com/services/"
MOST_ANSWER = 500  # characters
_IDLE_TALK = "Notifying "  # so many services


class _LogLines(logging.Handler):
    """Keeps what apprise logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        with contextlib.suppress(Exception):  # a log line is no reason to fail
            line = record.getMessage()
            if not line.startswith(_IDLE_TALK) and "://" not in line:  # it shows parts of secrets
                self.lines.append(line)


def deliver(order: dict[str, Any]) -> tuple[bool, str]:
    """Send a message, or only see whether its address can be used; return whether, and what was answered.

    Args:
        order: `url`, `title` and `text`; without a title nothing is sent.
    """
    try:
        import apprise  # an extra; only this process needs it
    except ImportError:
        return False, MISSING.format(python=sys.executable)
    logger, log = logging.getLogger("apprise"), _LogLines()
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="launcher", app_desc="launcher"))
    if not service.add(order["url"]):
        return False, "; ".join([UNKNOWN, *log.lines])
    if "title" not in order:
        return True, ""
    text, title = order["text"], order["title"]
    delivered = service.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT)
    return bool(delivered), "; ".join(log.lines) or ("sent" if delivered else "not sent")


def main() -> int:
    """Read an order, carry it out, and print the answer as JSON."""
    order = json.load(sys.stdin)
    signal.alarm(int(order["timeout_s"]) + 1)  # where nobody is left to kill us
    delivered, answer = deliver(order)
    answer = without_secrets(" ".join(answer.split()), order["url"])[:MOST_ANSWER]
    sys.stdout.write(json.dumps({"delivered": delivered, "answer": answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
