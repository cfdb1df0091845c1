"""How much GPU memory is reserved for a job, and the source of this number.

A declared amount comes first, then the usage of runs with the same settings, then that of similar jobs: of the same type
or program. If there is none, a job gets a fixed part of the GPU until it has been measured.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from launcher.queue.scheduler.policy.memory_evidence import find_evidence
from launcher.queue.store.usage import Numbers, SimilarUsage, Usage, margin_of
from launcher.system.errors import pluralize
from launcher.system.units import format_bytes

OTHER_MACHINE_MARGIN = (
    0.25  # fraction of the measured usage: another driver or GPU uses more for itself
)
UNTRIED = "no run with similar numbers has been measured"
AFTER_SHORTAGE = "raised after it ran out of memory"
QUANTILE = 0.95  # quantile of the peaks of similar jobs: nearly all of them fit in it
SIMILAR_MARGIN = 1.2  # factor on that quantile, from MANY_SIMILAR similar jobs on
FEW_MARGIN = 1.3  # the same factor, from fewer jobs
MANY_SIMILAR = 3
STEP = 256 << 20  # bytes, on top of both


class VramEstimate(NamedTuple):
    """Estimate of a job's memory from similar jobs."""

    peak: int  # bytes that one of them took at most
    runs: int
    request: int  # bytes that are reserved for the job
    source: str  # source of the estimate, in words


def estimate_vram(
    usage: Usage, *, exact: bool = True, numbers: Numbers | None = None
) -> VramEstimate | None:
    """Return an estimate of a job's memory from similar jobs, None if there is no evidence.

    Args:
        usage: Recorded usage of similar jobs.
        exact: They agree in everything that affects the cost. Otherwise they are runs of the same
            program.
        numbers: Numbers that the signature of a program leaves out, None if unknown.
    """
    peaks, beyond = usage.peaks, 0
    if not exact:
        known = None if numbers is None else find_evidence(numbers, usage.attempt_peaks)
        peaks, beyond = ((), 0) if known is None else (known.peaks, known.extra_bytes)
    if not peaks:
        return None
    peak = max(peaks)
    margin = max(margin_of(peak), round(peak * OTHER_MACHINE_MARGIN) if usage.other_gpu_note else 0)
    runs = pluralize(len(peaks), "run")
    source = " ".join(filter(None, (f"learned from {runs}", usage.other_gpu_note)))
    if beyond:
        source += f" with other numbers, {format_bytes(beyond)} more as only few were measured"
    return VramEstimate(peak=peak, runs=len(peaks), request=peak + margin + beyond, source=source)


class VramRequest(NamedTuple):
    """What is reserved for a job on each of its GPUs."""

    vram: int | None = (
        None  # bytes; None: nothing similar is known, it gets a fixed part of the GPU
    )
    source: str = ""  # source of the request: "declared", "learned from 3 runs"
    estimated: bool = True  # neither declared nor measured with the same settings


def similar_request(similar: SimilarUsage) -> int | None:
    """Return the reservation for a job from similar ones in bytes, None if none was measured.

    Running ones may still grow: they can raise the request, but not lower that from ended ones.
    """
    requests = []
    for peaks in (similar.peaks, similar.running_bytes):
        if peaks:
            ordered = sorted(peaks)
            most = ordered[ceil(QUANTILE * len(ordered)) - 1]
            margin = SIMILAR_MARGIN if len(ordered) >= MANY_SIMILAR else FEW_MARGIN
            requests.append(round(most * margin) + STEP)
    return max(requests, default=None)


def steady_request(used_bytes: int, peaks: Sequence[int], estimate: int | None) -> int:
    """Return the reservation in bytes for a running job with an estimate whose usage no longer grows.

    Args:
        used_bytes: Its current usage.
        peaks: Final peaks of similar jobs: the usage may still grow to the peak of most of these jobs.
        estimate: Its reservation at the start, None for a fixed part of the GPU.
    """
    own = round(used_bytes * SIMILAR_MARGIN) + STEP
    if not peaks or estimate is None:
        return own
    return max(own, min(estimate, sorted(peaks)[len(peaks) // 2]))


def choose_vram_request(
    vram: int | None,
    minimum: int,
    usage: Usage,
    *,
    exact: bool = True,
    numbers: Numbers | None = None,
) -> VramRequest:
    """Return the reservation of a job on each of its GPUs, and its source.

    Args:
        vram: `vram` of its task file or command, None if not set or `auto`.
        minimum: Need that was found when it had less memory, 0 if that never happened.
        usage: Recorded usage of similar jobs.
        exact: These agree in everything that affects the cost. Otherwise the declaration takes
            precedence.
        numbers: Numbers that the signature of a program leaves out, None if unknown.
    """
    lesson = estimate_vram(usage, exact=exact, numbers=numbers)
    if vram is not None and (lesson is None or vram >= lesson.peak or not exact):
        request = VramRequest(vram, "declared", False)
    elif vram is not None and lesson is not None:
        source = f"declared {format_bytes(vram)}, measured {format_bytes(lesson.peak)}"
        request = VramRequest(lesson.request, source, False)
    elif lesson is not None:
        request = VramRequest(lesson.request, lesson.source, False)
    elif minimum:
        return VramRequest(minimum, AFTER_SHORTAGE, False)
    elif (similar := similar_request(usage.similar)) is not None:
        known = len(usage.similar.peaks) + len(usage.similar.running_bytes)
        source = f"estimated from {pluralize(known, 'similar job')}"
        return VramRequest(similar, source)
    else:
        return VramRequest(source=UNTRIED if usage.peaks else "")
    if request.vram is not None and request.vram >= minimum:
        return request
    return VramRequest(minimum, AFTER_SHORTAGE, False)
