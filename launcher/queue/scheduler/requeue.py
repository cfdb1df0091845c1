"""Why a failed attempt does not count against its job, and the request of the next attempt.

An attempt may have lacked memory, or its GPU may have failed. Nothing here reads a clock or a file.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.states import (
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
from launcher.queue.scheduler.gpus.eviction import Eviction
from launcher.queue.scheduler.gpus.memory_shortage import can_resume
from launcher.queue.scheduler.gpus.running_place import is_estimated
from launcher.queue.scheduler.policy.inventory import permanent_refusal
from launcher.queue.scheduler.policy.model import Machine, Waiting
from launcher.queue.scheduler.policy.oom_policy import (
    NEGLIGIBLE,
    OomContext,
    OomVerdict,
    diagnose_oom,
)
from launcher.queue.store.lanes import Lane
from launcher.queue.store.rows import Claim
from launcher.queue.store.transitions import (
    NOT_QUEUED_AGAIN,
    QUEUED_AGAIN,
    REQUEUE_LIMIT,
    RequeueDecision,
)
from launcher.system.files import Json
from launcher.system.units import format_bytes, format_seconds

NO_OTHERS: Mapping[str, int] = MappingProxyType({})
# a job of unknown memory fails when memory was short so often: it was queued again four times before
MOST_SHORTAGES = 5
# attempts that failed when they shared a GPU; the next attempt has its GPU for itself
SHORTAGES_BESIDE_OTHERS = 3
FULL_DISK_PAUSE_S = 5.0  # seconds; an attempt cannot start while the disk is full
# seconds before the next attempt where others had the memory; doubles each time
CROWDED_PAUSE_S = 5.0


def decide_requeue(
    claim: Claim,
    lane: Lane,
    outcome: Outcome,
    machine: Machine,
    *,
    peak: int | None = None,
    others_usage: Mapping[str, int] = NO_OTHERS,
    eviction: Eviction | None = None,
) -> RequeueDecision | None:
    """Return why an end does not count against its job, and the next request. None if it counts.

    Args:
        claim: The attempt.
        lane: Request of its job.
        outcome: Its end.
        machine: The current state without the attempt.
        peak: Highest measured usage of one GPU in bytes, None if not measured.
        others_usage: UUID → highest usage there by all others during its last seconds.
        eviction: Why it was asked to leave its GPU, None if it was not.
    """
    if isinstance(outcome, Done):
        return None
    if isinstance(outcome, Lost | Stopped) and claim.spec.terms.rerun == "never":
        # it may have done what must not be done twice
        if eviction is None or not isinstance(outcome, Stopped):
            return None
        text = f"{eviction.why}{NOT_QUEUED_AGAIN}"
        return RequeueDecision(reason=_gpu_fault_reason(eviction.why, text), is_unsatisfiable=True)
    if eviction is not None and eviction.cause is EndCause.GPU_FAULT:
        return RequeueDecision(reason=_gpu_fault_reason(eviction.why, eviction.why))
    if eviction is not None and isinstance(outcome, Stopped):
        return _requeue_evicted(claim, outcome, eviction)
    if fault := _find_gpu_fault(claim, outcome, machine.gpus):
        return RequeueDecision(reason=fault)
    if isinstance(outcome, Failed) and outcome.disk_full and claim.spec.terms.rerun != "never":
        text = f"stopped: {outcome.error}"
        reason = Reason(code=ReasonCode.STOPPED, text=text, data={"by": "full disk"})
        return RequeueDecision(reason=reason, backoff_s=FULL_DISK_PAUSE_S)
    if not isinstance(outcome, OutOfMemory):
        return None
    if outcome.report.where == "gpu" and not claim.gpus:
        return None  # the attempt had no GPU, so a larger reservation would not help
    judged = diagnose_oom(outcome.report, _oom_context(claim, peak, others_usage, machine))
    return None if judged.charged else _requeue_after_oom(judged, claim, lane, machine)


def _requeue_after_oom(
    verdict: OomVerdict, claim: Claim, lane: Lane, machine: Machine
) -> RequeueDecision:
    memory = "main memory" if verdict.where == "ram" else "memory"
    text = f"out of {memory}: {verdict.why}"
    again = _oom_reason(verdict, text)
    estimated = is_estimated(claim)
    limit = MOST_SHORTAGES if estimated else REQUEUE_LIMIT
    if verdict.vram is None or not claim.gpus:
        return RequeueDecision(reason=again, backoff_s=CROWDED_PAUSE_S, max_attempts=limit)
    larger = Waiting(
        job=claim.job,
        resources=lane.resources,
        vram=verdict.vram,
        visible=lane.visible,
    )
    never = permanent_refusal(larger, machine)
    if never:
        return RequeueDecision(
            reason=_oom_reason(verdict, f"{text}. It {never.error}"), is_unsatisfiable=True
        )
    # one with an estimate waits for more memory anyhow
    pause_s = CROWDED_PAUSE_S if verdict.blamed_on == "neighbour" and not estimated else 0.0
    grows = verdict.vram != claim.vram
    more = f" with a request of {format_bytes(verdict.vram)}" if grows else ""
    return RequeueDecision(
        reason=again,
        follow_up_text=f"{QUEUED_AGAIN}{more}",
        vram=verdict.vram,
        backoff_s=pause_s,
        exclusive=estimated and claim.number >= SHORTAGES_BESIDE_OTHERS,
        max_attempts=limit,
    )


def _requeue_evicted(claim: Claim, outcome: Stopped, eviction: Eviction) -> RequeueDecision:
    """Queue a job again that was stopped because memory ran short."""
    ran = format_seconds(max(0.0, outcome.at - claim.claimed))
    lost = f"it resumes after {ran} of work" if can_resume(claim) else f"{ran} of work lost"
    text = f"stopped: {eviction.why}"
    data: dict[str, Json] = {"where": "gpu", "whose": "neighbour"}
    return RequeueDecision(
        reason=Reason(code=ReasonCode.OUT_OF_MEMORY, text=text, data=data),
        follow_up_text=f"{QUEUED_AGAIN} on an empty GPU, {lost}",
        vram=eviction.vram,
        exclusive=True,
    )


def _gpu_fault_reason(fault: str, text: str, short: str = "") -> Reason:
    data = {"fault": fault} | ({"short": short} if short else {})
    return Reason(code=ReasonCode.GPU_FAULT, text=text, data=data)


def _oom_reason(verdict: OomVerdict, text: str) -> Reason:
    data = {"where": verdict.where, "whose": verdict.blamed_on}
    return Reason(code=ReasonCode.OUT_OF_MEMORY, text=text, data=data)


def _oom_context(
    claim: Claim, peak: int | None, others_usage: Mapping[str, int], machine: Machine
) -> OomContext:
    """Return what is known of the most crowded of an attempt's GPUs."""
    facts: dict[str, Any] = {
        "vram": claim.vram,
        "peak": peak,
        "ram": claim.spec.resources.ram,
        "reserve": machine.rules.reserve,
    }
    cards = [gpu for gpu in machine.gpus if gpu.uuid in claim.gpus and gpu.used is not None]
    if not cards:
        return OomContext(**facts)
    others = {gpu.uuid: max(gpu.used or 0, others_usage.get(gpu.uuid, 0)) for gpu in cards}
    worst = max(cards, key=lambda gpu: others[gpu.uuid] - gpu.total)
    # without a reading the attempt does not count as alone
    counted = worst.uuid in others_usage or others[worst.uuid] > NEGLIGIBLE
    return OomContext(total=worst.total, others=others[worst.uuid] if counted else None, **facts)


def _find_gpu_fault(claim: Claim, outcome: Outcome, gpus: Iterable[GpuSnapshot]) -> Reason | None:
    """Return which of an attempt's GPUs has failed, None if none has that it may have ended of."""
    faults = (f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.uuid in claim.gpus and gpu.fault)
    fault = next(faults, "")
    match outcome:
        case Failed() | OutOfMemory() if fault:
            short = f"{outcome.exception}: {fault}" if outcome.exception else ""
            return _gpu_fault_reason(fault, f"{outcome.error}: {fault}", short)
        case Lost() | Stopped() if fault:
            return _gpu_fault_reason(fault, fault)
    return None
