"""Which waiting jobs start on a backend's pilots: the policy decides about one pilot after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.backends.settings import BackendSettings
from launcher.backends.shape import never_fits
from launcher.scheduler.dispatch.pilot_gpus import PilotGpus
from launcher.scheduler.dispatch.pilot_machine import machine_of, unfit
from launcher.scheduler.gpus.attempt_places import place_of
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.disciplines import Discipline
from launcher.scheduler.policy.model import Decision, Machine, Running, Start, Waiting, waiting
from launcher.scheduler.remote.link import PilotLink
from launcher.states import Reason, ReasonCode
from launcher.store.rows import HERE, Claim, Lane, ReadyJob
from launcher.store.usage import NO_USAGE, Usage

_ONE_JOB = Reason(code=ReasonCode.NO_ROOM, text="each pilot runs one job")
Learned = Callable[[str, str], Usage]  # of a signature, on a card


@dataclass(frozen=True, slots=True)
class Candidate:
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
        return [
            place_of(
                claim,
                learned(claim.spec.signature, card) if claim.gpus else NO_USAGE,
                self.gpus.memory(claim).used,
            )
            for claim in sorted(self.claims, key=lambda claim: (claim.claimed, claim.job))
        ]


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
