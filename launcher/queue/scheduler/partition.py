"""A partition, as Slurm calls it: the nodes among which a job chooses by one word of `on`.

This machine is `local_partition.LocalPartition`, the pilots of a backend are a `pilot_partition.PilotPartition`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from launcher.queue.jobs.states import Reason
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.node import Node
from launcher.queue.scheduler.policy.inventory import WAITING_FOR
from launcher.queue.store.rows import ReadyJob


class Partition(Protocol):
    """The nodes that a job names by one word of `on`: this machine, or the pilots of a backend."""

    @property
    def name(self) -> str:
        """The word."""

    def begin_turn(self, ready: Sequence[ReadyJob], result: CycleResult) -> Mapping[int, Reason]:
        """Begin a decision. Return the jobs that cannot start there now, with reasons.

        Args:
            ready: All jobs that may run there.
            result: Receives the time of the next cycle.
        """

    def nodes(self) -> Sequence[Node]:
        """Return the nodes that take jobs in this turn."""

    def end_turn(self, reasons: Collection[Reason | None], result: CycleResult) -> None:
        """End a decision.

        Args:
            reasons: Why its jobs do not start there, None for each that does.
            result: Receives the time of the next cycle.
        """

    def explain(self, reason: Reason | None) -> Reason:
        """Return why a job does not start there. The given reason is None if no node examined the job."""

    def explain_alone(self, reason: Reason) -> Reason:
        """Return the reason of a job that may run only there."""


def combine_reasons(waits: Sequence[tuple[str, Reason]]) -> Reason:
    """Return why a job waits that may run in several partitions; each is named.

    Args:
        waits: Partitions and why it does not start there, in the order in which they were asked.
    """
    _, first = waits[0]
    places = (f"{name}: {_shorten_reason(reason.text)}" for name, reason in waits)
    return first._replace(text=f"{WAITING_FOR}{'; '.join(places)}")


def _shorten_reason(text: str) -> str:
    """Return why a job waits in a partition, in a form that can follow the name of the partition."""
    if not text.startswith(WAITING_FOR):
        return text
    request, _, cause = text.removeprefix(WAITING_FOR).partition(": ")
    return f"{request} ({cause})" if cause else request
