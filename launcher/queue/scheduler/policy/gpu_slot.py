"""State of one GPU during a decision: free and reserved memory, and when there is room again.

Also the GPUs that a job may have: whether they have room, the best place, and the reason if there
is none.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from math import inf
from typing import Any

from launcher.queue.gpu.resources import EXCLUSIVE, JOBS, resource_name
from launcher.queue.gpu.snapshot import ONE_PROCESS, PROHIBITED, GpuSnapshot
from launcher.queue.jobs.job import is_gpu_uuid
from launcher.queue.scheduler.policy.co_location import (
    EXPECTED_LOAD,
    MOST_NAMED_JOBS,
    SATURATED,
    UNMEASURED_MOST,
    GpuLoad,
    can_share,
    format_job_names,
    total_load,
    why_cannot_share,
)
from launcher.queue.scheduler.policy.model import GpuRequest, Machine, Running
from launcher.queue.scheduler.policy.oom_policy import NEGLIGIBLE, QUIET_SHARE
from launcher.system.errors import pluralize
from launcher.system.units import format_bytes, format_seconds

# when a job ends, and if that is unknown, which of those started first
EndTime = tuple[float, int]
# bytes, jobs of ours, and what those that stay do to a GPU
RoomBeside = tuple[int, int, tuple[GpuLoad, ...]]
GROWTH_MARGIN = 0.02  # part of a GPU's memory that stays free, so that what runs can grow a little
MOST_GROWTH_MARGIN = 1 << 30  # bytes of the margin
MOST_UNMEASURED = 4  # jobs on a GPU of which nothing similar has been measured yet
UNMEASURED_S = 600.0  # an unmeasured job without memory for this many seconds delays no other
FIRST_SIMILAR_S = 10.0  # seconds; longest wait for a measurement of the first of similar jobs before the second starts
_PLENTY = 1 << 30  # jobs; more than any GPU runs
_UNLIMITED = 1 << 60  # bytes; more than any machine has


def growth_margin_of(total: int) -> int:
    """Return how many bytes of a GPU stay free, so that what runs can grow a little.

    Args:
        total: its memory.
    """
    return min(MOST_GROWTH_MARGIN, round(GROWTH_MARGIN * total))


class GpuState:
    """One GPU with the places that are assigned on it."""

    def __init__(
        self, gpu: GpuSnapshot, machine: Machine, end_times: Mapping[int, EndTime]
    ) -> None:
        """Start with the usage of others. Our jobs are added with `add_job`.

        Args:
            gpu: The GPU as read from the driver.
            machine: The machine with its rules.
            end_times: End times of our jobs by the identity of their `Running`. Filled by the
                caller.
        """
        rules = machine.rules
        self.gpu = gpu
        self.used_by_others = gpu.used or 0  # usage by our jobs is subtracted as they are added
        # bytes by the user for whose jobs they are reserved
        self._foreign_by_queue: Counter[str] = Counter()
        self.other_users: Counter[str] = Counter()  # jobs by the user to whose launcher they belong
        alone = ""
        for reservation in machine.foreign:
            if reservation.device == gpu.uuid:
                self._foreign_by_queue[reservation.queue] += reservation.amount
                self.other_users[reservation.user] += 0  # also if no number of jobs is published
            elif reservation.device == resource_name(JOBS, gpu.uuid):
                self.other_users[reservation.user] += reservation.amount
            elif reservation.device == resource_name(EXCLUSIVE, gpu.uuid):
                alone = reservation.queue
        self.foreign_reserved = sum(self._foreign_by_queue.values())
        self.max_jobs = rules.max_jobs_per_gpu  # jobs of ours; None: as many as pays
        self._max_jobs_reason = ""
        self.is_adaptive = rules.adaptive
        if self.is_adaptive and not gpu.reports_load:
            self.max_jobs = min(self.max_jobs or UNMEASURED_MOST, UNMEASURED_MOST)
            self._max_jobs_reason = ", as its driver does not report the load per job"
        if gpu.compute_mode in ONE_PROCESS:
            self.max_jobs, self._max_jobs_reason = 1, ", as its compute mode is exclusive"
        # bytes for a job of which nothing is known
        self.default_request = rules.unknown_bytes(gpu.total)
        self.growth_margin = growth_margin_of(gpu.total)
        load, processes = machine.foreign_load.get(gpu.uuid, (0.0, 0))
        self._foreign_processes = processes
        young = max(0, self.other_users.total() - processes)  # jobs of others that hold nothing yet
        # theirs are expected to do what those do that are measured; a step of 0.01 decides nothing
        expected = load / processes if processes else EXPECTED_LOAD
        self.foreign_load = round(load + young * expected, 2)
        self.reserve = rules.reserve
        self.free = gpu.total - self.used_by_others - self.foreign_reserved - self.reserve
        # unreserved main memory, if it is the memory of this GPU
        self.host_free = _UNLIMITED
        self.is_allowed = rules.devices is None or is_visible(gpu, rules.devices)
        self.closed_reason = _closed_reason(gpu, machine) or (
            f"is reserved exclusively by {alone}" if alone else ""
        )
        self.own_jobs: list[Running] = []
        self.loads: tuple[GpuLoad, ...] = ()  # load of each of our jobs
        self._amounts: dict[int, int] = {}  # bytes by the identity of each of ours
        # our jobs with an estimate that are not measured yet
        self._unmeasured_jobs: list[Running] = []
        # similar jobs → the job that the others wait for
        self._first_similar: dict[str, Running] = {}
        self.exclusive_jobs = 0  # number of our jobs that share the GPU with none of ours
        self._end_times_by_id = end_times
        self._refusal_text = ""

    @property
    def is_quiet(self) -> bool:
        """Whether others use little of the GPU. Used memory not assigned to our jobs counts as theirs."""
        if self.gpu.shares_host_memory:  # programs without GPU may use most of the memory
            return not self.foreign_reserved and not self._foreign_processes
        return self.used_by_others + self.foreign_reserved <= max(
            QUIET_SHARE * self.gpu.total, NEGLIGIBLE
        )

    @property
    def idle_free_bytes(self) -> int:
        """Free bytes of this GPU when it is idle.

        Memory that the driver keeps on an idle GPU is never free. That part is hard to see beside
        jobs, whose memory is measured a moment later than that of the GPU.
        """
        idle = not self.own_jobs and not self.foreign_reserved and not self.other_users
        return self.gpu.total - (
            self.used_by_others if idle and self.used_by_others <= NEGLIGIBLE else 0
        )

    @property
    def free_without_own_jobs(self) -> int:
        """How many bytes are free here after the end of our jobs and of others that use more than a little."""
        if self.gpu.fault or self.gpu.used is None:
            return 0
        return self.gpu.total - (self.used_by_others if self.is_quiet else 0)

    def bytes_of(self, job: Running) -> int:
        """Return what is counted here for a job of ours, in bytes."""
        return self._amounts[id(job)]

    @property
    def own_bytes(self) -> int:
        """What is counted here for all jobs of ours, in bytes."""
        return sum(self._amounts.values())

    def add_job(self, job: Running) -> None:
        """Assign a place here to a job of ours.

        Its reservation counts, or its usage if that is more. An estimate grows only into memory
        that is free and not reserved.
        """
        used = job.used.get(self.gpu.uuid, 0)
        taken = min(used, self.used_by_others)
        self.used_by_others -= taken
        self.free += taken
        reserved = job.vram or 0
        if job.estimated:
            estimate = self.default_request if job.vram is None else job.vram
            reserved = min(estimate, max(0, min(self.free, self.host_free)))
        self._amounts[id(job)] = max(reserved, used)
        self.free -= self._amounts[id(job)]
        self.own_jobs.append(job)
        self._shrink_estimates()
        self.loads = (*self.loads, job.load)
        self.exclusive_jobs += job.exclusive
        self._update_unmeasured()
        self._refusal_text = ""

    def _shrink_estimates(self) -> None:
        """Leave to others what they have reserved: an older estimate shrinks to what its job uses, if it must."""
        for job in self.own_jobs if self.free < 0 else ():
            if job.estimated:
                slack = self._amounts[id(job)] - job.used.get(self.gpu.uuid, 0)
                given = max(0, min(slack, -self.free))
                self._amounts[id(job)] -= given
                self.free += given

    def remove_job(self, job: Running) -> None:
        """Remove the place of a job and its usage."""
        self.own_jobs = [running for running in self.own_jobs if running is not job]
        self.loads = tuple(running.load for running in self.own_jobs)
        self.free += self._amounts.pop(id(job))
        self.exclusive_jobs -= job.exclusive
        self._update_unmeasured()
        self._refusal_text = ""

    def _update_unmeasured(self) -> None:
        self._unmeasured_jobs = [
            job
            for job in self.own_jobs
            if job.unmeasured_s is not None and job.unmeasured_s < UNMEASURED_S
        ]
        self._first_similar = {
            job.similar: job
            for job in self._unmeasured_jobs
            if (job.unmeasured_s or 0.0) < FIRST_SIMILAR_S
        }

    def request_bytes(self, need: GpuRequest) -> int:
        """Return how many bytes a job takes here; one of which nothing is known gets a fixed part.

        On a GPU that uses the main memory of the machine, these include what it requests of that.
        """
        ram = need.ram if self.gpu.shares_host_memory else 0
        if need.vram is None:
            return max(ram, 0 if need.exclusive else self.default_request)
        return need.vram + ram

    def set_host_free(self, amount: int) -> None:
        """Set how many bytes of the main memory that this GPU uses are not reserved."""
        self.host_free, self._refusal_text = amount, ""

    def has_host_memory(self, need: GpuRequest) -> bool:
        """Whether enough main memory is unreserved for a job, if this GPU uses that."""
        each = self.request_bytes(need) - need.ram if self.gpu.shares_host_memory else 0
        return self.request_bytes(need) + (need.count - 1) * each <= self.host_free

    @property
    def is_memory_low(self) -> bool:
        """Whether so little memory is free that no further job starts, because running ones may grow."""
        return self.gpu.total - (self.gpu.used or 0) < self.growth_margin

    def can_take(self, need: GpuRequest) -> bool:
        """Return whether a job can start here now."""
        fits = self.has_host_memory(need) and self._fits_now(need)
        return fits and not self._must_wait_for_samples(need)

    def _fits_now(self, need: GpuRequest) -> bool:
        return self._fits(need, self.free, self.loads, exclusive=self.exclusive_jobs)

    def _must_wait_for_samples(self, need: GpuRequest) -> bool:
        """Return whether a job has to wait until what runs here has been measured."""
        if not self.own_jobs:
            return False
        if self.is_memory_low or (self.is_adaptive and self._is_saturated()):
            return True
        if not need.estimated or need.vram is not None:
            return False
        return need.similar in self._first_similar or len(self._unmeasured_jobs) >= MOST_UNMEASURED

    def awaits_measurement(self, need: GpuRequest) -> bool:
        """Return whether a job could start here now, were what runs here measured."""
        fits = self.has_host_memory(need) and self._fits_now(need)
        return fits and self._must_wait_for_samples(need) and not self.is_memory_low

    def _is_saturated(self) -> bool:
        """Return whether the GPU is always busy and some of our jobs are not yet measured in this state."""
        full = (self.gpu.utilisation or 0.0) >= SATURATED
        return full and not all(load.measured for load in self.loads)

    @property
    def load_sum(self) -> float:
        """For which share of the time it is busy, as far as it was measured and is expected, to two digits."""
        return round(total_load(self.loads) + self.foreign_load, 2)

    def opens_at(self, need: GpuRequest) -> EndTime | None:
        """Return the earliest time when a job can start here, None if not even after all our jobs have ended.

        The time is infinite if it depends on a job of unknown duration. It then depends on the last
        such job, so that a later job cannot delay it. Jobs elsewhere may still have reserved the main
        memory that it needs.
        """
        if self._fits_now(need) and not (self.own_jobs and self.is_memory_low):
            return (-inf, 0)  # a measurement takes seconds
        free, exclusive = self.free, self.exclusive_jobs
        ours = sorted(self.own_jobs, key=self._end_time)
        for gone, job in enumerate(ours, start=1):
            free, exclusive = free + self.bytes_of(job), exclusive - job.exclusive
            left = tuple(each.load for each in ours[gone:])
            if self._fits(need, free, left, exclusive=exclusive):
                return self._end_time(job)
        return None

    def _end_time(self, job: Running) -> EndTime:
        return self._end_times_by_id[id(job)]

    def _fits(
        self, need: GpuRequest, free: int, other_loads: tuple[GpuLoad, ...], *, exclusive: int
    ) -> bool:
        """Return whether a job can run here with our other jobs, `exclusive` of which share with none."""
        if self.closed_reason or (need.excludes_others and self.other_users):
            return False
        if need.may_use_reserve:
            free += self.reserve
        if need.estimated and other_loads:
            free -= self.growth_margin
        if self.request_bytes(need) > free:
            return False
        if not other_loads:
            return self.is_quiet or not need.needs_quiet_gpu
        return not need.exclusive and not exclusive and self._has_gpu_time(need.load, other_loads)

    def _has_gpu_time(self, load: GpuLoad, other_loads: tuple[GpuLoad, ...]) -> bool:
        """Return whether a job may come to others: by their number, and by how busy they keep the GPU."""
        if self.max_jobs is not None and len(other_loads) >= self.max_jobs:
            return False
        if not self.is_adaptive:
            return True
        return can_share(load, other_loads, self.foreign_load)

    def lacks_gpu_time(self, need: GpuRequest) -> bool:
        """Return whether a job could start here now if what runs kept the GPU less busy."""
        if self.closed_reason or need.exclusive or self.exclusive_jobs or not self.own_jobs:
            return False
        if self.max_jobs is not None and len(self.own_jobs) >= self.max_jobs:
            return False
        free = self.free - (self.growth_margin if need.estimated else 0)
        fits = self.has_host_memory(need) and self.request_bytes(need) <= free
        return fits and not self._has_gpu_time(need.load, self.loads)

    def can_share_with(self, load: GpuLoad, other_loads: tuple[GpuLoad, ...]) -> bool:
        """Return whether a job improves throughput with others, which need not be those that run here now."""
        return not other_loads or self._has_gpu_time(load, other_loads)

    def remaining_room(self, need: GpuRequest, end_time: EndTime) -> RoomBeside:
        """Return the remaining room beside a job that starts at a time, and the jobs that will still be there."""
        if need.exclusive:
            return 0, 0, ()
        gone = [job for job in self.own_jobs if self._end_time(job) <= end_time]
        left = self.free + sum(self.bytes_of(job) for job in gone)
        stay = tuple(job.load for job in self.own_jobs if self._end_time(job) > end_time)
        slots = _PLENTY if self.max_jobs is None else self.max_jobs
        # it starts only if this much stays free in addition
        left -= need.estimated * self.growth_margin
        return left - self.request_bytes(need), slots - len(stay) - 1, stay

    def refusal(self, need: GpuRequest) -> str:
        """Return in numbers why a job cannot start here now."""
        name, gpu = self.gpu.label_for(need.number), self.gpu
        if self.closed_reason:
            return f"{name} {self.closed_reason}"
        if need.exclusive and self.own_jobs:
            return f"{name} runs {_name_jobs(self.own_jobs)}"
        if self.exclusive_jobs:
            return f"{name} runs {_name_jobs(self.own_jobs)} exclusively"
        if need.excludes_others and self.other_users:
            return f"{name} is used by {', '.join(self.other_users)}"
        if need.needs_quiet_gpu and not self.is_quiet:
            taken = f"{name} has {format_bytes(self.used_by_others)} in use by other users"
            return join_words([taken, *self._describe_foreign()])
        if self.max_jobs is not None and len(self.own_jobs) >= self.max_jobs:
            limit = f"its limit is {pluralize(self.max_jobs, 'job')}{self._max_jobs_reason}"
            return f"{name} runs {_name_jobs(self.own_jobs)}, {limit}"
        if self.own_jobs and self.is_memory_low:
            free = format_bytes(max(0, gpu.total - (gpu.used or 0)))
            return f"{name} runs {_name_jobs(self.own_jobs)} and has only {free} free"
        if self.host_free < self.free and not self.has_host_memory(need):
            left = format_bytes(max(0, self.host_free))
            return f"{name} uses the main memory of the machine, of which {left} is not reserved"
        if (
            self.own_jobs
            and self.request_bytes(need) <= self.free - need.estimated * self.growth_margin
        ):
            if why := self._unmeasured_reason(need):
                return why
            if not self.can_take(need):
                there = [(job.name or str(job.job), job.load) for job in self.own_jobs]
                return f"{name} {why_cannot_share(need.load, there, self.foreign_load)}"
        if not self._refusal_text:  # many jobs wait for the same GPU
            free = format_bytes(max(0, gpu.total - (gpu.used or 0)))
            self._refusal_text = f"has {free} free{self._describe_reserved()}"
        return f"{name} {self._refusal_text}"

    def _unmeasured_reason(self, need: GpuRequest) -> str:
        """Return which jobs have to be measured before another one starts here; '' if there are none."""
        if not self._must_wait_for_samples(need):
            return ""
        name = self.gpu.label_for(need.number)
        if self._is_saturated():
            used = f"{self.gpu.utilisation or 0.0:.0%}".replace("%", " %")
            return f"{name} is {used} busy with {_name_jobs(self.own_jobs)}"
        if first := self._first_similar.get(need.similar):
            return f"{_name_jobs([first])}, the first similar job, is being measured on {name}"
        return f"{name} runs {_name_jobs(self._unmeasured_jobs)}, which are being measured"

    def _describe_reserved(self) -> str:
        """Return how much of the free memory is reserved, and for which users."""
        parts = []
        pending = {
            job.job: self.bytes_of(job) - job.used.get(self.gpu.uuid, 0) for job in self.own_jobs
        }
        if sum(pending.values()) > 0:
            owed = [job for job in self.own_jobs if pending[job.job] > 0]
            parts.append(
                f"{format_bytes(sum(pending.values()))} is reserved for {_name_jobs(owed)}"
            )
        if self.foreign_reserved:
            parts += self._describe_foreign()
        reserve = (
            self.gpu.total
            - self.used_by_others
            - self.foreign_reserved
            - self.free
            - sum(map(self.bytes_of, self.own_jobs))
        )
        if reserve > 0:
            parts.append(f"{format_bytes(reserve)} is reserved for other users")
        return f", of which {join_words(parts)}" if parts else ""

    def _describe_foreign(self) -> list[str]:
        return [
            f"{format_bytes(amount)} is reserved by {queue}"
            for queue, amount in self._foreign_by_queue.items()
        ]


def matches_device(gpu: GpuSnapshot, device: str) -> bool:
    """Whether a job with a `device` setting may have a GPU."""
    if is_gpu_uuid(device):
        return gpu.uuid.startswith(device)
    if device in {"auto", "cuda"}:
        return True
    return device in {gpu.number, f"cuda:{gpu.index}"} and not gpu.is_replaced


def is_visible(gpu: GpuSnapshot, visible: Sequence[str]) -> bool:
    """Whether CUDA_VISIBLE_DEVICES names a GPU by its number in PCI order or by a prefix of its UUID."""
    for name in visible:
        if name.isdecimal():
            if int(name) == gpu.index:
                return True
        elif name.startswith(("GPU-", "MIG-")):
            if gpu.uuid.startswith(name):
                return True
        else:
            return False  # like CUDA: devices behind an unknown entry, such as -1, are hidden
    return False


def _closed_reason(gpu: GpuSnapshot, machine: Machine) -> str:
    """Return why nothing may start on a GPU, whatever it asks for; '' if something may."""
    rules = machine.rules
    if gpu.fault:
        return gpu.fault
    if gpu.used is None or not gpu.total:
        return "; ".join(("does not report its used memory", *gpu.warnings))
    if not 0 <= gpu.used <= gpu.total:
        return f"reports an impossible usage ({gpu.used} of {gpu.total} bytes)"
    if rules.reserve >= gpu.total:
        kept, total = format_bytes(rules.reserve), format_bytes(gpu.total)
        return f"has {total}, and [sharing] reserve in config.toml is {kept}"
    if gpu.compute_mode == PROHIBITED:
        return "accepts no programs, as its compute mode is prohibited"
    if rules.devices is not None and not is_visible(gpu, rules.devices):
        return "is not in [sharing] devices of config.toml"
    idle_s = machine.idle.get(gpu.uuid, 0.0)
    if idle_s < rules.idle_s:
        return (
            f"has been unused by others for {format_seconds(round(idle_s))} "
            f"of the required {format_seconds(rules.idle_s)}"
        )
    return ""


def join_words(parts: Sequence[str]) -> str:
    """Join parts of a sentence with commas, the last one with "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def _name_jobs(own_jobs: Sequence[Running]) -> str:
    return format_job_names([job.name or str(job.job) for job in own_jobs])


class GpuPool:
    """The GPUs among which jobs of the same `device` and visibility choose.

    They are kept sorted while jobs start and end. A caller that adds or removes a place on one must
    call `update_gpu`.
    """

    def __init__(self, cards: Iterable[GpuState], need: GpuRequest) -> None:
        """Choose the GPUs that fit a need by name, by its owner's choice, and as parts of a group."""
        cards = tuple(cards)
        named = [card for card in cards if matches_device(card.gpu, need.device)]
        if need.number:  # the GPU that had the number when the job was queued
            named = [card for card in named if not card.gpu.is_replaced]
        if need.uses_gpu_numbers and any(card.gpu.mig is not None for card in cards):
            named = []  # the driver's number of a GPU need not be CUDA's then
        if need.visible is not None:
            named = [card for card in named if is_visible(card.gpu, need.visible)]
        if (
            need.count > 1
        ):  # CUDA gives a process one instance of a divided card, and nothing beside
            named = [card for card in named if card.gpu.mig is None]
        self.cards = tuple(named)
        # devices that config.toml allows
        self.allowed = [card for card in named if card.is_allowed]
        sized = [card for card in self.allowed if card.gpu.total]
        # bytes of each: in all, while nobody works there, and once ours have ended
        self.totals = [card.gpu.total for card in sized]
        self.idle_free_bytes = [card.idle_free_bytes for card in sized]
        self.free_without_own_jobs = [card.free_without_own_jobs for card in self.allowed]
        # a failed GPU that never reported its size does not count beside others that did
        silent = [card for card in self.allowed if not card.gpu.total]
        self._unknown_size_count = len([card for card in silent if not (card.gpu.fault and sized)])
        self._position = {card.gpu.uuid: at for at, card in enumerate(self.cards)}
        self._by_emptiness = _Ranking(_emptiness_key)
        # bytes that were refused to a load on this many GPUs, since one of our jobs ended last
        self._refused_requests: dict[tuple[GpuLoad, int, bool, str, int], int] = {}
        self._has_known_load = False  # the load of some jobs is known: then GPUs differ
        self._by_free_memory = _Ranking(_free_memory_key)
        self._by_opening: tuple[GpuRequest, _Ranking] | None = None
        self.reserve = self.cards[0].reserve if self.cards else 0
        for card in self.cards:
            self.update_gpu(card)

    def update_gpu(self, card: GpuState, *, is_freed: bool = True) -> None:
        """Update the position of a GPU. `is_freed`: there may be more room than before."""
        at = self._position.get(card.gpu.uuid)
        if at is None:
            return
        for ranking in (self._by_emptiness, self._by_free_memory):
            ranking.update_gpu(at, card)
        if is_freed:
            self._refused_requests.clear()
        self._has_known_load = self._has_known_load or any(
            load.sm is not None for load in card.loads
        )
        if self._by_opening is not None:
            self._by_opening[1].update_gpu(at, card)

    def has_room(self, need: GpuRequest) -> bool:
        """Whether as many GPUs as a job needs have room now."""
        key = need.load, need.count, need.estimated, need.similar, need.ram
        request = need.vram or 0
        refused = None if need.exclusive else self._refused_requests.get(key)
        if refused is not None and request >= refused:
            return False  # a GPU with more jobs does not become a better place
        able = self._able_gpus(need) if need.exclusive else self._able_shared_gpus(need)
        fits = len([*islice(able, need.count)]) == need.count
        if not fits and not need.exclusive:
            self._refused_requests[key] = request
        return fits

    def free_gpus(self, need: GpuRequest) -> Iterator[GpuState]:
        """Yield the GPUs that can take a job now, the best first.

        The best one is the emptiest, then the smallest, then the one with the most free memory. For
        a job of unknown memory usage it is the one with the most free memory.
        """
        able = self._able_gpus(need)
        if need.vram is None:
            able = iter(sorted(able, key=lambda card: (-card.free, self._position[card.gpu.uuid])))
        yield from _idlest_first(able) if self._has_known_load else able

    def _able_shared_gpus(self, need: GpuRequest) -> Iterator[GpuState]:
        """Yield the GPUs that can take a job beside ours, those with the most free memory first."""
        request = need.vram or 0
        for shut, free, at in self._by_free_memory.entries:
            if shut or -free < request:
                return
            if self.cards[at].can_take(need):
                yield self.cards[at]

    def _able_gpus(self, need: GpuRequest) -> Iterator[GpuState]:
        """Give the GPUs that can take a job now, those on which fewest of ours run first."""
        for *_, at in self._by_emptiness.entries:
            if need.exclusive and self.cards[at].own_jobs:
                return
            if self.cards[at].can_take(need):
                yield self.cards[at]

    def lacks_gpu_time(self, need: GpuRequest) -> bool:
        """Return whether a job could start now if what runs kept the GPUs less busy."""
        return any(card.lacks_gpu_time(need) for card in self.cards)

    def awaits_measurement(self, need: GpuRequest) -> bool:
        """Return whether a job waits only for the measurement of running jobs."""
        return any(card.awaits_measurement(need) for card in self.cards)

    def openings(self, need: GpuRequest) -> Iterator[tuple[EndTime, GpuState]]:
        """Give the GPUs that can take a job when enough of ours have ended, and when: the first ones first."""
        if self._by_opening is None or self._by_opening[0] != need:
            ranking = _Ranking(partial(_opening_key, need))
            for at, card in enumerate(self.cards):
                ranking.update_gpu(at, card)
            self._by_opening = (need, ranking)
        for time, _, at in self._by_opening[1].entries:
            yield time, self.cards[at]

    def could_hold(self, sizes: Iterable[int], need: GpuRequest) -> bool:
        """Whether enough GPUs could take a job with this many bytes. GPUs of unknown size count as large enough."""
        return self.count_enough(sizes, need) + self._unknown_size_count >= need.count

    def count_enough(self, sizes: Iterable[int], need: GpuRequest) -> int:
        """Return how many GPUs could take a job if they had this many bytes."""
        wanted = self._needed_bytes(need)
        return sum(size >= wanted for size in sizes)

    def _needed_bytes(self, need: GpuRequest) -> int:
        """Return the bytes that a request takes of a GPU, including the reserve for others if that is kept."""
        return (need.vram or 0) + (0 if need.may_use_reserve else self.reserve)

    def refusals(self, need: GpuRequest) -> str:
        """Return why none of the GPUs can be had, in numbers; the likeliest are named."""
        first = sorted(entry[-1] for entry in self._by_free_memory.entries[:MOST_NAMED_JOBS])
        refusals = "; ".join(self.cards[at].refusal(need) for at in first)
        more = len(self.cards) - len(first)
        return f"{refusals}; and {pluralize(more, 'more GPU')}" if more else refusals


class _Ranking:
    """GPUs in order of a key; None keeps one out."""

    def __init__(self, key: Callable[[GpuState], tuple[Any, ...] | None]) -> None:
        self._key = key
        self._own: dict[int, tuple[Any, ...]] = {}
        self.entries: list[tuple[Any, ...]] = []  # the key, then the GPU's place in the pool

    def update_gpu(self, index: int, card: GpuState) -> None:
        key = self._key(card)
        before = self._own.pop(index, None)
        if before is not None:
            del self.entries[bisect_left(self.entries, before)]
        if key is not None:
            self._own[index] = entry = (*key, index)
            insort(self.entries, entry)


def _emptiness_key(card: GpuState) -> tuple[float, ...] | None:
    if card.closed_reason or card.exclusive_jobs:
        return None
    if card.max_jobs is not None and len(card.own_jobs) >= card.max_jobs:
        return None
    return len(card.own_jobs), card.gpu.total, -card.free


def _idlest_first(cards: Iterable[GpuState]) -> Iterator[GpuState]:
    """Give GPUs in their order; of those with as many of our jobs, the least busy first."""
    for _, alike in groupby(cards, lambda card: len(card.own_jobs)):
        yield from sorted(alike, key=lambda card: card.load_sum)


def _free_memory_key(card: GpuState) -> tuple[float, ...]:
    return bool(card.closed_reason), -card.free


def _opening_key(need: GpuRequest, card: GpuState) -> tuple[Any, ...] | None:
    at = card.opens_at(need)
    return None if at is None else (at, -card.free)
