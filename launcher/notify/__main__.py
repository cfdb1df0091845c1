"""The process that sends messages: one per home; its scheduler starts it where messages are configured."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import Error
from launcher.notify.service import Service, serve
from launcher.system.error_log import set_long_log_aside
from launcher.system.paths import Home
from launcher.system.processes import StopEvent, live_in, lock

logger = logging.getLogger(__name__)

LOG_BYTES = 1 << 20  # of its log; one older log is kept
NICE = 10  # jobs come first


def main(argv: Sequence[str]) -> int:
    """Take the home's lock and serve; leave at once when another process has it."""
    home = Home(Path(argv[0]))
    os.chdir("/")
    os.umask(0o077)
    os.nice(NICE)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if not home.database.exists():
        return 0
    held = lock(home.notify_lock)
    if held is None:
        return 0
    lives = live_in(home.folder)
    set_long_log_aside(home.notify_log, LOG_BYTES)
    leaving = StopEvent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: leaving.set())
    logger.info("notify pid=%d", os.getpid())
    serve(Service(home, os.environ), leaving.is_set, leaving.wait)
    logger.info("notify pid=%d leaves", os.getpid())
    if lives is not None:
        os.close(lives)
    os.close(held)
    return 0


def _explained(argv: Sequence[str]) -> int:
    try:
        return main(argv)
    except Error as error:
        logger.error("error: %s", error)  # noqa: TRY400  # a message, not a traceback
        return error.exit_code


if __name__ == "__main__":
    sys.exit(_explained(sys.argv[1:]))
