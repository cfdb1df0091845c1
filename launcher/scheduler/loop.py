"""The loop: wake, take in what ended, decide, start. One lives per home.

It may die at any instant: what it reserved is in the store, what happened is in the attempts'
folders, and the next scheduler goes on from there.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from launcher.context import WorkerEnvironment
from launcher.errors import StoreError
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservation_watch import NONE, ReservationWatch
from launcher.gpu.reservations import REFRESH_S, ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.admission import Admission, Reasons, Succession, transaction
from launcher.scheduler.attempt_watch import Adopted, Supervised, Watch, find_out, watch
from launcher.scheduler.chosen_policy import chosen_discipline
from launcher.scheduler.ended_attempts import Ended, Endings
from launcher.scheduler.gpu_state import Accelerators
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.turn import POLL_S, RETRY_S, Requests, TurnResult
from launcher.scheduler.use_meter import UseMeter
from launcher.states import Done, Failed, Lost, Outcome, State, Void, ending
from launcher.store.queue import Store
from launcher.store.recovery import trouble
from launcher.store.retention import delete
from launcher.store.rows import Claim
from launcher.system.error_log import Troubles
from launcher.system.files import read_json
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.system.processes import core_mask
from launcher.system.quotas import of_this_process
from launcher.system.wakeup import Sleeper
from launcher.workers.fork_server_pool import AHEAD, ForkServerPool, Unusable
from launcher.workers.spawn_outage import Outage

logger = logging.getLogger(__name__)

MOST_OPEN = 4  # ends that are taken in together, while other jobs run in their places
QUIET_S = 0.003  # without news for so long, we prepare what comes next
LOOK_S = 0.2  # a request that came without a wake waits at most so long
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
        """
        self._housekeeping = housekeeping
        self._home, self._store, self._clock = home, store, clock
        self._queue = store.scheduling
        self._outage = Outage()
        self._attempts = RunningAttempts()
        self._fork_servers = ForkServerPool(home, most_idle=cpus + AHEAD, lacks=self._cannot_start)
        self._busy_at = time.monotonic()
        self._requests = Requests()
        self._look_at = 0.0  # when to read the requests at the latest, monotonic
        self.leaving = False
        self._sleeper = Sleeper(home)
        self._troubles = Troubles()
        mask = core_mask()
        folder = reservations_folder(os.environ)
        self._gpus = Accelerators(
            home,
            snapshot,
            self._sleeper.ring,
            board=board or ReservationBoard(folder, home.folder, quotas=of_this_process()),
            rules=rules,
            absent=absent,
            cores=mask,
            meter=UseMeter(self._queue.past_use, clock, time.monotonic).read,
            watch=ReservationWatch(folder),
        )
        self._launches = Launches(
            home, self._queue, self._fork_servers, clock, self._outage, self._gpus
        )
        self._succession = Succession(self._queue, self._launches)
        self._endings = Endings(home, self._queue, self._gpus)
        self._admission = Admission(
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

    def is_home(self) -> bool:
        """Tell whether the queue is still here: not deleted, moved away as damaged, or replaced."""
        return self._store.is_current() and not self._home.damage_record.exists()

    def run(self) -> None:
        """Serve until asked to leave, stopped, idle for LEAVE_AFTER_S, or the home is gone."""
        self._gpus.begin()
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
                self._prepare(result)
            # the scheduler's top: a fault of ours in one turn must not end it, and with it all that waits
            except Exception as error:  # noqa: BLE001
                self._troubles.tell(error)
                if isinstance(error, sqlite3.Error):
                    self._keep_aside_if_damaged(error)
                self._rest()
                continue
            if self._finished(result):
                break
            self._sleep(result)
        why = "" if self.is_home() else " why='its database was deleted, replaced or damaged'"
        logger.info("scheduler pid=%d leaves%s", os.getpid(), why)
        self._gpus.leave(self._admission.claims())
        self._fork_servers.close()

    def _read_requests(self) -> bool:
        """Read what people ask for: they wake us, so that no turn in a flood of jobs is slower.

        Returns whether it was time for that.
        """
        if time.monotonic() < self._look_at:
            return False
        if not self.is_home():  # first: what is no queue any more may not answer the rest
            self._requests = Requests(gone=True)
            return True
        stop = read_json(self._home.stop)
        self._requests = Requests(
            stop=stop is not None or self._home.stop.exists(),
            stop_now=bool(stop and stop.get("now")),
            wishes=self._queue.wishes(),
            limits=self._queue.limits(),
            discipline=chosen_discipline(self._home),
        )
        self._fork_servers.retire()
        for mend in (self._sleeper.mend, self._housekeeping):
            with self._troubles.survived(OSError):  # the next look tries it again
                mend()
        self._admission.read_pauses()
        self._look_at = time.monotonic() + LOOK_S
        return True

    def _keep_aside_if_damaged(self, error: sqlite3.Error) -> None:
        """Move a damaged database away, so that whoever asks is told; the next look finds it gone."""
        with self._troubles.survived(StoreError):
            trouble(self._home.database, error)

    def _turn(self) -> TurnResult:
        if self._fork_servers.collect_spawned(self._sleeper.news):
            self._succession.forbid()
        self._take_news()
        result = TurnResult()
        if self._succeed(result):
            if len(self._endings) < MOST_OPEN and self._sleeper.has_news():
                result.soon(0)  # what has ended is taken in together with what ends now
            else:
                self._take_in(result)
            return result
        self._admission.look_at_gpus(result)
        reasons = self._take_in(result, decide=True)
        self._launch(result)
        if self._endings.pressing:
            result.soon(0)
        stopping = self._requests.wishes.keys() | self._gpus.moved.keys()
        self._attempts.stop(stopping, result, all_jobs=self._requests.stop_now)
        if claims := self._admission.claims():
            result.soon(REFRESH_S)  # their reservations are published again
        if any(claim.gpus for claim in claims) or self._gpus.settling:
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

    def _prepare(self, result: TurnResult) -> None:
        """Prepare the start of the job that will follow the newest one, while nothing else is to do.

        Not between jobs that end at once: it would take the time that they need.
        """
        place = self._attempts.newest_place()
        if place is None or self._requests.stop or result.look_again_s < QUIET_S:
            return
        if self._sleeper.has_news(QUIET_S):
            return
        with contextlib.suppress(OSError):  # a full disk is met when the job starts
            attempt = self._launches.prepare(place)
            if attempt is not None:
                self._attempts.read_ahead(place, attempt)

    def _take_in(self, result: TurnResult, *, decide: bool = False) -> Reasons:
        """Take in what has ended, and decide what starts; return why what waits does not start."""
        reasons: Reasons = {}
        ended = self._endings.due(self._admission.without_ended)
        with self._claiming(), transaction(self._store, bool(ended)):
            states = [self._endings.finish(attempt, self._clock()) for attempt in ended]
            if decide:
                reasons = self._admission.decide(self._requests, result)
        self._endings.settle(ended)
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
            raise

    def _launch(self, result: TurnResult) -> None:
        """Start what was claimed, and end the attempts for which there is no supervisor."""
        try:
            for attempt in self._launches.go():
                self._attempts.add(attempt)
        except OSError as error:  # what must never run twice waits until its claim is on the disk
            self._troubles.tell(error)
            result.soon(RETRY_S)
        for claim, why in self._launches.hopeless():
            self._admission.read_pauses()  # its end may begin a pause
            self._follow(claim, find_out(claim, partial(self._unstarted, claim, why)))

    # --- what ended

    def _adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(claim.job, claim.number)
        self._follow(claim, find_out(claim, partial(watch, claim, attempt)))

    def _unstarted(self, claim: Claim, why: Unusable) -> Outcome | Watch:
        """Void an attempt that no supervisor can start; it has failed then, or is lost."""
        news = watch(claim, self._home.attempt(claim.job, claim.number))
        if not isinstance(news, Void):
            return news
        at = self._clock()
        if why.passing:
            return Void(at=at, why=str(why), whose="job")
        return Failed(at=at, error=str(why)) if why.sure else Lost(at=at, why=str(why))

    def _cannot_start(self, why: str) -> None:
        self._outage.failed(why, time.monotonic())

    def _follow(self, claim: Claim, news: Outcome | Watch) -> None:
        if isinstance(news, Void) and news.whose == "machine":
            self._cannot_start(news.why)
            self._admission.exclude(claim.job)
        if isinstance(news, Outcome):
            self._endings.add(claim, news)
            return
        self._attempts.add(news)
        if isinstance(news, Adopted):
            logger.info("job=%d attempt=%d adopted", claim.job, claim.number)

    def _take_news(self) -> None:
        for attempt, news in self._attempts.take_news(self._sleeper.news):
            self._admission.read_pauses()  # a failure may have begun a pause
            if isinstance(attempt, Supervised):
                self._fork_servers.give_back(attempt.environment, attempt.supervisor)
            if isinstance(attempt, Supervised) and isinstance(news, Done):
                self._succession.leave(attempt.place)
            else:
                self._succession.forbid()
            self._follow(attempt.claim, news)

    def _put_away(self, ended: Ended, state: State | None) -> None:
        """Delete the folder of an attempt that this machine could not start; log how it ended."""
        job, number = ended.claim.job, ended.claim.number
        if isinstance(ended.outcome, Void) and ended.outcome.whose == "machine":
            delete(self._home.attempt(job, number))
        logger.info(
            "job=%d attempt=%d state=%s ending=%s", job, number, state, ending(ended.outcome)
        )

    # --- when to sleep and when to leave

    def _finished(self, result: TurnResult) -> bool:
        now = time.monotonic()
        at_work = bool(self._attempts or self._endings or any(self._launches.promised()))
        if self._requests.stop:
            return not at_work
        if result.waiting or at_work:
            self._busy_at = now
        return now - self._busy_at > LEAVE_AFTER_S

    def _sleep(self, result: TurnResult) -> None:
        watched = {*self._fork_servers.descriptors(), *self._attempts.descriptors()}
        others = self._gpus.watched if result.waiting else NONE
        if others != NONE:
            watched.add(others)
        elif result.waiting and self._gpus.deaf_s > 0:
            result.soon(self._gpus.deaf_s)
        if self._sleeper.sleep(watched, result.look_again_s):
            self._look_at = 0.0
        if self._sleeper.news and others in self._sleeper.news:
            self._gpus.take_news()

    def _rest(self) -> None:
        """Sleep after a turn that failed; what has news now has it still, and wakes nothing."""
        self._busy_at = time.monotonic()
        self._sleeper.sleep((), RETRY_S)
        self._sleeper.news, self._look_at = None, 0.0
