"""Which penalties are tried, and the targets that labels are regressed on."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trueface.training.ridge.rows import Numbers

COARSE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties tried first, in mean squared lengths of a row: of a row's length 1 is as much as the data."""
FINE = (10**-0.5, 10**0.5)  # times the best of these, tried then


def targets(labels: NDArray[np.int8], weight: Numbers) -> Numbers:
    """Return what is regressed on, (N,): +1 and -1 of classes alike, else so that both sum to the same.

    With an intercept any two numbers give the same direction; these make the logit's scale that of
    ±1. The two sums, of rows counted by weight, are opposite.

    Raises:
        ValueError: there is one class only.
    """
    fake = labels == 1
    fakes, reals = float(weight[fake].sum()), float(weight[~fake].sum())
    if not fakes or not reals:
        raise ValueError("a regression needs rows of both classes")
    return np.where(fake, 0.5 / fakes, -0.5 / reals) * (fakes + reals)


def balanced_bias(outputs: Numbers, labels: NDArray[np.int8], weight: Numbers) -> float:
    """Return the bias that puts 0 halfway between the mean outputs of the classes."""
    fake = labels == 1
    means = [np.average(outputs[rows], weights=weight[rows]) for rows in (fake, ~fake)]
    return -0.5 * float(sum(means))


def best_penalty(
    merit: Callable[[float], float], coarse: Sequence[float] = COARSE
) -> tuple[float, dict[float, float]]:
    """Return the penalty of the largest merit, of equal ones the largest, and all merits.

    Args:
        merit: of a penalty; called once for each.
        coarse: where to begin; the best one's neighbours are tried, too.
    """
    merits = {penalty: merit(penalty) for penalty in coarse}
    centre = _best(merits)
    merits |= {centre * factor: merit(centre * factor) for factor in FINE}
    return _best(merits), merits


def _best(merits: dict[float, float]) -> float:
    return max(merits, key=lambda penalty: (merits[penalty], penalty))
