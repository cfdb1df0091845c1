"""Why a failed attempt does not count against its job, and what the next attempt gets.

An attempt may have lacked memory, or its GPU may have failed. Nothing here reads a clock or a file.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.gpus.eviction import Eviction
from launcher.scheduler.gpus.memory_shortage import resumes
from launcher.scheduler.gpus.running_place import is_estimated
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Waiting
from launcher.scheduler.policy.oom_policy import NEGLIGIBLE, Blame, Scene, blame
from launcher.states import (
    Done,
    EndCause,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    Stopped,
)
from launcher.store.lanes import Lane
from launcher.store.rows import Claim
from launcher.store.transitions import AGAIN, NEVER_TWICE, REQUEUE_LIMIT, Requeue
from launcher.system.files import Json
from launcher.units import format_bytes, format_seconds

NOBODY: Mapping[str, int] = MappingProxyType({})
# a job of unknown memory fails when memory was short so often: it was queued again four times before
MOST_SHORTAGES = 5
SHORTAGES_BESIDE_OTHERS = 3  # attempts of it; the next one has its GPU for itself
CROWDED_PAUSE_S = 5.0  # before the next attempt where others had the memory; doubles each time


def requeue_of(
    claim: Claim,
    lane: Lane,
    outcome: Outcome,
    machine: Machine,
    *,
    peak: int | None = None,
    others_usage: Mapping[str, int] = NOBODY,
    moved: Eviction | None = None,
) -> Requeue | None:
    """Return why an end is not held against its job, and what the next attempt gets; None: it is.

    Args:
        claim: the attempt.
        lane: what its job asks for.
        outcome: how it ended.
        machine: as it is now, without the attempt.
        peak: bytes that it was seen to take of one GPU at most; None: that was not seen.
        others_usage: UUID → the most that all others had there during its last seconds.
        moved: why it was asked to leave its GPU; None: it was not.
    """
    if isinstance(outcome, Done):
        return None
    if isinstance(outcome, Lost | Stopped) and claim.spec.terms.rerun == "never":
        # it may have done what must not be done twice
        if moved is None or not isinstance(outcome, Stopped):
            return None
        text = f"{moved.why}{NEVER_TWICE}"
        return Requeue(reason=_gpu_fault(moved.why, text), hopeless=True)
    if moved is not None and moved.cause is EndCause.GPU_FAULT:
        return Requeue(reason=_gpu_fault(moved.why, moved.why))
    if moved is not None and isinstance(outcome, Stopped):
        return _stopped_for_others(claim, outcome, moved)
    if fault := _fault(claim, outcome, machine.gpus):
        return Requeue(reason=fault)
    if not isinstance(outcome, OutOfMemory):
        return None
    if outcome.shortage.where == "gpu" and not claim.gpus:
        return None  # it had none, so it lacked nothing that a larger claim would give
    judged = blame(outcome.shortage, _scene(claim, peak, others_usage, machine))
    return None if judged.charged else _follow(judged, claim, lane, machine)


def _follow(judged: Blame, claim: Claim, lane: Lane, machine: Machine) -> Requeue:
    memory = "main memory" if judged.where == "ram" else "memory"
    text = f"out of {memory}: {judged.why}"
    again = _out_of_memory(judged, text)
    estimated = is_estimated(claim)
    limit = MOST_SHORTAGES if estimated else REQUEUE_LIMIT
    if judged.vram_request is None or not claim.gpus:
        return Requeue(reason=again, pause_s=CROWDED_PAUSE_S, limit=limit)
    larger = Waiting(
        job=claim.job,
        resources=lane.resources,
        vram_request=judged.vram_request,
        visible=lane.visible,
    )
    never = refusal(larger, machine)
    if never:
        return Requeue(reason=_out_of_memory(judged, f"{text}. It {never.error}"), hopeless=True)
    # one with an estimate waits for more memory anyhow
    pause_s = CROWDED_PAUSE_S if judged.whose == "neighbour" and not estimated else 0.0
    grows = judged.vram_request != claim.reservation
    more = f" with a request of {format_bytes(judged.vram_request)}" if grows else ""
    return Requeue(
        reason=again,
        then=f"{AGAIN}{more}",
        vram_request=judged.vram_request,
        pause_s=pause_s,
        alone=estimated and claim.number >= SHORTAGES_BESIDE_OTHERS,
        limit=limit,
    )


def _stopped_for_others(claim: Claim, outcome: Stopped, moved: Eviction) -> Requeue:
    """Queue a job again that was stopped because memory ran short."""
    ran = format_seconds(max(0.0, outcome.at - claim.claimed))
    lost = f"it resumes after {ran} of work" if resumes(claim) else f"{ran} of work lost"
    text = f"stopped: {moved.why}"
    data: dict[str, Json] = {"where": "gpu", "whose": "neighbour"}
    return Requeue(
        reason=Reason(code=ReasonCode.OUT_OF_MEMORY, text=text, data=data),
        then=f"{AGAIN} on an empty GPU, {lost}",
        vram_request=moved.vram_request,
        alone=True,
    )


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
            return _gpu_fault(fault, f"{outcome.error}: {fault}", short)
        case Lost() | Stopped() if fault:
            return _gpu_fault(fault, fault)
    return None
