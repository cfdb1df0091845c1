"""The scheduler's own policies as the queue of a simulation: what they know of jobs, and which jobs they start.

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

from launcher.accounts import NO_ACCOUNT, Account
from launcher.job import Resources
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, load_of
from launcher.scheduler.policy.decide import Policy
from launcher.scheduler.policy.disciplines import (
    USUAL_S,
    Discipline,
    Keeps,
    Order,
    arranged,
    response_ratio,
)
from launcher.scheduler.policy.model import (
    LONG,
    UNKNOWN,
    Forecast,
    Machine,
    Need,
    Start,
    Waiting,
    forecast_of,
)
from launcher.scheduler.policy.queue_lengths import PATIENCE
from launcher.scheduler.policy.vram_request import vram_request_of
from launcher.simulate.machine import Fleet
from launcher.simulate.trace import Alike, TraceJob
from launcher.store.usage import NEWEST as MOST_PEAKS
from launcher.store.usage import Similar, Usage, margin_of
from launcher.system.gpu_sharing import Rules

NEWEST = 64  # durations of jobs alike that are remembered, as in the queue
PEAK_S = 60.0  # a job that shares a card takes its most memory within so long, and fails if that is too much
PLENTY = 1 << 50  # cores, and bytes of main memory: neither is ever short in a simulation
_MEASURABLE = 1e-3  # a job that took so much longer than alone was beside others

Claim = tuple[str, int | None]  # by what claims differ: a group or nothing, and bytes
Ask = tuple[int, Claim, bool, str]  # what jobs ask for, and the group by which that is learned
# that, by what forecasts tell jobs apart, and whose they are
_Lane = tuple[Ask, str, float | None, str]
_Entry = tuple[float, float, int, TraceJob]  # order in a lane, rank, index: its place in the queue


class Foresight(StrEnum):
    """How much a policy knows of what is to come."""

    KNOWN = "known"  # how long each job takes alone on its cards
    LEARNED = "learned"  # how long the jobs took that ended before
    NONE = "none"


class Memory(StrEnum):
    """How much a policy knows of the memory that jobs will take."""

    KNOWN = "known"  # each job's claim, before it ran
    LEARNED = "learned"  # what jobs alike took that ended before


class Knowledge:
    """What a policy knows of jobs: how long each will take, and how much memory.

    The scheduler keeps lessons for each signature, of which a trace tells nothing: here jobs are alike when they are of the
    same group and ask for as many GPUs. Where none like it has ended, all that ended tell how long a job takes; durations
    count as alone on their cards, as the scheduler measures how much slower a job was beside others.

    Memory is the largest peak of the newest jobs alike, with a margin. Until one of them has ended, what those use that
    run counts; if there are none, each gets a fixed part of a card at first, and what it uses is known at once. One that
    lacked memory runs again with what it wanted.
    """

    def __init__(self, foresight: Foresight, memory: Memory, whole: int | None = None) -> None:
        """Begin without lessons.

        Args:
            foresight: how much is known of durations.
            memory: how much is known of memory.
            whole: bytes that each job claims, whatever it takes: all of a card, where policies give whole cards and
                all cards are alike; so jobs are the same that ask for as many cards. None: each claims its own.
        """
        self._foresight, self._whole = foresight, whole
        self.learns_memory = memory is Memory.LEARNED
        self._seconds: dict[Alike | None, deque[float]] = {None: deque(maxlen=NEWEST)}  # None: all
        self._peaks: dict[Alike, deque[int]] = {}
        self._live: dict[Alike, list[int]] = {}  # bytes of those that run
        self._least: dict[int, int] = {}  # bytes, of each job that was promised too little
        self._forecasts: dict[float | Alike | None, Forecast] = {}  # worked out since one was added

    def add(self, job: TraceJob) -> None:
        """Learn from a job that has ended."""
        if self._foresight is Foresight.LEARNED:
            self._seconds.setdefault(job.alike, deque(maxlen=NEWEST)).append(job.seconds)
            self._seconds[None].append(job.seconds)
            for key in (job.alike, None):
                self._forecasts.pop(key, None)
        self._peaks.setdefault(job.alike, deque(maxlen=MOST_PEAKS)).append(job.vram or 0)
        self._end(job)

    def begun(self, job: TraceJob) -> None:
        """Know what a job uses that runs now."""
        self._live.setdefault(job.alike, []).append(job.vram or 0)

    def _end(self, job: TraceJob) -> None:
        if job.vram in (live := self._live.get(job.alike, [])):
            live.remove(job.vram or 0)

    def failed(self, job: TraceJob) -> None:
        """Remember what a job wanted that was promised less."""
        wanted = job.vram or 0
        self._least[job.index] = wanted + margin_of(wanted)
        self._peaks.setdefault(job.alike, deque(maxlen=MOST_PEAKS)).append(wanted)
        self._end(job)

    def alike(self, job: TraceJob) -> Alike | None:
        """Return by what jobs are alike whose durations tell how long one takes; None: all tell it."""
        known = self._foresight is Foresight.KNOWN or job.alike in self._seconds
        return job.alike if known else None

    def forecast(self, job: TraceJob) -> Forecast:
        """Return how long a job is expected to take; the same object until something is learned."""
        if self._foresight is Foresight.NONE:
            return UNKNOWN
        told = job.seconds if self._foresight is Foresight.KNOWN else job.forecast
        key = self.alike(job) if told is None else told
        if key not in self._forecasts:
            seconds = self._seconds[self.alike(job)] if told is None else (told,)
            self._forecasts[key] = forecast_of(seconds)
        return self._forecasts[key]

    def claim(self, job: TraceJob) -> Claim:
        """Return what jobs have in common that are promised the same memory."""
        if self.learns_memory:
            return job.group, self._least.get(job.index, 0)
        return "", job.vram if self._whole is None else self._whole

    def told(self, job: TraceJob) -> dict[str, Any]:
        """Return what a `Waiting` tells of memory."""
        if not self.learns_memory:
            return {"vram_request": self.claim(job)[1]}
        peaks = tuple(self._peaks.get(job.alike, ()))
        least = self._least.get(job.index, 0)
        similar = Similar(peaks=tuple(self._live.get(job.alike, ())))
        request = vram_request_of(None, least, Usage(peaks=peaks, similar=similar))
        wanted = (job.vram or 0) if least else 0
        return {
            "vram_request": request.amount,
            "source": request.source,
            "estimated": request.estimated,
            "similar": job.group,
            "enough": 0 if request.estimated else max([wanted, *peaks]),
            "least": wanted,
        }


class Patience:
    """The jobs that wait, and until when others may pass each of them."""

    def __init__(self, knowledge: Knowledge, cards: int, *, learns: bool) -> None:
        """Begin with an empty queue.

        Args:
            knowledge: how long jobs take.
            cards: how many there are.
            learns: the policy learns from jobs how long their like take.
        """
        self._knowledge, self._cards, self._learns = knowledge, cards, learns
        self._until: dict[int, float] = {}  # by index of a job that waits
        self._heap: list[tuple[float, int]] = []  # the same, with jobs that wait no more
        self._waiting_s = 0.0  # card-seconds of all that waits
        self._shares: dict[int, float] = {}  # of each job
        # of jobs alike, and of all (None), how many run and the sum of when they began
        self._running: dict[Alike | None, tuple[int, float]] = {}

    def until(self, index: int) -> float:
        """Return until when others may pass a job; for ever, where that is not decided."""
        return self._until.get(index, inf)

    def overdue(self, now: float) -> int | None:
        """Return the job whose patience has been at an end for longest, None where there is none."""
        while self._heap and self._until.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)  # it waits no more, or came again
        return self._heap[0][1] if self._heap and self._heap[0][0] <= now else None

    def tied(self) -> bool:
        """Tell whether others may have as much patience as the job whose patience ends first."""
        return any(until == self._heap[0][0] for until, _ in self._heap[1:3])

    def leave(self, index: int) -> None:
        """Forget a job that waits no more."""
        self._until.pop(index, None)
        self._waiting_s -= self._shares.pop(index, 0.0)

    def give(self, fresh: Sequence[TraceJob], running_s: float, now: float) -> None:
        """Let others pass new jobs for a while: as long as the queue is with them, and half as long again.

        Args:
            fresh: the new jobs that wait.
            running_s: the card-seconds that are left of all that runs.
            now: the time.
        """
        for job in fresh:
            self._shares[job.index] = job.gpus * self._mean(job, now)
            self._waiting_s += self._shares[job.index]
        length_s = (self._waiting_s + running_s) / self._cards
        for job in fresh:
            until = job.rank + PATIENCE * length_s
            self._until[job.index] = until
            heappush(self._heap, (until, job.index))

    def _mean(self, job: TraceJob, now: float) -> float:
        """Return how long a job takes on average, s; those alike that run count, too."""
        forecast = self._knowledge.forecast(job)
        if forecast.limit is None and job.forecast is None and self._learns:
            count, began = self._running.get(self._knowledge.alike(job), (0, 0.0))
            return forecast.mean(USUAL_S, count * now - began, count)
        return forecast.mean(USUAL_S)

    def count(self, job: TraceJob, by: int, began: float) -> None:
        """Count a job among those that run, of its kind and of all; by -1: it does no longer."""
        for alike in (job.alike, None):
            count, sum_s = self._running.get(alike, (0, 0.0))
            self._running[alike] = (count + by, sum_s + by * began)


class DecayedUse:
    """Card-seconds of each user, as schedulers tell each other: by that its users take turns."""

    def __init__(self) -> None:
        """Begin without any."""
        self._accounts: dict[str, Account] = {}
        self._running: dict[int, tuple[str, int, float]] = {}  # user, cards, when it began

    def begin(self, job: int, user: str, cards: int, now: float) -> None:
        """Count what a job of a user takes from now on."""
        self._running[job] = (user, cards, now)

    def end(self, job: int, now: float) -> None:
        """Count what a job took."""
        user, cards, begun = self._running.pop(job)
        account = self._accounts.get(user, NO_ACCOUNT)
        self._accounts[user] = account.charged(cards * (now - begun), now)

    def at(self, now: float) -> dict[str, float]:
        """Return what each user has used, with what runs."""
        use = {user: account.used_by(now) for user, account in self._accounts.items()}
        for user, cards, begun in self._running.values():
            use[user] = use.get(user, 0.0) + cards * max(1.0, now - begun)
        return use


@cache  # a job is looked at thousands of times
def _resources(gpus: int, exclusive: bool) -> Resources:
    return Resources(cpus=0, gpus=gpus, exclusive=exclusive, device="cuda")


class Live:
    """Jobs in lanes as the queue's database has them, and a policy of the scheduler over their heads.

    Jobs of a lane are alike in all that a policy looks at, so the first of each lane stands for all. Of those
    for which there is no room at all only the one is looked at whose place is kept.
    """

    def __init__(
        self,
        fleet: Fleet,
        knowledge: Knowledge,
        discipline: Discipline,
        *,
        most: int,
        slowdown: float = 1.0,
        users: bool = False,
    ) -> None:
        """Begin with empty cards.

        Args:
            fleet: the cards, of one machine or several.
            knowledge: asked when a job is looked at.
            discipline: the policy.
            most: so many jobs may share a card.
            slowdown: what is measured of a job beside another.
            users: each user of the trace has a queue, and who has used less of late goes first.
        """
        self._discipline, self._knowledge = discipline, knowledge
        rules, machines = Rules(max_per_gpu=most, reserve=fleet.reserve), fleet.gpus()
        plenty = Machine(cpus=PLENTY, ram=PLENTY, ram_free=PLENTY, rules=rules)
        self._nodes = [  # a policy for each machine
            Policy(plenty._replace(gpus=gpus), discipline=discipline, explain=False)
            for gpus in machines
        ]
        self._needs: dict[tuple[Policy, Ask], tuple[Need, ...]] = {}  # any of them will do
        self._gpus = [gpu for gpus in machines for gpu in gpus]
        self._cards = {gpu.uuid: gpu.index for gpu in self._gpus}
        self._node_of = [
            node for node, gpus in zip(self._nodes, machines, strict=True) for _ in gpus
        ]
        self._places: dict[int, Policy] = {}  # where each job runs
        self._slowdown = slowdown
        self._use = DecayedUse() if users and discipline.keeps is Keeps.OVERDUE else None
        self._slowed: set[Alike] = set()  # of which it was measured: groups and GPUs
        self.out_of_memory = 0  # attempts that took more than they were promised
        self._failing: set[int] = set()  # jobs that run, and will
        self._jobs: dict[int, TraceJob] = {}
        self._lanes: dict[_Lane, list[_Entry]] = {}  # heaps; none is empty
        self._lane_of: dict[int, _Lane] = {}  # of each job that waits
        self._new: list[TraceJob] = []  # they came at this moment
        self._ended = False  # something has, since a decision
        self._patience = Patience(knowledge, len(self._gpus), learns=discipline.foresees)

    def put(self, job: TraceJob, now: float) -> None:  # noqa: ARG002  # as every queue
        """Take in a job, in its lane."""
        self._jobs[job.index] = job
        lane = self._lane_of[job.index] = self._lane(job)
        if lane not in self._lanes:  # what was known when the last of them left may be out of date
            self._learn_needs(lane[0], job)
        heappush(self._lanes.setdefault(lane, []), self._entry(job))
        self._new.append(job)

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        """Take back the cards of a job, and learn from it; it may have to run again."""
        self._places.pop(job.index).ended(job.index)
        self._patience.count(job, -1, now - took)
        self._ended = True
        if self._use is not None:
            self._use.end(job.index, now)
        again = job.index in self._failing
        if again:
            self._failing.remove(job.index)
            self.out_of_memory += 1
            self._knowledge.failed(job)
        else:
            self._knowledge.add(job)
        late = took > job.seconds * (1 + _MEASURABLE)
        slowed = late and not again and job.alike not in self._slowed
        if slowed:
            self._slowed.add(job.alike)
        if slowed or self._knowledge.learns_memory:
            self._learn_lanes(job)
        return not again

    def _learn_lanes(self, job: TraceJob) -> None:
        """Work out the needs of lanes again for which a job has taught something."""
        for (ask, *_), entries in self._lanes.items():
            if ask[0] == job.gpus and ask[3] == self._learning(job):
                self._learn_needs(ask, entries[0][-1])

    def others_take(self, card: int, amount: int) -> None:
        """Count memory of a card that others have taken since; less than 0: that they gave back."""
        self._node_of[card].inventory.others_take(self._gpus[card].uuid, amount)
        self._ended = self._ended or amount < 0

    def starts(self, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        """Give what the policy starts now, and on which cards: node after node, as long as anything starts."""
        begun = True
        while begun:
            begun = False
            for node in self._nodes:
                for start in self._starts_on(node, now):
                    begun = True
                    yield start
            begun = begun and len(self._nodes) > 1
        self._ended = False
        fresh = [job for job in self._new if job.index in self._jobs]
        if fresh and self._discipline.keeps is Keeps.OVERDUE:
            running_s = sum(node.work_left(now) for node in self._nodes)
            self._patience.give(fresh, running_s, now)
        self._new.clear()

    def _starts_on(self, node: Policy, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        while line := self._line(node, now):
            begun = 0
            for job, decision in zip(line, node.decide(line, now), strict=True):
                if isinstance(decision, Start):
                    begun += 1
                    cards = tuple(self._cards[uuid] for uuid in decision.devices)
                    self._places[job.job] = node
                    starting = self._begun(self._leave(job.job), decision)
                    self._patience.count(starting, 1, now)
                    if self._use is not None:
                        self._use.begin(starting.index, starting.user, len(cards), now)
                    yield starting, cards
            if not begun:
                break
            self._ended = True  # who comes next in its lane was not looked at

    def _line(self, node: Policy, now: float) -> list[Waiting]:
        """Return the jobs that may start on a node, and the one whose place is kept, in the policy's order."""
        if self._discipline.keeps is Keeps.ALL:
            first = self._first()
            return [] if first is None else [self._seen(first)]
        lanes: Collection[_Lane] = self._lanes
        if not self._ended:  # what did not start before does not start now, only what just came
            lanes = {self._lane_of[job.index] for job in self._new if job.index in self._jobs}
        room = {
            ask
            for ask in {lane[0] for lane in lanes}
            if any(node.inventory.lacks_gpu(need) is None for need in self._needs[node, ask])
        }
        heads = [self._lanes[lane][0][-1] for lane in lanes if lane[0] in room]
        if not heads:
            return []
        kept = self._kept(now)
        if kept is not None and all(job.index != kept for job in heads):
            heads.append(self._jobs[kept])
        heads.sort(key=self._rank)
        line = arranged(map(self._seen, heads), now, self._discipline)
        if self._use is None:
            return line
        use = self._use.at(now)
        # for whom a place is kept comes first, whoever he is
        line.sort(key=lambda job: (job.patient_until > now, use.get(self._jobs[job.job].user, 0.0)))
        return line

    def _first(self) -> TraceJob | None:
        if not self._lanes:
            return None
        return min(entries[0] for entries in self._lanes.values())[-1]

    def _kept(self, now: float) -> int | None:
        """Return for which job a place is kept, beside those for which there is room."""
        if self._discipline.keeps is Keeps.NOBODY:
            return None
        if self._discipline.keeps is Keeps.FIRST:
            first = self._first()
            return None if first is None else first.index
        index = self._patience.overdue(now)
        if index is None or not self._patience.tied():
            return index
        # of those that came at once the one that the real queue looks at first
        until = self._patience.until(index)
        heads = [self._jobs[index], *(each[0][-1] for each in self._lanes.values())]
        equal = sorted((j for j in heads if self._patience.until(j.index) == until), key=self._rank)
        return max(equal, key=lambda job: response_ratio(self._seen(job), now)).index

    def _entry(self, job: TraceJob) -> _Entry:
        """Return the place of a job within its lane: by age, and where that is the policy by duration."""
        if self._discipline.order is not Order.SHORTEST:
            return (job.rank, job.rank, job.index, job)
        seconds = self._knowledge.forecast(job).quantile(LONG)
        return (inf if seconds is None else seconds, job.rank, job.index, job)

    def _rank(self, job: TraceJob) -> tuple[float, int]:
        return job.rank, job.index

    def _begun(self, job: TraceJob, start: Start) -> TraceJob:
        """Return a job that starts, as long as it will run: less where it was promised too little."""
        room = start.reservation
        if start.exclusive:
            gpus = [self._gpus[self._cards[uuid]] for uuid in start.devices]
            room = min(gpu.total - (gpu.used or 0) for gpu in gpus)
        elif room is None:
            room = self._places[job.index].measured(job.index, job.vram or 0)
        if self._knowledge.learns_memory:
            self._knowledge.begun(job)
            self._learn_lanes(job)
        if (job.vram or 0) <= room:
            return job
        self._failing.add(job.index)
        return replace(job, seconds=min(job.seconds, PEAK_S))

    def _learn_needs(self, ask: Ask, job: TraceJob) -> None:
        """Work out what of cards jobs of a lane can start with, as far as it is known now."""
        seen = self._seen(job)
        for node in self._nodes:
            self._needs[node, ask] = node.inventory.asks(seen)[1]

    def _lane(self, job: TraceJob) -> _Lane:
        ask = (job.gpus, self._knowledge.claim(job), job.exclusive, self._learning(job))
        return ask, job.group, job.forecast, "" if self._use is None else job.user

    def _learning(self, job: TraceJob) -> str:
        """Return the group that teaches what a job does beside others, '' where the policy learns nothing."""
        return job.group if self._discipline.foresees and self._discipline.shares else ""

    def _seen(self, job: TraceJob) -> Waiting:
        forecast = self._knowledge.forecast(job) if self._discipline.foresees else UNKNOWN
        slowed = self._learning(job) == job.group and job.alike in self._slowed
        return Waiting(
            job=job.index,
            resources=_resources(job.gpus, job.exclusive),
            seconds=forecast.quantile(LONG),
            demand=load_of(None, self._slowdown) if slowed else UNKNOWN_LOAD,
            forecast=forecast,
            since=job.rank,
            patient_until=self._patience.until(job.index),
            **self._knowledge.told(job),
        )

    def _leave(self, index: int) -> TraceJob:
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
        self._patience.leave(index)
        return job
