"""The plots of a report: what each shows, and what it says to those who cannot see it."""

from collections.abc import Mapping, Sequence

import numpy as np

from trueface.evaluation.intervals import Floats
from trueface.evaluation.measurement import roc
from trueface.report.content import ReportRow
from trueface.report.svg import Frame, Point, axes, diagonal, key, line, steps, svg, ticks, upright
from trueface.training.history import Epoch

POINTS = 160  # of a curve; more cannot be seen at this size
BINS = 32  # of a histogram
BELIEFS = 10  # bins of a reliability diagram
OUTSIDE = 0.005  # share of the logits that may lie beyond the ends of a histogram


def roc_curves(rows: Sequence[ReportRow]) -> str:
    """Return the ROC curves of a model, one for each row with both classes."""
    frame = Frame()
    drawn = [row for row in rows if "auc" in row.report.metrics]
    parts = [axes(frame, "false positive rate", "true positive rate"), diagonal(frame)]
    for series, row in enumerate(drawn):
        across, up, _ = roc(row.labels, row.logits)
        parts.append(line(frame, _thin(list(zip(across, up, strict=True))), series))
    areas = [f"{row.data} {row.report.metrics['auc'].value:.3f}" for row in drawn]
    picture = svg(frame, parts, title="ROC curves", description=f"Areas: {', '.join(areas)}")
    return _figure("ROC", picture, key(areas)) if drawn else ""


def histogram(row: ReportRow) -> str:
    """Return how the logits of both classes are spread."""
    low, high = _limits(row.logits)
    edges = np.linspace(low, high, BINS + 1)
    clipped = np.clip(row.logits, low, high)
    heights = {}
    for label in (0, 1):
        counts, _ = np.histogram(clipped[row.labels == label], edges)
        heights[label] = counts / max(counts.sum(), 1)
    top = max(float(max(shares.max() for shares in heights.values())), 0.01)
    frame = Frame(height=170, left=46, x=(low, high), y=(0.0, top))
    parts = [
        axes(frame, "logit", "share", x_ticks=ticks(low, high), y_ticks=ticks(0, top, 4)),
        *(
            steps(frame, edges.tolist(), heights[label].tolist(), name)
            for label, name in ((0, "real"), (1, "fake"))
            if (row.labels == label).any()
        ),
        upright(frame, 0.0) if low < 0 < high else "",
    ]
    means = [
        f"{name} images: mean {row.logits[row.labels == label].mean():.2f}"
        for label, name in ((0, "real"), (1, "fake"))
        if (row.labels == label).any()
    ]
    return svg(frame, parts, title=f"Logits of {row.data}", description="; ".join(means))


def learning_curves(epochs: Sequence[Epoch]) -> str:
    """Return loss and accuracy of a training over its epochs."""
    if not epochs:
        return ""
    losses = {
        "training": [(epoch.epoch, epoch.loss) for epoch in epochs],
        "validation": [(epoch.epoch, epoch.val_loss) for epoch in epochs],
    }
    accuracies = {
        "training, labels as trained": [(epoch.epoch, epoch.accuracy) for epoch in epochs],
        "validation": [(epoch.epoch, epoch.val_accuracy) for epoch in epochs],
    }
    best = max(epochs, key=lambda epoch: epoch.merit)
    note = f"validation best in epoch {best.epoch}: {best.val_accuracy:.3f}"
    return over_epochs(losses, "Loss by epoch", "loss", note) + over_epochs(
        accuracies, "Accuracy by epoch", "accuracy", note
    )


def over_epochs(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, what: str, note: str
) -> str:
    """Return lines over epochs; values that are no finite numbers are left out."""
    finite = {
        name: [point for point in points if np.isfinite(point[1])]
        for name, points in series.items()
    }
    values = [value for points in finite.values() for _, value in points]
    if not values:
        return ""
    places = [place for points in finite.values() for place, _ in points]
    low, high = (0.0, 1.0) if what == "accuracy" else (0.0, max(values) * 1.05 or 1.0)
    first, last = min(places), max(places)
    frame = Frame(x=(first, last if last > first else first + 1), y=(low, high))
    whole = tuple(tick for tick in ticks(first, last) if tick == int(tick))
    parts = [axes(frame, "epoch", what, x_ticks=whole, y_ticks=ticks(low, high))]
    parts += [
        line(frame, _thin(points), number, marks=len(points) <= 30)
        for number, points in enumerate(finite.values())
    ]
    picture = svg(frame, parts, title=title, description=note)
    return _figure(f"{title}<small>{note}</small>", picture, key(tuple(finite)))


def reliability(rows: Sequence[ReportRow]) -> str:
    """Return how often answers of each confidence are right; on the diagonal they mean it."""
    frame = Frame()
    drawn = [row for row in rows if row.pooled and "auc" in row.report.metrics] or [
        row for row in rows if "auc" in row.report.metrics
    ]
    parts = [axes(frame, "probability of fake, as told", "share of fakes"), diagonal(frame)]
    for series, row in enumerate(drawn):
        beliefs = np.exp(-np.logaddexp(0.0, -row.logits))
        bins = np.minimum((beliefs * BELIEFS).astype(int), BELIEFS - 1)
        points = [
            (float(beliefs[bins == bin_].mean()), float((row.labels[bins == bin_] == 1).mean()))
            for bin_ in np.unique(bins)
        ]
        parts.append(line(frame, points, series, marks=True))
    errors = [f"{row.data} ECE {row.report.metrics['ece'].value:.3f}" for row in drawn]
    picture = svg(frame, parts, title="Reliability", description=", ".join(errors))
    return _figure("Reliability of its confidence", picture, key(errors)) if drawn else ""


def _figure(caption: str, picture: str, below: str) -> str:
    # captions are our own words; what a person wrote stands in `below`, escaped there
    return f"<figure><figcaption>{caption}</figcaption>{picture}{below}</figure>"


def _thin(points: Sequence[Point]) -> list[Point]:
    """Return at most POINTS of a line, its ends among them."""
    if len(points) <= POINTS:
        return list(points)
    chosen = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return [points[place] for place in chosen]


def _limits(logits: Floats) -> tuple[float, float]:
    low, high = np.quantile(logits, [OUTSIDE, 1 - OUTSIDE])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    return (low, high) if high > low else (-1.0, 1.0)
