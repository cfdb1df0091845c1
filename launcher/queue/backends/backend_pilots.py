"""The pilots of one backend: the reactions to their states, and the calls to its engine."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.pilot_processes import find_pids
from launcher.queue.backends.pilot_records import (
    NotSubmitted,
    PilotRecord,
    PilotRecords,
    Submission,
    delete_pilot_folder,
    delete_unrecorded_folders,
    is_visible,
    make_pilot_spec,
    new_token,
    new_tokens,
    pilots_root,
)
from launcher.queue.backends.pilot_rules import (
    DELETE_UNKNOWN_AFTER_S,
    FAILURES_BEFORE_BACKOFF,
    NO_DEMAND,
    START_TIMEOUT_S,
    Demand,
    PilotState,
    SubmitThrottle,
    count_excess_pilots,
    poll_interval_s,
)
from launcher.queue.backends.protocol import (
    Backend,
    BackendFactory,
    EngineCalls,
    EngineError,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.backends.tracked_pilot import Pilot
from launcher.queue.home.paths import Home
from launcher.system.answering import run_with_timeout
from launcher.system.log_files import last_lines
from launcher.system.processes import boot_id
from launcher.system.units import format_seconds

logger = logging.getLogger(__name__)

DRAIN_GRACE_S = 120.0  # time for jobs to save after their pilot was ordered to leave
CONFIG_POLL_S = 2.0  # seconds between two checks of config.toml while work waits
# seconds between two searches for processes of pilots whose engine does not respond
PROCESS_PROBE_S = 5.0
ACTIVE_POLL_S = 1.0  # seconds until the next check while there are pilots


LOG_LINES = 5


class BackendContext(NamedTuple):
    """Values that the pilots of all backends share."""

    home: Home  # the queue's
    records: PilotRecords  # records of all pilots
    make: BackendFactory  # returns the engine of a table
    make_link: Callable[[PilotFolder, PilotSpec], PilotLink]  # returns the link of a pilot
    wake: Callable[[], None]  # called in another thread when an engine has answered
    clock: Callable[[], float]  # returns monotonic seconds
    wall_clock: Callable[[], float]  # seconds since 1970


@dataclass(kw_only=True, eq=False)
class BackendPilots:
    """All pilots that were submitted to one engine, and that it may still know."""

    settings: BackendSettings  # the backend's table of config.toml
    context: BackendContext
    configured: bool = True
    demand: Demand = NO_DEMAND
    pilots: dict[str, Pilot] = field(default_factory=dict)  # by token
    throttle: SubmitThrottle = field(default_factory=SubmitThrottle)
    error: str = ""  # why the engine does not respond
    error_since: float = 0.0  # seconds since 1970
    disk_error: str = ""  # why the queue folder cannot be written
    _failed_calls: int = 0  # consecutive calls to which the engine did not respond
    _observe_at: float = -math.inf
    _retry_at: float = -math.inf
    _excess_since: float = math.inf
    _probe_processes_at: float = -math.inf

    def __post_init__(self) -> None:
        """Begin without an engine."""
        around = self.context
        self._clock = around.clock
        self.calls = EngineCalls(
            lambda: around.make(self.settings, around.home), around.wake, around.clock
        )

    # --- queries and commands of other modules

    @property
    def all(self) -> tuple[Pilot, ...]:
        """Its pilots, the oldest first."""
        return tuple(self.pilots.values())

    @property
    def count_toward_limit(self) -> int:
        """Number of pilots that count towards the limit of the backend."""
        return sum(pilot.counts_toward_limit for pilot in self.all)

    @property
    def pending_count(self) -> int:
        """Number of pilots that will accept work and have not registered yet."""
        return sum(pilot.is_pending for pilot in self.all)

    @property
    def root(self) -> Path:
        """The folder that contains the folders of its pilots."""
        return pilots_root(self.settings, self.context.home)

    def needs_scheduler(self, now: float) -> bool:
        """Return whether the scheduler must keep running for one of its pilots."""
        mute = bool(self.error or self.disk_error)
        return any(pilot.needs_scheduler(now, engine_silent=mute) for pilot in self.all)

    def adopt(self, record: PilotRecord) -> None:
        """Take over a pilot of an earlier scheduler."""
        self.pilots[record.token] = self._make_pilot(record, is_adopted=True)
        # a clock that was set back makes it new
        ago_s = max(0.0, self.context.wall_clock() - record.since)
        self.throttle.record_submission(1, self._clock() - ago_s)

    def configure(self, settings: BackendSettings) -> None:
        """Continue with another table of config.toml for the same engine: a failed call may succeed now."""
        self.configured = True
        if settings == self.settings:
            return
        self.settings = settings
        self.throttle.reset()
        self.error, self._failed_calls = "", 0
        self._observe_at = self._retry_at = -math.inf
        self.calls.reset_engine()

    def next_check_s(self, now: float) -> float:
        """Return the seconds until the next check, if nothing happens before."""
        if self.pilots or self.calls.is_busy:
            return ACTIVE_POLL_S
        if not self.demand.jobs:
            return math.inf
        return min(CONFIG_POLL_S, max(ACTIVE_POLL_S / 10, self.submission_wait_s(now)))

    def submission_wait_s(self, now: float) -> float:
        """Return how long limits of time, failures and refusals forbid a submission."""
        return self.throttle.wait_s(
            now, active=self.count_toward_limit, per_minute=self.settings.per_minute
        )

    def mark_reaped(self, token: str) -> None:
        """Record that the attempts of a pilot were ended in the queue. If the disk is full, call it again later."""
        pilot = self.pilots[token]
        if self._write_record(pilot, pilot.record._replace(buried=True)):
            pilot.attempts = 0

    def drain(self, *, now: bool, why: str, busy_pilots_too: bool = True) -> None:
        """End all pilots, at once or when they run nothing. Repeated calls are allowed.

        Args:
            now: also end their attempts, at once.
            why: reason for the end.
            busy_pilots_too: also order pilots with attempts to leave now. Without it, the queue may need them again.
        """
        at = self._clock()
        for pilot in self.all:
            if pilot.is_registered and (now or busy_pilots_too or not pilot.attempts):
                pilot.send_drain(now=now, drain_time=at)
            lost = pilot.state is PilotState.SILENT and (now or not pilot.attempts)
            if not pilot.is_registered or lost or at > pilot.drain_at + DRAIN_GRACE_S:
                self._mark_for_cancel(pilot, why)

    # --- a cycle

    def run_cycle(self, now: float, demand: Demand, busy: Mapping[str, int]) -> None:
        """Apply the result of the last engine call, update the pilots, and start the next call that is due.

        Args:
            now: time of the clock.
            demand: the work that waits for pilots.
            busy: token → number of the pilot's attempts.
        """
        self.demand = demand if self.configured else NO_DEMAND
        self.calls.deliver_result()
        self._probe_processes(now)
        for pilot in self.all:
            pilot.update_state(busy.get(pilot.token, 0), now)
            if pilot.attempts and not pilot.durable:
                self._write_record(pilot, pilot.record)
            self._react_to_state(pilot, now)
        if self.throttle.failures >= FAILURES_BEFORE_BACKOFF:
            self._cancel_untried()
        if not self.configured:
            self.drain(now=False, why="its backend was removed from config.toml")
        if self.pilots:
            self._cancel_excess(now)
        if self.pilots or self.demand.jobs:
            self._start_due_call(now)

    def _probe_processes(self, now: float) -> None:
        """Find ended pilots whose engine does not respond, as a cluster may be gone permanently."""
        if not self.error or now < self._probe_processes_at:
            return
        self._probe_processes_at = now + PROCESS_PROBE_S
        for pilot in self.all:
            if pilot.state in {PilotState.SILENT, PilotState.LEAVING}:
                pilot.process_gone = _is_process_over(pilot)

    def _react_to_state(self, pilot: Pilot, now: float) -> None:
        """React to the state of a pilot."""
        if pilot.is_registered and not pilot.troubles and not pilot.success_recorded:
            pilot.success_recorded = True
            self.throttle.record_success()
        if pilot.troubles and not pilot.is_terminating:
            self._dismiss(pilot, now)
        if pilot.state is PilotState.STARTING and now - pilot.running_since > START_TIMEOUT_S:
            why = f"it ran for {format_seconds(START_TIMEOUT_S)} on {pilot.node or 'a node'} and reported nothing"
            self._record_failure(pilot, why, now)
            self._mark_for_cancel(pilot, why)
        if pilot.state is PilotState.LEAVING and pilot.silent_s > DRAIN_GRACE_S:
            self._mark_for_cancel(pilot, "it reported its end minutes ago but still runs")
        if (
            pilot.state is PilotState.SILENT
            and pilot.silent_s > START_TIMEOUT_S
            and not pilot.attempts
        ):
            self._mark_for_cancel(pilot, "it was silent for minutes and has no jobs")
        if pilot.state is PilotState.EXPIRED and not pilot.attempts:
            self._mark_for_cancel(pilot, self._end_reason(pilot))
        if (
            pilot.is_lost
            and pilot.is_accepted
            and not pilot.is_registered
            and not pilot.is_terminating
        ):
            self._record_failure(pilot, self._end_reason(pilot), now)
        # a lost pilot does not report the ends of its attempts
        lost = bool(pilot.attempts) and (pilot.is_lost or pilot.state is PilotState.STRANDED)
        if (
            lost
            and not pilot.record.given_up
            and (pilot.link.has_stopped_all or _is_record_visible(pilot))
        ):
            self._abandon(pilot)

    def _dismiss(self, pilot: Pilot, now: float) -> None:
        """End a pilot that cannot work, or has another version. Its running attempts continue."""
        why = "; ".join(pilot.troubles)
        pilot.send_drain(now=False, drain_time=now)
        if not pilot.attempts and not pilot.adopted:  # the pilot may have deregistered already
            self._record_failure(pilot, why, now)
        if not pilot.attempts:
            self._mark_for_cancel(pilot, why)

    def _abandon(self, pilot: Pilot) -> None:
        """Abandon the attempts of a pilot after a call to its engine to end it. Processes that still live there end.

        Its record says so before the queue ends the attempts, so it also applies to the next scheduler.
        """
        # the reason for which the pilot was cancelled has precedence
        why = pilot.record.cancelled or self._end_reason(pilot)
        ended = pilot.cancelled or pilot.is_empty or pilot.process_gone
        if not self._mark_for_cancel(pilot, why) or not ended:
            return
        try:
            run_with_timeout(pilot.link.root, pilot.link.folder.mark_abandoned)
        except FileNotFoundError:  # a deleted folder means that the pilot is over
            pass
        except OSError as error:
            # such as a full disk: the pilot's processes cannot see the record yet
            logger.warning("pilot=%s trouble=%r", pilot.token, str(error))
            return
        self._write_record(pilot, pilot.record._replace(given_up=why))

    def _end_reason(self, pilot: Pilot) -> str:
        name = self.settings.name
        observation = pilot.observation
        if pilot.state is PilotState.MISSING:
            return f"{name} no longer lists the {pilot.label}"
        if pilot.state is PilotState.EXPIRED or observation is None:
            silent = format_seconds(min(pilot.silent_s, 1e9))
            return f"{pilot.label} was silent for {silent}, so its lease expired"
        return pilot.end_reason or f"{pilot.label} has ended"

    def _record_failure(self, pilot: Pilot, why: str, now: float) -> None:
        if not pilot.failure_recorded:
            pilot.failure_recorded = True
            self.throttle.record_failure(why, now)
            logger.warning("backend=%s pilot=%s failed=%r", self.settings.name, pilot.token, why)

    def _cancel_untried(self) -> None:
        """End pilots for one job each that wait, after several like them could not work; one alone is a trial."""
        waiting = [pilot for pilot in self.all if pilot.record.spec.single and _is_waiting(pilot)]
        for pilot in waiting if len(waiting) > 1 else ():
            self._mark_for_cancel(pilot, f"the last {self.throttle.failures} pilots failed")

    def _cancel_excess(self, now: float) -> None:
        """End pilots in the engine's queue that nobody has needed for a while."""
        waiting = [pilot for pilot in self.all if _is_waiting(pilot)]
        starting = sum(pilot.is_pending for pilot in self.all) - len(waiting)
        number = count_excess_pilots(
            self.demand, waiting_count=len(waiting), starting_count=starting
        )
        if not number:
            self._excess_since = math.inf
            return
        self._excess_since = min(self._excess_since, now)
        if now - self._excess_since >= self.settings.idle_s:
            for pilot in waiting[-number:]:
                self._mark_for_cancel(pilot, "no work waits for it")

    # --- the engine

    def _start_due_call(self, now: float) -> None:
        """Start the most urgent engine call that is due. Only one call runs at a time."""
        if self.calls.is_busy:
            return
        due = [pilot for pilot in self.all if pilot.is_submitted and pilot.is_cancel_due(now)]
        finished = [pilot for pilot in self.all if _is_finished(pilot)]
        unread = [pilot for pilot in self.all if pilot.failure_recorded and pilot.log is None]
        if due and now >= self._retry_at:
            self._cancel(due)
        elif (finished or unread) and now >= self._retry_at:
            self._clear_finished(finished, unread)
        elif self.demand.jobs and (number := self._number_to_submit(now)):
            self._submit(number, now)
        elif now >= max(self._observe_at, self._retry_at):
            self._observe(now)

    def _cancel(self, pilots: Sequence[Pilot]) -> None:
        def apply_cancellation(_: None) -> None:
            self._clear_error()
            for pilot in pilots:
                pilot.record_cancel_request(self._clock())

        tokens = [pilot.token for pilot in pilots]
        self.calls.begin(
            lambda backend: backend.cancel(tokens), apply_cancellation, self._record_error
        )

    def _observe(self, now: float) -> None:
        def apply_observations(observations: Mapping[str, Observation]) -> None:
            self._clear_error()
            for pilot in pilots:
                if (observation := observations.get(pilot.token)) is not None:
                    pilot.apply_observation(observation, self._clock(), self.settings.poll_s)

        pilots = [pilot for pilot in self.all if pilot.is_submitted]
        if not pilots:
            return
        nodes = {pilot.token: pilot.reported_node for pilot in pilots}
        self._observe_at = now + self.settings.poll_s
        self.calls.begin(
            lambda backend: backend.observe([*nodes], nodes), apply_observations, self._record_error
        )

    def _clear_error(self) -> None:
        self.error, self._failed_calls = "", 0

    def _record_error(self, error: EngineError) -> None:
        """Record no new state: the last known states stay valid."""
        if not self.error:
            self.error_since = self.context.wall_clock()
        self.error = str(error)
        self._failed_calls += 1
        self._retry_at = self._clock() + poll_interval_s(self.settings.poll_s, self._failed_calls)
        logger.warning("backend=%s trouble=%r", self.settings.name, self.error)

    def _number_to_submit(self, now: float) -> int:
        """Return how many pilots to submit. If missing ones use up the limit, these are ended first."""
        if self._failed_calls or self.throttle.backoff_s(now) > 0:
            return 0
        most, held, unspoken = self.settings.pilots, self.count_toward_limit, self.pending_count
        if (short := max(0, self.demand.pilots - unspoken) - (most - held)) > 0:
            missing = [pilot for pilot in self.all if pilot.state is PilotState.MISSING]
            for pilot in [pilot for pilot in missing if not pilot.attempts][:short]:
                self._mark_for_cancel(
                    pilot, f"{self.settings.name} no longer listed it; another pilot replaces it"
                )
        return self.throttle.number_to_submit(
            self.demand,
            now,
            active=held,
            pending_count=unspoken,
            most=most,
            per_minute=self.settings.per_minute,
            single=not self.settings.pilot,
        )

    def _submit(self, pilot_count: int, now: float) -> None:
        root = self.root
        pilots: list[Pilot] = []
        together = not self.settings.pilot
        tokens = new_tokens(pilot_count) if together else [new_token() for _ in range(pilot_count)]
        for token in tokens:
            spec = make_pilot_spec(self.settings, token, self.demand.paths)
            record = PilotRecord(
                folder=root / spec.token,
                spec=spec,
                settings=self.settings,
                since=self.context.wall_clock(),
            )
            if (pilot := self._add(record)) is not None:
                pilots.append(pilot)
        if not pilots:
            self.throttle.record_refusal(self.disk_error, now)
            return
        self.throttle.record_submission(1 if together else len(pilots), now)
        pairs = [(pilot.record.pilot_folder, pilot.record.spec) for pilot in pilots]
        submission = Submission(pairs, root, self.context.home)
        taken, refused = (
            partial(self._record_accepted, pilots),
            partial(self._record_refused, pilots, submission),
        )
        self.calls.begin(submission, taken, refused)
        logger.info("backend=%s submits=%d", self.settings.name, len(pilots))

    def _record_accepted(self, pilots: Sequence[Pilot], _: None) -> None:
        self.throttle.record_acceptance()
        for pilot in pilots:
            pilot.is_submitted = pilot.is_accepted = True

    def _record_refused(
        self, pilots: Sequence[Pilot], submission: Submission, error: EngineError
    ) -> None:
        """Keep pilots that the engine may have accepted anyway. The next poll shows whether it did."""
        submission.is_withdrawn = True
        self.throttle.record_refusal(str(error), self._clock())
        logger.warning("backend=%s refused=%r", self.settings.name, str(error))
        for pilot in pilots:
            pilot.is_submitted = True
            if isinstance(error, NotSubmitted | SubmissionRefused):
                self._delete_record(pilot)

    def _clear_finished(
        self, finished_pilots: Sequence[Pilot], unread_pilots: Sequence[Pilot]
    ) -> None:
        """Read the output of pilots that could not work, and delete the remains of those that ended."""
        root = self.root
        for pilot in finished_pilots:
            pilot.is_deleting = True  # nobody reads the pilot's messages any more

        def collect_and_clear(backend: Backend) -> Mapping[str, str]:
            logs = {
                pilot.token: _read_log(backend, pilot.record.pilot_folder)
                for pilot in unread_pilots
            }
            for pilot in finished_pilots:
                delete_pilot_folder(pilot.record.pilot_folder)
            delete_unrecorded_folders(root, self.context.home, self.context.records.has)
            return logs

        def apply_logs(logs: Mapping[str, str]) -> None:
            for pilot in unread_pilots:
                pilot.log = self.throttle.log = logs[pilot.token]
            for pilot in finished_pilots:
                self._delete_record(pilot)

        self.calls.begin(collect_and_clear, apply_logs, self._record_error)

    # --- records: each change is written to disk before it takes effect

    def _make_pilot(self, record: PilotRecord, *, is_adopted: bool = False) -> Pilot:
        link = self.context.make_link(record.pilot_folder, record.spec)
        return Pilot(record=record, link=link, adopted=is_adopted)

    def _add(self, record: PilotRecord) -> Pilot | None:
        """Add a pilot that is to be submitted. Return None if its record cannot be written."""
        pilot = self._make_pilot(record)
        pilot.is_submitted = False
        # hundreds for one job each: a record is synced when an attempt is there; before that, such a pilot that
        # nobody knows leaves by itself
        if not self._write_record(pilot, record, durable=not record.spec.single):
            return None
        self.pilots[record.token] = pilot
        return pilot

    def _mark_for_cancel(self, pilot: Pilot, why: str) -> bool:
        """Mark a pilot to be ended. Return False if this cannot be recorded now."""
        return pilot.is_terminating or self._write_record(
            pilot, pilot.record._replace(cancelled=why)
        )

    def _write_record(self, pilot: Pilot, record: PilotRecord, *, durable: bool = True) -> bool:
        """Write the record of a pilot. Return False if this fails."""
        try:
            self.context.records.write(record, durable=durable)
        except OSError as error:
            self.disk_error = f"cannot write the record of pilot {pilot.token}: {error}"
            return False
        pilot.record, pilot.durable, self.disk_error = record, durable, ""
        return True

    def _delete_record(self, pilot: Pilot) -> None:
        """Delete the record of a pilot of which nothing is left."""
        try:
            self.context.records.delete(pilot.token)
        except OSError as error:
            self.disk_error = f"cannot delete the record of pilot {pilot.token}: {error}"
            return
        self.disk_error = ""
        del self.pilots[pilot.token]


def _is_record_visible(pilot: Pilot) -> bool:
    """Return whether a pilot's messages can be read or were deleted. False if its file system is not mounted."""
    root, news = pilot.link.root, pilot.link.folder.messages_file
    try:
        return run_with_timeout(root, lambda: news.exists() or is_visible(root))
    except OSError:
        return False


def _is_process_over(pilot: Pilot) -> bool:
    """Return whether the process of a pilot is over.

    It is over if it deregistered long ago, or if it ran on this machine and does not exist any more.
    """
    hello = pilot.link.registration
    if pilot.link.exit_reason is not None and pilot.silent_s > DRAIN_GRACE_S:
        return True
    here = hello is not None and hello.boot == boot_id()
    return here and not find_pids(pilot.link.folder, None)


def _is_waiting(pilot: Pilot) -> bool:
    return pilot.state is PilotState.WAITING and pilot.is_pending


def _is_finished(pilot: Pilot) -> bool:
    """Return whether nothing of a pilot exists or will exist."""
    if pilot.is_deleting:
        return True
    if (
        not pilot.is_submitted
        or pilot.attempts
        or (pilot.record.given_up and not pilot.record.buried)
    ):
        return False
    if pilot.state is PilotState.MISSING:
        return pilot.unknown_s >= DELETE_UNKNOWN_AFTER_S
    return pilot.state in {PilotState.ENDED, PilotState.STRANDED}


def _read_log(backend: Backend, folder: PilotFolder) -> str:
    try:
        return backend.collect(folder)
    except (EngineError, OSError):
        return "\n".join(last_lines(folder.log, LOG_LINES))
