"""F_G, F_A and F_COV: three measures over groups that the program of Fairness-Generalization prints.

Let PR be the fraction of images called fake, and z the logits.

- F_G is the largest distance of a group's PR from the PR of all images. Unit: per cent.
- F_A is the mean of F_G and F_S. F_S is the largest difference of PR between two groups. For gender
  and for race alone, F_S is still that of gender and race together. Unit: per cent.
- F_COV is the sum over groups of w n/N |mean z of the group - mean z of all|. The weight w is the place
  of the group in the program's list, from 0 on. Unit: logits. For two groups it is the absolute covariance
  of the group, as 0 or 1, and the logit.

A group without members is in none of them, but it has a place in the list. A group with images of one
class only is in F_COV, and the program drops it from F_G and F_A without an error. So do we, and report
the number of groups. The overall PR contains its images. With fewer than two groups the program prints
0, and here there is no value.

Source: fairness_metrics.py of Purdue-M2/Fairness-Generalization @e552a54 (L. Lin et al., CVPR 2024, arXiv
2402.17229). The file of Purdue-M2/AI-Face-FairnessBench has the same definitions. The repository of "Improving
fairness in deepfake detection" (Y. Ju et al., WACV 2024) contains no code.

Differences: the program prints F_G and F_A as fractions, and calls a logit of exactly 0 fake. It prints no
F_COV of intersections; here their list is that of their numbers in `intersec_label`. Groups outside the
program's lists are in alphabetical order. The program's test.py takes the logit of class 1 alone for z. For
our detectors z is that logit less the logit of class 0. So F_COV has another scale. F_G and F_A are at another
threshold, a probability of 0.5. Files of single logits are read as they are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.attribute_table import EIGHT, GENDERS, RACES, SIX
from trueface.evaluation.arrays import Floats
from trueface.evaluation.dependent_rows import DependentRows, Integers
from trueface.evaluation.estimates import RESAMPLES, from_draws
from trueface.evaluation.group_rates import (
    AREA_ROWS,
    COVARIANCE,
    FEWEST,
    LARGEST_DISTANCE,
    MEAN_OF_BOTH,
    PERCENT,
    SHUFFLES,
    GroupConfusion,
    GroupTable,
    Undefined,
    count_by_group,
    max_difference,
    permutation_baseline,
)
from trueface.runtime.rng import numpy_rng

NEITHER = -1  # number of an image that is in no intersection
ONE_CLASS = "fewer than two groups have images of both classes"
NO_GROUPS = "fewer than two groups have images"
TOO_LARGE = "sums of the logits overflow"
PUBLISHED_LEGEND = (
    "F_G, F_A and F_COV are those of Fairness-Generalization, which drops groups of one class from F_G and F_A. F_A of "
    "gender or race also compares their intersections. Numbers of groups, such as 2 of 3, do not count these"
)
# in the order of the program's calls: for Celeb-DF and DFD without asian, for FF++ and DFDC with it
LISTS = (GENDERS, RACES[1:], RACES, SIX, EIGHT)


class GroupedLogits(NamedTuple):
    """The logits of N images with their groups."""

    fake: NDArray[np.bool_]  # (N,)
    logits: Floats  # (N,) positive = fake
    groups: NDArray[np.int32]  # (N,) number of the group, below G
    places: Integers  # (G,) of the groups in the program's list
    intersections: NDArray[np.int32]  # (N,) number of the intersection, or NEITHER
    keys: Sequence[str] = ()  # (N,) rows with one key are of one image or video; (): none are

    def sort_by_values(self) -> "GroupedLogits":
        """Return the rows in an order that depends on their values alone, as the shuffles do on it."""
        cells = self.groups.astype(np.int64) * 2 + self.fake
        if self.keys:
            rows = np.lexsort((np.array(self.keys), self.logits, cells))
        else:
            rows = np.lexsort((self.logits, cells))
        return GroupedLogits(
            self.fake[rows],
            self.logits[rows],
            self.groups[rows],
            self.places,
            self.intersections[rows],
            [self.keys[row] for row in rows] if self.keys else (),
        )

    def find_dependent_rows(
        self, parts: NDArray[np.integer], threshold: float = 0.0
    ) -> DependentRows | None:
        """Return the rows of one image or video in parts (N,); None if there are none."""
        return DependentRows.find(self.keys, self.fake, self.logits > threshold, parts)


def places_in_list(names: Sequence[str], empty_names: Sequence[str] = ()) -> Integers:
    """Return the place of each group in the program's list, (G,).

    Args:
        names: of the groups with images.
        empty_names: further groups that are listed, and have none.
    """
    listed = {*names, *empty_names}
    order = next((each for each in LISTS if listed <= set(each)), sorted(listed))
    return np.array([order.index(name) for name in names], np.int64)


def empty_intersections(names: Sequence[str], empty_names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the listed intersections without images; () if the groups are not in the program's lists."""
    listed = {*names, *empty_names}
    order = next((each for each in (SIX, EIGHT) if listed <= set(each)), ())
    return tuple(name for name in order if name not in names)


def with_published_gaps(
    table: GroupTable,
    group_logits: GroupedLogits,
    *,
    shuffles: int = SHUFFLES,
    base_table: GroupTable | None = None,
) -> GroupTable:
    """Return a table with F_G, F_A and F_COV, their floors and their intervals.

    Args:
        table: of the same images.
        group_logits: logits and groups of the images.
        shuffles: number for the floors. 0: no floors, and no intervals.
        base_table: table of the same images at another threshold. F_COV has none, and is taken from there.
    """
    cells = _Cells.from_logits(group_logits, table.threshold)
    values = dict(cells.gaps(cells.counts))
    spreads: dict[str, Floats] = {}
    shuffled: dict[str, Floats] = {}
    if shuffles:
        spreads |= cells.gaps(_draw_counts(cells))
        shuffled |= cells.gaps(_shuffle_counts(cells, shuffles))
    if base_table is None:
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is reported as undefined
            rows = group_logits.sort_by_values()
            sums, sizes = _sums(rows, rows.groups), _sizes(rows)
            values[COVARIANCE] = _covariance(sums, sizes, rows.places)
            if shuffles:
                spreads[COVARIANCE] = _covariance(_draw_sums(rows), sizes, rows.places)
                if len(rows.logits) <= AREA_ROWS:
                    shuffled[COVARIANCE] = _covariance(*_shuffle_sums(rows, shuffles), rows.places)
    known = {name: float(value) for name, value in values.items() if np.isfinite(value)}
    measures = {name: known.get(name) for name in values}
    floors = {name: permutation_baseline(shuffled[name]) for name in known if name in shuffled}
    ends = {name: from_draws(known[name], spreads[name]) for name in known if name in spreads}
    if base_table is not None:
        measures[COVARIANCE] = base_table.measures[COVARIANCE]
        floors |= {
            name: base_table.floor[name] for name in [COVARIANCE] if name in base_table.floor
        }
        ends |= {
            name: base_table.intervals[name]
            for name in [COVARIANCE]
            if name in base_table.intervals
        }
    return table._replace(
        measures={**table.measures, **measures},
        floor={**table.floor, **floors},
        intervals={**table.intervals, **ends},
        undefined=(*table.undefined, *_list_undefined(measures, _sizes(group_logits))),
    )


class _Cells(NamedTuple):
    """Counts of the finest parts of a table: a group and an intersection each."""

    counts: GroupConfusion  # (J,)
    groups: Integers  # (J,) the group of each part
    intersections: Integers  # (J,) its intersection, or NEITHER
    dependent: DependentRows | None  # rows of one image or video

    @classmethod
    def from_logits(cls, group_logits: GroupedLogits, threshold: float) -> "_Cells":
        finer = group_logits.intersections.astype(np.int64) - NEITHER  # 0 is NEITHER
        radix = int(finer.max(initial=0)) + 1
        parts, numbers = np.unique(
            group_logits.groups.astype(np.int64) * radix + finer, return_inverse=True
        )
        counts = count_by_group(
            group_logits.fake, group_logits.logits > threshold, numbers, len(parts)
        )
        return cls(
            counts,
            parts // radix,
            parts % radix + NEITHER,
            group_logits.find_dependent_rows(numbers, threshold),
        )

    def gaps(self, counts: GroupConfusion) -> Mapping[str, Floats]:
        """Return F_G and F_A of counts (…, J) of these parts."""
        by_group = _positive_rates(_collapse_counts(counts, self.groups))
        known = np.isfinite(by_group)
        distances = np.abs(by_group - counts.overall.positive)
        largest = np.max(distances, axis=-1, initial=0.0, where=known)
        apart = PERCENT * np.where(known.sum(-1) >= FEWEST, largest, np.nan)
        between = PERCENT * max_difference(
            _positive_rates(_collapse_counts(counts, self.intersections))
        )
        return {LARGEST_DISTANCE: apart, MEAN_OF_BOTH: (apart + between) / 2}


def _collapse_counts(counts: GroupConfusion, numbers: Integers) -> GroupConfusion:
    """Return the counts of groups, of parts that each belong to one or to NEITHER."""
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] != NEITHER]
    starts = np.flatnonzero(np.diff(numbers[order], prepend=NEITHER))
    return GroupConfusion(*(np.add.reduceat(each[..., order], starts, axis=-1) for each in counts))


def _positive_rates(counts: GroupConfusion) -> Floats:
    """Return the fraction called fake of each group; NaN without images of both classes."""
    has_both = (counts.reals > 0) & (counts.fakes > 0)
    rates: Floats = np.where(has_both, counts.positive, np.nan)
    return rates


def _draw_counts(cells: _Cells) -> GroupConfusion:
    """Return the counts of other images of each part and class, (RESAMPLES, J)."""
    counts = cells.counts
    rng = numpy_rng("bootstrap of published gaps", 0)
    if cells.dependent is not None:
        return GroupConfusion(*cells.dependent.draw_counts(rng, RESAMPLES, len(counts.reals)))

    def draw(sizes: Integers, rates: Floats) -> Integers:
        called: Integers = rng.binomial(sizes, np.nan_to_num(rates), (RESAMPLES, len(sizes)))
        return called

    return counts._replace(
        false_positives=draw(counts.reals, counts.fpr),
        true_positives=draw(counts.fakes, counts.tpr),
    )


def _shuffle_counts(cells: _Cells, shuffles: int) -> GroupConfusion:
    """Return the counts of groups shuffled within each class, (S, J)."""
    counts = cells.counts
    rng = numpy_rng("shuffled groups of published gaps", 0)
    if cells.dependent is not None:
        return GroupConfusion(*cells.dependent.shuffle_counts(rng, shuffles, len(counts.reals)))

    def deal(sizes: Integers, predicted_fake: Integers) -> Integers:
        count: Integers = rng.multivariate_hypergeometric(
            sizes, int(predicted_fake.sum()), shuffles
        )
        return count

    return counts._replace(
        false_positives=deal(counts.reals, counts.false_positives),
        true_positives=deal(counts.fakes, counts.true_positives),
    )


def _covariance(sums: Floats, sizes: Integers, places: Integers) -> Floats:
    """Return F_COV of the sums of logits (…, G) of groups with these numbers of images, (…, G) or (G,)."""
    total = sizes.sum(-1, keepdims=True)
    mean = sums.sum(-1, keepdims=True) / total
    value: Floats = (places * np.abs(sums / total - sizes / total * mean)).sum(-1)
    return value if np.count_nonzero(sizes) >= FEWEST else np.full_like(value, np.nan)


def _sizes(group_logits: GroupedLogits) -> Integers:
    sizes: Integers = np.bincount(group_logits.groups, minlength=len(group_logits.places))
    return sizes


def _sums(group_logits: GroupedLogits, groups: NDArray[np.integer]) -> Floats:
    sums = np.bincount(groups, weights=group_logits.logits, minlength=len(group_logits.places))
    return np.asarray(sums, np.float64)


def _draw_sums(group_logits: GroupedLogits) -> Floats:
    """Return sums of logits (RESAMPLES, G) of other images of each group and class.

    They are normal around the sums, with the variances of a bootstrap.
    """
    rng = numpy_rng("bootstrap of covariances", 0)
    cells, size = group_logits.groups * 2 + group_logits.fake, 2 * len(group_logits.places)
    counts = np.bincount(cells, minlength=size)
    sums = np.bincount(cells, weights=group_logits.logits, minlength=size)
    means = sums / np.maximum(counts, 1)
    squares = np.bincount(cells, weights=(group_logits.logits - means[cells]) ** 2, minlength=size)
    dependent = group_logits.find_dependent_rows(group_logits.groups)
    if dependent is not None:
        of_units = np.bincount(dependent.units, weights=group_logits.logits - means[cells])
        squares = np.bincount(
            dependent.parts * 2 + dependent.fake, weights=of_units**2, minlength=size
        )
    drawn: Floats = sums + np.sqrt(squares) * rng.normal(size=(RESAMPLES, size))
    of_groups: Floats = drawn.reshape(RESAMPLES, -1, 2).sum(-1)
    return of_groups


def _shuffle_sums(group_logits: GroupedLogits, shuffles: int) -> tuple[Floats, Integers]:
    """Return sums of logits and numbers of images, (S, G) both, of groups shuffled within each class."""
    rng = numpy_rng("shuffled groups of covariances", 0)
    dependent = group_logits.find_dependent_rows(group_logits.groups)
    if dependent is not None:
        every = [
            group_logits._replace(groups=each[dependent.units].astype(np.int32))
            for each in dependent.shuffle(rng, shuffles)
        ]
        return (
            np.array([_sums(each, each.groups) for each in every]),
            np.array([_sizes(each) for each in every]),
        )
    classes = (np.flatnonzero(~group_logits.fake), np.flatnonzero(group_logits.fake))
    dealt, sums = group_logits.groups.copy(), []
    for _ in range(shuffles):
        for rows in classes:
            dealt[rows] = rng.permutation(dealt[rows])
        sums.append(_sums(group_logits, dealt))
    return np.array(sums), np.tile(_sizes(group_logits), (shuffles, 1))


def _list_undefined(measures: Mapping[str, float | None], sizes: Integers) -> list[Undefined]:
    covariance = TOO_LARGE if np.count_nonzero(sizes) >= FEWEST else NO_GROUPS
    reasons = {LARGEST_DISTANCE: ONE_CLASS, MEAN_OF_BOTH: ONE_CLASS, COVARIANCE: covariance}
    return [
        Undefined("", name, "", reasons[name]) for name, value in measures.items() if value is None
    ]
