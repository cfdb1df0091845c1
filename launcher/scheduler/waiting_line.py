"""The line of waiting jobs: in which order decisions look at them, over the turns of one scheduler."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.accounts import Account
from launcher.scheduler.policy.disciplines import (
    Ages,
    Discipline,
    QueueLengths,
    arranged,
    length_of,
    queue_length,
)
from launcher.scheduler.policy.model import Machine, Running, Waiting, waiting
from launcher.scheduler.run_turns import Newcomers, in_turn
from launcher.store.rows import ReadyJob
from launcher.store.scheduler_actions import Scheduling


@dataclass(frozen=True, slots=True)
class Line:
    """Waiting jobs in their order, and what runs."""

    jobs: Sequence[Waiting]
    here: Sequence[Running]  # on this machine
    elsewhere: Sequence[Running]  # on pilots


class WaitingLine:
    """Knows what tells the order of jobs beside their rank: how long they wait, what their runs had."""

    def __init__(self, queue: Scheduling) -> None:
        """Begin without having seen any job."""
        self._queue = queue
        self._ages, self._newcomers, self._lengths = Ages(), Newcomers(), QueueLengths()

    def forget(self) -> None:
        """Find out anew where runs begin that have just come: what was stored of that came to nothing."""
        self._newcomers = Newcomers()

    def arranged(
        self,
        ready: Sequence[ReadyJob],
        here: Sequence[Running],
        elsewhere: Sequence[Running],
        machine: Machine,
        now: float,
        discipline: Discipline,
    ) -> Line:
        """Return the jobs in the order in which they are looked at.

        Args:
            ready: all that could start.
            here: what runs on this machine.
            elsewhere: what runs on pilots.
            machine: this one.
            now: seconds since 1970.
            discipline: the policy.
        """
        usage = self._queue.usage
        seen, running = self._ages.corrected(
            [waiting(job, usage(job.lane.signature)) for job in ready],
            [*here, *elsewhere],
            now=now,
            steady=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        if self._lengths.due(now):
            heads = {job.lane_id: head for job, head in zip(ready, seen, strict=True)}
            counts = self._queue.waiting_by_lane()
            self._lengths.note(now, queue_length(length_of(heads, counts), running, machine, now))
        accounts = self._accounts(ready, running, now)
        line = arranged(self._lengths.patient(seen), now, discipline)
        ordered = in_turn(line, running, accounts, now, discipline)
        return Line(ordered, running[: len(here)], running[len(here) :])

    def _accounts(
        self, ready: Sequence[ReadyJob], running: Sequence[Running], now: float
    ) -> dict[str, Account]:
        """Return what the runs had that wait; where those begin that have just come is stored."""
        accounts = {str(job.account.run): job.account for job in ready}
        entered = self._newcomers.entered(accounts, running, now)
        changed = {run: each.vtime for run, each in entered.items() if each != accounts[run]}
        if changed:
            self._queue.set_vtimes(changed)
        return entered
