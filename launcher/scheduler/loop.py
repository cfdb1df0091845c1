"""The loop: wake, take in what ended, decide, start. One lives per home.

It may die at any instant: what it promised is in the store, what happened is in the attempts'
folders, and the next scheduler goes on from there.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import REFRESH_S, ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import WorkerEnvironment
from launcher.scheduler.attempt_watch import (
    LOOK_AGAIN_S,
    NO_DESCRIPTOR,
    Adopted,
    Supervised,
    Watch,
    find_out,
    watch,
)
from launcher.scheduler.backfill import Patience
from launcher.scheduler.ended_attempts import Endings
from launcher.scheduler.gpu_accounting import waiting
from launcher.scheduler.gpu_state import Accelerators
from launcher.scheduler.model import Decision, Machine, Start
from launcher.scheduler.policy import decide
from launcher.scheduler.spawn_outage import Outage
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.turn import Requests, TurnResult
from launcher.states import Failed, Lost, Outcome, Reason, ReasonCode, Void, ending
from launcher.store.queue import Store
from launcher.store.retention import delete
from launcher.store.rows import Claim, ReadyJob
from launcher.system import memory
from launcher.system.backoff import Exclusions
from launcher.system.error_log import Troubles
from launcher.system.files import read_json
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.system.quotas import of_this_process
from launcher.system.wakeup import Sleeper
from launcher.workers.fork_server_pool import AHEAD, ForkServerPool, Unusable

logger = logging.getLogger(__name__)

POLL_S = 1.0  # while something waits for memory that is not ours to give, or runs on a GPU
LOOK_S = 0.2  # at most so long a wish waits that came without a wake
EXPLAIN_S = 0.5  # at most so often it is put down why jobs wait
REMIND_S = 1.0  # while a program without a supervisor is asked to stop
TROUBLE_S = 1.0  # after a job could not be started or taken in: the disk is full
NO_ROOM = Reason(
    code=ReasonCode.CANNOT_START,
    text="this machine had no room for its process; others are tried before it is tried again",
)
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
        self._cpus = cpus
        self._cores = sum(1 << core for core in os.sched_getaffinity(0))
        self._ram = memory.total()
        self._patience = Patience()
        self._watches: dict[int, Watch] = {}
        self._outage = Outage()
        self._lacking = Exclusions[
            int
        ]()  # jobs that the machine could not start; others are tried first
        self._fork_servers = ForkServerPool(home, most_idle=cpus + AHEAD, lacks=self._cannot_start)
        self._launches = Launches(home, self._queue, self._fork_servers, clock, self._outage)
        self._told: dict[int, float] = {}  # job that was asked to stop → when to insist, monotonic
        self._busy_at = self._explained = time.monotonic()
        self._asked = Requests()
        self._look_at = 0.0  # when to look at the latest what people ask for, monotonic
        self._next_time: float | None = 0.0  # when a job's time comes that waits for one
        self._gpus_wanted = False  # something waits for a GPU
        self.leaving = False
        self._sleeper = Sleeper(home)
        self._troubles = Troubles()
        self._gpus = Accelerators(
            home,
            snapshot,
            self._sleeper.ring,
            board=board
            or ReservationBoard(
                reservations_folder(os.environ), home.folder, quotas=of_this_process()
            ),
            rules=rules,
            absent=absent,
            cores=self._cores,
        )
        self._endings = Endings(self._queue, self._gpus)

    def leave(self, *_: object) -> None:
        """Go at the next turn; jobs run on, and another scheduler adopts them."""
        self.leaving = True
        self._sleeper.ring()

    def is_home(self) -> bool:
        """Tell whether the queue is still here: not deleted, not moved away as damaged."""
        return self._home.database.exists() and not self._home.damage_record.exists()

    def run(self) -> None:
        """Serve until told to leave, stopped, idle for long, or robbed of the home."""
        for claim in self._queue.claims():
            self._adopt(claim)
        self._fork_servers.prepare(WorkerEnvironment())
        while not self.leaving:
            try:
                self._look_around()
                if self._asked.gone:
                    break
                result = self._turn()
            # the scheduler's top: a fault of ours in one turn must not end it, and with it all that waits
            except Exception as error:  # noqa: BLE001
                self._troubles.tell(error)
                self._rest()
                continue
            if self._finished(result):
                break
            self._sleep(result.look_again_s)
        logger.info("scheduler pid=%d leaves", os.getpid())
        self._gpus.leave(self._claims())
        self._fork_servers.close()

    def _look_around(self) -> None:
        """Learn what people ask for: they wake us, so that no turn in a flood of jobs is slower."""
        if time.monotonic() < self._look_at:
            return
        stop = read_json(self._home.stop)
        self._asked = Requests(
            gone=not self.is_home(),
            stop=stop is not None or self._home.stop.exists(),
            stop_now=bool(stop and stop.get("now")),
            wishes=self._queue.wishes(),
            limits=self._queue.limits(),
        )
        self._fork_servers.retire()
        if not self._asked.gone:
            for mend in (self._sleeper.mend, self._housekeeping):
                with self._troubles.survived(OSError):  # the next look tries it again
                    mend()
        self._next_time = 0.0
        self._look_at = time.monotonic() + LOOK_S

    def _turn(self) -> TurnResult:
        self._fork_servers.collect_spawned(self._sleeper.news)
        self._take_in()
        result = TurnResult()
        self._look_at_gpus(result)
        ended = self._endings.due(self._without_ended)
        try:
            with self._one_transaction(bool(ended)):
                states = [self._endings.finish(one, self._clock()) for one in ended]
                reasons = self._decide(result)
        except BaseException:
            self._launches.undo()
            self._queue.forget()
            raise
        self._endings.settle(ended)
        self._launches.commit()
        for one in ended:
            if isinstance(one.outcome, Void) and one.outcome.whose == "machine":
                delete(self._home.attempt(one.claim.job, one.claim.number))
        for one, state in zip(ended, states, strict=True):
            told = (one.claim.job, one.claim.number, state, ending(one.outcome))
            logger.info("job=%d attempt=%d state=%s ending=%s", *told)
        self._gpus.tell(self._claims())
        self._launch(result)
        self._obey(result)
        if claims := self._claims():
            result.soon(REFRESH_S)  # what is promised to them is told again
        if any(claim.gpus for claim in claims):
            result.soon(POLL_S)  # what they take is to be seen
        self._explain(reasons, result)
        return result

    def _launch(self, result: TurnResult) -> None:
        """Have what was claimed started, and take in what nobody can start."""
        try:
            for one in self._launches.go():
                self._watches[one.claim.job] = one
        except OSError as error:  # what must never run twice waits until its claim is on the disk
            self._troubles.tell(error)
            result.soon(TROUBLE_S)
        for claim, why in self._launches.hopeless():
            self._next_time = 0.0  # its end may begin a pause
            self._follow(claim, find_out(claim, partial(self._unstarted, claim, why)))
        if self._endings.pressing:
            result.soon(0)

    def _one_transaction(self, needed: bool) -> contextlib.AbstractContextManager[None]:
        """Return a transaction for all that ends and starts, none where nothing does.

        Were each claim one of its own, an error after the first would leave that without a launch.
        """
        return self._store.writing() if needed else contextlib.nullcontext()

    # --- what ended

    def _adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(claim.job, claim.number)
        self._follow(claim, find_out(claim, partial(watch, claim, attempt)))

    def _unstarted(self, claim: Claim, why: Unusable) -> Outcome | Watch:
        """Void an attempt that nobody can be found to start; it has failed then, or is lost."""
        found = watch(claim, self._home.attempt(claim.job, claim.number))
        if not isinstance(found, Void):
            return found
        at = self._clock()
        if why.passing:
            return Void(at=at, why=str(why), whose="job")
        return Failed(at=at, error=str(why)) if why.sure else Lost(at=at, why=str(why))

    def _cannot_start(self, why: str) -> None:
        self._outage.failed(why, time.monotonic())

    def _follow(self, claim: Claim, found: Outcome | Watch) -> None:
        if isinstance(found, Void) and found.whose == "machine":
            self._cannot_start(found.why)
            self._lacking.exclude(claim.job, time.monotonic())
        if isinstance(found, Outcome):
            self._endings.add(claim, found)
            return
        self._watches[claim.job] = found
        if isinstance(found, Adopted):
            logger.info("job=%d attempt=%d adopted", claim.job, claim.number)

    def _take_in(self) -> None:
        told = self._sleeper.news
        for job, one in list(self._watches.items()):
            if told is not None and one.descriptor not in {NO_DESCRIPTOR, *told}:
                continue
            news = one.ending()
            if news is None:
                continue
            self._next_time = 0.0  # a failure may have begun a pause
            del self._watches[job]
            self._told.pop(job, None)
            if isinstance(one, Supervised):
                self._fork_servers.give_back(one.environment, one.supervisor)
            self._follow(one.claim, news)

    # --- what people asked for

    def _obey(self, result: TurnResult) -> None:
        """Ask attempts to stop where somebody wants that, and insist where nobody else does."""
        for job, one in self._watches.items():
            if job in self._told:
                if time.monotonic() >= self._told[job]:
                    one.insist()
            elif self._asked.stop_now or job in self._asked.wishes or job in self._gpus.moved:
                self._told[job] = time.monotonic() + one.claim.spec.terms.grace_s
                one.stop()
        if any(isinstance(self._watches[job], Adopted) for job in self._told):
            result.soon(REMIND_S)
        if any(one.descriptor == NO_DESCRIPTOR for one in self._watches.values()):
            result.soon(LOOK_AGAIN_S)

    # --- what starts

    def _decide(self, result: TurnResult) -> dict[int, Reason | None]:
        """Claim what fits, to be launched once that is committed.

        Returns why the first job of each lane does not start, None where it does.
        """
        now = self._clock()
        if self._next_time is not None and now >= self._next_time:
            self._next_time = self._queue.let_go(now)
        if self._next_time is not None:
            result.waiting = True
            result.soon(self._next_time - now)
        ready = [] if self._asked.stop else self._queue.ready(self._cpus)
        if self._queue.mend(now):
            logger.warning("trouble='some jobs had no lane, or could not be read'")
            ready = self._queue.ready(self._cpus)
        self._gpus_wanted = any(one.lane.resources.may_need_gpu for one in ready)
        if not ready:
            return {}
        if not self._outage.admits(time.monotonic()):
            result.waiting = True
            result.soon(self._outage.wait_s(time.monotonic()))
            return {one.lane_id: self._outage.reason for one in ready}
        ready, reasons_of_excluded = self._without_excluded(ready, result)
        watch_ram = any(one.lane.resources.ram is not None for one in ready)
        if self._gpus_wanted and not self._gpus.seen:
            self._look_at_gpus(result)
        unseen = (
            [] if self._gpus.seen else [one for one in ready if one.lane.resources.may_need_gpu]
        )
        if unseen:
            ready = [one for one in ready if not one.lane.resources.may_need_gpu]
        decisions = self._judge(ready, now, watch_ram=watch_ram)
        with self._one_transaction(any(isinstance(one, Start) for one in decisions)):
            reasons = self._act(ready, decisions)
        no_gpu = Reason(code=ReasonCode.NO_GPU, text=self._gpus.unseen)
        reasons |= {one.lane_id: no_gpu for one in unseen}
        reasons = reasons_of_excluded | reasons
        result.waiting = result.waiting or any(reasons.values())
        codes = {reason.code for reason in reasons.values() if reason is not None}
        if ReasonCode.WORKER_STARTING in codes:
            result.soon(TROUBLE_S)  # a birth wakes us, one that is put off does not
        if self._launches.again_s is not None:
            result.soon(self._launches.again_s)
        if result.waiting and (self._gpus_wanted or watch_ram or self._gpus.foreign):
            result.soon(POLL_S)  # room may come without a wake: memory that others give back
        return reasons

    def _without_excluded(
        self, ready: list[ReadyJob], result: TurnResult
    ) -> tuple[list[ReadyJob], dict[int, Reason | None]]:
        """Return what may be tried now, and why the lanes wait of which something may not."""
        now, free, reasons = time.monotonic(), list[ReadyJob](), dict[int, Reason | None]()
        for one in ready:
            wait_s = max(
                self._fork_servers.excluded_s(one.lane.environment),
                self._lacking.wait_s(one.id, now),
            )
            if wait_s > 0:
                reasons.setdefault(one.lane_id, NO_ROOM)
                result.waiting = True
                result.soon(wait_s)
            else:
                free.append(one)
        return free, reasons

    def _judge(self, ready: Sequence[ReadyJob], now: float, *, watch_ram: bool) -> list[Decision]:
        """Decide what starts, and agree on it with other users' schedulers."""
        claims = self._claims()
        gpus = self._gpus.machine(claims) if self._gpus_wanted else {"foreign": self._gpus.foreign}
        machine = Machine(
            cpus=self._cpus,
            cores=self._cores,
            ram=self._ram,
            ram_there=memory.there(),
            ram_free=memory.available() if watch_ram else 0,
            limits=self._asked.limits,
            **gpus,
        )
        usage = self._queue.usage
        wait = self._patience.entered(
            (waiting(one, usage(one.lane.signature)) for one in ready), time.monotonic()
        )
        running = self._gpus.ledger.running(claims, usage)
        decisions = decide(wait, running, machine, now)
        self._patience.note(decisions, time.monotonic())
        return self._gpus.announce(decisions, claims, (wait, running, machine, now))

    def _act(
        self, ready: Sequence[ReadyJob], decisions: Sequence[Decision]
    ) -> dict[int, Reason | None]:
        """Claim what starts; return why the first job of each lane does not, None where it does."""
        reasons: dict[int, Reason | None] = {one.lane_id: None for one in ready}
        self._launches.again_s = None
        for job, decision in zip(ready, decisions, strict=True):
            if isinstance(decision, Start):
                why = self._launches.claim(job, decision)
            else:
                why = decision.why
            reasons[job.lane_id] = reasons[job.lane_id] or why
        return reasons

    def _explain(self, reasons: dict[int, Reason | None], result: TurnResult) -> None:
        """Put down why lanes wait; not at every turn, as in a flood of short jobs it never holds."""
        wait_s = self._explained + EXPLAIN_S - time.monotonic()
        if wait_s > 0:
            if any(reasons.values()):
                result.soon(wait_s)
            return
        self._explained = time.monotonic()
        self._queue.explain(reasons)

    def _claims(self) -> list[Claim]:
        """Return every attempt that has a place on the machine."""
        return [*(one.claim for one in self._watches.values()), *self._launches.promised()]

    def _without_ended(self) -> Machine:
        """Return the machine as it is without the attempts that have ended."""
        return Machine(cpus=self._cpus, ram=self._ram, **self._gpus.machine(self._claims()))

    def _look_at_gpus(self, result: TurnResult) -> None:
        """Have the GPUs looked at while something runs there, or waits for one, or ended there."""
        claims = self._claims()
        runs = any(claim.gpus for claim in claims) or self._endings.on_gpus
        alone = {
            one.program: one.claim.job
            for one in self._watches.values()
            if isinstance(one, Adopted) and one.program
        }
        self._gpus.look(claims, alone, wanted=runs or self._gpus_wanted)
        if runs:
            result.soon(POLL_S)

    # --- when to sleep and when to go

    def _finished(self, result: TurnResult) -> bool:
        now = time.monotonic()
        if self._asked.stop:
            return not (self._watches or self._endings or any(self._launches.promised()))
        if result.waiting or self._watches or self._endings or any(self._launches.promised()):
            self._busy_at = now
        return now - self._busy_at > LEAVE_AFTER_S

    def _sleep(self, timeout_s: float) -> None:
        watched = {*self._fork_servers.descriptors()}
        watched.update(one.descriptor for one in self._watches.values())
        if self._sleeper.sleep(watched - {NO_DESCRIPTOR}, timeout_s):
            self._look_at = 0.0

    def _rest(self) -> None:
        """Sleep after a turn that came to nothing; what has news now has it still, and wakes nobody."""
        self._busy_at = time.monotonic()
        self._sleeper.sleep((), TROUBLE_S)
        self._sleeper.news, self._look_at = None, 0.0
