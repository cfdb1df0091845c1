"""Figures of a model on the page of its run: ROC, reliability, histogram of logits, and epochs."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trueface.evaluation.arrays import Floats
from trueface.evaluation.calibration import probabilities
from trueface.evaluation.measurement import roc
from trueface.report.content import ModelReport, ReportRow
from trueface.report.figures import (
    Axis,
    DrawnShape,
    Figure,
    Frame,
    Point,
    diagonal,
    line,
    lines_key,
    steps,
    swatches,
    ticks,
    upright_line,
    whole_ticks,
)

Lines = Mapping[str, Sequence[Point]]
POINTS = 160  # points of a curve; more cannot be seen at this size
BINS = 32  # bins of a histogram
MOST_MARKS = 30  # marks of a line; a line with more points has none
BELIEFS = 10  # bins of a reliability diagram
OUTSIDE = 0.005  # fraction of the logits that may be outside of a histogram
CLASSES = ("real", "fake")


def curves(model_report: ModelReport) -> Iterator[Figure]:
    """Yield the figures of a model: ROC, reliability, and over epochs its training or its old unlearning."""
    drawn = [row for row in model_report.rows if "auc" in row.report.metrics]
    if drawn:
        yield roc_curves(drawn)
        yield reliability([row for row in drawn if row.pooled] or drawn)
    if epochs := model_report.model.epochs:
        best = max(epochs, key=lambda epoch: epoch.selection_score)
        yield from over_epochs(
            "",
            f"best {best.selection_measure} in validation: {best.selection_score[0]:.3f} in epoch {best.epoch}",
            {
                "training": [(epoch.epoch, epoch.loss) for epoch in epochs],
                "validation": [(epoch.epoch, epoch.val_loss) for epoch in epochs],
            },
            {
                "training (with its labels)": [(epoch.epoch, epoch.accuracy) for epoch in epochs],
                "validation": [(epoch.epoch, epoch.val_accuracy) for epoch in epochs],
            },
        )
    if old := model_report.model.unlearning:
        yield from over_epochs(
            " of the unlearning",
            "epoch 0 is the model before",
            {
                name: [(epoch, loss) for epoch, (loss, _) in enumerate(points)]
                for name, points in old.items()
            },
            {
                name: [(epoch, accuracy / 100) for epoch, (_, accuracy) in enumerate(points)]
                for name, points in old.items()
            },
        )


def roc_curves(rows: Sequence[ReportRow]) -> Figure:
    """Return the ROC curves of a model, one for each row; each has both classes."""
    frame = Frame()
    drawn: list[DrawnShape] = [diagonal(frame)]
    for series, row in enumerate(rows):
        across, up, _ = roc(row.labels, row.logits)
        drawn += line(_thin_points(list(zip(across, up, strict=True))), series)
    areas = [f"{row.data} {row.report.metrics['auc'].value:.3f}" for row in rows]
    return Figure(
        frame,
        drawn,
        title="ROC curves",
        description=f"AUC: {', '.join(areas)}",
        x=Axis("false positive rate"),
        y=Axis("true positive rate"),
        caption="ROC",
        key=lines_key(areas),
    )


def reliability(rows: Sequence[ReportRow]) -> Figure:
    """Return the accuracy at each confidence; on the diagonal the model is calibrated."""
    frame = Frame()
    drawn: list[DrawnShape] = [diagonal(frame)]
    for series, row in enumerate(rows):
        beliefs = probabilities(row.logits)
        bins = np.minimum((beliefs * BELIEFS).astype(int), BELIEFS - 1)
        points = [
            (float(beliefs[bins == bin_].mean()), float((row.labels[bins == bin_] == 1).mean()))
            for bin_ in np.unique(bins)
        ]
        drawn += line(points, series, marks=True)
    errors = [f"{row.data} ECE {row.report.metrics['ece'].value:.3f}" for row in rows]
    return Figure(
        frame,
        drawn,
        title="Reliability",
        description=", ".join(errors),
        x=Axis("predicted probability of fake"),
        y=Axis("share of fakes"),
        caption="Reliability",
        key=lines_key(errors),
    )


def histogram(row: ReportRow) -> Figure:
    """Return how the logits of both classes are spread."""
    low, high = _limits(row.logits)
    edges = np.linspace(low, high, BINS + 1)
    clipped = np.clip(row.logits, low, high)
    of_class = {
        name: row.labels == label for label, name in enumerate(CLASSES) if label in row.labels
    }
    heights = {}
    for name, which in of_class.items():
        counts, _ = np.histogram(clipped[which], edges)
        heights[name] = counts / counts.sum()
    top = max(float(max(shares.max() for shares in heights.values())), 0.01)
    frame = Frame(height=170, left=46, x=(low, high), y=(0.0, top))
    drawn: list[DrawnShape] = [
        steps(edges.tolist(), shares.tolist(), name) for name, shares in heights.items()
    ]
    return Figure(
        frame,
        [*drawn, *([upright_line(frame, 0.0)] if low < 0 < high else [])],
        title=f"Logits of {row.data}",
        description="; ".join(
            f"{name} images: mean {row.logits[which].mean():.2f}"
            for name, which in of_class.items()
        ),
        x=Axis("logit", ticks(low, high)),
        y=Axis("share", ticks(0, top, 4)),
        key=swatches(heights),
    )


def over_epochs(subject: str, note: str, losses: Lines, accuracies: Lines) -> Iterator[Figure]:
    """Yield loss and accuracy over epochs; non-finite values are left out.

    Args:
        subject: ends the title, after "Loss". "": the training.
        note: stands below their captions.
        losses: by name.
        accuracies: by name, shares.
    """
    for name, lines in (("loss", losses), ("accuracy", accuracies)):
        finite = {
            each: [point for point in points if math.isfinite(point[1])]
            for each, points in lines.items()
        }
        every = [point for points in finite.values() for point in points]
        if not every:
            continue
        high = 1.0 if name == "accuracy" else max(value for _, value in every) * 1.05 or 1.0
        first, last = min(epoch for epoch, _ in every), max(epoch for epoch, _ in every)
        title = f"{name.capitalize()}{subject or ' by epoch'}"
        yield Figure(
            Frame(x=(first, last if last > first else first + 1), y=(0.0, high)),
            [
                shape
                for series, points in enumerate(finite.values())
                for shape in line(_thin_points(points), series, marks=len(points) <= MOST_MARKS)
            ],
            title=title,
            description=note,
            x=Axis("epoch", whole_ticks(first, last)),
            y=Axis(name, ticks(0.0, high)),
            caption=title,
            note=note,
            key=lines_key(tuple(finite)),
        )


def _thin_points(points: Sequence[Point]) -> list[Point]:
    """Return at most POINTS of a line, its ends among them."""
    if len(points) <= POINTS:
        return list(points)
    chosen = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
    return [points[position] for position in chosen]


def _limits(logits: Floats) -> tuple[float, float]:
    low, high = np.quantile(logits, [OUTSIDE, 1 - OUTSIDE])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    return (low, high) if high > low else (-1.0, 1.0)
