"""Which waiting job starts now, where, and why each other one still waits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A place on the machine that is promised already."""

    device: str  # "cpu" or a GPU's UUID
    cpus: int
    ram: int = 0  # bytes
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is: cores and memory that we may use, GPUs as they are now, limits of groups."""

    cpus: int
    ram: int = 0  # bytes in all
    ram_free: int = 0  # bytes that nobody uses now
    gpus: tuple[GpuSnapshot, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)  # group → jobs at once


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

    Neither cores nor memory are promised twice, a GPU runs one of our jobs at a time, and a group
    never runs more jobs than its limit. A job that waits for cores is overtaken by none; one that
    waits for memory of other jobs has its cores and its memory kept for it. One whose group is full, or that
    this machine can never hold, is in nobody's way.
    """
    room = _Room(machine, running)
    decisions: list[Decision] = []
    first: Waiting | None = None  # it waits for cores, and all behind it for its start
    for one in waiting:
        refusal = room.full(one.group) or room.never(one.resources)
        if refusal:
            decisions.append(Wait(job=one.job, reason=refusal))
            continue
        if first is not None:
            why = f"waits behind job {first.job}, which needs {_cores(first.resources.cpus)}"
            decisions.append(Wait(job=one.job, reason=why))
            continue
        cpus = min(one.resources.cpus, machine.cpus)
        lacks = room.lacks_cores(cpus)
        if lacks:
            first = one
            decisions.append(Wait(job=one.job, reason=lacks))
            continue
        lacks = room.lacks_memory(one.resources.ram)
        if lacks:
            if room.ours(one.resources.ram):  # it comes back; what others use may never
                room.give(Running(device="", cpus=cpus, ram=one.resources.ram or 0))
            decisions.append(Wait(job=one.job, reason=lacks))
            continue
        device, why = _place(one.resources, machine, room.taken)
        if device is None:
            decisions.append(Wait(job=one.job, reason=why))
            continue
        cpus = min(one.resources.cpus, machine.cpus)
        room.give(Running(device=device, cpus=cpus, ram=one.resources.ram or 0, group=one.group))
        decisions.append(Start(job=one.job, device=device, cpus=cpus, reason=why))
    return decisions


class _Room:
    """What is left of a machine while a decision is made."""

    def __init__(self, machine: Machine, running: Iterable[Running]) -> None:
        self._machine = machine
        self._cpus, self._ram = machine.cpus, machine.ram
        self._new_ram = 0  # promised in this decision: nobody uses it yet
        self._groups: Counter[str] = Counter()
        self.taken: set[str] = set()
        for one in running:
            self.give(one)
        self._new_ram = 0

    def give(self, one: Running) -> None:
        self._cpus -= one.cpus
        self._ram -= one.ram
        self._new_ram += one.ram
        self._groups[one.group] += 1
        self.taken.add(one.device)

    def full(self, group: str) -> str:
        """Return why no further job of a group may start, '' where one may."""
        limit = self._machine.limits.get(group) if group else None
        if limit is None or self._groups[group] < limit:
            return ""
        return f"group {group!r} runs {self._groups[group]} of at most {limit}"

    def never(self, resources: Resources) -> str:
        """Return why the machine can never hold a job, '' where it can."""
        has = self._machine.ram
        if resources.ram is None or resources.ram <= has:
            return ""
        return (
            f"needs {format_bytes(resources.ram)} of memory, this machine has {format_bytes(has)}"
        )

    def lacks_cores(self, cpus: int) -> str:
        """Return how many cores are missing, '' when there are enough."""
        if cpus <= self._cpus:
            return ""
        return f"needs {_cores(cpus)}, {max(self._cpus, 0)} of {self._machine.cpus} free"

    def ours(self, ram: int | None) -> bool:
        """Tell whether memory is missing because it is promised to jobs of ours."""
        return ram is not None and ram > self._ram

    def lacks_memory(self, ram: int | None) -> str:
        """Return how much memory is missing, '' when there is enough."""
        if ram is None:
            return ""
        asked, free = (
            format_bytes(ram),
            max(0, min(self._ram, self._machine.ram_free - self._new_ram)),
        )
        if ram <= self._ram and ram <= self._machine.ram_free - self._new_ram:
            return ""
        whose = "not promised to others" if self._ram <= free else "not in use"
        return f"needs {asked} of memory, {format_bytes(free)} are {whose}"


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
