"""The loop: wake, take in what ended, decide, start; then prepare the next turn, and sleep. One lives per home.

It may die at any instant: what it reserved is in the store, what happened is in the attempts'
folders, and the next scheduler goes on from there.

Attempts that ended are passed on to be taken in, those that live are watched on. What people ask of the scheduler wakes
it, so that no turn in a flood of jobs is slower.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from launcher.backends.fleet import Fleet
from launcher.backends.settings import Backends
from launcher.context import WorkerEnvironment
from launcher.errors import StoreError
from launcher.gpu.reservation_watch import NONE
from launcher.gpu.reservations import REFRESH_S, ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.admission import Admission, transaction
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.scheduler.chosen_policy import chosen_discipline
from launcher.scheduler.dispatch import Dispatch
from launcher.scheduler.ending_notes import EndingNotes
from launcher.scheduler.endings import Ended, Endings
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.gpus.use_meter import UseMeter
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.started_attempts import Launched
from launcher.scheduler.succession import Succession
from launcher.scheduler.turn import POLL_S, RETRY_S, Reasons, Requests, TurnResult
from launcher.states import Done, Outcome, State, Void, ending
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.store.retention import delete
from launcher.store.rows import Claim
from launcher.system.error_log import Troubles
from launcher.system.files import read_json
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.system.processes import core_mask
from launcher.system.sleeper import Sleeper
from launcher.workers.attempt_watch import Adopted, Watch, find_out, watch
from launcher.workers.fork_server_pool import AHEAD, ForkServerPool, Unusable
from launcher.workers.start_pauses import Outage

logger = logging.getLogger(__name__)

LOOK_S = 0.2  # a request that came without a wake waits at most so long
QUIET_S = 0.003  # without news for so long, we prepare what comes next
MOST_OPEN = 4  # ends that are taken in together, while other jobs run in their places
GONE = " why='its database was deleted, replaced or damaged'"
LEAVE_AFTER_S = 600.0  # a scheduler without jobs leaves; every command that queues starts one


class Scheduler:
    """Everything that one scheduler process knows; all of it can be found again."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        snapshot: Callable[[], Sequence[GpuSnapshot]],
        cpus: int,
        clock: Callable[[], float] = time.time,
        housekeeping: Callable[[], None] = lambda: None,
        board: ReservationBoard | None = None,
        rules: Callable[[], Rules] = Rules,
        absent: Callable[[], str] = str,
        backends: Callable[[], Backends] = Backends,
    ) -> None:
        """Take over a home whose lock this process holds.

        Args:
            home: the queue's.
            store: likewise.
            snapshot: returns every GPU as it is now; called in a thread of its own.
            cpus: cores that we may keep busy.
            clock: seconds since 1970.
            housekeeping: called now and then.
            board: where other users' schedulers tell what they promise; None: where all do.
            rules: how GPUs are shared with others.
            absent: tells why no GPU can be seen, where none can.
            backends: returns the engines that start pilots.
        """
        self._home, self._store, self._clock, self._housekeeping = home, store, clock, housekeeping
        queue = self._queue = store.scheduling
        self._outage = Outage()
        self._attempts = RunningAttempts()
        self._fork_servers = ForkServerPool(
            home,
            most_idle=cpus + AHEAD,
            lacks=lambda why: self._outage.failed(why, time.monotonic()),
        )
        self._busy_at = time.monotonic()
        self._requests = Requests()
        self._look_at = 0.0  # when to read them at the latest, monotonic
        self.leaving = False
        self._sleeper = Sleeper(home)
        self._troubles = Troubles()
        mask = core_mask()
        self._gpus = Accelerators(
            home,
            snapshot,
            self._sleeper.ring,
            board=board,
            rules=rules,
            absent=absent,
            cores=mask,
            meter=UseMeter(self._queue.past_use, clock, time.monotonic).read,
        )
        self._launches = Launches(home, queue, self._fork_servers, clock, self._outage, self._gpus)
        self._succession = Succession(queue, self._launches)
        self._fleet = Fleet(home, backends, self._sleeper.ring)
        self._dispatch = Dispatch(
            home, store, self._fleet, backends, clock, self._attempts, self._launches
        )
        self._ending_notes = EndingNotes(home, queue, self._attempts, clock)
        self._endings = Endings(home, self._queue, self._gpus, self._dispatch.places.of)
        self._admission = Admission(
            home,
            store,
            cpus=cpus,
            cores=mask,
            clock=clock,
            gpus=self._gpus,
            attempts=self._attempts,
            endings=self._endings,
            launches=self._launches,
            fork_servers=self._fork_servers,
            outage=self._outage,
            dispatch=self._dispatch,
        )

    def leave_at(self, *signals: signal.Signals) -> None:
        """Leave at the next turn after one of these signals, also where it is asleep by then."""
        for number in signals:
            signal.signal(number, self.leave)
        self._sleeper.ring_at_signals()

    def leave(self, *_: object) -> None:
        """Leave at the next turn; jobs run on, and another scheduler adopts them."""
        self.leaving = True
        self._sleeper.ring()

    def run(self) -> None:
        """Serve until asked to leave, stopped, idle for LEAVE_AFTER_S, or the home is gone."""
        self._gpus.begin()
        self._fleet.begin()
        self._queue.release_forgotten()
        for claim in self._queue.claims():
            self._adopt(claim)
        self._fork_servers.prepare(WorkerEnvironment())
        while not self.leaving:
            try:
                if self._read_requests():
                    self._succession.forbid()
                if self._requests.gone:
                    break
                result = self._turn()
                if not self._requests.stop:
                    self._prepare_next(result)
            # the scheduler's top: a fault of ours in one turn must not end it, and with it all that waits
            except Exception as error:  # noqa: BLE001
                self._troubles.tell(error)
                if isinstance(error, sqlite3.Error):  # damaged: the next look finds it gone
                    with self._troubles.survived(StoreError):
                        trouble(self._home.database, error)
                self._busy_at = time.monotonic()
                self._rest()
                continue
            if self._finished(result):
                break
            self._sleep_until_news(result)
        why = "" if self._is_home() else GONE
        logger.info("scheduler pid=%d leaves%s", os.getpid(), why)
        self._gpus.leave(self._admission.claims())
        self._fleet.close()
        self._fork_servers.close()

    def _read_requests(self) -> bool:
        """Read what people ask for where that is due; return whether it was."""
        if time.monotonic() < self._look_at:
            return False
        if not self._is_home():  # first: what is no queue any more may not answer the rest
            self._requests = Requests(gone=True)
            return True
        stop = read_json(self._home.stop)
        self._requests = Requests(
            stop=stop is not None or self._home.stop.exists(),
            stop_now=bool(stop and stop.get("now")),
            wishes=self._queue.wishes(),
            killed=self._queue.killed(),
            paused=self._queue.paused(),
            limits=self._queue.limits(),
            discipline=chosen_discipline(self._home),
        )
        self._look_at = time.monotonic() + LOOK_S
        self._fork_servers.retire()
        for mend in (self._sleeper.mend, self._housekeeping):
            with self._troubles.survived(OSError):  # the next look tries it again
                mend()
        self._admission.pauses.read()
        return True

    def _is_home(self) -> bool:
        """Tell whether the queue is still here: not deleted, moved away as damaged, or replaced."""
        return self._store.is_current() and not self._home.damage_record.exists()

    def _turn(self) -> TurnResult:
        if self._fork_servers.collect_spawned(self._sleeper.news):
            self._succession.forbid()
        self._dispatch.hearing.hear()
        self._take_news(self._sleeper.news)
        result = TurnResult()
        if self._succeed(result):
            if len(self._endings) < MOST_OPEN and self._sleeper.has_news():
                result.soon(0)  # what has ended is taken in together with what ends now
            else:
                self._take_in(result)
            return result
        self._admission.look_at_gpus(result)
        self._gpus.moved |= self._dispatch.places.look_at_gpus()
        reasons = self._take_in(result, decide=True)
        self._launch(result)
        self._dispatch.places.send_limits()
        self._dispatch.order_pilots(self._requests, result)
        if self._endings.pressing:
            result.soon(0)
        self._ending_notes.stop(self._requests, self._gpus.moved, result)
        self._attempts.pause(self._requests.paused, result)
        if claims := self._admission.claims():
            result.soon(REFRESH_S)  # their reservations are published again
        if any(claim.gpus for claim in claims):
            result.soon(POLL_S)  # what they take is to be seen
        self._admission.explain(reasons, result)
        return result

    def _succeed(self, result: TurnResult) -> bool:
        """Start the next jobs in the places that were left; False where a decision is needed."""
        now = time.monotonic()
        if not self._succession.due(now):
            return False
        with self._claiming(), self._store.unsynced(), self._store.writing():
            filled = self._succession.fill()
        self._launches.commit()
        self._launch(result)
        result.soon(self._succession.wait_s(now))
        return filled

    def _take_in(self, result: TurnResult, *, decide: bool = False) -> Reasons:
        """Take in what has ended, and decide what starts; return why what waits does not start."""
        reasons: Reasons = {}
        ended = self._endings.due(self._admission.without_ended)
        with self._claiming(), transaction(self._store, bool(ended)):
            states = [self._endings.finish(attempt, self._clock()) for attempt in ended]
            if decide:
                reasons = self._admission.decide(self._requests, result)
        self._endings.settle(ended)
        result.soon(self._endings.wait_s)
        if decide:
            self._succession.allow(self._admission.flow_in_turn, time.monotonic())
        self._launches.commit()
        for attempt, state in zip(ended, states, strict=True):
            self._put_away(attempt, state)
        self._gpus.tell(self._admission.claims())
        return reasons

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[None]:
        """Take back what was claimed where its transaction comes to nothing."""
        try:
            yield
        except BaseException:
            self._launches.undo()
            self._queue.forget()
            self._admission.line.forget()
            raise

    def _launch(self, result: TurnResult) -> None:
        """Start what was claimed, and end the attempts for which there is no supervisor."""
        try:
            for attempt in self._launches.go():
                self._attempts.add(attempt.claim, attempt)
                if attempt.claim.pilot:
                    self._dispatch.hearing.expect()
        except OSError as error:  # what must never run twice waits until its claim is on the disk
            self._troubles.tell(error)
            result.soon(RETRY_S)
        for claim, why in self._launches.hopeless():
            self._cannot_start(claim, why)

    def _finished(self, result: TurnResult) -> bool:
        now = time.monotonic()
        at_work = bool(self._attempts or self._endings or any(self._launches.promised()))
        if self._requests.stop:
            return not at_work and not self._fleet
        if result.waiting or at_work or self._fleet:
            self._busy_at = now
        return now - self._busy_at > LEAVE_AFTER_S

    # --- what became of attempts

    def _adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(*claim.key)
        look = partial(watch, claim.supervisor, attempt)
        if claim.pilot:
            look = partial(self._dispatch.hearing.adopt, claim)
        self._follow(claim, find_out(attempt, look))

    def _take_news(self, readable: Collection[int] | None) -> None:
        """Take in what attempts and pilots have told, and that pilots are lost.

        Args:
            readable: the descriptors that are readable; None: not known.
        """
        for claim, outcome in self._dispatch.hearing.bury():
            self._admission.pauses.read()
            self._succession.forbid()
            self._follow(claim, outcome)
        for claim, attempt, news in self._attempts.take_news(readable):
            self._admission.pauses.read()  # a failure may have begun a pause
            if isinstance(attempt, Launched):
                self._fork_servers.give_back(attempt.environment, attempt.supervisor)
            if isinstance(attempt, Launched) and isinstance(news, Done):
                self._succession.leave(attempt.place)
            else:
                self._succession.forbid()
            self._follow(claim, news)

    def _cannot_start(self, claim: Claim, why: Unusable) -> None:
        """End an attempt for which there is no supervisor."""
        self._admission.pauses.read()  # its end may begin a pause
        attempt = self._home.attempt(*claim.key)
        self._follow(claim, find_out(attempt, partial(self._unstarted, claim, why)))

    def _unstarted(self, claim: Claim, why: Unusable) -> Outcome | Watch:
        """Void an attempt that no supervisor can start; it has failed then, or is lost."""
        if not claim.pilot:  # what a pilot was not sent was voided when it was claimed
            news = watch(claim.supervisor, self._home.attempt(*claim.key))
            if not isinstance(news, Void):
                return news
        return why.outcome(self._clock())

    def _follow(self, claim: Claim, news: Outcome | Watch) -> None:
        if isinstance(news, Void) and news.whose == "machine":
            self._outage.failed(news.why, time.monotonic())
            self._admission.startable.exclude(claim.job)
        if isinstance(news, Outcome):
            self._endings.add(claim, news)
            return
        self._attempts.add(claim, news)
        if isinstance(news, Adopted):
            logger.info("job=%d attempt=%d adopted", *claim.key)

    def _put_away(self, ended: Ended, state: State | None) -> None:
        """Delete the folder of an attempt that this machine could not start; log how it ended."""
        job, number = ended.claim.job, ended.claim.number
        if isinstance(ended.outcome, Void) and ended.outcome.whose == "machine":
            delete(self._home.attempt(job, number))
        logger.info(
            "job=%d attempt=%d state=%s ending=%s", job, number, state, ending(ended.outcome)
        )

    # --- between turns

    def _prepare_next(self, result: TurnResult) -> None:
        """Prepare the start of the job that will follow the newest one, while nothing else is to do.

        Not between jobs that end at once: it would take the time that they need.
        """
        place = self._attempts.newest_place()
        if place is None or result.look_again_s < QUIET_S:
            return
        if self._sleeper.has_news(QUIET_S):
            return
        with contextlib.suppress(OSError):  # a full disk is met when the job starts
            attempt = self._launches.prepare(place)
            if attempt is not None:
                self._attempts.read_ahead(place, attempt)

    def _sleep_until_news(self, result: TurnResult) -> None:
        """Sleep until something has news, or it is time to look again."""
        watched = {*self._fork_servers.descriptors(), *self._attempts.descriptors()}
        others = self._gpus.watched if result.waiting else NONE
        if others != NONE:
            watched.add(others)
        elif result.waiting and self._gpus.deaf_s > 0:
            result.soon(self._gpus.deaf_s)
        if self._dispatch.sleep(self._sleeper, watched, result.look_again_s):
            self._look_at = 0.0
        if self._sleeper.news and others in self._sleeper.news:
            self._gpus.take_news()

    def _rest(self) -> None:
        """Sleep after a turn that failed; what has news now has it still, and wakes nothing."""
        self._sleeper.sleep((), RETRY_S)
        self._sleeper.news = None
        self._look_at = 0.0
