"""How many processes a training takes, and on which devices they work."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.api import Draft, Job
from trueface.training.objectives.registry import choice, objectives, used_objective


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """One rank's place among the processes of a job."""

    rank: int
    size: int
    device: str  # "cpu", or the rank's own card, such as "cuda:1"
    cpus: int  # cores of the rank
    meeting: str  # path of the file through which the ranks find each other

    @property
    def backend(self) -> str:
        """What averages the gradients."""
        return "nccl" if self.device.startswith("cuda") else "gloo"

    @property
    def name(self) -> str:
        """How messages call the rank."""
        return f"rank {self.rank} of {self.size} ({self.device})"


def size_of(job: Job, processes: int) -> int:
    """Return how many processes a job takes: as its settings say, else one a GPU."""
    if processes:
        return processes
    return 1 if job.device == "cpu" else max(1, job.gpus)


def places(job: Job, size: int, meeting: str) -> tuple[RankPlace, ...]:
    """Return the places of all ranks; cores are divided, and each rank has a card of its own."""
    kind, _, number = job.device.partition(":")
    return tuple(
        RankPlace(
            rank=rank,
            size=size,
            device=job.device if kind == "cpu" else f"{kind}:{int(number or 0) + rank}",
            cpus=max(1, job.cpus // size),
            meeting=meeting,
        )
        for rank in range(size)
    )


def refusals(draft: Draft, *_: object) -> Iterator[str]:
    """Yield why a training cannot be shared by as many processes as it asks for."""
    settings, name = draft.settings, draft.model or draft.kind
    processes = settings.get("processes", 0)
    on_gpus = draft.gpus > 1 or draft.device.startswith("cuda")
    if on_gpus and processes not in {0, draft.gpus}:
        yield (
            f"{name}: processes: {processes} on gpus: {draft.gpus}; a training has one process a GPU: "
            f"leave processes out, or set gpus: {processes}"
        )
    size = processes or draft.gpus
    if size > 1:
        remedy = "set gpus: 1" if draft.gpus > 1 else "leave processes out"
        yield from (f"{name}: {reason}" for reason in _unfit(settings, size, remedy))


def _unfit(settings: Mapping[str, Any], size: int, remedy: str) -> Iterator[str]:
    if settings["freeze"] and settings["freeze_bn"]:
        yield (
            f"only its last layer learns, from features that are computed once, and {size} processes "
            f"would wait for each other; {remedy}"
        )
    if settings["compile"]:
        yield f"compile: true works in one process only; leave it out, or {remedy}"
    if settings["batch_size"] < size:
        yield (
            f"batch_size: {settings['batch_size']} cannot be divided among {size} processes; "
            f"set batch_size: {size} at least"
        )
    if not objectives()[used_objective(settings)].mean:
        yield (
            f"{choice(settings)} is not declared as a mean over images (mean=True), so that its "
            f"gradient cannot be divided among processes; {remedy}"
        )
