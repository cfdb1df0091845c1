"""The pilots of one backend: asked about, submitted, ended, given up."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher.backends.protocol import Backend, EngineError, Observation
from launcher.backends.settings import BackendSettings
from launcher.pilots.folder import PilotFolder, PilotSpec
from launcher.scheduler.remote.backend_folder import clear_folder
from launcher.scheduler.remote.engine_calls import EngineCalls
from launcher.scheduler.remote.pilot import Link, Pilot
from launcher.scheduler.remote.pilot_records import PilotRecord, PilotRecords, new_token
from launcher.scheduler.remote.pilot_rules import (
    FORGET_S,
    NO_DEMAND,
    START_S,
    Demand,
    Life,
    poll_s,
    surplus,
    to_submit,
    wanted,
)
from launcher.scheduler.remote.submission import NotSubmitted, Submission, pilot_spec
from launcher.scheduler.remote.submission_pace import Pace
from launcher.system.files import last_lines
from launcher.system.paths import Home
from launcher.units import format_seconds

logger = logging.getLogger(__name__)

LEAVE_S = 120.0  # what runs on a pilot that is to leave now may save for so long
LOG_LINES = 5
SOON_S = 1.0  # with pilots, something may be due so soon

Linker = Callable[[PilotFolder, PilotSpec], Link]


class BackendPilots:
    """All pilots that one engine was sent, and may know."""

    def __init__(
        self,
        settings: BackendSettings,
        home: Home,
        records: PilotRecords,
        *,
        make: Callable[[BackendSettings], Backend],
        link: Linker,
        root: Callable[[BackendSettings], Path],
        wake: Callable[[], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Begin without pilots; the engine is not made before it is needed.

        Args:
            settings: the backend's table of config.toml.
            home: the queue's.
            records: of its pilots.
            make: returns the engine of a table.
            link: returns the link of a pilot.
            root: returns where the folders of pilots lie.
            wake: called in the engine's thread when it has answered.
            clock: tells seconds; nobody sets it.
            wall: seconds since 1970.
        """
        self.settings, self.configured = settings, True
        self._home, self._records, self._link, self._root = home, records, link, root
        self._make, self._wake, self._clock, self._wall = make, wake, clock, wall
        self.pilots: dict[str, Pilot] = {}
        self.pace = Pace()
        self.trouble = ""  # why its engine does not answer, or the home cannot be written
        self.demand = NO_DEMAND
        self._errors = 0  # questions in a row that the engine did not answer
        self._observe_at = self._retry_at = -math.inf
        self._surplus_since = math.inf
        self._calls = self._new_calls()

    # --- what others ask

    def adopt(self, record: PilotRecord) -> None:
        """Take over a pilot of an earlier scheduler."""
        pilot = Pilot(record, self._link(record.pilot_folder, record.spec), adopted=True)
        self.pilots[record.token] = pilot
        ago_s = max(0.0, self._wall() - record.since)  # a clock that was set back makes it new
        self.pace.submitted(1, self._clock() - ago_s)

    def configure(self, settings: BackendSettings) -> None:
        """Go on with another table of config.toml for the same engine."""
        self.configured = True
        if settings == self.settings:
            return
        self.settings = settings
        self.pace.forget()
        self.trouble, self._errors = "", 0
        self._observe_at = self._retry_at = -math.inf
        self._calls.renew()

    @property
    def held(self) -> int:
        """How many count against the most that there may be."""
        return sum(pilot.held for pilot in self.pilots.values())

    @property
    def alive(self) -> bool:
        """Whether a scheduler is needed for one of them."""
        return any(
            pilot.attempts
            or not pilot.made
            or not (
                pilot.life in {Life.ENDED, Life.MISSING, Life.STRANDED, Life.LEAVING}
                or pilot.cancelled
            )
            for pilot in self.pilots.values()
        )

    def close(self) -> None:
        """Let the engine's thread end."""
        self._calls.renew()

    @property
    def ready(self) -> bool:
        """Whether the engine has answered."""
        return self._calls.ready

    @property
    def late_s(self) -> float:
        """How long the engine has not come back."""
        return self._calls.late_s

    def due_s(self, now: float) -> float:
        """Return after how long it should be looked at again, if nothing happens before."""
        if self.pilots or self._calls.busy:
            return SOON_S
        if not self.configured or not self.demand.jobs:
            return math.inf
        counts = self.pace.counts(held=0, unspoken=0, now=now)
        return max(SOON_S / 10, self.pace.wait_s(counts, self.settings.per_minute, now))

    def given_up(self) -> Mapping[str, str]:
        """Return the pilots whose attempts are to be ended in the queue, and why."""
        return {
            token: pilot.record.given_up
            for token, pilot in self.pilots.items()
            if pilot.record.given_up and not pilot.record.buried
        }

    def buried(self, token: str) -> None:
        """Note that the attempts of a pilot have been ended in the queue.

        Raises:
            OSError: the home cannot be written; they are ended once more by the next scheduler.
        """
        pilot = self.pilots[token]
        pilot.record, pilot.attempts = replace(pilot.record, buried=True), 0
        self._records.write(pilot.record)

    def leave(self, *, now: bool, why: str) -> None:
        """Have all pilots end: at once, or when nothing runs there; may be called again and again."""
        at = self._clock()
        for pilot in self.pilots.values():
            if pilot.spoke:
                pilot.send_leave(now=now, at=at)
            lost = pilot.life is Life.SILENT and (now or not pilot.attempts)
            if not pilot.spoke or lost or at > pilot.left_at + LEAVE_S:
                self._doom(pilot, why)

    # --- a turn

    def look(self, now: float, demand: Demand, busy: Mapping[str, int]) -> None:
        """Take in what came, and ask the engine for what is due.

        Args:
            now: by the clock.
            demand: the work that waits for pilots.
            busy: token → attempts that are there.
        """
        self.demand = demand
        self._calls.take_in()
        for token, pilot in self.pilots.items():
            pilot.judge(busy.get(token, 0), now)
            self._consider(pilot, now)
        if not self.configured:
            self.leave(now=False, why="config.toml does not name its backend any more")
        self._end_surplus(now)
        if not self._calls.busy:
            self._ask(now)

    def _consider(self, pilot: Pilot, now: float) -> None:
        """Do what follows from how a pilot is."""
        if pilot.spoke and not pilot.troubles and not pilot.greeted:
            pilot.greeted = True
            self.pace.spoke()
        if pilot.troubles and not pilot.is_doomed:
            self._dismiss(pilot, now)
        if pilot.life is Life.STARTING and pilot.started_s(now) > START_S:
            why = f"it ran for {format_seconds(START_S)} on {pilot.node or 'a node'} without a word"
            self._blame(pilot, why, now)
            self._doom(pilot, why)
        silent_s = format_seconds(min(pilot.silent_s, 1e9))
        if pilot.life is Life.LEAVING and pilot.silent_s > LEAVE_S:
            self._doom(pilot, f"it took its leave {silent_s} ago, and is still there")
        if pilot.life is Life.SILENT and pilot.silent_s > START_S and not pilot.attempts:
            self._doom(pilot, f"it was silent for {silent_s}, and nothing runs there")
        if pilot.over and not pilot.spoke and not pilot.is_doomed:
            self._blame(pilot, self._end_of(pilot), now)
        if pilot.over and pilot.attempts and not pilot.record.given_up:
            self._give_up(pilot)

    def _dismiss(self, pilot: Pilot, now: float) -> None:
        """Have a pilot end that can do nothing, or is of another version; what runs there runs on."""
        why = "; ".join(pilot.troubles)
        pilot.send_leave(now=False, at=now)
        if pilot.life is Life.RUNNING and not pilot.attempts and not pilot.adopted:
            self._blame(pilot, why, now)
        if not pilot.attempts:
            self._doom(pilot, why)

    def _give_up(self, pilot: Pilot) -> None:
        """Give up what runs on a pilot, after its engine was asked to end it or its lease is over.

        That stands in its record before anybody acts on it: it holds for the next scheduler, too.
        """
        why = self._end_of(pilot)
        if self._doom(pilot, why) and (pilot.cancelled or pilot.lease_over):
            self._write(pilot, replace(pilot.record, given_up=why))

    def _end_of(self, pilot: Pilot) -> str:
        where = f" on {pilot.node}" if pilot.node else ""
        name = self.settings.name
        observation = pilot.observation
        if pilot.life is Life.MISSING:
            return f"{name} knows pilot {pilot.token}{where} no more"
        if pilot.life is Life.EXPIRED or observation is None:
            silent = format_seconds(min(pilot.silent_s, 1e9))
            return f"pilot {pilot.token}{where} was silent for {silent}: its lease is over"
        reason = f" ({observation.reason})" if observation.reason else ""
        return f"pilot {pilot.token}{where} ended: {observation.cause or 'unknown'}{reason}"

    def _blame(self, pilot: Pilot, why: str, now: float) -> None:
        if not pilot.blamed:
            pilot.blamed = True
            self.pace.failed(why, now)
            logger.warning("backend=%s pilot=%s failed=%r", self.settings.name, pilot.token, why)

    def _doom(self, pilot: Pilot, why: str) -> bool:
        """See that a pilot ends; False where that cannot be put down now."""
        return pilot.is_doomed or self._write(pilot, replace(pilot.record, cancelled=why))

    def _write(self, pilot: Pilot, record: PilotRecord) -> bool:
        try:
            self._records.write(record)
        except OSError as error:
            self.trouble = f"the record of pilot {pilot.token} cannot be written: {error}"
            return False
        pilot.record = record
        return True

    def _end_surplus(self, now: float) -> None:
        """End pilots in the engine's queue that nobody has needed for a while."""
        waiting = [pilot for pilot in self.pilots.values() if _is_waiting(pilot)]
        starting = sum(pilot.expected for pilot in self.pilots.values()) - len(waiting)
        number = surplus(self.demand, waiting=len(waiting), starting=starting)
        if not number:
            self._surplus_since = math.inf
            return
        self._surplus_since = min(self._surplus_since, now)
        if now - self._surplus_since >= self.settings.idle_s:
            for pilot in waiting[-number:]:
                self._doom(pilot, "no work waits for it")

    # --- what the engine is asked, the most urgent first

    def _ask(self, now: float) -> None:
        due = [pilot for pilot in self.pilots.values() if pilot.made and pilot.cancel_due(now)]
        finished = [pilot for pilot in self.pilots.values() if _is_finished(pilot)]
        unread = [pilot for pilot in self.pilots.values() if pilot.blamed and pilot.log is None]
        if due and now >= self._retry_at:
            self._cancel(due)
        elif finished or unread:
            self._put_away(finished, unread)
        elif number := self._number(now):
            self._submit(number, now)
        elif self.pilots and now >= max(self._observe_at, self._retry_at):
            self._observe(now)

    def _cancel(self, pilots: Sequence[Pilot]) -> None:
        def done(_: None) -> None:
            self._answered()
            for pilot in pilots:
                pilot.cancel_was_taken(self._clock())

        tokens = [pilot.token for pilot in pilots]
        self._calls.begin(lambda backend: backend.cancel(tokens), done, self._did_not_answer)

    def _observe(self, now: float) -> None:
        def done(observations: Mapping[str, Observation]) -> None:
            self._answered()
            for token, observation in observations.items():
                if token in self.pilots:
                    self.pilots[token].observe(observation, self._clock(), self.settings.poll_s)

        tokens = [token for token, pilot in self.pilots.items() if pilot.made]
        self._observe_at = now + self.settings.poll_s
        self._calls.begin(lambda backend: backend.observe(tokens), done, self._did_not_answer)

    def _answered(self) -> None:
        self.trouble, self._errors = "", 0

    def _did_not_answer(self, error: EngineError) -> None:
        """Know nothing new: whatever was known still holds."""
        self.trouble = str(error)
        self._errors += 1
        self._retry_at = self._clock() + poll_s(self.settings.poll_s, self._errors)
        logger.warning("backend=%s trouble=%r", self.settings.name, self.trouble)

    def _number(self, now: float) -> int:
        """Return how many pilots to submit; where missing ones keep the place, these are ended first."""
        if not (self.configured and self.settings.pilot and self.demand.jobs) or self._errors:
            return 0
        if self.pace.pause_s(now) > 0:
            return 0
        unspoken = sum(pilot.expected for pilot in self.pilots.values())
        counts = self.pace.counts(held=self.held, unspoken=unspoken, now=now)
        most, per_minute = self.settings.pilots, self.settings.per_minute
        if (short := wanted(self.demand, counts) - (most - counts.held)) > 0:
            missing = [pilot for pilot in self.pilots.values() if pilot.life is Life.MISSING]
            for pilot in [pilot for pilot in missing if not pilot.attempts][:short]:
                self._doom(pilot, f"{self.settings.name} knew it no more, and another replaces it")
        return to_submit(self.demand, counts, most=most, per_minute=per_minute)

    def _submit(self, number: int, now: float) -> None:
        root = self._root(self.settings)
        pilots: list[Pilot] = []
        for _ in range(number):
            spec = pilot_spec(self.settings, new_token(), self.demand.paths)
            record = PilotRecord(
                folder=root / spec.token, spec=spec, settings=self.settings, since=self._wall()
            )
            pilot = Pilot(record, self._link(record.pilot_folder, spec))
            pilot.made = False
            if not self._write(pilot, record):
                self.pace.refused(self.trouble, now)
                break
            pilots.append(pilot)
        if not pilots:
            return
        self.pilots.update({pilot.token: pilot for pilot in pilots})
        self.pace.submitted(len(pilots), now)
        pairs = [(pilot.record.pilot_folder, pilot.record.spec) for pilot in pilots]
        submission = Submission(pairs, root, self._home)
        self._calls.begin(
            submission, partial(self._taken, pilots), partial(self._refused, pilots, submission)
        )
        logger.info("backend=%s submits=%d", self.settings.name, len(pilots))

    def _taken(self, pilots: Sequence[Pilot], _: None) -> None:
        self.pace.accepted()
        for pilot in pilots:
            pilot.made = True

    def _refused(self, pilots: Sequence[Pilot], submission: Submission, error: EngineError) -> None:
        """Keep pilots that the engine may have taken all the same: it is asked whether it did."""
        submission.withdrawn = True
        self.pace.refused(str(error), self._clock())
        logger.warning("backend=%s refused=%r", self.settings.name, str(error))
        for pilot in pilots:
            pilot.made = True
            if isinstance(error, NotSubmitted):
                self._forget(pilot)

    def _put_away(self, finished: Sequence[Pilot], unread: Sequence[Pilot]) -> None:
        """Read what pilots printed that could not work, and delete what is left of those that ended."""

        def ask(backend: Backend) -> Mapping[str, str]:
            logs = {pilot.token: _log(backend, pilot.record.pilot_folder) for pilot in unread}
            for pilot in finished:
                clear_folder(pilot.record.pilot_folder)
            return logs

        def done(logs: Mapping[str, str]) -> None:
            for pilot in unread:
                pilot.log = self.pace.log = logs[pilot.token]
            for pilot in finished:
                self._forget(pilot)

        self._calls.begin(ask, done, self._did_not_answer)

    def _forget(self, pilot: Pilot) -> None:
        try:
            self._records.delete(pilot.token)
        except OSError as error:
            self.trouble = f"the record of pilot {pilot.token} cannot be deleted: {error}"
            return
        del self.pilots[pilot.token]

    def _new_calls(self) -> EngineCalls:
        return EngineCalls(lambda: self._make(self.settings), self._wake, self._clock)


def _is_waiting(pilot: Pilot) -> bool:
    return pilot.life is Life.WAITING and pilot.expected


def _is_finished(pilot: Pilot) -> bool:
    """Tell whether nothing of a pilot is there, or will be."""
    if not pilot.made or pilot.attempts or (pilot.record.given_up and not pilot.record.buried):
        return False
    if pilot.life is Life.MISSING:
        return pilot.unknown_s >= FORGET_S
    return pilot.life in {Life.ENDED, Life.STRANDED}


def _log(backend: Backend, folder: PilotFolder) -> str:
    try:
        return backend.collect(folder)
    except (EngineError, OSError):
        return "\n".join(last_lines(folder.log, LOG_LINES))
