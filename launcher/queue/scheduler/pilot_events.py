"""Events of pilots: attempts are adopted, their ends recorded, and those of lost pilots ended."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf

from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_messages import AttemptFinished, AttemptStarted, PilotMessage
from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import Lost, NeverStarted, Outcome, Stopped
from launcher.queue.scheduler.running_attempts import RunningAttempts
from launcher.queue.scheduler.started_attempts import (
    PilotAttempt,
    await_outcome,
    name_of_claim,
    to_local_outcome,
)
from launcher.queue.store.rows import Claim
from launcher.queue.workers.attempt_handles import (
    TRANSIENT_ERRORS,
    AttemptHandle,
)
from launcher.queue.workers.attempt_journal import read_recorded_outcome, revoke_attempt
from launcher.queue.workers.exit_outcome import done_from_result, read_worker_result
from launcher.queue.workers.lease import longest_shutdown_s
from launcher.system.answering import FilesystemTimeout, run_with_timeout

logger = logging.getLogger(__name__)
# no job of a pilot can have brought that about
_EXTERNAL_END = re.compile(r"(was preempted|reached its time limit|was cancelled)$")
BUSY_POLL_S = 0.01  # seconds between two polls of the pilots while they send messages
IDLE_POLL_S = 0.5
ORPHAN_POLL_S = (
    0.5  # seconds between two polls of the folders of attempts whose pilots were abandoned
)
QUIET_FRACTION = 0.02  # pause before the next poll, as part of the time since the last news
GONE = "the queue folder has no record of its pilot"
UNREADABLE = "cannot read the record {}/pilots/{}.json. If its pilot has ended, delete it"


class PilotEvents:
    """Polls all pilots of a queue. Without pilots it does nothing."""

    def __init__(
        self,
        home: Home,
        pilot_pool: PilotPool,
        clock: Callable[[], float],
        attempts: RunningAttempts,
        unsent_claims: Callable[[], Iterable[Claim]],
    ) -> None:
        """Start without any messages.

        Args:
            home: Queue folder with the attempts.
            pilot_pool: The existing pilots.
            clock: Seconds since 1970.
            attempts: All running attempts.
            unsent_claims: Returns the claims that were not sent yet.
        """
        self._unsent_claims = unsent_claims
        self._home, self._pilot_pool, self._clock, self._attempts = (
            home,
            pilot_pool,
            clock,
            attempts,
        )
        self._last_message_at = self._orphans_polled_at = -inf  # monotonic
        self._is_first_poll = True  # nothing was read yet

    def adopt(self, claim: Claim) -> Outcome | AttemptHandle:
        """Watch an attempt that an earlier scheduler claimed. An unsent command is sent now.

        Raises:
            OSError: The pilot's record, its commands, or the end of the attempt cannot be read now.
        """
        link = self._link(claim.pilot)
        if link is None and self._pilot_pool.is_unreadable(claim.pilot):
            raise OSError(UNREADABLE.format(self._home.folder, claim.pilot))
        if link is None:
            there = self._attempt(claim).folder
            folder = PilotFolder(run_with_timeout(there, there.resolve).parent.parent)
            # processes that survive the pilot end where its folder is found
            if folder.token == claim.pilot:
                with contextlib.suppress(OSError):
                    run_with_timeout(folder.folder.parent, folder.mark_abandoned)
            return await_outcome(partial(self._orphan_outcome, claim, GONE))
        name, watch = name_of_claim(claim), PilotAttempt(claim=claim, link=link, clock=self._clock)
        link.track_attempt(name)
        if (
            name not in link.read_sent_attempts()
            and claim.pilot not in self._pilot_pool.abandoned_pilots()
        ):
            link.start([name])
            watch.link_run_log()
        logger.info("job=%d attempt=%d adopted pilot=%s", *claim.key, link.token)
        return watch

    def poll_messages(self) -> bool:
        """Read the messages of pilots; return whether a message needs a turn."""
        links = self._pilot_pool.all_links
        if not links:
            return False
        now, asks = time.monotonic(), False
        for root in {link.root for link in links}:
            there = [link for link in links if link.root == root]
            try:
                run_with_timeout(root, partial(_fetch_messages, there))
            except FilesystemTimeout as error:
                for link in there:
                    link.set_error(f"{error.strerror}")
        for link in links:
            news = link.apply_fetched(now)
            if link.unsent:
                link.send()
            if self._is_first_poll:
                _stop_unrecorded(link, news)
            asks = asks or not all(isinstance(item, AttemptStarted) for item in news)
        self._is_first_poll = False
        if asks:
            self._last_message_at = now
        return asks

    @property
    def poll_s(self) -> float:
        """Seconds until the next poll: short after recent messages and starts, infinite without pilots."""
        links = self._pilot_pool.all_links
        if not links:
            return inf
        # pilots that were sent attempts have news soon
        quiet_s = time.monotonic() - max(self._last_message_at, *(link.sent_at for link in links))
        return min(IDLE_POLL_S, max(BUSY_POLL_S, QUIET_FRACTION * quiet_s))

    def reap_abandoned(self) -> Iterator[tuple[Claim, Outcome]]:
        """End the attempts of pilots that are given up, as they are over; then nothing of a pilot is read any more."""
        if (now := time.monotonic()) < self._orphans_polled_at + ORPHAN_POLL_S:
            return
        self._orphans_polled_at = now
        for token, why in dict(self._pilot_pool.abandoned_pilots()).items():
            clear = all(claim.pilot != token for claim in self._unsent_claims())
            claims = [claim for claim in self._attempts.claims() if claim.pilot == token]
            for claim in claims:
                try:
                    outcome = self._orphan_outcome(claim, why)
                except TRANSIENT_ERRORS as error:
                    logger.warning("job=%d unclear=%r", claim.job, str(error))
                    outcome = None
                if outcome is None:
                    clear = False
                    continue
                self._attempts.remove(claim.job)
                if (link := self._link(token)) is not None:
                    link.untrack_attempt(name_of_claim(claim))
                yield claim, outcome
            if clear:
                self._pilot_pool.mark_reaped(token)

    def _orphan_outcome(self, claim: Claim, why: str) -> Outcome | None:
        """Return the outcome of an attempt of an abandoned pilot, None while it may be alive.

        An attempt that has not started is voided. Otherwise its supervisor, if alive, ends it and
        records the outcome. Without a record, the time decides after which the supervisor has
        certainly ended it.

        Args:
            claim: The attempt.
            why: Why the pilot was abandoned.

        Raises:
            OSError: The state cannot be determined now.
        """
        attempt, now = self._attempt(claim), self._clock()
        link = self._link(claim.pilot)
        ask = partial(run_with_timeout, attempt.folder if link is None else link.root)
        outcome = ask(partial(read_recorded_outcome, attempt))
        if isinstance(outcome, Stopped):
            outcome = outcome._replace(by=why)
        if outcome is not None:
            return to_local_outcome(outcome, claim, now)
        if ask(partial(revoke_attempt, attempt)):
            return NeverStarted(at=now)
        if self._pilot_pool.terminating_s(claim.pilot) < longest_shutdown_s(
            claim.spec.terms.grace_s
        ):
            return None
        done = done_from_result(ask(partial(read_worker_result, attempt)), now)
        if done is not None:
            return done
        if _EXTERNAL_END.search(why):
            return Stopped(at=now, by=why)
        return Lost(at=now, why=why)

    def _attempt(self, claim: Claim) -> Attempt:
        return self._home.attempt(*claim.key)

    def _link(self, token: str) -> PilotLink | None:
        """Return the link of a pilot, None if it is no longer polled."""
        return next((link for link in self._pilot_pool.all_links if link.token == token), None)


def _fetch_messages(links: Iterable[PilotLink]) -> None:
    for link in links:
        link.fetch()


def _stop_unrecorded(link: PilotLink, news: Iterable[PilotMessage]) -> None:
    """End attempts that the queue has no record of: it was restored from a backup."""
    ended = {item.attempt for item in news if isinstance(item, AttemptFinished)}
    try:
        strangers = link.read_sent_attempts() - link.open_attempts - ended
    except OSError:  # the next scheduler deletes the folder
        return
    for name in sorted(strangers) if link.exit_reason is None else ():
        logger.warning(
            "pilot=%s attempt=%s trouble='the queue has no record of it'", link.token, name
        )
        link.stop(name)
