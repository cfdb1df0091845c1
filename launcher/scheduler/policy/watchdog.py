"""A wait that nothing explains is named with its numbers, and the job is tried alone where it fits.

`decide` gives a reason for every wait. Where nothing of ours runs, nobody else is seen on the machine and no
rule of its owner holds, that reason cannot be the whole truth: a program left memory behind that
no process owns, or the rules contradict each other. Who waits for such a thing waits for ever.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from launcher.gpu.monitor import QUIET_UTILISATION
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.gpu_slot import GpuState
from launcher.scheduler.policy.inventory import Inventory
from launcher.scheduler.policy.model import (
    Decision,
    GpuRequest,
    Machine,
    Running,
    Start,
    Wait,
    Waiting,
)
from launcher.states import ReasonCode
from launcher.units import format_bytes, format_seconds

PATIENCE_S = (
    30.0  # processes that ended a moment ago, and looks that are late, explain themselves by then
)
# reasons that are in the way of others of ours, of other homes, or of the machine: where there are none, of nothing
_SUSPECT_CODES = frozenset({ReasonCode.NO_ROOM, ReasonCode.WOULD_DELAY, ReasonCode.OUTPACED})


class WatchdogReport(NamedTuple):
    """What became of the decisions, and what is to be put on record."""

    decisions: list[Decision]
    messages: tuple[str, ...] = ()  # sentences about waits that were not named before


@dataclass(slots=True)
class Watchdog:
    """Knows since when which jobs wait without a cause; all times are monotonic seconds."""

    patience_s: float = field(default_factory=lambda: PATIENCE_S)
    _since: dict[int, float] = field(default_factory=dict)  # job → when that was seen first
    _last: dict[int, float] = field(default_factory=dict)  # and when last
    _named: set[int] = field(default_factory=set)

    @property
    def is_watching(self) -> bool:
        """Whether some wait has no cause so far: look again soon."""
        return bool(self._since)

    def review(
        self,
        waiting: Sequence[Waiting],
        decisions: Sequence[Decision],
        running: Sequence[Running],
        machine: Machine,
        now: float,
    ) -> WatchdogReport:
        """Return the decisions, with what nothing explains named or started.

        Args:
            waiting: the jobs.
            decisions: on them, in their order.
            running: what of ours has a place.
            machine: what it was decided by.
            now: monotonic.
        """
        kept = list(decisions)
        if any(isinstance(decision, Start) for decision in decisions):
            return WatchdogReport(
                decisions=kept
            )  # who had to make way for that is known the next time
        scene = _MachineView(machine, running, self.patience_s)
        suspects = dict[int, Wait]()
        explained = False  # somebody waits for a reason, and others may have to wait for him
        for job, decision in zip(waiting, decisions, strict=True):
            if not isinstance(decision, Wait):
                continue
            behind = explained and decision.code is ReasonCode.WOULD_DELAY
            if scene.is_suspect(job, decision) and not behind:
                suspects[job.job] = decision
            else:
                explained = explained or decision.code is ReasonCode.NO_ROOM
        self._update_suspects(suspects, {job.job for job in waiting}, now)
        news: list[str] = []
        tried = False
        for at, job in enumerate(waiting):
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
        """Take in who waits without a cause now; who is not decided about, as no GPU was seen, still does."""
        still = {
            job: last
            for job, last in self._last.items()
            if job not in present and now - last < self.patience_s
        }
        self._last = still | dict.fromkeys(suspects, now)
        self._since = {job: self._since.get(job, now) for job in self._last}
        self._named &= self._since.keys()


class _MachineView:
    """The machine, and what of it nobody is seen on."""

    def __init__(self, machine: Machine, running: Sequence[Running], patience_s: float) -> None:
        self.machine, self._patience = machine, format_seconds(patience_s)
        self.is_deserted = not (running or machine.foreign)
        busy = {uuid for run in running for uuid in run.devices}
        self._idle_gpu_count = sum(_is_idle(gpu) and gpu.uuid not in busy for gpu in machine.gpus)
        self._running = running
        self._deserted_by_request: dict[GpuRequest, list[GpuState]] = {}

    @cached_property
    def inventory(self) -> Inventory:
        """What is left of the machine; most of the time nobody asks."""
        return Inventory(self.machine, self._running)

    def is_suspect(self, job: Waiting, wait: Wait) -> bool:
        """Tell whether nobody and no rule explains a wait."""
        # beside others only GPUs tell for themselves that nobody is there
        there = (
            self._idle_gpu_count >= max(1, job.resources.gpus) and wait.code is ReasonCode.NO_ROOM
        )
        if (
            not (there or (self.is_deserted and wait.code in _SUSPECT_CODES))
            or self.machine.colleagues
        ):
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
        """Return the GPUs that a job may have and on which nobody is seen, the emptiest first."""
        if need not in self._deserted_by_request:
            cards = [
                card
                for card in self.inventory.pool(need).cards
                if not (
                    card.closed_reason or card.own_jobs or card.foreign_reserved or card.other_users
                )
                and _is_idle(card.gpu)
            ]
            self._deserted_by_request[need] = sorted(cards, key=lambda card: -_free_bytes(card.gpu))
        return self._deserted_by_request[need]

    def start_alone(self, job: Waiting, wait: Wait) -> Start | None:
        """Return a job's start on the emptiest GPUs, where their free memory is enough; None where it is not."""
        cpus = min(job.resources.cpus, self.machine.cpus)
        _, needs = self.inventory.resource_options(job)
        cards: list[GpuState] = []
        if needs:
            need = needs[-1]
            kept = 0 if need.may_use_reserve else self.machine.rules.reserve
            least = (need.vram_request or 0) + kept
            cards = [
                card for card in self.deserted_gpus(need) if _free_bytes(card.gpu) >= max(least, 1)
            ]
            cards = cards[: need.count]
            if len(cards) < need.count:
                return None
        room = min((_free_bytes(card.gpu) for card in cards), default=0)
        known = cards and job.vram_request is not None and not job.estimated
        promise = min(job.vram_request or 0, room) if known else None
        where = ", ".join(card.gpu.label for card in cards) or "the CPU"
        has = f" with {format_bytes(room)} free" if cards else ""
        return Start(
            job=job.job,
            devices=tuple(card.gpu.uuid for card in cards),
            cpus=cpus,
            reason=f"tried alone on {where}{has} after {self._patience} without a known cause "
            f"({wait.reason})",
            reservation=promise,
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
    """Tell whether the driver lists no process; in a container it may list none, but shows that they work."""
    return gpu.processes == () and (
        gpu.utilisation is None or 0 <= gpu.utilisation < QUIET_UTILISATION
    )


def _free_bytes(gpu: GpuSnapshot) -> int:
    return gpu.total - (gpu.used or 0)
