"""A small world for the policy: random machines and jobs, what fits by plain counting, and time that passes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from hypothesis import strategies as st

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad, can_share
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.inventory import wants_gpu
from launcher.queue.scheduler.policy.model import Decision, Machine, Running, Start, Waiting
from launcher.queue.scheduler.policy.oom_policy import NEGLIGIBLE
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_gpu

LIMITS = {"narrow": 1, "wide": 3}
_loads = st.sampled_from(
    [
        UNKNOWN_LOAD,
        UNKNOWN_LOAD,
        GpuLoad(sm=0.2),
        GpuLoad(sm=0.6),
        GpuLoad(sm=1.0),
        GpuLoad(0.3, 1.9),
    ]
)
LATE = 1e6  # when a job may end of which nobody knows how long it takes: after all the others


def quiet(gpu: GpuSnapshot, running: Iterable[Running], machine: Machine) -> bool:
    """Return whether others use almost nothing of a GPU."""
    ours = sum(one.used.get(gpu.uuid, 0) for one in running if gpu.uuid in one.devices)
    others = max(0, (gpu.used or 0) - ours)
    return others + promised_to_others(gpu, machine) <= max(gpu.total / 10, NEGLIGIBLE)


def promised_to_others(gpu: GpuSnapshot, machine: Machine) -> int:
    """Return the bytes of a GPU that schedulers of peer users have reserved."""
    return sum(one.amount for one in machine.foreign if one.device == gpu.uuid)


def taken(gpu: GpuSnapshot, running: Iterable[Running], machine: Machine) -> int:
    """Return the bytes of a GPU that are used, reserved, or kept free for others."""
    ours = [one for one in running if gpu.uuid in one.devices]
    measured = sum(one.used.get(gpu.uuid, 0) for one in ours)
    unknown = machine.rules.unknown_bytes(gpu.total)
    loads = 0
    for one in ours:
        reserved = one.vram or 0
        if one.estimated and one.vram is None:
            reserved = unknown
        loads += max(reserved, one.used.get(gpu.uuid, 0))
    others = max(0, (gpu.used or 0) - measured)
    return others + loads + promised_to_others(gpu, machine) + machine.rules.reserve


def may_have(one: Waiting, machine: Machine) -> list[GpuSnapshot]:
    """Return the GPUs that a job may use by name and by CUDA_VISIBLE_DEVICES (numbers and UUIDs only)."""
    asked, found = one.resources, []
    for gpu in machine.gpus:
        named = asked.device in {"auto", "cuda", gpu.label, f"cuda:{gpu.index}"}
        shown = one.visible is None or any(
            word == str(gpu.index) or (word.startswith("GPU") and gpu.uuid.startswith(word))
            for word in one.visible
        )
        whole = asked.gpus == 1 or gpu.mig is None
        if named and shown and whole and not gpu.fault and gpu.used is not None:
            found.append(gpu)
    return found


def has_room(gpu: GpuSnapshot, one: Waiting, running: Sequence[Running], machine: Machine) -> bool:
    """Return whether a GPU has room for a job next to the running jobs."""
    ours = [other for other in running if gpu.uuid in other.devices]
    wanted = one.vram
    if wanted is None:
        wanted = 0 if one.exclusive else machine.rules.unknown_bytes(gpu.total)
    if taken(gpu, running, machine) + wanted > gpu.total:
        return False
    if one.resources.exclusive and any(other.device == gpu.uuid for other in machine.foreign):
        return False
    if one.exclusive:
        return not ours and quiet(gpu, running, machine)
    beside = tuple(other.load for other in ours)
    if any(other.exclusive for other in ours):
        return False
    most = machine.rules.max_jobs_per_gpu
    return (most is None or len(ours) < most) and can_share(one.load, beside)


def places_of(one: Waiting, running: Sequence[Running], machine: Machine) -> list[tuple[str, ...]]:
    """Return every set of devices on which a job could start now; () is the CPU."""
    cpus = machine.cpus - sum(other.cpus for other in running)
    ram = machine.ram - sum(other.ram for other in running)
    asked = one.resources
    if min(asked.cpus, machine.cpus) > cpus or (asked.ram or 0) > min(ram, machine.ram_free):
        return []
    limit = machine.limits.get(one.group)
    if limit is not None and sum(other.group == one.group for other in running) >= limit:
        return []
    if not wants_gpu(asked, machine, one.visible):
        return [()]
    found = [gpu.uuid for gpu in may_have(one, machine) if has_room(gpu, one, running, machine)]
    return list(combinations(found, asked.gpus))


def placed(one: Waiting, devices: tuple[str, ...], machine: Machine, now: float) -> Running:
    """Return the place of a job that starts now, as a scheduler remembers it."""
    return Running(
        job=one.job,
        cpus=min(one.resources.cpus, machine.cpus),
        devices=devices,
        ram=one.resources.ram or 0,
        group=one.group,
        vram=one.vram if devices else None,
        exclusive=bool(devices) and one.exclusive,
        ends=None if one.seconds is None else now + one.seconds,
        since=now,
        forecast=one.forecast,
        load=one.load,
    )


def after(
    waiting: Sequence[Waiting],
    decisions: Sequence[Decision],
    running: Sequence[Running],
    machine: Machine,
    now: float = 0.0,
) -> list[Running]:
    """Return what runs once the decisions are carried out."""
    new = [
        placed(one, decision.devices, machine, now)
        for one, decision in zip(waiting, decisions, strict=True)
        if isinstance(decision, Start)
    ]
    return [*running, *new]


def earliest(
    one: Waiting, devices: tuple[str, ...], running: Sequence[Running], machine: Machine
) -> float:
    """Return when a job can start on devices, the oldest ending first where nobody knows better."""
    ends = [LATE + at if other.ends is None else other.ends for at, other in enumerate(running)]
    for time in sorted({0.0, *ends}):
        stay = [other for other, end in zip(running, ends, strict=True) if end > time]
        gone = [other for other, end in zip(running, ends, strict=True) if end <= time]
        if devices in places_of(one, stay, _without(gone, machine)):
            return time
    return float("inf")


def _without(gone: Sequence[Running], machine: Machine) -> Machine:
    """Return the machine after the end of some jobs, with their resources free."""
    ram_free = machine.ram_free + sum(one.ram for one in gone)
    left = tuple(
        replace(gpu, used=max(0, gpu.used - sum(one.used.get(gpu.uuid, 0) for one in gone)))
        if gpu.used is not None
        else gpu
        for gpu in machine.gpus
    )
    return machine._replace(ram_free=ram_free, gpus=left)


# --- time passes


@dataclass(slots=True)
class World:
    """A queue and a machine at one instant; everything takes whole seconds."""

    machine: Machine
    lasts: Callable[[int], int]  # job → seconds that it really takes
    line: list[Waiting] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    now: float = 0.0

    def settle(self) -> list[Running]:
        """Remove ended jobs and return them."""
        over = [one for one in self.running if self.ends[one.job] <= self.now]
        self.running = [one for one in self.running if self.ends[one.job] > self.now]
        return over

    def seen(self) -> Machine:
        """Return the current machine, on which jobs use their reserved main memory."""
        ours = sum(one.ram for one in self.running)
        return self.machine._replace(ram_free=self.machine.ram_free - ours)

    def decide(self) -> list[Decision]:
        """Decide once and start the selected jobs."""
        machine = self.seen()
        decisions = decide(self.line, self.running, machine, self.now)
        self.running = after(self.line, decisions, self.running, machine, self.now)
        for one in decisions:
            if isinstance(one, Start):
                self.started[one.job] = self.now
                self.ends[one.job] = self.now + self.lasts(one.job)
        self.line = [one for one in self.line if one.job not in self.started]
        return decisions

    def copy(self, *, until: int) -> "World":
        """Return this world without the jobs after a job in the queue."""
        numbers = [one.job for one in self.line]
        return replace(
            self,
            line=self.line[: numbers.index(until) + 1],
            running=self.running[:],
            ends=dict(self.ends),
            started=dict(self.started),
        )


# --- random ones

_sizes = st.sampled_from([4, 8, 12])
_visible = st.sampled_from(
    [None, None, None, None, ("0",), ("1", "0"), ("GPU-1", "GPU-0"), ("2",), ()]
)


@st.composite
def gpus(draw: st.DrawFn, *, least: int = 0, sound: bool = False) -> tuple[GpuSnapshot, ...]:
    """Up to four GPUs of different sizes, partly used by others, some of them faulty."""
    found = []
    for index in range(draw(st.integers(least, 4))):
        total = draw(_sizes)
        used = draw(st.sampled_from([0, 0, 0, 1, 2]))
        gpu = a_gpu(index, total=total, used=used)
        if not sound:
            odd = draw(st.sampled_from(["", "", "", "", "", "fault", "unknown", "mig"]))
            gpu = {
                "": gpu,
                "fault": replace(gpu, fault="fell off the bus"),
                "unknown": replace(gpu, used=None),
                "mig": replace(gpu, mig=0, uuid=f"MIG-{index}"),
            }[odd]
        found.append(gpu)
    return tuple(found)


@st.composite
def machines(draw: st.DrawFn, *, least: int = 0, sound: bool = False) -> Machine:
    """Machines of all kinds, with sharing rules and reservations of peer users."""
    cards = draw(gpus(least=least, sound=sound))
    owed = st.sampled_from([0, 0, 0, 1, 2])
    foreign = [
        ForeignReservation(user="ada", device=gpu.uuid, amount=amount * GIB)
        for gpu in cards
        if (amount := draw(owed))
    ]
    rules = SharingRules(
        reserve=draw(st.sampled_from([0, 0, GIB])),
        max_per_gpu=draw(st.sampled_from([None, None, 1, 2, 3])),
    )
    return Machine(
        cpus=draw(st.sampled_from([1, 2, 4, 8, 8, 8])),
        ram=8 * GIB,
        ram_free=draw(st.sampled_from([0, 3, 5, 8, 8, 8])) * GIB,
        gpus=cards,
        limits=LIMITS,
        rules=rules,
        foreign=tuple(foreign),
    )


_claims = st.sampled_from([None, None, 1, 2, 4, 9, 12])


@st.composite
def _odd_resources(draw: st.DrawFn) -> Resources:
    return Resources(
        cpus=draw(st.sampled_from([1, 1, 1, 2, 3, 12])),
        device=draw(st.sampled_from(["auto", "auto", "auto", "cuda", "cpu", "cuda:0", "cuda:1"])),
        accelerated=draw(st.booleans()),
        ram=draw(st.none() | st.integers(0, 5).map(lambda one: one * GIB)),
        gpus=draw(st.sampled_from([1, 1, 1, 1, 2, 3])),
        exclusive=draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def jobs(draw: st.DrawFn, *, known: bool | None = None) -> Waiting:
    """A job number 0 that asks for anything; how long it takes is known, or that is drawn."""
    if draw(st.booleans()):  # many that differ in little get into each other's way
        asked = Resources(device="cuda", gpus=draw(st.sampled_from([1, 1, 1, 2])))
        claim: int | None = draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
        visible = None
    else:
        asked, claim, visible = draw(_odd_resources()), draw(_claims), draw(_visible)
    lasts = float(draw(st.integers(1, 20)))
    told = draw(st.booleans()) if known is None else known
    return Waiting(
        job=0,
        resources=asked,
        group=draw(st.sampled_from(["", "", "", "narrow", "wide"])),
        vram=None if claim is None else claim * GIB,
        seconds=lasts if told else None,
        visible=visible,
        load=draw(_loads),
    )


def queues(
    most: int = 10, *, known: bool | None = None, first: int = 1
) -> st.SearchStrategy[list[Waiting]]:
    """Jobs in the order of their rank, numbered."""
    return st.lists(jobs(known=known), max_size=most).map(
        lambda found: [one._replace(job=first + at) for at, one in enumerate(found)]
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Waiting], list[Running], Machine]:
    """A queue, the running jobs of earlier decisions, and the machine, on which others start and end jobs."""
    machine = draw(machines())
    before = draw(queues(8, first=101))
    running = []
    for one in after(before, decide(before, [], machine), [], machine):
        used = {
            uuid: round(draw(st.sampled_from([0.0, 0.5, 1.0, 1.25])) * (one.vram or GIB))
            for uuid in one.devices
            if draw(st.booleans())
        }
        running.append(one._replace(used=used))
    seen = []
    for gpu in machine.gpus:
        ours = sum(one.used.get(gpu.uuid, 0) for one in running)
        more = draw(st.sampled_from([0, 0, 0, GIB]))  # others took some since
        used_now = None if gpu.used is None else min(gpu.total, gpu.used + ours + more)
        seen.append(replace(gpu, used=used_now))
    return draw(queues()), running, machine._replace(gpus=tuple(seen))


def numbered(found: Iterable[Waiting], first: int) -> Iterator[Waiting]:
    """Give jobs their numbers."""
    for at, one in enumerate(found, first):
        yield one._replace(job=at)


# --- where it is tight: few cards, and jobs that get into each other's way


@st.composite
def tight_machines(draw: st.DrawFn) -> Machine:
    """Machines of which every part is scarce."""
    count = draw(st.integers(1, 2))
    return Machine(
        cpus=draw(st.sampled_from([4, 6])),
        ram=8 * GIB,
        ram_free=8 * GIB,
        gpus=tuple(a_gpu(index, total=12) for index in range(count)),
        limits=LIMITS,
        rules=SharingRules(max_per_gpu=draw(st.sampled_from([None, None, 2, 3]))),
    )


@st.composite
def tight_jobs(draw: st.DrawFn, *, large: bool | None = None) -> Waiting:
    """A job number 0 that wants much or little of one thing, of known duration."""
    much = draw(st.booleans()) if large is None else large
    few = st.integers(3, 4) if much else st.just(1)
    asked = draw(
        st.one_of(
            st.just(Resources(device="cuda")),
            few.map(lambda one: Resources(device="cpu", cpus=one)),
            few.map(lambda one: Resources(device="cpu", ram=2 * one * GIB)),
        )
    )
    claim = draw(st.integers(6, 11) if much else st.integers(1, 4))
    return Waiting(
        job=0,
        resources=asked._replace(exclusive=much and draw(st.booleans())),
        group=draw(st.sampled_from(["", "", "wide", "narrow"])),
        vram=claim * GIB,
        seconds=float(draw(st.integers(1, 20))),
        load=draw(_loads),
    )


@st.composite
def tight_situations(draw: st.DrawFn) -> tuple[list[Waiting], list[Running], Machine]:
    """A queue, running jobs and the machine; the duration of some jobs is known."""
    machine = draw(tight_machines())
    lists = st.lists(tight_jobs(), min_size=3, max_size=8)
    before = list(numbered(draw(lists), 101))
    running = [
        one._replace(ends=one.ends if draw(st.booleans()) else None)
        for one in after(before, decide(before, [], machine), [], machine)
    ]
    used = sum(one.ram for one in running)
    waiting = [
        one._replace(seconds=one.seconds if draw(st.booleans()) else None)
        for one in numbered(draw(lists), 1)
    ]
    return waiting, running, machine._replace(ram_free=machine.ram_free - used)
