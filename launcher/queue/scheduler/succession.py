"""Fast path: when a job ends, the next job of the same class starts in its place without a full scheduling pass."""

from collections.abc import Sequence

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.scheduler.node import Node
from launcher.queue.scheduler.start_jobs import LaunchBatch
from launcher.queue.scheduler.started_attempts import Assignment
from launcher.queue.store.ready_jobs import ReadyJobs
from launcher.queue.store.rows import ReadyJob

DECISION_VALID_S = 0.2  # seconds for which a decision is valid for reused slots
JobClassKey = tuple[int, int, int]  # priority, run and lane


def find_only_job_class(
    ready: Sequence[ReadyJob], foreign: Sequence[ForeignReservation]
) -> JobClassKey | None:
    """Return the only waiting job class if its jobs need only cores and no other queue has reservations, otherwise None.

    Args:
        ready: The jobs that could start.
        foreign: Reservations of other queues.
    """
    flows = {job.job_class: job.lane for job in ready}
    match [*flows.items()]:
        case [(flow, lane)] if not (
            lane.resources.may_need_gpu or lane.resources.ram is not None or lane.group or foreign
        ):
            return flow
    return None


class SlotReuse:
    """The next job of a class reuses the slot of one that has just ended.

    A full decision reads all lanes, the machine and other users, and waits for the sync of the
    recorded ends. Between jobs with the same request, and while nothing else waits, its result is
    always the same: the first job of the class takes the slot. The next job therefore starts at
    once, and the end is recorded while it already runs. A full decision follows within
    DECISION_VALID_S, and at once when anything else happens.
    """

    def __init__(self, ready_jobs: ReadyJobs, launches: LaunchBatch, node: Node) -> None:
        """Begin without places that were left on a node."""
        self._ready_jobs, self._launches, self._node = ready_jobs, launches, node
        self._job_class: JobClassKey | None = None  # the only class with jobs that could start
        self._until = 0.0  # monotonic
        self._freed: list[Assignment] = []

    def allow(self, job_class: JobClassKey | None, now: float) -> None:
        """Record a decision.

        Args:
            job_class: The only class with startable jobs if they may reuse slots, otherwise None.
            now: Monotonic seconds.
        """
        self._job_class, self._until = job_class, now + DECISION_VALID_S
        self._freed.clear()

    def forbid(self) -> None:
        """Wait for a decision: something has changed."""
        self._job_class = None
        self._freed.clear()

    def add_freed(self, assignment: Assignment | None) -> None:
        """Note that an attempt has ended well, and that none of its processes lives."""
        if (
            self._job_class is None
            or assignment is None
            or assignment.job.job_class != self._job_class
        ):
            self.forbid()
        else:
            self._freed.append(assignment)

    def wait_s(self, now: float) -> float:
        """Return how long the last decision holds, 0 if it does not."""
        return 0.0 if self._job_class is None else max(0.0, self._until - now)

    def has_slots(self, now: float) -> bool:
        """Whether slots may be reused."""
        return bool(self._freed) and self.wait_s(now) > 0

    def start_next_jobs(self) -> bool:
        """Claim a job for each place; False if one stays free. Inside a transaction."""
        places = self._freed.copy()
        self._freed.clear()
        self._launches.retry_s = None
        for place in places:
            job = self._ready_jobs.next_in_class(place.job)
            if job is None:
                return False
            if self._launches.claim(job, place.start._replace(job=job.id), self._node):
                return False
        return self._launches.retry_s is None
