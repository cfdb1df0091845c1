"""The leaderboard: what each model is worth where it knows the data, half knows them, or does not.

Never one mean over these settings: a column each, sorted by the worst of them. Attacks stand apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trueface.benchmark.known_data import Setting
from trueface.benchmark.measures import AREA, AT_THRESHOLD, BALANCED, SCALED, UNSCALED
from trueface.benchmark.omnibus import Omnibus, friedman, independent
from trueface.benchmark.pairs import Difference, differences
from trueface.benchmark.ranking import Ranked, rank
from trueface.benchmark.run_results import Result, RunResults
from trueface.corruptions.grammar import NONE
from trueface.evaluation.intervals import Floats, Measure, interval, resampled_over_seeds
from trueface.evaluation.significance import delong
from trueface.runtime.errors import DataError

NOT_COUNTED = frozenset({"few images", "one class", "attack", "not run"})  # no AUC to speak of
Place = tuple[str, str]  # test, condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The cell in which a model is worst."""

    place: Place
    value: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A model in one setting."""

    mean: Measure  # AUC over cells and seeds, with its interval over images and seeds
    balanced: float  # mean balanced accuracy at threshold 0
    balanced_at_threshold: float  # at that of validation
    worst: Worst
    cells: int
    ranked: Ranked | None  # None: see `reason`
    reason: str  # why it is not ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A model of the leaderboard, all its seeds together."""

    model: str
    architecture: str
    seeds: int
    columns: Mapping[Setting, Column]
    ece: float | None  # mean on clean images, before and after scaling by validation
    ece_scaled: float | None
    ms_image: float
    parameters: int

    @property
    def worst(self) -> float:
        """The lowest mean of its settings, by which the leaderboard is sorted."""
        return min((column.mean.value for column in self.columns.values()), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """All models, the best first, and what of their differences is sure."""

    lines: tuple[Line, ...]
    pairs: Mapping[Setting, tuple[Difference, ...]]
    omnibus: Omnibus

    @property
    def names(self) -> Mapping[str, str]:
        """A short name of each model: its network, where that tells them apart; else its ID."""
        networks = {line.architecture for line in self.lines}
        short = len(networks) == len(self.lines)
        return {line.model: line.architecture if short else line.model for line in self.lines}

    @property
    def unranked(self) -> Iterator[str]:
        """Which model has no rank in which setting, and why."""
        for line in self.lines:
            for setting, column in line.columns.items():
                if column.ranked is None:
                    yield f"{self.names[line.model]}, {setting}: {column.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A model with the cells of all its seeds in one setting."""

    name: str
    cells: Mapping[Place, tuple[Result, ...]]  # of each seed

    def values(self, name: str) -> list[float]:
        """Return a measure in every cell, the mean over seeds."""
        return [float(np.mean([_value(one, name) for one in each])) for each in self.cells.values()]

    def spread(self, places: Sequence[Place]) -> Floats:
        """Return the resampled AUC of cells, (C, R)."""
        return np.stack(
            [
                resampled_over_seeds(
                    [
                        one.measured.area
                        for one in self.cells[place]
                        if one.measured.area is not None
                    ],
                    stream=f"benchmark seeds {self.name}",
                )
                for place in places
            ]
        )


def leaderboard(run: RunResults) -> Leaderboard:
    """Return the leaderboard of a run."""
    groups: dict[str, list[Result]] = {}
    for result in run.results:
        groups.setdefault(result.group, []).append(result)
    columns: dict[str, dict[Setting, Column]] = {name: {} for name in groups}
    pairs: dict[Setting, tuple[Difference, ...]] = {}
    for setting in Setting:
        here = [_group(name, results, setting) for name, results in groups.items()]
        present = [group for group in here if group.cells]
        for name, column in _columns(present).items():
            columns[name][setting] = column
        pairs[setting] = _pairs(present)
    lines = [_line(name, results, columns[name]) for name, results in groups.items()]
    return Leaderboard(
        lines=tuple(sorted(lines, key=lambda line: (-line.worst, line.model))),
        pairs={setting: each for setting, each in pairs.items() if each},
        omnibus=_omnibus(groups),
    )


def _group(name: str, results: Sequence[Result], setting: Setting) -> _Group:
    cells: dict[Place, list[Result]] = {}
    for result in results:
        if result.cell.setting is setting and result.measured.marked.mark not in NOT_COUNTED:
            cells.setdefault(result.place, []).append(result)
    return _Group(name=name, cells={place: tuple(each) for place, each in cells.items()})


def _columns(groups: Sequence[_Group]) -> dict[str, Column]:
    """Return the column of each model in one setting; ranks only where all its cells have one."""
    reasons = {group.name: _unranked(group, groups) for group in groups}
    ranked = [group for group in groups if not reasons[group.name]]
    places: dict[str, Ranked] = {}
    if len(ranked) > 1:
        common = list(ranked[0].cells)
        values = np.stack([group.spread(common) for group in ranked])
        places = dict(zip((group.name for group in ranked), rank(values), strict=True))
    elif ranked:
        reasons[ranked[0].name] = "there is no other model to be ranked with"
    return {
        group.name: _column(group, places.get(group.name), reasons[group.name]) for group in groups
    }


def _unranked(group: _Group, groups: Sequence[_Group]) -> str:
    every = {place for other in groups for place in other.cells}
    missing = sorted(every - group.cells.keys())
    marked = [
        f"{one.measured.marked.mark} on {_named(place)}"
        for place, each in group.cells.items()
        for one in each
        if one.measured.marked.mark
    ]
    if missing:
        return f"not scored on {_named(missing[0])}"
    return (
        ""
        if not marked
        else marked[0] + (f" and {len(marked) - 1} more" if len(marked) > 1 else "")
    )


def _column(group: _Group, ranked: Ranked | None, reason: str) -> Column:
    areas = group.values(AREA)
    at = int(np.argmin(areas))
    spread = group.spread(list(group.cells))  # (C, R)
    return Column(
        mean=interval(float(np.mean(areas)), spread.mean(0)),
        balanced=float(np.mean(group.values(BALANCED))),
        balanced_at_threshold=float(np.mean(group.values(AT_THRESHOLD))),
        worst=Worst(place=list(group.cells)[at], value=interval(areas[at], spread[at])),
        cells=len(areas),
        ranked=ranked,
        reason=reason,
    )


def _pairs(groups: Sequence[_Group]) -> tuple[Difference, ...]:
    """Return the paired differences of the mean AUC of models that were scored in the same cells."""
    comparable = [group for group in groups if group.cells.keys() == groups[0].cells.keys()]
    if len(comparable) < 2:
        return ()
    places = list(comparable[0].cells)
    return differences(
        {group.name: float(np.mean(group.values(AREA))) for group in comparable},
        {group.name: group.spread(places).mean(0) for group in comparable},
        dict(_delong(comparable)),
    )


def _delong(groups: Sequence[_Group]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield DeLong's p of each pair on clean images, where a setting has one clean set and no seeds."""
    clean = [place for place in groups[0].cells if place[1] == NONE]
    if len(clean) != 1:
        return
    for first, second in combinations(groups, 2):
        ours, theirs = first.cells[clean[0]], second.cells[clean[0]]
        one, other = ours[0].scores, theirs[0].scores
        if len(ours) > 1 or len(theirs) > 1 or one is None or other is None:
            continue
        if one.paths != other.paths:
            continue
        try:
            p = delong(one.labels, one.logits, other.logits).p
        except DataError:  # too few of a class
            continue
        if p is not None:
            yield (first.name, second.name), p


def _line(name: str, results: Sequence[Result], columns: Mapping[Setting, Column]) -> Line:
    models = {result.index.model: result for result in results}
    clean = [result for result in results if result.cell.condition.is_clean]
    first = results[0]
    return Line(
        model=name,
        architecture=first.index.architecture,
        seeds=len(models),
        columns=columns,
        ece=_mean(clean, UNSCALED),
        ece_scaled=_mean(clean, SCALED),
        ms_image=float(np.median([result.facts.ms_image for result in models.values()])),
        parameters=first.facts.parameters,
    )


def _mean(results: Sequence[Result], name: str) -> float | None:
    values = [
        value.value
        for result in results
        if (value := result.measured[name]) is not None and value.value is not None
    ]
    return float(np.mean(values)) if values else None


def _omnibus(groups: Mapping[str, Sequence[Result]]) -> Omnibus:
    """Return the test over independent sets of clean images that every model has a value of."""
    values: dict[str, dict[str, list[float]]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for name, results in groups.items():
        for result in results:
            area = result.measured[AREA]
            if result.cell.condition.is_clean and area is not None and area.value is not None:
                values.setdefault(name, {}).setdefault(result.index.test, []).append(area.value)
                keys[result.index.test] = result.keys
    common = [test for test in keys if all(test in each for each in values.values())]
    sets = independent({test: keys[test] for test in common})
    return friedman(
        {name: [float(np.mean(each[test])) for test in sets] for name, each in values.items()}, sets
    )


def _value(result: Result, name: str) -> float:
    value = result.measured[name]
    if value is None or value.value is None:
        raise ValueError(f"no {name} of {result.index.model} on {result.place}")
    return value.value


def _named(place: Place) -> str:
    test, condition = place
    return test if condition == NONE else f"{test} ({condition})"
