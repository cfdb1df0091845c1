"""Ridge regression by its dual: as many unknowns as rows, whatever the number of features.

Minimised is the sum over rows of s * (t - w·x - b)^2 plus penalty * |w|^2, b not penalised. With
w = X'a that is the system (K + penalty / s) a + b = t, sum(a) = 0, of the inner products K: C.
Saunders, A. Gammerman, V. Vovk, "Ridge regression learning algorithm in dual variables", ICML 1998.
Labels stand on the right-hand side alone, so other labels need no new factor; rows leave by the
inverse of a block of it (Woodbury; W. Hager, SIAM Review 31(2), 1989).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack

from trueface.runtime.errors import JobError
from trueface.training.ridge.gram import job_threads
from trueface.training.ridge.rows import Numbers


@dataclass(frozen=True)
class DualFactor:
    """The Cholesky factor of K + penalty / s.

    Attributes:
        lower: (N, N) its lower half; what stands above is of no meaning.
        solved_ones: (N,) the solution for a right-hand side of ones.
    """

    lower: Numbers
    solved_ones: Numbers

    @classmethod
    def of(cls, inner: Numbers, penalty: float, weight: Numbers) -> "DualFactor":
        """Return the factor for inner products (N, N) and rows that count `weight` (N,).

        Raises:
            JobError: the matrix is not positive definite.
        """
        matrix = np.array(inner, order="F")
        matrix[np.diag_indices(len(matrix))] += penalty / weight
        with job_threads():
            lower, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=0)
        if failed or not np.isfinite(lower.diagonal()).all():
            raise JobError(
                f"the regression has no solution with penalty {penalty:g}: features are no finite "
                "numbers, or the penalty is too small"
            )
        factor = cls(lower, np.empty(0))
        return cls(lower, factor.solve(np.ones(len(lower))))

    def solve(self, right: Numbers) -> Numbers:
        """Return the solution (N,) or (N, k) of a right-hand side, intercept left out."""
        with job_threads():
            solved: Numbers = cho_solve((self.lower, True), right, check_finite=False)
        return solved

    def coefficients(self, targets: Numbers) -> "Coefficients":
        """Return the coefficients of the rows for targets (N,)."""
        return Coefficients.of(self.solve(targets), self.solved_ones)

    def without(self, rows: Sequence[int] | NDArray[np.int64], targets: Numbers) -> "Coefficients":
        """Return the coefficients of a regression without some rows; theirs are 0.

        Args:
            rows: to leave out, R of N.
            targets: (N,); those of the rows that are left out do not count.
        """
        gone = np.asarray(rows, dtype=np.int64)
        right = np.column_stack([targets, np.ones(len(targets))])
        right[gone] = 0.0
        units = np.zeros((len(self.lower), len(gone)))
        units[gone, np.arange(len(gone))] = 1.0
        columns, solved = self.solve(units), self.solve(right)
        # what the rows that go would get is taken to zero by a right-hand side of theirs
        values, ones = (solved - columns @ np.linalg.solve(columns[gone], solved[gone])).T
        values[gone] = ones[gone] = 0.0
        return Coefficients.of(values, ones)


@dataclass(frozen=True)
class Coefficients:
    """The solution of the system: w is the sum of the rows times `values`, b is `intercept`."""

    values: Numbers  # (N,), they sum to 0
    intercept: float

    @classmethod
    def of(cls, values: Numbers, ones: Numbers) -> "Coefficients":
        """Return the solution of which those for the targets and for a right-hand side of ones are given."""
        intercept = float(values.sum() / ones.sum())
        return cls(values - intercept * ones, intercept)

    def outputs(self, targets: Numbers, penalty: float, weight: Numbers) -> Numbers:
        """Return w·x of each row (N,), of the system's own equations: no features are needed.

        Of rows that were left out it means nothing.
        """
        outputs: Numbers = targets - self.intercept - penalty * self.values / weight
        return outputs
