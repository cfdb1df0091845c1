"""The queue, read for all pages by one thread: SQLite's connections belong to the thread that made them."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.snapshots import Queue, scheduler_of
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.web.pages.page import View
from launcher.web.runs.run_data import Background, RunData, read_runs
from launcher.web.runs.run_filter import Settings, SettingsIndex

T = TypeVar("T")
Mark = tuple[object, ...]


class QueueReader:
    """Runs functions in the thread that reads the queue, one after another."""

    def __init__(self, home: Home, *, read_only: bool) -> None:
        """Read nothing yet.

        Args:
            home: need not exist.
            read_only: pages offer no changes.
        """
        self._home, self._read_only = home, read_only
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        index = SettingsIndex(home)
        self._runs: Background[tuple[int, ...], RunData] = Background(partial(read_runs, home))
        self._settings: Background[None, Mapping[int, Settings]] = Background(
            lambda _: index.read()
        )
        # no processes of jobs are measured: an open page costs less than that would
        self._queue = Queue(home, lookout=Lookout(Nvml().snapshot, _unneeded), measures=False)

    async def run(self, work: Callable[[View], T]) -> T:
        """Return what a function makes of the queue as it is now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self._view()))

    def close(self) -> None:
        """Give the database back, when all that was begun is done."""
        self._thread.submit(self._queue.close).result()
        self._thread.shutdown()
        self._runs.close()
        self._settings.close()

    def _view(self) -> View:
        return View(
            home=self._home,
            queue=self._queue,
            runs=self._runs,
            settings=self._settings,
            read_only=self._read_only,
            now=time.time(),
        )


def mark_of(view: View) -> Mark:
    """Return what is another value when the queue, its scheduler or the GPUs may have changed."""
    return view.version, scheduler_of(view.home), stamps([view.home.gpus])


def stamps(files: Iterable[Path]) -> Mark:
    """Return the sizes and times of files; None for one that is not there."""
    return tuple(stamp(str(file)) for file in files)


def _unneeded() -> None:
    """Return at once: the next look at the queue has the result of a query of the GPUs."""
