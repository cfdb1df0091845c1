"""Whether an attempt that did not end well is held against its job: it may have lacked memory, or its GPU failed."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.endings.oom_policy import NEGLIGIBLE, Blame, Scene, blame
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Waiting
from launcher.states import (
    Done,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    Stopped,
)
from launcher.store.rows import Claim, Lane
from launcher.store.transitions import Requeue

NOBODY: Mapping[str, int] = MappingProxyType({})
CROWDED_PAUSE_S = 5.0  # before the next attempt where others had the memory; doubles each time


def requeue_of(
    claim: Claim,
    lane: Lane,
    outcome: Outcome,
    machine: Machine,
    *,
    peak: int | None = None,
    others_usage: Mapping[str, int] = NOBODY,
    moved: str = "",
) -> Requeue | None:
    """Return why an end is not held against its job, and what the next attempt gets; None: it is.

    Args:
        claim: the attempt.
        lane: what its job asks for.
        outcome: how it ended.
        machine: as it is now, without the attempt.
        peak: bytes that it was seen to take of one GPU at most; None: that was not seen.
        others_usage: UUID → the most that all others had there during its last seconds.
        moved: why it was asked to end, where its GPU has failed.
    """
    if isinstance(outcome, Done):
        return None
    if isinstance(outcome, Lost | Stopped) and claim.spec.terms.rerun == "never":
        # it may have done what must not be done twice
        if not moved or not isinstance(outcome, Stopped):
            return None
        text = f"{moved}, and it must never run twice"
        return Requeue(reason=_gpu_fault(moved, text), hopeless=True)
    if moved:
        return Requeue(reason=_gpu_fault(moved, f"{moved}; queued again"))
    if fault := _fault(claim, outcome, machine.gpus):
        return Requeue(reason=fault)
    if not isinstance(outcome, OutOfMemory):
        return None
    if outcome.where == "gpu" and not claim.gpus:
        return None  # it had none, so it lacked nothing that a larger claim would give
    judged = blame(outcome.shortage, _scene(claim, peak, others_usage, machine))
    return None if judged.charged else _follow(judged, claim, lane, machine)


def _follow(judged: Blame, claim: Claim, lane: Lane, machine: Machine) -> Requeue:
    text = f"out of memory, {judged.why}"
    again = _out_of_memory(judged, f"{text}; queued again")
    if judged.vram_request is None or not claim.gpus:
        return Requeue(reason=again, pause_s=CROWDED_PAUSE_S)
    larger = Waiting(
        job=claim.job,
        resources=lane.resources,
        vram_request=judged.vram_request,
        visible=lane.visible,
    )
    never = refusal(larger, machine)
    if never:
        return Requeue(
            reason=_out_of_memory(judged, f"{text}, and {never.obstacle}"), hopeless=True
        )
    pause_s = CROWDED_PAUSE_S if judged.whose == "neighbour" else 0.0
    return Requeue(reason=again, vram_request=judged.vram_request, pause_s=pause_s)


def _gpu_fault(fault: str, text: str, short: str = "") -> Reason:
    data = {"fault": fault} | ({"short": short} if short else {})
    return Reason(code=ReasonCode.GPU_FAULT, text=text, data=data)


def _out_of_memory(judged: Blame, text: str) -> Reason:
    data = {"where": judged.where, "whose": judged.whose}
    return Reason(code=ReasonCode.OUT_OF_MEMORY, text=text, data=data)


def _scene(
    claim: Claim, peak: int | None, others_usage: Mapping[str, int], machine: Machine
) -> Scene:
    """Return what is known of the most crowded of an attempt's GPUs."""
    facts: dict[str, Any] = {
        "reservation": claim.reservation,
        "peak": peak,
        "ram": claim.spec.resources.ram,
        "reserve": machine.rules.reserve,
    }
    cards = [gpu for gpu in machine.gpus if gpu.uuid in claim.gpus and gpu.used is not None]
    if not cards:
        return Scene(**facts)
    others = {gpu.uuid: max(gpu.used or 0, others_usage.get(gpu.uuid, 0)) for gpu in cards}
    worst = max(cards, key=lambda gpu: others[gpu.uuid] - gpu.total)
    # where no look saw the attempt, it does not count as alone
    counted = worst.uuid in others_usage or others[worst.uuid] > NEGLIGIBLE
    return Scene(total=worst.total, others=others[worst.uuid] if counted else None, **facts)


def _fault(claim: Claim, outcome: Outcome, gpus: Iterable[GpuSnapshot]) -> Reason | None:
    """Return which of an attempt's GPUs has failed, None where none has that it may have ended of."""
    faults = (f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.uuid in claim.gpus and gpu.fault)
    fault = next(faults, "")
    match outcome:
        case Failed() | OutOfMemory() if fault:
            short = f"{outcome.exception}: {fault}" if outcome.exception else ""
            return _gpu_fault(fault, f"{outcome.error}: {fault}; queued again", short)
        case Lost() | Stopped() if fault:
            return _gpu_fault(fault, f"{fault}; queued again")
    return None
