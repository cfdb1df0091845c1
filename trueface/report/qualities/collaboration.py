"""Whether a collaboration between qualities did anything: nHSIC beside its permuted baseline, by epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from trueface.evaluation.over_seeds import short_names
from trueface.evaluation.score_tables import without_seed
from trueface.report.svg import Frame, Point, axes, key, level, line, svg, ticks
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.training.qualities.settings import LEAST_SHARE

FIELD = "collaboration"  # of a training's summary: a record an epoch
LEAST_DECADE = -12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaboration:
    """The term of one training over its epochs."""

    model: str
    between: tuple[Point, ...]  # (epoch, nHSIC between the qualities)
    permuted: tuple[Point, ...]  # the same, the pairs being shuffled
    shares: tuple[Point, ...]  # norm of the term's gradient over that of the classification loss

    @property
    def idle(self) -> bool:
        """Whether the term moved nothing in any epoch."""
        return bool(self.shares) and max(share for _, share in self.shares) < LEAST_SHARE


def collaborations(run: Path) -> Iterator[Collaboration]:
    """Yield what the trainings of a run logged, by the names of their folders."""
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        epochs = (read_json(paths.summary(folder)) or {}).get(FIELD)
        if isinstance(epochs, list) and epochs:
            yield of_epochs(
                paths.model_id(folder), [epoch for epoch in epochs if isinstance(epoch, dict)]
            )


def of_epochs(model: str, epochs: Sequence[Mapping[str, Json]]) -> Collaboration:
    """Return what the records of a training's epochs say."""
    return Collaboration(
        model=model,
        between=_points(epochs, "nhsic"),
        permuted=_points(epochs, "nhsic_permuted"),
        shares=_points(epochs, "gradient_share"),
    )


def plots(trained: Sequence[Collaboration]) -> str:
    """Return of each method both plots, a line a seed; nothing where none was logged."""
    return "".join(_plots(seeds, name) for name, seeds in _methods(trained).items())


def sentences(trained: Sequence[Collaboration]) -> Iterator[str]:
    """Yield which terms did nothing; plain text, to be escaped."""
    methods = _methods(trained)
    idle = [name for name, seeds in methods.items() if all(each.idle for each in seeds)]
    if idle:
        yield (
            f"The collaboration did nothing in {'; '.join(idle)}: its gradient stayed below "
            f"{LEAST_SHARE:g} of the classification loss's."
        )


def _methods(trained: Sequence[Collaboration]) -> Mapping[str, Sequence[Collaboration]]:
    names = short_names([without_seed(each.model) for each in trained])
    methods: dict[str, list[Collaboration]] = {}
    for each in trained:
        methods.setdefault(names[without_seed(each.model)], []).append(each)
    return methods


def _plots(seeds: Sequence[Collaboration], name: str) -> str:
    lines = {
        "of the same images": [each.between for each in seeds if each.between],
        "images exchanged": [each.permuted for each in seeds if each.permuted],
    }
    text = _plot(f"nHSIC between qualities, {name}", "nHSIC", lines)
    powers = [
        [
            (epoch, max(math.log10(share), LEAST_DECADE) if share > 0 else LEAST_DECADE)
            for epoch, share in each.shares
        ]
        for each in seeds
        if each.shares
    ]
    title = f"Gradient of the term as a share of the loss's, {name}"
    text += _plot(title, "log10 of the share", {"by epoch": powers}, mark=math.log10(LEAST_SHARE))
    return text


def _plot(
    title: str,
    up: str,
    lines: Mapping[str, Sequence[Sequence[Point]]],
    *,
    mark: float | None = None,
) -> str:
    """Return a plot of each seed's lines over epochs; nothing where there are none."""
    every = [point for seeds in lines.values() for points in seeds for point in points]
    if not every:
        return ""
    values = [value for _, value in every] + ([] if mark is None else [mark])
    pad = max((max(values) - min(values)) * 0.08, 0.01)
    first, last = min(epoch for epoch, _ in every), max(epoch for epoch, _ in every)
    frame = Frame(
        width=340,
        left=54,
        x=(first, last if last > first else first + 1),
        y=(min(values) - pad, max(values) + pad),
    )
    whole = tuple(tick for tick in ticks(*frame.x) if tick == int(tick))
    parts = [axes(frame, "epoch", up, x_ticks=whole, y_ticks=ticks(*frame.y))]
    parts += [level(frame, mark)] if mark is not None else []
    for series, seeds in enumerate(lines.values()):
        parts += [line(frame, points, series, marks=True) for points in seeds]
    ends = "; ".join(
        f"{name}: last {', '.join(f'{points[-1][1]:.3g}' for points in seeds)}"
        for name, seeds in lines.items()
        if seeds
    )
    picture = svg(frame, parts, title=title, description=ends)
    below = key(tuple(lines)) if len(lines) > 1 else ""
    return (
        f'<figure class="picture narrow"><figcaption>{escape(title)}</figcaption>{picture}{below}'
        "</figure>"
    )


def _points(epochs: Sequence[Mapping[str, Json]], name: str) -> tuple[Point, ...]:
    points = []
    for place, record in enumerate(epochs, start=1):
        value, epoch = record.get(name), record.get("epoch", place)
        if not isinstance(value, int | float) or not isinstance(epoch, int | float):
            continue
        if math.isfinite(value):
            points.append((float(epoch), float(value)))
    return tuple(points)
