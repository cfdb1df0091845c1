"""Whether a collaboration between qualities did anything: nHSIC beside its permuted baseline, by epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from trueface.report.over_seeds import short_names
from trueface.report.svg import Frame, Point, axes, key, level, line, svg, ticks
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json

FIELD = "collaboration"  # of a training's summary: a record an epoch
IDLE = 1e-3  # share of the classification loss's gradient below which a term does nothing
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
        return bool(self.shares) and max(share for _, share in self.shares) < IDLE


def collaborations(run: Path) -> Iterator[Collaboration]:
    """Yield what the trainings of a run logged, by the names of their folders."""
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        epochs = (read_json(paths.summary(folder)) or {}).get(FIELD)
        if isinstance(epochs, list) and epochs:
            yield of_epochs(
                paths.model_id(folder), [one for one in epochs if isinstance(one, dict)]
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
    """Return of each training both plots; nothing where none was logged."""
    names = short_names([each.model for each in trained])
    return "".join(_plots(each, names[each.model]) for each in trained)


def sentences(trained: Sequence[Collaboration]) -> Iterator[str]:
    """Yield which terms did nothing; plain text, to be escaped."""
    names = short_names([each.model for each in trained])
    idle = [names[each.model] for each in trained if each.idle]
    if idle:
        yield (
            f"The collaboration did nothing in {'; '.join(idle)}: its gradient stayed below "
            f"{IDLE:g} of the classification loss's."
        )


def _plots(each: Collaboration, name: str) -> str:
    lines = {
        shown: points
        for shown, points in (("nHSIC", each.between), ("pairs permuted", each.permuted))
        if points
    }
    text = _plot(f"nHSIC between qualities, {name}", "nHSIC", lines) if lines else ""
    if each.shares:
        shares = [(epoch, math.log10(share)) for epoch, share in each.shares if share > 0]
        shares = [(epoch, max(power, LEAST_DECADE)) for epoch, power in shares]
        if shares:
            title = f"Gradient share, {name}"
            named = {"log10 of the share": shares}
            text += _plot(title, "log10 share", named, mark=math.log10(IDLE))
    return text


def _plot(
    title: str, up: str, lines: Mapping[str, Sequence[Point]], *, mark: float | None = None
) -> str:
    values = [value for points in lines.values() for _, value in points]
    values += [] if mark is None else [mark]
    epochs = [epoch for points in lines.values() for epoch, _ in points]
    pad = max((max(values) - min(values)) * 0.08, 0.01)
    first, last = min(epochs), max(epochs)
    frame = Frame(
        width=300,
        left=54,
        x=(first, last if last > first else first + 1),
        y=(min(values) - pad, max(values) + pad),
    )
    whole = tuple(tick for tick in ticks(*frame.x) if tick == int(tick))
    parts = [axes(frame, "epoch", up, x_ticks=whole, y_ticks=ticks(*frame.y))]
    parts += [level(frame, mark)] if mark is not None else []
    parts += [
        line(frame, points, series, marks=True) for series, points in enumerate(lines.values())
    ]
    ends = "; ".join(f"{name}: last {points[-1][1]:.3g}" for name, points in lines.items())
    picture = svg(frame, parts, title=title, description=ends)
    return (
        f'<figure class="picture"><figcaption>{escape(title)}</figcaption>{picture}'
        f"{key(tuple(lines))}</figure>"
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
