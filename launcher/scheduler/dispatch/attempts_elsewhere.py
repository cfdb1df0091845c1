"""The watch on an attempt that runs on a pilot, and what becomes of it when the pilot is given up."""

import contextlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.context import read_context
from launcher.pilots.folder import PilotFolder, name_of
from launcher.scheduler.attempt_watch import ELSEWHERE, NO_DESCRIPTOR, UNCLEAR, Watch
from launcher.scheduler.remote.link import PilotLink
from launcher.states import Lost, Outcome, Stopped, Void
from launcher.store.rows import Claim
from launcher.system.paths import Attempt
from launcher.system.stored_fields import Unreadable, parsed
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
class OnPilot:
    """An attempt that a pilot was sent, or will be."""

    claim: Claim
    link: PilotLink
    clock: Callable[[], float]  # seconds since 1970
    descriptor: int = ELSEWHERE

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

    def insist(self) -> None:
        """Leave that to its pilot."""

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Do nothing: no pilot pauses a program, and `launcher pause` says so."""
        return True

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
class StopUnexplained:
    """An attempt that ended as its pilot was to end; their engine is about to say why."""

    claim: Claim
    outcome: Stopped
    link: PilotLink
    clock: Callable[[], float]
    until: float  # monotonic
    descriptor: int = NO_DESCRIPTOR

    def stop(self) -> None:
        """Do nothing: it has ended."""

    def insist(self) -> None:
        """Likewise."""

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Likewise."""
        return True

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, with why as soon as that is known."""
        if not self.link.end and time.monotonic() < self.until:
            return None
        hello = self.link.hello
        job = f" {hello.job}" if hello is not None and hello.job else ""
        by = self.link.end or f"allocation{job} of {self.link.spec.backend} got {self.link.signal}"
        return as_here(replace(self.outcome, by=by), self.claim, self.clock())


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAwaited:
    """An attempt that has ended, and whose record cannot be seen here yet."""

    claim: Claim
    attempt: Attempt
    clock: Callable[[], float]
    until: float  # monotonic
    descriptor: int = NO_DESCRIPTOR

    def stop(self) -> None:
        """Do nothing: it has ended."""

    def insist(self) -> None:
        """Likewise."""

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Likewise."""
        return True

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
class Unheard:
    """An attempt on a pilot that is not heard any more, or of which the home has no record."""

    claim: Claim
    attempt: Attempt
    why: str
    ending_s: Callable[[], float]  # how long all of its pilot has been ending
    clock: Callable[[], float]
    descriptor: int = NO_DESCRIPTOR

    def bury(self) -> None:
        """Have what lives of it end, where the pilot's folder is found."""
        folder = PilotFolder(self.attempt.folder.resolve().parent.parent)
        if folder.token == self.claim.pilot:
            with contextlib.suppress(OSError):
                folder.bury()

    def stop(self) -> None:
        """Do nothing: it is to end."""

    def insist(self) -> None:
        """Likewise."""

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Likewise."""
        return True

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
