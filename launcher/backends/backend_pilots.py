"""The pilots of one backend: what follows from how each of them is, and what its engine is asked for them."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.backends.pilot import Pilot
from launcher.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.backends.pilot_link import PilotLink
from launcher.backends.pilot_processes import pids_of
from launcher.backends.pilot_records import (
    NotSubmitted,
    PilotRecord,
    PilotRecords,
    Submission,
    clear_folder,
    clear_leftovers,
    is_there,
    new_token,
    new_tokens,
    pilot_spec,
    pilots_root,
)
from launcher.backends.pilot_rules import (
    FORGET_S,
    NO_DEMAND,
    START_S,
    TRIES,
    Demand,
    Life,
    Pace,
    poll_s,
    surplus,
)
from launcher.backends.protocol import (
    Backend,
    EngineCalls,
    EngineError,
    Maker,
    Observation,
    Refused,
)
from launcher.backends.settings import BackendSettings
from launcher.system.answering import within
from launcher.system.log_files import last_lines
from launcher.system.paths import Home
from launcher.system.processes import boot_id
from launcher.units import format_seconds

logger = logging.getLogger(__name__)

LEAVE_S = 120.0  # what runs on a pilot that is to leave now may save for so long
CHANGED_S = 2.0  # while work waits, so soon a change of config.toml is seen
PROCESSES_S = 5.0  # between two looks for the processes of pilots whose engine does not answer
SOON_S = 1.0  # with pilots, something may be due so soon


LOG_LINES = 5


class Surroundings(NamedTuple):
    """What the pilots of all backends have in common."""

    home: Home  # the queue's
    records: PilotRecords  # of all pilots
    make: Maker  # returns the engine of a table
    link: Callable[[PilotFolder, PilotSpec], PilotLink]  # returns the link of a pilot
    wake: Callable[[], None]  # called in another thread when an engine has answered
    clock: Callable[[], float]  # tells seconds; nobody sets it
    wall: Callable[[], float]  # seconds since 1970


@dataclass(kw_only=True, eq=False)
class BackendPilots:
    """All pilots that one engine was sent, and may know."""

    settings: BackendSettings  # the backend's table of config.toml
    around: Surroundings
    configured: bool = True
    demand: Demand = NO_DEMAND
    pilots: dict[str, Pilot] = field(default_factory=dict)  # by token
    pace: Pace = field(default_factory=Pace)
    trouble: str = ""  # why the engine does not answer
    trouble_since: float = 0.0  # seconds since 1970
    disk: str = ""  # why the home cannot be written
    _errors: int = 0  # requests in a row that the engine did not answer
    _observe_at: float = -math.inf
    _retry_at: float = -math.inf
    _surplus_since: float = math.inf
    _processes_at: float = -math.inf

    def __post_init__(self) -> None:
        """Begin without an engine."""
        around = self.around
        self._clock = around.clock
        self.calls = EngineCalls(
            lambda: around.make(self.settings, around.home), around.wake, around.clock
        )

    # --- what others ask

    @property
    def all(self) -> tuple[Pilot, ...]:
        """Its pilots, the oldest first."""
        return tuple(self.pilots.values())

    @property
    def held(self) -> int:
        """How many count against the most that there may be."""
        return sum(pilot.held for pilot in self.all)

    @property
    def expected(self) -> int:
        """How many will take work, and have not spoken yet."""
        return sum(pilot.expected for pilot in self.all)

    @property
    def root(self) -> Path:
        """Where the folders of its pilots lie."""
        return pilots_root(self.settings, self.around.home)

    def needs_scheduler(self, now: float) -> bool:
        """Tell whether a scheduler should stay for one of its pilots."""
        mute = bool(self.trouble or self.disk)
        return any(pilot.needs_scheduler(now, mute=mute) for pilot in self.all)

    def adopt(self, record: PilotRecord) -> None:
        """Take over a pilot of an earlier scheduler."""
        self.pilots[record.token] = self._pilot(record, adopted=True)
        ago_s = max(
            0.0, self.around.wall() - record.since
        )  # a clock that was set back makes it new
        self.pace.submitted(1, self._clock() - ago_s)

    def configure(self, settings: BackendSettings) -> None:
        """Go on with another table of config.toml for the same engine: what failed before may succeed now."""
        self.configured = True
        if settings == self.settings:
            return
        self.settings = settings
        self.pace.forget()
        self.trouble, self._errors = "", 0
        self._observe_at = self._retry_at = -math.inf
        self.calls.renew()

    def due_s(self, now: float) -> float:
        """Return after how long it should be looked at again, if nothing happens before."""
        if self.pilots or self.calls.busy:
            return SOON_S
        if not self.demand.jobs:
            return math.inf
        return min(CHANGED_S, max(SOON_S / 10, self.wait_s(now)))

    def wait_s(self, now: float) -> float:
        """Return how long limits of time, failures and refusals forbid a submission."""
        return self.pace.wait_s(now, held=self.held, per_minute=self.settings.per_minute)

    def buried(self, token: str) -> None:
        """Note that the attempts of a pilot have been ended in the queue; of a full disk: tell it again later."""
        pilot = self.pilots[token]
        if self._write(pilot, pilot.record._replace(buried=True)):
            pilot.attempts = 0

    def leave(self, *, now: bool, why: str, for_good: bool = True) -> None:
        """Have all pilots end: at once, or when nothing runs there; may be called again and again.

        Args:
            now: at once, with what runs there.
            why: they end.
            for_good: those are told at once, too, on which something runs; else they may be needed again by then.
        """
        at = self._clock()
        for pilot in self.all:
            if pilot.spoke and (now or for_good or not pilot.attempts):
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
        self.demand = demand if self.configured else NO_DEMAND
        self.calls.take_in()
        self._look_for_processes(now)
        for pilot in self.all:
            pilot.judge(busy.get(pilot.token, 0), now)
            if pilot.attempts and not pilot.durable:
                self._write(pilot, pilot.record)
            self._consider(pilot, now)
        if self.pace.failures >= TRIES:
            self._end_untried()
        if not self.configured:
            self.leave(now=False, why="its backend was removed from config.toml")
        if self.pilots:
            self._end_surplus(now)
        if self.pilots or self.demand.jobs:
            self._ask(now)

    def _look_for_processes(self, now: float) -> None:
        """See which pilots are over whose engine does not answer: a cluster may be gone for good."""
        if not self.trouble or now < self._processes_at:
            return
        self._processes_at = now + PROCESSES_S
        for pilot in self.all:
            if pilot.life in {Life.SILENT, Life.LEAVING}:
                pilot.gone = _is_gone(pilot)

    def _consider(self, pilot: Pilot, now: float) -> None:
        """Do what follows from how a pilot is."""
        if pilot.spoke and not pilot.troubles and not pilot.greeted:
            pilot.greeted = True
            self.pace.spoke()
        if pilot.troubles and not pilot.is_doomed:
            self._dismiss(pilot, now)
        if pilot.life is Life.STARTING and now - pilot.running_since > START_S:
            why = f"it ran for {format_seconds(START_S)} on {pilot.node or 'a node'} and reported nothing"
            self._blame(pilot, why, now)
            self._doom(pilot, why)
        if pilot.life is Life.LEAVING and pilot.silent_s > LEAVE_S:
            self._doom(pilot, "it reported its end minutes ago but still runs")
        if pilot.life is Life.SILENT and pilot.silent_s > START_S and not pilot.attempts:
            self._doom(pilot, "it was silent for minutes and has no jobs")
        if pilot.life is Life.EXPIRED and not pilot.attempts:
            self._doom(pilot, self._end_of(pilot))
        if pilot.over and pilot.taken and not pilot.spoke and not pilot.is_doomed:
            self._blame(pilot, self._end_of(pilot), now)
        # then it will not tell of the ends of what is there
        lost = bool(pilot.attempts) and (pilot.over or pilot.life is Life.STRANDED)
        if lost and not pilot.record.given_up and (pilot.link.is_emptied or _is_seen(pilot)):
            self._give_up(pilot)

    def _dismiss(self, pilot: Pilot, now: float) -> None:
        """Have a pilot end that can do nothing, or is of another version; what runs there runs on."""
        why = "; ".join(pilot.troubles)
        pilot.send_leave(now=False, at=now)
        if not pilot.attempts and not pilot.adopted:  # it may have taken its leave already
            self._blame(pilot, why, now)
        if not pilot.attempts:
            self._doom(pilot, why)

    def _give_up(self, pilot: Pilot) -> None:
        """Give up what runs on a pilot, after its engine was asked to end it; what lives there all the same ends.

        That stands in its record before anybody acts on it: it holds for the next scheduler, too.
        """
        why = pilot.record.cancelled or self._end_of(pilot)  # before it was cancelled for that
        ended = pilot.cancelled or pilot.is_empty or pilot.gone
        if not self._doom(pilot, why) or not ended:
            return
        try:
            within(pilot.link.root, pilot.link.folder.bury)
        except FileNotFoundError:  # who deletes its folder says that it is over
            pass
        except OSError as error:  # of a full disk: what lives there cannot learn it yet
            logger.warning("pilot=%s trouble=%r", pilot.token, str(error))
            return
        self._write(pilot, pilot.record._replace(given_up=why))

    def _end_of(self, pilot: Pilot) -> str:
        name = self.settings.name
        observation = pilot.observation
        if pilot.life is Life.MISSING:
            return f"{name} no longer lists the {pilot.label}"
        if pilot.life is Life.EXPIRED or observation is None:
            silent = format_seconds(min(pilot.silent_s, 1e9))
            return f"{pilot.label} was silent for {silent}, so its lease expired"
        return pilot.end or f"{pilot.label} has ended"

    def _blame(self, pilot: Pilot, why: str, now: float) -> None:
        if not pilot.blamed:
            pilot.blamed = True
            self.pace.failed(why, now)
            logger.warning("backend=%s pilot=%s failed=%r", self.settings.name, pilot.token, why)

    def _end_untried(self) -> None:
        """End pilots for one job each that wait, after several like them could not work; one alone is a trial."""
        waiting = [pilot for pilot in self.all if pilot.record.spec.single and _is_waiting(pilot)]
        for pilot in waiting if len(waiting) > 1 else ():
            self._doom(pilot, f"the last {self.pace.failures} pilots failed")

    def _end_surplus(self, now: float) -> None:
        """End pilots in the engine's queue that nobody has needed for a while."""
        waiting = [pilot for pilot in self.all if _is_waiting(pilot)]
        starting = sum(pilot.expected for pilot in self.all) - len(waiting)
        number = surplus(self.demand, waiting=len(waiting), starting=starting)
        if not number:
            self._surplus_since = math.inf
            return
        self._surplus_since = min(self._surplus_since, now)
        if now - self._surplus_since >= self.settings.idle_s:
            for pilot in waiting[-number:]:
                self._doom(pilot, "no work waits for it")

    # --- the engine

    def _ask(self, now: float) -> None:
        """Ask the engine for what is due, the most urgent first; one request is under way at a time."""
        if self.calls.busy:
            return
        due = [pilot for pilot in self.all if pilot.made and pilot.cancel_due(now)]
        finished = [pilot for pilot in self.all if _is_finished(pilot)]
        unread = [pilot for pilot in self.all if pilot.blamed and pilot.log is None]
        if due and now >= self._retry_at:
            self._cancel(due)
        elif (finished or unread) and now >= self._retry_at:
            self._put_away(finished, unread)
        elif self.demand.jobs and (number := self._number(now)):
            self._submit(number, now)
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

        pilots = [pilot for pilot in self.all if pilot.made]
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
            self.trouble_since = self.around.wall()
        self.trouble = str(error)
        self._errors += 1
        self._retry_at = self._clock() + poll_s(self.settings.poll_s, self._errors)
        logger.warning("backend=%s trouble=%r", self.settings.name, self.trouble)

    def _number(self, now: float) -> int:
        """Return how many pilots to submit; where missing ones keep the place, these are ended first."""
        if self._errors or self.pace.pause_s(now) > 0:
            return 0
        most, held, unspoken = self.settings.pilots, self.held, self.expected
        if (short := max(0, self.demand.pilots - unspoken) - (most - held)) > 0:
            missing = [pilot for pilot in self.all if pilot.life is Life.MISSING]
            for pilot in [pilot for pilot in missing if not pilot.attempts][:short]:
                self._doom(
                    pilot, f"{self.settings.name} no longer listed it; another pilot replaces it"
                )
        return self.pace.number(
            self.demand,
            now,
            held=held,
            unspoken=unspoken,
            most=most,
            per_minute=self.settings.per_minute,
            single=not self.settings.pilot,
        )

    def _submit(self, number: int, now: float) -> None:
        root = self.root
        pilots: list[Pilot] = []
        together = not self.settings.pilot
        tokens = new_tokens(number) if together else [new_token() for _ in range(number)]
        for token in tokens:
            spec = pilot_spec(self.settings, token, self.demand.paths)
            record = PilotRecord(
                folder=root / spec.token,
                spec=spec,
                settings=self.settings,
                since=self.around.wall(),
            )
            if (pilot := self._add(record)) is not None:
                pilots.append(pilot)
        if not pilots:
            self.pace.refused(self.disk, now)
            return
        self.pace.submitted(1 if together else len(pilots), now)
        pairs = [(pilot.record.pilot_folder, pilot.record.spec) for pilot in pilots]
        submission = Submission(pairs, root, self.around.home)
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
                self._forget(pilot)

    def _put_away(self, finished: Sequence[Pilot], unread: Sequence[Pilot]) -> None:
        """Read what pilots printed that could not work, and delete what is left of those that ended."""
        root = self.root
        for pilot in finished:
            pilot.closed = True  # nobody reads what it said any more

        def ask(backend: Backend) -> Mapping[str, str]:
            logs = {pilot.token: _log(backend, pilot.record.pilot_folder) for pilot in unread}
            for pilot in finished:
                clear_folder(pilot.record.pilot_folder)
            clear_leftovers(root, self.around.home, self.around.records.has)
            return logs

        def done(logs: Mapping[str, str]) -> None:
            for pilot in unread:
                pilot.log = self.pace.log = logs[pilot.token]
            for pilot in finished:
                self._forget(pilot)

        self.calls.begin(ask, done, self._did_not_answer)

    # --- records: what is known of a pilot changes on the disk first

    def _pilot(self, record: PilotRecord, *, adopted: bool = False) -> Pilot:
        link = self.around.link(record.pilot_folder, record.spec)
        return Pilot(record=record, link=link, adopted=adopted)

    def _add(self, record: PilotRecord) -> Pilot | None:
        """Add a pilot that is to be submitted; None where that cannot be put down."""
        pilot = self._pilot(record)
        pilot.made = False
        # hundreds for one job each: a record is synced when an attempt is there; before that, such a pilot that
        # nobody knows leaves by itself
        if not self._write(pilot, record, durable=not record.spec.single):
            return None
        self.pilots[record.token] = pilot
        return pilot

    def _doom(self, pilot: Pilot, why: str) -> bool:
        """See that a pilot ends; False where that cannot be put down now."""
        return pilot.is_doomed or self._write(pilot, pilot.record._replace(cancelled=why))

    def _write(self, pilot: Pilot, record: PilotRecord, *, durable: bool = True) -> bool:
        """Put down what is known of a pilot; False where that cannot be."""
        try:
            self.around.records.write(record, durable=durable)
        except OSError as error:
            self.disk = f"cannot write the record of pilot {pilot.token}: {error}"
            return False
        pilot.record, pilot.durable, self.disk = record, durable, ""
        return True

    def _forget(self, pilot: Pilot) -> None:
        """Delete the record of a pilot of which nothing is left."""
        try:
            self.around.records.delete(pilot.token)
        except OSError as error:
            self.disk = f"cannot delete the record of pilot {pilot.token}: {error}"
            return
        self.disk = ""
        del self.pilots[pilot.token]


def _is_seen(pilot: Pilot) -> bool:
    """Tell whether what is on record of a pilot's attempts can be read, or is gone: its file system may not be mounted."""
    root, news = pilot.link.root, pilot.link.folder.news
    try:
        return within(root, lambda: news.exists() or is_there(root))
    except OSError:
        return False


def _is_gone(pilot: Pilot) -> bool:
    """Tell whether the process of a pilot is over: it said bye long ago, or it ran on this machine and is not there."""
    hello = pilot.link.hello
    if pilot.link.said_bye is not None and pilot.silent_s > LEAVE_S:
        return True
    here = hello is not None and hello.boot == boot_id()
    return here and not pids_of(pilot.link.folder, None)


def _is_waiting(pilot: Pilot) -> bool:
    return pilot.life is Life.WAITING and pilot.expected


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
