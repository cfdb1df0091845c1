"""All fork servers of a scheduler, and the supervisors that wait for their next attempt."""

import contextlib
import errno
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from socket import MSG_DONTWAIT, MSG_PEEK

from launcher import __version__
from launcher.job import Breed
from launcher.system.backoff import Bars
from launcher.system.paths import Home
from launcher.workers.fork_server import Fault, NoProcess, Nursery, Supervisor
from launcher.workers.start_attempt import LACKS

AHEAD = 1  # supervisors that wait for work while others are busy
DEATHS = 3  # of a breed of which nobody ever came back: its interpreter, or a module, does not work
PAUSE_S = 1.0  # after so many deaths
RETIRE_S = 600.0  # what nobody has asked for so long gives its memory back
_NEVER = {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR}


class Unfit(Exception):
    """Nobody of a breed can be born: says why."""

    def __init__(self, why: str, *, sure: bool = True, passing: bool = False) -> None:
        """Begin.

        Args:
            why: in words.
            sure: another try would come to the same; False: somebody may have killed them.
            passing: a disk or an environment is not as it was; it is tried again after growing
                pauses, as a program is that cannot be started.
        """
        super().__init__(why)
        self.sure, self.passing = sure, passing


class Nurseries:
    """Starts a nursery when the first job of its breed comes, and keeps supervisors ahead."""

    def __init__(
        self, home: Home, *, most_idle: int, lacks: Callable[[str], None] = lambda _: None
    ) -> None:
        """Begin without any.

        Args:
            home: whose log the processes write to.
            most_idle: supervisors of a breed that are kept when they have nothing to do; fewer than
                run at once, and they would be born and sent away all the time.
            lacks: told why, when this machine has no room for another process.
        """
        self._lacks = lacks
        self._home, self._most_idle = home, most_idle
        self._living: dict[Breed, Nursery] = {}
        self._idle: dict[Breed, list[Supervisor]] = {}
        self._asked: Counter[Breed] = Counter()  # births that have not come
        self._proven: set[Breed] = set()  # somebody came back from an attempt
        self._deaths: Counter[Breed] = Counter()  # since then
        self._barred: dict[Breed, float] = {}  # not to be born before, monotonic
        self._passing: dict[Breed, Unfit] = {}  # why, where its jobs need not wait for that
        self._lacking = Bars[Breed]()  # those for which the machine had no room
        self._stillborn: dict[Breed, list[Fault]] = {}  # how fork servers died in their imports
        self._hung: list[Nursery] = []  # closed, and still not ended
        self._used: dict[Breed, float] = {}  # when somebody last asked for it, monotonic

    def take(self, breed: Breed) -> Supervisor | None:
        """Return a supervisor, which is the caller's now; None: one is on its way, or will be.

        Raises:
            Unfit: the interpreter of this breed cannot be run, or is another launcher's.
        """
        now = self._used[breed] = time.monotonic()
        if self.barred_s(breed) > 0:
            return None
        if now < self._barred.get(breed, 0.0):
            if breed in self._passing:  # its next job gives way as well, and is asked later
                raise self._passing[breed]
            return None
        self._passing.pop(breed, None)
        if self._deaths[breed] >= DEATHS:
            self._judge(breed, now)
            return None
        idle = self._idle.setdefault(breed, [])
        taken = idle.pop() if idle else None
        if taken is not None and taken.version != __version__:
            taken.channel.close()
            raise Unfit(
                f"{_named(breed)} has launcher {taken.version}, and the queue runs {__version__}"
            )
        while len(idle) + self._asked[breed] < AHEAD + (taken is None):
            if not self._ask(breed):
                break
        return taken

    def give_back(self, breed: Breed, supervisor: Supervisor) -> None:
        """Keep a supervisor whose attempt has ended for the next one."""
        idle = self._idle.setdefault(breed, [])
        dead = _is_dead(supervisor)
        if not dead:
            self._proven.add(breed)
            self._deaths[breed] = 0
        if dead or breed not in self._living or len(idle) >= self._most_idle:
            supervisor.channel.close()  # it leaves
            return
        idle.append(supervisor)

    def prepare(self, breed: Breed) -> None:
        """Have a supervisor ready before the first job comes; that none can be had is told to that."""
        self._used[breed] = time.monotonic()
        with contextlib.suppress(Unfit):
            self._ask(breed)

    def births(self, news: Collection[int] | None = None) -> None:
        """Take in supervisors that were born since the last call, and drop those that died.

        Args:
            news: the descriptors that are readable; None: not known.
        """
        for breed, nursery in list(self._living.items()):
            if news is not None and nursery.socket.fileno() not in news:
                continue
            while nursery.answers():
                try:
                    supervisor = nursery.born()
                except NoProcess as error:
                    self._asked[breed] -= 1
                    self._put_off(breed, str(error))
                    continue
                if supervisor is None:
                    self._bury(breed)
                    break
                self._asked[breed] -= 1
                self._stillborn.pop(breed, None)
                self._idle.setdefault(breed, []).append(supervisor)
        for breed, idle in self._idle.items():
            silent = idle if news is None else [o for o in idle if o.channel.fileno() in news]
            for supervisor in [server for server in silent if _is_dead(server)]:
                idle.remove(supervisor)
                supervisor.channel.close()
                self._deaths[breed] += 1

    def retire(self) -> None:
        """Let go of breeds that nobody has asked for lately; who has an attempt sees it through."""
        now = time.monotonic()
        self._hung = [server for server in self._hung if not server.collect()]
        for breed in [server for server in self._living if now - self._used[server] > RETIRE_S]:
            for supervisor in self._idle.pop(breed, []):
                supervisor.channel.close()
            self._close(self._living.pop(breed))
            self._asked[breed] = 0

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when there is news."""
        for nursery in self._living.values():
            yield nursery.socket.fileno()
        for idle in self._idle.values():
            yield from (server.channel.fileno() for server in idle)

    def close(self) -> None:
        """Let all of them end; supervisors with an attempt see it through."""
        for idle in self._idle.values():
            for supervisor in idle:
                supervisor.channel.close()
        for nursery in self._living.values():
            self._close(nursery)

    def barred_s(self, breed: Breed) -> float:
        """Return how long a breed is passed over for which the machine had no room; 0: it is not."""
        return self._lacking.wait_s(breed, time.monotonic())

    def _judge(self, breed: Breed, now: float) -> None:
        """Say what it means that nobody of a breed came to life, several times.

        Raises:
            Unfit: its jobs cannot start, now or ever.
        """
        self._deaths[breed] = 0
        self._barred[breed] = now + PAUSE_S
        faults = self._stillborn.pop(breed, [])
        log = self._home.scheduler_log
        if len(faults) >= DEATHS:
            how = f"it {faults[-1].how}, {len(faults)} times"
            why = f"{_named(breed)} does not start: {how}; see {log}"
            if breed in self._proven and not all(server.module for server in faults):
                raise self._pass(breed, why)  # it is being installed anew
            raise Unfit(why)
        if breed not in self._proven:
            raise Unfit(f"{_named(breed)} does not start; see {log}", sure=False)

    def _pass(self, breed: Breed, why: str) -> Unfit:
        """Let all jobs of a breed give way for a moment."""
        self._barred[breed] = time.monotonic() + PAUSE_S
        self._passing[breed] = Unfit(why, passing=True)
        return self._passing[breed]

    def _close(self, nursery: Nursery) -> None:
        if not nursery.close():
            self._hung.append(nursery)

    def _ask(self, breed: Breed) -> bool:
        """Ask for one more; False when that cannot be done just now.

        Raises:
            Unfit: the interpreter cannot be run.
        """
        if breed not in self._living:
            try:
                self._living[breed] = Nursery(self._home, breed)
            except OSError as error:
                why = f"cannot run {_named(breed)}: {error.strerror}"
                if error.errno in LACKS:
                    self._put_off(breed, str(error.strerror))
                    return False
                if error.errno in _NEVER:
                    raise Unfit(why) from error
                raise self._pass(breed, why) from error
        self._living[breed].ask()
        self._asked[breed] += 1
        return True

    def _put_off(self, breed: Breed, why: str) -> None:
        self._lacking.bar(breed, time.monotonic())
        self._lacks(why)

    def _bury(self, breed: Breed) -> None:
        nursery = self._living.pop(breed)
        self._close(nursery)
        self._asked[breed] = 0
        self._deaths[breed] += 1
        if nursery.own_fault is not None:
            self._stillborn.setdefault(breed, []).append(nursery.own_fault)


def _named(breed: Breed) -> str:
    return breed.interpreter or "our own Python"


def _is_dead(idle: Supervisor) -> bool:
    """Tell whether an idle supervisor's channel has come to its end; it says nothing else."""
    try:
        return not idle.channel.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
