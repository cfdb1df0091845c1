"""The pilots that have spoken, as machines on which attempts run: their GPUs, and what is promised there."""

from collections.abc import Callable

from launcher.scheduler.dispatch.hearing import heard
from launcher.scheduler.dispatch.pilot_gpus import PilotGpus
from launcher.scheduler.dispatch.placement import Learned, PilotPlace
from launcher.scheduler.gpus.attempt_places import vram_limits
from launcher.scheduler.gpus.sent_limits import SentLimits
from launcher.scheduler.policy.decide import evacuate
from launcher.scheduler.policy.model import Machine, Running
from launcher.scheduler.remote.fleet import Fleet
from launcher.scheduler.remote.link import PilotLink
from launcher.store.rows import Claim
from launcher.system.paths import Home
from launcher.workers.job import VramLimit


class PilotPlaces:
    """What is known of pilots beside what they say about ends."""

    def __init__(
        self, home: Home, fleet: Fleet, claims: Callable[[], list[Claim]], learned: Learned
    ) -> None:
        """Begin without having looked.

        Args:
            home: where attempts lie.
            fleet: the pilots there are.
            claims: returns every attempt that has a place on one.
            learned: returns what jobs took before, on a card.
        """
        self._fleet, self._claims, self._learned = fleet, claims, learned
        self._gpus: dict[str, PilotGpus] = {}
        self._limits = SentLimits(home)

    def all(self) -> list[PilotPlace]:
        """Return the pilots that have spoken, with their attempts."""
        links = [link for link in heard(self._fleet) if link.hello is not None]
        for gone in self._gpus.keys() - {link.token for link in links}:
            del self._gpus[gone]
        if not links:
            return []
        by_token: dict[str, list[Claim]] = {}
        for claim in self._claims():
            by_token.setdefault(claim.pilot, []).append(claim)
        return [
            PilotPlace(link, self._gpus_of(link), by_token.get(link.token, [])) for link in links
        ]

    def running(self) -> list[Running]:
        """Return the attempts on pilots."""
        return [run for place in self.all() for run in place.running(self._learned)]

    def of(self, claim: Claim) -> PilotPlace | None:
        """Return the pilot of an attempt, None where nothing is known of it any more."""
        return next((place for place in self.all() if place.link.token == claim.pilot), None)

    def gpus_of(self, claim: Claim) -> PilotGpus | None:
        """Return what is known of the GPUs of an attempt's pilot; None: nothing any more."""
        place = self.of(claim)
        return None if place is None else place.gpus

    def machine_of(self, claim: Claim) -> Machine:
        """Return an attempt's pilot as it is without those that have ended."""
        place = self.of(claim)
        return Machine(cpus=claim.cpus) if place is None else place.machine({})

    def look_at_gpus(self) -> dict[int, str]:
        """Take in what pilots tell of their GPUs; return the jobs that have to leave theirs, and why."""
        moved: dict[int, str] = {}
        for place in self.all():
            if place.gpus.enter(place.claims):
                stops = evacuate(place.running(self._learned), place.machine({}))
                moved |= {stop.job: stop.reason for stop in stops}
        return moved

    def send_limits(self) -> None:
        """Tell workers on pilots how much of their GPUs they may take."""
        claims = [claim for claim in self._claims() if claim.gpus]
        limits: dict[tuple[int, int], VramLimit] = {}
        for place in self.all() if claims else ():
            limits |= vram_limits(place.claims, place.gpus.memory)
        self._limits.send(claims, limits)

    def _gpus_of(self, link: PilotLink) -> PilotGpus:
        if link.token not in self._gpus:
            self._gpus[link.token] = PilotGpus(link)
        return self._gpus[link.token]
