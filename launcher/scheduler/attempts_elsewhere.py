"""The watch on an attempt that runs on a pilot, and what becomes of it when the pilot is given up.

What pilots say: attempts are taken over, their ends taken in, those of lost pilots ended.
"""

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from launcher.backends.channel import Began, Ended, News, PilotFolder, name_of
from launcher.backends.fleet import Fleet
from launcher.backends.pilot import PilotLink
from launcher.context import read_context
from launcher.scheduler.attempt_watch import RunningAttempts
from launcher.states import Lost, Outcome, Stopped, Void
from launcher.store.rows import Claim
from launcher.system.paths import Attempt, Home
from launcher.system.stored_fields import Unreadable, parsed
from launcher.workers.attempt_watch import ELSEWHERE, UNCLEAR, Watch
from launcher.workers.exit_outcome import done_of, word_of
from launcher.workers.lease import ended_after_s
from launcher.workers.start_attempt import link_log
from launcher.workers.started_file import recorded_outcome, void_attempt

PATIENCE_S = 60.0  # a file system may show so late what a node has written
WORD_S = 10.0  # so long an engine that ends a pilot is given to say why
# no job of a pilot can have brought that about
_FROM_OUTSIDE = re.compile(r"(was preempted|reached its time limit|was cancelled)$")
UNTOLD = "its pilot says that it has ended, and not how; nothing is on record in {}"


def spec_text_of(claim: Claim) -> str:
    """Return a claim's spec as a node gets it, which makes no link to its log; see `OnPilot.show_log`."""
    if claim.spec.log_link is None:
        return claim.spec_text
    record = json.loads(claim.spec_text)
    del record["log_link"]
    return json.dumps(record)


def name_of_claim(claim: Claim) -> str:
    """Return the name of a claim's attempt, as its pilot knows it."""
    return name_of(claim.job, claim.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPilot(Watch):
    """An attempt that a pilot was sent, or will be."""

    claim: Claim
    link: PilotLink
    clock: Callable[[], float]  # seconds since 1970

    @property
    def descriptor(self) -> int:
        """None of this machine."""
        return ELSEWHERE

    @property
    def attempt(self) -> Attempt:
        """Its folder."""
        return self.link.folder.attempt(name_of_claim(self.claim))

    def show_log(self) -> None:
        """Let its log appear in its run's folder.

        The node leaves that to us: its paths may be others, and what wakes there later must not name its own log.
        """
        link = self.claim.spec.log_link
        if link is not None:
            with contextlib.suppress(ValueError, Unreadable):
                umask = read_context(parsed(self.claim.context_text, "its surroundings")).umask
                link_log(Path(link), self.attempt, umask)

    def stop(self) -> None:
        """Ask its pilot, which insists by itself."""
        self.link.stop(name_of_claim(self.claim))

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, as its pilot says or its folder."""
        ended = self.link.end_of(name_of_claim(self.claim))
        if ended is None:
            return None
        asked = self.link.is_stopping(name_of_claim(self.claim))
        self.link.forget(name_of_claim(self.claim))
        if isinstance(ended.outcome, Stopped) and self.link.signal and not asked:
            until = time.monotonic() + WORD_S
            stopped = StopUnexplained(
                claim=self.claim,
                outcome=ended.outcome,
                link=self.link,
                clock=self.clock,
                until=until,
            )
            return stopped.ending() or stopped
        if ended.outcome is not None:
            return as_here(ended.outcome, self.claim, self.clock())
        until = time.monotonic() + PATIENCE_S
        awaited = EndAwaited(claim=self.claim, attempt=self.attempt, clock=self.clock, until=until)
        return awaited.ending() or awaited


@dataclass(frozen=True, slots=True, kw_only=True)
class StopUnexplained(Watch):
    """An attempt that ended as its pilot was to end; their engine is about to say why."""

    claim: Claim
    outcome: Stopped
    link: PilotLink
    clock: Callable[[], float]
    until: float  # monotonic

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, with why as soon as that is known."""
        if not self.link.end and time.monotonic() < self.until:
            return None
        hello = self.link.hello
        job = f" {hello.job}" if hello is not None and hello.job else ""
        by = self.link.end or f"allocation{job} of {self.link.spec.backend} got {self.link.signal}"
        return as_here(replace(self.outcome, by=by), self.claim, self.clock())


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAwaited(Watch):
    """An attempt that has ended, and whose record cannot be seen here yet."""

    claim: Claim
    attempt: Attempt
    clock: Callable[[], float]
    until: float  # monotonic

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended; None while that may still come."""
        try:
            outcome = recorded_outcome(self.attempt)
        except UNCLEAR:
            outcome = None
        if outcome is not None:
            return as_here(outcome, self.claim, self.clock())
        if time.monotonic() < self.until:
            return None
        return Lost(at=self.clock(), why=UNTOLD.format(self.attempt.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard(Watch):
    """An attempt on a pilot that is not heard any more, or of which the home has no record."""

    claim: Claim
    attempt: Attempt
    why: str
    ending_s: Callable[[], float]  # how long all of its pilot has been ending
    clock: Callable[[], float]

    def bury(self) -> None:
        """Have what lives of it end, where the pilot's folder is found."""
        folder = PilotFolder(self.attempt.folder.resolve().parent.parent)
        if folder.token == self.claim.pilot:
            with contextlib.suppress(OSError):
                folder.bury()

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended; None while it may live, or that cannot be found out."""
        try:
            return end_of_orphan(
                self.claim, self.attempt, self.why, self.clock(), ending_s=self.ending_s()
            )
        except UNCLEAR:
            return None


def as_here(outcome: Outcome, claim: Claim, now: float) -> Outcome:
    """Return an outcome of a node as one of this machine.

    Its clock may go wrong, and what a node could not start says nothing of this machine.
    """
    at = outcome.at if claim.claimed <= outcome.at <= now else now
    if isinstance(outcome, Void) and outcome.whose == "machine":
        return Void(at=at)
    return replace(outcome, at=at)


def end_of_orphan(
    claim: Claim, attempt: Attempt, why: str, now: float, *, ending_s: float
) -> Outcome | None:
    """Return how an attempt ended whose pilot is given up; None while it may live.

    One that has not begun cannot begin any more. Else its supervisor, if that lives, ends it and records how; where
    nothing is recorded, the time decides after which it has ended it for certain.

    Args:
        claim: the attempt.
        attempt: its folder on the shared file system.
        why: the pilot was given up.
        now: seconds since 1970.
        ending_s: how long all that lives of the pilot has been ending.

    Raises:
        OSError: that cannot be found out now.
    """
    outcome = recorded_outcome(attempt)
    if isinstance(outcome, Stopped):
        outcome = replace(outcome, by=why)
    if outcome is not None:
        return as_here(outcome, claim, now)
    if void_attempt(attempt):
        return Void(at=now)
    if ending_s < ended_after_s(claim.spec.terms.grace_s):
        return None
    done = done_of(word_of(attempt), now)
    if done is not None:
        return done
    if _FROM_OUTSIDE.search(why):
        return Stopped(at=now, by=why)
    return Lost(at=now, why=why)


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
