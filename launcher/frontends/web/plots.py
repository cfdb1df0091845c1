"""The data of a chart: lines with bands over steps, for the chart library and for the table below the chart."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from launcher.frontends.screens.chart import drawable_points, number
from launcher.queue.workers.progress.steps import RATE, STEP, Point
from launcher.system.text import sanitize_terminal

T = TypeVar("T")
COLOURS = 8
MOST_POINTS = 500  # points of a line: there are about as many columns
_DIGITS = 5  # digits of a value: a page of many lines is large
_TABLE_ROWS = 10
_COURSE = frozenset({RATE, "epoch", "step", "lr", "learning_rate", "time", "elapsed"})
_SPEEDS = ("_per_s", "_per_second", "/s")


class Statistic(NamedTuple):
    """A value at a step, with its band and the number of jobs that have the step."""

    value: float
    low: float
    high: float
    jobs: int

    def __str__(self) -> str:
        if self.jobs < 2:
            return number(self.value)
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)}, {self.jobs} jobs)"


class Line(NamedTuple):
    """A named line. Those of one `colour` have one colour; `dashed` ones differ by that."""

    name: str
    points: Sequence[Point]  # finite, in the order of their steps
    colour: int = 0
    dashed: bool = False
    behind: Sequence[Point] = ()  # the original of a smoothed line
    # statistics of a group of jobs: one for each point
    statistics: Sequence[Statistic] = ()
    group: str = ""  # number of jobs as text; "" for the line of a single job

    @property
    def style(self) -> str:
        """Its classes in the style sheet."""
        return f"c{self.colour % COLOURS}{' dashed' if self.dashed else ''}"

    @property
    def newest(self) -> str:
        """Its last value as text."""
        return number(self.points[-1][1]) if self.points else "–"

    @property
    def has_band(self) -> bool:
        """Whether a point belongs to more than one job."""
        return any(each.jobs > 1 for each in self.statistics)

    def text_at(self, step: float) -> str:
        """Return the value at a step as text; "–" if it has none there."""
        for place, (x, value) in enumerate(self.points):
            if x == step:
                return str(self.statistics[place]) if self.statistics else number(value)
        return "–"

    def to_json(self) -> dict[str, object]:
        """Return the line as the script reads it."""
        record: dict[str, object] = {
            "name": self.name,
            "colour": self.colour % COLOURS,
            "dashed": self.dashed,
            "x": [_short_step(x) for x, _ in self.points],
            "y": [_short(y) for _, y in self.points],
        }
        if self.behind:
            record["behind"] = {
                "x": [_short_step(x) for x, _ in self.behind],
                "y": [_short(y) for _, y in self.behind],
            }
        if self.statistics:
            record["jobs"] = [each.jobs for each in self.statistics]
        if self.has_band:
            record["low"] = [_short(each.low) for each in self.statistics]
            record["high"] = [_short(each.high) for each in self.statistics]
        return record


class Plot(NamedTuple):
    """A chart."""

    title: str
    lines: Sequence[Line]
    log: bool = False
    note: str = ""  # text on the jobs that the plot shows
    band: str = ""  # meaning of the bands, if there are any
    pooled_steps: int = 1  # steps that each point stands for
    unit: str = STEP  # name of the horizontal axis

    @property
    def data(self) -> str:
        """The chart as the script reads it, as JSON."""
        lines = [line.to_json() for line in self.lines if line.points]
        record = {
            "x": self.unit,
            "y": self.title,
            "log": self.log,
            "pooled": self.pooled_steps,
            "lines": lines,
        }
        return json.dumps(record, allow_nan=False, separators=(",", ":"))

    @property
    def has_points(self) -> bool:
        """Whether there is anything to draw."""
        return any(line.points for line in self.lines)

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        """Return some steps, each with the texts of all lines: evenly spaced ones that most lines have."""
        having = Counter(x for line in self.lines for x, _ in line.points)
        most = max(having.values(), default=0)
        steps = sorted(x for x, count in having.items() if count == most)
        last = len(steps) - 1
        rows = min(len(steps), _TABLE_ROWS)
        chosen = [steps[round(place * last / max(1, rows - 1))] for place in range(rows)]
        return [(f"{x:.15g}", [line.text_at(x) for line in self.lines]) for x in chosen]


def sort_metrics(by_metric: Mapping[str, T]) -> dict[str, T]:
    """Return the metrics with those last that are about the course of a program and not about its quality."""
    return dict(sorted(by_metric.items(), key=lambda item: _is_of_the_course(item[0])))


def _is_of_the_course(metric: str) -> bool:
    return metric.lower() in _COURSE or metric.endswith(_SPEEDS)


def common_unit(units: Collection[str]) -> str:
    """Return the name of a horizontal axis on which several jobs count."""
    return " or ".join(sorted(set(units))) or STEP


def title_of(metric: str) -> str:
    """Return the title of a chart."""
    return "steps per second" if metric == RATE else sanitize_terminal(metric)


def one_line(
    name: str,
    points: Sequence[Point],
    *,
    log: bool,
    smoothing: float,
    colour: int = 0,
    is_dashed: bool = False,
) -> Line:
    """Return the line of a single job; values that the axis cannot show are left out.

    Args:
        name: name in the legend.
        points: points in the order of their steps.
        log: the axis is logarithmic.
        smoothing: weight of the previous mean, in [0, 1); the original is drawn behind it.
        colour: its number.
        is_dashed: whether it is dashed.
    """
    shown = drawable_points(points, above_zero=log)
    behind: Sequence[Point] = ()
    if smoothing:
        shown, behind = smooth(shown, smoothing), thin(shown, MOST_POINTS)
    return Line(name, thin(shown, MOST_POINTS), colour, is_dashed, behind)


def smooth(points: Sequence[Point], weight: float) -> list[Point]:
    """Return the running mean in which older values count less and less.

    Args:
        points: points in the order of their steps.
        weight: weight of the previous mean, in [0, 1); 0 changes nothing.

    Source: the exponential moving average of TensorBoard, divided by the sum of its weights, so that
        it begins at the first value.
    """
    mean, total = 0.0, 0.0
    result = []
    for x, y in points:
        mean = weight * mean + (1 - weight) * y
        total = weight * total + (1 - weight)
        result.append((x, mean / total))
    return result


def thin(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Return at most this many points: of each stretch its lowest and its highest, in their order."""
    if len(points) <= most:
        return points
    stretches = max(1, most // 2 - 1)
    size = len(points) / stretches
    kept: list[Point] = []
    for place in range(stretches):
        stretch = points[round(place * size) : round((place + 1) * size)]
        kept += sorted({pick(stretch, key=lambda point: point[1]) for pick in (min, max)})
    return [points[0], *kept[1:-1], points[-1]]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _short_step(step: float) -> float:
    return int(step) if step.is_integer() else step
