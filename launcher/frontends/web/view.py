"""The data of pages: the queue, read by one thread, and caches that are filled by background threads.

A connection of SQLite belongs to the thread that opened it. Data outside of the database, such as results, is read in
background threads, because a plugin package may take minutes.
"""

import asyncio
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from launcher.frontends.screens.job_actions import one_line
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.frontends.web.run_curves import CurveChoice, RunCurves, RunCurvesReader
from launcher.frontends.web.run_data import RunData, read_runs
from launcher.frontends.web.run_filter import Settings, SettingsIndex
from launcher.queue.gpu.monitor import GpuPoller
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.background_query import BackgroundQuery
from launcher.system.errors import Error, UsageError

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PATIENCE_S = 0.4  # seconds for which a page waits for a value that was never read before
SHARE = 0.01  # part of a core, for reading changed values again
LONGEST_PAUSE_S = 20.0  # seconds between two reads of a value
LAST_S = 1.0  # seconds for which the shutdown of the server waits for a read in progress
MOST_KEPT = 16  # entries of a cache
_EXPECTED_ERRORS = (Error, OSError, sqlite3.Error)  # the next read may succeed


class CacheResult(NamedTuple, Generic[V]):
    """The cached value of a key."""

    value: V | None = None  # None: not read yet
    error: str = ""  # why the last read failed
    pending: bool = False  # a read is in progress


class _Entry(Generic[V]):
    """The reads of a key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without a read."""
        # daemon threads: the end of the server does not wait for a plugin package
        self.reads = BackgroundQuery[V | None](
            "reader", expected_error=_EXPECTED_ERRORS, clock=clock
        )
        self.fingerprint: Hashable = None  # fingerprint of the source at the last read
        self.next_at = 0.0  # earliest time of the next read


class BackgroundCache(Generic[K, V]):
    """A cache of the values on open pages; it reads a value again when it may have changed."""

    def __init__(
        self,
        read: Callable[[K], V],
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        """Create an empty cache.

        Args:
            read: returns the value of a key; called in another thread, one call at a time.
            patience_s: seconds that the first `get` of a key waits for its value.
            clock: returns a monotonic time in seconds.
            cost: returns the CPU seconds that the calling thread has used.
        """
        self._read, self._patience_s = read, patience_s
        self._clock, self._cost = clock, cost
        self._read_lock, self._closed = threading.Lock(), False
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def get(self, key: K, fingerprint: Hashable) -> CacheResult[V]:
        """Return the cached value of a key; a missing or outdated one is read in the background.

        Call it from one thread only.

        Args:
            key: that of the value.
            fingerprint: fingerprint of the source; if it differs from that of the last read, the value is outdated.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self._clock)
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        reads = entry.reads
        is_first = reads.answer is None  # before the read starts, as a read may end at once
        is_due = entry.fingerprint != fingerprint and self._clock() >= entry.next_at
        if is_due and reads.begin(partial(self._read_entry, key, entry)):
            entry.fingerprint = fingerprint
        if is_first:
            reads.join(self._patience_s)
        # read before the result: a read that ends now is reported as pending
        pending, error = reads.is_running, reads.error
        return CacheResult(reads.answer, "" if error is None else one_line(error), pending)

    def close(self) -> None:
        """Stop reading; wait at most LAST_S for a read in progress."""
        self._closed = True
        if self._read_lock.acquire(timeout=LAST_S):
            self._read_lock.release()

    def _read_entry(self, key: K, entry: _Entry[V]) -> V | None:
        with self._read_lock:
            if self._closed:
                return entry.reads.answer
            began = self._cost()
            try:
                return self._read(key)
            finally:
                pause_s = min(LONGEST_PAUSE_S, (self._cost() - began) / SHARE)
                entry.next_at = self._clock() + pause_s


class NotFound(UsageError):
    """A page, job or file does not exist."""

    status = 404


class QueueView(NamedTuple):
    """The queue as it is now, and the caches of runs. Use it from one thread."""

    home: Home
    root: str  # path of the first page, ending with a slash
    queue: QueueSnapshotReader
    runs: BackgroundCache[tuple[int, ...], RunData]  # run numbers → data
    curves: BackgroundCache[tuple[int, CurveChoice], RunCurves]  # run number and choice → charts
    settings: BackgroundCache[None, Mapping[int, Settings]]  # run → settings
    read_only: bool
    now: float  # seconds since 1970

    @property
    def store(self) -> Store:
        """The queue's database.

        Raises:
            NotFound: the queue folder has no database yet.
        """
        store = self.queue.current()
        if store is None:
            raise NotFound(
                "there is no queue yet. To start one: launcher run TASKFILE, or launcher add"
            )
        return store

    def progress_of(self, jobs: Iterable[JobRow]) -> tuple[Path, ...]:
        """Return the progress files of jobs."""
        return tuple(job.attempt_in(self.home).progress for job in jobs)


def job_of(store: Store, job_number: int) -> JobRow:
    """Return a job.

    Raises:
        NotFound: no job has this number.
    """
    for row in store.read.jobs_by_id([job_number]):
        return row
    raise NotFound(
        f"job {job_number} does not exist. It may have been deleted by `launcher clean`."
    )


class QueueReader:
    """Runs functions in the thread that reads the queue, one after another."""

    def __init__(self, home: Home, root: str, *, read_only: bool) -> None:
        """Start the thread; nothing is read yet.

        Args:
            home: the queue folder, which need not exist.
            root: path of the first page, ending with a slash.
            read_only: pages offer no changes.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        index = SettingsIndex(home)
        self.view = QueueView(
            home=home,
            root=root,
            # processes of jobs are not measured, as that would cost more than an open page; the
            # GPU poller wakes nothing: the next snapshot contains its result
            queue=QueueSnapshotReader(home, gpu_poller=GpuPoller(Nvml().snapshot, lambda: None)),
            runs=BackgroundCache(partial(read_runs, home)),
            curves=BackgroundCache(RunCurvesReader(home).read),
            settings=BackgroundCache(lambda _: index.read()),
            read_only=read_only,
            now=time.time(),
        )

    async def run(self, work: Callable[[QueueView], T]) -> T:
        """Call a function with the current queue in the queue's thread, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self.view._replace(now=time.time()))
        )

    def close(self) -> None:
        """Close the database after all pending calls, and stop the thread."""
        self._thread.submit(self.view.queue.close).result()
        self._thread.shutdown()
        self.view.runs.close()
        self.view.curves.close()
        self.view.settings.close()
