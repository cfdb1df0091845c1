"""A ridge regression of either sort: the smaller one of dual and primal, under one interface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trueface.training.ridge.dual import DualFactor
from trueface.training.ridge.gram import Check, Gram, gram, weighted_sum
from trueface.training.ridge.primal import Moments, whole
from trueface.training.ridge.rows import Numbers, Rows, Standard


@dataclass(frozen=True)
class Solution:
    """What a regression gives: outputs without an intercept, and the weights behind them."""

    own: Numbers  # (N,) of its rows
    other: Numbers  # (M,) of others, as of validation
    weight: Callable[[], Numbers]  # (F,) of standardised features; takes a pass over them


class Regression(Protocol):
    """Ridge regressions of the same rows under any penalty."""

    @property
    def unit(self) -> float:
        """The mean squared length of a row, which penalties are multiples of."""

    def solve(self, penalty: float, targets: Numbers) -> Solution:
        """Return the minimum for a penalty > 0 and targets (N,), whose weighted sum is 0."""


@dataclass(frozen=True)
class Dual:
    """For at least as many features as rows."""

    rows: Rows
    standard: Standard
    gram: Gram

    @property
    def unit(self) -> float:
        """See `Regression`."""
        return self.gram.unit

    def solve(self, penalty: float, targets: Numbers) -> Solution:
        """See `Regression`."""
        factor = DualFactor.of(self.gram.own, penalty, self.rows.weight)
        coefficients = factor.coefficients(targets).values
        return Solution(
            own=self.gram.own @ coefficients,
            other=self.gram.other @ coefficients,
            weight=lambda: weighted_sum(self.rows, self.standard, coefficients),
        )


@dataclass(frozen=True)
class Primal:
    """For fewer features than rows, which lie in memory."""

    rows: Rows
    columns: Numbers  # (N, F) standardised
    others: Numbers  # (M, F)
    moments: Moments

    @property
    def unit(self) -> float:
        """See `Regression`."""
        return self.moments.unit

    def solve(self, penalty: float, targets: Numbers) -> Solution:
        """See `Regression`."""
        weight = self.moments.weight(self.columns, self.rows.weight * targets, penalty)
        return Solution(self.columns @ weight, self.others @ weight, lambda: weight)


def regression(
    rows: Rows, standard: Standard, others: Rows | None = None, check: Check = lambda: None
) -> Dual | Primal:
    """Return the cheaper regression of rows; see `gram.gram` for the arguments.

    Raises:
        JobError: both rows and features are too many.
    """
    if len(rows) <= rows.width:
        return Dual(rows, standard, gram(rows, standard, others, check))
    check()
    columns = whole(rows, standard)
    tested = np.empty((0, rows.width)) if others is None else whole(others, standard)
    return Primal(rows, columns, tested, Moments.of(columns, rows.weight))
