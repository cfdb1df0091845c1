"""Shared GPU time of attempts, their load alone, and their slowdown by other jobs.

These measurements need not survive the scheduler: the results are stored when an attempt ends.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import exp

from launcher.queue.gpu.monitor import GpuSample
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad, make_load
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import LONGEST_S, NOT_MEASURED, MeasuredUsage, slowdown_per_job
from launcher.queue.workers.progress.steps import ProgressReport, read_newest_report
from launcher.system.files import Json
from launcher.system.units import median

LONGEST_GAP_S = (
    30.0  # seconds; in a longer gap between two readings other processes may have come and gone
)
LEAST_S = 5.0  # seconds of steps alone, and the same of shared steps, before they are compared
LEAST_STEPS = 3
LOADING_S = 60.0  # seconds for which an attempt without a kernel counts as loading
LEAST_SAMPLED_S = 0.6  # seconds of readings before a mean load is known
RECENT_S = 20.0  # seconds after which a reading counts a third in the load of a running attempt
BUSY = 0.05  # a process of another user with a lower load slows down no job
LARGE_BYTES = 1 << 30  # bytes; the same for a process with less memory, if its load is not reported
FULL_UTILISATION = 0.9  # use of a GPU up to which each of its jobs is as busy as alone
MOST_SLOWDOWN = 100.0
LEAST_SHARE = 0.5  # least shared part of an attempt whose duration shows its slowdown


@dataclass(slots=True)
class _StepRate:
    """Steps that were made, and in how many seconds."""

    steps: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Steps per second, None if there are too few."""
        if self.seconds < LEAST_S or self.steps < LEAST_STEPS:
            return None
        return self.steps / self.seconds


@dataclass(slots=True)
class _AttemptTimes:
    """Measurements of one attempt so far."""

    at: float  # time of the newest reading, monotonic
    began: float  # the first one
    is_complete: bool  # the attempt was seen from its beginning
    neighbours: int | None = None  # others on the attempt's GPUs at that reading
    step: ProgressReport | None = None
    shared_s: float = 0.0
    shared_others_s: float = 0.0  # the others there were, times the seconds of `shared_s`
    alone_steps: _StepRate = field(default_factory=_StepRate)
    shared_steps: _StepRate = field(default_factory=_StepRate)
    others_s: float = 0.0  # number of others, multiplied by the seconds of `shared_steps`
    busy_s: float = 0.0  # the use of the attempt's GPUs times seconds
    sampled_s: float = 0.0  # seconds of these readings
    recent_busy_s: float = 0.0  # both again, with exponentially decreasing weight of older readings
    recent_sampled_s: float = 0.0
    idle_s: float = (
        0.0  # seconds of the newest readings without load: they count at the next reading
    )

    @property
    def recent_load(self) -> float:
        """How busy it kept its GPUs lately, 0 to 1; 0 if that was not measured."""
        return self.recent_busy_s / self.recent_sampled_s if self.recent_sampled_s > 0 else 0.0

    def count(self, share: float, seconds: float) -> None:
        """Count that it kept its GPUs busy for a share of some seconds."""
        self.busy_s += share * seconds
        self.sampled_s += seconds
        kept = exp(-seconds / RECENT_S)
        self.recent_busy_s = self.recent_busy_s * kept + share * seconds
        self.recent_sampled_s = self.recent_sampled_s * kept + seconds


class SharedTime:
    """Measurements of each running attempt over the readings."""

    def __init__(self, home: Home) -> None:
        """Start without attempts.

        Args:
            home: Queue folder with the progress of attempts.
        """
        self._home = home
        self._times: dict[tuple[int, int], _AttemptTimes] = {}
        self._has_sampled = False

    def record_sample(
        self, sample: GpuSample, claims: Collection[Claim], job_of_pid: Callable[[int], int | None]
    ) -> None:
        """Add a reading.

        Args:
            sample: A new reading.
            claims: The running attempts.
            job_of_pid: Returns the job of a process, None if it is not one of ours.
        """
        gpus = {gpu.uuid: gpu for gpu in sample.gpus}
        owners = {
            process.pid: job_of_pid(process.pid)
            for gpu in sample.gpus
            for process in gpu.processes or ()
        }
        accounts = {}
        for claim in claims:
            if not claim.gpus:
                continue
            key = claim.key
            account = self._times.get(key)
            if account is None:
                account = _AttemptTimes(
                    at=sample.at, began=sample.at, is_complete=self._has_sampled
                )
            there = [gpus[uuid] for uuid in claim.gpus if uuid in gpus]
            self._count_steps(
                account, sample.at, claim, _count_neighbours(claim, claims, there, owners)
            )
            self._count_load(account, sample.at, claim.job, there, owners)
            account.at = sample.at
            accounts[key] = account
        self._times, self._has_sampled = accounts, True

    def measured_sharing(self, claim: Claim) -> MeasuredUsage:
        """Return how an attempt shared its GPUs, as far as that was seen."""
        account = self._times.get(claim.key)
        if account is None:
            return NOT_MEASURED
        return MeasuredUsage(
            shared_s=account.shared_s if account.is_complete else None,
            slowdown=_slowdown(account),
            others=_mean_others(account),
            sm=account.busy_s / account.sampled_s if account.sampled_s >= LEAST_SAMPLED_S else None,
        )

    def recent_load(self, claim: Claim) -> GpuLoad:
        """Return what a running attempt does to its GPUs lately, as far as it was measured."""
        account = self._times.get(claim.key)
        if account is None:
            return UNKNOWN_LOAD
        enough = account.sampled_s >= LEAST_SAMPLED_S and account.recent_sampled_s > 0
        return make_load(
            account.recent_busy_s / account.recent_sampled_s if enough else None,
            slowdown_per_job(_slowdown(account), _mean_others(account)),
            is_measured=True,
            steps=account.step is not None,
        )

    def to_json(self, key: tuple[int, int]) -> dict[str, Json]:
        """Return what is known of the load of a running attempt, for a scheduler that takes over.

        Args:
            key: its job and number.
        """
        account = self._times.get(key)
        if account is None:
            return {}
        return {"load": account.recent_load, "load_s": account.recent_sampled_s}

    def adopt(self, key: tuple[int, int], record: Mapping[str, Json], now: float) -> None:
        """Take over what the scheduler before us knew; what cannot be true counts as not known.

        Args:
            key: key of an attempt, its job and number.
            record: record that `to_json` returned.
            now: monotonic seconds.
        """
        match record:
            case {"load": int() | float() as load, "load_s": int() | float() as seconds} if (
                0 <= load <= 1 and 0 < seconds <= LONGEST_S
            ):
                account = _AttemptTimes(at=now, began=now, is_complete=False)
                account.count(load, seconds)
                self._times[key] = account

    def _count_steps(
        self, account: _AttemptTimes, timestamp: float, claim: Claim, neighbours: int
    ) -> None:
        """Add the time since the last reading, and the steps in it."""
        passed_s = timestamp - account.at
        step = read_newest_report(self._home.attempt(*claim.key).progress)
        before, account.neighbours = account.neighbours, neighbours
        last, account.step = account.step, step
        if before is None or passed_s <= 0:
            return
        if passed_s > LONGEST_GAP_S:
            account.is_complete = False
            return
        if neighbours or before:
            account.shared_s += passed_s
            account.shared_others_s += max(neighbours, before) * passed_s
        if before != neighbours or last is None or step is None:
            return
        steps, seconds = step.step - last.step, step.at - last.at
        if steps < 0 or not 0 < seconds <= LONGEST_GAP_S:  # the steps restarted, or a clock was set
            return
        pace = account.shared_steps if neighbours else account.alone_steps
        pace.steps += steps
        pace.seconds += seconds
        account.others_s += neighbours * seconds

    def _count_load(
        self,
        account: _AttemptTimes,
        timestamp: float,
        job: int,
        gpus: Iterable[GpuSnapshot],
        owners: dict[int, int | None],
    ) -> None:
        """Add the load on its GPUs, unless others reduce it.

        A program that has just ended looks idle until its end is known. An idle reading therefore
        counts only after another one has shown that the attempt continues. On a saturated GPU each
        process gets less than alone. Its measured load then counts only if it is higher than the
        known one.
        """
        passed_s = timestamp - account.at
        account.count(0.0, account.idle_s)
        account.idle_s = 0.0
        if not 0 < passed_s <= LONGEST_GAP_S:
            return
        for gpu in gpus:
            known = [process for process in gpu.processes or () if process.sm is not None]
            own = [process.sm or 0.0 for process in known if owners[process.pid] == job]
            total = sum(process.sm or 0.0 for process in known)
            reported = gpu.utilisation == 0 or bool(known)  # a process that did nothing is not
            loading = account.sampled_s == 0 and timestamp < account.began + LOADING_S
            if not own and reported and not loading:
                account.idle_s += passed_s
            elif own:
                share = min(1.0, sum(own))
                if (
                    not account.neighbours
                    or total <= FULL_UTILISATION
                    or share > account.recent_load
                ):
                    account.count(share, passed_s)


def _count_neighbours(
    claim: Claim,
    claims: Iterable[Claim],
    gpus: Iterable[GpuSnapshot],
    owners: dict[int, int | None],
) -> int:
    """Return how many others there are on the fullest GPU of an attempt."""
    ours = [
        {uuid for uuid in other.gpus if uuid in claim.gpus}
        for other in claims
        if other.job != claim.job
    ]
    counts = [0]
    for gpu in gpus:
        processes = gpu.processes or ()
        reports_use = any(process.sm is not None for process in processes)
        strangers = [process for process in processes if owners[process.pid] is None]
        busy = sum(_disturbs(process, reports_use=reports_use) for process in strangers)
        counts.append(sum(gpu.uuid in shared for shared in ours) + busy)
    return max(counts)


def _disturbs(process: GpuProcess, *, reports_use: bool) -> bool:
    """Whether another user's process uses a GPU so much that it slows down others.

    Args:
        process: Process of another user.
        reports_use: Whether the driver reports loads there. A process without a load is idle then.
    """
    if process.sm is not None:
        return process.sm >= BUSY
    return not reports_use and (process.used is None or process.used >= LARGE_BYTES)


def _slowdown(account: _AttemptTimes) -> float | None:
    """Return the slowdown of its steps by others as a factor, None if there are too few steps."""
    alone, beside = account.alone_steps.rate, account.shared_steps.rate
    if alone is None or beside is None:
        return None
    return min(MOST_SLOWDOWN, max(1.0, alone / beside))


def _mean_others(account: _AttemptTimes) -> float:
    """Return the mean number of other jobs during the slowdown that is measured, by steps or by the duration."""
    if _slowdown(account) is not None:
        return max(1.0, account.others_s / account.shared_steps.seconds)
    return max(1.0, account.shared_others_s / account.shared_s) if account.shared_s > 0 else 1.0


def slowdown_by_duration(
    seconds: float, shared_s: float | None, alone: Collection[float]
) -> float | None:
    """Return the slowdown of an attempt without steps, from the duration of similar jobs alone.

    Args:
        seconds: Its duration.
        shared_s: Duration of GPU sharing in the attempt, None if unknown.
        alone: Durations of similar jobs that shared their GPUs with no other.
    """
    if shared_s is None or not alone or not LEAST_S <= shared_s <= seconds:
        return None
    # work that the attempt did while others shared its GPU
    left_s = median(alone) - (seconds - shared_s)
    if shared_s < LEAST_SHARE * seconds or left_s <= 0:
        return None
    return min(MOST_SLOWDOWN, max(1.0, shared_s / left_s))
