"""What pages are made from: the queue, read for all of them by one thread, and what is read meanwhile in others.

SQLite's connections belong to the thread that made them. What the queue alone does not know, such as results, is read in
threads of their own: a laboratory may measure for minutes.
"""

import asyncio
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from launcher.errors import Error, UsageError
from launcher.gpu.monitor import GpuPoller
from launcher.gpu.nvml import Nvml
from launcher.screens.job_actions import one_line
from launcher.screens.snapshots import QueueSnapshotReader
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.web.run_data import RunData, read_runs
from launcher.web.run_filter import Settings, SettingsIndex

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PATIENCE_S = 0.4  # that a page waits for what it shows for the first time
SHARE = 0.01  # of a core, for what is read again because something has changed
LONGEST_PAUSE_S = 20.0  # between two times
LAST_S = 1.0  # that the end of the server waits for what is being read
MOST_KEPT = 16


class CacheResult(NamedTuple, Generic[V]):
    """What is known now."""

    value: V | None = None  # None: it was not read yet
    error: str = ""  # why it cannot be read
    pending: bool = False  # more is on its way


@dataclass(eq=False, slots=True)
class _Entry(Generic[V]):
    """What was read, and what is on its way."""

    result: CacheResult[V] = field(default_factory=CacheResult)
    fingerprint: Hashable = None  # of that when it was read
    reading: threading.Thread | None = None
    next_at: float = 0.0  # before this nothing is read again

    @property
    def busy(self) -> bool:
        return self.reading is not None and self.reading.is_alive()


class BackgroundCache(Generic[K, V]):
    """Knows what somebody looks at, and reads it again when it may have changed."""

    def __init__(
        self,
        read: Callable[[K], V],
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        """Read nothing yet.

        Args:
            read: returns what is known of a key; called in another thread, one call at a time.
            patience_s: that the first look at a key waits for what is read.
            clock: tells the time in seconds.
            cost: tells the seconds of CPU that its thread has used.
        """
        self._read, self._patience_s = read, patience_s
        self._clock, self._cost = clock, cost
        self._read_lock, self._closed = threading.Lock(), False
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def get(self, key: K, fingerprint: Hashable) -> CacheResult[V]:
        """Return what is known of a key; what is not, or not any more, is read meanwhile.

        Not for several threads.

        Args:
            key: of what is to be read.
            fingerprint: of what was read: with another one it may be out of date.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        if not entry.busy and entry.fingerprint != fingerprint and self._clock() >= entry.next_at:
            entry.fingerprint = fingerprint
            # whoever ends the server does not wait for a laboratory
            entry.reading = threading.Thread(
                target=self._read_entry, args=(key, entry), daemon=True
            )
            entry.reading.start()
        if entry.result.value is None and entry.reading is not None:
            entry.reading.join(self._patience_s)
        pending = entry.busy  # asked first: what ends meanwhile is looked at once more
        return entry.result._replace(pending=pending)

    def close(self) -> None:
        """Read nothing more; what is being read is waited for, but not for long."""
        self._closed = True
        if self._read_lock.acquire(timeout=LAST_S):
            self._read_lock.release()

    def _read_entry(self, key: K, entry: _Entry[V]) -> None:
        with self._read_lock:
            if self._closed:
                return
            began = self._cost()
            try:
                entry.result = CacheResult(self._read(key))
            except (Error, OSError, sqlite3.Error) as error:  # another time it may be sound
                entry.result = entry.result._replace(error=one_line(error))
            pause_s = min(LONGEST_PAUSE_S, (self._cost() - began) / SHARE)
            entry.next_at = self._clock() + pause_s


class NotFound(UsageError):
    """There is no such page, job or file."""

    status = 404


class QueueView(NamedTuple):
    """The queue as it is now, and what was read of it. It belongs to one thread."""

    home: Home
    root: str  # the path of the first page, with a slash at its end
    queue: QueueSnapshotReader
    runs: BackgroundCache[tuple[int, ...], RunData]  # by their numbers
    settings: BackgroundCache[None, Mapping[int, Settings]]  # of each run
    read_only: bool
    now: float  # seconds since 1970

    @property
    def store(self) -> Store:
        """The queue's database.

        Raises:
            NotThere: there is no queue yet.
        """
        store = self.queue.current()
        if store is None:
            raise NotFound(
                "there is no queue yet. To start one: launcher run TASKFILE, or launcher add"
            )
        return store

    def progress_of(self, jobs: Iterable[JobRow]) -> tuple[Path, ...]:
        """Return the files in which jobs report how far they are."""
        return tuple(job.attempt_in(self.home).progress for job in jobs)


def job_of(store: Store, number: int) -> JobRow:
    """Return a job.

    Raises:
        NotThere: there is none of this number.
    """
    for row in store.read.jobs_by_id([number]):
        return row
    raise NotFound(f"job {number} does not exist. It may have been deleted by `launcher clean`.")


class QueueReader:
    """Runs functions in the thread that reads the queue, one after another."""

    def __init__(self, home: Home, root: str, *, read_only: bool) -> None:
        """Read nothing yet.

        Args:
            home: need not exist.
            root: the path of the first page, with a slash at its end.
            read_only: pages offer no changes.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        index = SettingsIndex(home)
        self.view = QueueView(
            home=home,
            root=root,
            # no processes of jobs are measured: an open page costs less than that would; and
            # nothing wakes for GPUs: the next look at the queue has what a query of them told
            queue=QueueSnapshotReader(home, gpu_poller=GpuPoller(Nvml().snapshot, lambda: None)),
            runs=BackgroundCache(partial(read_runs, home)),
            settings=BackgroundCache(lambda _: index.read()),
            read_only=read_only,
            now=time.time(),
        )

    async def run(self, work: Callable[[QueueView], T]) -> T:
        """Return what a function makes of the queue as it is now."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self.view._replace(now=time.time()))
        )

    def close(self) -> None:
        """Give the database back, when all that was begun is done."""
        self._thread.submit(self.view.queue.close).result()
        self._thread.shutdown()
        self.view.runs.close()
        self.view.settings.close()
