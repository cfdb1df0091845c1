"""The pilots of a backend as a partition: which jobs they can ever hold, and why the others wait."""

from collections.abc import Callable, Collection, Mapping, Sequence

from launcher.queue.backends.eligibility import why_never_fits
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.node import Node
from launcher.queue.scheduler.partition import Partition, combine_reasons
from launcher.queue.scheduler.pilot_node import PilotNode
from launcher.queue.store.rows import ReadyJob


class PilotPartition(Partition):
    """The pilots of a backend in one decision."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings | str,
        pilots: Sequence[PilotNode],
        *,
        unserved_reason: str,
        count_again: Callable[[], None],
    ) -> None:
        """Start with the pilots that take jobs.

        Args:
            name: The backend.
            settings: Its settings, or why there are none.
            pilots: Pilots that take jobs.
            unserved_reason: Why it has no further pilot, '' if unknown.
            count_again: Has the waiting jobs counted at once.
        """
        self._name, self._settings, self._pilots = name, settings, pilots
        self._unserved, self._count_again = unserved_reason, count_again

    @property
    def name(self) -> str:
        """The name of the backend."""
        return self._name

    def begin_turn(self, ready: Sequence[ReadyJob], result: CycleResult) -> Mapping[int, Reason]:  # noqa: ARG002  # a pilot wakes the scheduler
        """Return the jobs that no pilot of the backend can hold, with reasons."""
        if isinstance(self._settings, str):
            reason = Reason(code=ReasonCode.NO_PILOT, text=self._settings)
            return {job.id: reason for job in ready}
        reasons: dict[int, Reason] = {}
        for job in ready:
            if never := why_never_fits(job.lane.resources, job.lane.limit, self._settings):
                reasons[job.id] = Reason(code=ReasonCode.NEVER_FITS, text=never)
        return reasons

    def nodes(self) -> Sequence[Node]:
        """Return the pilots that take jobs."""
        return self._pilots

    def end_turn(self, reasons: Collection[Reason | None], result: CycleResult) -> None:  # noqa: ARG002  # a pilot wakes the scheduler
        """Have the demand counted again if a pilot for one job got it: that job asks for no other pilot."""
        if isinstance(self._settings, str) or self._settings.pilot:
            return
        if None in reasons:
            self._count_again()

    def explain(self, reason: Reason | None) -> Reason:
        """Return why a job waits for the pilots, with why there is no further one."""
        if reason is None and self._pilots:
            cores = sum(pilot.registration.cpus for pilot in self._pilots)
            pilots = "its pilot" if len(self._pilots) == 1 else f"its {len(self._pilots)} pilots"
            busy = (
                f"all {cores} cores of {pilots} are busy"
                if cores != 1
                else f"the core of {pilots} is busy"
            )
            reason = Reason(code=ReasonCode.NO_ROOM, text=busy)
        if reason is None:
            text = self._unserved or "its first pilot will be submitted next"
            return Reason(code=ReasonCode.NO_PILOT, text=text)
        if self._unserved:
            return reason._replace(text=f"{reason.text}; {self._unserved}")
        return reason

    def explain_alone(self, reason: Reason) -> Reason:
        """Return the reason of a job that may run only there, with the name of the backend."""
        return combine_reasons([(self._name, reason)])
