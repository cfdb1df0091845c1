"""The scheduler's end of the helper that records the code of jobs; nothing here waits for it."""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable

from launcher.queue.home.paths import Home
from launcher.system.process_start import spawn_daemon

RESTART_S = 20.0  # seconds between two starts of a helper that ends by itself

logger = logging.getLogger(__name__)


class CodeRecorder:
    """Starts the helper at the first request, and sends it requests."""

    def __init__(self, home: Home) -> None:
        """Begin without a helper."""
        self._home = home
        self._pid: int | None = None
        self._pipe = -1
        self._next_start_at = 0.0  # monotonic

    def record(self) -> None:
        """Have new notes recorded."""
        self._send(b"\n")

    def compare(self, codes: Iterable[int]) -> None:
        """Have the code of jobs compared that have just started.

        Args:
            codes: Numbers of their notes.
        """
        if request := b"".join(b"%d\n" % code for code in {*codes}):
            self._send(request)

    def close(self) -> None:
        """End the helper. The next one records the rest."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, os.WNOHANG)  # a slow disk may delay the end of the helper
            os.close(self._pipe)
            self._pid = None

    def _send(self, request: bytes) -> None:
        """Send a request. If the helper is busy and the pipe is full, the message is lost, and the code of these jobs is not compared."""
        if self._pid is None and not self._start():
            return
        try:
            os.write(self._pipe, request)
        except BrokenPipeError:
            self._forget()
        except BlockingIOError:
            pass

    def _start(self) -> bool:
        now = time.monotonic()
        if now < self._next_start_at:
            return False
        self._next_start_at = now + RESTART_S
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        module = "launcher.queue.scheduler.code_recording"
        argv = [sys.executable, "-P", "-m", module, str(self._home.folder), str(reading)]
        try:
            self._pid = spawn_daemon(
                argv, self._home.scheduler_log, inherited_descriptors=[reading]
            )
        except OSError as error:
            logger.warning("the code of jobs is not recorded: %s", error)
            os.close(self._pipe)
        finally:
            os.close(reading)
        return self._pid is not None

    def _forget(self) -> None:
        """Take in the end of the helper, which has closed the pipe."""
        os.close(self._pipe)
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._pid = None
