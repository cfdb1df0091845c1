"""A fitted last layer without some rows, or with other labels, in closed form.

Exact means: the same as a refit on what stays, with the same means, deviations and penalty. Means and
deviations still hold what was forgotten, one part in N of each number. Other labels need a new
right-hand side, rows that leave the inverse of a block (see `dual`): neither looks at an image, and the
factor can be kept. With fewer features than rows a refit is as quick, and is what is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trueface.training.ridge.dual import DualFactor
from trueface.training.ridge.gram import Check, gram, weighted_sum
from trueface.training.ridge.penalties import balanced_bias, targets
from trueface.training.ridge.primal import Moments, whole
from trueface.training.ridge.rows import Numbers, Rows, Standard


@dataclass(frozen=True)
class Layer:
    """A linear layer on standardised features, before its temperature."""

    weight: Numbers  # (F,)
    bias: float


def is_dual(rows: Rows) -> bool:
    """Return whether rows are few enough that a factor of them is worth keeping."""
    return len(rows) <= rows.width


def factor_of(
    rows: Rows, standard: Standard, penalty: float, check: Check = lambda: None
) -> DualFactor:
    """Return the factor of all rows, from which `refit` goes on.

    Raises:
        JobError: stopped, or no factor.
    """
    return DualFactor.of(gram(rows, standard, check=check).own, penalty, rows.weight)


def refit(
    rows: Rows,
    standard: Standard,
    penalty: float,
    *,
    gone: Sequence[int] | NDArray[np.int64] = (),
    factor: DualFactor | None = None,
) -> Layer:
    """Return the layer of all rows but some, with the labels that the rows have now.

    Args:
        rows: as they were fitted, those that go included; labels as they shall be.
        standard: as they were fitted with.
        penalty: of squared weights.
        gone: the rows to forget.
        factor: of all rows; None: it is made where it is needed.

    Raises:
        JobError: no finite numbers.
        ValueError: what stays has one class only.
    """
    stays = np.ones(len(rows))
    stays[np.asarray(gone, dtype=np.int64)] = 0.0
    weight = rows.weight * stays
    wanted = targets(rows.labels, weight)
    if is_dual(rows):
        factor = factor or factor_of(rows, standard, penalty)
        solved = factor.without(gone, wanted) if len(gone) else factor.coefficients(wanted)
        direction = weighted_sum(rows, standard, solved.values)
        outputs = solved.outputs(wanted, penalty, rows.weight)
    else:
        columns = whole(rows, standard)
        moments = Moments.of(columns, weight)
        direction = moments.weight(columns, weight * wanted, penalty)
        outputs = columns @ direction
    return Layer(weight=direction, bias=balanced_bias(outputs, rows.labels, weight))


def relabelled(rows: Rows, labels: NDArray[np.int8]) -> Rows:
    """Return the rows with other labels (N,)."""
    return replace(rows, labels=labels)
