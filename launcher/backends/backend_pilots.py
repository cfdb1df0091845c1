"""The pilots of one backend: what follows from how each of them is."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from launcher.backends.engine_requests import EngineRequests
from launcher.backends.local import pids_of
from launcher.backends.pilot import Linker, Pilot, Roster
from launcher.backends.pilot_records import PilotRecord, PilotRecords, is_there
from launcher.backends.pilot_rules import NO_DEMAND, START_S, TRIES, Demand, Life, Pace, surplus
from launcher.backends.protocol import Backend
from launcher.backends.settings import BackendSettings
from launcher.system.paths import Home
from launcher.system.processes import boot_id
from launcher.units import format_seconds

logger = logging.getLogger(__name__)

LEAVE_S = 120.0  # what runs on a pilot that is to leave now may save for so long
CHANGED_S = 2.0  # while work waits, so soon a change of config.toml is seen
PROCESSES_S = 5.0  # between two looks for the processes of pilots whose engine does not answer
SOON_S = 1.0  # with pilots, something may be due so soon


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
        """Begin without pilots.

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
        self.configured = True
        self.demand = NO_DEMAND
        self.pilots = Roster(records, link)
        self._requests = EngineRequests(
            settings, home, self.pilots, make=make, root=root, wake=wake, clock=clock, wall=wall
        )
        self._clock, self._wall = clock, wall
        self._surplus_since = math.inf
        self._processes_at = -math.inf

    # --- what others ask

    @property
    def settings(self) -> BackendSettings:
        """Its table of config.toml; where it has none any more, the last one."""
        return self._requests.settings

    @property
    def pace(self) -> Pace:
        """How fast its pilots may follow each other."""
        return self._requests.pace

    @property
    def trouble(self) -> str:
        """Why its engine does not answer."""
        return self._requests.trouble

    @property
    def trouble_since(self) -> float:
        """Since when that is so, in seconds since 1970."""
        return self._requests.trouble_since

    @property
    def answered(self) -> bool:
        """Whether its engine has ever come back."""
        return self._requests.calls.answered

    def needs_scheduler(self, now: float) -> bool:
        """Tell whether a scheduler should stay for one of its pilots."""
        mute = bool(self.trouble or self.pilots.trouble)
        return any(pilot.needs_scheduler(now, mute=mute) for pilot in self.pilots)

    @property
    def busy(self) -> bool:
        """Whether its engine has something to answer."""
        return self._requests.calls.busy

    @property
    def ready(self) -> bool:
        """Whether its engine has answered."""
        return self._requests.calls.ready

    @property
    def late_s(self) -> float:
        """How long its engine has not come back."""
        return self._requests.calls.late_s

    def adopt(self, record: PilotRecord) -> None:
        """Take over a pilot of an earlier scheduler."""
        self.pilots.adopt(record)
        ago_s = max(0.0, self._wall() - record.since)  # a clock that was set back makes it new
        self.pace.submitted(1, self._clock() - ago_s)

    def configure(self, settings: BackendSettings) -> None:
        """Go on with another table of config.toml for the same engine."""
        self.configured = True
        if settings != self.settings:
            self._requests.configure(settings)

    def close(self) -> None:
        """Let the engine's thread end."""
        self._requests.calls.renew()

    def due_s(self, now: float) -> float:
        """Return after how long it should be looked at again, if nothing happens before."""
        if self.pilots or self.busy:
            return SOON_S
        if not self.demand.jobs:
            return math.inf
        counts = self.pace.counts(held=0, unspoken=0, now=now)
        wait_s = self.pace.wait_s(counts, self.settings.per_minute, now)
        return min(CHANGED_S, max(SOON_S / 10, wait_s))

    def given_up(self) -> Mapping[str, str]:
        """Return the pilots all of whose attempts are to end, and why."""
        return {
            pilot.token: pilot.record.given_up
            for pilot in self.pilots
            if pilot.record.given_up and not pilot.record.buried
        }

    def buried(self, token: str) -> None:
        """Note that the attempts of a pilot have been ended in the queue; of a full disk: tell it again later."""
        pilot = self.pilots[token]
        if self.pilots.write(pilot, replace(pilot.record, buried=True)):
            pilot.attempts = 0

    def leave(self, *, now: bool, why: str, for_good: bool = True) -> None:
        """Have all pilots end: at once, or when nothing runs there; may be called again and again.

        Args:
            now: at once, with what runs there.
            why: they end.
            for_good: those are told at once, too, on which something runs; else they may be needed again by then.
        """
        at = self._clock()
        for pilot in self.pilots:
            if pilot.spoke and (now or for_good or not pilot.attempts):
                pilot.send_leave(now=now, at=at)
            lost = pilot.life is Life.SILENT and (now or not pilot.attempts)
            if not pilot.spoke or lost or at > pilot.left_at + LEAVE_S:
                self.pilots.doom(pilot, why)

    # --- a turn

    def look(self, now: float, demand: Demand, busy: Mapping[str, int]) -> None:
        """Take in what came, and ask the engine for what is due.

        Args:
            now: by the clock.
            demand: the work that waits for pilots.
            busy: token → attempts that are there.
        """
        self.demand = demand if self.configured else NO_DEMAND
        self._requests.calls.take_in()
        self._look_for_processes(now)
        for pilot in self.pilots:
            pilot.judge(busy.get(pilot.token, 0), now)
            if pilot.attempts and not pilot.durable:
                self.pilots.write(pilot, pilot.record)
            self._consider(pilot, now)
        if self.pace.failures >= TRIES:
            self._end_untried()
        if not self.configured:
            self.leave(now=False, why="config.toml does not name its backend any more")
        if self.pilots:
            self._end_surplus(now)
        if self.pilots or self.demand.jobs:
            self._requests.ask(now, self.demand)

    def _look_for_processes(self, now: float) -> None:
        """See which pilots are over whose engine does not answer: a cluster may be gone for good."""
        if not self.trouble or now < self._processes_at:
            return
        self._processes_at = now + PROCESSES_S
        for pilot in self.pilots:
            if pilot.life in {Life.SILENT, Life.LEAVING}:
                pilot.gone = _is_gone(pilot)

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
            self.pilots.doom(pilot, why)
        if pilot.life is Life.LEAVING and pilot.silent_s > LEAVE_S:
            self.pilots.doom(pilot, "it took its leave minutes ago, and is still there")
        if pilot.life is Life.SILENT and pilot.silent_s > START_S and not pilot.attempts:
            self.pilots.doom(pilot, "it was silent for minutes, and nothing runs there")
        if pilot.life is Life.EXPIRED and not pilot.attempts:
            self.pilots.doom(pilot, self._end_of(pilot))
        if pilot.over and pilot.taken and not pilot.spoke and not pilot.is_doomed:
            self._blame(pilot, self._end_of(pilot), now)
        lost = pilot.is_lost and not pilot.record.given_up
        if lost and (pilot.link.is_emptied or _is_seen(pilot)):
            self._give_up(pilot)

    def _dismiss(self, pilot: Pilot, now: float) -> None:
        """Have a pilot end that can do nothing, or is of another version; what runs there runs on."""
        why = "; ".join(pilot.troubles)
        pilot.send_leave(now=False, at=now)
        if not pilot.attempts and not pilot.adopted:  # it may have taken its leave already
            self._blame(pilot, why, now)
        if not pilot.attempts:
            self.pilots.doom(pilot, why)

    def _give_up(self, pilot: Pilot) -> None:
        """Give up what runs on a pilot, after its engine was asked to end it; what lives there all the same ends.

        That stands in its record before anybody acts on it: it holds for the next scheduler, too.
        """
        why = pilot.record.cancelled or self._end_of(pilot)  # before it was cancelled for that
        ended = pilot.cancelled or pilot.is_empty or pilot.gone
        if not self.pilots.doom(pilot, why) or not ended:
            return
        try:
            pilot.link.folder.bury()
        except FileNotFoundError:  # who deletes its folder says that it is over
            pass
        except OSError as error:  # of a full disk: what lives there cannot learn it yet
            logger.warning("pilot=%s trouble=%r", pilot.token, str(error))
            return
        self.pilots.write(pilot, replace(pilot.record, given_up=why))

    def _end_of(self, pilot: Pilot) -> str:
        name = self.settings.name
        observation = pilot.observation
        if pilot.life is Life.MISSING:
            return f"{name} knows {pilot.label} no more"
        if pilot.life is Life.EXPIRED or observation is None:
            silent = format_seconds(min(pilot.silent_s, 1e9))
            return f"{pilot.label} was silent for {silent}: its lease is over"
        return pilot.end or f"{pilot.label} has ended"

    def _blame(self, pilot: Pilot, why: str, now: float) -> None:
        if not pilot.blamed:
            pilot.blamed = True
            self.pace.failed(why, now)
            logger.warning("backend=%s pilot=%s failed=%r", self.settings.name, pilot.token, why)

    def _end_untried(self) -> None:
        """End pilots for one job each that wait, after several like them could not work; one alone is a trial."""
        waiting = [
            pilot for pilot in self.pilots if pilot.record.spec.single and _is_waiting(pilot)
        ]
        for pilot in waiting if len(waiting) > 1 else ():
            self.pilots.doom(pilot, f"the last {self.pace.failures} pilots could not work")

    def _end_surplus(self, now: float) -> None:
        """End pilots in the engine's queue that nobody has needed for a while."""
        waiting = [pilot for pilot in self.pilots if _is_waiting(pilot)]
        starting = sum(pilot.expected for pilot in self.pilots) - len(waiting)
        number = surplus(self.demand, waiting=len(waiting), starting=starting)
        if not number:
            self._surplus_since = math.inf
            return
        self._surplus_since = min(self._surplus_since, now)
        if now - self._surplus_since >= self.settings.idle_s:
            for pilot in waiting[-number:]:
                self.pilots.doom(pilot, "no work waits for it")


def _is_seen(pilot: Pilot) -> bool:
    """Tell whether what is on record of a pilot's attempts can be read, or is gone: its file system may not be mounted."""
    try:
        return pilot.link.folder.news.exists() or is_there(pilot.record.folder.parent)
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
