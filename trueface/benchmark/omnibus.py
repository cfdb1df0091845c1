"""Are any of several models different at all? Only of independent sets of images can that be tested.

Corruptions of one set, and sets that share real images, are not independent.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

LEAST_SETS = 5
LEAST_MODELS = 3  # two are a pair: see `pairs`
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Omnibus:
    """Friedman's test with Nemenyi's critical difference; or why there is none."""

    sets: tuple[str, ...]  # independent ones
    reason: str = ""  # why there is no test
    p: float | None = None
    mean_ranks: Mapping[str, float] | None = None
    critical_difference: float | None = None  # of mean ranks

    @property
    def text(self) -> str:
        """The test in words."""
        if self.p is None or self.critical_difference is None:
            return f"none: {self.reason}"
        ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in (self.mean_ranks or {}).items())
        return (
            f"p {self.p:.3f} over {len(self.sets)} sets; mean ranks {ranks}; two of them differ from "
            f"{self.critical_difference:.2f} on (Nemenyi, 5 %)"
        )


def friedman(values: Mapping[str, Sequence[float]], sets: Sequence[str]) -> Omnibus:
    """Return Friedman's test of models over independent sets.

    Args:
        values: of each model one a set, higher = better.
        sets: names of the sets.

    Sources: M. Friedman, Journal of the American Statistical Association 32(200), 1937; P. Nemenyi,
        1963, in the form of J. Demšar, Journal of Machine Learning Research 7, 2006, section 3.2.2.
    """
    names = tuple(sets)
    if len(names) < LEAST_SETS:
        sets_are = f"{len(names)} independent set{'' if len(names) == 1 else 's'}"
        reason = f"{sets_are} of images, and {LEAST_SETS} are needed"
        return Omnibus(sets=names, reason=reason)
    if len(values) < LEAST_MODELS:
        models_are = f"{len(values)} model{'' if len(values) == 1 else 's'}"
        return Omnibus(sets=names, reason=f"{models_are}, and {LEAST_MODELS} are needed")
    table: NDArray[np.float64] = np.array(list(values.values()))  # (M, N)
    ranks = rankdata(-table, axis=0).mean(1)
    p = float(friedmanchisquare(*table).pvalue) if np.ptp(table) > 0 else 1.0
    return Omnibus(
        sets=names,
        p=p if math.isfinite(p) else 1.0,
        mean_ranks=dict(zip(values, map(float, ranks), strict=True)),
        critical_difference=critical_difference(len(table), len(names)),
    )


def critical_difference(models: int, sets: int) -> float:
    """Return by how much two mean ranks must differ at the 5 % level."""
    q = float(studentized_range.ppf(1 - LEVEL, models, math.inf)) / math.sqrt(2)
    return q * math.sqrt(models * (models + 1) / (6 * sets))


def independent(images: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return names of sets that share no image, the first of each that overlap.

    Args:
        images: the keys of each set.
    """
    taken: set[str] = set()
    chosen = []
    for name, keys in images.items():
        own = set(keys)
        if own and taken.isdisjoint(own):
            taken |= own
            chosen.append(name)
    return tuple(chosen)
