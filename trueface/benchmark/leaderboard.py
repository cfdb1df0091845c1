"""The leaderboard: the scores of each model on known, half known and unknown data.

Settings are never averaged. Each has a column, and the worst one determines the order. Attacks are separate.

Every model is scored on the same images, or on the same videos if models read different clips, and resampled with the same draws. Ranks and differences are therefore
paired. If a model was trained with several seeds, these are also drawn with replacement. A test of whether several
models differ at all needs independent sets of images. Corruptions of one set and sets that share real images are
not independent.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from trueface.benchmark.conditions import Setting
from trueface.benchmark.results import (
    AREA,
    AT_THRESHOLD,
    BALANCED,
    SCALED,
    UNSCALED,
    CellKey,
    CellResult,
    RunResults,
)
from trueface.benchmark.videos import FEW_VIDEOS, VideoUnit
from trueface.corruptions.registry import NONE
from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Difference, Estimate, Interval, ends_record
from trueface.evaluation.estimates import (
    Sampled,
    difference_of,
    draws_over_seeds,
    mean_of,
    middle_of_draws,
)
from trueface.evaluation.over_seeds import NO_MODELS, MissingModels, MissingSeeds
from trueface.evaluation.significance import delong
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json

# no usable AUC
NOT_COUNTED = frozenset({"few images", FEW_VIDEOS, "one class", "attack", "not run"})
LEAST_SETS = 5  # minimum number of sets for Friedman's test
LEAST_MODELS = 3  # minimum number of models; two are compared as a pair
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRank:
    """The rank of one model among all. Rank 1 is the best; equal values share their mean rank."""

    rank: float  # mean over cells and resamples
    interval: Interval  # interval of the rank
    best: float  # probability of the best mean rank; models with equal ranks share it

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {"rank": self.rank, **ends_record(self.interval), "best": self.best}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCell:
    """The cell in which a model is worst."""

    key: CellKey
    value: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingScores:
    """The scores of a model in one setting."""

    mean: Estimate  # AUC over cells and seeds, with its interval over images and seeds
    balanced: float  # mean balanced accuracy at threshold 0
    # mean balanced accuracy at validation's threshold; None if the table counts videos
    balanced_at_threshold: float | None
    worst: WorstCell
    cells: int
    ranked: ModelRank | None  # None if the model is not ranked; see `reason`
    reason: str  # reason if the model is not ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardRow:
    """A row of the leaderboard: a model with all its seeds."""

    model: str
    architecture: str
    seeds: int
    columns: Mapping[Setting, SettingScores]
    ece: float | None  # mean on clean images; this before and the next after temperature scaling
    ece_scaled: float | None
    ms_image: float
    parameters: int
    missing: MissingSeeds = field(default_factory=dict)  # seeds without a result
    frames: str = ""  # frames that the model reads together; "" if the table counts images

    @property
    def worst(self) -> float:
        """The lowest mean over the settings, by which the leaderboard is sorted."""
        return min((column.mean.value for column in self.columns.values()), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The second model's value minus the first one's."""

    first: str
    second: str
    difference: Difference  # its interval is not corrected
    p: float  # two-sided, from the paired bootstrap
    p_holm: float
    p_delong: float | None = None  # if the value is of one clean test, corrected by Holm

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "value": self.difference.value,
            **ends_record(self.difference.interval),
            "p": self.p,
            "p_holm": self.p_holm,
            "p_delong": self.p_delong,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Omnibus:
    """Friedman's test with Nemenyi's critical difference, or the reason if there is none."""

    sets: tuple[str, ...]  # independent sets
    reason: str = ""  # reason if there is no test
    p: float | None = None
    mean_ranks: Mapping[str, float] | None = None
    critical_difference: float | None = None  # critical difference of mean ranks

    @property
    def text(self) -> str:
        """The test in words."""
        if self.p is None or self.critical_difference is None:
            return f"not computed: {self.reason}"
        ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in (self.mean_ranks or {}).items())
        return (
            f"p = {self.p:.3f} over {len(self.sets)} sets. Mean ranks: {ranks}. Critical difference: "
            f"{self.critical_difference:.2f} (Nemenyi, 5 %)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """All models, the best first, and their significant differences."""

    run: RunResults
    lines: tuple[LeaderboardRow, ...]
    pairs: Mapping[Setting, tuple[PairedDifference, ...]]
    omnibus: Omnibus
    unit: VideoUnit | None = None  # None: the tables count images, or clips that all models read

    @property
    def settings(self) -> Sequence[Setting]:
        """The settings that have a column."""
        return [each for each in Setting if any(each in line.columns for line in self.lines)]

    @property
    def names(self) -> Mapping[str, str]:
        """The short name of each model: its network if all networks differ, otherwise its ID."""
        networks = {line.architecture for line in self.lines}
        short = len(networks) == len(self.lines)
        return {line.model: line.architecture if short else line.model for line in self.lines}

    @property
    def missing_ranks(self) -> Iterator[str]:
        """The cells and models without an AUC or rank, with the reasons."""
        yield from self.run.without_area
        for line in self.lines:
            for setting, column in line.columns.items():
                if column.ranked is None:
                    yield f"{self.names[line.model]}, {setting}: {column.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelCells:
    """The cells of a model with all its seeds in one setting."""

    name: str
    cells: Mapping[CellKey, Sequence[CellResult]]  # results of each seed
    others: Mapping[CellKey, CellResult]  # cells in other settings, or cells that do not count

    def values(self, name: str) -> list[float]:
        """Return the mean over seeds of a measure in every cell."""
        means = (_mean(each, name) for each in self.cells.values())
        return [mean for mean in means if mean is not None]

    def area(self, key: CellKey) -> Sampled:
        """Return the AUC of a cell: of one seed with its interval over images, otherwise over images and seeds."""
        seeds = [one.measured.area for one in self.cells[key] if one.measured.area is not None]
        if len(seeds) == 1:
            return seeds[0]
        return mean_of(seeds, draws_over_seeds([each.draws for each in seeds], stream=self._stream))

    @property
    def _stream(self) -> str:
        return f"benchmark seeds {self.name}"

    def resampled_cell_aucs(self, places: Iterable[CellKey]) -> Floats:
        """Return the AUC of C cells under R resamples, (C, R)."""
        return np.stack([self.area(key).draws for key in places])

    def mean_area(self, places: Sequence[CellKey]) -> Sampled:
        """Return the mean AUC of cells."""
        areas = [self.area(key) for key in places]
        if len(areas) == 1:
            return areas[0]
        return mean_of(areas, np.stack([each.draws for each in areas]).mean(0))


def leaderboard(
    run: RunResults, missing: MissingModels = NO_MODELS, unit: VideoUnit | None = None
) -> Leaderboard:
    """Return the leaderboard of a run.

    Args:
        run: results of the run.
        missing: models of the run without a result.
        unit: the videos that the results count. None: images.
    """
    models: dict[str, list[CellResult]] = {}
    for result in run.results:
        models.setdefault(result.group, []).append(result)
    columns: dict[str, dict[Setting, SettingScores]] = {name: {} for name in models}
    pairs: dict[Setting, tuple[PairedDifference, ...]] = {}
    for setting in Setting:
        groups = [*_groups(models, setting)]
        for name, column in _columns(groups):
            columns[name][setting] = column
        if differing := _pairs(groups):
            pairs[setting] = differing
    lines = [_line(name, each, columns[name], missing, unit) for name, each in models.items()]
    return Leaderboard(
        run=run,
        lines=tuple(sorted(lines, key=lambda line: (-line.worst, line.model))),
        pairs=pairs,
        omnibus=_omnibus(models),
        unit=unit,
    )


def rank(values: NDArray[np.float64]) -> list[ModelRank]:
    """Return the rank of each model.

    Args:
        values: values of M models in C cells under R resamples, (M, C, R), higher = better.

    Source: the bootstrap of ranks, H. Goldstein and D. Spiegelhalter, Journal of the Royal
        Statistical Society A 159(3), 1996, section 3.
    """
    ranks = rankdata(-values, axis=0, method="average").mean(1)  # (M, R): mean over cells
    best = ranks <= ranks.min(0) + 1e-9
    shares = best / best.sum(0)
    ends = middle_of_draws(ranks)
    return [
        ModelRank(
            rank=float(of_model.mean()),
            interval=Interval(float(low), float(high)),
            best=float(share.mean()),
        )
        for of_model, low, high, share in zip(ranks, *ends, shares, strict=True)
    ]


def differences(
    values: Mapping[str, Sampled],
    by_delong: Mapping[tuple[str, str], float],
) -> tuple[PairedDifference, ...]:
    """Return the difference of every pair of models, corrected by Holm for the number of pairs.

    Args:
        values: value of each model, under the same resamples.
        by_delong: p value of a pair from DeLong's test, if available.
    """
    gaps = {
        (one, other): values[other].draws - values[one].draws
        for one, other in combinations(values, 2)
    }
    corrected = dict(zip(by_delong, holm([*by_delong.values()]), strict=True))
    p_values = [bootstrap_p(gap) for gap in gaps.values()]
    paired = []
    for pair, p, p_holm in zip(gaps, p_values, holm(p_values), strict=True):
        first, second = pair
        paired.append(
            PairedDifference(
                first=first,
                second=second,
                difference=difference_of(values[second], values[first]),
                p=p,
                p_holm=p_holm,
                p_delong=corrected.get(pair),
            )
        )
    return tuple(paired)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for multiple testing.

    Source: S. Holm, Scandinavian Journal of Statistics 6(2), 1979. The k-th smallest of m values is
    multiplied by m - k + 1. No result is below the previous one, or above 1.
    """
    count = len(p_values)
    corrected = [1.0] * count
    least = 0.0
    for position, at in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        least = max(least, min(1.0, p_values[at] * (count - position)))
        corrected[at] = least
    return corrected


def bootstrap_p(gap: Floats) -> float:
    """Return the two-sided p value of no difference: twice the smaller fraction on one side of 0, never 0.

    Source: A. Davison and D. Hinkley, "Bootstrap methods and their application", 1997, section 4.4:
        (1 + number on that side) / (1 + number of resamples).
    """
    below, above = int(np.sum(gap <= 0)), int(np.sum(gap >= 0))
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(gap)))


def friedman(values: Mapping[str, Sequence[float]], sets: Sequence[str]) -> Omnibus:
    """Return Friedman's test of models over independent sets.

    Args:
        values: values of each model, one per set, higher = better.
        sets: names of the sets.

    Sources: M. Friedman, Journal of the American Statistical Association 32(200), 1937; P. Nemenyi,
        1963, in the form of J. Demšar, Journal of Machine Learning Research 7, 2006, section 3.2.2.
    """
    names = tuple(sets)
    for count, least, what, of in (
        (len(names), LEAST_SETS, "independent image set", ""),
        (len(values), LEAST_MODELS, "model", ""),
    ):
        if count < least:
            plural = "" if count == 1 else "s"
            return Omnibus(
                sets=names,
                reason=f"only {count} {what}{plural}{of}, and at least {least} are needed",
            )
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
    """Return the smallest significant difference of two mean ranks at the 5 % level."""
    q = float(studentized_range.ppf(1 - LEVEL, models, math.inf)) / math.sqrt(2)
    return q * math.sqrt(models * (models + 1) / (6 * sets))


def select_independent_sets(images: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return names of sets that do not share images. The first of overlapping sets is selected.

    Args:
        images: keys of the images of each set.
    """
    taken: set[str] = set()
    chosen = []
    for name, keys in images.items():
        own = set(keys)
        if own and taken.isdisjoint(own):
            taken |= own
            chosen.append(name)
    return tuple(chosen)


def _groups(models: Mapping[str, Sequence[CellResult]], setting: Setting) -> Iterator[_ModelCells]:
    for name, results in models.items():
        cells: dict[CellKey, list[CellResult]] = {}
        others: dict[CellKey, CellResult] = {}
        for result in results:
            if result.cell.setting is setting and result.measured.marked.mark not in NOT_COUNTED:
                cells.setdefault(result.cell_key, []).append(result)
            else:
                others[result.cell_key] = result
        if cells:
            yield _ModelCells(name=name, cells=cells, others=others)


def _columns(groups: Sequence[_ModelCells]) -> Iterator[tuple[str, SettingScores]]:
    """Yield the scores of each model in one setting, with a rank if all its cells are ranked."""
    reasons = {group.name: _explain_missing_rank(group, groups) for group in groups}
    ranked = [group for group in groups if not reasons[group.name]]
    places: dict[str, ModelRank] = {}
    if len(ranked) > 1:
        values = np.stack([group.resampled_cell_aucs(ranked[0].cells) for group in ranked])
        places = dict(zip((group.name for group in ranked), rank(values), strict=True))
    elif ranked:
        reasons[ranked[0].name] = (
            "it is the only model" if len(groups) == 1 else "no other model has a rank in this tier"
        )
    for group in groups:
        places_of = list(group.cells)
        worst = min(places_of, key=lambda key: group.area(key).value)
        yield (
            group.name,
            SettingScores(
                mean=group.mean_area(places_of).estimate,
                balanced=float(np.mean(group.values(BALANCED))),
                balanced_at_threshold=_mean_of(group.values(AT_THRESHOLD)),
                worst=WorstCell(key=worst, value=group.area(worst).estimate),
                cells=len(places_of),
                ranked=places.get(group.name),
                reason=reasons[group.name],
            ),
        )


def _explain_missing_rank(group: _ModelCells, groups: Sequence[_ModelCells]) -> str:
    """Return the reason why a model has no rank in one setting, or "" if it has one."""
    every = {key for other in groups for key in other.cells}
    if missing := sorted(every - group.cells.keys()):
        key, other = missing[0], group.others.get(missing[0])
        if other is None:
            return f"not scored on {_cell_title(key)}"
        if other.measured.marked.mark in NOT_COUNTED:
            return f"{other.measured.marked.mark} on {_cell_title(key)}"
        return f"{_cell_title(key)} is in the tier {other.cell.setting} for this model"
    first, *more = [
        *(
            f"{one.measured.marked.mark} on {_cell_title(key)}"
            for key, each in group.cells.items()
            for one in each
            if one.measured.marked.mark
        )
    ] or [""]
    return f"{first} and {len(more)} more" if more else first


def _pairs(groups: Sequence[_ModelCells]) -> tuple[PairedDifference, ...]:
    """Return the paired differences of the mean AUC of models that were scored in the same cells."""
    comparable = [group for group in groups if group.cells.keys() == groups[0].cells.keys()]
    if len(comparable) < 2:
        return ()
    places = list(comparable[0].cells)
    return differences(
        {group.name: group.mean_area(places) for group in comparable},
        dict(_delong(comparable, places)),
    )


def _delong(
    groups: Sequence[_ModelCells], places: Sequence[CellKey]
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield DeLong's p value of each pair, if a setting has one clean set alone, without copies, and no seeds.

    With more cells, the difference of a pair is one of means, of which DeLong's test says nothing. Copies of an image
    are not independent, as the test assumes.
    """
    if len(places) != 1 or places[0][1] != NONE:
        return
    single = {
        group.name: scores.predictions
        for group in groups
        if len(results := group.cells[places[0]]) == 1
        and (scores := results[0].scores) is not None
        and len(set(results[0].keys)) == len(results[0].keys)
    }
    for (first, one), (second, other) in combinations(single.items(), 2):
        if one.ids != other.ids:
            continue
        try:
            p = delong(one.labels, one.margin, other.margin).p
        except DataError:  # too few images of a class
            continue
        if p is not None:
            yield (first, second), p


def _line(
    name: str,
    results: Sequence[CellResult],
    columns: Mapping[Setting, SettingScores],
    missing: MissingModels,
    unit: VideoUnit | None,
) -> LeaderboardRow:
    models = {result.index.model: result for result in results}
    clean = [result for result in results if result.cell.condition.is_clean]
    first = results[0]
    return LeaderboardRow(
        model=name,
        architecture=first.index.architecture,
        seeds=len(models),
        columns=columns,
        ece=_mean(clean, UNSCALED),
        ece_scaled=_mean(clean, SCALED),
        ms_image=float(np.median([result.facts.ms_image for result in models.values()])),
        parameters=first.facts.parameters,
        missing=missing.count_missing_seeds(models),
        frames="" if unit is None else unit.frames[name],
    )


def _mean(results: Iterable[CellResult], name: str) -> float | None:
    """Return the mean of a measure over the results that have it."""
    found = (result.measured.value(name) for result in results)
    return _mean_of([value for value in found if value is not None])


def _mean_of(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _omnibus(models: Mapping[str, Sequence[CellResult]]) -> Omnibus:
    """Return the test over independent sets of clean images for which every model has a value."""
    values: dict[str, dict[str, list[CellResult]]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for name, results in models.items():
        for result in results:
            if result.cell.condition.is_clean and result.measured.value(AREA) is not None:
                values.setdefault(name, {}).setdefault(result.index.test, []).append(result)
                keys[result.index.test] = result.keys
    common = [test for test in keys if all(test in each for each in values.values())]
    sets = select_independent_sets({test: keys[test] for test in common})
    means = {
        name: [mean for test in sets if (mean := _mean(each[test], AREA)) is not None]
        for name, each in values.items()
    }
    return friedman(means, sets)


def _cell_title(key: CellKey) -> str:
    test, condition = key
    return test if condition == NONE else f"{test} ({condition})"
