"""From a decision to an attempt on a pilot: claimed and laid out in a transaction, sent when that is committed."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from launcher.backends.channel import Leave
from launcher.backends.pilot import PilotLink
from launcher.backends.settings import BackendSettings, NodePaths
from launcher.scheduler.attempts_elsewhere import OnPilot, name_of_claim, spec_text_of
from launcher.scheduler.policy.model import Start
from launcher.scheduler.start_jobs import (
    RAN_BEFORE,
    Unrecorded,
    nobody,
    obstacle,
    order_of,
    seat_of,
)
from launcher.states import Lost, Outcome, Reason, ReasonCode
from launcher.store.rows import PILOT, Claim, ReadyJob
from launcher.store.scheduler_actions import Scheduling
from launcher.system.files import sync, write_whole
from launcher.system.paths import LOG, SPEC, Attempt, Home
from launcher.workers.started_file import void_attempt

logger = logging.getLogger(__name__)


class Sending:
    """What one turn sends to pilots; nothing of it runs before `go`."""

    def __init__(
        self,
        home: Home,
        queue: Scheduling,
        clock: Callable[[], float],
        before: Callable[[int], Unrecorded],
    ) -> None:
        """Begin with nothing.

        Args:
            home: where attempts are looked for.
            queue: likewise jobs.
            clock: seconds since 1970.
            before: tells what lies in the way of a job's next attempt.
        """
        self._home, self._queue, self._clock, self._before = home, queue, clock, before
        self._claimed: list[tuple[OnPilot, str]] = []  # in a transaction that is still open; why
        self._committed: list[tuple[OnPilot, str]] = []
        self._refused: list[tuple[Claim, Outcome]] = []
        self.again = False  # a job was put off, and nothing will wake us for it

    def claim(
        self, ready: ReadyJob, start: Start, link: PilotLink, settings: BackendSettings
    ) -> Reason | None:
        """Promise a job its place on a pilot; return why not, where it cannot start yet."""
        before = self._before(ready.id)
        if before.unclear or before.living:
            self.again = True
            return obstacle(before)
        try:
            claim = self._queue.claim(
                ready.id,
                seat_of(start, nobody(f"{PILOT}{link.token}")),
                reason=f"{start.reason}, {_place_of(link)} of {settings.name}",
                now=self._clock(),
                number=before.number,
                prepare=lambda claim: self._lay_out(claim, link, NodePaths(settings)),
            )
        except OSError as error:  # what other places start must not wait for this file system
            self.again = True
            where = link.folder.attempts
            text = f"no folder for its attempt can be made in {where}: {error.strerror or error}"
            return Reason(code=ReasonCode.CANNOT_START, text=text)
        if claim is None:  # its owner cancelled it meanwhile, or it was set aside
            self.again = True
            return None
        watch = OnPilot(claim=claim, link=link, clock=self._clock)
        if before.began and claim.spec.terms.rerun == "never":
            void_attempt(watch.attempt)  # whoever serves next sends it nowhere
            why = RAN_BEFORE.format(before.began[-1].folder)
            self._refused.append((claim, Lost(at=self._clock(), why=why)))
            return None
        self._claimed.append((watch, start.reason))
        return None

    def _lay_out(self, claim: Claim, link: PilotLink, paths: NodePaths) -> None:
        """Make an attempt's folder below the pilot's, and its name in the home.

        Raises:
            OSError: the disk is full.
        """
        spec, context = paths.spec(spec_text_of(claim)), paths.context(claim.context_text)
        text = order_of(self._home, claim, spec, context)
        there = link.folder.attempt(name_of_claim(claim))
        there.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(there.text(SPEC), text)
        if claim.spec.log_link is not None:  # it has another name from the start
            write_whole(there.text(LOG), "")
        link_attempt(self._home.attempt(claim.job, claim.number), there)

    def claimed(self) -> Iterator[Claim]:
        """Give what is claimed in the transaction that is still open, and what was not sent yet."""
        yield from (watch.claim for watch, _ in (*self._claimed, *self._committed))

    def commit(self) -> None:
        """Know that the transaction is committed: what was claimed must be sent."""
        self._committed += self._claimed
        self._claimed.clear()

    def undo(self) -> None:
        """Take everything back; the transaction came to nothing."""
        self._claimed.clear()
        self._refused.clear()

    def go(self) -> Iterator[OnPilot]:
        """Send what is committed, all attempts of a pilot at once.

        Raises:
            OSError: the claim of one that must never run twice cannot be synced to the disk; all are
                sent another time.
        """
        if not self._committed:
            return
        if any(watch.claim.spec.terms.rerun == "never" for watch, _ in self._committed):
            for path in (self._home.database_log, self._home.folder):
                sync(path)
        committed, self._committed = self._committed, []
        links = {watch.link.token: watch.link for watch, _ in committed}
        for token, link in links.items():
            names = [name_of_claim(each.claim) for each, _ in committed if each.link.token == token]
            for name in names:
                link.expect(name)
            link.start(names)
            if link.spec.single:
                link.send(Leave())
        for watch, reason in committed:
            claim = watch.claim
            watch.show_log()
            logger.info("job=%d attempt=%d start reason=%r", claim.job, claim.number, reason)
            yield watch

    def end_refused(self, end: Callable[[Claim, Outcome], None]) -> None:
        """End what was claimed although it must not run.

        Args:
            end: takes an attempt and its outcome.
        """
        refused, self._refused = self._refused, []
        for claim, outcome in refused:
            end(claim, outcome)


def _place_of(link: PilotLink) -> str:
    """Return where a pilot is, in words: its token tells nobody anything."""
    hello = link.hello
    if hello is None:
        return f"pilot {link.token}"
    node = f"node {hello.node or hello.host}"
    return f"{node}, job {hello.job}" if hello.job else node


def link_attempt(here: Attempt, there: Attempt) -> None:
    """Let a name in the home lead to an attempt's folder on a pilot; what a transaction left is replaced.

    Raises:
        OSError: somebody's files lie there, or the disk is full.
    """
    try:
        here.folder.symlink_to(there.folder)
    except FileExistsError:
        if here.folder.is_symlink():
            here.folder.unlink()
        else:  # an order that was written ahead, and an empty log
            here.log.unlink(missing_ok=True)
            here.spec.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                here.folder.rmdir()
        here.folder.symlink_to(there.folder)
