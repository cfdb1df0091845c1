"""All fork servers of a scheduler, and the supervisors that wait for their next attempt."""

from collections import Counter
from collections.abc import Collection, Iterator
from socket import MSG_DONTWAIT, MSG_PEEK

from launcher.nursery import Nursery, Supervisor
from launcher.paths import Home
from launcher.specs import Breed

AHEAD = 1  # supervisors that wait for work while others are busy
DEATHS = 3  # without one birth between them: the interpreter, or a module, does not work


class Nurseries:
    """Starts a nursery when the first job of its breed comes, and keeps supervisors ahead."""

    def __init__(self, home: Home, *, most_idle: int) -> None:
        """Begin without any.

        Args:
            home: whose log the processes write to.
            most_idle: supervisors of a breed that are kept when they have nothing to do; fewer than
                run at once, and they would be born and sent away all the time.
        """
        self._home, self._most_idle = home, most_idle
        self._living: dict[Breed, Nursery] = {}
        self._idle: dict[Breed, list[Supervisor]] = {}
        self._asked: Counter[Breed] = Counter()  # births that have not come
        self._deaths: Counter[Breed] = Counter()

    def take(self, breed: Breed) -> Supervisor | None:
        """Return a supervisor, which is the caller's now; None: one is on its way.

        Raises:
            OSError: the interpreter of this breed cannot be run, or dies again and again.
        """
        if self._deaths[breed] >= DEATHS:
            self._deaths[breed] = 0  # another try, when somebody asks again
            raise OSError(0, f"{breed.interpreter} does not start; see {self._home.scheduler_log}")
        idle = self._idle.setdefault(breed, [])
        taken = idle.pop() if idle else None
        while len(idle) + self._asked[breed] < AHEAD + (taken is None):
            self._ask(breed)
        return taken

    def give_back(self, breed: Breed, supervisor: Supervisor) -> None:
        """Keep a supervisor whose attempt has ended for the next one."""
        idle = self._idle.setdefault(breed, [])
        if breed in self._living and len(idle) < self._most_idle and not _is_dead(supervisor):
            idle.append(supervisor)
        else:
            supervisor.channel.close()  # it leaves

    def prepare(self, breed: Breed) -> None:
        """Have a supervisor ready before the first job comes."""
        if not self._idle.get(breed) and not self._asked[breed]:
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
                supervisor = nursery.born()
                if supervisor is None:
                    self._bury(breed)
                    break
                self._deaths[breed] = 0
                self._asked[breed] -= 1
                self._idle.setdefault(breed, []).append(supervisor)
        for idle in self._idle.values():
            silent = idle if news is None else [o for o in idle if o.channel.fileno() in news]
            for supervisor in [one for one in silent if _is_dead(one)]:
                idle.remove(supervisor)
                supervisor.channel.close()

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when there is news."""
        for nursery in self._living.values():
            yield nursery.socket.fileno()
        for idle in self._idle.values():
            yield from (one.channel.fileno() for one in idle)

    def close(self) -> None:
        """Let all of them end; supervisors with an attempt see it through."""
        for idle in self._idle.values():
            for supervisor in idle:
                supervisor.channel.close()
        for nursery in self._living.values():
            nursery.close()

    def _ask(self, breed: Breed) -> None:
        if breed not in self._living:
            self._living[breed] = Nursery(self._home, breed)
        self._living[breed].ask()
        self._asked[breed] += 1

    def _bury(self, breed: Breed) -> None:
        self._living.pop(breed).close()
        self._asked[breed] = 0
        self._deaths[breed] += 1


def _is_dead(idle: Supervisor) -> bool:
    """Tell whether an idle supervisor's channel has come to its end; it says nothing else."""
    try:
        return not idle.channel.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
