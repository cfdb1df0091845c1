"""Which waiting job starts now, where, and why each other one still waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.gpu import GpuSnapshot
from launcher.specs import Resources
from launcher.units import format_bytes

CPU = "cpu"
UNSAID_SHARE = 0.1  # a job that names no memory gets a card of which at most this share is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that could start: all that it needs is done."""

    job: int
    resources: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A place on the machine that is promised already."""

    device: str  # "cpu" or a GPU's UUID
    cpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is: cores that we may use, and GPUs as they are now."""

    cpus: int
    gpus: tuple[GpuSnapshot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this job now, on this device, with this many cores."""

    job: int
    device: str
    cpus: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Leave this job in the queue."""

    job: int
    reason: str


Decision = Start | Wait


def decide(
    waiting: Sequence[Waiting], running: Iterable[Running], machine: Machine
) -> list[Decision]:
    """Return what happens to each waiting job, in their order (the most urgent first).

    Cores are never promised twice, and a GPU runs one of our jobs at a time. A job that does not
    fit keeps those behind it from overtaking with cores that it waits for.
    """
    promised = list(running)
    free_cpus = machine.cpus - sum(one.cpus for one in promised)
    taken = {one.device for one in promised}
    decisions: list[Decision] = []
    first: Waiting | None = None  # it waits for cores, and all behind it wait for its start
    for one in waiting:
        cpus = min(one.resources.cpus, machine.cpus)
        if first is not None:
            why = f"waits behind job {first.job}, which needs {_cores(first.resources.cpus)}"
            decisions.append(Wait(job=one.job, reason=why))
            continue
        if cpus > free_cpus:
            first = one
            decisions.append(Wait(job=one.job, reason=_no_cores(cpus, free_cpus, machine)))
            continue
        device, why = _place(one.resources, machine, taken)
        if device is None:
            decisions.append(Wait(job=one.job, reason=why))
            continue
        free_cpus -= cpus
        taken.add(device)
        decisions.append(Start(job=one.job, device=device, cpus=cpus, reason=why))
    return decisions


def _no_cores(cpus: int, free: int, machine: Machine) -> str:
    return f"needs {_cores(cpus)}, {max(free, 0)} of {machine.cpus} free"


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _place(resources: Resources, machine: Machine, taken: set[str]) -> tuple[str | None, str]:
    if not _wants_gpu(resources, machine):
        return CPU, f"on the CPU with {_cores(min(resources.cpus, machine.cpus))}"
    if not machine.gpus:
        return None, "needs a GPU, and this machine has none"
    reasons = []
    for gpu in machine.gpus:
        name = f"cuda:{gpu.index}"
        if resources.device not in {"auto", name}:
            continue
        refusal = _refusal(gpu, resources, taken)
        if refusal is None:
            return gpu.uuid, f"on {name}, {format_bytes(gpu.total - (gpu.used or 0))} free"
        reasons.append(f"{name} {refusal}")
    if not reasons:
        return None, f"needs {resources.device}, and this machine has no such GPU"
    need = "a free GPU" if resources.min_vram is None else format_bytes(resources.min_vram)
    return None, f"needs {need}: " + ", ".join(reasons)


def _wants_gpu(resources: Resources, machine: Machine) -> bool:
    if resources.device != "auto":
        return resources.device != CPU
    return bool(machine.gpus) and (resources.accelerated or resources.min_vram is not None)


def _refusal(gpu: GpuSnapshot, resources: Resources, taken: set[str]) -> str | None:
    if gpu.uuid in taken:
        return "runs a job of ours"
    if gpu.used is None:
        return "does not say how much memory is used"
    free = gpu.total - gpu.used
    if resources.min_vram is None:
        return (
            f"has {format_bytes(gpu.used)} in use" if gpu.used > UNSAID_SHARE * gpu.total else None
        )
    return f"has {format_bytes(free)} free" if free < resources.min_vram else None
