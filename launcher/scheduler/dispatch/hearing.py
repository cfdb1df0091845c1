"""What pilots say: attempts are taken over, their ends taken in, those of lost pilots ended."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

from launcher.pilots.messages import Began, Ended, News
from launcher.scheduler.attempt_watch import UNCLEAR, Watch
from launcher.scheduler.dispatch.attempts_elsewhere import (
    OnPilot,
    Unheard,
    end_of_orphan,
    name_of_claim,
)
from launcher.scheduler.remote.fleet import Fleet
from launcher.scheduler.remote.link import PilotLink
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.states import Outcome
from launcher.store.rows import Claim
from launcher.system.paths import Home

BUSY_POLL_S = 0.01  # between two looks at what pilots say, while they say something
IDLE_POLL_S = 0.5
ORPHANS_S = 0.5  # between two looks at the folders of attempts whose pilots were given up
PATIENCE = 0.02  # of the time since the last news is waited for the next ones
GONE = "the home has no record of its pilot"
UNREADABLE = "the record {}/pilots/{}.json cannot be read; if its pilot has ended, delete it"

logger = logging.getLogger(__name__)


def heard(fleet: Fleet) -> Sequence[PilotLink]:
    """Return the links of all pilots whose news are read."""
    return fleet.all_links()


def serving(fleet: Fleet) -> Sequence[PilotLink]:
    """Return the links of the pilots that may be sent work, the oldest first.

    The fleet looks at its pilots now and then; one that was told to leave meanwhile gets nothing more.
    """
    return [link for link in fleet.links() if link.serves]


class Hearing:
    """Hears all pilots of a home; without any it does nothing."""

    def __init__(
        self,
        home: Home,
        fleet: Fleet,
        clock: Callable[[], float],
        attempts: RunningAttempts,
        unsent: Callable[[], Iterable[Claim]],
    ) -> None:
        """Begin without having heard anything.

        Args:
            home: where attempts lie.
            fleet: the pilots there are.
            clock: seconds since 1970.
            attempts: all that run.
            unsent: returns what is claimed and was not sent yet.
        """
        self._unsent = unsent
        self._home, self._fleet, self._clock, self._attempts = home, fleet, clock, attempts
        self._news_at = self._orphans_at = -inf  # monotonic
        self._unheard = True  # nothing was read yet

    def adopt(self, claim: Claim) -> Outcome | Watch:
        """Watch an attempt that an earlier scheduler claimed; what it did not send is sent now.

        Raises:
            OSError: its pilot's record, what that was sent, or how the attempt ended, cannot be read now.
        """
        link = self.link(claim.pilot)
        if link is None and self._fleet.is_unreadable(claim.pilot):
            raise OSError(UNREADABLE.format(self._home.folder, claim.pilot))
        if link is None:
            unheard = Unheard(
                claim=claim,
                attempt=self._home.attempt(claim.job, claim.number),
                why=GONE,
                ending_s=lambda: self._fleet.ending_s(claim.pilot),
                clock=self._clock,
            )
            unheard.bury()
            return unheard.ending() or unheard
        name, watch = name_of_claim(claim), OnPilot(claim=claim, link=link, clock=self._clock)
        link.expect(name)
        if name not in link.sent() and claim.pilot not in self._fleet.given_up():
            link.start([name])
            watch.show_log()
        logger.info("job=%d attempt=%d adopted pilot=%s", claim.job, claim.number, link.token)
        return watch

    def hear(self) -> bool:
        """Read what pilots say; return whether something of it asks for a turn."""
        links = heard(self._fleet)
        if not links:
            return False
        now, asks = time.monotonic(), False
        for link in links:
            news = link.read(now)
            if link.unsent:
                link.send()
            if self._unheard:
                _stop_strangers(link, news)
            asks = asks or not all(isinstance(item, Began) for item in news)
        self._unheard = False
        if asks:
            self._news_at = now
        return asks

    def expect(self) -> None:
        """Know that something was sent, or asked: news may come soon."""
        self._news_at = time.monotonic()

    @property
    def poll_s(self) -> float:
        """After how long they should be heard again: soon where they spoke lately; infinite without any."""
        if not self._fleet.all_links():
            return inf
        quiet_s = time.monotonic() - self._news_at
        return min(IDLE_POLL_S, max(BUSY_POLL_S, PATIENCE * quiet_s))

    def bury(self) -> Iterator[tuple[Claim, Outcome]]:
        """End the attempts of pilots that are given up, as they are over; then nothing of a pilot is read any more."""
        if (now := time.monotonic()) < self._orphans_at + ORPHANS_S:
            return
        self._orphans_at = now
        for token, why in dict(self._fleet.given_up()).items():
            clear = all(claim.pilot != token for claim in self._unsent())
            ending_s = self._fleet.ending_s(token)
            claims = [claim for claim in self._attempts.claims() if claim.pilot == token]
            for claim in claims:
                attempt = self._home.attempt(claim.job, claim.number)
                try:
                    outcome = end_of_orphan(claim, attempt, why, self._clock(), ending_s=ending_s)
                except UNCLEAR as error:
                    logger.warning("job=%d unclear=%r", claim.job, str(error))
                    outcome = None
                if outcome is None:
                    clear = False
                    continue
                self._attempts.remove(claim.job)
                if (link := self.link(token)) is not None:
                    link.forget(name_of_claim(claim))
                yield claim, outcome
            if clear:
                self._fleet.buried(token)

    def link(self, token: str) -> PilotLink | None:
        """Return the link of a pilot, None where it is not heard any more."""
        return next((link for link in heard(self._fleet) if link.token == token), None)


def _stop_strangers(link: PilotLink, news: Iterable[News]) -> None:
    """End attempts that the queue has no record of: it was restored from a backup."""
    ended = {item.attempt for item in news if isinstance(item, Ended)}
    try:
        strangers = link.sent() - link.expected - ended
    except OSError:  # the next scheduler does it
        return
    for name in sorted(strangers) if link.said_bye is None else ():
        logger.warning("pilot=%s attempt=%s trouble='the queue does not know it'", link.token, name)
        link.stop(name)
