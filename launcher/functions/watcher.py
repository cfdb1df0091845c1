"""A thread that follows the jobs of all futures of this process, and tells these when one has ended."""

import os
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from launcher.errors import UsageError
from launcher.functions.future import FOLLOWER, Future
from launcher.functions.job_states import JobStates
from launcher.states import ENDED
from launcher.store.client import open_home
from launcher.system.paths import Home

LOOK_EVERY_S = 0.02
QUIET_S = 0.1  # between two looks where nothing has happened for a while
QUIET_LOOKS = 100


class Watcher(threading.Thread):
    """Follows the jobs of a home until all of them have ended."""

    def __init__(self, home: Home) -> None:
        super().__init__(name=FOLLOWER, daemon=True)  # jobs go on without this process
        self._home = home
        self._lock, self._came = threading.Lock(), threading.Event()
        self._new: list[Future[Any]] = []
        self._futures: dict[int, list[Future[Any]]] = {}
        self._over = False

    def add(self, futures: Iterable[Future[Any]]) -> bool:
        """Follow further futures; False where the thread is at its end."""
        with self._lock:
            if self._over:
                return False
            self._new += futures
        self._came.set()
        return True

    def run(self) -> None:
        """Follow them; should that fail, all of them get the error."""
        try:
            with ExitStack() as opened:
                with _asking:
                    states = JobStates(self._home, opened.enter_context(open_home(self._home)))
                self._follow(states)
        except BaseException as error:  # noqa: BLE001  # whoever waits must not wait for ever
            with self._lock:
                self._over = True
                left = [*self._new, *(each for some in self._futures.values() for each in some)]
            for future in left:
                future.give_up(error)

    def _follow(self, states: JobStates) -> None:
        quiet = 0
        while self._take_new(states):
            with _asking:
                rows = states.changes()
            for row in rows:
                for future in self._futures.get(row.id, ()):
                    future.take(row)
                if row.state in ENDED:
                    self._futures.pop(row.id, None)
                    states.drop(row.id)
            for some in self._futures.values():
                for future in some:
                    future.queue_stopped = states.stopped
            quiet = 0 if rows else quiet + 1
            self._came.wait(LOOK_EVERY_S if quiet < QUIET_LOOKS else QUIET_S)
            self._came.clear()

    def _take_new(self, states: JobStates) -> bool:
        """Begin to follow what was added; False where there is nothing left to follow."""
        with self._lock:
            new, self._new = self._new, []
            for future in new:
                self._futures.setdefault(future.job, []).append(future)
            self._over = not self._futures
        if not new:
            return not self._over
        with _asking:
            rows = {row.id: row for row in states.add({future.job for future in new})}
        for future in new:
            row = rows.get(future.job)
            if row is None:
                future.give_up(UsageError(f"{future.name} was deleted from the queue"))
            else:
                future.take(row)
            if row is None or row.state in ENDED:
                self._futures.pop(future.job, None)
                states.drop(future.job)
        return True


# Held while a watcher asks the queue. A fork waits for it: SQLite's own locks, which are copied as they are, would
# stay locked in the new process, where the thread that holds them does not exist.
_asking = threading.RLock()
_watchers: dict[Home, Watcher] = {}
_choosing = threading.Lock()


def follow(home: Home, futures: Iterable[Future[Any]]) -> None:
    """Let futures know when their jobs end."""
    listed = [*futures]
    with _choosing:
        watcher = _watchers.get(home)
        if watcher is not None and watcher.add(listed):
            return
        watcher = _watchers[home] = Watcher(home)
        watcher.add(listed)
        watcher.start()


def _forget() -> None:
    """In a fork, where no thread lives on, begin anew."""
    global _choosing  # it may have been locked at the fork
    _asking.release()
    _choosing = threading.Lock()
    _watchers.clear()


os.register_at_fork(before=_asking.acquire, after_in_parent=_asking.release, after_in_child=_forget)
