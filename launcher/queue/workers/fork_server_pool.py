"""All fork servers of a scheduler, and the supervisors that wait for their next attempt."""

import contextlib
import errno
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from socket import MSG_DONTWAIT, MSG_PEEK

from launcher import __version__
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Failed, Lost, NeverStarted, Outcome
from launcher.queue.workers.fork_server_handles import (
    CannotFork,
    ForkServer,
    ForkServerCrash,
    Supervisor,
)
from launcher.queue.workers.start_attempt import NO_ROOM_ERRORS
from launcher.queue.workers.start_pauses import BackoffSet
from launcher.system.files import AWAY_TIMEOUT_S
from launcher.system.process_start import open_files_shortage

SPARE_SUPERVISORS = 1  # supervisors that wait for work while others are busy
# deaths in an environment without a successful supervisor: its interpreter or a module is broken
MOST_DEATHS = 3
DEATHS_BACKOFF_S = 1.0  # seconds of pause after `MOST_DEATHS`
MISSING_POLL_S = 1.0  # seconds between two checks of a missing interpreter
ANSWER_S = 1.0  # seconds; a fork server that has imported its modules answers sooner
RETIRE_AFTER_S = 600.0  # an unused fork server is closed after this time, to free its memory
_MISSING_ERRORS = {errno.ENOENT, errno.ENOTDIR}
_PERMANENT_ERRORS = {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR}


class CannotStartWorker(Exception):
    """No worker of an environment can be started; the text says why."""

    def __init__(self, why: str, *, is_certain: bool = True, is_transient: bool = False) -> None:
        """Begin.

        Args:
            why: in words.
            is_certain: another try would fail in the same way. If False, another process may have killed them.
            is_transient: a disk or an environment has changed. Then it is tried again after growing
                pauses, as a program that cannot be started is.
        """
        super().__init__(why)
        self.is_certain, self.is_transient = is_certain, is_transient

    def outcome(self, timestamp: float) -> Outcome:
        """Return how an attempt ends for which there is no worker: it is tried again, has failed, or is lost."""
        if self.is_transient:
            return NeverStarted(at=timestamp, why=str(self), blamed_on="job")
        return (
            Failed(at=timestamp, error=str(self))
            if self.is_certain
            else Lost(at=timestamp, why=str(self))
        )


@dataclass(slots=True)
class _EnvironmentState:
    """The processes of one environment, and its results so far."""

    used_at: float = 0.0  # when a job last asked for the environment, monotonic
    server: ForkServer | None = None
    idle: list[Supervisor] = field(default_factory=list)
    requested: int = 0  # supervisors that have not come
    requested_at: float = 0.0  # when the newest of them was requested, monotonic
    proven: bool = False  # a supervisor came back from an attempt
    deaths: int = 0  # since then
    # deaths of fork servers in their imports
    crashes: list[ForkServerCrash] = field(default_factory=list)
    excluded_until: float = 0.0  # nothing is forked before, monotonic
    transient_error: CannotStartWorker | None = (
        None  # why no supervisor can start, where jobs need not wait for that
    )
    # when the environment's interpreter was first missing, monotonic
    missing_since: float | None = None


class ForkServerPool:
    """Starts a fork server for the first job of its environment, and keeps idle supervisors ready."""

    def __init__(
        self,
        home: Home,
        *,
        most_idle: int,
        on_start_failure: Callable[[str], None] = lambda _: None,
        awaits_interpreters: bool = False,
    ) -> None:
        """Begin without any.

        Args:
            home: whose log the processes write to.
            most_idle: idle supervisors that are kept for an environment; with fewer than run at
                once, they would be forked and closed all the time.
            on_start_failure: called with the reason when this machine has no room for another process.
            awaits_interpreters: jobs wait for an interpreter that is missing, as its disk may not be mounted yet.
        """
        self._on_start_failure = on_start_failure
        self._awaits_interpreters = awaits_interpreters
        self._home, self._most_idle = home, most_idle
        self._environments = defaultdict[WorkerEnvironment, _EnvironmentState](_EnvironmentState)
        # those for which the machine had no room
        self._start_backoffs = BackoffSet[WorkerEnvironment]()
        self._unended_servers: list[ForkServer] = []  # closed, and still not ended

    def take_supervisor(self, environment: WorkerEnvironment) -> Supervisor | None:
        """Return a supervisor, which then belongs to the caller; None if one is requested or will be.

        Raises:
            CannotStartWorker: this environment's interpreter cannot be run, or is another launcher's.
        """
        station = self._environments[environment]
        now = station.used_at = time.monotonic()
        if self.excluded_s(environment) > 0:
            return None
        if now < station.excluded_until:
            if (
                station.transient_error is not None
            ):  # the next job of the environment is skipped as well, and is tried later
                raise station.transient_error
            return None
        station.transient_error = None
        if station.deaths >= MOST_DEATHS:
            self._judge_deaths(environment, station)
            return None
        taken = station.idle.pop() if station.idle else None
        if taken is not None and taken.version != __version__:
            taken.channel.close()
            raise CannotStartWorker(
                f"{_interpreter_name(environment)} has launcher {taken.version}, but the queue runs {__version__}"
            )
        while len(station.idle) + station.requested < SPARE_SUPERVISORS + (taken is None):
            if not self._request_supervisor(environment, station):
                break
        return taken

    def give_back(self, environment: WorkerEnvironment, supervisor: Supervisor) -> None:
        """Keep a supervisor whose attempt has ended for the next one."""
        station, dead = self._environments[environment], _is_dead(supervisor)
        if not dead:
            station.proven, station.deaths = True, 0
        if dead or station.server is None or len(station.idle) >= self._most_idle:
            supervisor.channel.close()  # a closed channel ends the supervisor
            return
        station.idle.append(supervisor)

    def prepare(self, environment: WorkerEnvironment) -> None:
        """Prepare a supervisor before the first job is submitted; if that fails, that job reports it."""
        station = self._environments[environment]
        station.used_at = time.monotonic()
        with contextlib.suppress(CannotStartWorker):
            self._request_supervisor(environment, station)

    def collect_spawned(self, readable: Collection[int] | None = None) -> bool:
        """Collect supervisors forked since the last call, and drop those that died.

        Args:
            readable: the descriptors that are readable; None: not known.

        Returns whether there was anything new.
        """
        anything = False
        for environment, station in self._environments.items():
            server = station.server
            if server is None or (readable is not None and server.socket.fileno() not in readable):
                continue
            while server.has_answer():
                anything = True
                try:
                    supervisor = server.receive_supervisor()
                except CannotFork as error:
                    station.requested -= 1
                    self._delay_environment(environment, str(error))
                    continue
                if supervisor is None:
                    self._remove_dead_server(station, server)
                    break
                station.requested -= 1
                station.crashes = []
                station.idle.append(supervisor)
        for station in self._environments.values():
            for supervisor in [*station.idle]:
                if (readable is None or supervisor.channel.fileno() in readable) and _is_dead(
                    supervisor
                ):
                    station.idle.remove(supervisor)
                    supervisor.channel.close()
                    station.deaths += 1
                    anything = True
        return anything

    def retire(self) -> None:
        """Close fork servers unused for RETIRE_AFTER_S; supervisors with an attempt finish it."""
        now = time.monotonic()
        self._unended_servers = [server for server in self._unended_servers if not server.reap()]
        for station in self._environments.values():
            if now - station.used_at > RETIRE_AFTER_S:
                self._close(station)

    def descriptors(self) -> Iterator[int]:
        """Return the descriptors that become readable when there is news."""
        for station in self._environments.values():
            if station.server is not None:
                yield station.server.socket.fileno()
            yield from (supervisor.channel.fileno() for supervisor in station.idle)

    def close(self) -> None:
        """Close all fork servers; supervisors with an attempt finish it."""
        for station in self._environments.values():
            self._close(station)

    def why_short_of_supervisors(self, environment: WorkerEnvironment) -> str:
        """Return why no further supervisor can be started while all others have work; empty if there can be one."""
        station = self._environments.get(environment)
        return "" if station is not None and station.idle else open_files_shortage()

    def why_delayed(self, environment: WorkerEnvironment) -> str:
        """Return why the fork server of an environment does not answer; empty if it only needs time."""
        station = self._environments.get(environment)
        if station is not None and station.missing_since is not None:
            return f"{_interpreter_name(environment)} does not exist"
        if station is None or station.server is None or not station.requested:
            return ""
        if time.monotonic() < station.requested_at + ANSWER_S:
            return ""
        return station.server.why_frozen()

    def excluded_s(self, environment: WorkerEnvironment) -> float:
        """Return how long an environment is excluded because the machine had no room; 0 if it is not."""
        return self._start_backoffs.wait_s(environment, time.monotonic())

    def _judge_deaths(self, environment: WorkerEnvironment, station: _EnvironmentState) -> None:
        """Decide on the error for repeated deaths in one environment.

        Raises:
            CannotStartWorker: its jobs cannot start, now or ever.
        """
        faults, station.crashes = station.crashes, []
        station.deaths, station.excluded_until = 0, station.used_at + DEATHS_BACKOFF_S
        log = self._home.scheduler_log
        if len(faults) >= MOST_DEATHS:
            how = f"it {faults[-1].description}, {len(faults)} times"
            why = f"{_interpreter_name(environment)} does not start: {how} (see {log})"
            if station.proven and not all(fault.module for fault in faults):
                raise _delay_after_error(station, why)  # the interpreter is being installed again
            raise CannotStartWorker(why)
        if not station.proven:
            raise CannotStartWorker(
                f"{_interpreter_name(environment)} does not start (see {log})", is_certain=False
            )

    def _close(self, station: _EnvironmentState) -> None:
        """Close the idle processes of an environment."""
        for supervisor in station.idle:
            supervisor.channel.close()
        station.idle, station.requested = [], 0
        self._end_server(station)

    def _end_server(self, station: _EnvironmentState) -> None:
        server, station.server = station.server, None
        if server is not None and not server.close():
            self._unended_servers.append(server)

    def _request_supervisor(
        self, environment: WorkerEnvironment, station: _EnvironmentState
    ) -> bool:
        """Ask for one more; False when that cannot be done just now.

        Raises:
            CannotStartWorker: the interpreter cannot be run.
        """
        if open_files_shortage():
            return False
        if station.server is None:
            try:
                station.server = ForkServer(self._home, environment)
            except OSError as error:
                why = f"cannot run {_interpreter_name(environment)}: {error.strerror}"
                if error.errno in NO_ROOM_ERRORS:
                    self._delay_environment(environment, str(error.strerror))
                    return False
                if self._awaits_interpreters and error.errno in _MISSING_ERRORS:
                    if _may_come_back(station):
                        return False
                    why += ". To run its jobs in the present environment: launcher retry JOB --environment"
                if error.errno in _PERMANENT_ERRORS:
                    raise CannotStartWorker(why) from error
                raise _delay_after_error(station, why) from error
        station.missing_since = None
        station.server.request_supervisor()
        station.requested += 1
        station.requested_at = time.monotonic()
        return True

    def _delay_environment(self, environment: WorkerEnvironment, why: str) -> None:
        self._start_backoffs.add(environment, time.monotonic())
        self._on_start_failure(why)

    def _remove_dead_server(self, station: _EnvironmentState, server: ForkServer) -> None:
        """Let go of a fork server that is dead."""
        self._end_server(station)
        station.requested = 0
        station.deaths += 1
        station.crashes += filter(None, [server.crash])


def _may_come_back(station: _EnvironmentState) -> bool:
    """Return whether an interpreter that is missing may come back; it is tried again after a moment then."""
    now = time.monotonic()
    if station.missing_since is None:
        station.missing_since = now
    if now >= station.missing_since + AWAY_TIMEOUT_S:
        return False
    station.excluded_until = now + MISSING_POLL_S
    return True


def _delay_after_error(station: _EnvironmentState, why: str) -> CannotStartWorker:
    """Exclude an environment for a moment, so that its jobs give way to others; return the reason."""
    station.excluded_until = time.monotonic() + DEATHS_BACKOFF_S
    station.transient_error = CannotStartWorker(why, is_transient=True)
    return station.transient_error


def _interpreter_name(environment: WorkerEnvironment) -> str:
    return environment.interpreter or "the Python of the scheduler"


def _is_dead(idle: Supervisor) -> bool:
    """Return whether an idle supervisor's channel is closed; an idle supervisor sends nothing."""
    try:
        return not idle.channel.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
