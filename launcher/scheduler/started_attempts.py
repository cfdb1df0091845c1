"""One attempt as its scheduler watches it: started on this machine, or sent to a pilot."""

import contextlib
import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.backends.pilot_folder import name_of
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Leave
from launcher.context import read_context
from launcher.scheduler.policy.model import Start
from launcher.states import Lost, Outcome, Stopped, Void
from launcher.store.rows import Claim, ReadyJob
from launcher.system.answering import NoAnswer, within
from launcher.system.paths import Attempt
from launcher.system.stored_fields import Unreadable, parsed
from launcher.workers.attempt_watch import (
    ELSEWHERE,
    UNCLEAR,
    Supervised,
    Watch,
)
from launcher.workers.start_attempt import link_log
from launcher.workers.started_file import recorded_outcome

PATIENCE_S = 60.0  # a file system may show so late what a node has written
WORD_S = 10.0  # so long an engine that ends a pilot is given to say why
UNTOLD = "its pilot reported its end without a result, and {} contains no record"


class Place(NamedTuple):
    """What an attempt was given: its job, which names its lane, and where it runs."""

    job: ReadyJob
    start: Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched(Supervised):
    """An attempt that this scheduler has started here, or is about to."""

    claim: Claim  # what was promised to it
    place: Place

    @property
    def reason(self) -> str:
        """Why it starts."""
        return self.place.start.reason

    @property
    def receiver(self) -> Hashable:
        """Who starts it."""
        return self.supervisor

    def launch(self, together: Sequence["Launched | OnPilot"]) -> None:  # noqa: ARG002  # it is alone
        """Have it started."""
        self.supervisor.run(self.attempt)


def spec_text_of(claim: Claim) -> str:
    """Return a claim's spec as a node gets it, which makes no link to its log; see `OnPilot.show_log`."""
    if claim.spec.log_link is None:
        return claim.spec_text
    record = json.loads(claim.spec_text)
    del record["log_link"]
    return json.dumps(record)


def name_of_claim(claim: Claim) -> str:
    """Return the name of a claim's attempt, as its pilot knows it."""
    return name_of(*claim.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPilot(Watch):
    """An attempt that a pilot was sent, or will be."""

    claim: Claim
    link: PilotLink
    clock: Callable[[], float]  # seconds since 1970
    reason: str = ""  # why it starts

    @property
    def receiver(self) -> Hashable:
        """Who starts it."""
        return self.link

    def launch(self, together: Sequence["Launched | OnPilot"]) -> None:
        """Have the pilot start it, and others that it is to get with it."""
        names = [name_of_claim(each.claim) for each in together]
        for name in names:
            self.link.expect(name)
        self.link.start(names)
        if self.link.spec.single:
            self.link.send(Leave())
        for each in together:
            if isinstance(each, OnPilot):
                each.show_log()

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
                log = Path(link)
                with contextlib.suppress(NoAnswer):
                    within(log.parent, partial(link_log, log, self.attempt, umask))

    def stop(self) -> None:
        """Ask its pilot, which insists by itself."""
        self.link.stop(name_of_claim(self.claim))

    def kill(self) -> bool:
        """Ask its pilot."""
        self.link.kill(name_of_claim(self.claim))
        return True

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, as its pilot says or its folder."""
        name = name_of_claim(self.claim)
        ended = self.link.ends.get(name)
        if ended is None:
            return None
        asked = name in self.link.stopping
        self.link.forget(name)
        outcome, now = ended.outcome, time.monotonic()
        if isinstance(outcome, Stopped) and self.link.signal and not asked:
            return await_outcome(partial(self._explained, outcome, now + WORD_S))
        if outcome is not None:
            return as_here(outcome, self.claim, self.clock())
        return await_outcome(partial(self._recorded, now + PATIENCE_S))

    def _explained(self, outcome: Stopped, until: float) -> Outcome | None:
        """Return the end of what ended as its pilot was to end, with why: their engine is about to say that."""
        if not self.link.end and time.monotonic() < until:
            return None
        hello = self.link.hello
        job = f" {hello.job}" if hello is not None and hello.job else ""
        by = self.link.end or f"allocation{job} of {self.link.spec.backend} got {self.link.signal}"
        return as_here(outcome._replace(by=by), self.claim, self.clock())

    def _recorded(self, until: float) -> Outcome | None:
        """Return the end of what has ended, and whose record may not be seen here yet."""
        with contextlib.suppress(*UNCLEAR):
            outcome = within(self.link.root, partial(recorded_outcome, self.attempt))
            if outcome is not None:
                return as_here(outcome, self.claim, self.clock())
        if time.monotonic() < until:
            return None
        return Lost(at=self.clock(), why=UNTOLD.format(self.attempt.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited(Watch):
    """An attempt on a pilot whose end is told by something else than its pilot's news."""

    look: Callable[[], Outcome | None]

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended; None while that may still come, or cannot be found out."""
        try:
            return self.look()
        except UNCLEAR:
            return None


def await_outcome(look: Callable[[], Outcome | None]) -> Outcome | Watch:
    """Return the outcome that `look` finds, or a watch that looks again."""
    watch = Awaited(look=look)
    return watch.ending() or watch


def as_here(outcome: Outcome, claim: Claim, now: float) -> Outcome:
    """Return an outcome of a node as one of this machine.

    Its clock may go wrong, and what a node could not start says nothing of this machine.
    """
    at = outcome.at if claim.claimed <= outcome.at <= now else now
    if isinstance(outcome, Void) and outcome.whose == "machine":
        return Void(at=at)
    return outcome._replace(at=at)
