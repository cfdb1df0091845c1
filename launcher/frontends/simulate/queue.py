"""The scheduler's own policies as the queue of a simulation: their knowledge of jobs, and the jobs that they start.

A job has all its GPUs on one machine, and the policy decides for each machine alone.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import cache
from heapq import heappop, heappush
from math import inf
from typing import Any

from launcher.frontends.simulate.machine import SimulatedCluster
from launcher.frontends.simulate.trace import SimilarityGroup, TraceJob
from launcher.queue.jobs.accounts import NO_ACCOUNT, FairShareAccount
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, make_load
from launcher.queue.scheduler.policy.decide import MachineScheduler
from launcher.queue.scheduler.policy.disciplines import (
    USUAL_S,
    QueueOrder,
    ReservationPolicy,
    SchedulingPolicy,
    order_by_policy,
    response_ratio,
)
from launcher.queue.scheduler.policy.model import (
    LONG_QUANTILE,
    UNKNOWN,
    Forecast,
    GpuRequest,
    Machine,
    Start,
    Waiting,
    make_forecast,
)
from launcher.queue.scheduler.policy.queue_lengths import PATIENCE_FACTOR
from launcher.queue.scheduler.policy.vram_request import choose_vram_request
from launcher.queue.store.usage import NEWEST_PEAKS as MOST_PEAKS
from launcher.queue.store.usage import SimilarUsage, Usage, margin_of
from launcher.system.gpu_sharing import SharingRules

NEWEST = 64  # durations of similar jobs that are remembered, as in the queue
# seconds; a job that shares a GPU reaches its memory peak within this time, and fails if that is too much
PEAK_S = 60.0
PLENTY = 1 << 50  # cores, and bytes of main memory: neither is ever short in a simulation
_MEASURABLE = 1e-3  # a job that took longer than alone by this factor shared a GPU

MemoryClass = tuple[str, int | None]  # the key of equal requests: a group or nothing, and bytes
# the request of a job, and the group by which that is learned
RequestKey = tuple[int, MemoryClass, bool, str]
# the request, the key of its forecasts, and its user
_LaneKey = tuple[RequestKey, str, float | None, str]
_Entry = tuple[float, float, int, TraceJob]  # order in a lane, rank, index: its place in the queue


class RuntimeKnowledge(StrEnum):
    """How much a policy knows of the durations of jobs."""

    KNOWN = "known"  # durations of jobs alone on their GPUs
    LEARNED = "learned"  # durations of jobs that ended before
    NONE = "none"


class MemoryKnowledge(StrEnum):
    """How much a policy knows of the memory usage of jobs."""

    KNOWN = "known"  # each job's request, before it ran
    LEARNED = "learned"  # usage of similar jobs that ended before


class JobKnowledge:
    """A policy's knowledge of jobs: how long each will take, and how much memory it will use.

    The scheduler keeps its records by signature, which a trace does not contain. Here, jobs are similar if they are of
    the same group and request equally many GPUs. If no similar job has ended, the estimate uses all jobs that ended.
    Durations are those alone on their GPUs, because the scheduler measures the slowdown by other jobs.

    Memory is estimated as the largest peak of the newest similar jobs, with a margin. Until one of them has ended, the
    usage of similar running jobs counts. If there are none, each gets a fixed part of a GPU at first, and its usage is
    known at once. A job that lacked memory runs again with the memory that it wanted.
    """

    def __init__(
        self,
        runtime_knowledge: RuntimeKnowledge,
        memory: MemoryKnowledge,
        whole_gpu_bytes: int | None = None,
    ) -> None:
        """Begin without any records.

        Args:
            runtime_knowledge: how much is known of durations.
            memory: how much is known of memory.
            whole_gpu_bytes: bytes that each job requests, whatever its usage. It is all of a GPU, for policies that
                assign whole GPUs if all GPUs are alike. In that case, jobs with equal numbers of GPUs are equal. If None, each
                job has its own request.
        """
        self._runtime_knowledge, self._whole_gpu_bytes = runtime_knowledge, whole_gpu_bytes
        self.learns_memory = memory is MemoryKnowledge.LEARNED
        # None: all
        self._seconds: dict[SimilarityGroup | None, deque[float]] = {None: deque(maxlen=NEWEST)}
        self._peaks: dict[SimilarityGroup, deque[int]] = {}
        self._running_bytes: dict[SimilarityGroup, list[int]] = {}  # bytes of running jobs
        self._least_bytes: dict[int, int] = {}  # bytes, of each job whose reservation was too small
        # computed since one was added
        self._forecasts: dict[float | SimilarityGroup | None, Forecast] = {}

    def record_end(self, job: TraceJob) -> None:
        """Learn from a job that has ended."""
        if self._runtime_knowledge is RuntimeKnowledge.LEARNED:
            self._seconds.setdefault(job.similarity_group, deque(maxlen=NEWEST)).append(job.seconds)
            self._seconds[None].append(job.seconds)
            for key in (job.similarity_group, None):
                self._forecasts.pop(key, None)
        self._peaks.setdefault(job.similarity_group, deque(maxlen=MOST_PEAKS)).append(job.vram or 0)
        self._remove_running(job)

    def record_start(self, job: TraceJob) -> None:
        """Record the memory usage of a job that starts."""
        self._running_bytes.setdefault(job.similarity_group, []).append(job.vram or 0)

    def _remove_running(self, job: TraceJob) -> None:
        if job.vram in (live := self._running_bytes.get(job.similarity_group, [])):
            live.remove(job.vram or 0)

    def record_oom(self, job: TraceJob) -> None:
        """Remember the memory usage of a job whose reservation was too small."""
        wanted = job.vram or 0
        self._least_bytes[job.index] = wanted + margin_of(wanted)
        self._peaks.setdefault(job.similarity_group, deque(maxlen=MOST_PEAKS)).append(wanted)
        self._remove_running(job)

    def similarity_group(self, job: TraceJob) -> SimilarityGroup | None:
        """Return the group whose durations are used to estimate a job's; None if those of all jobs are used."""
        known = (
            self._runtime_knowledge is RuntimeKnowledge.KNOWN
            or job.similarity_group in self._seconds
        )
        return job.similarity_group if known else None

    def forecast(self, job: TraceJob) -> Forecast:
        """Return how long a job is expected to take; the same object until something is learned."""
        if self._runtime_knowledge is RuntimeKnowledge.NONE:
            return UNKNOWN
        told = job.seconds if self._runtime_knowledge is RuntimeKnowledge.KNOWN else job.forecast
        key = self.similarity_group(job) if told is None else told
        if key not in self._forecasts:
            seconds = self._seconds[self.similarity_group(job)] if told is None else (told,)
            self._forecasts[key] = make_forecast(seconds)
        return self._forecasts[key]

    def memory_class(self, job: TraceJob) -> MemoryClass:
        """Return the key that jobs with the same memory reservation have in common."""
        if self.learns_memory:
            return job.group, self._least_bytes.get(job.index, 0)
        return "", job.vram if self._whole_gpu_bytes is None else self._whole_gpu_bytes

    def memory_fields(self, job: TraceJob) -> dict[str, Any]:
        """Return the fields of a `Waiting` that describe memory."""
        if not self.learns_memory:
            return {"vram": self.memory_class(job)[1]}
        peaks = tuple(self._peaks.get(job.similarity_group, ()))
        least = self._least_bytes.get(job.index, 0)
        similar = SimilarUsage(peaks=tuple(self._running_bytes.get(job.similarity_group, ())))
        request = choose_vram_request(None, least, Usage(peaks=peaks, similar=similar))
        wanted = (job.vram or 0) if least else 0
        return {
            "vram": request.vram,
            "source": request.source,
            "estimated": request.estimated,
            "similar": job.group,
            "enough": 0 if request.estimated else max([wanted, *peaks]),
            "least_vram": wanted,
        }


class BackfillWindow:
    """The waiting jobs, and until when others may pass each of them."""

    def __init__(self, knowledge: JobKnowledge, cards: int, *, learns: bool) -> None:
        """Begin with an empty queue.

        Args:
            knowledge: how long jobs take.
            cards: number of GPUs.
            learns: the policy learns the durations of jobs from similar jobs.
        """
        self._knowledge, self._cards, self._learns = knowledge, cards, learns
        self._until: dict[int, float] = {}  # by index of a job that waits
        self._heap: list[tuple[float, int]] = []  # the same, including jobs that no longer wait
        self._waiting_s = 0.0  # GPU-seconds of all waiting jobs
        self._shares: dict[int, float] = {}  # GPU-seconds of each job
        # number of similar running jobs, and of all (None), with the sum of their start times
        self._running: dict[SimilarityGroup | None, tuple[int, float]] = {}

    def find_end(self, index: int) -> float:
        """Return until when others may pass a job; infinite if that is not decided."""
        return self._until.get(index, inf)

    def first_overdue_job(self, now: float) -> int | None:
        """Return the job whose patience ended first, None if there is none."""
        while self._heap and self._until.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)  # the job no longer waits, or was added again
        return self._heap[0][1] if self._heap and self._heap[0][0] <= now else None

    def has_ties(self) -> bool:
        """Return whether others may have the same end of patience as the job whose patience ends first."""
        return any(until == self._heap[0][0] for until, _ in self._heap[1:3])

    def remove(self, index: int) -> None:
        """Forget a job that no longer waits."""
        self._until.pop(index, None)
        self._waiting_s -= self._shares.pop(index, 0.0)

    def open_for(self, new_jobs: Sequence[TraceJob], running_s: float, now: float) -> None:
        """Let others pass new jobs for a while: 1.5 times as long as the queue needs with them.

        Args:
            new_jobs: the new jobs that wait.
            running_s: the remaining GPU-seconds of all running jobs.
            now: the time.
        """
        for job in new_jobs:
            self._shares[job.index] = job.gpus * self._mean(job, now)
            self._waiting_s += self._shares[job.index]
        length_s = (self._waiting_s + running_s) / self._cards
        for job in new_jobs:
            until = job.rank + PATIENCE_FACTOR * length_s
            self._until[job.index] = until
            heappush(self._heap, (until, job.index))

    def _mean(self, job: TraceJob, now: float) -> float:
        """Return how long a job takes on average, in seconds; similar running jobs count, too."""
        forecast = self._knowledge.forecast(job)
        if forecast.limit is None and job.forecast is None and self._learns:
            count, began = self._running.get(self._knowledge.similarity_group(job), (0, 0.0))
            return forecast.mean(USUAL_S, count * now - began, count)
        return forecast.mean(USUAL_S)

    def count_running(self, job: TraceJob, count_change: int, start_time: float) -> None:
        """Count a job among the running jobs, of its kind and of all; by -1 when it has ended."""
        for alike in (job.similarity_group, None):
            count, sum_s = self._running.get(alike, (0, 0.0))
            self._running[alike] = (count + count_change, sum_s + count_change * start_time)


class UsageByUser:
    """GPU-seconds of each user, as schedulers exchange them; users take turns by them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._accounts: dict[str, FairShareAccount] = {}
        self._running: dict[int, tuple[str, int, float]] = {}  # user, GPUs, when it began

    def begin(self, job: int, user: str, cards: int, now: float) -> None:
        """Count a user's job from now on."""
        self._running[job] = (user, cards, now)

    def end(self, job: int, now: float) -> None:
        """Count the usage of a job that has ended."""
        user, cards, begun = self._running.pop(job)
        account = self._accounts.get(user, NO_ACCOUNT)
        self._accounts[user] = account.charge_attempt(cards * (now - begun), now)

    def usage_at(self, now: float) -> dict[str, float]:
        """Return the usage of each user, including running jobs."""
        use = {user: account.decayed_usage(now) for user, account in self._accounts.items()}
        for user, cards, begun in self._running.values():
            use[user] = use.get(user, 0.0) + cards * max(1.0, now - begun)
        return use


@cache  # called thousands of times per job
def _resources(gpus: int, exclusive: bool) -> Resources:
    return Resources(cpus=0, gpus=gpus, exclusive=exclusive, device="cuda")


class PolicyQueue:
    """Jobs in lanes as the queue's database has them, and a policy of the scheduler that orders the first of each.

    Jobs of a lane are alike in all properties that a policy uses, so the first represents the others. Among the jobs
    that do not fit anywhere, only the one with a reservation is considered.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        knowledge: JobKnowledge,
        policy: SchedulingPolicy,
        *,
        max_per_gpu: int,
        slowdown: float = 1.0,
        users: bool = False,
    ) -> None:
        """Begin with idle GPUs.

        Args:
            cluster: the GPUs, of one machine or several.
            knowledge: the estimates for jobs.
            policy: the policy.
            max_per_gpu: how many jobs may share a GPU.
            slowdown: factor that is measured for a job that shares a GPU.
            users: each user of the trace has a queue, and users with less recent usage go first.
        """
        self._policy, self._knowledge = policy, knowledge
        rules, machines = (
            SharingRules(max_per_gpu=max_per_gpu, reserve=cluster.reserve),
            cluster.gpus(),
        )
        plenty = Machine(cpus=PLENTY, ram=PLENTY, ram_free=PLENTY, rules=rules)
        self._nodes = [  # a policy for each machine
            MachineScheduler(plenty._replace(gpus=gpus), policy=policy, explain=False)
            for gpus in machines
        ]
        # any of them will do
        self._needs: dict[tuple[MachineScheduler, RequestKey], tuple[GpuRequest, ...]] = {}
        self._gpus = [gpu for gpus in machines for gpu in gpus]
        self._cards = {gpu.uuid: gpu.index for gpu in self._gpus}
        self._node_of = [
            node for node, gpus in zip(self._nodes, machines, strict=True) for _ in gpus
        ]
        self._machine_of_job: dict[int, MachineScheduler] = {}  # machine of each running job
        self._slowdown = slowdown
        self._user_usage = (
            UsageByUser() if users and policy.reserves_for is ReservationPolicy.OVERDUE else None
        )
        # groups and GPU numbers with a measured slowdown
        self._slowed_groups: set[SimilarityGroup] = set()
        self.out_of_memory = 0  # attempts that used more than their reservation
        self._failing: set[int] = set()  # jobs that run, and will
        self._jobs: dict[int, TraceJob] = {}
        self._lanes: dict[_LaneKey, list[_Entry]] = {}  # heaps; none is empty
        self._lane_of: dict[int, _LaneKey] = {}  # lane of each waiting job
        self._new: list[TraceJob] = []  # jobs that came at this moment
        self._ended = False  # something has, since a decision
        self._backfill_window = BackfillWindow(
            knowledge, len(self._gpus), learns=policy.uses_estimates
        )

    def submit(self, job: TraceJob, now: float) -> None:  # noqa: ARG002  # as every queue
        """Add a job to its lane."""
        self._jobs[job.index] = job
        lane = self._lane_of[job.index] = self._lane_key(job)
        if lane not in self._lanes:  # the lane's needs may be out of date since its last job left
            self._learn_needs(lane[0], job)
        heappush(self._lanes.setdefault(lane, []), self._entry(job))
        self._new.append(job)

    def finish_job(self, job: TraceJob, duration_s: float, now: float) -> bool:
        """Release the GPUs of a job, and learn from it; it may have to run again."""
        self._machine_of_job.pop(job.index).release_job(job.index)
        self._backfill_window.count_running(job, -1, now - duration_s)
        self._ended = True
        if self._user_usage is not None:
            self._user_usage.end(job.index, now)
        again = job.index in self._failing
        if again:
            self._failing.remove(job.index)
            self.out_of_memory += 1
            self._knowledge.record_oom(job)
        else:
            self._knowledge.record_end(job)
        late = duration_s > job.seconds * (1 + _MEASURABLE)
        slowed = late and not again and job.similarity_group not in self._slowed_groups
        if slowed:
            self._slowed_groups.add(job.similarity_group)
        if slowed or self._knowledge.learns_memory:
            self._learn_lanes(job)
        return not again

    def _learn_lanes(self, job: TraceJob) -> None:
        """Compute the needs of lanes again whose estimates a job has changed."""
        for (ask, *_), entries in self._lanes.items():
            if ask[0] == job.gpus and ask[3] == self._learning_group(job):
                self._learn_needs(ask, entries[0][-1])

    def add_others_usage(self, card: int, amount: int) -> None:
        """Count memory of a GPU that others have taken since; a negative amount is memory that they released."""
        self._node_of[card].inventory.add_others_usage(self._gpus[card].uuid, amount)
        self._ended = self._ended or amount < 0

    def next_starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Yield the jobs that the policy starts now with their GPUs: node after node, until nothing starts."""
        begun = True
        while begun:
            begun = False
            for node in self._nodes:
                for start in self._next_starts_on(node, now):
                    begun = True
                    yield start
            begun = begun and len(self._nodes) > 1
        self._ended = False
        fresh = [job for job in self._new if job.index in self._jobs]
        if fresh and self._policy.reserves_for is ReservationPolicy.OVERDUE:
            running_s = sum(node.remaining_gpu_seconds(now) for node in self._nodes)
            self._backfill_window.open_for(fresh, running_s, now)
        self._new.clear()

    def _next_starts_on(
        self, node: MachineScheduler, now: float
    ) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        while line := self._ordered_jobs(node, now):
            begun = 0
            for job, decision in zip(line, node.decide(line, now), strict=True):
                if isinstance(decision, Start):
                    begun += 1
                    cards = tuple(self._cards[uuid] for uuid in decision.devices)
                    self._machine_of_job[job.job] = node
                    starting = self._simulated_job(self._remove_job(job.job), decision)
                    self._backfill_window.count_running(starting, 1, now)
                    if self._user_usage is not None:
                        self._user_usage.begin(starting.index, starting.user, len(cards), now)
                    yield starting, cards
            if not begun:
                break
            self._ended = True  # the next job of its lane was not considered

    def _ordered_jobs(self, node: MachineScheduler, now: float) -> list[Waiting]:
        """Return the jobs that may start on a node, and the one whose place is kept, in the policy's order."""
        if self._policy.reserves_for is ReservationPolicy.ALL:
            first = self._oldest_job()
            return [] if first is None else [self._waiting_job(first)]
        lanes: Collection[_LaneKey] = self._lanes
        if not self._ended:  # jobs that did not start before do not start now, only new ones
            lanes = {self._lane_of[job.index] for job in self._new if job.index in self._jobs}
        room = {
            ask
            for ask in {lane[0] for lane in lanes}
            if any(node.inventory.gpu_shortfall(need) is None for need in self._needs[node, ask])
        }
        heads = [self._lanes[lane][0][-1] for lane in lanes if lane[0] in room]
        if not heads:
            return []
        kept = self._reserved_job(now)
        if kept is not None and all(job.index != kept for job in heads):
            heads.append(self._jobs[kept])
        heads.sort(key=self._rank)
        line = order_by_policy(map(self._waiting_job, heads), now, self._policy)
        if self._user_usage is None:
            return line
        use = self._user_usage.usage_at(now)
        # the user with a reservation comes first
        line.sort(
            key=lambda job: (job.backfill_until > now, use.get(self._jobs[job.job].user, 0.0))
        )
        return line

    def _oldest_job(self) -> TraceJob | None:
        if not self._lanes:
            return None
        return min(entries[0] for entries in self._lanes.values())[-1]

    def _reserved_job(self, now: float) -> int | None:
        """Return for which job a place is kept, beside those for which there is room."""
        if self._policy.reserves_for is ReservationPolicy.NOBODY:
            return None
        if self._policy.reserves_for is ReservationPolicy.FIRST:
            first = self._oldest_job()
            return None if first is None else first.index
        index = self._backfill_window.first_overdue_job(now)
        if index is None or not self._backfill_window.has_ties():
            return index
        # among jobs submitted at once, the one that the real queue considers first
        until = self._backfill_window.find_end(index)
        heads = [self._jobs[index], *(each[0][-1] for each in self._lanes.values())]
        equal = sorted(
            (j for j in heads if self._backfill_window.find_end(j.index) == until), key=self._rank
        )
        return max(equal, key=lambda job: response_ratio(self._waiting_job(job), now)).index

    def _entry(self, job: TraceJob) -> _Entry:
        """Return the place of a job within its lane: by age, and where that is the policy by duration."""
        if self._policy.order is not QueueOrder.SHORTEST:
            return (job.rank, job.rank, job.index, job)
        seconds = self._knowledge.forecast(job).quantile(LONG_QUANTILE)
        return (inf if seconds is None else seconds, job.rank, job.index, job)

    def _rank(self, job: TraceJob) -> tuple[float, int]:
        return job.rank, job.index

    def _simulated_job(self, job: TraceJob, start: Start) -> TraceJob:
        """Return a starting job with its duration; it is shorter if the reservation is too small."""
        room = start.vram
        if start.exclusive:
            gpus = [self._gpus[self._cards[uuid]] for uuid in start.devices]
            room = min(gpu.total - (gpu.used or 0) for gpu in gpus)
        elif room is None:
            room = self._machine_of_job[job.index].record_usage(job.index, job.vram or 0)
        if self._knowledge.learns_memory:
            self._knowledge.record_start(job)
            self._learn_lanes(job)
        if (job.vram or 0) <= room:
            return job
        self._failing.add(job.index)
        return replace(job, seconds=min(job.seconds, PEAK_S))

    def _learn_needs(self, ask: RequestKey, job: TraceJob) -> None:
        """Compute the GPU resources with which jobs of a lane can start, as known now."""
        seen = self._waiting_job(job)
        for node in self._nodes:
            self._needs[node, ask] = node.inventory.resource_options(seen)[1]

    def _lane_key(self, job: TraceJob) -> _LaneKey:
        ask = (
            job.gpus,
            self._knowledge.memory_class(job),
            job.exclusive,
            self._learning_group(job),
        )
        return ask, job.group, job.forecast, "" if self._user_usage is None else job.user

    def _learning_group(self, job: TraceJob) -> str:
        """Return the group by which the slowdown of jobs is learned; empty if the policy learns nothing."""
        return job.group if self._policy.uses_estimates and self._policy.shares_gpus else ""

    def _waiting_job(self, job: TraceJob) -> Waiting:
        forecast = self._knowledge.forecast(job) if self._policy.uses_estimates else UNKNOWN
        slowed = (
            self._learning_group(job) == job.group and job.similarity_group in self._slowed_groups
        )
        return Waiting(
            job=job.index,
            resources=_resources(job.gpus, job.exclusive),
            seconds=forecast.quantile(LONG_QUANTILE),
            load=make_load(None, self._slowdown) if slowed else UNKNOWN_LOAD,
            forecast=forecast,
            since=job.rank,
            backfill_until=self._backfill_window.find_end(job.index),
            **self._knowledge.memory_fields(job),
        )

    def _remove_job(self, index: int) -> TraceJob:
        """Take a job out of the queue: it starts."""
        job = self._jobs.pop(index)
        lane = self._lane_of.pop(index)
        entries = self._lanes[lane]
        if entries[0][2] == index:
            heappop(entries)
        else:
            entries.remove(self._entry(job))
            entries.sort()
        if not entries:
            del self._lanes[lane]
        self._backfill_window.remove(index)
        return job
