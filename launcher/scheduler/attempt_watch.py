"""All attempts that run, here and on pilots: how each is watched, which have ended, and which were asked to stop.

What pilots say: attempts are taken over, their ends taken in, those of lost pilots ended.
"""

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import NamedTuple

from launcher.backends.fleet import Fleet
from launcher.backends.pilot_folder import PilotFolder, name_of
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_messages import Began, Ended, Leave, News
from launcher.context import read_context
from launcher.scheduler.policy.model import Start
from launcher.scheduler.turn import TurnResult
from launcher.states import Lost, Outcome, Stopped, Void
from launcher.store.rows import Claim, ReadyJob
from launcher.system.answering import NoAnswer, within
from launcher.system.paths import Attempt, Home
from launcher.system.stored_fields import Unreadable, parsed
from launcher.workers.attempt_watch import (
    ELSEWHERE,
    LOOK_AGAIN_S,
    NO_DESCRIPTOR,
    UNCLEAR,
    Adopted,
    Supervised,
    Watch,
)
from launcher.workers.exit_outcome import done_of, word_of
from launcher.workers.lease import ended_after_s
from launcher.workers.start_attempt import link_log
from launcher.workers.started_file import recorded_outcome, void_attempt


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


class Stops(NamedTuple):
    """The jobs whose attempts are to end."""

    jobs: Collection[int]
    killed: Collection[int] = ()  # those of them that get no grace period
    all_jobs: bool = False  # every attempt is to end


REMIND_S = 1.0  # while a program without a supervisor is asked to stop


class RunningAttempts:
    """The watch on each running job's attempt, by job; a job has at most one."""

    def __init__(self) -> None:
        """Begin without attempts."""
        self._watches: dict[int, tuple[Claim, Watch]] = {}
        self._insist_at: dict[int, float] = {}  # job that was asked to stop → monotonic
        self._paused: set[int] = set()  # jobs whose programs stand still
        self._killed: set[int] = set()  # jobs whose programs were ordered to be killed

    def __bool__(self) -> bool:
        return bool(self._watches)

    def add(self, claim: Claim, watch: Watch) -> None:
        """Watch an attempt."""
        self._watches[claim.job] = claim, watch
        if isinstance(watch, Adopted) and watch.attempt.paused.exists():
            self._paused.add(claim.job)

    def remove(self, job: int) -> None:
        """Forget an attempt whose end is known from elsewhere."""
        del self._watches[job]
        self._insist_at.pop(job, None)
        self._paused.discard(job)
        self._killed.discard(job)

    def claims(self) -> list[Claim]:
        """Return the claims of all attempts."""
        return [claim for claim, _ in self._watches.values()]

    def newest_place(self) -> Place | None:
        """Return the place of the attempt that was started last, None where none has one."""
        _, watch = next(reversed(self._watches.values()), (None, None))
        return watch.place if isinstance(watch, Launched) else None

    def read_ahead(self, place: Place, attempt: Attempt) -> None:
        """Let the supervisor read an order that will get it if the eldest job of its lane ends first."""
        for _, watch in self._watches.values():
            if isinstance(watch, Launched) and watch.place.job.lane_id == place.job.lane_id:
                watch.supervisor.read_ahead(attempt)
                return

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when an attempt has news."""
        for _, watch in self._watches.values():
            if watch.descriptor >= 0:
                yield watch.descriptor

    def unsupervised(self) -> dict[int, int]:
        """Return pid → job of programs whose supervisors are dead."""
        return {
            watch.program: job
            for job, (_, watch) in self._watches.items()
            if isinstance(watch, Adopted) and watch.program
        }

    def take_news(
        self, readable: Collection[int] | None
    ) -> Iterator[tuple[Claim, Watch, Outcome | Watch]]:
        """Remove the attempts that have news; return each with its outcome or with what lives of it.

        Args:
            readable: the descriptors that are readable; None: not known.
        """
        for job, (claim, watch) in list(self._watches.items()):
            silent = readable is not None and watch.descriptor not in readable
            if silent and watch.descriptor >= 0:
                continue
            news = watch.ending()
            if news is None:
                continue
            self.remove(job)
            yield claim, watch, news

    def stop(self, stops: Stops, result: TurnResult) -> list[Claim]:
        """Ask attempts to stop, and kill after their grace period those that no supervisor kills.

        Args:
            stops: whose attempts are to stop.
            result: learns when to look again.

        Returns the claims of those that were asked now.
        """
        asked = []
        for job, (claim, watch) in self._watches.items():
            if job in stops.killed and job not in self._killed:
                if watch.kill():
                    self._killed.add(job)
                else:
                    result.soon(REMIND_S)
                if job not in self._insist_at:
                    asked.append(claim)
                    watch.stop()
                self._insist_at[job] = time.monotonic()
            elif job in self._insist_at:
                if time.monotonic() >= self._insist_at[job]:
                    watch.insist()
            elif stops.all_jobs or job in stops.jobs:
                self._insist_at[job] = time.monotonic() + claim.spec.terms.grace_s
                asked.append(claim)
                watch.stop()
        if any(isinstance(self._watches[job][1], Adopted) for job in self._insist_at):
            result.soon(REMIND_S)
        if any(watch.descriptor == NO_DESCRIPTOR for _, watch in self._watches.values()):
            result.soon(LOOK_AGAIN_S)
        return asked

    def pause(self, jobs: Collection[int], result: TurnResult) -> None:
        """Have the programs of some jobs stand still, and those of all others go on.

        Args:
            jobs: whose programs are paused.
            result: learns when to ask again those that could not be told.
        """
        wanted = self._watches.keys() & jobs - self._insist_at.keys()
        for job in wanted ^ self._paused:
            if job in self._insist_at:  # it goes on to its end
                continue
            if not self._watches[job][1].pause(paused=job in wanted):
                result.soon(REMIND_S)
            elif job in wanted:
                self._paused.add(job)
            else:
                self._paused.discard(job)


PATIENCE_S = 60.0  # a file system may show so late what a node has written
WORD_S = 10.0  # so long an engine that ends a pilot is given to say why
# no job of a pilot can have brought that about
_FROM_OUTSIDE = re.compile(r"(was preempted|reached its time limit|was cancelled)$")
UNTOLD = "its pilot reported its end without a result, and {} contains no record"


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
            return _awaited(partial(self._explained, outcome, now + WORD_S))
        if outcome is not None:
            return as_here(outcome, self.claim, self.clock())
        return _awaited(partial(self._recorded, now + PATIENCE_S))

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


def _awaited(look: Callable[[], Outcome | None]) -> Outcome | Watch:
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


BUSY_POLL_S = 0.01  # between two looks at what pilots say, while they say something
IDLE_POLL_S = 0.5
ORPHANS_S = 0.5  # between two looks at the folders of attempts whose pilots were given up
PATIENCE = 0.02  # of the time since the last news is waited for the next ones
GONE = "the queue folder has no record of its pilot"
UNREADABLE = "cannot read the record {}/pilots/{}.json. If its pilot has ended, delete it"

logger = logging.getLogger(__name__)


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
            return _awaited(partial(self._orphans_end, claim, GONE))
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
