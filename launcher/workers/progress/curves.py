"""The numbers that a job reports, as curves over its steps."""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

from launcher.workers.progress.steps import Step

RATE = "rate"  # steps a second

Point = tuple[float, float]  # step, value


def curves(steps: Sequence[Step]) -> dict[str, list[Point]]:
    """Return name → points of each number that was reported since the steps last began anew."""
    begin = 0
    for place, (before, after) in enumerate(pairwise(steps), start=1):
        if after.step < before.step:
            begin = place
    curves: dict[str, list[Point]] = {}
    for step in steps[begin:]:
        for name, value in step.metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                curves.setdefault(name, []).append((float(step.step), _real(value)))
    rates = _rates(steps[begin:])
    return curves | ({RATE: rates} if rates else {})


def _rates(steps: Sequence[Step]) -> list[Point]:
    """Return the rates that were reported, or else those between steps that were read at different times."""
    if own := [(float(step.step), step.rate) for step in steps if step.rate is not None]:
        return own
    last_of_time = {step.at: step for step in steps}.values()
    # a step is reported again with what a validation found: the time between is none of the steps'
    same = [[*group] for _, group in groupby(last_of_time, key=lambda step: step.step)]
    return [
        (float(after[0].step), (after[0].step - before[-1].step) / (after[0].at - before[-1].at))
        for before, after in pairwise(same)
        if after[0].at > before[-1].at
    ]


def _real(value: float) -> float:
    """Return a number as curves know it: JSON has integers that are too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
