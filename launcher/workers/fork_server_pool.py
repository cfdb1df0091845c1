"""All fork servers of a scheduler, and the supervisors that wait for their next attempt."""

import contextlib
import errno
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from socket import MSG_DONTWAIT, MSG_PEEK

from launcher import __version__
from launcher.context import WorkerEnvironment
from launcher.system.paths import Home
from launcher.workers.fork_server_client import Fault, ForkServer, NoProcess, Supervisor
from launcher.workers.spawn_outage import Exclusions
from launcher.workers.start_attempt import LACKS

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
        self._living: dict[WorkerEnvironment, ForkServer] = {}
        self._idle: dict[WorkerEnvironment, list[Supervisor]] = {}
        self._requested: Counter[WorkerEnvironment] = Counter()  # supervisors that have not come
        self._proven: set[WorkerEnvironment] = set()  # a supervisor came back from an attempt
        self._deaths: Counter[WorkerEnvironment] = Counter()  # since then
        self._excluded: dict[
            WorkerEnvironment, float
        ] = {}  # until when nothing is forked, monotonic
        self._passing: dict[
            WorkerEnvironment, Unusable
        ] = {}  # the reason, where its jobs need not wait for that
        self._lacking = Exclusions[WorkerEnvironment]()  # those for which the machine had no room
        self._import_faults: dict[
            WorkerEnvironment, list[Fault]
        ] = {}  # how fork servers died in their imports
        self._hung: list[ForkServer] = []  # closed, and still not ended
        self._used: dict[WorkerEnvironment, float] = {}  # when a job last asked for it, monotonic

    def take(self, environment: WorkerEnvironment) -> Supervisor | None:
        """Return a supervisor, which is the caller's now; None: one is on its way, or will be.

        Raises:
            Unusable: this environment's interpreter cannot be run, or is another launcher's.
        """
        now = self._used[environment] = time.monotonic()
        if self.excluded_s(environment) > 0:
            return None
        if now < self._excluded.get(environment, 0.0):
            if environment in self._passing:  # its next job gives way as well, and is asked later
                raise self._passing[environment]
            return None
        self._passing.pop(environment, None)
        if self._deaths[environment] >= DEATHS:
            self._judge(environment, now)
            return None
        idle = self._idle.setdefault(environment, [])
        taken = idle.pop() if idle else None
        if taken is not None and taken.version != __version__:
            taken.channel.close()
            raise Unusable(
                f"{_named(environment)} has launcher {taken.version}, and the queue runs {__version__}"
            )
        while len(idle) + self._requested[environment] < AHEAD + (taken is None):
            if not self._ask(environment):
                break
        return taken

    def give_back(self, environment: WorkerEnvironment, supervisor: Supervisor) -> None:
        """Keep a supervisor whose attempt has ended for the next one."""
        idle = self._idle.setdefault(environment, [])
        dead = _is_dead(supervisor)
        if not dead:
            self._proven.add(environment)
            self._deaths[environment] = 0
        if dead or environment not in self._living or len(idle) >= self._most_idle:
            supervisor.channel.close()  # it leaves
            return
        idle.append(supervisor)

    def prepare(self, environment: WorkerEnvironment) -> None:
        """Have a supervisor ready before the first job comes; if none can be had, that job reports it."""
        self._used[environment] = time.monotonic()
        with contextlib.suppress(Unusable):
            self._ask(environment)

    def collect_spawned(self, news: Collection[int] | None = None) -> bool:
        """Collect supervisors forked since the last call, and drop those that died.

        Args:
            news: the descriptors that are readable; None: not known.

        Returns whether there was anything new.
        """
        anything = False
        for environment, fork_server in list(self._living.items()):
            if news is not None and fork_server.socket.fileno() not in news:
                continue
            while fork_server.answers():
                anything = True
                try:
                    supervisor = fork_server.spawned()
                except NoProcess as error:
                    self._requested[environment] -= 1
                    self._put_off(environment, str(error))
                    continue
                if supervisor is None:
                    self._remove(environment)
                    break
                self._requested[environment] -= 1
                self._import_faults.pop(environment, None)
                self._idle.setdefault(environment, []).append(supervisor)
        for environment, idle in self._idle.items():
            silent = idle if news is None else [o for o in idle if o.channel.fileno() in news]
            for supervisor in [server for server in silent if _is_dead(server)]:
                idle.remove(supervisor)
                supervisor.channel.close()
                self._deaths[environment] += 1
                anything = True
        return anything

    def retire(self) -> None:
        """Close fork servers unused for RETIRE_S; supervisors with an attempt finish it."""
        now = time.monotonic()
        self._hung = [server for server in self._hung if not server.collect()]
        for environment in [
            server for server in self._living if now - self._used[server] > RETIRE_S
        ]:
            for supervisor in self._idle.pop(environment, []):
                supervisor.channel.close()
            self._close(self._living.pop(environment))
            self._requested[environment] = 0

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when there is news."""
        for fork_server in self._living.values():
            yield fork_server.socket.fileno()
        for idle in self._idle.values():
            yield from (server.channel.fileno() for server in idle)

    def close(self) -> None:
        """Close all fork servers; supervisors with an attempt finish it."""
        for idle in self._idle.values():
            for supervisor in idle:
                supervisor.channel.close()
        for fork_server in self._living.values():
            self._close(fork_server)

    def excluded_s(self, environment: WorkerEnvironment) -> float:
        """Return how long an environment is excluded because the machine had no room; 0: it is not."""
        return self._lacking.wait_s(environment, time.monotonic())

    def _judge(self, environment: WorkerEnvironment, now: float) -> None:
        """Decide what repeated deaths in one environment mean.

        Raises:
            Unusable: its jobs cannot start, now or ever.
        """
        self._deaths[environment] = 0
        self._excluded[environment] = now + PAUSE_S
        faults = self._import_faults.pop(environment, [])
        log = self._home.scheduler_log
        if len(faults) >= DEATHS:
            how = f"it {faults[-1].how}, {len(faults)} times"
            why = f"{_named(environment)} does not start: {how}; see {log}"
            if environment in self._proven and not all(server.module for server in faults):
                raise self._pass(environment, why)  # it is being installed anew
            raise Unusable(why)
        if environment not in self._proven:
            raise Unusable(f"{_named(environment)} does not start; see {log}", sure=False)

    def _pass(self, environment: WorkerEnvironment, why: str) -> Unusable:
        """Exclude an environment for a moment, so that its jobs give way to others."""
        self._excluded[environment] = time.monotonic() + PAUSE_S
        self._passing[environment] = Unusable(why, passing=True)
        return self._passing[environment]

    def _close(self, fork_server: ForkServer) -> None:
        if not fork_server.close():
            self._hung.append(fork_server)

    def _ask(self, environment: WorkerEnvironment) -> bool:
        """Ask for one more; False when that cannot be done just now.

        Raises:
            Unusable: the interpreter cannot be run.
        """
        if environment not in self._living:
            try:
                self._living[environment] = ForkServer(self._home, environment)
            except OSError as error:
                why = f"cannot run {_named(environment)}: {error.strerror}"
                if error.errno in LACKS:
                    self._put_off(environment, str(error.strerror))
                    return False
                if error.errno in _NEVER:
                    raise Unusable(why) from error
                raise self._pass(environment, why) from error
        self._living[environment].ask()
        self._requested[environment] += 1
        return True

    def _put_off(self, environment: WorkerEnvironment, why: str) -> None:
        self._lacking.exclude(environment, time.monotonic())
        self._lacks(why)

    def _remove(self, environment: WorkerEnvironment) -> None:
        fork_server = self._living.pop(environment)
        self._close(fork_server)
        self._requested[environment] = 0
        self._deaths[environment] += 1
        if fork_server.own_fault is not None:
            self._import_faults.setdefault(environment, []).append(fork_server.own_fault)


def _named(environment: WorkerEnvironment) -> str:
    return environment.interpreter or "our own Python"


def _is_dead(idle: Supervisor) -> bool:
    """Tell whether an idle supervisor's channel has come to its end; it says nothing else."""
    try:
        return not idle.channel.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
