"""The scheduler's view of the GPUs: samples of the driver, running attempts, and what other schedulers publish.

Other schedulers publish reservations, waiting jobs and the usage of each user. If they have reserved something in the
meantime, the decisions of the cycle are made again.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from launcher.queue.gpu.gpus_file import GpusFile, read_gpu_status, read_known_attempts
from launcher.queue.gpu.monitor import NO_SAMPLE, GpuPoller, OwnProcesses
from launcher.queue.gpu.own_reservations import Reservation, sum_by_resource
from launcher.queue.gpu.reservation_files import reservations_folder
from launcher.queue.gpu.reservation_watch import NOT_WATCHED, ReservationWatch
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.resources import MEMORY, ForeignReservation, core_resource_name
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.accounts import NO_RESOURCE_USAGE, ResourceDemand, ResourceUsage
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.gpus.eviction import Eviction, jobs_on_failed_gpus
from launcher.queue.scheduler.gpus.gpu_ledger import (
    GpuAccounting,
    reservations_of,
    shared_memory_gpus,
)
from launcher.queue.scheduler.gpus.memory_shortage import LastingReservations, choose_evictions
from launcher.queue.scheduler.gpus.running_place import is_estimated
from launcher.queue.scheduler.gpus.sent_limits import VramLimitWriter
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy
from launcher.queue.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import MeasuredUsage
from launcher.queue.workers.attempt_journal import read_program
from launcher.system.gpu_sharing import SharingRules
from launcher.system.memory import read_process_groups
from launcher.system.processes import pid_namespace, seconds_since_start

FOREIGN_MAX_AGE_S = (
    0.02  # seconds; older publications of others must be read again before jobs start
)
READ_PAUSE_FACTOR = (
    20  # another user may have filled the folder: reading it takes at most a twentieth of the time
)
FLOOD_S = 0.02  # changes of others that follow each other so soon are taken in together

ReadUsage = Callable[[Collection[Claim], Sequence[GpuSnapshot]], ResourceUsage]
SAMPLE_MAX_AGE_S = 3.0  # older samples are too old to decide by
NO_SAMPLE_YET = "waiting for the state of the GPUs"
logger = logging.getLogger(__name__)


def _confirm_start(old_decision: Decision, new_decision: Decision) -> Decision:
    """Return a start that is still valid with the newest reservations of others, otherwise its waiting reason."""
    if (
        not isinstance(old_decision, Start)
        or isinstance(new_decision, Wait)
        or old_decision == new_decision
    ):
        return new_decision if isinstance(old_decision, Start) else old_decision
    if new_decision.devices == old_decision.devices:
        return old_decision
    return Wait(
        job=old_decision.job,
        reason="waiting for a new decision: another scheduler took the place first",
        code=ReasonCode.OUTPACED,
    )


class SchedulerGpus:
    """GPU state of one scheduler, with its published reservations. These values need not survive a restart.

    Attributes:
        accounting: Reservations and usage of attempts.
        has_peer_change: Another scheduler has published a change that only a new reading can show.
        evictions: Job that has to leave its GPU → reason.
    """

    def __init__(
        self,
        home: Home,
        query: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
        *,
        board: ReservationBoard | None = None,
        rules: Callable[[], SharingRules] = SharingRules,
        absent: Callable[[], str] = str,
        cores: int = -1,
        read_usage: ReadUsage = lambda _claims, _gpus: NO_RESOURCE_USAGE,
    ) -> None:
        """Start without a reading.

        Args:
            home: The queue folder.
            query: Returns every GPU as it is now. It may hang.
            wake: Called in another thread when there is a new reading.
            board: Publications of other users' schedulers, None for the shared folder.
            rules: Rules for sharing GPUs with other users.
            absent: Returns why no GPU is visible, if so.
            cores: Mask of the cores for jobs.
            read_usage: Returns the usage of this queue, including running attempts.
        """
        ours, folder = OwnProcesses(), reservations_folder(os.environ)
        self._home, self._rules, self._absent = home, rules, absent
        self._poller = GpuPoller(query, wake, own_pids=lambda: ours)
        self.accounting = GpuAccounting(home, ours)
        self._sample = NO_SAMPLE
        # GPUs that count before the first reading: attempts may still have main memory through them
        self._recorded_unified: tuple[GpuSnapshot, ...] = ()
        self._limit_writer = VramLimitWriter(home)
        self._board = board or ReservationBoard(folder, home.folder, quotas=read_process_groups())
        self._watch, self._read_usage, self._core_mask = ReservationWatch(folder), read_usage, cores
        self._woken_at, self._ignore_wakeups_until = -inf, -inf
        self._published: list[Reservation] = []
        self._foreign: tuple[ForeignReservation, ...] = ()
        self._foreign_at, self._foreign_took_s = -inf, 0.0
        self._announced_demand: tuple[int, ResourceDemand] | None = (
            None  # the job for which others know that we wait
        )
        self.has_peer_change = False
        self._file = GpusFile(home)
        self._faults: dict[str, str] = {}
        self._logged_unmeasured: set[str] = set()  # GPUs whose missing measurement was logged
        self.evictions: dict[int, Eviction] = {}
        self._lasting_reservations = LastingReservations()
        self._sampled_claims: list[Claim] = []  # attempts that ran at the newest reading

    @property
    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs of this machine at the newest reading."""
        return tuple(self._sample.gpus)

    @property
    def has_recent_sample(self) -> bool:
        """Whether there is a recent reading. A hanging driver counts as a known state."""
        age_s = time.monotonic() - self._sample.at - self._sample.query_s
        return age_s < SAMPLE_MAX_AGE_S or (age_s < inf and self._poller.is_overdue())

    @property
    def no_sample_reason(self) -> str:
        """Why nothing is known of the GPUs yet."""
        trouble = self._poller.error
        return f"{NO_SAMPLE_YET} ({trouble})" if trouble else NO_SAMPLE_YET

    def has_sample_since(self, timestamp: float) -> bool:
        """Whether there was a reading after a time (monotonic)."""
        return self._sample.at > timestamp

    def poll(
        self,
        claims: Collection[Claim],
        jobs_by_pid: Mapping[int, int],
        *,
        is_wanted: bool,
        is_measuring: bool = False,
    ) -> dict[int, Eviction]:
        """Request a reading if necessary, and process the newest one. Return the jobs to evict, with reasons.

        Args:
            claims: The running attempts.
            jobs_by_pid: pid → job of programs whose supervisors are dead.
            is_wanted: A job runs on a GPU or waits for one.
            is_measuring: A job waits for the measurement of a new attempt.
        """
        self.accounting.set_own_processes(claims, jobs_by_pid)
        if not is_wanted or self._poller.request_sample(
            after_change=self.has_peer_change, is_measuring=is_measuring
        ):
            self.has_peer_change = False
        self._sample = self._poller.latest_sample() or NO_SAMPLE
        if not self.accounting.record_sample(self._sample, claims):
            return {}
        self._note_faults(self._sample.gpus)
        self._note_unmeasured(claims)
        self.read_foreign()
        leaving = jobs_on_failed_gpus(claims, self._sample.gpus)
        keys = {claim.key for claim in claims}
        ended = {
            uuid for claim in self._sampled_claims if claim.key not in keys for uuid in claim.gpus
        }
        # the memory of attempts that have ended since the reading is still counted as used
        self._sampled_claims = [*claims]
        leaving |= choose_evictions(
            [
                gpu
                for gpu in self._sample.gpus
                if gpu.uuid not in ended
                and not gpu.shares_host_memory
                and self.accounting.memory_is_known(gpu)
            ],
            [*claims],
            self.accounting.usage_tracker,
            self._lasting_reservations.add_sample(self._sample.at, self._foreign),
            self.evictions,
            now=time.time(),
        )
        self._write_file()
        return leaving

    def evict(self, evictions: Mapping[int, Eviction]) -> None:
        """Note which jobs have to leave their GPUs, on any node."""
        for job, eviction in evictions.items():
            if job not in self.evictions:
                logger.warning("job=%d stop reason=%r", job, eviction.why)
            self.evictions[job] = eviction

    def machine_fields(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return the fields of a `Machine` about GPUs, except the running attempts."""
        return {
            "gpus": tuple(
                replace(gpu, reports_load=gpu.uuid not in self.accounting.unmeasured)
                for gpu in self.accounting.usage_tracker.gpus_without_ended(
                    claims,
                    self._recorded_unified if self._sample is NO_SAMPLE else self._sample.gpus,
                )
            ),
            "rules": self._rules(),
            "absent": self._absent(),
            **self.peer_fields(claims),
            "idle": self._sample.idle,
            "foreign_load": self.accounting.foreign_load,
        }

    def measured_usage(self, claim: Claim) -> MeasuredUsage:
        """Return what was seen of an attempt on GPUs that has ended."""
        seen = self.accounting.usage_tracker.measured_usage(claim, self._sample.gpus)
        return self.accounting.shared_time.measured_sharing(claim)._replace(
            peak=seen.peak, machine=seen.machine, elapsed_s=self._elapsed_s(claim)
        )

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs lately, if it was seen."""
        return self.accounting.usage_tracker.others_usage(claim)

    def _elapsed_s(self, claim: Claim) -> float | None:
        """Return the seconds since an attempt's program began, independent of clock changes. None if unknown."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            program = read_program(self._home.attempt(*claim.key))
            return None if program is None else seconds_since_start(program)
        return None

    def gpu_fingerprints(self) -> list[str]:
        """Return the fingerprints of this machine's GPUs, as far as they are known."""
        return [gpu.fingerprint for gpu in self._sample.gpus if gpu.total]

    def send_limits(self, claims: Collection[Claim]) -> None:
        """Send workers their VRAM limits."""
        if on_gpus := [claim for claim in claims if claim.gpus]:
            self.accounting.set_own_processes(on_gpus)  # jobs about to start are ours, too
            limits = self.accounting.usage_tracker.vram_limits(on_gpus)
            self._limit_writer.send_limits(on_gpus, limits)

    def _note_faults(self, gpus: Sequence[GpuSnapshot]) -> None:
        faults = {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
        for gpu in gpus:
            before, now = self._faults.get(gpu.uuid, ""), gpu.fault
            if before != now:
                logger.warning("%s uuid=%s fault=%r before=%r", gpu.label, gpu.uuid, now, before)
                self._file.force_write()
        self._faults = faults

    def _note_unmeasured(self, claims: Iterable[Claim]) -> None:
        """Log once which GPUs do not report the load of our jobs."""
        used = {uuid for claim in claims for uuid in claim.gpus}
        for gpu in self._sample.gpus:
            if gpu.uuid in used & self.accounting.unmeasured - self._logged_unmeasured:
                logger.info(
                    "%s does not report the load of each job: a fixed number shares it", gpu.label
                )
        self._logged_unmeasured |= used & self.accounting.unmeasured

    def _write_file(self) -> None:
        self._file.write(self._sample.gpus, self._board.error, self.accounting.records())

    # --- publications of others

    @property
    def foreign(self) -> tuple[ForeignReservation, ...]:
        """Recent reservations of other queues. New ones are read before any start."""
        pause_s = max(FOREIGN_MAX_AGE_S, READ_PAUSE_FACTOR * self._foreign_took_s)
        if time.monotonic() > self._foreign_at + pause_s:
            self.read_foreign()
        return self._foreign

    def read_foreign(self) -> None:
        """Read the reservations of other queues."""
        began = time.thread_time()  # while others have the core nothing is taken from our jobs
        self._foreign = self._board.foreign_reservations(self._sample.at)
        self._foreign_took_s = time.thread_time() - began
        self._foreign_at = time.monotonic()

    @property
    def watch_descriptor(self) -> int:
        """A descriptor that is readable when another scheduler publishes a change. NOT_WATCHED if there is none now."""
        return self._watch.descriptor if self.ignore_wakeups_s <= 0 else NOT_WATCHED

    @property
    def ignore_wakeups_s(self) -> float:
        """For how many seconds no change of others wakes us: somebody has changed a file again and again."""
        return self._ignore_wakeups_until - time.monotonic()

    def poll_events(self) -> None:
        """Read the publications of other schedulers at once if a publication has changed."""
        now = time.monotonic()
        if now < self._woken_at + FLOOD_S:
            self._ignore_wakeups_until = now + max(
                FLOOD_S / 2, READ_PAUSE_FACTOR * self._foreign_took_s
            )
        self._woken_at = now
        if self._watch.poll_peer_changes(self._board.names):
            self._foreign_at, self.has_peer_change = -inf, True

    def peer_fields(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return the fields of a `Machine` about other users."""
        foreign = self.foreign
        self._update_usage(claims)
        return {
            "foreign": foreign,
            "peers": self._board.peers(),
            "use": self._board.total_usage(),
        }

    @property
    def has_waiting_peers(self) -> bool:
        """Whether the schedulers of others wait, as read lately."""
        return bool(self._board.peers())

    # --- our publications

    def _update_usage(self, claims: Collection[Claim]) -> None:
        counted = [self._with_estimate(claim) for claim in claims]
        self._board.set_usage(self._read_usage(counted, self._sample.gpus))

    def _with_estimate(self, claim: Claim) -> Claim:
        """Return an attempt with its usage or its estimate as its reservation."""
        if not is_estimated(claim):
            return claim
        taken = self.accounting.usage_tracker.memory_of(claim)
        known = [*taken.used.values(), *filter(None, (taken.estimate,))]
        return replace(claim, vram=max(known)) if known else claim

    def announce_demand(
        self, demand: ResourceDemand | None, job: int = 0, present: Container[int] = frozenset()
    ) -> None:
        """Set the published request. Others read it after the next publication of our reservations.

        Args:
            demand: The request, None if there is none or we yield now.
            job: The waiting job.
            present: The waiting jobs. A job that yields keeps its waiting time.
        """
        told = self._announced_demand
        if demand is not None:
            since = told[1].since if told is not None and told[0] == job else time.monotonic()
            demand = demand._replace(since=since)
            self._announced_demand = job, demand
        elif told is not None and told[0] not in present:
            self._announced_demand = None
        self._board.demand = demand

    @property
    def demand(self) -> ResourceDemand | None:
        """Our request, whether it is published now or not."""
        return None if self._announced_demand is None else self._announced_demand[1]

    def publish_starts(
        self,
        decisions: list[Decision],
        claims: Collection[Claim],
        decided_on: tuple[Sequence[Waiting], Sequence[Running], Machine, float],
        policy: SchedulingPolicy = DEFAULT_POLICY,
    ) -> list[Decision]:
        """Publish the reservations of jobs about to start. Newer reservations of other users take precedence.

        Args:
            decisions: The decisions.
            claims: The running attempts.
            decided_on: Waiting and running jobs, machine and time of the decisions, as `decide`
                takes them.
            policy: The policy of the decisions.
        """
        starts = [decision for decision in decisions if isinstance(decision, Start)]
        if not starts:
            return decisions
        if self._announced_demand is not None and any(
            start.job == self._announced_demand[0] for start in starts
        ):
            self._announced_demand = None
        self.accounting.started_estimates |= {start.job: start.estimate for start in starts}
        waiting, running, machine, now = decided_on
        totals = {gpu.uuid: gpu.total for gpu in machine.gpus}
        resources = {job.job: job.resources for job in waiting}
        reservations = self.accounting.reservations(claims, self._core_mask, machine.rules)
        for start in starts:
            reservations += reservations_of(
                start,
                resources[start.job],
                totals=totals,
                unified_gpus=shared_memory_gpus(machine.gpus),
                estimate=start.estimate,
                mask=self._core_mask,
                rules=machine.rules,
            )
        if not any(decision.devices for decision in starts) and self._board.covers(reservations):
            return decisions
        published = self._board.publish(reservations, {decision.job for decision in starts})
        self._published = []  # after this decision something else is published
        earlier = (
            self._board.prior_reservations(self._sample.at)
            if published
            else self._board.foreign_reservations(self._sample.at)
        )
        if sum_by_resource(earlier) <= sum_by_resource(machine.foreign):
            return decisions
        self._foreign, self._foreign_at = earlier, time.monotonic()
        again = decide(waiting, running, machine._replace(foreign=earlier), now, policy)
        settled = [
            _confirm_start(decision, other)
            for decision, other in zip(decisions, again, strict=True)
        ]
        self._board.withdraw({decision.job for decision in settled if isinstance(decision, Wait)})
        return settled

    def publish(self, claims: Collection[Claim]) -> None:
        """Publish the reservations of running attempts if the published ones are outdated."""
        self._update_usage(claims)
        reservations = self.accounting.reservations(claims, self._core_mask, self._rules())
        here = pid_namespace()
        self._board.supervisors = tuple(
            replace(claim.supervisor, namespace=here) for claim in claims
        )
        changed = self._board.has_notable_change(reservations)
        if changed or self._is_publication_outdated(reservations) or self._board.is_due():
            self._board.publish(reservations)
            self._published = reservations
        if self._board.error or self._file.error:
            self._write_file()

    def _is_publication_outdated(self, reservations: Sequence[Reservation]) -> bool:
        """Whether the publication must be renewed. It need not state which job has which cores."""
        counted = {core_resource_name(self._core_mask), MEMORY}
        if counted.issuperset(
            reservation.device for reservation in (*reservations, *self._published)
        ):
            return not self._board.states_exactly(reservations)
        return [(reservation.job, reservation.device) for reservation in reservations] != [
            (reservation.job, reservation.device) for reservation in self._published
        ]

    def begin(self) -> None:
        """Clear away what schedulers of our user left that were killed."""
        self._board.remove_abandoned()
        self.accounting.adopt(read_known_attempts(self._home), time.monotonic())
        known = read_gpu_status(self._home)
        self._recorded_unified = tuple(
            gpu for gpu in (known.gpus if known else ()) if gpu.shares_host_memory
        )

    def leave(self, claims: Collection[Claim]) -> None:
        """Leave; the reservations of what still runs stay for a successor to take over."""
        if not claims:  # the recent usage of this queue stays published
            self._board.demand = None
            self._board.publish(())
