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
    # a step that is reported again, with what a validation has found, is no step without pace
    moved = [next(same) for _, same in groupby(last_of_time, key=lambda step: step.step)]
    return [
        (float(after.step), (after.step - before.step) / (after.at - before.at))
        for before, after in pairwise(moved)
        if after.at > before.at
    ]


def _real(value: float) -> float:
    """Return a number as curves know it: JSON has integers that are too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
