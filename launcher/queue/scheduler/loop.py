"""The loop of the scheduler: wake, record ends, decide, start, prepare the next cycle, sleep. One runs per queue folder.

It may be killed at any instant. Its reservations are in the store, the events are in the attempts'
folders, and the next scheduler continues from there.

Ended attempts are passed on to be recorded, running ones stay watched. Requests of users wake the
scheduler, so that a cycle is not slower with many jobs.
"""

import contextlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.backends.settings import Backends
from launcher.queue.gpu.reservation_watch import NOT_WATCHED
from launcher.queue.gpu.reservations import REFRESH_S, ReservationBoard
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Done, NeverStarted, Outcome, State, outcome_kind
from launcher.queue.scheduler.admission import Admission, transaction
from launcher.queue.scheduler.chosen_policy import read_policy
from launcher.queue.scheduler.code_recorder import CodeRecorder
from launcher.queue.scheduler.cycle import POLL_S, RETRY_S, ControlState, CycleResult, Reasons
from launcher.queue.scheduler.endings import FinishedAttempt, FinishedAttempts
from launcher.queue.scheduler.frozen_supervisors import FrozenSupervisors
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.gpus.use_meter import UsageAccumulator
from launcher.queue.scheduler.job_terminator import JobTerminator
from launcher.queue.scheduler.local_node import LocalNode
from launcher.queue.scheduler.local_partition import LocalPartition
from launcher.queue.scheduler.nodes import Nodes
from launcher.queue.scheduler.partitions import Partitions
from launcher.queue.scheduler.pilot_events import PilotEvents
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.scheduler.search_processes import SearchProcesses
from launcher.queue.scheduler.start_jobs import LaunchBatch
from launcher.queue.scheduler.started_attempts import LaunchedAttempt
from launcher.queue.scheduler.succession import SlotReuse
from launcher.queue.store.executors import CHECK_S, AbandonedExecutors
from launcher.queue.store.queue import Store
from launcher.queue.store.queued_code import has_unrecorded_code
from launcher.queue.store.recovery import queue_database_error
from launcher.queue.store.retention import delete_attempt_folder
from launcher.queue.store.rows import Claim
from launcher.queue.workers.attempt_handles import (
    AdoptedAttempt,
    AttemptHandle,
    probe_attempt,
)
from launcher.queue.workers.fork_server_pool import (
    SPARE_SUPERVISORS,
    CannotStartWorker,
    ForkServerPool,
)
from launcher.queue.workers.start_pauses import StartBackoff
from launcher.system.error_log import ErrorThrottle
from launcher.system.errors import StoreError
from launcher.system.files import read_json
from launcher.system.gpu_sharing import SharingRules
from launcher.system.processes import core_mask
from launcher.system.wakeup_pipe import WakeupPipe

logger = logging.getLogger(__name__)

LOOK_S = 0.2  # seconds; longest delay of a request that came without a wake
PREPARE_AFTER_S = 0.003  # seconds without news after which the next cycle is prepared
MOST_BATCHED = 4  # ends that are taken in together, while other jobs run in their places
HOME_GONE = " why='its database was deleted, replaced or damaged'"
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
        rules: Callable[[], SharingRules] = SharingRules,
        absent: Callable[[], str] = str,
        backends: Callable[[], Backends] = Backends,
        search_program: str = "",
    ) -> None:
        """Take over a queue folder whose lock this process holds.

        Args:
            home: The queue folder.
            store: The store of the queue.
            snapshot: Returns every GPU as it is now. Called in a separate thread.
            cpus: Cores for jobs.
            clock: Seconds since 1970.
            housekeeping: Called periodically.
            board: Publications of other users' schedulers, None for the shared folder.
            rules: Rules for sharing GPUs with others.
            absent: Returns why no GPU is visible, if so.
            backends: Returns the backends that start pilots.
            search_program: Module that runs a search; empty if there is none.
        """
        self._home, self._store, self._clock, self._housekeeping = home, store, clock, housekeeping
        self._start_backoff = StartBackoff()
        self._attempts = RunningAttempts()
        self._fork_servers = ForkServerPool(
            home,
            most_idle=cpus + SPARE_SUPERVISORS,
            on_start_failure=lambda why: self._start_backoff.record_failure(why, time.monotonic()),
            awaits_interpreters=True,
        )
        self._busy_at = time.monotonic()
        self._control = ControlState()
        self._next_read_at = 0.0  # latest time of the next read of controls, monotonic
        self.leaving = False
        self._sleeper = WakeupPipe(home.wake_pipe)
        self._error_throttle = ErrorThrottle()
        mask = core_mask()
        self._gpus = SchedulerGpus(
            home,
            snapshot,
            self._sleeper.wake_up,
            board=board,
            rules=rules,
            absent=absent,
            cores=mask,
            read_usage=UsageAccumulator(store.usage_records.past_usage, clock, time.monotonic).read,
        )
        self._launches = LaunchBatch(home, store.claims, clock)
        self._finished_attempts = FinishedAttempts(
            home, store, self._gpus, lambda claim: self._nodes.host_of(claim)
        )
        self._local = LocalNode(
            home,
            store,
            cpus=cpus,
            cores=mask,
            state=self._gpus,
            attempts=self._attempts,
            launches=self._launches,
            fork_servers=self._fork_servers,
            start_backoff=self._start_backoff,
            ended_claims=self._finished_attempts.claims,
        )
        self._here = LocalPartition(self._local, self._gpus)
        self._slot_reuse = SlotReuse(store.ready_jobs, self._launches, self._local)
        self._pilot_pool = PilotPool(home, backends, self._sleeper.wake_up)
        self._pilot_events = PilotEvents(
            home, self._pilot_pool, clock, self._attempts, self._launches.pending_claims
        )
        self._nodes = Nodes(
            home,
            self._local,
            self._pilot_pool,
            self._claims,
            store.usage_records.usage,
            self._pilot_events,
        )
        self._partitions = Partitions(
            home,
            store,
            local=self._here,
            nodes=self._nodes,
            pilot_pool=self._pilot_pool,
            pilot_events=self._pilot_events,
            backends=backends,
            clock=clock,
            attempts=self._attempts,
            specs=self._launches.specs,
        )
        self._terminator = JobTerminator(home, store.running_jobs, self._attempts, clock)
        self._executors = AbandonedExecutors(home, store)
        self._code_recorder = CodeRecorder(home)
        self._search_processes = SearchProcesses(home, store.searches, search_program)
        self._has_searches = False
        self._frozen_supervisors = FrozenSupervisors(store.running_jobs, self._attempts, clock)
        self._admission = Admission(
            store,
            cpus=cpus,
            clock=clock,
            gpus=self._gpus,
            launches=self._launches,
            nodes=self._nodes,
            partitions=self._partitions,
        )

    def _claims(self) -> Iterator[Claim]:
        """Yield the claims of all attempts that have a place."""
        yield from self._attempts.claims()
        yield from self._launches.pending_claims()

    def leave_on_signals(self, *signals: signal.Signals) -> None:
        """Leave at the next turn after one of these signals, also if the scheduler sleeps by then."""
        for number in signals:
            signal.signal(number, self.leave)
        self._sleeper.wake_on_signals()

    def leave(self, *_: object) -> None:
        """Leave at the next turn; jobs run on, and another scheduler adopts them."""
        self.leaving = True
        self._sleeper.wake_up()

    def run(self) -> None:
        """Run until asked to exit, stopped, idle for LEAVE_AFTER_S, or the queue folder is missing."""
        self._gpus.begin()
        self._pilot_pool.adopt_recorded_pilots()
        for claim in self._store.claims.open_claims():
            self._adopt(claim)
        self._fork_servers.prepare(WorkerEnvironment())
        while not self.leaving:
            try:
                if self._read_control():
                    self._slot_reuse.forbid()
                if self._control.home_is_gone:
                    break
                result = self._cycle()
                if not self._control.stop:
                    self._prepare_next(result)
            # the scheduler's top: a fault of ours in one turn must not end it, and with it all that waits
            except Exception as error:  # noqa: BLE001
                self._error_throttle.log_error(error)
                # the database is damaged: the next check finds it missing
                if isinstance(error, sqlite3.Error):
                    with self._error_throttle.suppress_and_log(StoreError):
                        queue_database_error(self._home.database, error)
                self._busy_at = time.monotonic()
                self._sleep_after_error()
                continue
            if self._may_leave(result):
                break
            self._sleep_until_news(result)
        why = "" if self._is_home() else HOME_GONE
        logger.info("scheduler pid=%d leaves%s", os.getpid(), why)
        self._gpus.leave(self._local.claims)
        self._pilot_pool.close()
        self._fork_servers.close()
        self._code_recorder.close()
        self._search_processes.close()

    def _read_control(self) -> bool:
        """Read the requests of users if the next read is due. Return whether it was due."""
        if time.monotonic() < self._next_read_at:
            return False
        if not self._is_home():  # first: a removed queue must not be used for the rest
            self._control = ControlState(home_is_gone=True)
            return True
        stop = read_json(self._home.stop_record)
        self._control = ControlState(
            stop=stop is not None or self._home.stop_record.exists(),
            stop_now=bool(stop and stop.get("now")),
            pending_actions=self._store.running_jobs.pending_actions(),
            jobs_to_kill=self._store.running_jobs.jobs_to_kill(),
            paused_jobs=self._store.running_jobs.paused_jobs(),
            group_limits=self._store.ready_jobs.slots_by_group(),
            policy=read_policy(self._home),
        )
        self._next_read_at = time.monotonic() + LOOK_S
        if has_unrecorded_code(self._store.database):
            self._code_recorder.record()
        self._has_searches = self._search_processes.ensure_running(
            running_count=not self._control.stop
        )
        self._fork_servers.retire()
        for mend in (self._sleeper.reopen_pipe, self._housekeeping):
            with self._error_throttle.suppress_and_log(OSError):  # the next cycle tries again
                mend()
        self._admission.pauses.mark_stale()
        return True

    def _is_home(self) -> bool:
        """Whether the queue is still here: not deleted, not renamed because of damage, and not replaced."""
        return self._store.is_current() and not self._home.damage_record.exists()

    def _cycle(self) -> CycleResult:
        if self._fork_servers.collect_spawned(self._sleeper.ready_descriptors):
            self._slot_reuse.forbid()
        self._pilot_events.poll_messages()
        self._poll_events(self._sleeper.ready_descriptors)
        result = CycleResult()
        if self._reuse_slots(result):
            if len(self._finished_attempts) < MOST_BATCHED and self._sleeper.is_ready():
                result.wake_within(0)  # earlier ends are recorded together with the newest ones
            else:
                self._apply_finished(result)
            return result
        self._admission.poll_nodes(result)
        reasons = self._apply_finished(result, decide=True)
        self._launch(result)
        for pilot in self._nodes.list_pilots():  # a slow network file system delays no start
            pilot.send_limits()
        self._partitions.request_pilots(self._control, result)
        if self._finished_attempts.has_due:
            result.wake_within(0)
        self._terminator.stop_and_record_jobs(self._control, self._gpus.evictions, result)
        self._attempts.pause(self._control.paused_jobs, result)
        self._frozen_supervisors.check(self._control, result)
        if claims := self._local.claims:
            result.wake_within(REFRESH_S)  # the reservations of lost jobs are published again
        if any(claim.gpus for claim in claims):
            result.wake_within(POLL_S)  # the usage of claimed GPUs is to be seen
        self._admission.explain(reasons, result)
        with self._error_throttle.suppress_and_log(OSError):
            if self._executors.end():
                result.wake_within(CHECK_S)
        return result

    def _reuse_slots(self, result: CycleResult) -> bool:
        """Start the next jobs in the places that were left; False if a decision is needed."""
        now = time.monotonic()
        if not self._slot_reuse.has_slots(now):
            return False
        with (
            self._rollback_on_error(),
            self._store.database.delay_sync(),
            self._store.database.writing(),
        ):
            filled = self._slot_reuse.start_next_jobs()
        self._launches.commit()
        self._launch(result)
        result.wake_within(self._slot_reuse.wait_s(now))
        return filled

    def _apply_finished(self, result: CycleResult, *, decide: bool = False) -> Reasons:
        """Record ends and decide which jobs start. Return the reasons of the waiting ones."""
        reasons: Reasons = {}
        ended = self._finished_attempts.prepare_due()
        with self._rollback_on_error(), transaction(self._store, bool(ended)):
            states = [self._finished_attempts.finish(attempt, self._clock()) for attempt in ended]
            if decide:
                reasons = self._admission.decide(self._control, result)
        self._finished_attempts.clear_committed(ended)
        result.wake_within(self._finished_attempts.wait_s)
        if decide:
            self._slot_reuse.allow(self._here.only_job_class, time.monotonic())
        self._launches.commit()
        for attempt, state in zip(ended, states, strict=True):
            self._cleanup_attempt(attempt, state)
        self._gpus.publish(self._local.claims)
        self._local.send_limits()
        return reasons

    @contextlib.contextmanager
    def _rollback_on_error(self) -> Iterator[None]:
        """Take back what was claimed where its transaction comes to nothing."""
        try:
            yield
        except BaseException:
            self._launches.rollback()
            self._store.database.invalidate_caches()
            self._admission.pending_queue.reset()
            raise

    def _launch(self, result: CycleResult) -> None:
        """Start what was claimed, and end the attempts for which there is no supervisor."""
        codes = set[int]()
        try:
            for attempt in self._launches.launch_committed():
                self._attempts.add(attempt.claim, attempt)
                if attempt.claim.code is not None:
                    codes.add(attempt.claim.code)
        except OSError as error:  # a job that never runs twice waits until its claim is on disk
            self._error_throttle.log_error(error)
            result.wake_within(RETRY_S)
        self._code_recorder.compare(codes)
        for claim, why in self._launches.pop_failed_claims():
            self._end_unstartable(claim, why)

    def _may_leave(self, result: CycleResult) -> bool:
        now = time.monotonic()
        at_work = bool(
            self._attempts or self._finished_attempts or any(self._launches.pending_claims())
        )
        if self._control.stop:
            return not at_work and not self._pilot_pool
        if result.has_waiting or at_work or self._pilot_pool or self._has_searches:
            self._busy_at = now
        return now - self._busy_at > LEAVE_AFTER_S

    # --- what became of attempts

    def _adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(*claim.key)
        look = partial(self._nodes.host_of(claim).adopt, claim)
        self._track(claim, probe_attempt(attempt, look))

    def _poll_events(self, readable: Collection[int] | None) -> None:
        """Process the events of attempts and pilots, and lost pilots.

        Args:
            readable: The readable descriptors, None if not known.
        """
        for claim, outcome in self._pilot_events.reap_abandoned():
            self._admission.pauses.mark_stale()
            self._slot_reuse.forbid()
            self._track(claim, outcome)
        for claim, attempt, news in self._attempts.poll_events(readable):
            self._admission.pauses.mark_stale()  # a failure may have begun a pause
            if isinstance(attempt, LaunchedAttempt):
                self._fork_servers.give_back(attempt.environment, attempt.supervisor)
            if isinstance(attempt, LaunchedAttempt) and isinstance(news, Done):
                self._slot_reuse.add_freed(attempt.assignment)
            else:
                self._slot_reuse.forbid()
            self._track(claim, news)

    def _end_unstartable(self, claim: Claim, why: CannotStartWorker) -> None:
        """End an attempt for which there is no supervisor."""
        self._admission.pauses.mark_stale()  # the end of an attempt may begin a pause
        attempt = self._home.attempt(*claim.key)
        self._track(claim, probe_attempt(attempt, partial(self._revoke_unstarted, claim, why)))

    def _revoke_unstarted(self, claim: Claim, why: CannotStartWorker) -> Outcome | AttemptHandle:
        """Void an attempt that no supervisor can start; it has failed then, or is lost."""
        news = self._nodes.host_of(claim).void_unstarted(claim)
        return why.outcome(self._clock()) if news is None else news

    def _track(self, claim: Claim, news: Outcome | AttemptHandle) -> None:
        if isinstance(news, NeverStarted) and news.blamed_on == "machine":
            self._start_backoff.record_failure(news.why, time.monotonic())
            self._here.startable.postpone(claim.job)
        if isinstance(news, Outcome):
            self._finished_attempts.add(claim, news)
            return
        self._attempts.add(claim, news)
        if isinstance(news, AdoptedAttempt):
            logger.info("job=%d attempt=%d adopted", *claim.key)

    def _cleanup_attempt(self, ended_attempt: FinishedAttempt, state: State | None) -> None:
        """Delete the folder of an attempt that this machine could not start; log how it ended."""
        job, number = ended_attempt.claim.job, ended_attempt.claim.number
        if (
            isinstance(ended_attempt.outcome, NeverStarted)
            and ended_attempt.outcome.blamed_on == "machine"
        ):
            delete_attempt_folder(self._home.attempt(job, number))
        logger.info(
            "job=%d attempt=%d state=%s ending=%s",
            job,
            number,
            state,
            outcome_kind(ended_attempt.outcome),
        )

    # --- between turns

    def _prepare_next(self, result: CycleResult) -> None:
        """Prepare the start of the job that will follow the newest one, while nothing else is to do.

        Not between jobs that end at once: it would take the time that they need.
        """
        place = self._attempts.newest_assignment()
        if place is None or result.max_sleep_s < PREPARE_AFTER_S:
            return
        if self._sleeper.is_ready(PREPARE_AFTER_S):
            return
        with contextlib.suppress(OSError):  # a full disk is met when the job starts
            attempt = self._launches.prepare_next_spec(place, self._local.gpus)
            if attempt is not None:
                self._attempts.prefetch_spec(place, attempt)

    def _sleep_until_news(self, result: CycleResult) -> None:
        """Sleep until a descriptor is readable or the next cycle is due."""
        if self._has_searches:
            result.wake_within(RETRY_S)  # a process that ended is started again
        watched = {*self._fork_servers.descriptors(), *self._attempts.descriptors()}
        others = self._gpus.watch_descriptor if result.has_waiting else NOT_WATCHED
        if others != NOT_WATCHED:
            watched.add(others)
        elif result.has_waiting and self._gpus.ignore_wakeups_s > 0:
            result.wake_within(self._gpus.ignore_wakeups_s)
        if self._partitions.sleep_and_poll(self._sleeper, watched, result.max_sleep_s):
            self._next_read_at = 0.0
        if self._sleeper.ready_descriptors and others in self._sleeper.ready_descriptors:
            self._gpus.poll_events()

    def _sleep_after_error(self) -> None:
        """Sleep after a failed cycle. Descriptors that are readable now stay so and do not end the sleep."""
        self._sleeper.poll_until((), RETRY_S)
        self._sleeper.ready_descriptors = None
        self._next_read_at = 0.0
