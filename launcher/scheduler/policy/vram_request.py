"""How much of a GPU's memory a job is promised, and on what that rests."""

from dataclasses import dataclass

from launcher.errors import counted
from launcher.scheduler.policy.program_numbers import evidence
from launcher.store.usage import Numbers, Usage, margin_of
from launcher.units import format_bytes

ELSEWHERE = 0.25  # of what was measured: another driver or card keeps and takes more of its own
UNTRIED = "no run with such numbers was measured yet"


@dataclass(frozen=True, slots=True)
class Lesson:
    """What jobs alike teach of a job's memory."""

    peak: int  # bytes that one of them took at most
    runs: int
    request: int  # bytes that the job is promised for that
    source: str  # of what it was learned, in words


def lesson_of(usage: Usage, *, exact: bool = True, numbers: Numbers | None = None) -> Lesson | None:
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
        source += f" with other numbers, {format_bytes(beyond)} more as few are known"
    return Lesson(peak=peak, runs=len(peaks), request=peak + margin + beyond, source=source)


def vram_request_of(
    asked: int | None,
    least: int,
    usage: Usage,
    *,
    exact: bool = True,
    numbers: Numbers | None = None,
) -> tuple[int | None, str]:
    """Return what a job is promised on each of its GPUs, in bytes, and on what that rests.

    Args:
        asked: `min_vram`; None: not said, or `auto`.
        least: what it needs at least, as it turned out when it had less; 0: that never happened.
        usage: what jobs like it took.
        exact: those agree with it in all that costs; else what was asked for counts more than the usage.
        numbers: those that the signature of a program leaves out; None: not known.

    Returns:
        None where nobody knows: then it shares its GPUs with none of ours, until that is learned.
    """
    lesson = lesson_of(usage, exact=exact, numbers=numbers)
    if asked is not None and (lesson is None or asked >= lesson.peak or not exact):
        claim, source = asked, "declared"
    elif asked is not None and lesson is not None:
        claim = lesson.request
        source = f"declared {format_bytes(asked)}, measured {format_bytes(lesson.peak)}"
    elif lesson is not None:
        claim, source = lesson.request, lesson.source
    elif least:
        return least, "after it had too little"
    else:
        return None, UNTRIED if usage.peaks else ""
    return (claim, source) if claim >= least else (least, "after it had too little")
