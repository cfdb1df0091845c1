"""Reads what takes long to read, in a thread of its own: a laboratory may measure for minutes."""

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from launcher.errors import Error
from launcher.screens.format import harmless
from launcher.system.paths import Home
from launcher.web.runs.run_data import RunData, read_runs

PATIENCE_S = 0.4  # that a page waits for what it shows for the first time
SHARE = 0.01  # of a core, for what is read again because the queue has changed
MOST_KEPT = 16

Read = Callable[[Home, tuple[int, ...]], RunData]


@dataclass(eq=False, slots=True)
class _Entry:
    """What was read of some runs, and what is on its way."""

    mark: Hashable = None  # of the queue when that was read
    data: RunData | None = None
    reading: Future[None] | None = None
    next_at: float = 0.0  # before this nothing is read again

    @property
    def busy(self) -> bool:
        return self.reading is not None and not self.reading.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of some runs now."""

    data: RunData | None  # None: it is being read for the first time
    pending: bool  # more is on its way


class RunReader:
    """Knows the results and pictures of runs that somebody looks at, and reads them again in time."""

    def __init__(
        self,
        home: Home,
        *,
        read: Read = read_runs,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet.

        Args:
            home: whose runs.
            read: reads some runs of a home.
            patience_s: that the first look at a run waits for what is read.
            clock: tells the time in seconds.
        """
        self._home, self._read, self._patience_s, self._clock = home, read, patience_s, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run-reader")
        self._entries: OrderedDict[tuple[int, ...], _Entry] = OrderedDict()

    def look(self, runs: tuple[int, ...], mark: Hashable) -> Look:
        """Return what is known of runs; what is not, or not any more, is read meanwhile.

        Not for several threads.

        Args:
            runs: their numbers.
            mark: of the queue: with another one, what was read may be out of date.
        """
        entry = self._entries.setdefault(runs, _Entry())
        self._entries.move_to_end(runs)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        if not entry.busy and entry.mark != mark and self._clock() >= entry.next_at:
            entry.mark = mark
            entry.reading = self._thread.submit(self._take, runs, entry)
        if entry.data is None and entry.reading is not None:
            with suppress(TimeoutError):
                entry.reading.result(self._patience_s)
        return Look(data=entry.data, pending=entry.busy)

    def close(self) -> None:
        """End the thread, when what it reads is read."""
        self._thread.shutdown(cancel_futures=True)

    def _take(self, runs: tuple[int, ...], entry: _Entry) -> None:
        began = self._clock()
        try:
            entry.data = self._read(self._home, runs)
        except (
            Error,
            OSError,
            sqlite3.Error,
        ) as error:  # the queue itself, which another look may find sound
            entry.data = RunData(trouble=harmless(" ".join(str(error).split())))
        now = self._clock()
        entry.next_at = now + (now - began) / SHARE
