"""The parts in the order of their value; the first ones run even where time is short."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.gpu.bench import Bench

HERE = "benchmarks.gpu.measurements"


def always(_bench: Bench) -> str:
    """Need nothing."""
    return ""


def cifar(bench: Bench) -> str:
    """Need the images of ten classes."""
    if bench.rehearsal or bench.data("cifar10"):
        return ""
    return "no CIFAR images: give the folder that holds data/cifar10 by --shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something that only a GPU can tell."""

    title: str
    module: str  # its function `measure` takes a Bench
    limit_s: float  # after which it is ended
    usual_s: float  # with less than half of it left, it is not begun
    needs: Callable[[Bench], str] = always  # why it cannot run here; empty: it can
    on_request: bool = False  # it runs only if it is named: all others fit into nine minutes


PARTS: Mapping[str, Part] = {
    "defaults": Part(
        title="The configuration of the TrueFace project with default settings",
        module=f"{HERE}.defaults", limit_s=60, usual_s=30,
    ),
    "training": Part(
        title="Training and testing, images/s", module=f"{HERE}.training", limit_s=140, usual_s=110,
    ),
    "waiting": Part(
        title="Share of the time that the card waits", module=f"{HERE}.waiting", limit_s=60, usual_s=40,
    ),
    "features": Part(
        title="The feature store: computing, reading, training from it",
        module=f"{HERE}.features", limit_s=60, usual_s=30,
    ),
    "short": Part(
        title="A test of 300 small images, and what its time is spent on",
        module=f"{HERE}.short", limit_s=60, usual_s=25,
    ),
    "equality": Part(
        title="Results of overlapped passes and of CUDA graphs, compared with plain loops",
        module=f"{HERE}.equality", limit_s=40, usual_s=15,
    ),
    "classes": Part(
        title="Forgetting a class of CIFAR-10",
        module=f"{HERE}.classes", limit_s=150, usual_s=110, needs=cifar,
    ),
    "small": Part(
        title="Trainings within 24 GiB of the card",
        module=f"{HERE}.small", limit_s=40, usual_s=15,
    ),
    "nvml": Part(
        title="NVML beside the assumptions of the tests",
        module=f"{HERE}.nvml", limit_s=45, usual_s=15,
    ),
    "sharing": Part(
        title="Three trainings share a card: request, limit, peak; learned peaks",
        module=f"{HERE}.sharing", limit_s=120, usual_s=70,
    ),
    "memory": Part(
        title="Out of memory: retried with a larger request; held by a limit",
        module=f"{HERE}.memory", limit_s=110, usual_s=60,
    ),
    "decoding": Part(
        title="JPEG decoded on the card and on the CPU",
        module=f"{HERE}.decoding", limit_s=40, usual_s=15,
    ),
    "variants": Part(
        title="Steps on images that are on the card already: formats, precisions, compilation",
        module=f"{HERE}.variants", limit_s=120, usual_s=60, on_request=True,
    ),
    "filling": Part(
        title="Programs through a queue, compared with a fixed number of them at a time",
        module=f"{HERE}.filling", limit_s=500, usual_s=400, on_request=True,
    ),
}  # fmt: skip
# parts whose rehearsal takes less than a minute: no queue
LIGHT = (
    "defaults", "training", "waiting", "features", "equality", "classes", "small", "nvml", "decoding",
    "variants",
)  # fmt: skip
