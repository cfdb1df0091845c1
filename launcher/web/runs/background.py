"""Reads what takes long to read, in a thread of its own: a laboratory may measure for minutes."""

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from launcher.errors import Error
from launcher.screens.format import harmless

PATIENCE_S = 0.4  # that a page waits for what it shows for the first time
SHARE = 0.01  # of a core, for what is read again because the queue has changed
LONGEST_PAUSE_S = 60.0  # between two times
MOST_KEPT = 16

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(eq=False, slots=True)
class _Entry(Generic[V]):
    """What was read, and what is on its way."""

    mark: Hashable = None  # of the queue when that was read
    data: V | None = None
    trouble: str = ""
    reading: Future[None] | None = None
    next_at: float = 0.0  # before this nothing is read again

    @property
    def busy(self) -> bool:
        return self.reading is not None and not self.reading.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Generic[V]):
    """What is known now."""

    data: V | None = None  # None: it was not read yet
    trouble: str = ""  # why it cannot be read
    pending: bool = False  # more is on its way


class Background(Generic[K, V]):
    """Knows what somebody looks at, and reads it again when the queue has changed."""

    def __init__(
        self,
        read: Callable[[K], V],
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet.

        Args:
            read: returns what is known of a key; called in another thread, one call at a time.
            patience_s: that the first look at a key waits for what is read.
            clock: tells the time in seconds.
        """
        self._read, self._patience_s, self._clock = read, patience_s, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()

    def look(self, key: K, mark: Hashable) -> Look[V]:
        """Return what is known of a key; what is not, or not any more, is read meanwhile.

        Not for several threads.

        Args:
            key: of what is to be read.
            mark: of the queue: with another one, what was read may be out of date.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        if not entry.busy and entry.mark != mark and self._clock() >= entry.next_at:
            entry.mark = mark
            entry.reading = self._thread.submit(self._take, key, entry)
        if entry.data is None and entry.reading is not None:
            with suppress(TimeoutError):
                entry.reading.result(self._patience_s)
        return Look(data=entry.data, trouble=entry.trouble, pending=entry.busy)

    def close(self) -> None:
        """End the thread, when what it reads is read."""
        self._thread.shutdown(cancel_futures=True)

    def _take(self, key: K, entry: _Entry[V]) -> None:
        began = self._clock()
        try:
            entry.data, entry.trouble = self._read(key), ""
        except (Error, OSError, sqlite3.Error) as error:  # another time it may be sound
            entry.trouble = harmless(" ".join(str(error).split()))
        now = self._clock()
        entry.next_at = now + min(LONGEST_PAUSE_S, (now - began) / SHARE)
