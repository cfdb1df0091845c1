"""Fast path: when a job ends, the next job of the same class starts in its place without a full scheduling pass."""

from collections.abc import Sequence

from launcher.gpu.resources import ForeignReservation
from launcher.scheduler.start_jobs import Launches
from launcher.scheduler.started_attempts import Place
from launcher.store.rows import ReadyJob
from launcher.store.scheduler_actions import Scheduling

FRESH_S = 0.2  # so long a decision holds for those who take a place
Flow = tuple[int, int, int]  # priority, run and lane


def sole_flow(ready: Sequence[ReadyJob], foreign: Sequence[ForeignReservation]) -> Flow | None:
    """Return the only flow that waits, where all that its jobs need are cores that none else wants.

    Args:
        ready: the jobs that could start.
        foreign: what other homes have reserved.
    """
    flows = {job.flow: job.lane for job in ready}
    match [*flows.items()]:
        case [(flow, lane)] if not (
            lane.resources.may_need_gpu or lane.resources.ram is not None or lane.group or foreign
        ):
            return flow
    return None


class Succession:
    """The next job of a flow takes the place of one that has just ended.

    A whole decision looks at all lanes, the machine and other users, and waits for the sync of what
    it takes in. Between jobs that ask for the same, and while nothing else waits, it says the same
    each time: who takes the place needs what the one before had, and is the first of its flow. So the
    next one starts at once, and the end is taken in while it runs already. A whole decision follows
    within FRESH_S, and at once when anything else happens.
    """

    def __init__(self, queue: Scheduling, launches: Launches) -> None:
        """Begin without places that were left."""
        self._queue, self._launches = queue, launches
        self._flow: Flow | None = None  # the only one with jobs that could start
        self._until = 0.0  # monotonic
        self._left: list[Place] = []

    def allow(self, flow: Flow | None, now: float) -> None:
        """Note a decision.

        Args:
            flow: the only one with jobs that could start, if they may take a place; None: they may not.
            now: monotonic.
        """
        self._flow, self._until = flow, now + FRESH_S
        self._left.clear()

    def forbid(self) -> None:
        """Wait for a decision: something has changed."""
        self._flow = None
        self._left.clear()

    def leave(self, place: Place | None) -> None:
        """Note that an attempt has ended well, and that nothing of it lives."""
        if self._flow is None or place is None or place.job.flow != self._flow:
            self.forbid()
        else:
            self._left.append(place)

    def wait_s(self, now: float) -> float:
        """Return how long the last decision holds, 0 where it does not."""
        return 0.0 if self._flow is None else max(0.0, self._until - now)

    def due(self, now: float) -> bool:
        """Tell whether places may be taken."""
        return bool(self._left) and self.wait_s(now) > 0

    def fill(self) -> bool:
        """Claim a job for each place; False where one stays free. Inside a transaction."""
        places = self._left.copy()
        self._left.clear()
        self._launches.again_s = None
        for place in places:
            job = self._queue.successor(place.job)
            if job is None or self._launches.claim(job, place.start._replace(job=job.id)):
                return False
        return self._launches.again_s is None
