"""What pages of runs show that the queue alone does not know: results, pictures, reports.

It is read in threads of their own: a laboratory may measure for minutes.
"""

import contextlib
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from launcher.errors import Error, counted
from launcher.kind_interface import Role
from launcher.results.table import RunResults
from launcher.screens.format import harmless
from launcher.screens.job_actions import one_line
from launcher.store.listings import Listing
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.web.runs.pictures import (
    RUN_FOLDER,
    Gallery,
    Picture,
    find_pictures,
    opened,
    picture_of,
)
from launcher.web.runs.result_table import Compared, compare
from launcher.workers.progress.attempt_progress import newest_step

MOST_JOBS = 20_000  # of the runs whose results are shown
MOST_REPORTS = 8
MOST_CURVES = 8  # jobs whose curves lie over each other
_LOOKED_AT = 200  # jobs, whether they have reported numbers
REPORT_BYTES = 16 << 20
REPORT_SUFFIX = ".html"
_MAKERS = frozenset({Role.TRAIN, Role.METHOD})
_NO_PICTURES = Gallery()
_NO_RESULTS = Compared(results=RunResults(rows=(), columns=()), kinds={})


class RunData(NamedTuple):
    """What is known of one run, or of several that are compared."""

    compared: Compared = _NO_RESULTS
    trouble: str = ""  # why there are no results
    gallery: Gallery = _NO_PICTURES
    reports: tuple[Picture, ...] = ()  # pages that its laboratory wrote
    curves: tuple[int, ...] = ()  # jobs whose curves lie over each other


def read_runs(home: Home, runs: Sequence[int]) -> RunData:
    """Return what is to be shown of runs; of a single one its pictures, too.

    Args:
        home: whose.
        runs: their numbers.
    """
    with contextlib.closing(Store(home, reading=True)) as store:
        listing = Listing(store.database)
        numbers = [listing.job_numbers(run) for run in runs]
        total = sum(map(len, numbers))
        if total > MOST_JOBS:
            return RunData(
                trouble=f"{counted(total, 'job')} are too many for a page; "
                "`launcher results RUN` prints what came out of them"
            )
        jobs = [rows for ids in numbers if (rows := store.read.jobs_by_id(ids))]
        compared, trouble = _results(home, store, jobs)
    if len(jobs) != 1:
        return RunData(compared=compared, trouble=trouble)
    folders = folders_of(home, jobs[0])
    return RunData(
        compared=compared,
        trouble=trouble,
        gallery=find_pictures(folders),
        reports=tuple(_reports(folders.get(RUN_FOLDER))),
        curves=_with_curves(home, jobs[0]),
    )


def _results(home: Home, store: Store, jobs: Sequence[Sequence[JobRow]]) -> tuple[Compared, str]:
    try:
        return compare(home, store, jobs), ""
    except (Error, OSError) as error:
        return _NO_RESULTS, one_line(error)
    except Exception as error:  # noqa: BLE001  # a laboratory's code: what it raises is its own
        return _NO_RESULTS, harmless(f"the results cannot be read: {type(error).__name__}: {error}")


def folders_of(home: Home, jobs: Sequence[JobRow]) -> dict[str, Path]:
    """Return the folders in which a run and its jobs leave files, by the names that addresses have for them.

    Args:
        home: whose jobs.
        jobs: of one run.
    """
    run = jobs[0].plain_spec.run_folder
    # a name that is a path names no folder of its own
    plain = run.name == jobs[0].run and run.name not in {".", ".."}
    folders = {RUN_FOLDER: run} if plain else {}
    for job in jobs:
        if job.attempts:
            folders[f"attempt-{job.id}"] = job.attempt_in(home).folder
        for place, output in enumerate(map(Path, job.plain_spec.outputs)):
            if not output.is_relative_to(run):
                folders[f"output-{job.id}-{place}"] = output
    return folders


def _with_curves(home: Home, jobs: Sequence[JobRow]) -> tuple[int, ...]:
    """Return jobs that have reported numbers as they went, those that make models first."""
    began = [job for job in jobs if job.attempts]
    began.sort(key=lambda job: (job.plain_spec.role not in _MAKERS, job.id))
    steps = ((job.id, newest_step(job.attempt_in(home))) for job in began[:_LOOKED_AT])
    reported = (job for job, step in steps if step is not None and step.metrics)
    return tuple(islice(reported, MOST_CURVES))


def _reports(folder: Path | None) -> Iterator[Picture]:
    """Give the pages at the top of a run's folder."""
    if folder is None:
        return
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix == REPORT_SUFFIX)
    except OSError:
        return
    for name in names[:MOST_REPORTS]:
        with contextlib.suppress(OSError, ValueError), opened(folder, name) as (_, status):
            if status.st_size <= REPORT_BYTES:
                yield picture_of(RUN_FOLDER, name, status)


PATIENCE_S = 0.4  # that a page waits for what it shows for the first time
SHARE = 0.01  # of a core, for what is read again because something has changed
LONGEST_PAUSE_S = 20.0  # between two times
LAST_S = 1.0  # that the end of the server waits for what is being read
MOST_KEPT = 16

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(eq=False, slots=True)
class _Entry(Generic[V]):
    """What was read, and what is on its way."""

    mark: Hashable = None  # of that when it was read
    data: V | None = None
    trouble: str = ""
    reading: threading.Thread | None = None
    next_at: float = 0.0  # before this nothing is read again

    @property
    def busy(self) -> bool:
        return self.reading is not None and self.reading.is_alive()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Generic[V]):
    """What is known now."""

    data: V | None = None  # None: it was not read yet
    trouble: str = ""  # why it cannot be read
    pending: bool = False  # more is on its way


class Background(Generic[K, V]):
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
        self._turn, self._closed = threading.Lock(), False
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def look(self, key: K, mark: Hashable) -> Look[V]:
        """Return what is known of a key; what is not, or not any more, is read meanwhile.

        Not for several threads.

        Args:
            key: of what is to be read.
            mark: of what was read: with another one it may be out of date.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        if not entry.busy and entry.mark != mark and self._clock() >= entry.next_at:
            entry.mark = mark
            # whoever ends the server does not wait for a laboratory
            entry.reading = threading.Thread(target=self._take, args=(key, entry), daemon=True)
            entry.reading.start()
        if entry.data is None and entry.reading is not None:
            entry.reading.join(self._patience_s)
        return Look(data=entry.data, trouble=entry.trouble, pending=entry.busy)

    def close(self) -> None:
        """Read nothing more; what is being read is waited for, but not for long."""
        self._closed = True
        if self._turn.acquire(timeout=LAST_S):
            self._turn.release()

    def _take(self, key: K, entry: _Entry[V]) -> None:
        with self._turn:
            if self._closed:
                return
            began = self._cost()
            try:
                entry.data, entry.trouble = self._read(key), ""
            except (Error, OSError, sqlite3.Error) as error:  # another time it may be sound
                entry.trouble = one_line(error)
            pause_s = min(LONGEST_PAUSE_S, (self._cost() - began) / SHARE)
            entry.next_at = self._clock() + pause_s
