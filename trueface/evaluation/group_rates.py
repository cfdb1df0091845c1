"""How often a detector calls each group fake, as counts: the rates, their gaps, and the chance level."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats, Indices
from trueface.evaluation.dependent_rows import DependentRows, Integers
from trueface.evaluation.estimate import Estimate, interval_fields
from trueface.evaluation.estimates import (
    RESAMPLES,
    SourcedScores,
    from_draws,
    group_estimate,
    group_rate,
)
from trueface.evaluation.measurement import CONSTANT
from trueface.evaluation.metrics.curve import AUC
from trueface.evaluation.weighted_scores import FAKE, REAL
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json
from trueface.runtime.rng import numpy_rng

PERCENT = 100.0
GAP, AREA_GAP = "fpr_gap", "auc_gap"
LARGEST_DISTANCE, MEAN_OF_BOTH, COVARIANCE = "f_g", "f_a", "f_cov"
# measures over groups with their titles, in the order of tables; see `group_gaps` and `published_gaps`
MEASURES: Mapping[str, str] = {
    GAP: "FPR gap",
    "tpr_gap": "TPR gap",
    "f_fpr": "F_FPR",
    "f_eo": "F_EO",
    "f_oae": "F_OAE",
    "f_dp": "F_DP",
    "f_meo": "F_MEO",
    AREA_GAP: "AUC gap",
    LARGEST_DISTANCE: "F_G",
    MEAN_OF_BOTH: "F_A",
    COVARIANCE: "F_COV",
}
OF_BOTH = "auc"
# rates of a group with their titles, in the order of tables
RATES: Mapping[str, str] = {
    "fpr": "FPR",
    "tpr": "TPR",
    "acc": "accuracy",
    "positive": "predicted fake",
    OF_BOTH: "AUC",
}
FEWEST = 2  # groups with a rate, below which there is no gap
SHUFFLES = 200
HIGH = 0.95  # the floor: quantile of the shuffles
DEALT_ROWS = 100_000  # rows of all shuffles that are sorted at once
AREA_ROWS = 20_000  # rows of a table whose AUC gap is shuffled, too: they have to be sorted again
# the rates that a measure compares; it is undefined if fewer than two groups have one of them
RATES_OF: Mapping[str, tuple[str, ...]] = {
    GAP: ("fpr",),
    "tpr_gap": ("tpr",),
    "f_fpr": ("fpr",),
    "f_eo": ("fpr", "tpr"),
    "f_oae": ("acc",),
    "f_dp": ("positive",),
    "f_meo": ("fpr", "tpr"),
    AREA_GAP: (OF_BOTH,),
    LARGEST_DISTANCE: ("positive", OF_BOTH),
    MEAN_OF_BOTH: ("positive", OF_BOTH),
    COVARIANCE: ("positive",),
}
OF_CLASS = {"real": "fpr", "fake": "tpr"}  # rates that need a class
TOO_FEW = "fewer than two groups have this rate"
TOO_FEW_WITH = "fewer than two groups have a known {}"
ROUNDING = 1e-9  # rounding error of a gap in per cent
NEAR = 2.0  # times its floor: a gap below that is reported as near it


def unit_of(measure: str) -> str:
    """Return the unit of a measure over groups."""
    return "logits" if measure == COVARIANCE else "%"


def digits_of(measure: str) -> int:
    """Return the number of decimals of a measure in tables."""
    return 3 if measure == COVARIANCE else 1


class GroupConfusion(NamedTuple):
    """Images of G groups by class, and how many of them were called fake; S tables at once or one.

    Rates are in 0 … 1, NaN for a group without the images that a rate is of.
    """

    reals: Integers  # (G,) or (S, G), as all others
    fakes: Integers
    false_positives: Integers  # reals called fake
    true_positives: Integers  # fakes called fake

    @property
    def rows(self) -> Integers:
        """Images of each group."""
        return self.reals + self.fakes

    @property
    def fpr(self) -> Floats:
        """Part of the reals that was called fake."""
        return _ratio(self.false_positives, self.reals)

    @property
    def tpr(self) -> Floats:
        """Part of the fakes that was called fake."""
        return _ratio(self.true_positives, self.fakes)

    @property
    def accuracy(self) -> Floats:
        """Fraction of correctly classified images."""
        right = self.reals - self.false_positives + self.true_positives
        return _ratio(right, self.rows)

    @property
    def positive(self) -> Floats:
        """Part of the images that was called fake."""
        return _ratio(self.false_positives + self.true_positives, self.rows)

    @property
    def overall(self) -> "GroupConfusion":
        """The counts of all groups together: (1,) or (S, 1)."""
        return GroupConfusion(
            reals=self.reals.sum(-1, keepdims=True),
            fakes=self.fakes.sum(-1, keepdims=True),
            false_positives=self.false_positives.sum(-1, keepdims=True),
            true_positives=self.true_positives.sum(-1, keepdims=True),
        )


def count_by_group(
    fake: NDArray[np.bool_],
    predicted_fake: NDArray[np.bool_],
    groups: NDArray[np.integer],
    size: int,
) -> GroupConfusion:
    """Return the counts of a table.

    Args:
        fake: (N,).
        predicted_fake: (N,) called fake.
        groups: (N,) number of the group of each row, from 0 on.
        size: how many groups there are.
    """
    cells = groups.astype(np.int64) * 4 + fake * 2 + predicted_fake
    table = np.bincount(cells, minlength=4 * size).reshape(size, 2, 2)
    return GroupConfusion(
        reals=table[:, 0].sum(1),
        fakes=table[:, 1].sum(1),
        false_positives=table[:, 0, 1],
        true_positives=table[:, 1, 1],
    )


def _ratio(part: Integers, whole: Integers) -> Floats:
    empty = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    shares: Floats = np.divide(part, whole, out=empty, where=whole > 0)
    return shares


def group_gaps(counts: GroupConfusion) -> dict[str, Floats]:
    """Return the measures of a table (), or of S tables (S,), in percent, except the AUC gap.

    `fpr_gap`, `tpr_gap`, `f_oae` and `f_dp` are largest minus smallest FPR, TPR, accuracy and fraction
    called fake. `f_fpr` is the sum of the distances of the groups' FPR from the overall one, `f_eo` that of
    FPR and TPR together. `f_meo` is the larger one of FPR gap and TPR gap. A measure is NaN if fewer than
    two groups have a rate that it compares.
    """
    overall = counts.overall
    fpr, tpr = counts.fpr, counts.tpr
    fpr_gap, tpr_gap = max_difference(fpr), max_difference(tpr)
    by_fpr, by_tpr = _deviation(fpr, overall.fpr), _deviation(tpr, overall.tpr)
    values = {
        GAP: fpr_gap,
        "tpr_gap": tpr_gap,
        "f_fpr": by_fpr,
        "f_eo": by_fpr + by_tpr,
        "f_oae": max_difference(counts.accuracy),
        "f_dp": max_difference(counts.positive),
        "f_meo": np.maximum(fpr_gap, tpr_gap),
    }
    return {name: PERCENT * value for name, value in values.items()}


def max_difference(rates: Floats) -> Floats:
    """Return largest minus smallest rate over groups: (G,) to (), (S, G) to (S,)."""
    defined = np.isfinite(rates)
    largest = np.max(rates, axis=-1, initial=-np.inf, where=defined)
    smallest = np.min(rates, axis=-1, initial=np.inf, where=defined)
    apart: Floats = np.where(defined.sum(-1) >= FEWEST, largest - smallest, np.nan)
    return apart


def _deviation(rates: Floats, overall: Floats) -> Floats:
    defined = np.isfinite(rates)
    distances = np.abs(np.where(defined, rates - overall, 0.0)).sum(-1)
    summed: Floats = np.where(defined.sum(-1) >= FEWEST, distances, np.nan)
    return summed


class SortedScores(NamedTuple):
    """A table of N rows, and its order from the lowest logit to the highest."""

    fake: NDArray[np.bool_]  # (N,) as the table has them
    rows: Indices  # (N,)
    runs: NDArray[np.int32]  # (N,) in this order: number of the run of equal logits

    @classmethod
    def from_logits(cls, fake: NDArray[np.bool_], logits: Floats) -> "SortedScores":
        """Sort logits (N,)."""
        rows = np.argsort(logits)
        ordered = logits[rows]
        runs = np.zeros(len(rows), np.int32)
        np.cumsum(ordered[1:] != ordered[:-1], out=runs[1:])
        return cls(fake, rows, runs)


def group_aucs(ranking: SortedScores, groups: NDArray[np.integer], size: int) -> Floats:
    """Return the AUC of each group, in 0 … 1; NaN for a group that lacks a class.

    The AUC is the probability that a fake of the group has a higher logit than a real of it; equal
    logits count a half.

    Args:
        ranking: of the table.
        groups: (N,) number of the group of each row, from 0 on, to (G,); (S, N) of tables that differ in
            their groups alone, to (S, G).
        size: how many groups there are.
    """
    dealt = np.atleast_2d(groups)[:, ranking.rows]
    tables = len(dealt)
    numbers = dealt + size * np.arange(tables)[:, None]
    runs, is_fake = np.tile(ranking.runs, tables), np.tile(ranking.fake[ranking.rows], tables)
    each = _areas(numbers.ravel(), runs, is_fake, tables * size)
    return each.reshape(*groups.shape[:-1], size)


def _areas(
    groups: NDArray[np.integer], runs: NDArray[np.int32], is_fake: NDArray[np.bool_], size: int
) -> Floats:
    """Return the AUC of each group; in each, rows are sorted by rising logit."""
    if not len(groups):
        return np.full(size, np.nan)
    group, run = groups.astype(np.min_scalar_type(max(size - 1, 0))), runs
    if size > 1:
        order = np.argsort(group, kind="stable")  # integers of 16 bits at most use a radix sort
        group, run, is_fake = group[order], run[order], is_fake[order]
    starts = np.flatnonzero(
        np.concatenate([[True], (group[1:] != group[:-1]) | (run[1:] != run[:-1])])
    )
    fakes = np.add.reduceat(is_fake.astype(np.int64), starts)  # fakes of each run of equal logits
    reals = np.diff(np.append(starts, len(group))) - fakes
    below = np.cumsum(reals) - reals  # in groups before this one, too: taken off below
    of_run = group[starts].astype(np.intp)
    total_fakes = np.bincount(of_run, weights=fakes, minlength=size)
    total_reals = np.bincount(of_run, weights=reals, minlength=size)
    earlier = np.cumsum(total_reals) - total_reals
    wins = np.bincount(of_run, weights=fakes * (below + reals / 2), minlength=size)
    wins -= total_fakes * earlier
    pairs = total_fakes * total_reals
    values: Floats = np.divide(wins, pairs, out=np.full(size, np.nan), where=pairs > 0)
    return values


class PermutationBaseline(NamedTuple):
    """A measure under shuffled groups, in per cent."""

    mean: float
    p95: float


def permutation_baselines(
    counts: GroupConfusion, *, shuffles: int = SHUFFLES, dependent: DependentRows | None = None
) -> Mapping[str, PermutationBaseline]:
    """Return the floor of each measure of a table that is defined.

    Args:
        counts: of the table.
        shuffles: their number.
        dependent: rows of one image or video, which get one group. None: there are none.
    """
    rng = numpy_rng("shuffled groups", 0)
    if dependent is not None:
        shuffled = GroupConfusion(*dependent.shuffle_counts(rng, shuffles, len(counts.reals)))
    else:
        shuffled = GroupConfusion(
            reals=counts.reals,
            fakes=counts.fakes,
            false_positives=_shuffle_counts(
                rng, counts.reals, int(counts.false_positives.sum()), shuffles
            ),
            true_positives=_shuffle_counts(
                rng, counts.fakes, int(counts.true_positives.sum()), shuffles
            ),
        )
    values = group_gaps(shuffled)
    return {
        name: permutation_baseline(value)
        for name, value in values.items()
        if np.isfinite(value).all()
    }


def auc_gap_baseline(
    ranking: SortedScores,
    groups: NDArray[np.integer],
    size: int,
    *,
    shuffles: int = SHUFFLES,
    dependent: DependentRows | None = None,
) -> PermutationBaseline | None:
    """Return the floor of the AUC gap; None where it is undefined, or the table large.

    Arguments as of `group_aucs` and `permutation_baselines`.
    """
    if len(groups) > AREA_ROWS:
        return None
    rng = numpy_rng("shuffled groups of areas", 0)
    values: list[Floats] = []
    tables = max(min(DEALT_ROWS // len(groups), shuffles), 1)
    for start in range(0, shuffles, tables):
        count = min(tables, shuffles - start)
        if dependent is not None:
            dealt = dependent.shuffle(rng, count)[:, dependent.units]
        else:
            dealt = np.tile(groups, (count, 1))
            for rows in (np.flatnonzero(~ranking.fake), np.flatnonzero(ranking.fake)):
                dealt[:, rows] = rng.permuted(dealt[:, rows], axis=1)
        values.append(PERCENT * max_difference(group_aucs(ranking, dealt, size)))
    every = np.concatenate(values)
    return permutation_baseline(every) if np.isfinite(every).all() else None


def intervals(
    counts: GroupConfusion, dependent: DependentRows | None = None
) -> Mapping[str, Estimate]:
    """Return each measure that is defined with its 95 % interval over other images of each cell.

    A percentile bootstrap within group and class. Noise widens gaps, so the interval is rather too high. It
    does not test a gap against 0; the floor does. Arguments as of `permutation_baselines`.
    """
    rng = numpy_rng("bootstrap of groups", 0)
    if dependent is not None:
        drawn = GroupConfusion(*dependent.draw_counts(rng, RESAMPLES, len(counts.reals)))
    else:
        drawn = GroupConfusion(
            reals=counts.reals,
            fakes=counts.fakes,
            false_positives=_draw_binomial(rng, counts.reals, counts.fpr),
            true_positives=_draw_binomial(rng, counts.fakes, counts.tpr),
        )
    spreads = group_gaps(drawn)
    return {
        name: from_draws(float(value), spreads[name])
        for name, value in group_gaps(counts).items()
        if np.isfinite(value)
    }


def _shuffle_counts(
    rng: np.random.Generator, sizes: Integers, predicted_count: int, shuffles: int
) -> Integers:
    """Return how many of so many called fake fall to each group (S, G), groups being shuffled."""
    dealt: Integers = rng.multivariate_hypergeometric(sizes, predicted_count, shuffles)
    return dealt


def _draw_binomial(rng: np.random.Generator, sizes: Integers, rates: Floats) -> Integers:
    drawn: Integers = rng.binomial(sizes, np.nan_to_num(rates), (RESAMPLES, len(sizes)))
    return drawn


def permutation_baseline(values: Floats) -> PermutationBaseline:
    """Return the floor of a measure with these values (S,) under shuffled groups."""
    return PermutationBaseline(mean=float(values.mean()), p95=float(np.quantile(values, HIGH)))


class GapVerdict(StrEnum):
    """The relation of a gap to its floor, the 95 % point of shuffled groups."""

    ABOVE = "above chance"
    NEAR = "near its floor"  # above the floor, but less than twice as large
    WITHIN = "not above chance"
    UNDEFINED = "undefined"


def judge_gap(value: float | None, floor: float | None) -> GapVerdict:
    """Return the relation of a gap to the 95 % point of its shuffles. None if there is none."""
    if value is None or floor is None:
        return GapVerdict.UNDEFINED
    if value <= floor + ROUNDING:
        return GapVerdict.WITHIN
    return GapVerdict.NEAR if value <= NEAR * floor else GapVerdict.ABOVE


class Undefined(NamedTuple):
    """A rate that a group has not."""

    group: str
    rate: str  # "fpr", "tpr", "auc", or of a measure its name with the group ""
    missing: str  # the class: "real", "fake", or ""
    reason: str


class GroupRow(NamedTuple):
    """One group, or all of them together."""

    name: str
    reals: int
    fakes: int
    # with intervals over images; fpr, tpr, acc and positive in per cent, auc in 0 … 1; those there are
    rates: Mapping[str, Estimate]

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON, without the name."""
        record: dict[str, Json] = {"n_real": self.reals, "n_fake": self.fakes}
        for rate in RATES:
            record |= interval_fields(rate, self.rates.get(rate))
        return record


class GroupTable(NamedTuple):
    """The rates of groups at one threshold, and their gaps.

    Attributes:
        threshold: in logits; values above are called fake.
        groups: in the order of their names; those without an image are left out.
        overall: of all images.
        measures: of `MEASURES`, in per cent and F_COV in logits; None where undefined. Those of
            `published_gaps` are added there.
        floor: of those that are defined; see `permutation_baselines`.
        intervals: the same, except for the AUC gap.
        undefined: every rate that a group has not, and every measure that is undefined.
        constant: whether the detector calls nearly every image the same: it has no gaps, and no use.
    """

    threshold: float
    groups: tuple[GroupRow, ...]
    overall: GroupRow
    measures: Mapping[str, float | None]
    floor: Mapping[str, PermutationBaseline]
    intervals: Mapping[str, Estimate]
    undefined: tuple[Undefined, ...]
    constant: bool

    @property
    def worst(self) -> GroupRow | None:
        """The group with the lowest AUC; None if fewer than two groups have one."""
        areas = [row for row in self.groups if OF_BOTH in row.rates]
        return min(areas, key=lambda row: row.rates[OF_BOTH].value) if len(areas) > 1 else None

    @property
    def verdict(self) -> GapVerdict:
        """The relation of the FPR gap to its floor."""
        return judge_gap(self.measures[GAP], self.permutation_p95(GAP))

    def groups_with(self, measure: str) -> int:
        """Return how many groups a measure compares: those that have the rarest of its rates."""
        return min(sum(rate in row.rates for row in self.groups) for rate in RATES_OF[measure])

    def groups_note(self, measure: str) -> str:
        """Return "2 of 3 groups" for a measure that some group is missing from; "" otherwise."""
        known, every = self.groups_with(measure), len(self.groups)
        is_partial = self.measures[measure] is not None and known < every
        return f"{known} of {every} groups" if is_partial else ""

    def permutation_p95(self, name: str) -> float | None:
        """Return the 95 % point of a measure's shuffles."""
        floor = self.floor.get(name)
        return None if floor is None else floor.p95

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON: measures with floors and intervals, groups, undefined rates."""
        record: dict[str, Json] = {"threshold": self.threshold}
        for name, value in self.measures.items():
            floor = self.floor.get(name)
            record |= interval_fields(name, self.intervals.get(name)) | {
                name: value,
                f"{name}_floor": self.permutation_p95(name),
                f"{name}_floor_mean": None if floor is None else floor.mean,
                f"{name}_groups": self.groups_with(name),
            }
        return {
            **record,
            "overall": self.overall.json_record,
            "groups": [{"name": row.name, **row.json_record} for row in self.groups],
            "undefined": [
                {
                    "group": each.group,
                    "rate": each.rate,
                    "class": each.missing,
                    "reason": each.reason,
                }
                for each in self.undefined
            ],
        }

    @classmethod
    def from_logits(
        cls,
        labels: NDArray[np.integer],
        logits: Floats,
        groups: NDArray[np.integer],
        names: Sequence[str],
        threshold: float = 0.0,
        *,
        keys: Sequence[str] = (),
        shuffles: int = SHUFFLES,
        base_table: "GroupTable | None" = None,
    ) -> "GroupTable":
        """Return the table of N images.

        Args:
            labels: (N,) 1 fake, 0 real.
            logits: (N,) positive = fake.
            groups: (N,) number of the group of each image, an index of `names`.
            names: of the groups.
            threshold: in logits; 0 is a probability of a half.
            keys: (N,) images with one key are copies of an image, or frames of a video: they are shuffled and drawn
                together. (): there are none.
            shuffles: number for the floor. 0: no floor, and no intervals of measures.
            base_table: table of the same images at another threshold, where it is at hand: the AUC has
                no threshold, and is taken from there with its interval and floor.

        Raises:
            DataError: no image, or a logit that is not finite.
        """
        _refuse_broken_logits(logits)
        fake, called = labels == 1, logits > threshold
        share = float(called.mean())
        ranking, size = SortedScores.from_logits(fake, logits), len(names)
        counts = count_by_group(fake, called, groups, size)
        group_areas = group_aucs(ranking, groups, size)
        whole = group_aucs(ranking, np.zeros(len(fake), np.uint8), 1)
        values = {
            name: float(value) if np.isfinite(value) else None
            for name, value in (
                *group_gaps(counts).items(),
                (AREA_GAP, PERCENT * max_difference(group_areas)),
            )
        }
        dependent = DependentRows.find(keys, fake, called, groups)
        floor = (
            dict(permutation_baselines(counts, shuffles=shuffles, dependent=dependent))
            if shuffles
            else {}
        )
        of_areas = None
        if base_table is not None:
            of_areas = base_table.floor.get(AREA_GAP)
        elif shuffles and values[AREA_GAP] is not None:
            of_areas = auc_gap_baseline(
                ranking, groups, size, shuffles=shuffles, dependent=dependent
            )
        images = SourcedScores(
            labels=labels, logits=logits - threshold, keys=() if dependent is None else keys
        )
        of_groups = _scores_of_groups(images, groups, counts)
        rows = _rows(
            names, counts, group_areas, of_groups, () if base_table is None else base_table.groups
        )
        groups_with_images = tuple(row for row in rows if row.reals + row.fakes)
        of_all = () if base_table is None else (base_table.overall,)
        (overall,) = _rows(("all",), counts.overall, whole, (images,), of_all)
        return cls(
            threshold=threshold,
            groups=groups_with_images,
            overall=overall,
            measures=values,
            floor=floor if of_areas is None else {**floor, AREA_GAP: of_areas},
            intervals=intervals(counts, dependent) if shuffles else {},
            undefined=tuple(_list_undefined(names, counts, values)),
            constant=max(share, 1 - share) > CONSTANT or bool(np.ptp(logits) == 0),
        )


def _refuse_broken_logits(logits: Floats) -> None:
    if not len(logits):
        raise DataError(
            "no image has a group. Name a table of attributes that contains the tested images."
        )
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise DataError(
            f"{broken} of {len(logits)} logits are not finite numbers. Train the model again with a lower lr."
        )


def _scores_of_groups(
    images: SourcedScores, groups: NDArray[np.integer], counts: GroupConfusion
) -> Iterator[SourcedScores]:
    """Yield the scores of each group; keys are () if no image is a copy."""
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.cumsum(counts.rows)[:-1]):
        keys = [images.keys[row] for row in rows] if images.keys else ()
        yield SourcedScores(labels=images.labels[rows], logits=images.logits[rows], keys=keys)


def _rows(
    names: Sequence[str],
    counts: GroupConfusion,
    group_areas: Floats,
    images: Iterable[SourcedScores],
    known_rows: Sequence[GroupRow],
) -> Iterator[GroupRow]:
    """Yield the row of each group, with the rates that it has.

    Args:
        names: of the groups.
        counts: of the groups, (G,).
        group_areas: AUC of each group, (G,).
        images: scores of each group, in which a logit above 0 is called fake.
        known_rows: rows of the same images, from which the AUC is taken.
    """
    shares = {
        "fpr": (counts.fpr, (REAL,)),
        "tpr": (counts.tpr, (FAKE,)),
        "acc": (counts.accuracy, (REAL, FAKE)),
        "positive": (counts.positive, (REAL, FAKE)),
    }
    areas = {row.name: row.rates[OF_BOTH] for row in known_rows if OF_BOTH in row.rates}
    for at, (name, scores) in enumerate(zip(names, images, strict=True)):
        measures = {
            rate: group_rate(float(share[at]), scores, labels).scale(PERCENT)
            for rate, (share, labels) in shares.items()
            if np.isfinite(share[at])
        }
        if np.isfinite(value := float(group_areas[at])):
            measures[OF_BOTH] = areas.get(name) or group_estimate(AUC, scores, value)
        yield GroupRow(
            name=name, reals=int(counts.reals[at]), fakes=int(counts.fakes[at]), rates=measures
        )


def _list_undefined(
    names: Sequence[str], counts: GroupConfusion, values: Mapping[str, float | None]
) -> Iterator[Undefined]:
    for name, reals, fakes in zip(names, counts.reals, counts.fakes, strict=True):
        for (kind, rate), images in zip(OF_CLASS.items(), (reals, fakes), strict=True):
            if not images:
                reason = f"no {kind} image of {name}"
                yield Undefined(name, rate, kind, reason)
                yield Undefined(name, OF_BOTH, kind, reason)
    known = {"fpr": np.count_nonzero(counts.reals), "tpr": np.count_nonzero(counts.fakes)}
    for measure, value in values.items():
        if value is None:
            rates = RATES_OF[measure]
            missing = [RATES[rate] for rate in rates if known.get(rate, FEWEST) < FEWEST]
            several = len(rates) > 1
            reason = TOO_FEW_WITH.format(" and ".join(missing)) if several else TOO_FEW
            yield Undefined("", measure, "", reason)
