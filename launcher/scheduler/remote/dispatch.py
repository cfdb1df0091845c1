"""The scheduler's side of all pilots: it hears them, sends them work, takes over what an earlier scheduler sent."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

from launcher.backends.settings import HERE, Backends, BackendSettings
from launcher.pilots.messages import Began, Ended, News
from launcher.scheduler.attempt_watch import UNCLEAR, Watch
from launcher.scheduler.gpus.sent_limits import SentLimits
from launcher.scheduler.policy.decide import evacuate
from launcher.scheduler.policy.disciplines import Discipline
from launcher.scheduler.policy.model import Decision, Running, Start, Waiting
from launcher.scheduler.remote.attempts_elsewhere import (
    OnPilot,
    end_of_buried,
    name_of_claim,
)
from launcher.scheduler.remote.fleet import Fleet
from launcher.scheduler.remote.link import PilotLink
from launcher.scheduler.remote.pilot_gpus import PilotGpus
from launcher.scheduler.remote.placement import (
    Candidate,
    PilotPlace,
    decide_on_pilot,
    elsewhere,
    place_on_backend,
)
from launcher.scheduler.remote.sending import Sending
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.states import Outcome, Reason, ReasonCode
from launcher.store.lanes import Lane
from launcher.store.queue import Store
from launcher.store.rows import Claim, ReadyJob
from launcher.system.paths import Home
from launcher.scheduler.unrecorded_attempts import Unrecorded

BUSY_POLL_S = 0.02  # between two looks at what pilots say, while they say something
IDLE_POLL_S = 0.5
PATIENCE = 0.02  # of the time since the last news is waited for the next ones
GONE = "its pilot is not on record any more"
UNKNOWN = "is no backend of config.toml any more; add the table [backends.{0}], or cancel the job"

logger = logging.getLogger(__name__)


class Dispatch:
    """What the scheduler of a home does with pilots; without backends and pilots it does nothing."""

    def __init__(
        self,
        home: Home,
        store: Store,
        fleet: Fleet,
        backends: Callable[[], Backends],
        clock: Callable[[], float],
        attempts: RunningAttempts,
        before: Callable[[int], Unrecorded],
    ) -> None:
        """Begin without having heard anything.

        Args:
            home: the queue's.
            store: likewise.
            fleet: the pilots there are.
            backends: returns the configured ones.
            clock: seconds since 1970.
            attempts: all that run.
            before: tells what lies in the way of a job's next attempt.
        """
        self._home, self._queue, self._fleet, self._clock = home, store.scheduling, fleet, clock
        self._backends, self._attempts = backends, attempts
        self.sending = Sending(home, store.scheduling, clock, before)
        self._gpus: dict[str, PilotGpus] = {}
        self._limits = SentLimits(home)
        self._news_at = -inf  # monotonic
        self._unheard = True  # nothing was read yet

    # --- what pilots say

    def begin(self) -> None:
        """Find the pilots of an earlier scheduler."""
        self._fleet.begin()

    def adopt(self, claim: Claim) -> Outcome | Watch:
        """Watch an attempt that an earlier scheduler claimed; what it did not send is sent now.

        Raises:
            OSError: what was sent to its pilot, or how the attempt ended, cannot be read now.
        """
        link = self._link(claim.pilot)
        if link is None:
            attempt = self._home.attempt(claim.job, claim.number)
            return end_of_buried(claim, attempt, GONE, self._clock())
        name = name_of_claim(claim)
        link.expect(name)
        if name not in link.sent():
            link.start([name])
        return OnPilot(claim=claim, link=link, clock=self._clock)

    def hear(self) -> bool:
        """Read what pilots say; return whether something of it asks for a turn."""
        now, any_news = time.monotonic(), False
        for link in self._fleet.all_links():
            news = link.read(now)
            if link.unsent:
                link.send()
            if self._unheard:
                _stop_strangers(link, news)
            any_news = any_news or not all(isinstance(item, Began) for item in news)
        self._unheard = False
        if any_news:
            self._news_at = now
        return any_news

    @property
    def poll_s(self) -> float:
        """After how long they should be heard again: soon where they spoke lately."""
        if not self._fleet.all_links():
            return inf
        quiet_s = time.monotonic() - self._news_at
        return min(IDLE_POLL_S, max(BUSY_POLL_S, PATIENCE * quiet_s))

    def bury(self) -> Iterator[tuple[Claim, Outcome]]:
        """End the attempts of pilots that are given up; nothing of them is read any more."""
        for token, why in dict(self._fleet.given_up()).items():
            link, clear = self._link(token), True
            for claim in self._claims_on(token):
                attempt = self._home.attempt(claim.job, claim.number)
                try:
                    outcome = end_of_buried(claim, attempt, why, self._clock())
                except UNCLEAR as error:
                    logger.warning("job=%d unclear=%r", claim.job, str(error))
                    clear = False
                    continue
                if link is not None:
                    link.forget(name_of_claim(claim))
                self._attempts.remove(claim.job)
                yield claim, outcome
            if clear and not self._claims_on(token):
                self._fleet.buried(token)
                self._gpus.pop(token, None)

    # --- what they get

    def claims(self) -> list[Claim]:
        """Return every attempt that has a place on a pilot."""
        running = [claim for claim in self._attempts.claims() if claim.pilot]
        return [*running, *self.sending.claimed()]

    def concerns(self, lanes: Iterable[Lane]) -> bool:
        """Tell whether jobs of one of these lanes may run elsewhere than here."""
        return any(lane.on != (HERE,) for lane in lanes)

    @property
    def slots(self) -> int:
        """How many jobs run on pilots at once, at most."""
        return sum(link.hello.cpus for link in self._fleet.links() if link.hello)

    def order(self, first: ReadyJob) -> list[str]:
        """Return the backends, and this machine, in the order in which they are asked.

        Args:
            first: the job that comes first.
        """
        return [*dict.fromkeys((*first.lane.on, *self._backends().by_name, HERE))]

    def running(self) -> list[Running]:
        """Return the attempts on pilots."""
        learned = self._queue.usage
        return [run for place in self._places(None) for run in place.running(learned)]

    def place(
        self,
        name: str,
        candidates: Sequence[Candidate],
        here: Sequence[Running],
        limits: Mapping[str, int],
        discipline: Discipline,
    ) -> dict[int, Reason | None]:
        """Start on the pilots of a backend what fits.

        Args:
            name: of the backend.
            candidates: the jobs that may run there, in order.
            here: what runs on this machine.
            limits: of groups.
            discipline: the policy.

        Returns:
            By job, why it does not start there; None: it does.
        """
        settings = self._backends().by_name.get(name)
        if settings is None:
            text = f"{name!r} {UNKNOWN.format(name)}"
            reason = Reason(code=ReasonCode.NO_PILOT, text=text)
            return {candidate.ready.id: reason for candidate in candidates}
        all_places = self._places(None)
        serving = {link.token for link in self._fleet.links()}
        places = [
            each
            for each in all_places
            if each.link.token in serving and each.link.spec.backend == name
        ]

        def decided(place: PilotPlace, left: Sequence[Candidate]) -> list[Decision | Reason]:
            others = [elsewhere(run) for run in here]
            for other in all_places:
                if other is not place:
                    others += map(elsewhere, other.running(self._queue.usage))
            return decide_on_pilot(
                place,
                left,
                others if limits else (),
                learned=self._queue.usage,
                limits=limits,
                now=self._clock(),
                discipline=discipline,
            )

        def claim(candidate: Candidate, start: Start, place: PilotPlace) -> Reason | None:
            why = self.sending.claim(candidate.ready, start, place.link, settings)
            place.claims = self._claims_on(place.link.token)
            return why

        return place_on_backend(
            places,
            candidates,
            settings,
            decided=decided,
            claim=claim,
            unserved=self._fleet.reasons().get(name, ""),
        )

    def look_at_gpus(self) -> dict[int, str]:
        """Take in what pilots tell of their GPUs; return the jobs that have to leave theirs, and why."""
        moved: dict[int, str] = {}
        limits = {}
        claims = [claim for claim in self.claims() if claim.gpus]
        for place in self._places(claims) if claims else ():
            if not place.claims:
                continue
            place.gpus.enter(place.claims)
            limits |= place.gpus.vram_limits(place.claims)
            machine = place.machine({})
            moved |= {
                stop.job: stop.reason
                for stop in evacuate(place.running(self._queue.usage), machine)
            }
        if claims:
            self._limits.send(claims, limits)
        return moved

    def gpus_of(self, claim: Claim) -> PilotGpus | None:
        """Return what is known of the GPUs of an attempt's pilot; None: nothing any more."""
        link = self._link(claim.pilot)
        return None if link is None else self._gpus_of(link)

    # --- helpers

    def _link(self, token: str) -> PilotLink | None:
        return next((link for link in self._fleet.all_links() if link.token == token), None)

    def _gpus_of(self, link: PilotLink) -> PilotGpus:
        if link.token not in self._gpus:
            self._gpus[link.token] = PilotGpus(link)
        return self._gpus[link.token]

    def _claims_on(self, token: str) -> list[Claim]:
        return [claim for claim in self.claims() if claim.pilot == token]

    def _places(self, claims: Sequence[Claim] | None) -> list[PilotPlace]:
        """Return all pilots that have spoken, with their attempts."""
        by_token: dict[str, list[Claim]] = {}
        for claim in self.claims() if claims is None else claims:
            by_token.setdefault(claim.pilot, []).append(claim)
        return [
            PilotPlace(link, self._gpus_of(link), by_token.get(link.token, []))
            for link in self._fleet.all_links()
            if link.hello is not None
        ]

    def busy(self) -> Counter[str]:
        """Return how many attempts each pilot has."""
        return Counter(claim.pilot for claim in self.claims())


def _stop_strangers(link: PilotLink, news: Iterable[News]) -> None:
    """End attempts that the queue has no record of: it was restored from a backup."""
    ended = {item.attempt for item in news if isinstance(item, Ended)}
    try:
        strangers = link.sent() - link.expected - ended
    except OSError:  # it is tried again by the next scheduler
        return
    for name in sorted(strangers) if link.said_bye is None else ():
        logger.warning("pilot=%s attempt=%s trouble='the queue does not know it'", link.token, name)
        link.stop(name)
