"""All nodes of one scheduler: this machine, and the pilots that have registered."""

from collections import Counter
from collections.abc import Callable, Iterable

from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.home.paths import Home
from launcher.queue.scheduler.backfill_holds import BackfillHolds
from launcher.queue.scheduler.node import AttemptHost, Node
from launcher.queue.scheduler.pilot_events import PilotEvents
from launcher.queue.scheduler.pilot_node import GonePilot, PilotNode
from launcher.queue.store.rows import Claim
from launcher.queue.store.usage import UsageLookup


class Nodes:
    """All nodes of one scheduler.

    Attributes:
        local: This machine.
        backfill_holds: On which pilots places are kept.
    """

    def __init__(
        self,
        home: Home,
        local: Node,
        pilot_pool: PilotPool,
        claims: Callable[[], Iterable[Claim]],
        usage_lookup: UsageLookup,
        events: PilotEvents,
    ) -> None:
        """Start without pilots.

        Args:
            home: Queue folder with the attempts.
            local: As the attribute.
            pilot_pool: The existing pilots.
            claims: Returns every attempt that has a place.
            usage_lookup: Returns the recorded usage of jobs of a signature on a GPU type.
            events: Events of pilots.
        """
        self.local, self._home, self._pilot_pool = local, home, pilot_pool
        self._claims, self._usage_lookup, self._events = claims, usage_lookup, events
        self.backfill_holds = BackfillHolds()
        self._pilots: dict[str, PilotNode] = {}  # by token

    def list_nodes(self) -> list[Node]:
        """Return all nodes: this machine, and the registered pilots."""
        return [self.local, *self.list_pilots()]

    def list_pilots(self) -> list[PilotNode]:
        """Return the registered pilots with their attempts."""
        before, self._pilots = self._pilots, {}
        for link in self._pilot_pool.all_links:
            if link.registration is not None:
                node = before.get(link.token) or PilotNode(
                    link, self._usage_lookup, self._home, self._events, self.backfill_holds
                )
                node.set_claims([])
                self._pilots[link.token] = node
        for claim in self._claims() if self._pilots else ():
            if claim.pilot in self._pilots:
                self._pilots[claim.pilot].claims.append(claim)
        return [*self._pilots.values()]

    def attempts_by_pilot(self) -> Counter[str]:
        """Return the number of attempts by token of their pilot, which need not be registered."""
        return Counter(claim.pilot for claim in self._claims() if claim.pilot)

    def host_of(self, claim: Claim) -> AttemptHost:
        """Return where an attempt is or was."""
        if not claim.pilot:
            return self.local
        self.list_pilots()
        return self._pilots.get(claim.pilot) or GonePilot(claim, self._events.adopt)
