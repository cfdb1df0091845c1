"""One attempt as its scheduler watches it: started on this machine, or sent to a pilot."""

import contextlib
import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.queue.backends.pilot_folder import attempt_name
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import Drain
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import read_context
from launcher.queue.jobs.states import Lost, NeverStarted, Outcome, Stopped
from launcher.queue.scheduler.policy.model import Start
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.workers.attempt_handles import (
    ON_PILOT,
    TRANSIENT_ERRORS,
    AttemptHandle,
    SupervisedAttempt,
)
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.fork_server_pool import ForkServerPool
from launcher.queue.workers.start_attempt import link_log
from launcher.system.answering import FilesystemTimeout, run_with_timeout
from launcher.system.stored_fields import Unreadable, parse_record

RECORD_TIMEOUT_S = 60.0  # a file system may show so late what a node has written
END_REASON_TIMEOUT_S = 10.0  # longest time to wait for the reason of a backend that ends a pilot
NO_RESULT = "its pilot reported its end without a result, and {} contains no record"


class Assignment(NamedTuple):
    """Job, lane and place of an attempt."""

    job: ReadyJob
    start: Start


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedAttempt(SupervisedAttempt):
    """An attempt that this scheduler has started here, or is about to."""

    claim: Claim  # the attempt's reservations
    assignment: Assignment
    fork_servers: ForkServerPool  # pool that contains the attempt's supervisor

    @property
    def reason(self) -> str:
        """Why it starts."""
        return self.assignment.start.reason

    @property
    def starter(self) -> Hashable:
        """The supervisor, or the link to the pilot, that starts it."""
        return self.supervisor

    def launch(self, attempts: Sequence["StartedAttempt"]) -> None:  # noqa: ARG002  # it is alone
        """Have it started."""
        self.supervisor.run(self.attempt)

    def withdraw(self) -> None:
        """Take the attempt back, because its claim was not committed."""
        self.fork_servers.give_back(self.environment, self.supervisor)


def spec_text_of(claim: Claim) -> str:
    """Return a claim's spec as a node gets it, which makes no link to its log; see `PilotAttempt.link_run_log`."""
    if claim.spec.log_link is None:
        return claim.spec_text
    record = json.loads(claim.spec_text)
    del record["log_link"]
    return json.dumps(record)


def name_of_claim(claim: Claim) -> str:
    """Return the name of a claim's attempt, as its pilot knows it."""
    return attempt_name(*claim.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotAttempt(AttemptHandle):
    """An attempt that a pilot was sent, or will be."""

    claim: Claim
    link: PilotLink
    clock: Callable[[], float]  # seconds since 1970
    reason: str = ""  # why the attempt starts

    @property
    def starter(self) -> Hashable:
        """The supervisor, or the link to the pilot, that starts it."""
        return self.link

    def launch(self, attempts: Sequence["StartedAttempt"]) -> None:
        """Have the pilot start the attempt, and others that the pilot gets with it."""
        names = [name_of_claim(each.claim) for each in attempts]
        for name in names:
            self.link.track_attempt(name)
        self.link.start(names)
        if self.link.spec.single:
            self.link.send(Drain())
        for each in attempts:
            if isinstance(each, PilotAttempt):
                each.link_run_log()

    def withdraw(self) -> None:
        """Take the attempt back, because its claim was not committed: nothing was sent."""

    @property
    def descriptor(self) -> int:
        """None of this machine."""
        return ON_PILOT

    @property
    def attempt(self) -> Attempt:
        """Its folder."""
        return self.link.folder.attempt(name_of_claim(self.claim))

    def link_run_log(self) -> None:
        """Let its log appear in its run's folder.

        The node leaves that to us: its paths may be others, and what wakes there later must not name its own log.
        """
        link = self.claim.spec.log_link
        if link is not None:
            with contextlib.suppress(ValueError, Unreadable):
                umask = read_context(
                    parse_record(self.claim.context_text, "its surroundings")
                ).umask
                log = Path(link)
                with contextlib.suppress(FilesystemTimeout):
                    run_with_timeout(log.parent, partial(link_log, log, self.attempt, umask))

    def stop(self) -> None:
        """Ask its pilot, which insists by itself."""
        self.link.stop(name_of_claim(self.claim))

    def kill(self) -> bool:
        """Ask its pilot."""
        self.link.kill(name_of_claim(self.claim))
        return True

    def poll_outcome(self) -> Outcome | AttemptHandle | None:
        """Return how it ended, as its pilot says or its folder."""
        name = name_of_claim(self.claim)
        ended = self.link.finished_attempts.get(name)
        if ended is None:
            return None
        asked = name in self.link.stopping
        self.link.untrack_attempt(name)
        outcome, now = ended.outcome, time.monotonic()
        if isinstance(outcome, Stopped) and self.link.signal and not asked:
            return await_outcome(
                partial(self._outcome_with_cause, outcome, now + END_REASON_TIMEOUT_S)
            )
        if outcome is not None:
            return to_local_outcome(outcome, self.claim, self.clock())
        return await_outcome(partial(self._read_recorded_outcome, now + RECORD_TIMEOUT_S))

    def _outcome_with_cause(self, outcome: Stopped, end_time: float) -> Outcome | None:
        """Return the outcome of an attempt that ended with its pilot, with the reason that the backend reports."""
        if not self.link.end_reason and time.monotonic() < end_time:
            return None
        hello = self.link.registration
        job = f" {hello.job}" if hello is not None and hello.job else ""
        by = (
            self.link.end_reason
            or f"allocation{job} of {self.link.spec.backend} got {self.link.signal}"
        )
        return to_local_outcome(outcome._replace(by=by), self.claim, self.clock())

    def _read_recorded_outcome(self, end_time: float) -> Outcome | None:
        """Return the outcome of an ended attempt, whose record may not be visible here yet."""
        with contextlib.suppress(*TRANSIENT_ERRORS):
            outcome = run_with_timeout(self.link.root, partial(read_recorded_outcome, self.attempt))
            if outcome is not None:
                return to_local_outcome(outcome, self.claim, self.clock())
        if time.monotonic() < end_time:
            return None
        return Lost(at=self.clock(), why=NO_RESULT.format(self.attempt.folder))


StartedAttempt = LaunchedAttempt | PilotAttempt


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingOutcome(AttemptHandle):
    """An attempt on a pilot whose end is not reported by its pilot's messages."""

    read_outcome: Callable[[], Outcome | None]

    def poll_outcome(self) -> Outcome | AttemptHandle | None:
        """Return how it ended; None while that may still come, or cannot be found out."""
        try:
            return self.read_outcome()
        except TRANSIENT_ERRORS:
            return None


def await_outcome(read_outcome: Callable[[], Outcome | None]) -> Outcome | AttemptHandle:
    """Return the outcome that `read_outcome` finds, or a watch that reads again."""
    watch = PendingOutcome(read_outcome=read_outcome)
    return watch.poll_outcome() or watch


def to_local_outcome(outcome: Outcome, claim: Claim, now: float) -> Outcome:
    """Return an outcome of a node as one of this machine.

    Its clock may be wrong, and a failed start on a node does not concern this machine.
    """
    at = outcome.at if claim.claimed <= outcome.at <= now else now
    if isinstance(outcome, NeverStarted) and outcome.blamed_on == "machine":
        return NeverStarted(at=at)
    if isinstance(outcome, Lost | NeverStarted):
        return outcome._replace(at=at)
    return outcome._replace(at=at, clock_shift_s=None)
