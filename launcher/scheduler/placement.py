"""Which waiting jobs start on a backend's pilots: the policy decides about one pilot after the other.

The GPUs of a pilot, and what its attempts take of them, as its beats tell.

A pilot as the policy sees it: a machine of its own, on which some jobs cannot or must not start.

On which pilot a place is kept for a job that fits on none: on one of them, as what is kept idles.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import NamedTuple

from launcher.backends.channel import Beat, Hello
from launcher.backends.pilot import PilotLink
from launcher.backends.settings import BackendSettings, never_fits
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.attempts_elsewhere import name_of_claim
from launcher.scheduler.gpus.gpu_ledger import Taken
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import Discipline
from launcher.scheduler.policy.model import (
    Decision,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
    waiting,
)
from launcher.states import Reason, ReasonCode
from launcher.store.rows import HERE, Claim, Lane, ReadyJob
from launcher.store.usage import NOT_MEASURED, Measured, Usage
from launcher.units import format_seconds
from launcher.workers.job import read_report


class PilotGpus:
    """What is known of the GPUs of one pilot."""

    def __init__(self, link: PilotLink) -> None:
        """Begin without having looked."""
        self._link = link
        self._seen: tuple[GpuSnapshot, ...] = ()
        self.taken = Taken(lambda claim: read_report(link.folder.attempt(name_of_claim(claim))))
        self._number = 0  # of the beat that was taken in last

    def enter(self, claims: Collection[Claim]) -> bool:
        """Take in the pilot's newest beat; return whether there was one.

        Args:
            claims: the attempts on this pilot.
        """
        beat = self._link.beat
        if beat is None or beat.number == self._number:
            return False
        self._number = beat.number
        if not beat.gpus:  # nothing has worked there since
            return False
        self._seen = beat.gpus

        def seen(claim: Claim) -> tuple[dict[str, int], set[str]]:
            told = beat.used.get(name_of_claim(claim), {})
            used = {uuid: size for uuid, size in told.items() if uuid in claim.gpus and size}
            return used, {*claim.gpus} - used.keys()

        self.taken.enter(claims, beat.gpus, seen)
        return True

    @property
    def _gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs as they were seen last: in its hello, where nothing has worked there since."""
        return self._seen or (self._link.hello.gpus if self._link.hello is not None else ())

    def now(self, claims: Iterable[Claim]) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs without what attempts took that have ended since they were seen."""
        return self.taken.gpus(claims, self._gpus)

    @property
    def fingerprint(self) -> str:
        """The model of its cards, by which is learned what jobs take there; '': it has none."""
        return next((gpu.fingerprint for gpu in self._gpus if gpu.total), "")

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""
        if not claim.gpus:
            return NOT_MEASURED
        cards = {gpu.uuid: gpu.fingerprint for gpu in self._gpus}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        return Measured(peak=self.taken.peak(claim), machine=machine)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID what all others had on an attempt's GPUs at the last look, if it was seen."""
        return self.taken.others_usage(claim)


MOST_CPUS = 100_000
LONGER = 1.5  # than it took before a job may take
NEARLY_ALL = 0.9  # of a pilot's time: while so much is left, it is as good as a new one


def machine_of(
    hello: Hello, beat: Beat | None, gpus: Sequence[GpuSnapshot], limits: Mapping[str, int]
) -> Machine:
    """Return a pilot as a machine; nothing of it is another user's.

    Args:
        hello: what it has.
        beat: what it told last.
        gpus: as they are now.
        limits: of groups.
    """
    ram = max(0, hello.ram)
    free = beat.ram_free if beat is not None and beat.ram_free > 0 else ram
    return Machine(
        cpus=max(0, min(hello.cpus, MOST_CPUS)),
        ram=ram,
        ram_free=free,
        gpus=tuple(gpus),
        absent="" if gpus else "its pilot has no GPU",
        limits=limits,
    )


def runs_s(lane: Lane, job: Waiting) -> float | None:
    """Return for how long a pilot must be there still for a job: its limit, or what its like took; None: unknown."""
    return lane.limit if lane.limit is not None else job.seconds and LONGER * job.seconds


def left_s(until: float | None, now: float) -> float | None:
    """Return for how long a pilot is there still; None: its engine sets no end, or it is not known."""
    return None if until is None or not isfinite(until) else until - now


def whole_s(hello: Hello, until: float | None) -> float:
    """Return for how long a pilot is there from its beginning to its end; infinite where that is not known."""
    if until is None or hello.began is None or until <= hello.began:
        return inf
    return until - hello.began


def unfit(lane: Lane, job: Waiting, hello: Hello, until: float | None, now: float) -> str:
    """Return why a job must not start on a pilot, '' where it may.

    Args:
        lane: what it asks for.
        job: what its like took.
        hello: what the pilot has.
        until: when its engine ends it, in seconds since 1970; None: never, or that is not known.
        now: likewise.
    """
    if lane.resources.cpus > hello.cpus:  # it asked for them: with fewer it would not end in time
        return f"needs {lane.resources.cpus} cores, and this pilot has {hello.cpus}"
    if lane.resources.works_on_gpu(there=bool(hello.gpus)) and not hello.gpus:
        return "needs a GPU, and this pilot has none"
    needed, left = runs_s(lane, job), left_s(until, now)
    if needed is None or left is None or needed <= left:
        return ""
    if lane.limit is None and left >= NEARLY_ALL * whole_s(hello, until):
        return ""  # a guess: no later pilot is there for longer, and what a job saves goes on elsewhere
    ends = f"this pilot ends in {format_seconds(round(max(0.0, left)))}"
    if lane.limit is not None:
        return f"may run for {format_seconds(round(needed))}, and {ends}"
    return f"is expected to run for up to {format_seconds(round(needed))}, and {ends}"


_ONE_JOB = Reason(code=ReasonCode.NO_ROOM, text="each pilot runs one job")
Learned = Callable[[str, str], Usage]  # of a signature, on a card


class Candidate(NamedTuple):
    """A waiting job at its place in the order of all."""

    ready: ReadyJob
    seen: Waiting  # with how long it has waited


@dataclass(slots=True)
class PilotPlace:
    """A pilot that may be sent work, with what runs there."""

    link: PilotLink
    gpus: PilotGpus
    claims: list[Claim] = field(default_factory=list)

    def machine(self, limits: Mapping[str, int]) -> Machine:
        """Return it as the policy sees it.

        Args:
            limits: of groups.
        """
        assert self.link.hello is not None, "only a pilot that has spoken gets work"
        cards = self.gpus.now(self.claims)
        return machine_of(self.link.hello, self.link.beat, cards, limits)

    def running(self, learned: Learned) -> list[Running]:
        """Return the attempts there, the oldest first."""
        card = self.gpus.fingerprint
        return self.gpus.taken.running(self.claims, lambda signature: learned(signature, card))


def elsewhere(run: Running) -> Running:
    """Return an attempt as another machine sees it: it counts in the limit of its group, and takes nothing."""
    return replace(run, cpus=0, ram=0, devices=(), reservation=None, exclusive=False, used={})


def decide_on_pilot(
    place: PilotPlace,
    candidates: Sequence[Candidate],
    others: Sequence[Running],
    *,
    learned: Learned,
    limits: Mapping[str, int],
    now: float,
    discipline: Discipline,
) -> list[Decision | Reason]:
    """Decide what starts on a pilot; of jobs that must not start there, why.

    Args:
        place: the pilot.
        candidates: in the order in which they are looked at.
        others: attempts on other machines, as `elsewhere` gives them.
        learned: returns what jobs took before, on a card.
        limits: of groups.
        now: seconds since 1970.
        discipline: the policy.
    """
    hello = place.link.hello
    assert hello is not None, "only a pilot that has spoken gets work"
    card, until = place.gpus.fingerprint, place.link.until
    asked: list[Waiting] = []
    refused: dict[int, Reason] = {}
    for candidate in candidates:
        ready, seen = candidate.ready, candidate.seen
        job = replace(
            waiting(ready, learned(ready.lane.signature, card)),
            since=seen.since,
            patient_until=seen.patient_until,
            kept_elsewhere=seen.kept_elsewhere,
            visible=None,  # its owner's CUDA_VISIBLE_DEVICES names cards of this machine
        )
        why = unfit(ready.lane, job, hello, until, now)
        if why:
            refused[ready.id] = Reason(code=ReasonCode.NO_ROOM, text=why)
        else:
            asked.append(job)
    running = [*others, *place.running(learned)]
    decided = {
        decision.job: decision
        for decision in decide(asked, running, place.machine(limits), now, discipline)
    }
    return [
        decided.get(candidate.ready.id) or refused[candidate.ready.id] for candidate in candidates
    ]


def is_full(place: PilotPlace) -> bool:
    """Tell whether every core of a pilot is promised: nothing can start there, whatever it is."""
    hello = place.link.hello
    if place.link.spec.single and place.claims:
        return True
    return hello is None or sum(claim.cpus for claim in place.claims) >= hello.cpus


def place_on_backend(
    open_places: Sequence[PilotPlace],
    places: Sequence[PilotPlace],
    candidates: Sequence[Candidate],
    settings: BackendSettings,
    *,
    decided: Callable[[PilotPlace, Sequence[Candidate]], list[Decision | Reason]],
    claim: Callable[[Candidate, Start, PilotPlace], Reason | None],
    unserved: str,
) -> dict[int, Reason | None]:
    """Start what fits on a backend's pilots.

    Args:
        open_places: its pilots with room, the preferred one first.
        places: its pilots that may be sent work, full ones, too.
        candidates: the jobs that may run there, in order.
        settings: of the backend.
        decided: decides about one pilot.
        claim: promises a job its place; returns why not.
        unserved: what becomes of its other pilots, '' where nothing is to be told.

    Returns:
        By job, why it does not start here; None: it does.
    """
    reasons: dict[int, Reason | None] = {}
    left: list[Candidate] = []
    for candidate in candidates:
        lane = candidate.ready.lane
        if never := never_fits(lane.resources, lane.limit, settings):
            reasons[candidate.ready.id] = Reason(code=ReasonCode.NEVER_FITS, text=never)
        else:
            left.append(candidate)
    for place in open_places:
        if not left:
            break
        asked = _heads(left) if place.link.spec.single else left
        for candidate, decision in zip(asked, decided(place, asked), strict=True):
            if isinstance(decision, Start) and place.link.spec.single and place.claims:
                reasons[candidate.ready.id] = _ONE_JOB
            elif isinstance(decision, Start):
                reasons[candidate.ready.id] = claim(candidate, decision, place)
            else:
                why = decision if isinstance(decision, Reason) else decision.why
                reasons[candidate.ready.id] = why
        left = [each for each in left if reasons.get(each.ready.id, _ONE_JOB) is not None]
    for candidate in left:
        reasons[candidate.ready.id] = _why(reasons.get(candidate.ready.id), places, unserved)
    return reasons


def _heads(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first job of each lane: of one that takes a single job, nothing else can come of it."""
    heads: dict[int, Candidate] = {}
    for candidate in candidates:
        heads.setdefault(candidate.ready.lane_id, candidate)
    return list(heads.values())


def joined(lane: Lane, waits: Sequence[tuple[str, Reason]]) -> Reason | None:
    """Return why a job waits that may run in several places; each is named.

    Args:
        lane: what it asks for.
        waits: backends and why it does not start there, in the order in which they were asked.
    """
    if not waits:
        return None
    _, first = waits[0]
    if len(lane.on) == 1 and lane.on == HERE:
        return first
    return replace(first, text="; ".join(f"{name}: {reason.text}" for name, reason in waits))


def _why(reason: Reason | None, places: Sequence[PilotPlace], unserved: str) -> Reason:
    """Return why a job waits for the pilots of a backend."""
    if reason is None and places:
        cores = sum(place.link.hello.cpus for place in places if place.link.hello)
        pilots = "its pilot" if len(places) == 1 else f"its {len(places)} pilots"
        busy = (
            f"all {cores} cores of {pilots} are busy"
            if cores != 1
            else f"the core of {pilots} is busy"
        )
        reason = Reason(code=ReasonCode.NO_ROOM, text=busy)
    if reason is None:
        text = unserved or "its first pilot is about to be submitted"
        return Reason(code=ReasonCode.NO_PILOT, text=text)
    return replace(reason, text=f"{reason.text}; {unserved}") if unserved else reason


CHOSEN_S = 300.0  # then all pilots are compared anew: another one may be free earlier by now


class KeptPlaces:
    """Knows over the turns of one scheduler where places are kept.

    Each pilot is decided about alone, and would keep a place for the first job that fits nowhere. So in the first
    turn each keeps one, and from the next one on only that where it is expected to be free first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without places; the clock counts seconds."""
        self._clock = clock
        self._chosen: dict[int, tuple[str, float]] = {}  # job → token, since when
        self._kept: dict[
            int, dict[str, float]
        ] = {}  # in this turn: job → token → free from then on

    def begin(self) -> None:
        """Begin a turn: keep to what was chosen while that pilot keeps it still."""
        now = self._clock()
        chosen: dict[int, tuple[str, float]] = {}
        for job, kept in self._kept.items():
            token, since = self._chosen.get(job, ("", now))
            if now >= since + CHOSEN_S:
                continue
            if token not in kept:
                token, since = min(kept, key=lambda each: (kept[each], each)), now
            chosen[job] = token, since
        self._chosen, self._kept = chosen, {}

    def for_pilot(self, token: str, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return jobs with the word for which of them a place is kept on another pilot."""
        return [
            each
            if self.may_keep(each.ready.id, token)
            else each._replace(seen=replace(each.seen, kept_elsewhere=True))
            for each in candidates
        ]

    def may_keep(self, job: int, token: str) -> bool:
        """Tell whether a pilot may keep a place for a job."""
        return self._chosen.get(job, (token, 0.0))[0] == token

    def note(self, token: str, decisions: Sequence[Decision | Reason]) -> None:
        """Take in where a pilot keeps a place."""
        for decision in decisions:
            if isinstance(decision, Wait) and decision.kept_until is not None:
                self._kept.setdefault(decision.job, {})[token] = decision.kept_until
