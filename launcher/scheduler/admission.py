"""Admission: which queued jobs start in this turn, and why each other lane waits.

Some jobs pause: before a retry, and until the time that they ask for.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from launcher.gpu.monitor import MEASURING_S, NEWS_S
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.scheduler.dispatch import Dispatch
from launcher.scheduler.endings import Endings
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.gpus.running_place import paused
from launcher.scheduler.placement import elsewhere
from launcher.scheduler.policy.backfill import Insistence
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.fair_share import Courtesy, starves_of, wish_of
from launcher.scheduler.policy.model import Decision, Machine, Start
from launcher.scheduler.policy.watchdog import Watchdog
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.startable_jobs import StartableJobs
from launcher.scheduler.submitters import lacks_cores, submitters, with_submitters
from launcher.scheduler.succession import Flow, sole_flow
from launcher.scheduler.turn import POLL_S, RETRY_S, Reasons, Requests, TurnResult
from launcher.scheduler.waiting_line import Line, WaitingLine
from launcher.states import ReasonCode
from launcher.store.queue import Store
from launcher.store.rows import Claim, ReadyJob
from launcher.store.scheduler_actions import Scheduling
from launcher.store.usage import Usage
from launcher.system import memory
from launcher.system.paths import Home
from launcher.workers.fork_server_pool import ForkServerPool
from launcher.workers.start_pauses import Outage


class Pauses:
    """Ends pauses when their time has come, over the turns of one scheduler."""

    def __init__(self, queue: Scheduling) -> None:
        """Begin with pauses that were not read yet."""
        self._queue = queue
        self._next_end: float | None = 0.0  # when the next pause ends
        self._ended_at = 0.0  # when pauses were ended most recently

    def read(self) -> None:
        """Read at the next decision which pauses have ended: one may have begun or been lifted."""
        self._next_end = 0.0

    def end(self, now: float, result: TurnResult) -> None:
        """End the pauses whose time has come.

        Args:
            now: seconds since 1970.
            result: learns when the next one ends.
        """
        if now < self._ended_at:
            self.read()  # the clock was set back: a pause of seconds would last for as long as that
        self._ended_at = now
        if self._next_end is not None and now >= self._next_end:
            self._next_end = self._queue.let_go(now)
        if self._next_end is not None:
            result.waiting = True
            result.soon(self._next_end - now)


EXPLAIN_S = 0.5  # the reasons why jobs wait are stored at most so often

logger = logging.getLogger(__name__)


def transaction(store: Store, needed: bool) -> contextlib.AbstractContextManager[None]:
    """Return a transaction for all that ends and starts, none where nothing does.

    Were each claim one of its own, an error after the first would leave that without a launch.
    """
    return store.writing() if needed else contextlib.nullcontext()


class Admission:
    """Decides over the turns of one scheduler which jobs start.

    Attributes:
        line: of the jobs that wait.
        startable: which of them may be tried now.
        pauses: of jobs, which are read again where one may have begun or ended.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        cpus: int,
        cores: int,
        clock: Callable[[], float],
        gpus: Accelerators,
        attempts: RunningAttempts,
        endings: Endings,
        launches: Launches,
        fork_servers: ForkServerPool,
        outage: Outage,
        dispatch: Dispatch,
    ) -> None:
        """Begin without decisions.

        Args:
            home: the queue's.
            store: the home's.
            cpus: cores that we may keep busy.
            cores: those that this process may use, as a mask.
            clock: seconds since 1970.
            gpus: what is known of them.
            attempts: those that run.
            endings: those that have ended and are not stored yet.
            launches: starts the jobs that are admitted.
            fork_servers: where their workers come from.
            outage: whether this machine can start programs.
            dispatch: starts jobs on pilots.
        """
        self._home, self._store, self._clock = home, store, clock
        self._queue = store.scheduling
        self._cpus, self._cores = cpus, cores
        self._ram = memory.total()
        self._gpus = gpus
        self._attempts, self._endings = attempts, endings
        self._launches, self._outage = launches, outage
        self._dispatch = dispatch
        self._patience, self._courtesy = Insistence(), Courtesy()
        self._watchdog, self.line = Watchdog(), WaitingLine(store.scheduling, self._usage)
        self.startable = StartableJobs(gpus, fork_servers)
        self._explained = time.monotonic()
        self.pauses = Pauses(store.scheduling)
        self._gpus_wanted = False  # something waits for a GPU
        self._some_wait = False  # since the last decision
        self.flow_in_turn: Flow | None = None  # the only one that waits, if its jobs are all alike

    def claims(self) -> list[Claim]:
        """Return every attempt that has a place on the machine; those on pilots have none."""
        claims = (*self._attempts.claims(), *self._launches.promised())
        return [claim for claim in claims if not claim.pilot]

    def without_ended(self, claim: Claim) -> Machine:
        """Return the machine of an attempt as it is without those that have ended."""
        if claim.pilot:
            return self._dispatch.places.machine_of(claim)
        return Machine(cpus=self._cpus, ram=self._ram, **self._gpus.machine(self.claims()))

    def look_at_gpus(self, result: TurnResult) -> None:
        """Have the GPUs looked at while a job runs there, or waits for one, or has ended there."""
        claims = self.claims()
        in_use = any(claim.gpus for claim in claims) or self._endings.on_gpus
        unsupervised = self._attempts.unsupervised()
        measuring = self._gpus_wanted and self._gpus.ledger.taken.measuring(claims)
        wanted = in_use or self._gpus_wanted
        self._gpus.look(claims, unsupervised, wanted=wanted, measuring=measuring)
        if in_use:  # estimates follow what is used, also if nothing waits
            self._gpus.ledger.taken.running(claims, self._usage)
        if self._some_wait:
            self._gpus.ledger.taken.ask_ends(claims)
            self._dispatch.places.ask_ends()
        if in_use:
            result.soon(MEASURING_S if measuring else POLL_S)
        if self._gpus.news:
            result.soon(NEWS_S)  # the newest look is too fresh for another one

    def decide(self, requests: Requests, result: TurnResult) -> Reasons:
        """Claim what fits, to be launched once that is committed.

        Args:
            requests: what people ask for.
            result: learns when to look again.

        Returns:
            Why the first job of each lane does not start, None where it does.
        """
        now, self.flow_in_turn = self._clock(), None
        self.pauses.end(now, result)
        ready = self._ready(requests, now)
        if not self._dispatch.concerns(job.lane for job in ready):
            return self._decide_here(ready, requests, result, now)
        machine = Machine(cpus=self._cpus, ram=self._ram)
        line = self._in_line(ready, machine, requests, now)

        def here(own: Sequence[ReadyJob]) -> tuple[Reasons, set[int]]:
            reasons = self._decide_here(own, requests, result, now, line)
            return reasons, {claim.job for claim in self._launches.claimed()}

        reasons = self._dispatch.decide(ready, line, requests, here)
        self._some_wait = any(reasons.values())
        result.waiting = result.waiting or self._some_wait
        if self._launches.again_s is not None:
            result.soon(self._launches.again_s)
        return reasons

    def _decide_here(
        self,
        ready: Sequence[ReadyJob],
        requests: Requests,
        result: TurnResult,
        now: float,
        line: Line | None = None,
    ) -> Reasons:
        """Claim what fits on this machine; `line` is given where jobs of other machines stand in it, too."""
        self._gpus_wanted = any(job.lane.resources.may_need_gpu for job in ready)
        if not ready:
            self._gpus.waits_for(None)
            return {}
        if not self._outage.admits(time.monotonic()):
            self._gpus.waits_for(None)
            result.waiting = True
            result.soon(self._outage.wait_s(time.monotonic()))
            return {job.lane_id: self._outage.reason for job in ready}
        ready, reasons_of_excluded = self.startable.without_excluded(ready, result)
        watch_ram = any(job.lane.resources.ram is not None for job in ready)
        if self._gpus_wanted and not self._gpus.seen:
            self.look_at_gpus(result)
        ready, reasons_of_unseen = self.startable.without_unseen(ready)
        if not reasons_of_excluded and not reasons_of_unseen:
            self.flow_in_turn = sole_flow(ready, self._gpus.foreign)
            if self._gpus.anybody_waits:
                self.flow_in_turn = None
        ready, decisions = self._decisions(ready, requests, now, line, watch_ram=watch_ram)
        with transaction(self._store, any(isinstance(choice, Start) for choice in decisions)):
            reasons = self._claim(ready, decisions)
        reasons = reasons_of_excluded | reasons | reasons_of_unseen
        result.waiting = result.waiting or any(reasons.values())
        codes = {reason.code for reason in reasons.values() if reason is not None}
        if ReasonCode.WORKER_STARTING in codes:
            result.soon(RETRY_S)  # a new supervisor wakes us, one that is put off does not
        if self._launches.again_s is not None:
            result.soon(self._launches.again_s)
        others = self._gpus.foreign or self._gpus.anybody_waits
        if self._watchdog.watches or (
            result.waiting and (self._gpus_wanted or watch_ram or others)
        ):
            result.soon(POLL_S)  # room may come without a wake: memory that others give back
        return reasons

    def explain(self, reasons: Reasons, result: TurnResult) -> None:
        """Store why lanes wait; not at every turn, as in a flood of short jobs it never holds."""
        wait_s = self._explained + EXPLAIN_S - time.monotonic()
        if wait_s > 0:
            if any(reasons.values()):
                result.soon(wait_s)
            return
        self._explained = time.monotonic()
        self._queue.explain(reasons)

    def _ready(self, requests: Requests, now: float) -> list[ReadyJob]:
        self._launches.again_s = None
        most = self._cpus + self._dispatch.slots
        ready = [] if requests.stop else self._queue.ready(most)
        if self._queue.mend(now):
            logger.warning("trouble='some jobs had no lane, or could not be read'")
            ready = self._queue.ready(most)
        return ready

    def _usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return what is known of jobs, with what similar ones use that run now."""
        usage = self._queue.usage(signature, program, machine)
        return self._gpus.ledger.taken.with_live(usage, signature, program)

    def _in_line(
        self, ready: Sequence[ReadyJob], machine: Machine, requests: Requests, now: float
    ) -> Line:
        here = [
            paused(run) if run.job in requests.paused else run
            for run in self._gpus.ledger.taken.running(self.claims(), self._usage)
        ]
        return self.line.arranged(
            ready, here, self._dispatch.places.running(), machine, now, requests.discipline
        )

    def _decisions(
        self,
        ready: Sequence[ReadyJob],
        requests: Requests,
        now: float,
        line: Line | None,
        *,
        watch_ram: bool,
    ) -> tuple[list[ReadyJob], list[Decision]]:
        """Decide what starts, and agree on it with other users' schedulers.

        Returns the jobs in the order in which they were looked at, and what happens to each.
        """
        claims = self.claims()
        gpus = self._gpus.machine(claims) if self._gpus_wanted else self._gpus.others(claims)
        machine = Machine(
            cpus=self._cpus,
            cores=self._cores,
            ram=self._ram,
            ram_there=memory.there(),
            ram_free=memory.available() if watch_ram else 0,
            limits=requests.limits,
            **gpus,
        )
        self._queue.know_machines(self._gpus.machines())
        machine = self._courtesy.heeded(machine, time.monotonic())
        line = line or self._in_line(ready, machine, requests, now)
        jobs = {job.id: job for job in ready}
        ordered = [job for job in line.jobs if job.job in jobs]
        own = line.here
        running = [*map(elsewhere, line.elsewhere), *own]
        starves = starves_of(self._gpus.wish, own, machine, time.monotonic())
        machine = machine._replace(starves=starves)
        candidates = self._patience.entered(ordered, time.monotonic())
        decisions = decide(candidates, running, machine, now, requests.discipline)
        self._patience.note(decisions, time.monotonic())
        verdict = self._watchdog.review(candidates, decisions, own, machine, time.monotonic())
        for sentence in verdict.news:
            logger.warning("unexplained wait: %s", sentence)
        decisions = verdict.decisions
        self._courtesy.note(decisions, time.monotonic())
        for complaint in self._courtesy.complaints:
            logger.warning("colleague reason=%r", complaint)
        self._courtesy.complaints.clear()
        self._gpus.waits_for(*wish_of(candidates, decisions, machine), jobs)
        announced = self._gpus.announce(
            decisions, claims, (candidates, running, machine, now), requests.discipline
        )
        if lacks_cores(announced):
            announced = with_submitters(announced, submitters(self._home, claims))
        return [jobs[job.job] for job in ordered], announced

    def _claim(self, ready: Sequence[ReadyJob], decisions: Sequence[Decision]) -> Reasons:
        """Claim what starts; return why the first job of each lane does not, None where it does."""
        reasons: Reasons = {job.lane_id: None for job in ready}
        for job, decision in zip(ready, decisions, strict=True):
            if isinstance(decision, Start):
                why = self._launches.claim(job, decision)
            else:
                why = decision.why
            reasons[job.lane_id] = reasons[job.lane_id] or why
        return reasons
