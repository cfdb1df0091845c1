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

    def coefficients(self, targets: Numbers) -> Numbers:
        """Return the coefficients (N,) of the rows for targets (N,)."""
        return _centred(self.solve(targets), self.solved_ones)

    def without(self, rows: Sequence[int] | NDArray[np.int64], targets: Numbers) -> Numbers:
        """Return the coefficients of the rows that stay, as of a regression without the others.

        Args:
            rows: to leave out, R of N.
            targets: (N,); those of the rows that are left out do not count.
        """
        gone = np.asarray(rows, dtype=np.int64)
        stay = np.setdiff1d(np.arange(len(self.lower)), gone)
        right = np.column_stack([targets, np.ones(len(targets))])
        right[gone] = 0.0
        units = np.zeros((len(self.lower), len(gone)))
        units[gone, np.arange(len(gone))] = 1.0
        columns, solved = self.solve(units), self.solve(right)
        # what the rows that go would get is taken to zero by a right-hand side of theirs
        extra = np.linalg.solve(columns[gone], solved[gone])
        values, ones = (solved[stay] - columns[stay] @ extra).T
        return _centred(values, ones)


def _centred(values: Numbers, ones: Numbers) -> Numbers:
    """Return the solution whose sum is 0, which is what the intercept does."""
    centred: Numbers = values - ones * (values.sum() / ones.sum())
    return centred
