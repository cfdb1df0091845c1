"""A wait that nothing explains is named with its numbers, and the job is tried alone where it fits.

`decide` gives a reason for every wait. Where nothing of ours runs, nobody else is seen on the machine and no
rule of its owner holds, that reason cannot be the whole truth: a program left memory behind that
no process owns, or the rules contradict each other. Who waits for such a thing waits for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from launcher.gpu.monitor import QUIET
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.gpu_need import Need
from launcher.scheduler.policy.gpu_slot import Card
from launcher.scheduler.policy.inventory import Inventory
from launcher.scheduler.policy.model import Decision, Machine, Running, Start, Wait, Waiting
from launcher.states import ReasonCode
from launcher.units import format_bytes, format_seconds

PATIENCE_S = (
    30.0  # processes that ended a moment ago, and looks that are late, explain themselves by then
)
# reasons that are in the way of others of ours, of other homes, or of the machine: where there are none, of nothing
_SUSPECT = frozenset({ReasonCode.NO_ROOM, ReasonCode.WOULD_DELAY, ReasonCode.OUTPACED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the decisions, and what is to be put on record."""

    decisions: list[Decision]
    news: tuple[str, ...] = ()  # sentences about waits that were not named before


@dataclass(slots=True)
class Watchdog:
    """Knows since when which jobs wait without a cause; all times are monotonic seconds."""

    patience_s: float = field(default_factory=lambda: PATIENCE_S)
    _since: dict[int, float] = field(default_factory=dict)  # job → when that was seen first
    _named: set[int] = field(default_factory=set)

    @property
    def watches(self) -> bool:
        """Whether some wait has no cause so far: look again soon."""
        return bool(self._since)

    def review(
        self,
        waiting: Sequence[Waiting],
        decisions: Sequence[Decision],
        running: Sequence[Running],
        machine: Machine,
        now: float,
    ) -> Verdict:
        """Return the decisions, with what nothing explains named or started.

        Args:
            waiting: the jobs.
            decisions: on them, in their order.
            running: what of ours has a place.
            machine: what it was decided by.
            now: monotonic.
        """
        kept = list(decisions)
        starts = any(isinstance(decision, Start) for decision in decisions)
        inventory = Inventory(machine)
        suspects = {} if running or starts else _suspects(waiting, decisions, inventory)
        self._since = {job: self._since.get(job, now) for job in suspects}
        self._named &= suspects.keys()
        news: list[str] = []
        tried = False
        for at, job in enumerate(waiting):
            if job.job not in suspects or now - self._since[job.job] < self.patience_s:
                continue
            decision = suspects[job.job]
            start = None if tried else _alone(job, decision, inventory, self.patience_s)
            named = start or _named(decision, inventory, self.patience_s)
            if job.job not in self._named:
                news.append(f"job={job.job} {named.reason}")
            self._named.add(job.job)
            kept[at], tried = named, tried or start is not None
        return Verdict(decisions=kept, news=tuple(news))


def _suspects(
    waiting: Sequence[Waiting], decisions: Sequence[Decision], inventory: Inventory
) -> dict[int, Wait]:
    """Return by job the waits that nobody and no rule explains."""
    if inventory.machine.foreign:
        return {}
    return {
        job.job: decision
        for job, decision in zip(waiting, decisions, strict=True)
        if isinstance(decision, Wait)
        and decision.code in _SUSPECT
        and _has_no_cause(job, inventory)
    }


def _has_no_cause(job: Waiting, inventory: Inventory) -> bool:
    machine = inventory.machine
    if job.resources.ram is not None and job.resources.ram > machine.ram_free:
        return False  # other programs have it
    never, needs = inventory.asks(job)
    if never:
        return False
    return not needs or len(_deserted(needs[-1], inventory)) >= needs[-1].count


def _deserted(need: Need, inventory: Inventory) -> list[Card]:
    """Return the GPUs that a job may have and on which nobody is seen, the emptiest first."""
    cards = [card for card in inventory.pool(need).cards if not card.shut and _nobody_on(card.gpu)]
    return sorted(cards, key=lambda card: -_free(card.gpu))


def _nobody_on(gpu: GpuSnapshot) -> bool:
    """Tell whether the driver lists no process; in a container it may list none, but shows that they work."""
    return gpu.processes == () and (gpu.utilisation is None or 0 <= gpu.utilisation < QUIET)


def _free(gpu: GpuSnapshot) -> int:
    return gpu.total - (gpu.used or 0)


def _alone(job: Waiting, wait: Wait, inventory: Inventory, patience_s: float) -> Start | None:
    """Return a job's start on the emptiest GPUs, where their free memory is enough; None where it is not."""
    cpus = min(job.resources.cpus, inventory.machine.cpus)
    _, needs = inventory.asks(job)
    cards: list[Card] = []
    if needs:
        need = needs[-1]
        kept = 0 if need.into_reserve else inventory.machine.rules.reserve
        least = (need.vram_request or 0) + kept
        cards = [card for card in _deserted(need, inventory) if _free(card.gpu) >= max(least, 1)]
        cards = cards[: need.count]
        if len(cards) < need.count:
            return None
    room = min((_free(card.gpu) for card in cards), default=0)
    promise = None if not cards or job.vram_request is None else min(job.vram_request, room)
    where = ", ".join(card.gpu.label for card in cards) or "the CPU"
    has = f" with {format_bytes(room)} free" if cards else ""
    return Start(
        job=job.job,
        devices=tuple(card.gpu.uuid for card in cards),
        cpus=cpus,
        reason=f"tried alone on {where}{has}: it waited for {format_seconds(patience_s)} without a "
        f"cause ({wait.reason})",
        reservation=promise,
        exclusive=bool(cards),
    )


def _named(wait: Wait, inventory: Inventory, patience_s: float) -> Wait:
    """Return a wait that says that nothing explains it, and in numbers what is there."""
    machine = inventory.machine
    left = "; ".join(
        f"{format_bytes(gpu.used)} of {gpu.label} are in use, and the driver lists no process there"
        for gpu in machine.gpus
        if gpu.used and _nobody_on(gpu)
    )
    advice = (
        "a reset of the GPU, or a reboot, gives back what ended processes have left"
        if left
        else "report it: that is a fault of the launcher"
    )
    text = "; ".join(
        filter(
            None,
            (
                wait.reason,
                f"nothing explains that for {format_seconds(patience_s)} or longer: nothing of "
                "yours runs, and nobody else is seen",
                left,
                advice,
            ),
        )
    )
    return replace(wait, reason=text, code=ReasonCode.UNEXPLAINED)
