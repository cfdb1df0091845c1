"""Succession: the next job of a lane takes the place of one that has just ended.

A whole decision looks at all lanes, the machine and other users, and waits for the sync of what it takes
in. Between jobs that ask for the same, and while nothing else waits, it says the same each time: who
takes the place needs what the one before had. So the next one starts at once, and the end is taken in
while it runs already. A whole decision follows within `FRESH_S`, and at once when anything else happens.
"""

from dataclasses import replace

from launcher.scheduler.attempt_watch import Place
from launcher.scheduler.start_jobs import Launches
from launcher.store.scheduler_actions import Scheduling

FRESH_S = 0.2  # so long a decision holds for those who take a place


class Succession:
    """The places that attempts have left since the last decision."""

    def __init__(self, queue: Scheduling, launches: Launches) -> None:
        """Begin without places."""
        self._queue, self._launches = queue, launches
        self._lane: int | None = None  # the only one with jobs that could start
        self._until = 0.0  # monotonic
        self._left: list[Place] = []

    def allow(self, lane: int | None, now: float) -> None:
        """Note a decision.

        Args:
            lane: the only one with jobs that could start, if they may take a place; None: they may not.
            now: monotonic.
        """
        self._lane, self._until = lane, now + FRESH_S
        self._left.clear()

    def forbid(self) -> None:
        """Wait for a decision: something has changed."""
        self._lane = None
        self._left.clear()

    def leave(self, place: Place | None) -> None:
        """Note that an attempt has ended well, and that nothing of it lives."""
        if self._lane is None or place is None or place.job.lane_id != self._lane:
            self.forbid()
        else:
            self._left.append(place)

    def wait_s(self, now: float) -> float:
        """Return how long the last decision holds, 0 where it does not."""
        return 0.0 if self._lane is None else max(0.0, self._until - now)

    def due(self, now: float) -> bool:
        """Tell whether places may be taken."""
        return bool(self._left) and self.wait_s(now) > 0

    def fill(self) -> bool:
        """Claim a job for each place; False where one stays free. Inside a transaction."""
        places = self._left.copy()
        self._left.clear()
        self._launches.again_s = None
        for place in places:
            job = self._queue.next_in(place.job)
            if job is None or self._launches.claim(job, replace(place.start, job=job.id)):
                return False
        return self._launches.again_s is None
