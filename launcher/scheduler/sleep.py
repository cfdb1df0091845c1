"""How the scheduler sleeps between two turns, and what it prepares before it does."""

import contextlib

from launcher.gpu.reservation_watch import NONE
from launcher.scheduler.dispatch.dispatch import Dispatch
from launcher.scheduler.gpus.reservation_exchange import ReservationExchange
from launcher.scheduler.requests import RequestReader
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.turn import RETRY_S, TurnResult
from launcher.system.daemon_control import Sleeper
from launcher.workers.fork_server_pool import ForkServerPool

QUIET_S = 0.003  # without news for so long, we prepare what comes next


class Sleep:
    """Ends when anything has news that a turn is about."""

    def __init__(
        self,
        sleeper: Sleeper,
        reader: RequestReader,
        *,
        attempts: RunningAttempts,
        fork_servers: ForkServerPool,
        exchange: ReservationExchange,
        dispatch: Dispatch,
    ) -> None:
        """Begin awake.

        Args:
            sleeper: the poll, and the pipe that ends it.
            reader: reads requests again after a ring.
            attempts: those that run.
            fork_servers: have news of supervisors.
            exchange: has news of other users.
            dispatch: has news of pilots.
        """
        self._sleeper, self._reader = sleeper, reader
        self._attempts, self._fork_servers = attempts, fork_servers
        self._exchange, self._dispatch = exchange, dispatch

    def prepare(self, launches: Launches, result: TurnResult) -> None:
        """Prepare the start of the job that will follow the newest one, while nothing else is to do.

        Not between jobs that end at once: it would take the time that they need.
        """
        place = self._attempts.newest_place()
        if place is None or result.look_again_s < QUIET_S:
            return
        if self._sleeper.has_news(QUIET_S):
            return
        with contextlib.suppress(OSError):  # a full disk is met when the job starts
            attempt = launches.prepare(place)
            if attempt is not None:
                self._attempts.read_ahead(place, attempt)

    def until_news(self, result: TurnResult) -> None:
        """Sleep until something has news, or it is time to look again."""
        watched = {*self._fork_servers.descriptors(), *self._attempts.descriptors()}
        others = self._exchange.watched if result.waiting else NONE
        if others != NONE:
            watched.add(others)
        elif result.waiting and self._exchange.deaf_s > 0:
            result.soon(self._exchange.deaf_s)
        if self._dispatch.sleep(self._sleeper, watched, result.look_again_s):
            self._reader.read_at_once()
        if self._sleeper.news and others in self._sleeper.news:
            self._exchange.take_news()

    def rest(self) -> None:
        """Sleep after a turn that failed; what has news now has it still, and wakes nothing."""
        self._sleeper.sleep((), RETRY_S)
        self._sleeper.news = None
        self._reader.read_at_once()
