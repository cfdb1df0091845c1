"""What the engine of a backend is asked for its pilots, the most urgent first."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from launcher.backends.protocol import Backend, EngineError, Observation, Refused
from launcher.backends.settings import BackendSettings
from launcher.pilots.folder import PilotFolder
from launcher.scheduler.remote.backend_folder import clear_folder, clear_leftovers
from launcher.scheduler.remote.engine_calls import EngineCalls
from launcher.scheduler.remote.pilot import Pilot
from launcher.scheduler.remote.pilot_records import PilotRecord, new_token, new_tokens
from launcher.scheduler.remote.pilot_rules import (
    FORGET_S,
    Demand,
    Life,
    poll_s,
    to_submit,
    wanted,
)
from launcher.scheduler.remote.roster import Roster
from launcher.scheduler.remote.submission import NotSubmitted, Submission, pilot_spec
from launcher.scheduler.remote.submission_pace import Pace
from launcher.system.files import last_lines
from launcher.system.paths import Home

logger = logging.getLogger(__name__)

LOG_LINES = 5


class EngineRequests:
    """The requests to one engine, of which one is under way at a time."""

    def __init__(
        self,
        settings: BackendSettings,
        home: Home,
        roster: Roster,
        *,
        make: Callable[[BackendSettings], Backend],
        root: Callable[[BackendSettings], Path],
        wake: Callable[[], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Begin without a request; the engine is not made before it is needed.

        Args:
            settings: the backend's table of config.toml.
            home: the queue's.
            roster: the backend's pilots.
            make: returns the engine of a table.
            root: returns where the folders of pilots lie.
            wake: called in the engine's thread when it has answered.
            clock: tells seconds; nobody sets it.
            wall: seconds since 1970.
        """
        self.settings, self._home, self._roster = settings, home, roster
        self._root, self._clock, self._wall = root, clock, wall
        self.pace = Pace()
        self.trouble = ""  # why the engine does not answer
        self.trouble_since = 0.0  # seconds since 1970
        self._errors = 0  # requests in a row that it did not answer
        self._observe_at = self._retry_at = -math.inf
        self.calls = EngineCalls(lambda: make(self.settings), wake, clock)

    def configure(self, settings: BackendSettings) -> None:
        """Go on with another table of config.toml: what failed before may succeed now."""
        self.settings = settings
        self.pace.forget()
        self.trouble, self._errors = "", 0
        self._observe_at = self._retry_at = -math.inf
        self.calls.renew()

    def ask(self, now: float, demand: Demand) -> None:
        """Ask the engine for what is due.

        Args:
            now: by the clock.
            demand: the work that waits for further pilots.
        """
        if self.calls.busy:
            return
        due = [pilot for pilot in self._roster if pilot.made and pilot.cancel_due(now)]
        finished = [pilot for pilot in self._roster if _is_finished(pilot)]
        unread = [pilot for pilot in self._roster if pilot.blamed and pilot.log is None]
        if due and now >= self._retry_at:
            self._cancel(due)
        elif (finished or unread) and now >= self._retry_at:
            self._put_away(finished, unread)
        elif demand.jobs and (number := self._number(now, demand)):
            self._submit(number, now, demand)
        elif now >= max(self._observe_at, self._retry_at):
            self._observe(now)

    def _cancel(self, pilots: Sequence[Pilot]) -> None:
        def done(_: None) -> None:
            self._answered()
            for pilot in pilots:
                pilot.cancel_was_taken(self._clock())

        tokens = [pilot.token for pilot in pilots]
        self.calls.begin(lambda backend: backend.cancel(tokens), done, self._did_not_answer)

    def _observe(self, now: float) -> None:
        def done(observations: Mapping[str, Observation]) -> None:
            self._answered()
            for pilot in pilots:
                if (observation := observations.get(pilot.token)) is not None:
                    pilot.observe(observation, self._clock(), self.settings.poll_s)

        pilots = [pilot for pilot in self._roster if pilot.made]
        if not pilots:
            return
        nodes = {pilot.token: pilot.own_node for pilot in pilots}
        self._observe_at = now + self.settings.poll_s
        self.calls.begin(
            lambda backend: backend.observe([*nodes], nodes), done, self._did_not_answer
        )

    def _answered(self) -> None:
        self.trouble, self._errors = "", 0

    def _did_not_answer(self, error: EngineError) -> None:
        """Know nothing new: whatever was known still holds."""
        if not self.trouble:
            self.trouble_since = self._wall()
        self.trouble = str(error)
        self._errors += 1
        self._retry_at = self._clock() + poll_s(self.settings.poll_s, self._errors)
        logger.warning("backend=%s trouble=%r", self.settings.name, self.trouble)

    def _number(self, now: float, demand: Demand) -> int:
        """Return how many pilots to submit; where missing ones keep the place, these are ended first."""
        if self._errors or self.pace.pause_s(now) > 0:
            return 0
        roster, most = self._roster, self.settings.pilots
        counts = self.pace.counts(held=roster.held, unspoken=roster.expected, now=now)
        if (short := wanted(demand, counts) - (most - counts.held)) > 0:
            missing = [pilot for pilot in roster if pilot.life is Life.MISSING]
            for pilot in [pilot for pilot in missing if not pilot.attempts][:short]:
                roster.doom(pilot, f"{self.settings.name} knew it no more, and another replaces it")
        return to_submit(
            demand,
            counts,
            most=most,
            per_minute=self.settings.per_minute,
            single=not self.settings.pilot,
        )

    def _submit(self, number: int, now: float, demand: Demand) -> None:
        root = self._root(self.settings)
        pilots: list[Pilot] = []
        together = not self.settings.pilot
        tokens = new_tokens(number) if together else [new_token() for _ in range(number)]
        for token in tokens:
            spec = pilot_spec(self.settings, token, demand.paths)
            record = PilotRecord(
                folder=root / spec.token, spec=spec, settings=self.settings, since=self._wall()
            )
            if (pilot := self._roster.add(record)) is not None:
                pilots.append(pilot)
        if not pilots:
            self.pace.refused(self._roster.trouble, now)
            return
        self.pace.submitted(1 if together else len(pilots), now)
        pairs = [(pilot.record.pilot_folder, pilot.record.spec) for pilot in pilots]
        submission = Submission(pairs, root, self._home)
        taken, refused = partial(self._taken, pilots), partial(self._refused, pilots, submission)
        self.calls.begin(submission, taken, refused)
        logger.info("backend=%s submits=%d", self.settings.name, len(pilots))

    def _taken(self, pilots: Sequence[Pilot], _: None) -> None:
        self.pace.accepted()
        for pilot in pilots:
            pilot.made = pilot.taken = True

    def _refused(self, pilots: Sequence[Pilot], submission: Submission, error: EngineError) -> None:
        """Keep pilots that the engine may have taken all the same: it is asked whether it did."""
        submission.withdrawn = True
        self.pace.refused(str(error), self._clock())
        logger.warning("backend=%s refused=%r", self.settings.name, str(error))
        for pilot in pilots:
            pilot.made = True
            if isinstance(error, NotSubmitted | Refused):
                self._roster.forget(pilot)

    def _put_away(self, finished: Sequence[Pilot], unread: Sequence[Pilot]) -> None:
        """Read what pilots printed that could not work, and delete what is left of those that ended."""
        root = self._root(self.settings)
        for pilot in finished:
            pilot.closed = True  # nobody reads what it said any more

        def ask(backend: Backend) -> Mapping[str, str]:
            logs = {pilot.token: _log(backend, pilot.record.pilot_folder) for pilot in unread}
            for pilot in finished:
                clear_folder(pilot.record.pilot_folder)
            clear_leftovers(root, self._home, self._roster.is_recorded)
            return logs

        def done(logs: Mapping[str, str]) -> None:
            for pilot in unread:
                pilot.log = self.pace.log = logs[pilot.token]
            for pilot in finished:
                self._roster.forget(pilot)

        self.calls.begin(ask, done, self._did_not_answer)


def _is_finished(pilot: Pilot) -> bool:
    """Tell whether nothing of a pilot is there, or will be."""
    if pilot.closed:
        return True
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
