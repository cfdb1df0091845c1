"""Estimates of the time, memory and disk space of jobs, from earlier jobs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import cost_settings
from launcher.experiments.planning.plan import PlannedJob
from launcher.queue.jobs.job import CPU
from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.scheduler.policy.vram_request import estimate_vram
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.usage import UsageLookup, no_usage
from launcher.queue.store.usage_records import program_of_signature
from launcher.system.files import Json
from launcher.system.units import median

MIN_RUNS_FOR_SPREAD = 2  # runs that a spread needs at least
MOST_PAST_JOBS = 2000  # jobs that ended last; more would take longer to read than they are worth


class Basis(StrEnum):
    """On what an estimate rests."""

    MEASURED = "measured"
    DECLARED = "declared"  # the task file says so
    NONE = "none"


class PastJob(NamedTuple):
    """A job that was done."""

    kind: str
    settings: Mapping[str, Any]
    images: str | None
    from_scratch: bool  # the job began from no model
    on_gpu: bool
    seconds: float  # from the job's claim to its end
    disk: int | None  # bytes that the job wrote; None if unknown, as the output is a folder
    signature: str = ""  # signature of a program: words of its command line, without numbers


class JobEstimate(NamedTuple):
    """What is expected of one job; None: unknown."""

    seconds: float | None = None
    spread: float | None = None  # half of the runs lie within this fraction of `seconds`
    disk: int | None = None  # bytes
    runs: int = 0  # on which time and disk rest
    vram: int | None = None  # bytes on each of the job's GPUs
    peaks: int = 0  # attempts of jobs like it whose memory was measured, and on which `vram` rests

    @property
    def source(self) -> Basis:
        """On what time and disk rest."""
        return Basis.MEASURED if self.runs else Basis.NONE

    @property
    def vram_source(self) -> Basis:
        """On what the memory rests."""
        if self.peaks:
            return Basis.MEASURED
        return Basis.NONE if self.vram is None else Basis.DECLARED

    def to_json(self) -> dict[str, Json]:
        """Return the estimate as JSON."""
        return {
            "seconds": self.seconds,
            "spread": self.spread,
            "disk_bytes": self.disk,
            "runs": self.runs,
            "source": self.source,
            "vram_bytes": self.vram,
            "vram_source": self.vram_source,
        }


@dataclass
class _SimilarJobs:
    """The jobs of one signature, with a summary that is computed at its first use."""

    seconds: list[float] = field(default_factory=list)
    disks: list[int] = field(default_factory=list)

    @cached_property
    def summary(self) -> tuple[float, float | None, int | None]:
        """Their time, its spread, and their disk."""
        middle = median(self.seconds)
        spread = None
        if len(self.seconds) >= MIN_RUNS_FOR_SPREAD and middle > 0:
            spread = median(abs(span_s - middle) for span_s in self.seconds) / middle
        return middle, spread, round(median(self.disks)) if self.disks else None


class RuntimeHistory:
    """Jobs that were done on this machine, indexed by what determines their duration.

    Two jobs are similar if they agree in kind, images, cost settings, whether they start from a model, and whether they
    use a GPU. The cost settings are those that the kind names in `cost_settings`. If it names none, they are all
    settings that are not neutral.
    """

    def __init__(
        self,
        past_jobs: Iterable[PastJob],
        kinds: Mapping[str, Kind],
        *,
        gpus: bool,
        usage: UsageLookup = no_usage,
    ) -> None:
        """Index the jobs.

        Args:
            past_jobs: the jobs.
            kinds: name → installed kind; jobs of other kinds are left out.
            gpus: this machine has GPUs.
            usage: returns the measured usage of jobs with a signature.
        """
        self.gpus, self.usage = gpus, usage
        self._settings = {name: cost_settings(kind) for name, kind in kinds.items()}
        self._alike: dict[tuple[str, str | None, bool, bool, str], _SimilarJobs] = {}
        self._by_kind: dict[tuple[str, bool], list[float]] = {}
        self._by_program: dict[str, _SimilarJobs] = {}  # by signature, of programs on the CPU
        for job in past_jobs:
            if job.kind in self._settings:
                text = self._text(job.kind, job.settings)
                key = (job.kind, job.images, job.from_scratch, job.on_gpu, text)
                alike = self._alike.setdefault(key, _SimilarJobs())
                alike.seconds.append(job.seconds)
                if job.signature and not is_exact_signature(job.signature) and not job.on_gpu:
                    program = self._by_program.setdefault(job.signature, _SimilarJobs())
                    program.seconds.append(job.seconds)
                self._by_kind.setdefault((job.kind, job.on_gpu), []).append(job.seconds)
                alike.disks += [] if job.disk is None else [job.disk]

    def find_similar(self, job: PlannedJob, *, on_gpu: bool | None = None) -> _SimilarJobs | None:
        """Return the similar jobs that were done, or None.

        Args:
            job: the planned job.
            on_gpu: whether they used a GPU; None for the expected device of this job.
        """
        text = self._text(job.kind, job.settings)
        on_gpu = job.resources.works_on_gpu(machine_has_gpu=self.gpus) if on_gpu is None else on_gpu
        return self._alike.get((job.kind, job.images, job.base is None, on_gpu, text))

    def with_other_numbers(self, job: PlannedJob) -> _SimilarJobs | None:
        """Return the runs of a program on the CPU with other numbers, or None if it never ran."""
        return self._by_program.get(job.signature)

    def median_of_kind(self, kind: str, *, on_gpu: bool) -> tuple[float, int] | None:
        """Return the median duration of all jobs of a kind, and their number; None if there are none."""
        seconds = self._by_kind.get((kind, on_gpu))
        return (median(seconds), len(seconds)) if seconds else None

    def _text(self, kind: str, settings: Mapping[str, Any]) -> str:
        return repr([settings.get(name) for name in self._settings.get(kind, ())])


def estimate_job(job: PlannedJob, history: RuntimeHistory) -> JobEstimate:
    """Return the expected usage of a job: the medians of similar jobs."""
    vram, peaks = _estimate_memory(job, history)
    alike = history.find_similar(job)
    if alike is None and job.resources.works_on_gpu(machine_has_gpu=history.gpus):
        # this is the usage of a program, with any numbers
        usage = history.usage(job.signature, program_of_signature(job.signature, job.argv))
        alike = _SimilarJobs(seconds=[*usage.seconds]) if usage.is_own and usage.seconds else None
    elif alike is None:
        alike = history.with_other_numbers(job)
    if alike is None:
        return JobEstimate(vram=vram, peaks=peaks)
    seconds, spread, disk = alike.summary
    runs = len(alike.seconds)
    return JobEstimate(seconds=seconds, spread=spread, disk=disk, runs=runs, vram=vram, peaks=peaks)


def seconds_on_cpu(job: PlannedJob, history: RuntimeHistory) -> tuple[float, int] | None:
    """Return the duration of similar jobs on the CPU, and their number; None if there are none."""
    alike = history.find_similar(job, on_gpu=False)
    return None if alike is None else (median(alike.seconds), len(alike.seconds))


def _estimate_memory(job: PlannedJob, history: RuntimeHistory) -> tuple[int | None, int]:
    """Return (bytes, attempts measured): the peak of jobs like it, unless its file declares more."""
    if not job.resources.works_on_gpu(machine_has_gpu=history.gpus):
        return None, 0
    asked, exact = job.resources.vram, is_exact_signature(job.signature)
    lesson = estimate_vram(
        history.usage(job.signature, program_of_signature(job.signature, job.argv)),
        exact=exact,
        numbers=None if exact else ignored_numbers(job.argv),
    )
    if lesson is None or (asked is not None and (asked > lesson.peak or not exact)):
        return asked, 0
    return lesson.peak, lesson.runs


def build_past_job(row: JobRow, seconds: float, device: str) -> PastJob:
    """Return a done job as history keeps it.

    Args:
        row: the row of the database.
        seconds: duration of its last attempt.
        device: "cpu" or the UUID of a GPU.
    """
    spec = row.spec
    sizes = list(row.outputs.values())
    measurable = sizes and (0, 0) not in [each.stamp for each in sizes]  # (0, 0): stamp of a folder
    return PastJob(
        kind=row.kind,
        settings=spec.settings,
        images=spec.images,
        from_scratch=spec.base is None,
        on_gpu=device != CPU,
        seconds=seconds,
        disk=sum(each.size for each in sizes) if measurable else None,
        signature=spec.signature,
    )


def read_history(store: Store | None, kinds: Mapping[str, Kind], *, gpus: bool) -> RuntimeHistory:
    """Return what was done before by jobs of these kinds."""
    past = store.read.recently_done(MOST_PAST_JOBS) if store else []
    usage = store.usage_records.usage if store else no_usage
    jobs = (build_past_job(*done) for done in past if done[0].kind in kinds)
    return RuntimeHistory(jobs, kinds, gpus=gpus, usage=usage)
