"""Curves over qualities: the AUC of each method with its band, and where its scores go."""

from collections.abc import Iterator, Sequence
from html import escape

from trueface.report.qualities.content import Comparison, Method
from trueface.report.scatter import CHARACTER_PX
from trueface.report.svg import SERIES, Frame, Point, axes, key, line, svg, ticks

LEFT, RIGHT = 54, 24
WIDE_STEP_PX, STEP_PX = 120, 64  # between two qualities, at least
AIR_PX = 14  # between their names
SCORE_WIDTH = 340
LEAST_SPAN = 0.05  # of the AUC: finer differences are noise


def quality_curves(comparison: Comparison) -> str:
    """Return the AUC against the quality, one line a method; nothing of fewer than two qualities."""
    names = comparison.qualities
    lines = [(method, _areas(method, names)) for method in comparison.methods]
    lines = [(method, points) for method, points in lines if points]
    if len(names) < 2 or not lines:
        return ""
    bands = [_ends(method, names) for method, _ in lines]
    values = [value for _, points in lines for _, value in points]
    values += [end for band in bands for _, low, high in band for end in (low, high)]
    frame = _frame(names, height=340, y=_range(values), least=WIDE_STEP_PX)
    parts = [band for series, ends in enumerate(bands) for band in _band(frame, ends, series)]
    parts.append(_axes(frame, names, "AUC"))
    parts += [line(frame, points, series, marks=True) for series, (_, points) in enumerate(lines)]
    description = "; ".join(
        f"{method.name}: "
        + ", ".join(f"{names[int(place)]} {value:.3f}" for place, value in points)
        for method, points in lines
    )
    picture = svg(frame, parts, title=f"AUC by quality, {comparison.data}", description=description)
    below = key([method.name for method, _ in lines])
    return f'<figure class="picture"><div class="wide">{picture}</div>{below}</figure>'


def score_curves(comparison: Comparison) -> str:
    """Return for each method the mean score of reals and fakes against the quality."""
    pairs = [
        (method, _scores(method, comparison.qualities, fake=False)) for method in comparison.methods
    ]
    drawn = [
        (method, reals, _scores(method, comparison.qualities, fake=True)) for method, reals in pairs
    ]
    values = [value for _, reals, fakes in drawn for _, value in (*reals, *fakes)]
    if len(comparison.qualities) < 2 or not values:
        return ""
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, 0.01)
    frame = _frame(comparison.qualities, height=230, y=(low - pad, high + pad))
    return "".join(
        _score_plot(frame, comparison.qualities, method.name, reals, fakes)
        for method, reals, fakes in drawn
        if reals or fakes
    )


def _score_plot(
    frame: Frame, names: Sequence[str], name: str, reals: list[Point], fakes: list[Point]
) -> str:
    parts = [_axes(frame, names, "mean probability")]
    parts += [
        line(frame, points, series, marks=True) for series, points in enumerate((reals, fakes))
    ]
    description = "; ".join(
        f"{which}: " + ", ".join(f"{names[int(place)]} {value:.2f}" for place, value in points)
        for which, points in (("reals", reals), ("fakes", fakes))
    )
    picture = svg(frame, parts, title=f"Mean probability of fake, {name}", description=description)
    return (
        f'<figure class="picture"><figcaption>{escape(name)}</figcaption>'
        f'<div class="wide">{picture}</div>{key(("real images", "fakes"))}</figure>'
    )


def _areas(method: Method, names: Sequence[str]) -> list[Point]:
    areas = ((place, method.auc(name)) for place, name in enumerate(names))
    return [(float(place), area.mean) for place, area in areas if area is not None]


def _scores(method: Method, names: Sequence[str], *, fake: bool) -> list[Point]:
    scores = ((place, method.score(name, fake=fake)) for place, name in enumerate(names))
    return [(float(place), score.mean) for place, score in scores if score is not None]


def _ends(method: Method, names: Sequence[str]) -> list[tuple[float, float, float]]:
    bands = ((place, method.band(name)) for place, name in enumerate(names))
    return [(float(place), *band) for place, band in bands if band is not None]


def _band(frame: Frame, ends: Sequence[tuple[float, float, float]], series: int) -> Iterator[str]:
    if len(ends) < 2:
        return
    around = [frame.at(place, high) for place, _, high in ends]
    around += [frame.at(place, low) for place, low, _ in reversed(ends)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in around)
    yield f'<path class="band d{series % SERIES}" d="M{path}Z"/>'


def _axes(frame: Frame, names: Sequence[str], up: str) -> str:
    return axes(
        frame,
        "quality",
        up,
        x_ticks=tuple(range(len(names))),
        x_names=tuple(names),
        y_ticks=ticks(*frame.y, 5),
    )


def _frame(names: Sequence[str], *, height: int, y: Point, least: float = STEP_PX) -> Frame:
    """Return a plane so wide that the names of qualities stand side by side."""
    widest = max(len(name) for name in names) * CHARACTER_PX
    step = max(widest + AIR_PX, least)
    half = max(round(widest / 2) + 4, RIGHT)
    left = max(LEFT, half)
    width = max(round(left + half + step * (len(names) - 1)), SCORE_WIDTH)
    return Frame(width=width, height=height, left=left, right=half, x=(0.0, len(names) - 1.0), y=y)


def _range(values: Sequence[float]) -> Point:
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, (LEAST_SPAN - (high - low)) / 2)
    return max(low - pad, 0.0), min(high + pad, 1.0)
