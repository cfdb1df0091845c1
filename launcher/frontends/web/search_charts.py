"""The searches of a run: history of the best value, importance of parameters, parallel coordinates."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from launcher.experiments.search.definition import Objective, SearchDefinition, read_definition
from launcher.experiments.search.trials import (
    TrialOutcome,
    end_of,
    group_by_number,
    is_complete,
    read_result,
)
from launcher.experiments.taskfile.domains import Choice, Range, Space, Value, text_of
from launcher.frontends.screens.chart import number
from launcher.frontends.screens.search_view import best_text, search_title, state_text, trials_text
from launcher.frontends.web.plots import Line, Plot
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow, TrialRow
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable
from launcher.system.text import sanitize_terminal

MOST_TRIALS = 2000  # newest trials that are read
MOST_LINES = 300  # trials in the parallel coordinates, those with the best values
WIDTH, HEIGHT, EDGE = 900, 260, 30  # pixels of the parallel coordinates; margin above and below
SHADES = 5  # colours of values, from the best to the worst


class Axis(NamedTuple):
    """One axis of the parallel coordinates."""

    name: str
    x: float
    top: str
    bottom: str


class TrialLine(NamedTuple):
    """A trial in the parallel coordinates."""

    points: str  # points in the notation of SVG
    shade: int  # 0: among the best
    title: str
    job: int


class Coordinates(NamedTuple):
    """The parallel coordinates of a search."""

    axes: Sequence[Axis] = ()
    lines: Sequence[TrialLine] = ()  # the best last, above the others
    width: int = WIDTH
    height: int = HEIGHT
    lines_left: int = 0  # trials whose line is not drawn


class SearchCharts(NamedTuple):
    """A search on the page of its run."""

    title: str
    state: str
    reason: str
    trials: str
    best: str
    plots: Sequence[Plot]
    importance: Sequence[tuple[str, float]]  # parameter and importance, 0 to 1
    coordinates: Coordinates


class Result(NamedTuple):
    """A complete trial."""

    trial: int
    job: int
    values: Mapping[str, object]
    value: float  # result of the first metric


def search_charts(store: Store, run: int) -> list[SearchCharts]:
    """Return the searches of a run."""
    return [_charts(store, search) for search in store.searches.all([run])]


def _charts(store: Store, search: SearchRow) -> SearchCharts:
    try:
        definition = read_definition(search.body)
    except Unreadable as error:
        return _empty(search, str(error))
    objective = definition.objectives[0]
    results = _results(store, search, definition)
    return _empty(search, search.reason)._replace(
        plots=[_history(results, objective)] if results else [],
        importance=_importance(search),
        coordinates=_coordinates(results, definition) if len(results) > 1 else Coordinates(),
    )


def _empty(search: SearchRow, reason: str) -> SearchCharts:
    return SearchCharts(
        title=search_title(search),
        state=state_text(search),
        reason=sanitize_terminal(reason),
        trials=trials_text(search),
        best=best_text(search),
        plots=(),
        importance=(),
        coordinates=Coordinates(),
    )


def _results(store: Store, search: SearchRow, definition: SearchDefinition) -> list[Result]:
    """Return the complete trials of a search, in their order."""
    every = group_by_number(store.searches.trials(search.id)).values()
    trials = [rows for rows in every if is_complete(rows, definition)][-MOST_TRIALS:]
    stored = store.read.results(row.job for trial in trials for row in trial)
    found = []
    for trial in trials:
        values = _value_of(trial, stored, definition.objectives)
        if values is not None:
            found.append(Result(trial[0].number, trial[0].job, trial[0].values, values))
    return found


def _value_of(
    rows: Sequence[TrialRow],
    stored_values: Mapping[int, Mapping[str, Json]],
    objectives: Sequence[Objective],
) -> float | None:
    results = {row.job: read_result(objectives, stored_values.get(row.job, {})) for row in rows}
    end = end_of(rows, results)
    return end.results[0] if end.outcome is TrialOutcome.COMPLETE else None


def _history(results: Sequence[Result], objective: Objective) -> Plot:
    """Return the value of each trial, and the best one until then."""
    pick = min if objective.lower else max
    best = accumulate((each.value for each in results), pick)
    points = [(float(each.trial), each.value) for each in results]
    return Plot(
        title=sanitize_terminal(objective.metric),
        lines=[
            Line("best so far", [(x, value) for (x, _), value in zip(points, best, strict=True)]),
            Line("trial", points, colour=7, dashed=True),
        ],
        unit="trial",
    )


def _importance(search: SearchRow) -> list[tuple[str, float]]:
    known = search.progress.get("importance")
    parts = known.items() if isinstance(known, Mapping) else ()
    found = [
        (sanitize_terminal(name), float(part))
        for name, part in parts
        if isinstance(part, int | float)
    ]
    return sorted(found, key=lambda each: -each[1])


def _coordinates(results: Sequence[Result], definition: SearchDefinition) -> Coordinates:
    """Return lines over one axis per parameter and one for the metric."""
    objective = definition.objectives[0]
    sign = 1 if objective.lower else -1
    ranked = sorted(results, key=lambda each: sign * each.value)[:MOST_LINES]
    space = _shown_space(definition.space, results)
    names = [*space]
    gap = WIDTH / (len(names) + 1)
    low, high = (pick(each.value for each in ranked) for pick in (min, max))
    axes = [
        Axis(sanitize_terminal(name), gap * (place + 0.5), *_ends(domain))
        for place, (name, domain) in enumerate(space.items())
    ]
    axes.append(
        Axis(
            sanitize_terminal(objective.metric), gap * (len(names) + 0.5), number(high), number(low)
        )
    )
    lines = []
    for rank, each in enumerate(ranked):
        heights = [_height(space[name], each.values.get(name)) for name in names]
        heights.append((each.value - low) / (high - low) if high > low else 0.5)
        points = " ".join(
            f"{axis.x:.1f},{HEIGHT - EDGE - height * (HEIGHT - 2 * EDGE):.1f}"
            for axis, height in zip(axes, heights, strict=True)
        )
        settings = " ".join(f"{name}={text_of(each.values.get(name, ''))}" for name in names)  # type: ignore[arg-type]
        title = f"trial {each.trial}: {settings} {objective.metric}={number(each.value)}"
        shade = rank * SHADES // len(ranked)
        lines.append(TrialLine(points, shade, sanitize_terminal(title), each.job))
    return Coordinates(axes, lines[::-1], lines_left=len(results) - len(ranked))


def _shown_space(space: Space, results: Sequence[Result]) -> dict[str, Range | Choice]:
    """Return the values that a search may choose, with those that it chose before it was continued."""
    shown: dict[str, Range | Choice] = {}
    for name, domain in space.items():
        chosen = [each.values[name] for each in results if name in each.values]
        if isinstance(domain, Choice):
            known = {
                text_of(value): value
                for value in (*domain.values, *chosen)
                if isinstance(value, Value)
            }
            shown[name] = Choice((*known.values(),))
        else:
            numbers = [value for value in chosen if isinstance(value, int | float)]
            shown[name] = domain._replace(
                low=min(domain.low, *numbers) if numbers else domain.low,
                high=max(domain.high, *numbers) if numbers else domain.high,
            )
    return shown


def _ends(domain: Range | Choice) -> tuple[str, str]:
    """Return the texts at the top and at the bottom of an axis."""
    if isinstance(domain, Choice):
        return text_of(domain.values[-1]), text_of(domain.values[0])
    return number(domain.high), number(domain.low)


def _height(domain: Range | Choice, value: object) -> float:
    """Return where a value is on its axis, from 0 to 1."""
    if isinstance(domain, Choice):
        texts = [text_of(each) for each in domain.values]
        place = (
            texts.index(text_of(value))
            if isinstance(value, Value) and text_of(value) in texts
            else 0
        )
        return place / max(1, len(domain.values) - 1)
    low, high, at = domain.low, domain.high, value if isinstance(value, int | float) else domain.low
    if domain.log and at > 0:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return min(1.0, max(0.0, (at - low) / (high - low)))
