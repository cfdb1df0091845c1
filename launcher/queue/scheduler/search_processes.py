"""The scheduler's children that run searches, one per search; nothing here waits for them."""

import contextlib
import logging
import os
import signal
import sys
import time
from typing import NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.store.searches import Searches
from launcher.system.process_start import spawn_daemon

RESTART_S = 2.0  # seconds between two starts of one that ends by itself
# a study is a small computation, and jobs need the cores
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

logger = logging.getLogger(__name__)


class SearchChild(NamedTuple):
    """A process that runs a search, until the pipe is closed."""

    pid: int
    pipe: int


class SearchProcesses:
    """Starts a process for each search that has not ended."""

    def __init__(self, home: Home, searches: Searches, module: str) -> None:
        """Begin without processes.

        Args:
            home: The queue folder.
            searches: The searches of the queue.
            module: The program that runs a search; empty if there is none.
        """
        self._home, self._searches, self._module = home, searches, module
        self._children: dict[int, SearchChild] = {}
        self._next_start_at: dict[int, float] = {}  # monotonic

    def ensure_running(self, *, running_count: bool) -> bool:
        """See that each open search has its process. Return whether a search is open.

        Args:
            running_count: Whether searches may go on; otherwise their processes are ended.
        """
        numbers = self._searches.active_numbers() if running_count and self._module else []
        for number, child in [*self._children.items()]:
            if _has_ended(child.pid):
                os.close(self._children.pop(number).pipe)
        if not running_count:
            self.close()
        for number in numbers:
            if number not in self._children:
                self._start(number)
        return bool(numbers)

    def close(self) -> None:
        """End the processes. The next scheduler starts them again."""
        for child in self._children.values():
            os.close(child.pipe)
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child.pid, signal.SIGTERM)
                os.waitpid(child.pid, os.WNOHANG)
        self._children.clear()

    def _start(self, search_number: int) -> None:
        now = time.monotonic()
        if now < self._next_start_at.get(search_number, 0.0):
            return
        self._next_start_at[search_number] = now + RESTART_S
        reading, writing = os.pipe2(os.O_CLOEXEC)
        words = (str(self._home.folder), str(search_number), str(reading))
        argv = [sys.executable, "-P", "-m", self._module, *words]
        try:
            pid = spawn_daemon(
                argv,
                self._home.scheduler_log,
                inherited_descriptors=[reading],
                environment=ONE_THREAD,
            )
        except OSError as error:
            logger.warning("search=%d trouble=%r", search_number, str(error))
            os.close(writing)
        else:
            self._children[search_number] = SearchChild(pid, writing)
        finally:
            os.close(reading)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True
