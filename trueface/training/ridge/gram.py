"""Inner products of standardised rows, all that a dual regression needs of the features.

Columns pass in blocks, so that neither the float64 features nor their standardised copy ever lie in
memory as a whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import blas
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it tells no types

from trueface.runtime.errors import JobError
from trueface.training.ridge.rows import BLOCK, Numbers, Rows, Standard

LARGEST = 24_000  # rows and columns of a matrix: 4.6 GB

Check = Callable[[], None]  # raises where a stop was requested


@dataclass(frozen=True)
class Gram:
    """Inner products of N training rows with each other, and of M others with them."""

    own: Numbers  # (N, N), symmetric
    other: Numbers  # (M, N)

    @property
    def unit(self) -> float:
        """The mean squared length of a row, which penalties are multiples of; 1 where all is 0."""
        return float(np.trace(self.own)) / len(self.own) or 1.0


def gram(
    rows: Rows, standard: Standard, others: Rows | None = None, check: Check = lambda: None
) -> Gram:
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
            # of the transpose, which is in Fortran's order: the lower half alone is computed
            own = blas.dsyrk(1.0, block.T, beta=1.0, c=own, trans=1, lower=1, overwrite_c=1)
            if others is not None:
                other += standard.block(others, start, end) @ block.T
    return Gram(_whole(own), other)


def weighted_sum(rows: Rows, standard: Standard, coefficients: Numbers) -> Numbers:
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
            f"a regression of {size} rows and features has no place in memory, {LARGEST} are the "
            "most: take fewer images or copies, a network of fewer features, or solver: gradient"
        )


def _whole(lower: Numbers) -> Numbers:
    """Return the symmetric matrix of which the lower half is given, in its place."""
    for start in range(0, len(lower), BLOCK):
        end = start + BLOCK
        square = np.tril(lower[start:end, start:end])
        lower[start:end, start:end] = square + np.tril(square, -1).T
        lower[start:end, end:] = lower[end:, start:end].T
    return lower
