"""The page of qualities; templates/qualities.html, which escapes what comes from the run.

Its plots: AUC and scores by quality, and by epoch what a collaboration did. A collaboration between qualities is
shown by its nHSIC beside that of exchanged images.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from trueface.evaluation.intervals import Difference
from trueface.evaluation.number_text import interval_text
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_VALUE,
    MissingModels,
    OverSeeds,
    by_method,
    cell,
    seeds_text,
    short_names,
    without_seed,
)
from trueface.evaluation.published_tables import published_tables
from trueface.evaluation.qualities import (
    SUMMARIES,
    ComparedQualities,
    QualityMethod,
    QualityRow,
    comparisons,
)
from trueface.report.figures import (
    CHARACTER_PX,
    Axis,
    Drawn,
    Figure,
    Frame,
    Key,
    Point,
    band,
    level,
    line,
    lines_key,
    ticks,
    whole_ticks,
)
from trueface.report.page import Page, filled
from trueface.report.svg import breakable, framed, side_by_side
from trueface.report.tables import published, table, table_row
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.training.settings import LEAST_SHARE

FILE = "qualities.html"  # in a run's folder, where its report links to it
PUBLISHED = "qad"
POINTS = 100  # differences are shown in points of the AUC


class Collaboration(NamedTuple):
    """The term of one training over its epochs."""

    model: str
    between: tuple[Point, ...]  # (epoch, nHSIC between the qualities)
    permuted: tuple[Point, ...]  # the same, the pairs being shuffled
    shares: tuple[Point, ...]  # norm of the term's gradient over that of the classification loss

    @property
    def idle(self) -> bool:
        """Whether the term moved nothing in any epoch."""
        return bool(self.shares) and max(share for _, share in self.shares) < LEAST_SHARE


def quality_page(
    rows: Sequence[QualityRow],
    name: str,
    trained: Sequence[Collaboration] = (),
    missing: MissingModels = NO_MODELS,
) -> Page:
    """Return the page: the same rows give the same page.

    Args:
        rows: one a model (a seed) and test.
        name: of the run.
        trained: what its trainings logged of their collaboration.
        missing: models of the run without a result.
    """
    figures: list[Figure] = []
    sections = [_section(each, figures) for each in comparisons(rows, missing)]
    collaboration = list(collaboration_plots(trained))
    html = filled(
        "qualities.html",
        _about(rows),
        name=name,
        sections=sections,
        collaboration=side_by_side(collaboration),
        idle=list(idle_terms(trained)),
        published=Markup(_published()),
    )
    return Page(html, {"": [*figures, *collaboration]})


def _about(rows: Sequence[QualityRow]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    yield "tests", ", ".join(dict.fromkeys(row.data for row in rows))
    yield "qualities", ", ".join(dict.fromkeys(name for row in rows for name in row.names))


def _section(compared: ComparedQualities, figures: list[Figure]) -> dict[str, object]:
    """Return what the template shows of a test; add its figures to those of the page."""
    reference = _reference(compared)
    areas, scores = quality_curves(compared), list(score_curves(compared))
    figures += [*([areas] if areas else []), *scores]
    return {
        "data": compared.data,
        "sentences": list(_sentences(compared, reference)),
        "curves": framed(areas),
        "areas": _areas(compared),
        "differences": _differences(compared, reference),
        "scores": side_by_side(scores),
    }


def _reference(compared: ComparedQualities) -> str:
    """Return the name of the reference, as short as the methods' names."""
    models = {each.against.model for each in compared.methods if each.against is not None}
    against = without_seed(next(iter(models), ""))
    known = [method.model for method in compared.methods]
    return short_names(known).get(against, against) or "the reference"


def _sentences(compared: ComparedQualities, reference: str) -> Iterator[str]:
    """Yield what the differences say; plain text, to be escaped."""
    said: dict[str, list[str]] = {}
    for method in compared.methods:
        worst = method.difference("worst")
        if worst is not None:
            said.setdefault(_word(worst), []).append(f"{method.name} {_in_points(worst.value)}")
    for word, methods in said.items():
        yield f"At the worst quality, compared with {reference}, {word}: {'; '.join(methods)} points."
    if compared.left_out:
        yield f"Left out: {compared.left_out[-1]} images without scores in every quality."


def _areas(compared: ComparedQualities) -> str:
    """Return the AUC of each method at each quality, and what sums them up."""
    names = compared.qualities
    rows = (
        table_row(
            breakable(method.name),
            (
                f"<td>{seeds_text(len(method.rows), method.missing)}</td>",
                *(f"<td>{_area(method, name)}</td>" for name in (*names, *SUMMARIES)),
            ),
        )
        for method in compared.methods
    )
    return table(
        ("method", "seeds", *map(breakable, names), *SUMMARIES),
        rows,
        above="AUC. ± is the standard deviation over seeds. Small numbers are the 95 % interval over images, for a "
        "single seed. pooled: one AUC over the images of all qualities together. It is lower than the mean if the "
        "scores shift with the quality.",
    )


def _area(method: QualityMethod, name: str) -> str:
    only = method.over_images(name)
    below = [] if only is None else [interval_text(only.low, only.high, ".3f")]
    worst = {row.worst_quality for row in method.rows if row.worst_quality}
    if name == "worst" and len(worst) == 1:
        below += worst
    small = "".join(f"<small>{escape(text)}</small>" for text in below)
    return f"{cell(method.area(name), 3)}{small}"


def _differences(compared: ComparedQualities, reference: str) -> str:
    """Return how far each method is from the reference; nothing where there is none."""
    methods = [method for method in compared.methods if method.against is not None]
    names = [
        name
        for name in (*SUMMARIES, *compared.qualities)
        if any(method.difference(name) is not None for method in methods)
    ]
    if not names:
        return ""
    rows = (
        table_row(
            breakable(method.name),
            (f"<td>{_difference(method.difference(name))}</td>" for name in names),
        )
        for method in methods
    )
    return table(
        ("method", *map(breakable, names)),
        rows,
        above=f"AUC difference in points (hundredths), method minus {reference}: means over seeds on the same images. "
        "95 % intervals are from the paired bootstrap over images and, from three seeds on, over seeds. No gain is "
        "shown if the interval contains 0.",
    )


def _difference(of: Difference | None) -> str:
    if of is None:
        return NO_VALUE
    ends = f"{_in_points(of.low)} to {_in_points(of.high)}"
    return f"{_in_points(of.value)}<small>{ends}</small><small>{_word(of)}</small>"


def _word(of: Difference) -> str:
    return "no gain shown" if of.low <= 0 <= of.high else of.word


def _in_points(difference: float) -> str:
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _published() -> str:
    """Return the published figures of quality-agnostic detectors, marked: none is of this data."""
    qad = next((each for each in published_tables() if each.name == PUBLISHED), None)
    return "" if qad is None else published(qad, 4)


LEFT, RIGHT = 54, 24
WIDE_STEP_PX, STEP_PX = 120, 64  # between two qualities, at least
AIR_PX = 14  # between their names
SMALL_WIDTH = 340  # of a plot, at least
LEAST_SPAN = 0.05  # of the AUC: finer differences are noise
COLLABORATION = "collaboration"  # of a training's summary: a record an epoch
LEAST_DECADE = -12.0


def quality_curves(compared: ComparedQualities) -> Figure | None:
    """Return the AUC against the quality, one line a method; None of fewer than two qualities."""
    names = compared.qualities
    drawn = [
        (method, points) for method in compared.methods if (points := _points(names, method.area))
    ]
    if len(names) < 2 or not drawn:
        return None
    ends = [_ends(method, names) for method, _ in drawn]
    every = [points for _, points in drawn] + [points for both in ends for points in both]
    values = [value for points in every for _, value in points]
    low, high = _padded(values, (LEAST_SPAN - (max(values) - min(values))) / 2)
    y = (max(low, 0.0), min(high, 1.0))
    shapes: list[Drawn] = [
        band(*both, series) for series, both in enumerate(ends) if len(both[0]) > 1
    ]
    for series, (_, points) in enumerate(drawn):
        shapes += line(points, series, marks=True)
    return Figure(
        _frame(names, height=340, y=y, least=WIDE_STEP_PX),
        shapes,
        title=f"AUC by quality, {compared.data}",
        description="; ".join(
            _described(method.name, names, points, 3) for method, points in drawn
        ),
        x=_axis(names),
        y=Axis("AUC", ticks(*y, 5)),
        key=lines_key([method.name for method, _ in drawn]),
    )


def score_curves(compared: ComparedQualities) -> Iterator[Figure]:
    """Yield for each method the mean score of reals and fakes against the quality."""
    names = compared.qualities
    drawn = {
        method.name: [_points(names, partial(method.score, fake=fake)) for fake in (False, True)]
        for method in compared.methods
    }
    values = [value for lines in drawn.values() for points in lines for _, value in points]
    if len(names) < 2 or not values:
        return
    frame = _frame(names, height=230, y=_padded(values))
    for name, lines in drawn.items():
        if any(lines):
            yield Figure(
                frame,
                [
                    shape
                    for series, points in enumerate(lines)
                    for shape in line(points, series, marks=True)
                ],
                title=f"Mean probability of fake, {name}",
                description="; ".join(
                    _described(which, names, points, 2)
                    for which, points in zip(("reals", "fakes"), lines, strict=True)
                ),
                x=_axis(names),
                y=Axis("mean probability", ticks(*frame.y, 5)),
                caption=name,
                key=lines_key(("real images", "fakes")),
            )


def _points(names: Sequence[str], value: Callable[[str], OverSeeds | None]) -> list[Point]:
    """Return the places of the qualities that have a value, each with its mean over seeds."""
    values = enumerate(map(value, names))
    return [(float(place), each.mean) for place, each in values if each is not None]


def _ends(method: QualityMethod, names: Sequence[str]) -> tuple[list[Point], list[Point]]:
    """Return the ends of each AUC: ± the seeds' deviation, of one seed its interval over images."""
    lower, upper = [], []
    for place, name in enumerate(names):
        area, only = method.area(name), method.over_images(name)
        if area is not None and area.sd is not None:
            ends = area.mean - area.sd, area.mean + area.sd
        elif only is not None:
            ends = only.low, only.high
        else:
            continue
        lower.append((float(place), ends[0]))
        upper.append((float(place), ends[1]))
    return lower, upper


def _described(name: str, names: Sequence[str], points: Sequence[Point], digits: int) -> str:
    values = (f"{names[int(place)]} {value:.{digits}f}" for place, value in points)
    return f"{name}: {', '.join(values)}"


def _axis(names: Sequence[str]) -> Axis:
    return Axis("quality", range(len(names)), names)


def _frame(names: Sequence[str], *, height: int, y: Point, least: float = STEP_PX) -> Frame:
    """Return a plane so wide that the names of qualities stand side by side."""
    widest = max(len(name) for name in names) * CHARACTER_PX
    step = max(widest + AIR_PX, least)
    half = max(round(widest / 2) + 4, RIGHT)
    left = max(LEFT, half)
    width = max(round(left + half + step * (len(names) - 1)), SMALL_WIDTH)
    return Frame(width=width, height=height, left=left, right=half, x=(0.0, len(names) - 1.0), y=y)


def _padded(values: Sequence[float], least: float = 0.01) -> Point:
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, least)
    return low - pad, high + pad


def collaborations(run: Path) -> Iterator[Collaboration]:
    """Yield what the trainings of a run logged, by the names of their folders."""
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        epochs = (read_json(paths.summary(folder)) or {}).get(COLLABORATION)
        if isinstance(epochs, list) and epochs:
            yield of_epochs(
                paths.model_id(folder), [epoch for epoch in epochs if isinstance(epoch, dict)]
            )


def of_epochs(model: str, epochs: Sequence[Mapping[str, Json]]) -> Collaboration:
    """Return what the records of a training's epochs say."""
    names = ("nhsic", "nhsic_permuted", "gradient_share")
    return Collaboration(model, *(_by_epoch(epochs, name) for name in names))


def _by_epoch(epochs: Sequence[Mapping[str, Json]], name: str) -> tuple[Point, ...]:
    points = []
    for place, record in enumerate(epochs, start=1):
        value, epoch = record.get(name), record.get("epoch", place)
        if not isinstance(value, int | float) or not isinstance(epoch, int | float):
            continue
        if math.isfinite(value):
            points.append((float(epoch), float(value)))
    return tuple(points)


def idle_terms(trained: Sequence[Collaboration]) -> Iterator[str]:
    """Yield which terms did nothing; plain text, to be escaped."""
    methods = _methods(trained)
    idle = [name for name, seeds in methods.items() if all(each.idle for each in seeds)]
    if idle:
        yield (
            f"The collaboration term had no effect in {'; '.join(idle)}. Its gradient stayed below "
            f"{LEAST_SHARE:g} of that of the classification loss."
        )


def collaboration_plots(trained: Sequence[Collaboration]) -> Iterator[Figure]:
    """Yield of each method nHSIC and share, a line a seed; nothing where none was logged."""
    for name, seeds in _methods(trained).items():
        yield from _epochs(
            f"nHSIC between qualities, {name}",
            "nHSIC",
            {
                "same images": [each.between for each in seeds],
                "permuted images": [each.permuted for each in seeds],
            },
        )
        powers = [
            tuple(
                (epoch, max(math.log10(share), LEAST_DECADE) if share > 0 else LEAST_DECADE)
                for epoch, share in each.shares
            )
            for each in seeds
        ]
        yield from _epochs(
            f"Gradient of the term as a share of the loss's, {name}",
            "log10 of the share",
            {"by epoch": powers},
            mark=math.log10(LEAST_SHARE),
        )


def _methods(trained: Sequence[Collaboration]) -> Mapping[str, Sequence[Collaboration]]:
    methods = by_method(trained, lambda each: each.model, lambda _: "").get("", {})
    names = short_names(list(methods))
    return {names[method]: seeds for method, seeds in methods.items()}


def _epochs(
    title: str,
    up: str,
    lines: Mapping[str, Sequence[Sequence[Point]]],
    *,
    mark: float | None = None,
) -> Iterator[Figure]:
    """Yield a figure of each seed's lines over epochs; nothing where there are none."""
    drawn = {name: [points for points in seeds if points] for name, seeds in lines.items()}
    every = [point for seeds in drawn.values() for points in seeds for point in points]
    if not every:
        return
    marks = [] if mark is None else [mark]
    first, last = min(epoch for epoch, _ in every), max(epoch for epoch, _ in every)
    frame = Frame(
        width=SMALL_WIDTH,
        left=LEFT,
        x=(first, last if last > first else first + 1),
        y=_padded([*(value for _, value in every), *marks]),
    )
    shapes: list[Drawn] = [level(frame, value) for value in marks]
    for series, seeds in enumerate(drawn.values()):
        for points in seeds:
            shapes += line(points, series, marks=True)
    yield Figure(
        frame,
        shapes,
        title=title,
        description="; ".join(
            f"{name}: last {', '.join(f'{points[-1][1]:.3g}' for points in seeds)}"
            for name, seeds in drawn.items()
            if seeds
        ),
        x=Axis("epoch", whole_ticks(*frame.x)),
        y=Axis(up, ticks(*frame.y)),
        caption=title,
        key=lines_key(tuple(lines)) if len(lines) > 1 else Key(),
    )
