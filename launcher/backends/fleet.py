"""The pilots of all backends: what the scheduler asks, and what it tells them, once a turn."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from launcher.backends.backend_pilots import BackendPilots, Linker
from launcher.backends.link import PilotLink
from launcher.backends.pilot_records import PilotRecord, PilotRecords, backend_folder, is_there
from launcher.backends.pilot_rules import NO_DEMAND, Demand
from launcher.backends.pilots_file import PilotsFile
from launcher.backends.protocol import Maker, backend_of
from launcher.backends.settings import Backends, BackendSettings
from launcher.backends.waiting_reasons import backend_row, pilot_row, reason
from launcher.errors import UsageError
from launcher.system.home_checks import mounts
from launcher.system.paths import Home

logger = logging.getLogger(__name__)

LOOK_S = 0.05  # between two looks at all pilots, unless an engine has answered
MOST_TIME = 0.05  # of the scheduler's: hundreds of pilots are looked at less often
CONFIGURED_S = 1.0  # config.toml is asked for so often
LONG_S = 3600.0
NEXT_HEARD = 32  # of the pilots for one job each that wait in an engine's queue

Engine = tuple[str, str, str]  # a backend's name, its kind, where it is: other settings may change


class Fleet:
    """All pilots."""

    def __init__(
        self,
        home: Home,
        backends: Callable[[], Backends],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        make: Maker = backend_of,
        *,
        link: Linker = PilotLink,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Begin without pilots; `begin` finds those of an earlier scheduler.

        Args:
            home: the queue's, whose lock this process holds.
            backends: returns what config.toml says; may raise UsageError: what held before holds on then.
            wake: ends the scheduler's sleep; called in other threads.
            clock: tells seconds; nobody sets it.
            make: returns an engine.
            link: returns the link of a pilot.
            wall: seconds since 1970.
        """
        self._home, self._backends, self._wake = home, backends, wake
        self._clock, self._make, self._link, self._wall = clock, make, link, wall
        self._records = PilotRecords(home)
        self._file = PilotsFile(home)
        self._groups: dict[Engine, BackendPilots] = {}
        self._look_at = self._configured_at = -math.inf
        self._lost: dict[
            str, float
        ] = {}  # tokens that work is on, and that have no record → since when
        self._links: list[PilotLink] = []
        self._all_links: list[PilotLink] = []
        self._reasons: Mapping[str, str] | None = None  # as of the last look; None: not asked for
        self.trouble = ""  # of config.toml

    def __bool__(self) -> bool:
        """Tell whether a scheduler is needed for a pilot."""
        now = self._clock()
        return any(group.needs_scheduler(now) for group in self._groups.values())

    def begin(self) -> None:
        """Find the pilots that an earlier scheduler submitted, or was about to."""
        self._configure(self._clock())
        for record in sorted(self._records.read(), key=lambda record: record.since):
            if _was_submitted(record):
                self._group(record.settings).adopt(record)
            else:  # its folder is made before the engine is asked
                self._records.delete(record.token)
        self._configure(self._clock())
        self._list()

    def turn(self, demand: Mapping[str, Demand], busy: Mapping[str, int]) -> None:
        """Take in what engines said, and ask them for what is due.

        To be called once a turn, after the links were read.

        Args:
            demand: backend → the work that waits for its pilots.
            busy: token → attempts that the queue has there.
        """
        now = self._clock()
        if now < self._look_at and not any(group.calls.ready for group in self._groups.values()):
            return
        if not (self._groups or demand or busy):
            return
        self._look_at = now + LOOK_S
        if now >= self._configured_at + CONFIGURED_S:
            self._configure(now)
        for group in self._groups.values():
            group.look(now, demand.get(group.settings.name, NO_DEMAND), busy)
        self._list()
        known = {pilot.token for group in self._groups.values() for pilot in group.all}
        self._lost = {
            token: self._lost.get(token, now)
            for token, attempts in busy.items()
            if attempts and token not in known and not self._records.has(token)
        }
        if self._file.due(now):
            self._show(now)
        ended = self._clock()
        self._look_at = ended + max(LOOK_S, (ended - now) / MOST_TIME)

    def links(self) -> Sequence[PilotLink]:
        """Return the links of the pilots that may be sent work, the oldest first."""
        return self._links

    def all_links(self) -> Sequence[PilotLink]:
        """Return the links of all pilots, whose news are to be read."""
        return self._all_links

    def given_up(self) -> Mapping[str, str]:
        """Return the pilots all of whose attempts are to end, and why; `ending_s` tells how far that is."""
        lost = {token: f"the home has no record of pilot {token}" for token in self._lost}
        for group in self._groups.values():
            lost.update(group.given_up())
        return lost

    def ending_s(self, token: str) -> float:
        """Return how long all that lives of a pilot that was given up has been ending; infinite: nothing lives."""
        for group in self._groups.values():
            if token in group.pilots:
                return group.pilots[token].ending_s
        return max(0.0, self._clock() - self._lost.get(token, math.inf))

    def is_unreadable(self, token: str) -> bool:
        """Tell whether there is a pilot's record that could not be read, so that nothing else is known of it."""
        known = any(token in group.pilots for group in self._groups.values())
        return not known and self._records.has(token)

    def buried(self, token: str) -> None:
        """Note that the attempts of a pilot have been ended in the queue.

        While the home cannot be written, it stays among those that are given up.
        """
        self._lost.pop(token, None)
        for group in self._groups.values():
            if token in group.pilots:
                group.buried(token)

    def reasons(self) -> Mapping[str, str]:
        """Return backend → why no further pilot takes the work that waits for it."""
        if self._reasons is None:
            now = self._clock()
            self._reasons = {
                group.settings.name: self._reason(group, now)
                for group in self._groups.values()
                if group.configured
            }
        return self._reasons

    def leave(self, *, now: bool) -> None:
        """Have all pilots end: at once, or when nothing runs there; may be called in each turn."""
        for group in self._groups.values():
            group.leave(now=now, why="the queue was stopped", for_good=False)

    def close(self) -> None:
        """Show the pilots as they are left to the next scheduler, and let the engines' threads end."""
        self._show(self._clock())
        for group in self._groups.values():
            group.calls.renew()

    def due_s(self) -> float:
        """Return after how long a turn has something to do, if nothing happens before."""
        now = self._clock()
        return min((group.due_s(now) for group in self._groups.values()), default=LONG_S)

    # ---

    def _configure(self, now: float) -> None:
        """Follow config.toml; a backend that it does not name any more keeps its pilots until they end."""
        self._configured_at = now
        try:
            named = self._backends().by_name
        except UsageError as error:
            if str(error) != self.trouble:
                logger.warning("config.toml trouble=%r; what held before holds on", str(error))
            self.trouble = str(error)
            return
        self.trouble = ""
        here = {_engine_of(settings): settings for settings in named.values()}
        for settings in here.values():
            self._group(settings).configure(settings)
        for engine in self._groups.keys() - here.keys():
            self._groups[engine].configured = False
            if not self._groups[engine].pilots:
                self._groups.pop(engine).calls.renew()

    def _group(self, settings: BackendSettings) -> BackendPilots:
        engine = _engine_of(settings)
        if engine not in self._groups:
            self._groups[engine] = BackendPilots(
                settings,
                self._home,
                self._records,
                make=lambda settings: self._make(settings, self._home),
                link=self._link,
                root=partial(_root, self._home),
                wake=self._wake,
                clock=self._clock,
                wall=self._wall,
            )
        return self._groups[engine]

    def _list(self) -> None:
        self._reasons = None
        pilots = [pilot for group in self._groups.values() for pilot in group.all]
        self._links = [pilot.link for pilot in pilots if pilot.takes_work]
        heard = [pilot for pilot in pilots if pilot.heard]
        waiting = [pilot for pilot in heard if pilot.waits_unheard]
        unheard = {pilot.token for pilot in waiting[NEXT_HEARD:]}  # they start in this order
        self._all_links = [pilot.link for pilot in heard if pilot.token not in unheard]

    def _reason(self, group: BackendPilots, now: float, *, with_log: bool = True) -> str:
        folder = str(_root(self._home, group.settings)) if group.pace.log == "" else ""
        return reason(group, now, self._wall(), folder=folder, with_log=with_log)

    def _show(self, now: float) -> None:
        wall = self._wall()
        backends, pilots = [], []
        for group in self._groups.values():
            if not (group.pilots or group.demand.jobs or group.pace.failures):
                continue
            why = self._reason(group, now, with_log=False)  # that stands in lines of its own
            backends.append(backend_row(group.settings, group.pace, why))
            pilots += [pilot_row(pilot, group.settings.name, wall) for pilot in group.all]
        self._file.write(backends, pilots, now, wall)


def _engine_of(settings: BackendSettings) -> Engine:
    """Return what an engine finds its pilots by."""
    where = str(settings.folder) if settings.kind == "local" else settings.address
    return settings.name, settings.kind, where


def _root(home: Home, settings: BackendSettings) -> Path:
    user = Path(os.path.expanduser("~"))  # noqa: PTH111  # an unknown user is no error here
    return backend_folder(settings, home, user, mounts())


def _was_submitted(record: PilotRecord) -> bool:
    try:
        return record.pilot_folder.spec.exists() or not is_there(record.folder.parent)
    except OSError:  # it cannot be seen now: it may be there
        return True
