"""What pilots say: attempts are taken over, their ends taken in, those of lost pilots ended."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf

from launcher.backends.fleet import Fleet
from launcher.backends.pilot_folder import PilotFolder
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Began, Ended, News
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.scheduler.started_attempts import OnPilot, as_here, await_outcome, name_of_claim
from launcher.states import Lost, Outcome, Stopped, Void
from launcher.store.rows import Claim
from launcher.system.answering import NoAnswer, within
from launcher.system.paths import Attempt, Home
from launcher.workers.attempt_watch import (
    UNCLEAR,
    Watch,
)
from launcher.workers.exit_outcome import done_of, word_of
from launcher.workers.lease import ended_after_s
from launcher.workers.started_file import recorded_outcome, void_attempt

logger = logging.getLogger(__name__)
# no job of a pilot can have brought that about
_FROM_OUTSIDE = re.compile(r"(was preempted|reached its time limit|was cancelled)$")
BUSY_POLL_S = 0.01  # between two looks at what pilots say, while they say something
IDLE_POLL_S = 0.5
ORPHANS_S = 0.5  # between two looks at the folders of attempts whose pilots were given up
PATIENCE = 0.02  # of the time since the last news is waited for the next ones
GONE = "the queue folder has no record of its pilot"
UNREADABLE = "cannot read the record {}/pilots/{}.json. If its pilot has ended, delete it"


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
        link = self._link(claim.pilot)
        if link is None and self._fleet.is_unreadable(claim.pilot):
            raise OSError(UNREADABLE.format(self._home.folder, claim.pilot))
        if link is None:
            there = self._attempt(claim).folder
            folder = PilotFolder(within(there, there.resolve).parent.parent)
            if folder.token == claim.pilot:  # what lives of it ends, where its folder is found
                with contextlib.suppress(OSError):
                    within(folder.folder.parent, folder.bury)
            return await_outcome(partial(self._orphans_end, claim, GONE))
        name, watch = name_of_claim(claim), OnPilot(claim=claim, link=link, clock=self._clock)
        link.expect(name)
        if name not in link.sent() and claim.pilot not in self._fleet.given_up():
            link.start([name])
            watch.show_log()
        logger.info("job=%d attempt=%d adopted pilot=%s", *claim.key, link.token)
        return watch

    def hear(self) -> bool:
        """Read what pilots say; return whether something of it asks for a turn."""
        links = self._fleet.all_links
        if not links:
            return False
        now, asks = time.monotonic(), False
        for root in {link.root for link in links}:
            there = [link for link in links if link.root == root]
            try:
                within(root, partial(_fetch, there))
            except NoAnswer as error:
                for link in there:
                    link.note(f"{error.strerror}")
        for link in links:
            news = link.take(now)
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
        if not self._fleet.all_links:
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
            claims = [claim for claim in self._attempts.claims() if claim.pilot == token]
            for claim in claims:
                try:
                    outcome = self._orphans_end(claim, why)
                except UNCLEAR as error:
                    logger.warning("job=%d unclear=%r", claim.job, str(error))
                    outcome = None
                if outcome is None:
                    clear = False
                    continue
                self._attempts.remove(claim.job)
                if (link := self._link(token)) is not None:
                    link.forget(name_of_claim(claim))
                yield claim, outcome
            if clear:
                self._fleet.buried(token)

    def _orphans_end(self, claim: Claim, why: str) -> Outcome | None:
        """Return how an attempt ended whose pilot is given up; None while it may live.

        One that has not begun cannot begin any more. Else its supervisor, if that lives, ends it and records how;
        where nothing is recorded, the time decides after which it has ended it for certain.

        Args:
            claim: the attempt.
            why: the pilot was given up.

        Raises:
            OSError: that cannot be found out now.
        """
        attempt, now = self._attempt(claim), self._clock()
        link = self._link(claim.pilot)
        ask = partial(within, attempt.folder if link is None else link.root)
        outcome = ask(partial(recorded_outcome, attempt))
        if isinstance(outcome, Stopped):
            outcome = outcome._replace(by=why)
        if outcome is not None:
            return as_here(outcome, claim, now)
        if ask(partial(void_attempt, attempt)):
            return Void(at=now)
        if self._fleet.ending_s(claim.pilot) < ended_after_s(claim.spec.terms.grace_s):
            return None
        done = done_of(ask(partial(word_of, attempt)), now)
        if done is not None:
            return done
        if _FROM_OUTSIDE.search(why):
            return Stopped(at=now, by=why)
        return Lost(at=now, why=why)

    def _attempt(self, claim: Claim) -> Attempt:
        return self._home.attempt(*claim.key)

    def _link(self, token: str) -> PilotLink | None:
        """Return the link of a pilot, None where it is not heard any more."""
        return next((link for link in self._fleet.all_links if link.token == token), None)


def _fetch(links: Iterable[PilotLink]) -> None:
    for link in links:
        link.fetch()


def _stop_strangers(link: PilotLink, news: Iterable[News]) -> None:
    """End attempts that the queue has no record of: it was restored from a backup."""
    ended = {item.attempt for item in news if isinstance(item, Ended)}
    try:
        strangers = link.sent() - link.expected - ended
    except OSError:  # the next scheduler does it
        return
    for name in sorted(strangers) if link.said_bye is None else ():
        logger.warning(
            "pilot=%s attempt=%s trouble='the queue has no record of it'", link.token, name
        )
        link.stop(name)
