"""All fork servers of a scheduler: which job goes to which, and what became of each order."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.nursery import Breed, Nursery
from launcher.orders import Order
from launcher.paths import Home
from launcher.store.rows import Claim

KINDS = "launcher.kinds"  # what a worker imports of ours, and with it pydantic


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an order."""

    claim: Claim
    descriptor: int | None  # readable when the supervisor ends; None: there is none
    why: str = ""  # there is none


class Nurseries:
    """Starts a nursery when the first job of its breed comes; orders wait while it loads."""

    def __init__(self, home: Home) -> None:
        """Begin without any."""
        self._home = home
        self._living: dict[Breed, Nursery] = {}
        self._unanswered: dict[Breed, deque[Claim]] = {}  # oldest first

    def order(self, claim: Claim, order: Order) -> None:
        """Ask for a supervisor of an attempt; `answers` tells of it later.

        Raises:
            OSError: the job's interpreter cannot be run.
        """
        breed = Breed(
            order.context.interpreter,
            (*order.spec.preload, KINDS) if order.spec.entry else (),
            order.context.environment.get("PYTHONPATH", ""),
        )
        nursery = self._living.get(breed) or Nursery(self._home, breed)
        self._living[breed] = nursery
        nursery.order(self._home.attempt(claim.job, claim.number))
        self._unanswered.setdefault(breed, deque()).append(claim)

    def promised(self) -> Iterator[Claim]:
        """Return the claims whose orders are not answered yet."""
        for claims in self._unanswered.values():
            yield from claims

    def answers(self) -> list[Answer]:
        """Return what is known of orders since the last call; nothing is waited for."""
        found = []
        for breed, nursery in list(self._living.items()):
            while nursery.answers():
                descriptor = nursery.born()
                if descriptor is None:
                    found += self._bury(breed)
                    break
                claim = self._unanswered[breed].popleft()
                found.append(Answer(claim=claim, descriptor=descriptor))
        return found

    def descriptors(self) -> list[int]:
        """Return what becomes readable when there are answers."""
        return [nursery.socket.fileno() for nursery in self._living.values()]

    def close(self) -> None:
        """Let all of them end; their supervisors live on."""
        for nursery in self._living.values():
            nursery.close()

    def _bury(self, breed: Breed) -> list[Answer]:
        self._living.pop(breed).close()
        why = f"{breed.interpreter} does not start; see {self._home.scheduler_log}"
        orphans = self._unanswered.pop(breed, deque())
        return [Answer(claim=claim, descriptor=None, why=why) for claim in orphans]
