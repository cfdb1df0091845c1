"""Memory and time that earlier attempts of similar jobs used, as values."""

from typing import NamedTuple, Protocol

NEWEST_PEAKS = 8  # peaks of a signature that count: a newer version of the code may need less
MARGIN_FRACTION = 0.05  # fraction on top of the measured peak: NVML is read once a second, and a peak may be between two readings
LEAST_MARGIN = 256 << 20
LONGEST_S = 366 * 86_400.0  # a longer attempt on record was begun before a clock was set
MOST_PEAK = 1 << 42  # bytes; larger than any GPU

Numbers = tuple[str, ...]


class MeasuredUsage(NamedTuple):
    """GPU measurements of an attempt. None if not measured."""

    peak: int | None = None  # bytes that the attempt took, or wanted, on one GPU
    shared_s: float | None = None  # seconds during which the attempt shared a GPU
    slowdown: float | None = None  # factor by which sharing made the attempt longer
    others: float = 1.0  # mean number of jobs on the shared GPU in this time, at least 1
    sm: float | None = None  # mean use of the multiprocessors while the attempt was alone, 0 to 1
    machine: str = ""  # the GPU and its driver, see `GpuSnapshot.fingerprint`; '': unknown
    elapsed_s: float | None = None  # run time by a clock that is never set, pauses included
    paused_s: float = 0.0  # seconds for which the owner had paused the attempt

    def with_pause(self, paused_s: float) -> "MeasuredUsage":
        """Return the same for a paused attempt. The shared time during the pause is not valid."""
        if not paused_s:
            return self
        return self._replace(paused_s=paused_s, shared_s=None, slowdown=None)


NOT_MEASURED = MeasuredUsage()


class AttemptPeak(NamedTuple):
    """Peak GPU memory of one attempt, with the numbers that its signature leaves out."""

    peak: int
    numbers: Numbers | None = None  # None: not known


class SimilarUsage(NamedTuple):
    """Usage of jobs of the same type, or of the same program, with other settings."""

    peaks: tuple[int, ...] = ()  # bytes on one GPU
    running_bytes: tuple[int, ...] = ()  # bytes that those use now that run
    sm: float | None = None  # mean use of the multiprocessors by one of them alone, 0 to 1


NO_SIMILAR_USAGE = SimilarUsage()


class Usage(NamedTuple):
    """Usage of the newest attempts of a signature, on GPUs like those of this machine if there are any."""

    seconds: tuple[float, ...] = ()  # durations of those done, as if alone; the newest first
    # bytes on one GPU, CUDA's context included, of jobs that were measured
    peaks: tuple[int, ...] = ()
    sm: float | None = None  # mean use of the multiprocessors by one of them alone, 0 to 1
    slowdown: float | None = None  # mean slowdown with one other job; None: never measured
    # subset of `seconds`: attempts that did not share their GPUs
    seconds_alone: tuple[float, ...] = ()
    is_own: bool = (
        True  # False: the durations are those of the job's kind, or of all jobs; this job never ran
    )
    other_gpu_note: str = ""  # on what else the peaks were measured: "on another GPU (A10)"
    # all that are remembered, the oldest first; where numbers matter
    attempt_peaks: tuple[AttemptPeak, ...] = ()
    similar: SimilarUsage = NO_SIMILAR_USAGE  # usage that counts until there are own records

    @property
    def expected_sm(self) -> float | None:
        """The expected utilization of the multiprocessors until it has been measured, None if unknown."""
        return self.similar.sm if self.sm is None else self.sm

    @property
    def peak(self) -> int | None:
        """The highest GPU memory peak in bytes, None if not measured."""
        return max(self.peaks, default=None)


NO_USAGE = Usage()


class UsageLookup(Protocol):
    """Returns the recorded usage of jobs by their signature, their program, and the GPU type."""

    def __call__(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return it; see `UsageRecords.usage`."""


def no_usage(signature: str, program: str = "", machine: str = "") -> Usage:  # noqa: ARG001
    """Return that nothing is known."""
    return NO_USAGE


def margin_of(peak: int) -> int:
    """Return by how much a job may exceed in bytes what its like took."""
    return max(round(peak * MARGIN_FRACTION), LEAST_MARGIN)


def slowdown_per_job(slowdown: float | None, others: float) -> float | None:
    """Return the factor by which one other job slows a job down, from the factor of `others` together.

    Each further job multiplies the time, as `launcher.queue.scheduler.policy.co_location.relative_rates` expects.
    """
    return None if slowdown is None else float(slowdown ** (1 / max(1.0, others)))
