"""How much GPU memory is reserved for a job, and the source of this number.

A declared amount comes first, then the usage of runs with the same settings, then that of similar jobs: of the same type
or program. If there is none, a job gets a fixed part of the GPU until it has been measured.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from launcher.errors import counted
from launcher.scheduler.policy.memory_evidence import evidence
from launcher.store.usage import Numbers, Similar, Usage, margin_of
from launcher.units import format_bytes

ELSEWHERE = 0.25  # of what was measured: another driver or card keeps and takes more of its own
UNTRIED = "no run with similar numbers has been measured"
AFTER_SHORTAGE = "raised after it ran out of memory"
QUANTILE = 0.95  # of what similar jobs took: nearly all of them fit in it
SIMILAR_MARGIN = 1.2  # on top, from SURE similar jobs on
FEW_MARGIN = 1.3  # likewise from fewer
SURE = 3
STEP = 256 << 20  # bytes, on top of both


class MemoryLesson(NamedTuple):
    """What jobs alike teach of a job's memory."""

    peak: int  # bytes that one of them took at most
    runs: int
    request: int  # bytes that the job is promised for that
    source: str  # of what it was learned, in words


def lesson_of(
    usage: Usage, *, exact: bool = True, numbers: Numbers | None = None
) -> MemoryLesson | None:
    """Return what jobs alike teach of a job's memory, None where they teach nothing.

    Args:
        usage: what they took.
        exact: they agree with it in all that costs; else they are runs of the same program.
        numbers: those that the signature of a program leaves out; None: not known.
    """
    peaks, beyond = usage.peaks, 0
    if not exact:
        known = None if numbers is None else evidence(numbers, usage.runs)
        peaks, beyond = ((), 0) if known is None else (known.peaks, known.beyond)
    if not peaks:
        return None
    peak = max(peaks)
    margin = max(margin_of(peak), round(peak * ELSEWHERE) if usage.elsewhere else 0)
    runs = counted(len(peaks), "run")
    source = " ".join(filter(None, (f"learned from {runs}", usage.elsewhere)))
    if beyond:
        source += f" with other numbers, {format_bytes(beyond)} more as only few were measured"
    return MemoryLesson(peak=peak, runs=len(peaks), request=peak + margin + beyond, source=source)


class VramRequest(NamedTuple):
    """What is reserved for a job on each of its GPUs."""

    amount: int | None = (
        None  # bytes; None: nothing similar is known, it gets a fixed part of the GPU
    )
    source: str = ""  # on what it rests: "declared", "learned from 3 runs"
    estimated: bool = True  # neither declared nor measured with the same settings


def similar_request(similar: Similar) -> int | None:
    """Return what is reserved for a job by what similar ones took, in bytes; None if none was measured.

    What those use that run may still grow: it raises the request, but does not lower what ended ones tell.
    """
    requests = []
    for peaks in (similar.peaks, similar.live):
        if peaks:
            ordered = sorted(peaks)
            most = ordered[ceil(QUANTILE * len(ordered)) - 1]
            margin = SIMILAR_MARGIN if len(ordered) >= SURE else FEW_MARGIN
            requests.append(round(most * margin) + STEP)
    return max(requests, default=None)


def settled_request(used: int, peaks: Sequence[int], estimate: int | None) -> int:
    """Return what is reserved for a running job with an estimate whose use does not grow any more, in bytes.

    Args:
        used: what it uses now.
        peaks: what similar jobs took in the end: it may still grow to what most of them took.
        estimate: what was reserved for it when it started; None: a fixed part of the GPU.
    """
    own = round(used * SIMILAR_MARGIN) + STEP
    if not peaks or estimate is None:
        return own
    return max(own, min(estimate, sorted(peaks)[len(peaks) // 2]))


def vram_request_of(
    asked: int | None,
    least: int,
    usage: Usage,
    *,
    exact: bool = True,
    numbers: Numbers | None = None,
) -> VramRequest:
    """Return what is reserved for a job on each of its GPUs, and on what that rests.

    Args:
        asked: `min_vram`; None: not said, or `auto`.
        least: what it needs at least, as it turned out when it had less; 0: that never happened.
        usage: what jobs like it took.
        exact: those agree with it in all that costs; else what was asked for counts more than the usage.
        numbers: those that the signature of a program leaves out; None: not known.
    """
    lesson = lesson_of(usage, exact=exact, numbers=numbers)
    if asked is not None and (lesson is None or asked >= lesson.peak or not exact):
        request = VramRequest(asked, "declared", False)
    elif asked is not None and lesson is not None:
        source = f"declared {format_bytes(asked)}, measured {format_bytes(lesson.peak)}"
        request = VramRequest(lesson.request, source, False)
    elif lesson is not None:
        request = VramRequest(lesson.request, lesson.source, False)
    elif least:
        return VramRequest(least, AFTER_SHORTAGE, False)
    elif (similar := similar_request(usage.similar)) is not None:
        known = len(usage.similar.peaks) + len(usage.similar.live)
        source = f"estimated from {counted(known, 'similar job')}"
        return VramRequest(similar, source)
    else:
        return VramRequest(source=UNTRIED if usage.peaks else "")
    if request.amount is not None and request.amount >= least:
        return request
    return VramRequest(least, AFTER_SHORTAGE, False)
