"""Ridge regression on rows of features: the smaller one of dual and primal, in one interface.

It minimises the sum over rows of s * (t - w·x - b)^2 plus penalty * |w|^2. b is not penalised.

The dual has as many unknowns as rows, for any number of features. With w = X'a it is the system (K
+ penalty / s) a + b = t, sum(a) = 0, of the inner products K: C. Saunders, A. Gammerman, V. Vovk,
"Ridge regression learning algorithm in dual variables", ICML 1998. Labels are only in the
right-hand side, so other labels need no new factor. Rows are removed by the inverse of a block of
it (Woodbury; W. Hager, SIAM Review 31(2), 1989). It needs only inner products of standardised rows.
Columns are processed in blocks, so that neither the float64 features nor their standardised copy
are ever in memory as a whole.

The normal equations have as many unknowns as features, for any number of rows. They give the same
minimum, and are used for fewer features than rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, blas, cho_factor, cho_solve, lapack
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it tells no types

from trueface.models.head import CLIP
from trueface.runtime.errors import JobError

Features = NDArray[np.float32]  # (N, F)
Numbers = NDArray[np.float64]
BLOCK = 1024  # columns that are held as float64 at a time: 34 MB of 4,200 rows
LARGEST = 24_000  # rows and columns of a matrix: 4.6 GB
Check = Callable[[], None]  # raises where a stop was requested


@dataclass(frozen=True)
class FeatureRows:
    """Labelled rows of raw features; parts may be maps of files, of which columns are read.

    Attributes:
        parts: (n, F) each, one below the other: N rows in all.
        labels: (N,) 1 fake, 0 real.
        images: (N,) a number for each image; its views share it.
        weight: (N,) how much a row counts, > 0.
    """

    parts: tuple[Features, ...]
    labels: NDArray[np.int8]
    images: NDArray[np.int64]
    weight: Numbers

    @classmethod
    def from_parts(
        cls,
        parts: Sequence[Features],
        labels: Sequence[int] | NDArray[np.int8],
        images: Sequence[int] | NDArray[np.int64] | None = None,
        weight: Numbers | None = None,
    ) -> "FeatureRows":
        """Return rows; without `images` each is an image of its own, without `weight` all count 1."""
        count = len(labels)
        return cls(
            parts=tuple(parts),
            labels=np.asarray(labels, dtype=np.int8),
            images=np.arange(count) if images is None else np.asarray(images, dtype=np.int64),
            weight=np.ones(count) if weight is None else weight,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def width(self) -> int:
        """F."""
        return int(self.parts[0].shape[1])

    def columns(self, start: int, end: int) -> Numbers:
        """Return some columns of all rows, (N, end - start) float64."""
        return np.concatenate([part[:, start:end] for part in self.parts], dtype=np.float64)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of blocks of columns."""
        for start in range(0, self.width, BLOCK):
            yield start, min(start + BLOCK, self.width)


@dataclass(frozen=True)
class Standardization:
    """How raw features become columns of a regression; numbers are those of a `RidgeHead`.

    Attributes:
        mean: (F,) of the raw features.
        scale: (F,) their standard deviations; 1 where a feature is constant.
        weights: (F,) of the standardised features.
        clip: in standard deviations.
    """

    mean: Features
    scale: Features
    weights: Features
    clip: float = CLIP

    @classmethod
    def from_rows(
        cls, rows: FeatureRows, weights: Features | None = None, clip: float = CLIP
    ) -> "Standardization":
        """Return means and deviations of rows, each counted by its weight."""
        mean, scale = np.empty(rows.width, np.float32), np.empty(rows.width, np.float32)
        share = rows.weight / rows.weight.sum()
        for start, end in rows.blocks():
            block = rows.columns(start, end)
            centre = share @ block
            deviation = np.sqrt(share @ np.square(block - centre))
            mean[start:end] = centre
            # a feature that hardly differs would be rounding errors, blown up
            least = 1e-6 * np.abs(centre) + np.finfo(np.float32).tiny
            scale[start:end] = np.where(deviation > least, deviation, 1.0)
        own = np.ones(rows.width, np.float32) if weights is None else weights
        return cls(mean=mean, scale=scale, weights=own, clip=clip)

    def block(self, rows: FeatureRows, start: int, end: int) -> Numbers:
        """Return some standardised columns of all rows, (N, end - start)."""
        block = rows.columns(start, end)
        block -= self.mean[start:end]
        block /= self.scale[start:end]
        np.clip(block, -self.clip, self.clip, out=block)
        block *= self.weights[start:end]
        return block


def weighted_sum(rows: FeatureRows, standard: Standardization, coefficients: Numbers) -> Numbers:
    """Return the sum of standardised rows times coefficients, (F,) of (N,)."""
    parts = [coefficients @ standard.block(rows, *bounds) for bounds in rows.blocks()]
    return np.concatenate(parts)


@contextmanager
def job_threads() -> Iterator[None]:
    """Let NumPy and SciPy use as many threads as torch does: the cores of the job."""
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):
        yield


def refuse_large(size: int) -> None:
    """Refuse a matrix of `size` rows and columns that is too large.

    Raises:
        JobError: it is.
    """
    if size > LARGEST:
        raise JobError(
            f"a regression with {size} rows and features does not fit in memory (maximum "
            f"{LARGEST}). Use fewer images or copies, a network with fewer features, or solver: "
            "gradient."
        )


@dataclass(frozen=True)
class DualFactor:
    """The Cholesky factor of K + penalty / s.

    Attributes:
        lower: (N, N) its lower half. The upper half is undefined.
        solved_ones: (N,) the solution for a right-hand side of ones.
    """

    lower: Numbers
    solved_ones: Numbers

    @classmethod
    def from_inner_products(cls, inner: Numbers, penalty: float, weight: Numbers) -> "DualFactor":
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
                f"the regression has no solution with penalty {penalty:g}. The features are not "
                "finite numbers, or the penalty is too small."
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
        return Coefficients.from_solutions(self.solve(targets), self.solved_ones)

    def coefficients_without(
        self, rows: Sequence[int] | NDArray[np.int64], targets: Numbers
    ) -> "Coefficients":
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
        # a right-hand side for the rows that go takes their values to zero
        values, ones = (solved - columns @ np.linalg.solve(columns[gone], solved[gone])).T
        values[gone] = ones[gone] = 0.0
        return Coefficients.from_solutions(values, ones)


@dataclass(frozen=True)
class Coefficients:
    """The solution of the system: w is the sum of the rows times `values`, b is `intercept`."""

    values: Numbers  # (N,), they sum to 0
    intercept: float

    @classmethod
    def from_solutions(cls, values: Numbers, ones: Numbers) -> "Coefficients":
        """Return the solution of which those for the targets and for a right-hand side of ones are given."""
        intercept = float(values.sum() / ones.sum())
        return cls(values - intercept * ones, intercept)

    def outputs(self, targets: Numbers, penalty: float, weight: Numbers) -> Numbers:
        """Return w·x of each row (N,), from the equations of the system, without features.

        The values of rows that were left out are undefined.
        """
        outputs: Numbers = targets - self.intercept - penalty * self.values / weight
        return outputs


@dataclass(frozen=True)
class NormalEquations:
    """The weighted sums over N rows that a primal regression needs.

    Attributes:
        second: (F, F) of products of standardised columns.
        first: (F,) of the columns.
        total: of the weights.
        squared: (N,) the squared length of each row, without its weight.
    """

    second: Numbers
    first: Numbers
    total: float
    squared: Numbers

    @classmethod
    def from_columns(cls, columns: Numbers, weight: Numbers) -> "NormalEquations":
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
        """The mean squared length of a row, as that of `Dual`."""
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
                f"the regression has no solution with penalty {penalty:g}. The features are not "
                "finite numbers, or the penalty is too small."
            ) from error
        return solved


def standardise_rows(rows: FeatureRows, standard: Standardization) -> Numbers:
    """Return all standardised columns of rows, (N, F)."""
    return np.concatenate([standard.block(rows, *bounds) for bounds in rows.blocks()], axis=1)


@dataclass(frozen=True)
class Solution:
    """The result of a regression: outputs without an intercept, and the weights."""

    train_outputs: Numbers  # (N,) of its rows
    val_outputs: Numbers  # (M,) of others, as of validation
    weight: Callable[[], Numbers]  # (F,) of standardised features; takes a pass over them


@dataclass(frozen=True)
class Dual:
    """For at least as many features as rows, by inner products of N rows, and of M others with them."""

    rows: FeatureRows
    standard: Standardization
    own: Numbers  # (N, N), symmetric
    other: Numbers  # (M, N)

    @classmethod
    def from_rows(
        cls,
        rows: FeatureRows,
        standard: Standardization,
        others: FeatureRows | None = None,
        check: Check = lambda: None,
    ) -> "Dual":
        """Return the inner products of rows, and of others with them.

        Args:
            rows: (N, F).
            standard: makes columns of their features.
            others: (M, F), as of validation; None: there are none.
            check: called before each block of columns.

        Raises:
            JobError: so many rows have no place in memory.
        """
        refuse_large(len(rows))
        own = np.zeros((len(rows), len(rows)), order="F")
        other = np.zeros((0 if others is None else len(others), len(rows)))
        with job_threads():
            for start, end in rows.blocks():
                check()
                block = standard.block(rows, start, end)
                # the transpose is in Fortran's order: the lower half alone is computed
                own = blas.dsyrk(1.0, block.T, beta=1.0, c=own, trans=1, lower=1, overwrite_c=1)
                if others is not None:
                    other += standard.block(others, start, end) @ block.T
        return cls(rows, standard, _fill_upper_half(own), other)

    @property
    def unit(self) -> float:
        """The mean squared length of a row, which penalties are multiples of; 1 where all is 0."""
        return float(np.trace(self.own)) / len(self.own) or 1.0

    def solve(self, penalty: float, targets: Numbers) -> Solution:
        """Return the minimum for a penalty > 0 and targets (N,), whose weighted sum is 0."""
        factor = DualFactor.from_inner_products(self.own, penalty, self.rows.weight)
        coefficients = factor.coefficients(targets).values
        return Solution(
            train_outputs=self.own @ coefficients,
            val_outputs=self.other @ coefficients,
            weight=lambda: weighted_sum(self.rows, self.standard, coefficients),
        )


@dataclass(frozen=True)
class Primal:
    """The primal system, for fewer features than rows, with all rows in memory."""

    rows: FeatureRows
    columns: Numbers  # (N, F) standardised
    others: Numbers  # (M, F)
    moments: NormalEquations

    @property
    def unit(self) -> float:
        """See `Dual`."""
        return self.moments.unit

    def solve(self, penalty: float, targets: Numbers) -> Solution:
        """See `Dual`."""
        weight = self.moments.weight(self.columns, self.rows.weight * targets, penalty)
        return Solution(self.columns @ weight, self.others @ weight, lambda: weight)


def regression(
    rows: FeatureRows,
    standard: Standardization,
    others: FeatureRows | None = None,
    check: Check = lambda: None,
) -> Dual | Primal:
    """Return the cheaper regression of rows; see `Dual.from_rows` for the arguments.

    Raises:
        JobError: both rows and features are too many.
    """
    if len(rows) <= rows.width:
        return Dual.from_rows(rows, standard, others, check)
    check()
    columns = standardise_rows(rows, standard)
    tested = np.empty((0, rows.width)) if others is None else standardise_rows(others, standard)
    return Primal(rows, columns, tested, NormalEquations.from_columns(columns, rows.weight))


def _fill_upper_half(lower: Numbers) -> Numbers:
    """Return the symmetric matrix of which the lower half is given, in its place."""
    for start in range(0, len(lower), BLOCK):
        end = start + BLOCK
        square = np.tril(lower[start:end, start:end])
        lower[start:end, start:end] = square + np.tril(square, -1).T
        lower[start:end, end:] = lower[end:, start:end].T
    return lower
