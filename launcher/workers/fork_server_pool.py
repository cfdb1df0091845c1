"""All fork servers of a scheduler, and the supervisors that wait for their next attempt."""

import contextlib
import errno
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from socket import MSG_DONTWAIT, MSG_PEEK

from launcher import __version__
from launcher.context import WorkerEnvironment
from launcher.states import Failed, Lost, Outcome, Void
from launcher.system.paths import Home
from launcher.system.process_start import short_of_files
from launcher.workers.fork_server_handles import Fault, ForkServer, NoProcess, Supervisor
from launcher.workers.start_attempt import LACKS
from launcher.workers.start_pauses import Exclusions

AHEAD = 1  # supervisors that wait for work while others are busy
DEATHS = 3  # in an environment of which no supervisor ever came back: its interpreter, or a module, is broken
PAUSE_S = 1.0  # after so many deaths
RETIRE_S = 600.0  # a fork server unused for so long is closed, to free its memory
_NEVER = {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR}


class Unusable(Exception):
    """No worker of an environment can be started; the text says why."""

    def __init__(self, why: str, *, sure: bool = True, passing: bool = False) -> None:
        """Begin.

        Args:
            why: in words.
            sure: another try would fail alike; False: another process may have killed them.
            passing: a disk or an environment is not as it was; it is tried again after growing
                pauses, as a program is that cannot be started.
        """
        super().__init__(why)
        self.sure, self.passing = sure, passing

    def outcome(self, at: float) -> Outcome:
        """Return how an attempt ends for which there is no worker: it is tried again, has failed, or is lost."""
        if self.passing:
            return Void(at=at, why=str(self), whose="job")
        return Failed(at=at, error=str(self)) if self.sure else Lost(at=at, why=str(self))


@dataclass(slots=True)
class _Station:
    """What there is of one environment, and what became of it so far."""

    used: float = 0.0  # when a job last asked for it, monotonic
    server: ForkServer | None = None
    idle: list[Supervisor] = field(default_factory=list)
    requested: int = 0  # supervisors that have not come
    proven: bool = False  # a supervisor came back from an attempt
    deaths: int = 0  # since then
    faults: list[Fault] = field(default_factory=list)  # how fork servers died in their imports
    excluded_until: float = 0.0  # nothing is forked before, monotonic
    passing: Unusable | None = None  # the reason, where its jobs need not wait for that


class ForkServerPool:
    """Starts a fork server for the first job of its environment, and keeps idle supervisors ready."""

    def __init__(
        self, home: Home, *, most_idle: int, lacks: Callable[[str], None] = lambda _: None
    ) -> None:
        """Begin without any.

        Args:
            home: whose log the processes write to.
            most_idle: idle supervisors that are kept for an environment; with fewer than run at
                once, they would be forked and closed all the time.
            lacks: called with the reason when this machine has no room for another process.
        """
        self._lacks = lacks
        self._home, self._most_idle = home, most_idle
        self._stations = defaultdict[WorkerEnvironment, _Station](_Station)
        self._lacking = Exclusions[WorkerEnvironment]()  # those for which the machine had no room
        self._hung: list[ForkServer] = []  # closed, and still not ended

    def take(self, environment: WorkerEnvironment) -> Supervisor | None:
        """Return a supervisor, which is the caller's now; None: one is on its way, or will be.

        Raises:
            Unusable: this environment's interpreter cannot be run, or is another launcher's.
        """
        station = self._stations[environment]
        now = station.used = time.monotonic()
        if self.excluded_s(environment) > 0:
            return None
        if now < station.excluded_until:
            if station.passing is not None:  # its next job gives way as well, and is asked later
                raise station.passing
            return None
        station.passing = None
        if station.deaths >= DEATHS:
            self._judge(environment, station)
            return None
        taken = station.idle.pop() if station.idle else None
        if taken is not None and taken.version != __version__:
            taken.channel.close()
            raise Unusable(
                f"{_named(environment)} has launcher {taken.version}, but the queue runs {__version__}"
            )
        while len(station.idle) + station.requested < AHEAD + (taken is None):
            if not self._ask(environment, station):
                break
        return taken

    def give_back(self, environment: WorkerEnvironment, supervisor: Supervisor) -> None:
        """Keep a supervisor whose attempt has ended for the next one."""
        station, dead = self._stations[environment], _is_dead(supervisor)
        if not dead:
            station.proven, station.deaths = True, 0
        if dead or station.server is None or len(station.idle) >= self._most_idle:
            supervisor.channel.close()  # it leaves
            return
        station.idle.append(supervisor)

    def prepare(self, environment: WorkerEnvironment) -> None:
        """Have a supervisor ready before the first job comes; if none can be had, that job reports it."""
        station = self._stations[environment]
        station.used = time.monotonic()
        with contextlib.suppress(Unusable):
            self._ask(environment, station)

    def collect_spawned(self, news: Collection[int] | None = None) -> bool:
        """Collect supervisors forked since the last call, and drop those that died.

        Args:
            news: the descriptors that are readable; None: not known.

        Returns whether there was anything new.
        """
        anything = False
        for environment, station in self._stations.items():
            server = station.server
            if server is None or (news is not None and server.socket.fileno() not in news):
                continue
            while server.answers():
                anything = True
                try:
                    supervisor = server.spawned()
                except NoProcess as error:
                    station.requested -= 1
                    self._put_off(environment, str(error))
                    continue
                if supervisor is None:
                    self._remove(station, server)
                    break
                station.requested -= 1
                station.faults = []
                station.idle.append(supervisor)
        for station in self._stations.values():
            for supervisor in [*station.idle]:
                if (news is None or supervisor.channel.fileno() in news) and _is_dead(supervisor):
                    station.idle.remove(supervisor)
                    supervisor.channel.close()
                    station.deaths += 1
                    anything = True
        return anything

    def retire(self) -> None:
        """Close fork servers unused for RETIRE_S; supervisors with an attempt finish it."""
        now = time.monotonic()
        self._hung = [server for server in self._hung if not server.collect()]
        for station in self._stations.values():
            if now - station.used > RETIRE_S:
                self._close(station)

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when there is news."""
        for station in self._stations.values():
            if station.server is not None:
                yield station.server.socket.fileno()
            yield from (supervisor.channel.fileno() for supervisor in station.idle)

    def close(self) -> None:
        """Close all fork servers; supervisors with an attempt finish it."""
        for station in self._stations.values():
            self._close(station)

    def short_of(self, environment: WorkerEnvironment) -> str:
        """Return why there is no further supervisor while those there are have work; '' where there can be one."""
        station = self._stations.get(environment)
        return "" if station is not None and station.idle else short_of_files()

    def excluded_s(self, environment: WorkerEnvironment) -> float:
        """Return how long an environment is excluded because the machine had no room; 0: it is not."""
        return self._lacking.wait_s(environment, time.monotonic())

    def _judge(self, environment: WorkerEnvironment, station: _Station) -> None:
        """Decide what repeated deaths in one environment mean.

        Raises:
            Unusable: its jobs cannot start, now or ever.
        """
        faults, station.faults = station.faults, []
        station.deaths, station.excluded_until = 0, station.used + PAUSE_S
        log = self._home.scheduler_log
        if len(faults) >= DEATHS:
            how = f"it {faults[-1].how}, {len(faults)} times"
            why = f"{_named(environment)} does not start: {how} (see {log})"
            if station.proven and not all(fault.module for fault in faults):
                raise _pass(station, why)  # it is being installed anew
            raise Unusable(why)
        if not station.proven:
            raise Unusable(f"{_named(environment)} does not start (see {log})", sure=False)

    def _close(self, station: _Station) -> None:
        """Close what there is of an environment that waits for work."""
        for supervisor in station.idle:
            supervisor.channel.close()
        station.idle, station.requested = [], 0
        self._end(station)

    def _end(self, station: _Station) -> None:
        server, station.server = station.server, None
        if server is not None and not server.close():
            self._hung.append(server)

    def _ask(self, environment: WorkerEnvironment, station: _Station) -> bool:
        """Ask for one more; False when that cannot be done just now.

        Raises:
            Unusable: the interpreter cannot be run.
        """
        if short_of_files():
            return False
        if station.server is None:
            try:
                station.server = ForkServer(self._home, environment)
            except OSError as error:
                why = f"cannot run {_named(environment)}: {error.strerror}"
                if error.errno in LACKS:
                    self._put_off(environment, str(error.strerror))
                    return False
                if error.errno in _NEVER:
                    raise Unusable(why) from error
                raise _pass(station, why) from error
        station.server.ask()
        station.requested += 1
        return True

    def _put_off(self, environment: WorkerEnvironment, why: str) -> None:
        self._lacking.exclude(environment, time.monotonic())
        self._lacks(why)

    def _remove(self, station: _Station, server: ForkServer) -> None:
        """Let go of a fork server that is dead."""
        self._end(station)
        station.requested = 0
        station.deaths += 1
        station.faults += filter(None, [server.own_fault])


def _pass(station: _Station, why: str) -> Unusable:
    """Exclude an environment for a moment, so that its jobs give way to others; return the reason."""
    station.excluded_until = time.monotonic() + PAUSE_S
    station.passing = Unusable(why, passing=True)
    return station.passing


def _named(environment: WorkerEnvironment) -> str:
    return environment.interpreter or "the Python of the scheduler"


def _is_dead(idle: Supervisor) -> bool:
    """Tell whether an idle supervisor's channel has come to its end; it says nothing else."""
    try:
        return not idle.channel.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
