"""Keeps the process alive that sends messages, where the user's file has a table [notify]; else does nothing."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping

from launcher.errors import UsageError
from launcher.system.config import configuration_file, read_configuration
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.system.processes import lock_holder, start_apart

logger = logging.getLogger(__name__)

LOOK_S = 20.0  # between two looks whether it lives


class Notifier:
    """Starts `launcher.notify`, which knows by itself what to tell and when to leave."""

    def __init__(self, home: Home, environ: Mapping[str, str]) -> None:
        """Start nothing yet.

        Args:
            home: the queue's.
            environ: tells where the user's file is.
        """
        self._home, self._environ = home, environ
        self._file: object = ()  # the stamp of the user's file
        self._wanted = False
        self._look_at = 0.0  # monotonic
        self._child: int | None = None

    def keep(self) -> None:
        """See that the process lives where it is wanted.

        Raises:
            OSError: it cannot be started.
        """
        with contextlib.suppress(UsageError):
            file = stamp(str(configuration_file(self._environ)))
            if file != self._file:
                self._file, self._look_at = file, 0.0
                self._wanted = _is_wanted(self._environ)
        if not self._wanted or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        self._reap()
        if self._child is None and lock_holder(self._home.notify_lock) is None:
            argv = [sys.executable, "-P", "-m", "launcher.notify", str(self._home.folder)]
            self._child = start_apart(argv, self._home.notify_log)

    def _reap(self) -> None:
        """Take in the end of the process that was started."""
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._child, os.WNOHANG) == (0, 0):
                    return
            self._child = None


def _is_wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether the user's file speaks of messages; a broken one is reported by who reads it for more."""
    try:
        return read_configuration(environ).notify is not None
    except UsageError:
        return False
