"""Reads what takes long to read, in threads of their own: a laboratory may measure for minutes."""

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from launcher.errors import Error
from launcher.screens.format import harmless

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
                entry.trouble = harmless(" ".join(str(error).split()))
            pause_s = min(LONGEST_PAUSE_S, (self._cost() - began) / SHARE)
            entry.next_at = self._clock() + pause_s
