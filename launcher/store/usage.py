"""What earlier attempts of jobs that are alike used: how much memory and time such a job takes."""

import json
from collections.abc import Callable, Collection, Sequence
from math import fsum
from typing import Any, NamedTuple

NEWEST = 8  # peaks of a signature that count: a newer version of the code may need less
MARGIN = 0.05  # on top of what was measured: NVML is asked once a second, a peak may lie between
LEAST_MARGIN = 256 << 20
LONGEST_S = 366 * 86_400.0  # what is said to have taken longer was begun before a clock was set
HARDLY = 0.05  # who shared his cards for so much of his time at most counts as alone
MOST_PEAK = 1 << 42  # bytes; no card has more
MOST_SLOWDOWN = 1000.0

Numbers = tuple[str, ...]


class Measured(NamedTuple):
    """What was measured of an attempt on GPUs; None: it was not."""

    peak: int | None = None  # bytes that it took, or wanted, on one GPU
    shared_s: float | None = None  # seconds during which it shared a card
    slowdown: float | None = None  # so many times as long it took meanwhile
    sm: float | None = None  # mean use of the multiprocessors while it was alone, 0 to 1
    machine: str = ""  # the card and its driver, see `GpuSnapshot.fingerprint`; '': unknown
    elapsed_s: float | None = None  # how long it ran by a clock that nobody sets, pauses included
    paused_s: float = 0.0  # how long its owner had paused it

    def without(self, paused_s: float) -> "Measured":
        """Return the same of an attempt that was paused: how it shared a card meanwhile says nothing."""
        if not paused_s:
            return self
        return self._replace(paused_s=paused_s, shared_s=None, slowdown=None)


NOT_MEASURED = Measured()


class Run(NamedTuple):
    """What one attempt took of a GPU's memory, with the numbers that its signature leaves out."""

    peak: int
    numbers: Numbers | None = None  # None: not known


class Usage(NamedTuple):
    """What the newest attempts of a signature took, on cards like those of this machine where any did."""

    seconds: tuple[float, ...] = ()  # of those that were done, as if alone; the newest first
    peaks: tuple[int, ...] = ()  # bytes on one GPU, CUDA's context included, where it was measured
    sm: float | None = None  # mean use of the multiprocessors by one of them alone, 0 to 1
    slowdown: float | None = None  # mean factor beside others; None: never measured
    alone: tuple[
        float, ...
    ] = ()  # of `seconds`, those of attempts that shared their cards with none
    own: bool = True  # False: the durations are those of its kind, or of all; it never ran itself
    elsewhere: str = ""  # on what else the peaks were measured: "on another GPU (A10)"
    runs: tuple[Run, ...] = ()  # all that are remembered, the oldest first; where numbers matter

    @property
    def peak(self) -> int | None:
        """The most that one of them took of a GPU's memory, in bytes; None: not measured."""
        return max(self.peaks, default=None)


NO_USAGE = Usage()


def margin_of(peak: int) -> int:
    """Return by how much a job may exceed in bytes what its like took."""
    return max(round(peak * MARGIN), LEAST_MARGIN)


class Lesson(NamedTuple):
    """A row of the table with what of it can be true."""

    seconds: float | None = None
    peak: int | None = None
    alone: bool = False  # it is known that it shared its cards with none, or hardly
    slowdown: float | None = None
    sm: float | None = None
    machine: str = ""
    numbers: Numbers | None = None

    def alike(self, here: Collection[str], part: Callable[[str], str]) -> bool:
        """Tell whether it is of a machine that agrees in a part of its fingerprint with this one."""
        return not self.machine or not here or part(self.machine) in {part(card) for card in here}


def usage_of(lessons: Sequence[Lesson], here: Collection[str], *, exact: bool) -> Usage:
    """Return what lessons, the newest first, say of jobs on this machine.

    What was measured under the same driver on the same card counts alone where there is any; then what
    another driver of the same card says, then other cards.
    """
    same_card = [lesson for lesson in lessons if lesson.alike(here, card_of)]
    same = [lesson for lesson in same_card if lesson.alike(here, str)]
    measured, elsewhere = same, ""
    if not any(lesson.peak is not None for lesson in same):
        by_card = any(lesson.peak is not None for lesson in same_card)
        measured = same_card if by_card else [*lessons]
        other = next((lesson.machine for lesson in measured if lesson.peak is not None), "")
        if other:
            elsewhere = (
                f"under another driver ({driver_of(other)})"
                if by_card
                else f"on another GPU ({model_of(other)})"
            )
    timed = same_card if any(lesson.seconds is not None for lesson in same_card) else [*lessons]
    runs = [Run(lesson.peak, lesson.numbers) for lesson in measured if lesson.peak is not None]
    slowdowns = [lesson.slowdown for lesson in same_card if lesson.slowdown is not None]
    if not slowdowns:
        slowdowns = [lesson.slowdown for lesson in lessons if lesson.slowdown is not None]
    uses = [lesson.sm for lesson in same_card if lesson.sm is not None]
    return Usage(
        seconds=tuple(lesson.seconds for lesson in timed if lesson.seconds is not None),
        alone=tuple(
            lesson.seconds for lesson in timed if lesson.alone and lesson.seconds is not None
        ),
        peaks=tuple(run.peak for run in runs[:NEWEST]),
        sm=_mean(uses[:NEWEST]),
        slowdown=_mean(slowdowns[:NEWEST]),
        elsewhere=elsewhere,
        runs=() if exact else tuple(reversed(runs)),
    )


# --- what a row can hold: a database may have been edited, or be damaged


def lesson_of(
    seconds: Any, peak: Any, shared: Any, slowdown: Any, sm: Any, machine: Any, numbers: Any
) -> Lesson:
    """Return what a row of the table tells; what of it cannot be true is not known."""
    took, factor = within(seconds, 0, LONGEST_S), within(slowdown, 1, MOST_SLOWDOWN)
    beside = within(shared, 0, LONGEST_S)
    alone = took is not None and beside is not None and beside <= HARDLY * took
    if took is not None and factor is not None:
        took -= min(took, took if beside is None else beside) * (1 - 1 / factor)
    return Lesson(
        seconds=took,
        alone=alone,
        peak=peak if isinstance(peak, int) and 0 < peak <= MOST_PEAK else None,
        slowdown=factor,
        sm=within(sm, 0, 1),
        machine=machine if isinstance(machine, str) else "",
        numbers=_numbers(numbers),
    )


def within(value: Any, least: float, most: float) -> float | None:
    """Return a number that can be true; NaN is within nothing."""
    if isinstance(value, int | float) and least <= value <= most:
        return float(value)
    return None


def _numbers(text: Any) -> Numbers | None:
    try:
        listed = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    if isinstance(listed, list) and all(isinstance(number, str) for number in listed):
        return tuple(listed)
    return None


# --- parts of a fingerprint, which reads "NVIDIA A10, 24576 MiB, driver 550.54.15"


def card_of(machine: str) -> str:
    """Return the card that a fingerprint names, with its memory."""
    return machine.rpartition(", driver ")[0] or machine


def driver_of(machine: str) -> str:
    """Return the version of the driver, '' where it is not known."""
    return machine.rpartition(", driver ")[2] if ", driver " in machine else ""


def model_of(machine: str) -> str:
    """Return the name of the card, as people call it."""
    return machine.partition(",")[0].removeprefix("NVIDIA ")


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None
