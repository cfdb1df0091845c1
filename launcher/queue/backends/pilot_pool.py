"""The pilots of all backends, which the scheduler queries and commands once per cycle."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from launcher.queue.backends.backend_pilots import BackendContext, BackendPilots
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_records import PilotRecord, PilotRecords, is_visible
from launcher.queue.backends.pilot_rules import LOST_STATES, NO_DEMAND, Demand, PilotState
from launcher.queue.backends.pilot_status import BackendRow, PilotRow, PilotsFile
from launcher.queue.backends.protocol import BackendFactory, load_backend
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.backends.tracked_pilot import Pilot
from launcher.queue.backends.waiting_reasons import (
    REMEDY_FOR_LOST_NODE,
    one_line,
    why_no_pilot_starts,
)
from launcher.queue.home.paths import Home
from launcher.system.answering import run_with_timeout
from launcher.system.errors import UsageError

logger = logging.getLogger(__name__)

CYCLE_S = 0.05  # seconds between two cycles, unless an engine has responded
MOST_TIME_FRACTION = (
    0.05  # fraction of the scheduler's time: with hundreds of pilots, cycles are less frequent
)
CONFIG_POLL_S = 1.0  # seconds between two reads of config.toml
LONG_S = 3600.0
NEXT_POLLED = 32  # polled pilots among those for one job each that wait in an engine's queue

# a backend's name, its kind, where it is: other settings may change
EngineKey = tuple[str, str, str]


class PilotPool:
    """All pilots."""

    def __init__(
        self,
        home: Home,
        backends: Callable[[], Backends],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        make: BackendFactory = load_backend,
        *,
        link: Callable[[PilotFolder, PilotSpec], PilotLink] = PilotLink,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Begin without pilots; `adopt_recorded_pilots` finds those of an earlier scheduler.

        Args:
            home: the queue folder, whose lock this process holds.
            backends: returns the backends of config.toml. If it raises UsageError, the previous ones stay in effect.
            wake: ends the scheduler's sleep; called in other threads.
            clock: returns monotonic seconds.
            make: returns an engine.
            link: returns the link of a pilot.
            wall: seconds since 1970.
        """
        self._backends, self._clock, self._wall_clock = backends, clock, wall
        self._records = PilotRecords(home)
        self._context = BackendContext(home, self._records, make, link, wake, clock, wall)
        self._file = PilotsFile(home)
        self._groups: dict[EngineKey, BackendPilots] = {}
        self._next_cycle_at = self._configured_at = -math.inf
        # tokens of pilots with attempts but without a record → since when
        self._unrecorded: dict[str, float] = {}
        self.links: Sequence[PilotLink] = []  # links of pilots that may get work, the oldest first
        self.all_links: Sequence[PilotLink] = []  # links of all pilots with messages to read
        self._reasons: Mapping[str, str] | None = None  # as of the last query; None: not computed
        self.config_error = ""  # error in config.toml

    def __bool__(self) -> bool:
        """Return whether a scheduler is needed for a pilot."""
        now = self._clock()
        return any(group.needs_scheduler(now) for group in self._groups.values())

    def adopt_recorded_pilots(self) -> None:
        """Find the pilots that an earlier scheduler submitted, or was about to."""
        self._configure(self._clock())
        for record in sorted(self._records.read(), key=lambda record: record.since):
            if _was_submitted(record):
                self._group(record.settings).adopt(record)
            else:  # the pilot's folder is made before the engine is called
                self._records.delete(record.token)
        self._configure(self._clock())
        self._list_links()

    def run_cycle(self, demand: Mapping[str, Demand], busy: Mapping[str, int]) -> None:
        """Apply the responses of engines, and start the engine calls that are due.

        Call it once per cycle, after the links were read.

        Args:
            demand: backend → the work that waits for its pilots.
            busy: token → number of attempts that the queue has there.
        """
        now = self._clock()
        if now < self._next_cycle_at and not any(
            group.calls.has_result for group in self._groups.values()
        ):
            return
        if not (self._groups or demand or busy):
            return
        self._next_cycle_at = now + CYCLE_S
        if now >= self._configured_at + CONFIG_POLL_S:
            self._configure(now)
        for group in self._groups.values():
            group.run_cycle(now, demand.get(group.settings.name, NO_DEMAND), busy)
        self._list_links()
        self._unrecorded = {
            token: self._unrecorded.get(token, now)
            for token, attempts in busy.items()
            if attempts and self._group_of(token) is None and not self._records.has(token)
        }
        if self._file.is_due(now):
            self._write_pilots_file(now)
        ended = self._clock()
        self._next_cycle_at = ended + max(CYCLE_S, (ended - now) / MOST_TIME_FRACTION)

    def abandoned_pilots(self) -> Mapping[str, str]:
        """Return the pilots whose attempts all have to end, with the reason. `terminating_s` shows the progress."""
        lost = {
            token: f"the queue folder has no record of pilot {token}" for token in self._unrecorded
        }
        for group in self._groups.values():
            for pilot in group.all:
                if pilot.record.given_up and not pilot.record.buried:
                    lost[pilot.token] = pilot.record.given_up
        return lost

    def terminating_s(self, token: str) -> float:
        """Return for how many seconds the processes of an abandoned pilot have been ending. Infinite if none lives."""
        group = self._group_of(token)
        if group is not None:
            return group.pilots[token].terminating_s
        return max(0.0, self._clock() - self._unrecorded.get(token, math.inf))

    def is_unreadable(self, token: str) -> bool:
        """Return whether a pilot has a record that could not be read. Nothing else is known of such a pilot."""
        return self._group_of(token) is None and self._records.has(token)

    def mark_reaped(self, token: str) -> None:
        """Record that the attempts of a pilot were ended in the queue.

        While the queue folder cannot be written, the pilot stays abandoned.
        """
        self._unrecorded.pop(token, None)
        group = self._group_of(token)
        if group is not None:
            group.mark_reaped(token)

    def reasons_by_backend(self) -> Mapping[str, str]:
        """Return backend → why no further pilot accepts the work that waits for it."""
        if self._reasons is None:
            now = self._clock()
            self._reasons = {
                group.settings.name: why_no_pilot_starts(group, now, self._wall_clock())
                for group in self._groups.values()
                if group.configured
            }
        return self._reasons

    def drain(self, *, now: bool) -> None:
        """End all pilots, at once or when they run nothing. It may be called in each cycle."""
        for group in self._groups.values():
            group.drain(now=now, why="the queue was stopped", busy_pilots_too=False)

    def close(self) -> None:
        """Show the pilots as they are left to the next scheduler."""
        self._write_pilots_file(self._clock())

    def next_cycle_s(self) -> float:
        """Return the seconds until a cycle has something to do, if nothing happens before."""
        now = self._clock()
        return min((group.next_check_s(now) for group in self._groups.values()), default=LONG_S)

    # ---

    def _configure(self, now: float) -> None:
        """Follow config.toml; a backend that it does not name any more keeps its pilots until they end."""
        self._configured_at = now
        try:
            named = self._backends().by_name
        except UsageError as error:
            if str(error) != self.config_error:
                logger.warning(
                    "config.toml trouble=%r; the previous settings stay in use", str(error)
                )
            self.config_error = str(error)
            return
        self.config_error = ""
        here = {_engine_key(settings): settings for settings in named.values()}
        for settings in here.values():
            self._group(settings).configure(settings)
        for engine in self._groups.keys() - here.keys():
            self._groups[engine].configured = False
            if not self._groups[engine].pilots:
                del self._groups[engine]

    def _group(self, settings: BackendSettings) -> BackendPilots:
        engine = _engine_key(settings)
        if engine not in self._groups:
            self._groups[engine] = BackendPilots(settings=settings, context=self._context)
        return self._groups[engine]

    def _group_of(self, token: str) -> BackendPilots | None:
        return next((group for group in self._groups.values() if token in group.pilots), None)

    def _list_links(self) -> None:
        self._reasons = None
        pilots = [pilot for group in self._groups.values() for pilot in group.all]
        self.links = [pilot.link for pilot in pilots if pilot.accepts_jobs]
        heard = [pilot for pilot in pilots if pilot.is_polled]
        waiting = [pilot for pilot in heard if pilot.is_queued_unpolled]
        # the engine starts pilots in this order
        unheard = {pilot.token for pilot in waiting[NEXT_POLLED:]}
        self.all_links = [pilot.link for pilot in heard if pilot.token not in unheard]

    def _write_pilots_file(self, now: float) -> None:
        wall = self._wall_clock()
        backends, pilots = [], []
        for group in self._groups.values():
            if not (group.pilots or group.demand.jobs or group.throttle.failures):
                continue
            settings, pace = group.settings, group.throttle
            backends.append(
                BackendRow(
                    name=settings.name,
                    kind=settings.kind,
                    reason=why_no_pilot_starts(
                        group, now, wall, with_log=False
                    ),  # the log of the pilots has lines of its own
                    pilots=settings.pilots,
                    failures=pace.failures,
                    log=pace.log or "",
                )
            )
            pilots += [_pilot_row(pilot, settings.name, wall) for pilot in group.all]
        self._file.write(backends, pilots, now, wall)


def _engine_key(settings: BackendSettings) -> EngineKey:
    """Return the key by which an engine finds its pilots."""
    where = str(settings.folder) if settings.kind == "local" else settings.address
    return settings.name, settings.kind, where


def _was_submitted(record: PilotRecord) -> bool:
    root, spec = record.folder.parent, record.pilot_folder.spec
    try:
        return run_with_timeout(root, lambda: spec.exists() or not is_visible(root))
    except OSError:  # the folder cannot be seen now, but may be there
        return True


def _pilot_row(pilot: Pilot, backend: str, wall: float) -> PilotRow:
    """Return a pilot as screens get it."""
    observation, spec, record = pilot.observation, pilot.record.spec, pilot.record
    ours = record.given_up or record.cancelled or "; ".join(pilot.troubles)
    of_engine = "" if observation is None else observation.reason or str(observation.cause or "")
    # the ends of the pilot's attempts cannot be read yet
    if pilot.attempts and pilot.state in LOST_STATES:
        ours = ours or pilot.link.error
    why = ours or of_engine
    if pilot.state is PilotState.STRANDED:
        why = f"{why}. {REMEDY_FOR_LOST_NODE}" if why else REMEDY_FOR_LOST_NODE
    silent_s = pilot.silent_s if pilot.is_registered else math.inf
    return PilotRow(
        backend=backend,
        token=pilot.token,
        stage=pilot.state,
        reason=one_line(why),
        node=pilot.node,
        job=pilot.job,
        starts_at=None if observation is None else observation.starts_at,
        since=record.since,
        cpus=spec.cpus,
        gpus=spec.gpus,
        attempts=pilot.attempts,
        heard_at=wall - silent_s if math.isfinite(silent_s) else None,
        log=pilot.log or "",
    )
