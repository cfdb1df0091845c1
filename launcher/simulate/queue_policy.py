"""The scheduler's own policies as a queue of a simulation."""

from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from math import inf

from launcher.accounts import NO_ACCOUNT, Account
from launcher.job import Resources
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load, load_of
from launcher.scheduler.policy.disciplines import Discipline, Keeps, Order, arranged, response_ratio
from launcher.scheduler.policy.model import LONG, Forecast, Start, Waiting
from launcher.simulate.claims import PEAK_S, Ask, Claims, Node
from launcher.simulate.fleet import Fleet
from launcher.simulate.predictions import Forecasts, Patience
from launcher.simulate.trace import TraceJob
from launcher.store.user_actions import rank_of
from launcher.system.gpu_sharing import Rules

_MEASURABLE = 1e-3  # a job that took so much longer than alone was beside others
_Lane = tuple[Ask, str, float | None, str]  # and by what forecasts tell them apart, and whose
_Entry = tuple[float, float, int]  # order within a lane, rank, and index: a place in the queue


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


class Live:
    """Jobs in lanes as the queue's database has them, and a policy of the scheduler over their heads.

    Jobs of a lane are alike in all that a policy looks at, so the first of each lane stands for all. Of those
    for which there is no room at all only the one is looked at whose place is kept.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        rules: Rules,
        forecasts: Forecasts,
        claims: Claims,
        discipline: Discipline,
        slowdown: float = 1.0,
        users: bool = False,
    ) -> None:
        """Begin with empty cards.

        Args:
            fleet: the cards, of one machine or several.
            rules: how many jobs may share one.
            forecasts: asked when a job is looked at.
            claims: likewise.
            discipline: the policy.
            slowdown: what is measured of a job beside another.
            users: each user of the trace has a queue, and who has used less of late goes first.
        """
        self._discipline = discipline
        self._nodes = [Node(gpus, rules, discipline) for gpus in fleet.machines()]
        self._node_of = [node for node in self._nodes for _ in node.cards]  # by card
        self._places: dict[int, Node] = {}  # where each job runs
        self._sizes = {gpu.uuid: gpu.total - (gpu.used or 0) for gpu in fleet.snapshots()}
        self._forecasts, self._claims = forecasts, claims
        self._slowdown = slowdown
        self._use = DecayedUse() if users and discipline.keeps is Keeps.OVERDUE else None
        self._slowed: set[tuple[str, int]] = set()  # of which it was measured: groups and GPUs
        self.out_of_memory = 0  # attempts that took more than they were promised
        self._failing: set[int] = set()  # jobs that run, and will
        self._jobs: dict[int, TraceJob] = {}
        self._resources: dict[Ask, Resources] = {}
        self._lanes: dict[_Lane, list[_Entry]] = {}  # heaps; none is empty
        self._asks: dict[Ask, tuple[int | None, Load]] = {}  # what is known of its jobs now
        self._of_ask: dict[Ask, set[_Lane]] = {}  # lanes that are not empty
        self._lane_of: dict[int, _Lane] = {}  # of each job that waits
        self._looks: dict[int, Waiting] = {}  # the jobs that were looked at
        self._new: list[TraceJob] = []  # they came at this moment
        self._ended = False  # something has, since a decision
        self._patience = Patience(forecasts, len(self._node_of), learns=discipline.foresees)

    def put(self, job: TraceJob, now: float) -> None:  # noqa: ARG002  # as every queue
        """Take in a job, in its lane."""
        self._jobs[job.index] = job
        lane = self._lane_of[job.index] = self._lane(job)
        ask = lane[0]
        if ask not in self._resources:
            self._resources[ask] = Resources(
                cpus=0, gpus=job.gpus, exclusive=job.exclusive, device="cuda"
            )
        if not self._of_ask.get(
            ask
        ):  # what was known when the last of them left may be out of date
            self._learn_needs(ask, job)
        self._of_ask.setdefault(ask, set()).add(lane)
        heappush(self._lanes.setdefault(lane, []), self._entry(job))
        self._new.append(job)

    def take_back(self, job: TraceJob, took: float, now: float) -> bool:
        """Take back the cards of a job, and learn from it; it may have to run again."""
        self._places.pop(job.index).policy.ended(job.index)
        self._patience.ended(job, now - took)
        self._ended = True
        if self._use is not None:
            self._use.end(job.index, now)
        again = job.index in self._failing
        if again:
            self._failing.remove(job.index)
            self.out_of_memory += 1
            self._claims.failed(job)
        else:
            self._forecasts.add(job)
            self._claims.add(job)
        alike = (job.group, job.gpus)
        slowed = not again and took > job.seconds * (1 + _MEASURABLE) and alike not in self._slowed
        if slowed:
            self._slowed.add(alike)
        if slowed or self._claims.learns:
            for ask, lanes in self._of_ask.items():
                if ask[0] == job.gpus and ask[3] == self._learning(job):
                    self._learn_needs(ask, self._jobs[self._lanes[next(iter(lanes))][0][2]])
        return not again

    def others_take(self, card: int, amount: int) -> None:
        """Count memory of a card that others have taken since; less than 0: that they gave back."""
        self._node_of[card].others_take(card, amount)
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
        if self._discipline.keeps is Keeps.OVERDUE:
            self._give_patience(now)
        self._new.clear()

    def _starts_on(self, node: Node, now: float) -> Iterator[tuple[TraceJob, tuple[int, ...]]]:
        while line := self._line(node, now):
            begun = 0
            for job, decision in zip(line, node.policy.decide(line, now), strict=True):
                if isinstance(decision, Start):
                    begun += 1
                    cards = tuple(node.cards[uuid] for uuid in decision.devices)
                    self._places[job.job] = node
                    starting = self._begun(self._leave(job.job), decision)
                    self._patience.started(starting, now)
                    if self._use is not None:
                        self._use.begin(starting.index, starting.user, len(cards), now)
                    yield starting, cards
            if not begun:
                break
            self._ended = True  # who comes next in its lane was not looked at

    def _line(self, node: Node, now: float) -> list[Waiting]:
        """Return the jobs that may start on a node, and the one whose place is kept, in the policy's order."""
        if self._discipline.keeps is Keeps.ALL:
            first = self._first()
            return [] if first is None else [self._look(first)]
        open_lanes = self._of_ask
        if not self._ended:  # what did not start before does not start now, only what just came
            fresh = {self._lane_of[job.index] for job in self._new if job.index in self._jobs}
            open_lanes = {lane[0]: {each for each in fresh if each[0] == lane[0]} for lane in fresh}
        heads = [
            self._jobs[self._lanes[lane][0][2]]
            for ask, lanes in open_lanes.items()
            if node.has_room(ask)
            for lane in lanes
        ]
        if not heads:
            return []
        kept = self._kept(now)
        if kept is not None and all(job.index != kept for job in heads):
            heads.append(self._jobs[kept])
        heads.sort(key=self._rank)
        line = arranged(map(self._look, heads), now, self._discipline)
        if self._use is None:
            return line
        use = self._use.at(now)
        # for whom a place is kept comes first, whoever he is
        line.sort(key=lambda job: (job.patient_until > now, use.get(self._jobs[job.job].user, 0.0)))
        return line

    def _first(self) -> TraceJob | None:
        if not self._lanes:
            return None
        return self._jobs[min(entries[0] for entries in self._lanes.values())[2]]

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
        heads = [self._jobs[index], *(self._jobs[each[0][2]] for each in self._lanes.values())]
        equal = sorted((j for j in heads if self._patience.until(j.index) == until), key=self._rank)
        return max(equal, key=lambda job: response_ratio(self._look(job), now)).index

    def _entry(self, job: TraceJob) -> _Entry:
        """Return the place of a job within its lane: by age, and where that is the policy by duration."""
        rank = rank_of(job.submitted, job.priority)
        if self._discipline.order is not Order.SHORTEST:
            return (rank, rank, job.index)
        seconds = self._forecasts.of(job).quantile(LONG)
        return (inf if seconds is None else seconds, rank, job.index)

    def _rank(self, job: TraceJob) -> tuple[float, int]:
        return rank_of(job.submitted, job.priority), job.index

    def _look(self, job: TraceJob) -> Waiting:
        look = self._looks.get(job.index)
        if (
            look is None
            or (self._discipline.foresees and look.forecast is not self._forecasts.of(job))
            or self._asks[self._lane_of[job.index][0]] != (look.vram_request, look.demand)
        ):
            look = self._looks[job.index] = self._seen(job)
        return look

    def _begun(self, job: TraceJob, start: Start) -> TraceJob:
        """Return a job that starts, as long as it will run: less where it was promised too little."""
        room = start.reservation
        if start.exclusive or room is None:
            room = min(self._sizes[uuid] for uuid in start.devices)
        if (job.vram or 0) <= room:
            return job
        self._failing.add(job.index)
        return replace(job, seconds=min(job.seconds, PEAK_S))

    def _learn_needs(self, ask: Ask, job: TraceJob) -> None:
        """Work out what of cards jobs of a lane can start with, as far as it is known now."""
        seen = self._seen(job)
        for node in self._nodes:
            node.learn(ask, seen)
        self._asks[ask] = seen.vram_request, seen.demand

    def _lane(self, job: TraceJob) -> _Lane:
        ask = (job.gpus, self._claims.key(job), job.exclusive, self._learning(job))
        return ask, job.group, job.forecast, "" if self._use is None else job.user

    def _learning(self, job: TraceJob) -> str:
        """Return the group that teaches what a job does beside others, '' where the policy learns nothing."""
        return job.group if self._discipline.foresees and self._discipline.shares else ""

    def _seen(self, job: TraceJob) -> Waiting:
        forecast = self._forecasts.of(job) if self._discipline.foresees else Forecast()
        waiting = Waiting(
            job=job.index,
            resources=self._resources[self._lane_of[job.index][0]],
            seconds=forecast.quantile(LONG),
            demand=self._demand(job),
            forecast=forecast,
            since=rank_of(job.submitted, job.priority),
            patient_until=self._patience.until(job.index),
        )
        return self._claims.told(job, waiting)

    def _demand(self, job: TraceJob) -> Load:
        slowed = self._learning(job) == job.group and (job.group, job.gpus) in self._slowed
        return load_of(None, self._slowdown) if slowed else UNKNOWN_LOAD

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
            self._of_ask[lane[0]].remove(lane)
            if not self._of_ask[lane[0]]:
                del self._of_ask[lane[0]]
        self._looks.pop(index, None)
        self._patience.leave(index)
        return job

    def _give_patience(self, now: float) -> None:
        """Let others pass the new jobs for a while."""
        fresh = [job for job in self._new if job.index in self._jobs]
        for index, until in self._patience.give(fresh, self._work_left, now):
            if index in self._looks:
                self._looks[index] = replace(self._looks[index], patient_until=until)

    def _work_left(self, now: float) -> float:
        return sum(node.policy.work_left(now) for node in self._nodes)
