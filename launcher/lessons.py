"""What was learned from earlier attempts of jobs that are alike: how much memory and time they take."""

from dataclasses import dataclass

from launcher.errors import counted
from launcher.units import format_bytes

NEWEST = 8  # attempts of a signature that are remembered: a newer version of the code may need less
MARGIN = 0.05  # on top of what was measured: NVML is asked once a second, a peak may lie between
LEAST_MARGIN = 256 << 20
LONGER = 1.1  # a job is expected to take so many times as long as the longest of those alike


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the newest attempts of a signature took."""

    seconds: tuple[float, ...] = ()  # of those that were done
    peaks: tuple[int, ...] = ()  # bytes on one GPU, CUDA's context included, where it was measured

    @property
    def peak(self) -> int | None:
        """The most that one of them took of a GPU's memory, in bytes; None: not measured."""
        return max(self.peaks, default=None)

    @property
    def expected_seconds(self) -> float | None:
        """How long the next one takes at most, as far as one can tell; None: nobody knows.

        The longest counts, not the middle: who is told that a place becomes free at a time must not wait
        longer because of jobs that were let through before.
        """
        return LONGER * max(self.seconds) if self.seconds else None


UNTAUGHT = Lesson()


def claim_of(
    asked: int | None, least: int, lesson: Lesson, *, exact: bool = True
) -> tuple[int | None, str]:
    """Return what a job is promised on each of its GPUs, in bytes, and on what that rests.

    Args:
        asked: `min_vram`; None: not said, or `auto`.
        least: what it needs at least, as it turned out when it had less; 0: that never happened.
        lesson: what jobs like it took.
        exact: those agree with it in all that costs; else what was asked for counts more than the lesson.

    Returns:
        None where nobody knows: then it shares its GPUs with none of ours, until that is learned.
    """
    peak = lesson.peak
    learned = None if peak is None else peak + max(round(peak * MARGIN), LEAST_MARGIN)
    if asked is not None and (peak is None or asked >= peak or not exact):
        claim, source = asked, "declared"
    elif asked is not None and learned is not None and peak is not None:
        claim, source = learned, f"declared {format_bytes(asked)}, measured {format_bytes(peak)}"
    elif learned is not None:
        claim, source = learned, f"learned from {counted(len(lesson.peaks), 'run')}"
    elif least:
        return least, "after it had too little"
    else:
        return None, ""
    return (claim, source) if claim >= least else (least, "after it had too little")
