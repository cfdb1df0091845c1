"""What the engine of a backend is asked for its pilots, the most urgent first.

Each call runs in a thread beside the scheduler: a command that hangs stops no turn.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from launcher.backends.pilot import Pilot, Roster
from launcher.backends.pilot_folder import PilotFolder
from launcher.backends.pilot_records import (
    NotSubmitted,
    PilotRecord,
    Submission,
    clear_folder,
    clear_leftovers,
    new_token,
    new_tokens,
    pilot_spec,
)
from launcher.backends.pilot_rules import FORGET_S, Demand, Life, Pace, poll_s, to_submit, wanted
from launcher.backends.protocol import Backend, EngineError, Observation, Refused
from launcher.backends.settings import BackendSettings
from launcher.system.files import last_lines
from launcher.system.paths import Home

Answer = TypeVar("Answer")

LATE_S = 15.0  # an engine that takes longer is reported
HUNG_S = 120.0  # a call that takes longer is no longer waited for; commands have shorter limits
MOST_HUNG = 4  # threads that are left to themselves


class _Call:
    """A call under way; `finish` is there when it has come back."""

    def __init__(
        self,
        run: Callable[[Backend], Callable[[], None]],
        failed: Callable[[EngineError], None],
        since: float,
    ) -> None:
        self.run, self.failed, self.since = run, failed, since
        self.finish: Callable[[], None] | None = None


class _Worker:
    """A thread, and the engine that only it talks to."""

    def __init__(self, make: Callable[[], Backend], wake: Callable[[], None]) -> None:
        self._make, self._wake = make, wake
        self.inbox: SimpleQueue[_Call | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        backend: Backend | None = None
        while (call := self.inbox.get()) is not None:
            try:
                if backend is None:
                    backend = self._make()
                call.finish = call.run(backend)
            except EngineError as error:
                call.finish = partial(call.failed, error)
            except Exception as error:  # whatever it is, it ends no queue: it is reported
                logger.warning("engine trouble=%r", str(error), exc_info=error)
                call.finish = partial(call.failed, EngineError(f"{type(error).__name__}: {error}"))
            self._wake()


class EngineCalls:
    """Calls to one engine, one at a time."""

    def __init__(
        self, make: Callable[[], Backend], wake: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """Begin without a thread.

        Args:
            make: returns the engine; called in the thread that talks to it.
            wake: called in that thread when a call has come back.
            clock: tells the time in seconds; nobody sets it.
        """
        self._make, self._wake, self._clock = make, wake, clock
        self._worker: _Worker | None = None
        self._call: _Call | None = None
        self._thread: threading.Thread | None = None  # of the call under way
        self._hung: list[threading.Thread] = []
        self.answered = False  # it has come back from a call, with whatever it said

    @property
    def busy(self) -> bool:
        """Whether a call is under way, or its answer has not been taken in."""
        return self._call is not None

    @property
    def ready(self) -> bool:
        """Whether `take_in` has something to do."""
        call = self._call
        return call is not None and (call.finish is not None or self.late_s > HUNG_S)

    @property
    def late_s(self) -> float:
        """How long the call under way has taken."""
        return 0.0 if self._call is None else self._clock() - self._call.since

    def begin(
        self,
        ask: Callable[[Backend], Answer],
        done: Callable[[Answer], None],
        failed: Callable[[EngineError], None],
    ) -> None:
        """Begin a call while none is under way.

        Args:
            ask: the call; made in the engine's thread.
            done: takes in the answer, in the thread that calls `take_in`.
            failed: likewise, where the engine did not do it.
        """
        assert self._call is None, "an engine is asked one thing at a time"
        if self._worker is None:
            self._worker = _Worker(self._make, self._wake)
        self._thread = self._worker.thread
        self._call = _Call(lambda backend: partial(done, ask(backend)), failed, self._clock())
        self._worker.inbox.put(self._call)

    def take_in(self) -> bool:
        """Take in the answer that has come; False where there is none."""
        call = self._call
        if call is None:
            return False
        if call.finish is not None:
            self._call, self.answered = None, True
            call.finish()
            return True
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if self.late_s <= HUNG_S or len(self._hung) >= MOST_HUNG or self._thread is None:
            return False
        # whatever it still does, its answer is not taken in: what it did is seen by asking anew
        self._hung.append(self._thread)
        self.renew()
        self._call = None
        call.failed(EngineError(f"no answer for {HUNG_S:.0f} s"))
        return True

    def renew(self) -> None:
        """Let the thread end after its call; the next call makes another one, and the engine anew."""
        if self._worker is not None:
            self._worker.inbox.put(None)
            self._worker = None


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
