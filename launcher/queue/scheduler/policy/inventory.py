"""Remaining resources of a machine during a sequence of decisions: cores, memory, groups, GPUs.

Also the cores and main memory that other queues of the machine leave us. Gives reasons in words and
numbers: why a job starts on a place, why it cannot start now, and why the machine can never hold
it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from launcher.queue.gpu.resources import MEMORY, ForeignReservation, shares_cores
from launcher.queue.jobs.accounts import ResourceKind
from launcher.queue.jobs.job import CPU, Resources, is_gpu_uuid
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD
from launcher.queue.scheduler.policy.gpu_slot import EndTime, GpuPool, GpuState, is_visible
from launcher.queue.scheduler.policy.model import (
    LEAST_S,
    GpuRequest,
    Machine,
    Running,
    Waiting,
    gpu_request_of,
)
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.units import format_bytes

WAITING_FOR = "waiting for "  # first words of the reasons of waiting jobs


class Refusal(NamedTuple):
    """Why a machine can never hold a job, even if it were unused."""

    obstacle: str
    requirement: str  # part of the request that the obstacle blocks
    code: ReasonCode = ReasonCode.NEVER_FITS

    @property
    def text(self) -> str:
        """Both texts as the reason of a waiting job."""
        return f"{WAITING_FOR}{self.requirement}: {self.obstacle}"

    @property
    def error(self) -> str:
        """Both texts as part of an error message."""
        return f"needs {self.requirement}, but {self.obstacle}"


class Shortfall(NamedTuple):
    """Why a job cannot start now."""

    requirement: str
    situation: str = ""  # state of the machine, equal for jobs that wait for the same resource
    resource: ResourceKind | None = (
        "gpu"  # resource that is too scarce; None: the job waits for a measurement
    )

    @property
    def text(self) -> str:
        """Both texts as one sentence."""
        joint = "; " if ": " in self.requirement else ": "
        return f"{self.requirement}{joint}{self.situation}" if self.situation else self.requirement

    @property
    def data(self) -> dict[str, Json]:
        """Both values for programs."""
        return {"need": self.requirement, "situation": self.situation} if self.situation else {}


class _SharedResource(NamedTuple):
    """Reservations of other queues of cores or main memory."""

    total: int  # our quota, or all of the machine, including the reservations
    foreign_by_queue: Counter[str]  # queue, as messages name the queue → reserved amount

    @property
    def available(self) -> int:
        return self.total - self.foreign_by_queue.total()


def _shared_resource(
    quota: int, total: int, reservations: Iterable[ForeignReservation]
) -> _SharedResource:
    """Return what leaves us less: what all reserve counts against the machine, and against a quota what shares it."""
    by_queue, inside = Counter[str](), Counter[str]()
    for promise in reservations:
        by_queue[promise.queue] += promise.amount
        if promise.inside:
            inside[promise.queue] += promise.amount
    return min(
        _SharedResource(total, by_queue),
        _SharedResource(quota, inside),
        key=lambda share: share.available,
    )


def wants_gpu(resources: Resources, machine: Machine, visible: Sequence[str] | None = None) -> bool:
    """Whether a job uses GPUs here: it requires them, or prefers them and may have one."""
    shown = None
    if visible is not None and resources.accelerated:
        shown = any(is_visible(gpu, visible) for gpu in machine.gpus)
    return resources.works_on_gpu(machine_has_gpu=bool(machine.gpus), gpu_is_visible=shown)


class Inventory:
    """Cores, main memory, places in groups and GPUs that no running job has reserved."""

    def __init__(
        self, machine: Machine, running_jobs: Iterable[Running] = (), *, explain: bool = True
    ) -> None:
        """Count the remaining resources.

        Args:
            machine: All resources.
            running_jobs: Running jobs with their reservations, the oldest first.
            explain: Give reasons in numbers. Without them a long queue is decided much faster.
        """
        self.machine, self.explain = machine, explain
        self.end_times: dict[int, EndTime] = {}  # identity of a running job → when the job ends
        self._cards = {gpu.uuid: GpuState(gpu, machine, self.end_times) for gpu in machine.gpus}
        foreign = machine.foreign
        cores_of = [item for item in foreign if shares_cores(item.device, machine.cores)]
        memory = [item for item in foreign if item.device == MEMORY]
        self._shared_cores = _shared_resource(machine.cpus, machine.total_cores, cores_of)
        self._shared_ram = _shared_resource(machine.ram, machine.total_ram, memory)
        self.cpus, self.ram = self._shared_cores.available, self._shared_ram.available
        self.unused_ram = machine.ram_free
        # GPUs without memory of their own
        self._unified = {
            uuid: card
            for uuid, card in self._cards.items()
            if card.gpu.shares_host_memory and machine.ram
        }
        self._change_ram(0)
        self._groups: Counter[str] = Counter()
        self._sequence = count()  # order in which jobs were given, and of equal ends
        self._ends: list[tuple[float, int, Running]] = []  # a heap: the most overdue job first
        self.running: dict[int, Running] = {}  # identity → running job of ours that was given
        self._pools: dict[tuple[object, ...], GpuPool] = {}
        self._options_by_request: dict[
            tuple[object, ...], tuple[Refusal | None, tuple[GpuRequest, ...], Resources]
        ] = {}
        # since something changed last
        self._gpu_shortfalls: dict[GpuRequest, Shortfall | None] = {}
        for run in running_jobs:
            self.add_job(run)
        self.unused_ram = machine.ram_free

    def add_job(self, run: Running) -> None:
        """Count what a job takes as taken."""
        self.running[id(run)] = run
        if run.ends is None:
            self.end_times[id(run)] = (inf, next(self._sequence))
        else:
            self._set_end_time(run, run.ends)
        self.cpus -= run.cpus
        self._change_ram(-run.ram)
        self._groups[run.group] += 1
        for card in self._cards_of(run):
            self._change_card(card, card.add_job, run)
        self._invalidate((*run.devices, *self._unified), is_freed=False)

    def remove_job(self, run: Running) -> None:
        """Count what an ended job took as free."""
        del self.running[id(run)], self.end_times[id(run)]
        self.cpus += run.cpus
        self._change_ram(run.ram)
        self._groups[run.group] -= 1
        for card in self._cards_of(run):
            self._change_card(card, card.remove_job, run)
        self._invalidate((*run.devices, *self._unified), is_freed=True)

    def ram_of(self, run: Running) -> int:
        """Return the bytes of main memory that a running job has reserved, also through its GPUs."""
        cards = (self._unified[uuid] for uuid in run.devices if uuid in self._unified)
        return run.ram + sum(card.bytes_of(run) for card in cards)

    def _cards_of(self, run: Running) -> list[GpuState]:
        """Return the GPUs of a job, without those that the machine has lost."""
        return [self._cards[uuid] for uuid in run.devices if uuid in self._cards]

    def _change_card(self, card: GpuState, change: Callable[[Running], None], run: Running) -> None:
        """Add a job to a GPU or remove it; what that changes counts as main memory if the GPU uses it."""
        before = card.own_bytes if card.gpu.shares_host_memory else 0
        change(run)
        if card.gpu.shares_host_memory:
            self._change_ram(before - card.own_bytes)

    def _change_ram(self, amount: int) -> None:
        self.ram, self.unused_ram = self.ram + amount, self.unused_ram + amount
        for card in self._unified.values():
            card.set_host_free(self.ram)

    def free_on(self, devices: Iterable[str]) -> int:
        """Return how many bytes are free on the fullest of some GPUs."""
        return min(min(self._cards[uuid].free, self._cards[uuid].host_free) for uuid in devices)

    def add_others_usage(self, uuid: str, amount: int) -> None:
        """Add GPU memory that others have allocated since. A negative amount was freed."""
        card = self._cards[uuid]
        card.used_by_others, card.free = card.used_by_others + amount, card.free - amount
        self._invalidate((uuid,), is_freed=amount < 0)

    def advance(self, now: float) -> None:
        """Move the expected end of overdue running jobs, as given by their forecast."""
        while self._ends and self._ends[0][0] <= now:
            _, _, run = heappop(self._ends)
            if self.running.get(id(run)) is not run or run.since is None:
                continue
            end = run.forecast.end(run.since, now)
            if end is not None:
                self._set_end_time(run, max(end, now + LEAST_S))
                self._invalidate(run.devices, is_freed=False)

    def _set_end_time(self, run: Running, end: float) -> None:
        self.end_times[id(run)] = (end, 0)
        if run.since is not None:
            heappush(self._ends, (end, next(self._sequence), run))

    def _invalidate(self, devices: Sequence[str], *, is_freed: bool) -> None:
        self._gpu_shortfalls.clear()
        for pool in self._pools.values():
            for uuid in devices:
                if uuid in self._cards:
                    pool.update_gpu(self._cards[uuid], is_freed=is_freed)

    # --- cores, main memory, groups

    def remaining_in_group(self, group: str) -> int | None:
        """Return how many further jobs of a group may start, None if there is no limit."""
        limit = self.machine.limits.get(group) if group else None
        return None if limit is None else limit - self._groups[group]

    def group_full_reason(self, group: str) -> str:
        """Return why no further job of a group may start, '' if one may."""
        left = self.remaining_in_group(group)
        if left is None or left > 0:
            return ""
        if not self.machine.limits[group]:
            return f"{WAITING_FOR}group {group!r}: it is paused"
        runs = pluralize(self._groups[group], "job")
        return f"{WAITING_FOR}group {group!r}: it runs {runs}, its limit is {self.machine.limits[group]}"

    def find_shortfall(
        self, request: Waiting, needs: Sequence[GpuRequest], cpus: int
    ) -> tuple[GpuRequest | None, Shortfall | None]:
        """Return the GPU request that can be met now, otherwise the preferred one, and the missing resource, None if there is none."""
        lacks = self.cpu_or_memory_shortfall(request, cpus)
        if lacks or not needs:
            return next(iter(needs), None), lacks
        lacks = self.gpu_shortfall(needs[0])
        for other in needs[1:] if lacks else ():
            if not self.gpu_shortfall(other):
                return other, None
        return needs[0], lacks

    def cpu_or_memory_shortfall(self, request: Waiting, cpus: int) -> Shortfall | None:
        """Return which cores or how much main memory is missing, None when there is enough."""
        if cpus > self.cpus:
            free, most = max(self.cpus, 0), self.machine.cpus
            need = f"{WAITING_FOR}{format_cores(cpus)}: {free} of {most} free"
            shared = self._shared_cores
            theirs = min(shared.total, shared.foreign_by_queue.total())
            if not theirs:
                return Shortfall(need, resource="cores")
            queues = ", ".join(shared.foreign_by_queue)
            situation = f"{theirs} of {shared.total} reserved by {queues}"
            return Shortfall(need, situation, resource="cores")
        ram = request.resources.ram
        if ram is None or (ram <= self.ram and ram <= self.unused_ram):
            return None
        free = max(0, min(self.ram, self.unused_ram))
        state = "not reserved" if self.ram <= free else "free"
        promises = [
            f"{format_bytes(amount)} reserved on {card.gpu.label}"
            for card in self._unified.values()
            if (amount := sum(map(card.bytes_of, card.own_jobs)))
        ]
        promises += (
            f"{format_bytes(amount)} reserved by {queue}"
            for queue, amount in self._shared_ram.foreign_by_queue.items()
        )
        need = f"{WAITING_FOR}{format_bytes(ram)} of main memory: {format_bytes(free)} {state}"
        return Shortfall(need, ", ".join(promises), resource="memory")

    # --- GPUs

    def pool(self, need: GpuRequest) -> GpuPool:
        """Return the GPUs that a job with such a need may have."""
        key = (need.device, need.number, need.visible, need.count > 1, need.uses_gpu_numbers)
        if key not in self._pools:
            self._pools[key] = GpuPool(self._cards.values(), need)
        return self._pools[key]

    def free_gpus(self, need: GpuRequest | None) -> Iterator[GpuState]:
        """Give the GPUs that can take a job now, the best first; none, if it needs none."""
        return iter(()) if need is None else self.pool(need).free_gpus(need)

    def gpu_shortfall(self, need: GpuRequest) -> Shortfall | None:
        """Return in numbers why there is no GPU for a job now, None if there is one."""
        if need not in self._gpu_shortfalls:
            pool = self.pool(need)
            self._gpu_shortfalls[need] = (
                None if pool.has_room(need) else self._describe_gpu_shortfall(need, pool)
            )
        return self._gpu_shortfalls[need]

    def _describe_gpu_shortfall(self, need: GpuRequest, pool: GpuPool) -> Shortfall:
        if not self.explain:
            return Shortfall(f"{WAITING_FOR}room")
        empty = "empty " if need.exclusive else ""
        why = " (--exclusive)" if need.exclusive and need.excludes_others else ""
        amount = "" if need.vram is None else format_bytes(need.vram)
        if amount and need.estimated:
            amount = f"an estimated {amount}"
        if need.count > 1:
            each = f" with {amount} each" if amount else ""
            what = f"{need.count} {empty}GPUs{each}{why}"
        elif need.exclusive:
            what = f"{amount} on an empty GPU{why}" if amount else f"an empty GPU{why}"
        elif amount:
            what = f"{amount} of GPU memory"
        elif least := min((card.default_request for card in pool.cards), default=0):
            what = f"{format_bytes(least)} of GPU memory (no similar job has been measured)"
        else:
            what = "a GPU"
        of: ResourceKind | None = None if pool.awaits_measurement(need) else "gpu"
        return Shortfall(f"{WAITING_FOR}{what}", pool.refusals(need), resource=of)

    # --- what this machine can never give

    def resource_options(self, request: Waiting) -> tuple[Refusal | None, tuple[GpuRequest, ...]]:
        """Return why the machine can never hold a job, and its needs of GPUs: any one of them, best first."""
        # a lane's jobs share their resources
        key = (
            id(request.resources),
            request.vram,
            request.enough,
            request.least_vram,
            request.visible,
            request.estimated,
            request.similar,
            request.made_exclusive,
            # most values are unknown, and None hashes fast
            None if request.load == UNKNOWN_LOAD else request.load,
        )
        if key not in self._options_by_request:
            wants = wants_gpu(request.resources, self.machine, request.visible)
            needs = self._gpu_options(request) if wants else ()
            # the resources are kept with it: while they live no others have their id
            self._options_by_request[key] = (
                self._permanent_refusal(request, needs),
                needs,
                request.resources,
            )
        return self._options_by_request[key][:2]

    def _gpu_options(self, request: Waiting) -> tuple[GpuRequest, ...]:
        """Return the possible GPU requests of a job, the best first.

        Only declared memory, or memory that was missing at a failure, can be too much for a
        machine. Recorded peaks decide with which jobs it fits. If they exceed an unused GPU, the
        job is tried alone.
        """
        need = gpu_request_of(request)
        if request.enough is None:
            return (need,)
        # A request is what was measured and a margin, and the driver keeps some memory of an idle GPU: a job that
        # nearly fills one would wait for the margin for ever. As for a job of which nothing is known, the
        # reserve is not kept from it, or what it took there before would not be free.
        alone = replace(need, vram=request.enough, exclusive=True, may_use_reserve=True)
        pool = self.pool(need)
        ways = [need, alone]
        if pool.count_enough(pool.free_without_own_jobs, alone) < need.count:
            # measurements elsewhere, or when less was in use, prove nothing about this machine
            ways.append(replace(alone, vram=request.least_vram))
        return tuple(way for way in ways if pool.could_hold(pool.idle_free_bytes, way)) or (need,)

    def _permanent_refusal(self, request: Waiting, needs: Sequence[GpuRequest]) -> Refusal | None:
        asked, machine = request.resources, self.machine
        if asked.ram is not None and asked.ram > machine.ram:
            has = f"this machine has {format_bytes(machine.ram)}"
            return Refusal(has, f"{format_bytes(asked.ram)} of main memory")
        if not needs:
            return None
        if not machine.gpus:
            absent = f" ({machine.absent})" if machine.absent else ""
            return Refusal(f"none found{absent}", "a GPU", ReasonCode.NO_GPU)
        need = needs[0]
        pool = self.pool(need)
        if len(pool.cards) < need.count:
            return Refusal(_describe_offered(pool.cards, need, machine), _describe_wanted(need))
        if len(pool.allowed) < need.count:
            devices = ", ".join(machine.rules.devices or ())
            leaves = f"[sharing] devices = [{devices}] in config.toml allows {_format_gpu_count(len(pool.allowed))}"
            return Refusal(leaves, _describe_wanted(need))
        if all(card.gpu.uuid in self._unified for card in pool.cards):
            least = min(pool.cards[0].request_bytes(way) for way in needs)
            if least > machine.ram:
                has = f"{pool.cards[0].gpu.label_for(need.number)} uses the main memory of this machine, {format_bytes(machine.ram)}"
                both = "main memory and GPU memory together" if need.ram else "GPU memory"
                return Refusal(has, f"{format_bytes(least)} of {both}")
        if request.vram is None or request.estimated:
            return None
        asked_for = gpu_request_of(request)
        declared = asked.vram is not None and asked.vram >= request.vram
        fits = pool.could_hold(pool.totals, asked_for)
        if any(pool.could_hold(pool.idle_free_bytes, way) for way in needs) and (
            fits or not declared
        ):
            return None
        return _too_large_refusal(asked_for, pool, fits_without_driver=fits)


def permanent_refusal(request: Waiting, machine: Machine, *, idle: bool = False) -> Refusal | None:
    """Return why a machine can never hold a job, even if it were unused; None if it can.

    Cores, main memory and GPUs are judged alike, by the hardware and by what [sharing] of config.toml
    leaves out. Where no GPU can be seen GPUs are not judged: a driver comes back, and until then
    the job waits with that reason.

    Args:
        request: the job.
        machine: machine as it is now.
        idle: what is in use of a GPU on which no process is listed is the driver's, and never free.
    """
    gpus = tuple(
        gpu if gpu.used is None or (idle and gpu.processes == ()) else replace(gpu, used=0)
        for gpu in machine.gpus
    )
    return Inventory(machine._replace(gpus=gpus)).resource_options(request)[0]


def impossible_reason(job: Waiting, machine: Machine) -> str:
    """Return why a machine can never give what a job asks for, even if it were unused; '' if it can."""
    asked = job.resources
    if asked.cpus > machine.cpus:
        return f"needs {format_cores(asked.cpus)}, but this machine has {pluralize(machine.cpus, 'usable core')}"
    if not machine.gpus:
        job = job._replace(resources=Resources(cpus=asked.cpus, ram=asked.ram, device=CPU))
    never = permanent_refusal(job, machine, idle=True)
    return never.error if never else ""


def make_running(
    request: Waiting, need: GpuRequest | None, gpus: Sequence[GpuState], cpus: int, now: float
) -> Running:
    """Return what a job has of the machine that starts now.

    Args:
        request: the job.
        need: GPUs that the job gets.
        gpus: these GPUs.
        cpus: number of cores that the job gets.
        now: time on the clock of `Running.ends`.
    """
    alone = need is not None and need.exclusive
    estimated = request.estimated and not alone
    promised = None if need is None or request.vram is None else need.vram
    if alone and request.estimated:
        promised = None
    if promised is not None and need is not None and need.may_use_reserve:
        promised = min(request.vram or 0, *(card.free + card.reserve for card in gpus))
    ends = request.forecast.end(now, now)
    if ends is None and request.seconds is not None:
        ends = now + request.seconds
    return Running(
        job=request.job,
        name=request.name,
        cpus=cpus,
        devices=tuple(card.gpu.uuid for card in sorted(gpus, key=pci_order)),
        ram=request.resources.ram or 0,
        group=request.group,
        vram=promised,
        estimated=estimated and need is not None,
        similar=request.similar if estimated else "",
        unmeasured_s=0.0 if estimated and need is not None and promised is None else None,
        exclusive=alone,
        ends=ends,
        since=now,
        forecast=request.forecast,
        load=request.load,
    )


def placement_reason(job: Waiting, running_job: Running, gpus: Sequence[GpuState]) -> str:
    """Return why a job starts where it does, in numbers."""
    if not gpus:
        return f"on the CPU with {pluralize(running_job.cpus, 'core')}"
    device = job.resources.device
    on = ", ".join(card.gpu.label_for(device) for card in sorted(gpus, key=pci_order))
    free = format_bytes(min(card.free for card in gpus))
    alone = " exclusively" if running_job.exclusive else ""
    if running_job.vram is not None:
        source = f" ({job.source})" if job.source else ""
        return (
            f"on {on}{alone}: reserved {format_bytes(running_job.vram)}{source}, {free} were free"
        )
    if running_job.exclusive:
        return f"on {on} exclusively, {free} were free"
    amount = format_bytes(min(card.default_request for card in gpus))
    source = job.source or "no similar job has been measured"
    return f"on {on}: reserved {amount} at first ({source}), {free} were free"


def pci_order(card: GpuState) -> tuple[int, int]:
    """Return a GPU's place in PCI order."""
    return card.gpu.index, card.gpu.mig or 0


def _describe_wanted(need: GpuRequest) -> str:
    device = need.device if need.device not in {"auto", "cuda"} else "a GPU"
    device = f"{need.number} ({device})" if need.number else device
    return device if need.count == 1 else f"{need.count} GPUs"


def _describe_offered(pool: Sequence[GpuState], need: GpuRequest, machine: Machine) -> str:
    if need.uses_gpu_numbers and any(gpu.mig is not None for gpu in machine.gpus):
        return "gpu_ids=numbers does not work on a machine with MIG instances. Use gpu_ids=uuids"
    if need.visible is not None:
        seen = f"CUDA_VISIBLE_DEVICES={','.join(need.visible)}, set when it was queued,"
        return f"{seen} shows {_format_gpu_count(len(pool))}"
    if need.device not in {"auto", "cuda"}:
        by_uuid = is_gpu_uuid(need.device)
        labels = ", ".join(
            f"{gpu.number} ({gpu.uuid})" if by_uuid else gpu.label
            for gpu in machine.gpus
            if not gpu.is_replaced
        )
        if need.number and not pool:
            return f"it had this number when the job was queued, but has gone. This machine has only {labels}"
        return f"this machine has only {labels}" if not pool else f"{need.device} is one GPU"
    divided = need.count > 1 and any(gpu.mig is not None for gpu in machine.gpus)
    whole = " that are not divided" if divided else ""
    return f"this machine has {len(pool) or 'none'}{whole}"


def _too_large_refusal(need: GpuRequest, pool: GpuPool, *, fits_without_driver: bool) -> Refusal:
    """Return why too few GPUs are large enough, in numbers.

    Args:
        need: Request of the job.
        pool: GPUs that the job may have.
        fits_without_driver: Whether they would be large enough without the memory of the idle driver.
    """
    kept = f" ({format_bytes(pool.reserve)} is reserved for other users)" if pool.reserve else ""
    asked = f"{format_bytes(need.vram or 0)} of GPU memory"
    if need.count > 1:
        asked += f" on each of {need.count} GPUs"
    sizes, which = (
        (pool.idle_free_bytes, "emptiest") if fits_without_driver else (pool.totals, "largest")
    )
    where = (
        pool.cards[0].gpu.label_for(need.number)
        if len(pool.cards) == 1
        else f"this machine's {which} GPU"
    )
    room = format_bytes(max(0, max(sizes, default=0) - pool.reserve))
    why = f"{where} has at most {room} for it{kept}"
    if fits_without_driver:
        why = f"{where} has at most {room} for it{kept}, the driver uses the rest. Request less"
    elif need.count > 1:
        enough = pool.count_enough(sizes, need)
        fitting = f"only {enough}" if enough else "none"
        why = f"{fitting} of its {len(pool.cards)} GPUs have that much{kept}"
    return Refusal(why, asked)


def _format_gpu_count(count: int) -> str:
    return {0: "none", 1: "one GPU"}.get(count, f"{count} GPUs")


def format_cores(count: int) -> str:
    """Return a number of CPU cores in words."""
    return pluralize(count, "CPU core")
