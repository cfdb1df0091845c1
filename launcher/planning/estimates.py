"""What jobs are expected to take: time, memory and disk, by what was done before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from launcher.job import CPU
from launcher.kind_interface import Kind
from launcher.kinds import costs
from launcher.planning.plan import PlannedJob
from launcher.scheduler.policy.vram_request import lesson_of
from launcher.signatures import is_exact, numbers_of
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.usage import UsageOf, no_usage
from launcher.store.usage_records import program_by
from launcher.system.files import Json
from launcher.units import median

FEWEST = 2  # runs that a spread needs at least
REMEMBERED = 2000  # jobs that ended last; more would take longer to read than they are worth


class Basis(StrEnum):
    """On what an estimate rests."""

    MEASURED = "measured"
    DECLARED = "declared"  # the task file says so
    NONE = "none"


class Past(NamedTuple):
    """A job that was done."""

    kind: str
    settings: Mapping[str, Any]
    images: str | None
    fresh: bool  # it began from no model
    on_gpu: bool
    seconds: float  # from its claim to its end
    disk: int | None  # bytes of what it wrote; None: it names a folder, whose size is unknown
    signature: str = ""  # of a program: its words without numbers


class JobEstimate(NamedTuple):
    """What is expected of one job; None: unknown."""

    seconds: float | None = None
    spread: float | None = None  # half of the runs lie within this fraction of `seconds`
    disk: int | None = None  # bytes
    runs: int = 0  # on which time and disk rest
    vram: int | None = None  # bytes on each of its GPUs
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

    def record(self) -> dict[str, Json]:
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
class _Alike:
    """The jobs of one signature, and what they have in common once it was asked for."""

    seconds: list[float] = field(default_factory=list)
    disks: list[int] = field(default_factory=list)

    @cached_property
    def summary(self) -> tuple[float, float | None, int | None]:
        """Their time, its spread, and their disk."""
        middle = median(self.seconds)
        spread = None
        if len(self.seconds) >= FEWEST and middle > 0:
            spread = median(abs(span_s - middle) for span_s in self.seconds) / middle
        return middle, spread, round(median(self.disks)) if self.disks else None


class History:
    """Jobs that were done on this machine, to be found by what decides how long they take.

    Two jobs are alike when they agree in kind, images, in the settings that their kind names in
    `costs` (in all that are not neutral where it names none), in whether they begin from a model,
    and in whether they work on a GPU.
    """

    def __init__(
        self,
        past: Iterable[Past],
        kinds: Mapping[str, Kind],
        *,
        gpus: bool,
        usage: UsageOf = no_usage,
    ) -> None:
        """Sort what was done.

        Args:
            past: the jobs.
            kinds: every installed kind by its name; jobs of others are left out.
            gpus: this machine has some.
            usage: returns what was learned of jobs with a signature.
        """
        self.gpus, self.usage = gpus, usage
        self._settings = {name: costs(kind) for name, kind in kinds.items()}
        self._alike: dict[tuple[str, str | None, bool, bool, str], _Alike] = {}
        self._by_kind: dict[tuple[str, bool], list[float]] = {}
        self._by_program: dict[str, _Alike] = {}  # by signature, of programs on the CPU
        for job in past:
            if job.kind in self._settings:
                text = self._text(job.kind, job.settings)
                key = (job.kind, job.images, job.fresh, job.on_gpu, text)
                alike = self._alike.setdefault(key, _Alike())
                alike.seconds.append(job.seconds)
                if job.signature and not is_exact(job.signature) and not job.on_gpu:
                    program = self._by_program.setdefault(job.signature, _Alike())
                    program.seconds.append(job.seconds)
                self._by_kind.setdefault((job.kind, job.on_gpu), []).append(job.seconds)
                alike.disks += [] if job.disk is None else [job.disk]

    def like(self, job: PlannedJob, *, on_gpu: bool | None = None) -> _Alike | None:
        """Return what was done that is like a job, None where there is nothing.

        Args:
            job: which.
            on_gpu: where it was done; None: where this job will be.
        """
        text = self._text(job.kind, job.settings)
        on_gpu = job.resources.works_on_gpu(there=self.gpus) if on_gpu is None else on_gpu
        return self._alike.get((job.kind, job.images, job.base is None, on_gpu, text))

    def with_other_numbers(self, job: PlannedJob) -> _Alike | None:
        """Return what a program took on the CPU with other numbers, None if it never ran."""
        return self._by_program.get(job.signature)

    def of_kind(self, kind: str, *, on_gpu: bool) -> tuple[float, int] | None:
        """Return the median duration of all jobs of a kind, and how many there were; None: none was there."""
        seconds = self._by_kind.get((kind, on_gpu))
        return (median(seconds), len(seconds)) if seconds else None

    def _text(self, kind: str, settings: Mapping[str, Any]) -> str:
        return repr([settings.get(name) for name in self._settings.get(kind, ())])


def forecast(job: PlannedJob, history: History) -> JobEstimate:
    """Return what a job is expected to take: the medians of the jobs that are like it."""
    vram, peaks = _memory(job, history)
    alike = history.like(job)
    if alike is None and job.resources.works_on_gpu(there=history.gpus):
        usage = history.usage(
            job.signature, program_by(job.signature, job.argv)
        )  # of a program, with any numbers
        alike = _Alike(seconds=[*usage.seconds]) if usage.own and usage.seconds else None
    elif alike is None:
        alike = history.with_other_numbers(job)
    if alike is None:
        return JobEstimate(vram=vram, peaks=peaks)
    seconds, spread, disk = alike.summary
    runs = len(alike.seconds)
    return JobEstimate(seconds=seconds, spread=spread, disk=disk, runs=runs, vram=vram, peaks=peaks)


def seconds_on_cpu(job: PlannedJob, history: History) -> tuple[float, int] | None:
    """Return how long jobs like one took on the CPU, wherever it will work, and how many; None: none was there."""
    alike = history.like(job, on_gpu=False)
    return None if alike is None else (median(alike.seconds), len(alike.seconds))


def _memory(job: PlannedJob, history: History) -> tuple[int | None, int]:
    """Return (bytes, attempts measured): the peak of jobs like it, unless its file declares more."""
    if not job.resources.works_on_gpu(there=history.gpus):
        return None, 0
    asked, exact = job.resources.min_vram, is_exact(job.signature)
    lesson = lesson_of(
        history.usage(job.signature, program_by(job.signature, job.argv)),
        exact=exact,
        numbers=None if exact else numbers_of(job.argv),
    )
    if lesson is None or (asked is not None and (asked > lesson.peak or not exact)):
        return asked, 0
    return lesson.peak, lesson.runs


def past_job(row: JobRow, seconds: float, device: str) -> Past:
    """Return a done job as history keeps it.

    Args:
        row: as the queue knows it.
        seconds: how long its last attempt had its place.
        device: where that was: "cpu" or a GPU's UUID.
    """
    spec = row.spec
    sizes = list(row.outputs.values())
    measurable = sizes and (0, 0) not in [each.stamp for each in sizes]  # that of a folder
    return Past(
        kind=row.kind,
        settings=spec.settings,
        images=spec.images,
        fresh=spec.base is None,
        on_gpu=device != CPU,
        seconds=seconds,
        disk=sum(each.size for each in sizes) if measurable else None,
        signature=spec.signature,
    )


def read_history(store: Store | None, kinds: Mapping[str, Kind], *, gpus: bool) -> History:
    """Return what was done before by jobs of these kinds."""
    past = store.read.done_lately(REMEMBERED) if store else []
    usage = store.scheduling.usage if store else no_usage
    jobs = (past_job(*done) for done in past if done[0].kind in kinds)
    return History(jobs, kinds, gpus=gpus, usage=usage)
