"""Whether another job of a search would start at once."""

import time
from pathlib import Path

from launcher.experiments.planning.first_wave import read_machine_state, would_start
from launcher.queue.backends.eligibility import runs_here
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec
from launcher.queue.store.lanes import lane_of
from launcher.queue.store.queue import Store
from launcher.queue.store.runs import read_fair_share_account


class Room:
    """Asks the scheduler's own policy."""

    def __init__(self, home: Home, store: Store) -> None:
        """Begin with a queue."""
        self._home, self._store = home, store

    def fits(self, spec: Spec, context: Context, *, opened_count: int, waits: bool) -> bool:
        """Return whether a job should be queued now.

        One job waits in line if none of the search runs, if it may run on a cluster, or if others wait for the same
        machine: so the search gets its share.

        Args:
            spec: The job.
            context: Where it runs.
            opened_count: Jobs of the search that wait or run.
            waits: Whether one of these jobs waits.
        """
        if not opened_count or not runs_here(spec.terms):
            return not waits
        state = read_machine_state(
            self._home,
            self._store,
            Path(spec.root),
            time.time(),
            reads_gpus=spec.resources.may_need_gpu,
        )
        account = read_fair_share_account(self._store.database.execute, Path(spec.root), spec.run)
        state = state._replace(account=account)
        return would_start(spec, lane_of(spec, context), state) or (not waits and bool(state.ready))
