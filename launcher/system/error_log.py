"""The scheduler's log of errors that it survives: repeated errors are logged once a minute, long logs are rotated."""

import contextlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.system.errors import StoreError

LOG_EVERY_S = 60.0  # shortest time between two log lines about the same error
EXPECTED_ERRORS = (OSError, StoreError, sqlite3.Error)  # a full disk, most of all

logger = logging.getLogger(__name__)


class ErrorThrottle:
    """Write errors to the log: one line for an expected error, a traceback for any other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know of none; the clock counts seconds."""
        self._clock = clock
        self._logged_at: dict[object, float] = {}  # trouble → when it was logged

    def log_error(self, error: Exception) -> None:
        """Log an error, unless one of the same cause was logged in the last LOG_EVERY_S seconds."""
        now = self._clock()
        self._logged_at = {
            trouble: at for trouble, at in self._logged_at.items() if now < at + LOG_EVERY_S
        }
        trouble = _error_key(error)
        if trouble in self._logged_at:
            return
        self._logged_at[trouble] = now
        unexpected = None if isinstance(error, EXPECTED_ERRORS) else error
        logger.warning("trouble=%r", str(error) or type(error).__name__, exc_info=unexpected)

    @contextlib.contextmanager
    def suppress_and_log(self, *kinds: type[Exception]) -> Iterator[None]:
        """Continue after this block if it raises one of these errors; the error is logged."""
        try:
            yield
        except kinds as error:
            self.log_error(error)


def rotate_long_log(log: Path, most_bytes: int) -> None:
    """Start a new log of standard output and error if the log is long; one older log is kept.

    A log that cannot be renamed, as on a full disk, continues.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size <= most_bytes:
            return
        # the new file is made first: a full disk may have no room
        new = log.with_suffix(".log.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            log.replace(log.with_suffix(".log.1"))
            new.replace(log)
            os.dup2(descriptor, sys.stdout.fileno())
            os.dup2(descriptor, sys.stderr.fileno())
        finally:
            os.close(descriptor)
            new.unlink(missing_ok=True)


def _error_key(error: Exception) -> object:
    """Return the key of an error's cause; its text is not part of it, because it may name a new file each time."""
    if isinstance(error, OSError) and error.errno is not None:
        return type(error), error.errno
    return type(error), str(error)
