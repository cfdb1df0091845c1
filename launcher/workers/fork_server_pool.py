"""All fork servers of a scheduler, its handles on them, and the supervisors that wait for their next attempt.

When this machine cannot start programs, or some of them, they are tried now and then, at growing intervals.
"""

import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import MSG_DONTWAIT, MSG_PEEK
from typing import Generic, NamedTuple, TypeVar

from launcher import __version__
from launcher.context import WorkerEnvironment
from launcher.states import Failed, Lost, Outcome, Reason, ReasonCode, Void
from launcher.system.answering import within
from launcher.system.paths import Attempt, Home
from launcher.system.processes import SERVER, Identity, recorded, send, short_of_files, start_apart
from launcher.workers.fork_server import BYE, FORK, IMPORTING, MESSAGE_BYTES, STAYS
from launcher.workers.start_attempt import LACKS
from launcher.workers.started_file import read_outcome_line
from launcher.workers.supervisor import ENDED, LONGEST_REPORT, NEXT, RUN, STOP

# Another environment may hold version 0.2, whose fork server is another module with the same protocol.
START = """# prose: ok, a program
import sys
try:
    from launcher.workers import fork_server
except ModuleNotFoundError:
    from launcher import nursery as fork_server
sys.exit(fork_server.main(sys.argv[1:]))
"""
BYE_PATIENCE_S = 0.5
KILL_PATIENCE_S = 1.0  # a process that dies of SIGKILL does so at once
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}

logger = logging.getLogger(__name__)


class NoProcess(Exception):
    """The machine has no room for another process; says why."""


class Fault(NamedTuple):
    """How a fork server died by itself before it had imported all."""

    how: str  # in words
    module: str  # that it imported; empty: it had not come so far


class Ended(NamedTuple):
    """A supervisor's news that its attempt has ended."""

    outcome: Outcome | None  # how; None: its record may tell


class Dead:
    """A supervisor's news that it is dead."""


class Supervisor(NamedTuple):
    """The scheduler's handle on a supervisor: it takes one attempt at a time."""

    who: Identity
    version: str  # of the launcher that its interpreter finds
    channel: socket.socket  # readable when an attempt has ended, or the supervisor

    def run(self, attempt: Attempt) -> None:
        """Give it an attempt; that it is dead is seen on the channel."""
        self._tell(RUN, attempt)

    def read_ahead(self, attempt: Attempt) -> None:
        """Let it read the order of an attempt that it will probably get."""
        self._tell(NEXT, attempt)

    def stop(self, attempt: Attempt) -> None:
        """Have it end an attempt that it runs: SIGTERM, and SIGKILL after the job's grace."""
        self._tell(STOP, attempt)

    def news(self) -> Ended | Dead | None:
        """Take its message that the attempt has ended, or notice its death; None: neither came."""
        try:
            message = self.channel.recv(LONGEST_REPORT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return Dead()
        return Ended(read_outcome_line(message[len(ENDED) :])) if message else Dead()

    def _tell(self, what: bytes, attempt: Attempt) -> None:
        try:
            self.channel.send(what + os.fsencode(attempt.folder))
        except OSError:  # it is dead, or the kernel has no room: then it must be, too
            with contextlib.suppress(OSError):
                self.channel.shutdown(socket.SHUT_RDWR)


class ForkServer:
    """The scheduler's handle on a fork server's process."""

    def __init__(self, home: Home, environment: WorkerEnvironment) -> None:
        """Start the process; it imports its modules while the first requests wait in the socket.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self._importing: str | None = (
            None  # the module; "": all is imported; None: not reported yet
        )
        self._status: int | None = None  # as `os.waitstatus_to_exitcode` says; None: it lives
        interpreter = environment.interpreter or sys.executable
        own = interpreter == sys.executable
        start = ("-m", "launcher.workers.fork_server") if own else ("-c", START)
        if not own:  # a spawn returns when the program is loaded, from whatever disk
            within(Path(interpreter).parent, partial(os.stat, interpreter))
        argv = [interpreter, "-P", *start]
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = start_apart(
                [*argv, str(home.folder), str(theirs.fileno()), *environment.preload],
                home.scheduler_log,
                keep=(theirs.fileno(),),
                environment=_environment(environment),
            )
        except OSError:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def ask(self) -> None:
        """Ask for a supervisor; `spawned` returns it, which takes seconds while modules load."""
        with contextlib.suppress(OSError):  # it is dead; `spawned` reports it
            self.socket.sendall(FORK)

    def spawned(self) -> Supervisor | None:
        """Wait for the supervisor that was asked for first; None: the fork server is dead.

        Raises:
            NoProcess: the machine has no room for one.
        """
        text, descriptors = IMPORTING, list[int]()
        while text.startswith(IMPORTING):
            try:
                text, descriptors, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1)
            except OSError:
                return None
            self._note(text)
        record = json.loads(text) if text else {}
        if "lacks" in record:
            raise NoProcess(record["lacks"])
        who = recorded(record)
        if who is None:  # it died at once
            for descriptor in descriptors:
                os.close(descriptor)
        if who is None or not descriptors:
            return None
        channel = socket.socket(fileno=descriptors[0])
        return Supervisor(who=who, version=str(record.get("version")), channel=channel)

    def answers(self) -> bool:
        """Tell whether `spawned` would answer at once."""
        while True:
            try:
                text = self.socket.recv(MESSAGE_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not text.startswith(IMPORTING):
                return True
            self._note(self.socket.recv(MESSAGE_BYTES))

    def close(self) -> bool:
        """End the process without restarting the scheduler; its supervisors live on.

        Returns False where it does not end: it stays while they have work, or hangs in the kernel, even of SIGKILL, as
        on a disk that does not answer. It is left then, and `collect` is to be called some time.
        """
        text = BYE
        with contextlib.suppress(OSError):  # it is dead, or imports its modules
            self.socket.settimeout(BYE_PATIENCE_S)
            self.socket.sendall(text)
            while text and text != STAYS:
                text = self.socket.recv(MESSAGE_BYTES)
        self.socket.close()
        if text == STAYS:
            return self.collect()
        if self._ends_within(BYE_PATIENCE_S):
            return True
        send(self._pid, signal.SIGKILL)  # it imports its modules still
        if self._ends_within(KILL_PATIENCE_S):
            return True
        logger.warning(
            "fork server pid=%d does not end after SIGKILL; it hangs in the kernel", self._pid
        )
        return False

    def collect(self) -> bool:
        """Tell whether the process has ended; its status is known then."""
        if self._status is None:
            try:
                ended, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # it was collected elsewhere
                self._status = 0
            else:
                self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status is not None

    @property
    def own_fault(self) -> Fault | None:
        """How a closed one died by itself before it had imported all; None where it did not."""
        status = self._status or 0
        if self._importing == "" or status == 0 or -status in _FROM_OUTSIDE:
            return None
        code = f"exit code {status}" if status > 0 else signal.Signals(-status).name
        how = f"died while it imported {self._importing or 'launcher'} ({code})"
        return Fault(how=how, module=self._importing or "")

    def _ends_within(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while not self.collect():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _note(self, text: bytes) -> None:
        """Keep in mind what it imports now."""
        if text.startswith(IMPORTING):
            self._importing = text[len(IMPORTING) :].decode()


def _environment(environment: WorkerEnvironment) -> dict[str, str]:
    """Return what a fork server has in its environment, beside what its scheduler has."""
    own = {SERVER: os.urandom(8).hex()}  # tells its forks from those of any other
    # a job's own path, never the scheduler's; for programs it makes no difference
    return own | ({"PYTHONPATH": environment.python_path} if environment.interpreter else {})


FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PROOF_S = 1.0  # what was started so long ago, and did not come back, began
QUIET_S = 60.0  # at most so often the log tells of it
FIRST_EXCLUSION_S = (
    2.0  # longer than the first pause of an outage, whose single try is then another job's
)
LONGEST_EXCLUSION_S = 60.0

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Outage:
    """Whether programs can be started, as the last tries showed; all times are monotonic seconds.

    After a try that came to nothing there is a pause, then one single try. Where that comes to
    nothing, too, the next pause is twice as long; where it does not, all goes on.
    """

    why: str = ""  # the system's error; empty: none
    _pause_s: float = 0.0
    _again_at: float = 0.0  # the single try comes then
    _tried_at: float | None = None  # it came
    _logged_at: float = float("-inf")

    def failed(self, why: str, now: float) -> None:
        """Begin a pause: a program could not be started, for a reason that is none of its own."""
        if self.why and self._tried_at is None and now < self._again_at:
            return  # it was tried together with the one for which we pause
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if self.why else FIRST_PAUSE_S
        self._again_at, self._tried_at = now + self._pause_s, None
        if not self.why and now >= self._logged_at + QUIET_S:
            logger.warning("starting=paused why=%r; tried again at growing intervals", why)
            self._logged_at = now
        self.why = why

    def admits(self, now: float) -> bool:
        """Tell whether a program may be started now."""
        if self.why and self._tried_at is not None and now >= self._tried_at + PROOF_S:
            if self._logged_at > float("-inf"):
                logger.info("starting=on")
            self.why, self._tried_at, self._pause_s = "", None, 0.0
        return not self.why or (self._tried_at is None and now >= self._again_at)

    def tried(self, now: float) -> None:
        """Record that a program is being started."""
        if self.why:
            self._tried_at = now

    def wait_s(self, now: float) -> float:
        """Return how long nothing can be started."""
        at = self._again_at if self._tried_at is None else self._tried_at + PROOF_S
        return max(0.0, at - now) if self.why else 0.0

    @property
    def reason(self) -> Reason:
        """Why nothing is started now."""
        text = (
            f"waiting for this machine, which cannot start programs now: {self.why} "
            f"(tried at least every {LONGEST_PAUSE_S:g} s)"
        )
        return Reason(code=ReasonCode.CANNOT_START, text=text)


class Exclusions(Generic[Key]):
    """Keys that are excluded until a time, so that others are tried; each exclusion lasts twice as long as the one before, up to a minute.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without exclusions."""
        self._exclusions: dict[Key, tuple[float, float]] = {}  # its end, how long it is

    def exclude(self, key: Key, now: float) -> None:
        """Exclude a key from now on; a second failure during one exclusion does not lengthen it."""
        self._exclusions = {
            other: (end, span_s)
            for other, (end, span_s) in self._exclusions.items()
            if now < end + LONGEST_EXCLUSION_S
        }
        end, span_s = self._exclusions.get(key, (0.0, FIRST_EXCLUSION_S / 2))
        if now >= end:
            span_s = min(2 * span_s, LONGEST_EXCLUSION_S)
            self._exclusions[key] = now + span_s, span_s

    def wait_s(self, key: Key, now: float) -> float:
        """Return how long a key is still excluded; 0: it may be tried."""
        return max(0.0, self._exclusions.get(key, (0.0, 0.0))[0] - now)


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
