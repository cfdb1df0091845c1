"""Ridge regression by its normal equations: as many unknowns as features, whatever the number of rows.

The same minimum as in `dual`, for fewer features than rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from trueface.runtime.errors import JobError
from trueface.training.ridge.gram import job_threads, refuse_large
from trueface.training.ridge.rows import Numbers, Rows, Standard


@dataclass(frozen=True)
class Moments:
    """What a primal regression needs of N rows: sums over them, weighted by how much each counts.

    Attributes:
        second: (F, F) of products of standardised columns.
        first: (F,) of the columns.
        total: of the weights.
        squared: (N,) the squared length of each row, whatever it counts.
    """

    second: Numbers
    first: Numbers
    total: float
    squared: Numbers

    @classmethod
    def of(cls, columns: Numbers, weight: Numbers) -> "Moments":
        """Return the sums over standardised rows (N, F)."""
        refuse_large(columns.shape[1])
        with job_threads():
            second = columns.T @ (weight[:, None] * columns)
        return cls(
            second=second,
            first=weight @ columns,
            total=float(weight.sum()),
            squared=np.square(columns).sum(1),
        )

    @property
    def unit(self) -> float:
        """The mean squared length of a row, as that of `Gram`."""
        return float(self.squared.mean()) or 1.0

    def weight(self, columns: Numbers, right: Numbers, penalty: float) -> Numbers:
        """Return the weights (F,) of the minimum.

        Args:
            columns: (N, F) standardised rows.
            right: (N,) targets times what each row counts; they sum to 0.
            penalty: of squared weights.

        Raises:
            JobError: there is no minimum.
        """
        matrix = self.second - np.outer(self.first, self.first) / self.total
        matrix[np.diag_indices(len(matrix))] += penalty
        try:
            with job_threads():
                solved: Numbers = cho_solve(cho_factor(matrix, lower=True), columns.T @ right)
        except (LinAlgError, ValueError) as error:
            raise JobError(
                f"the regression has no solution with penalty {penalty:g}: features are no finite "
                "numbers, or the penalty is too small"
            ) from error
        return solved


def whole(rows: Rows, standard: Standard) -> Numbers:
    """Return all standardised columns of rows, (N, F)."""
    return np.concatenate([standard.block(rows, *bounds) for bounds in rows.blocks()], axis=1)
