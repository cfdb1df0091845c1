"""The collaboration term of trainings over their epochs: its records, and figures of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trueface.evaluation.over_seeds import (
    by_method,
    short_names,
)
from trueface.report.figures import (
    Axis,
    DrawnShape,
    Figure,
    FigureLegend,
    Frame,
    Point,
    level,
    line,
    lines_key,
    ticks,
    whole_ticks,
)
from trueface.report.quality_figures import LEFT, SMALL_WIDTH, _padded_range
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.training.quality_settings import LEAST_SHARE


class Collaboration(NamedTuple):
    """The term of one training over its epochs."""

    model: str
    between: tuple[Point, ...]  # (epoch, nHSIC between the qualities)
    permuted: tuple[Point, ...]  # the same, the pairs being shuffled
    shares: tuple[Point, ...]  # norm of the term's gradient over that of the classification loss

    @property
    def is_without_effect(self) -> bool:
        """Whether the term moved nothing in any epoch."""
        return bool(self.shares) and max(share for _, share in self.shares) < LEAST_SHARE


COLLABORATION = "collaboration"  # key in a training's summary: a record for each epoch
LEAST_DECADE = -12.0


def collaborations(run: Path) -> Iterator[Collaboration]:
    """Yield the logs of the trainings of a run, by the names of their folders."""
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        epochs = (read_json(paths.summary(folder)) or {}).get(COLLABORATION)
        if isinstance(epochs, list) and epochs:
            yield read_collaboration(
                paths.model_id(folder), [epoch for epoch in epochs if isinstance(epoch, dict)]
            )


def read_collaboration(model: str, epochs: Sequence[Mapping[str, Json]]) -> Collaboration:
    """Return the collaboration values in the records of a training's epochs."""
    names = ("nhsic", "nhsic_permuted", "gradient_share")
    return Collaboration(model, *(_points_by_epoch(epochs, name) for name in names))


def _points_by_epoch(epochs: Sequence[Mapping[str, Json]], name: str) -> tuple[Point, ...]:
    points = []
    for epoch_number, record in enumerate(epochs, start=1):
        value, epoch = record.get(name), record.get("epoch", epoch_number)
        if not isinstance(value, int | float) or not isinstance(epoch, int | float):
            continue
        if math.isfinite(value):
            points.append((float(epoch), float(value)))
    return tuple(points)


def idle_terms(collaborations: Sequence[Collaboration]) -> Iterator[str]:
    """Yield which terms did nothing; plain text, to be escaped."""
    methods = _methods(collaborations)
    idle = [
        name for name, seeds in methods.items() if all(each.is_without_effect for each in seeds)
    ]
    if idle:
        yield (
            f"The collaboration term had no effect in {'; '.join(idle)}. Its gradient stayed below "
            f"{LEAST_SHARE:g} of that of the classification loss."
        )


def collaboration_plots(collaborations: Sequence[Collaboration]) -> Iterator[Figure]:
    """Yield nHSIC and share of each method, one line per seed; nothing if none was logged."""
    for name, seeds in _methods(collaborations).items():
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


def _methods(collaborations: Sequence[Collaboration]) -> Mapping[str, Sequence[Collaboration]]:
    methods = by_method(collaborations, lambda each: each.model, lambda _: "").get("", {})
    names = short_names(list(methods))
    return {names[method]: seeds for method, seeds in methods.items()}


def _epochs(
    title: str,
    y_label: str,
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
        y=_padded_range([*(value for _, value in every), *marks]),
    )
    shapes: list[DrawnShape] = [level(frame, value) for value in marks]
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
        y=Axis(y_label, ticks(*frame.y)),
        caption=title,
        key=lines_key(tuple(lines)) if len(lines) > 1 else FigureLegend(),
    )
