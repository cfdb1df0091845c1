"""GPU memory that attempts have reserved and use, as reported by the driver or, without it, by their workers."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from launcher.queue.gpu.monitor import NO_SAMPLE, GpuSample, OwnProcesses
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.resources import EXCLUSIVE, JOBS, MEMORY, core_resource_name, resource_name
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.gpus.reported_ends import ReportedEnds
from launcher.queue.scheduler.gpus.shared_time import SharedTime
from launcher.queue.scheduler.gpus.taken_memory import GpuUsageTracker
from launcher.queue.scheduler.policy.model import Start
from launcher.queue.store.rows import Claim
from launcher.queue.workers.memory_share import (
    read_report,
)
from launcher.system.files import Json
from launcher.system.gpu_sharing import SharingRules

HIDDEN_S = 10.0  # seconds for which a program may load its libraries before the driver lists it
NO_USED_BYTES: Mapping[str, int] = MappingProxyType({})


def reservations_of(
    start_or_claim: Start | Claim,
    resources: Resources,
    *,
    totals: Mapping[str, int],
    unified_gpus: Collection[str] = (),
    used_bytes: Mapping[str, int] = NO_USED_BYTES,
    estimate: int | None = None,
    mask: int = -1,
    rules: SharingRules = SharingRules(),  # noqa: B008  # a frozen value
) -> list[Reservation]:
    """Return the reservations of a job as published for others.

    An exclusive reservation is the whole GPU.

    Args:
        start_or_claim: Place that the job has or will get.
        resources: Its request.
        totals: Memory of each GPU.
        unified_gpus: GPUs that use the main memory of the machine.
        used_bytes: Measured usage by the job.
        estimate: Reserved bytes if the reservation follows the usage, None for a fixed part of the
            GPU.
        mask: Mask of the cores that it may get.
        rules: Size of that part.
    """
    told: list[tuple[str, int, int | None]] = [
        (core_resource_name(mask), start_or_claim.cpus, None)
    ]
    ram = resources.ram or 0
    for uuid in (
        start_or_claim.devices if isinstance(start_or_claim, Start) else start_or_claim.gpus
    ):
        total = totals.get(uuid, 0)
        size = start_or_claim.vram
        if size is None and not start_or_claim.exclusive:
            size = rules.unknown_bytes(total) if estimate is None else estimate
        if uuid in unified_gpus:
            ram += size or 0
        if size is None:
            size = total
        if resources.exclusive:
            size = max(total, size)
            told.append((resource_name(EXCLUSIVE, uuid), 1, None))
        told += [(uuid, size, used_bytes.get(uuid)), (resource_name(JOBS, uuid), 1, None)]
    if ram:
        told.insert(1, (MEMORY, ram, None))
    return [Reservation(*each, job=start_or_claim.job) for each in told]


def shared_memory_gpus(gpus: Iterable[GpuSnapshot]) -> frozenset[str]:
    """Return the UUIDs of the GPUs that use the main memory of the machine."""
    return frozenset(gpu.uuid for gpu in gpus if gpu.shares_host_memory)


class GpuAccounting:
    """Reservations on the one side, measurements on the other; one per scheduler."""

    def __init__(self, home: Home, own_processes: OwnProcesses) -> None:
        """Start without measurements.

        Args:
            home: Queue folder with attempts and the reports of their workers.
            own_processes: Receives the pids of the supervisors.
        """
        self._ours = own_processes
        self._sample = NO_SAMPLE
        self._unsupervised: dict[int, int] = {}
        self.shared_time = SharedTime(home)
        self.usage_tracker = GpuUsageTracker(
            lambda claim: read_report(home.attempt(*claim.key)),
            ReportedEnds(home),
            self.shared_time.recent_load,
        )
        self._lists_own_processes = False  # True if the driver lists our processes: a process that is missing there has exited
        # job → what was estimated when it started
        self.started_estimates: dict[int, int | None] = {}
        # GPUs whose driver lists no process although ours work there
        self._gpus_hiding_processes: set[str] = set()
        self._job_by_pid: dict[int, int] = {}  # our processes at the newest reading, and their jobs
        self.foreign_load: dict[str, tuple[float, int]] = {}
        # GPUs that do not report the load of our jobs
        self.unmeasured: frozenset[str] = frozenset()

    def record_sample(self, sample: GpuSample, claims: Iterable[Claim]) -> bool:
        """Record the usage of the running attempts. Return whether the reading is new.

        Args:
            sample: Reading of the GPUs.
            claims: The running attempts.
        """
        if sample.at == self._sample.at:
            return False
        running = {claim.job: claim for claim in claims if claim.gpus}
        self.set_own_processes(claims)
        self.shared_time.record_sample(sample, [*claims], self._ours.job_of_pid)
        by_driver = self._driver_usage(sample.gpus, running)
        self._sample = sample

        def driver_usage(claim: Claim) -> tuple[dict[str, int], set[str]]:
            told = by_driver[claim.job]
            used = {uuid: amount for uuid, amount in told.items() if amount is not None}
            return used, {
                u for u in claim.gpus if u in told or not self._lists_own_processes
            } - used.keys()

        self.usage_tracker.record_sample(running.values(), sample.gpus, driver_usage, sample.at)
        self.started_estimates = {
            job: size for job, size in self.started_estimates.items() if job not in running
        }
        self._gpus_hiding_processes |= {
            gpu.uuid for gpu in sample.gpus if self._hides_processes(gpu, running)
        }
        if self._lists_own_processes:
            self._gpus_hiding_processes.clear()
        self.unmeasured = frozenset(
            gpu.uuid
            for gpu in sample.gpus
            if not gpu.reports_load or gpu.uuid in self._gpus_hiding_processes
        )
        self._count_foreign(sample.gpus)
        return True

    def _count_foreign(self, gpus: Iterable[GpuSnapshot]) -> None:
        """Compute the load of other users' processes per GPU, 0 to 1, and their number.

        A process of ours that has ended since the reading is not one of theirs.
        """
        before, self._job_by_pid, self.foreign_load = self._job_by_pid, {}, {}
        for gpu in gpus:
            load, number = 0.0, 0
            for process in gpu.processes or ():
                job = self._ours.job_of_pid(process.pid)
                if job is not None:
                    self._job_by_pid[process.pid] = job
                elif process.pid not in before:
                    load, number = load + (process.sm or 0.0), number + 1
            self.foreign_load[gpu.uuid] = load, number

    def memory_is_known(self, gpu: GpuSnapshot) -> bool:
        """Return whether the driver reports the memory of each process on a GPU."""
        if gpu.processes is None or gpu.uuid in self._gpus_hiding_processes:
            return False
        return all(process.used is not None for process in gpu.processes)

    def _hides_processes(self, gpu: GpuSnapshot, running_claims: Mapping[int, Claim]) -> bool:
        """Return whether a driver lists no process on a GPU although a job of ours works there, as in containers."""
        if gpu.processes or not gpu.utilisation:
            return False
        there = (claim for claim in running_claims.values() if gpu.uuid in claim.gpus)
        ages = (
            growth.age_s for each in there if (growth := self.usage_tracker.memory_of(each).growth)
        )
        return max(ages, default=0.0) >= HIDDEN_S

    def set_own_processes(
        self, claims: Iterable[Claim], jobs_by_pid: Mapping[int, int] | None = None
    ) -> None:
        """Update the set of our processes before the next reading uses it.

        Args:
            claims: The attempts that run or are about to start.
            jobs_by_pid: pid → job of programs whose supervisors are dead, None for no change.
        """
        if jobs_by_pid is not None:
            self._unsupervised = dict(jobs_by_pid)
        jobs = {claim.job for claim in claims if claim.gpus}
        lone = {pid: job for pid, job in self._unsupervised.items() if job in jobs}
        supervised = jobs - set(lone.values())
        heads = {claim.pid: claim.job for claim in claims if claim.job in supervised}
        self._ours.jobs_by_root_pid = heads | lone

    def records(self) -> list[Json]:
        """Return what is known of the attempts that run, for a scheduler that takes over."""
        return [
            {"job": job, "number": number, **record, **self.shared_time.to_json((job, number))}
            for (job, number), record in self.usage_tracker.records().items()
        ]

    def adopt(self, records: Iterable[Json], now: float) -> None:
        """Take over what the scheduler before us knew of attempts; what cannot be understood is left out.

        Args:
            records: records that the earlier scheduler wrote.
            now: monotonic seconds.
        """
        for record in records:
            if not isinstance(record, dict):
                continue
            match record:
                case {"job": int() as job, "number": int() as number}:
                    self.usage_tracker.adopt((job, number), record, now)
                    self.shared_time.adopt((job, number), record, now)

    def _driver_usage(
        self, gpus: Iterable[GpuSnapshot], running_claims: Mapping[int, Claim]
    ) -> defaultdict[int, dict[str, int | None]]:
        """Return the driver's values for our processes by job and GPU, None if their memory is not reported."""
        used = defaultdict[int, dict[str, int | None]](dict)
        for gpu in gpus:
            for process in gpu.processes or ():
                job = self._ours.job_of_pid(process.pid)
                if (
                    job is None
                    or job not in running_claims
                    or gpu.uuid not in running_claims[job].gpus
                ):
                    continue
                self._lists_own_processes = True
                there = used[job].get(gpu.uuid, 0)
                if there is None or not process.used:  # in a container some say zero
                    used[job][gpu.uuid] = None
                else:
                    used[job][gpu.uuid] = there + process.used
        return used

    def reservations(
        self,
        claims: Iterable[Claim],
        mask: int = -1,
        rules: SharingRules = SharingRules(),  # noqa: B008  # frozen
    ) -> list[Reservation]:
        """Return the published reservations of the running attempts, with their usage.

        Args:
            claims: The attempts.
            mask: Mask of the cores that they may get.
            rules: Reservation of an attempt without measurements.
        """
        totals = {gpu.uuid: gpu.total for gpu in self._sample.gpus}
        reservations = []
        for claim in claims:
            reservations += reservations_of(
                claim,
                claim.spec.resources,
                totals=totals,
                unified_gpus=shared_memory_gpus(self._sample.gpus),
                used_bytes=self.usage_tracker.memory_of(claim).used,
                estimate=self._published_estimate(claim, rules),
                mask=mask,
                rules=rules,
            )
        return reservations

    def _published_estimate(self, claim: Claim, rules: SharingRules) -> int | None:
        """Return the published reservation in bytes of an attempt whose reservation follows its usage.

        None for the fixed part with which each such attempt starts. Beyond that the reservation
        grows only into half of the free memory. Otherwise the estimates of two queues could block
        each other on a GPU with room for both.
        """
        taken = self.usage_tracker.memory_of(claim)
        if taken.growth is None:  # no reading contains the attempt yet
            return self.started_estimates.get(claim.job)
        if taken.estimate is None:
            return None
        most = taken.estimate
        for gpu in self._sample.gpus:
            if gpu.uuid in claim.gpus and gpu.used is not None:
                room = taken.used.get(gpu.uuid, 0) + max(0, gpu.total - gpu.used) // 2
                most = min(most, max(room, rules.unknown_bytes(gpu.total)))
        return most
