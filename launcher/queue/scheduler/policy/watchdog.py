"""Reports an unexplained wait with its numbers and tries the job alone if it fits.

`decide` gives a reason for every wait. If none of our jobs runs, no other process is seen on the
machine and no rule of the user applies, that reason cannot be the whole truth. A program may have
left memory behind that no process owns, or the rules contradict each other. Such a wait would never
end.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from launcher.queue.gpu.monitor import QUIET_UTILISATION
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.states import ReasonCode
from launcher.queue.scheduler.policy.gpu_slot import GpuState
from launcher.queue.scheduler.policy.inventory import Inventory
from launcher.queue.scheduler.policy.model import (
    Decision,
    GpuRequest,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
)
from launcher.system.units import format_bytes, format_seconds

PATIENCE_S = 30.0  # seconds; effects of just ended processes and late readings have passed by then
# reasons caused by our other jobs, other queues or the machine; without these there is no cause
_SUSPECT_CODES = frozenset({ReasonCode.NO_ROOM, ReasonCode.WOULD_DELAY, ReasonCode.OUTPACED})


class WatchdogReport(NamedTuple):
    """The reviewed decisions and the messages to be logged."""

    decisions: list[Decision]
    messages: tuple[str, ...] = ()  # sentences about waits that were not named before


@dataclass(slots=True)
class Watchdog:
    """Knows since when which jobs wait without a cause; all times are monotonic seconds."""

    patience_s: float = field(default_factory=lambda: PATIENCE_S)
    _since: dict[int, float] = field(default_factory=dict)  # job → first time without a cause
    _last: dict[int, float] = field(default_factory=dict)  # job → last time without a cause
    _named: set[int] = field(default_factory=set)

    @property
    def is_watching(self) -> bool:
        """Whether some wait has no cause so far, so that the next cycle must come soon."""
        return bool(self._since)

    def review(
        self,
        waiting_jobs: Sequence[Waiting],
        decisions: Sequence[Decision],
        running_jobs: Sequence[Running],
        machine: Machine,
        now: float,
    ) -> WatchdogReport:
        """Return the decisions with unexplained waits reported or started.

        Args:
            waiting_jobs: The jobs.
            decisions: Their decisions in the same order.
            running_jobs: Our jobs with a place.
            machine: The machine of the decisions.
            now: Monotonic seconds.
        """
        kept = list(decisions)
        if any(isinstance(decision, Start) for decision in decisions):
            # the effects on the others are known in the next cycle
            return WatchdogReport(decisions=kept)
        scene = _MachineView(machine, running_jobs, self.patience_s)
        suspects = dict[int, Wait]()
        explained = False  # a job waits for a known reason, and others may have to wait for it
        for job, decision in zip(waiting_jobs, decisions, strict=True):
            if not isinstance(decision, Wait):
                continue
            behind = explained and decision.code is ReasonCode.WOULD_DELAY
            if scene.is_suspect(job, decision) and not behind:
                suspects[job.job] = decision
            else:
                explained = explained or decision.code is ReasonCode.NO_ROOM
        self._update_suspects(suspects, {job.job for job in waiting_jobs}, now)
        news: list[str] = []
        tried = False
        for at, job in enumerate(waiting_jobs):
            if job.job not in suspects or now - self._since[job.job] < self.patience_s:
                continue
            decision = suspects[job.job]
            start = None if tried else scene.start_alone(job, decision)
            named = start or scene.mark_unexplained(decision)
            if job.job not in self._named:
                news.append(f"job={job.job} {named.reason}")
            self._named.add(job.job)
            kept[at], tried = named, tried or start is not None
        return WatchdogReport(decisions=kept, messages=tuple(news))

    def _update_suspects(
        self, suspects: Iterable[int], present: Collection[int], now: float
    ) -> None:
        """Record the jobs that wait without a cause now. Jobs without a decision, because no GPU was read, stay recorded."""
        still = {
            job: last
            for job, last in self._last.items()
            if job not in present and now - last < self.patience_s
        }
        self._last = still | dict.fromkeys(suspects, now)
        self._since = {job: self._since.get(job, now) for job in self._last}
        self._named &= self._since.keys()


class _MachineView:
    """The machine and its parts without any visible process."""

    def __init__(
        self, machine: Machine, running_jobs: Sequence[Running], patience_s: float
    ) -> None:
        self.machine, self._patience = machine, format_seconds(patience_s)
        self.is_deserted = not (running_jobs or machine.foreign)
        busy = {uuid for run in running_jobs for uuid in run.devices}
        self._idle_gpu_count = sum(_is_idle(gpu) and gpu.uuid not in busy for gpu in machine.gpus)
        self._running = running_jobs
        self._deserted_by_request: dict[GpuRequest, list[GpuState]] = {}

    @cached_property
    def inventory(self) -> Inventory:
        """The remaining resources. Computed on demand, because it is rarely needed."""
        return Inventory(self.machine, self._running)

    def is_suspect(self, job: Waiting, wait: Wait) -> bool:
        """Whether no process and no rule explains a wait."""
        # with other jobs running only GPUs can show that they are unused
        there = (
            self._idle_gpu_count >= max(1, job.resources.gpus) and wait.code is ReasonCode.NO_ROOM
        )
        if not (there or (self.is_deserted and wait.code in _SUSPECT_CODES)) or self.machine.peers:
            return False
        never, needs = self.inventory.resource_options(job)
        if never or self.inventory.cpu_or_memory_shortfall(
            job, min(job.resources.cpus, self.machine.cpus)
        ):
            return False
        if needs:
            return len(self.deserted_gpus(needs[-1])) >= needs[-1].count
        return self.is_deserted

    def deserted_gpus(self, need: GpuRequest) -> list[GpuState]:
        """Return the GPUs that a job may have and on which no process is seen, the emptiest first."""
        if need not in self._deserted_by_request:
            cards = [
                card
                for card in self.inventory.pool(need).cards
                if not (
                    card.closed_reason or card.own_jobs or card.foreign_reserved or card.other_users
                )
                and card.has_host_memory(need)
                and _is_idle(card.gpu)
            ]
            self._deserted_by_request[need] = sorted(cards, key=lambda card: -_free_bytes(card.gpu))
        return self._deserted_by_request[need]

    def start_alone(self, job: Waiting, wait: Wait) -> Start | None:
        """Return a job's start on the emptiest GPUs, where their free memory is enough; None if it is not."""
        cpus = min(job.resources.cpus, self.machine.cpus)
        _, needs = self.inventory.resource_options(job)
        cards: list[GpuState] = []
        if needs:
            need = needs[-1]
            kept = 0 if need.may_use_reserve else self.machine.rules.reserve
            least = (need.vram or 0) + kept
            cards = [
                card for card in self.deserted_gpus(need) if _free_bytes(card.gpu) >= max(least, 1)
            ]
            cards = cards[: need.count]
            if len(cards) < need.count:
                return None
        room = min((_free_bytes(card.gpu) for card in cards), default=0)
        known = cards and job.vram is not None and not job.estimated
        promise = min(job.vram or 0, room) if known else None
        where = ", ".join(card.gpu.label_for(job.resources.device) for card in cards) or "the CPU"
        has = f" with {format_bytes(room)} free" if cards else ""
        return Start(
            job=job.job,
            devices=tuple(card.gpu.uuid for card in cards),
            cpus=cpus,
            reason=f"tried alone on {where}{has} after {self._patience} without a known cause "
            f"({wait.reason})",
            vram=promise,
            exclusive=bool(cards),
        )

    def mark_unexplained(self, wait: Wait) -> Wait:
        """Return a wait that says that nothing explains it, and in numbers what is there."""
        left = " ".join(
            f"{format_bytes(gpu.used)} of {gpu.label} are in use, but the driver lists no process there."
            for gpu in self.machine.gpus
            if gpu.used and _is_idle(gpu)
        )
        advice = (
            "Reset the GPU or reboot to free the memory of ended processes"
            if left
            else "Please report this as a bug of launcher"
        )
        why = f"No job of yours and no other user explains it for {self._patience} or longer."
        text = " ".join(filter(None, (f"{wait.reason}.", why, left, advice)))
        return wait._replace(reason=text, code=ReasonCode.UNEXPLAINED)


def _is_idle(gpu: GpuSnapshot) -> bool:
    """Whether the driver lists no process. In a container the list may be empty although the GPU is busy."""
    return gpu.processes == () and (
        gpu.utilisation is None or 0 <= gpu.utilisation < QUIET_UTILISATION
    )


def _free_bytes(gpu: GpuSnapshot) -> int:
    return gpu.total - (gpu.used or 0)
