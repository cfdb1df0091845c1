"""Reads what people ask of the scheduler: they wake us, so that no turn in a flood of jobs is slower."""

import time

from launcher.scheduler.chosen_policy import chosen_discipline
from launcher.scheduler.turn import Requests
from launcher.store.queue import Store
from launcher.system.files import read_json
from launcher.system.paths import Home

LOOK_S = 0.2  # a request that came without a wake waits at most so long


class RequestReader:
    """What lies in the home and its queue for the scheduler, and when to look there again."""

    def __init__(self, home: Home, store: Store) -> None:
        """Begin without having looked.

        Args:
            home: the queue's.
            store: likewise.
        """
        self._home, self._store, self._queue = home, store, store.scheduling
        self._look_at = 0.0  # when to read them at the latest, monotonic

    def is_home(self) -> bool:
        """Tell whether the queue is still here: not deleted, moved away as damaged, or replaced."""
        return self._store.is_current() and not self._home.damage_record.exists()

    def due(self) -> bool:
        """Tell whether it is time to read them."""
        return time.monotonic() >= self._look_at

    def read_at_once(self) -> None:
        """Let them be due: somebody has woken us, or an error came between."""
        self._look_at = 0.0

    def read(self) -> Requests:
        """Return what people ask for now."""
        if not self.is_home():  # first: what is no queue any more may not answer the rest
            return Requests(gone=True)
        stop = read_json(self._home.stop)
        requests = Requests(
            stop=stop is not None or self._home.stop.exists(),
            stop_now=bool(stop and stop.get("now")),
            wishes=self._queue.wishes(),
            paused=self._queue.paused(),
            limits=self._queue.limits(),
            discipline=chosen_discipline(self._home),
        )
        self._look_at = time.monotonic() + LOOK_S
        return requests
