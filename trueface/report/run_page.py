"""The page of a run, its report: what came out, the audit, tables of all models, then each model with its figures.

Start reading at `run_page`, then templates/run.html.
"""

import base64
import io
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from trueface.audit import finding
from trueface.audit.finding import Audit
from trueface.audit.run_facts import FlipRecord, Model, Run
from trueface.data.image_headers import BROKEN
from trueface.evaluation.intervals import Floats
from trueface.evaluation.measurement import METRICS, roc
from trueface.evaluation.over_seeds import NO_MODELS, MissingModels
from trueface.report import tables, unlearning
from trueface.report.content import ReportRow, Shown
from trueface.report.figures import (
    Axis,
    Drawn,
    Figure,
    Frame,
    Point,
    diagonal,
    line,
    lines_key,
    steps,
    swatches,
    ticks,
    upright,
    whole_ticks,
)
from trueface.report.outcome import detectors_outcome, unlearning_outcome
from trueface.report.page import Page, filled
from trueface.report.svg import picture, side_by_side
from trueface.runtime import paths
from trueface.runtime.image_files import open_image
from trueface.unlearning.evaluation.leaderboard import Ladder

PREVIEW_PX = 1000  # widest picture in the page
PREVIEW_PIXELS = 1 << 26  # of a picture that is read: 200 MB
PREVIEW_BYTES = 600_000  # of a picture; a larger one becomes a JPEG
ABOUT = ("device", "device_name", "threads", "git", "code")
MOST_IN_LINE = 12  # models in the contents; more are folded up
KEYS_SHOWN = 5  # of a poison record

Lines = Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The contact sheet of a model's training images."""

    path: Path
    data: str | None  # as a data URL; None: it cannot be read


def run_page(
    run: Run,
    audit: Audit,
    models: Sequence[Shown],
    *,
    date: str,
    unlearned: Ladder | None = None,
    beside: Sequence[tuple[str, str]] = (),
    missing: MissingModels = NO_MODELS,
) -> Page:
    """Return the page; `date` is all in it that does not follow from the run.

    Args:
        run: its name and its models.
        audit: what was found in it.
        models: of the run, in its order.
        date: when the report is made, as text.
        unlearned: what was unlearned in it; None: the page says nothing of that.
        beside: other pages that lie beside it, title and file name.
        missing: models of the run without a result.
    """
    groups = () if unlearned is None else unlearned.groups
    outcome = [*detectors_outcome(models, missing), *map(unlearning_outcome, groups)]
    if outcome and audit.faults:
        found = finding.count(audit.faults, "fault")
        outcome.append(f"The audit found {found}. Read its findings before you use these numbers.")
    of_models = [[*curves(shown)] for shown in models]
    of_rows = [[*map(histogram, shown.rows)] for shown in models]
    figures: dict[str, list[Figure]] = {}
    for shown, of_model, of_row in zip(models, of_models, of_rows, strict=True):
        figures.setdefault(shown.model.folder.name, []).extend([*of_model, *of_row])
    html = filled(
        "run.html",
        [("date", date), ("folder", run.folder), *_about(run)],
        run=run,
        audit=audit,
        gaps=list(finding.gaps(audit)),
        models=models,
        most_in_line=MOST_IN_LINE,
        outcome=outcome,
        troubles=[(shown.model.name, trouble) for shown in models for trouble in shown.troubles],
        unlearning="" if unlearned is None else unlearning.section(unlearned, figures),
        beside=beside,
        curves=[*map(side_by_side, of_models)],
        histograms=[[*map(picture, figures)] for figures in of_rows],
        metrics=METRICS,
        tables=tables,
        preview_of=_preview,
        record_facts=_record_facts,
        summary_facts=_summary_facts,
    )
    return Page(html, figures)


def _about(run: Run) -> list[tuple[str, str]]:
    """Return what the models were made with: each name with all its values."""
    values: dict[str, dict[str, None]] = {}
    for model in run.models:
        for name in ABOUT:
            value = (model.provenance or {}).get(name)
            if value is not None:
                values.setdefault(name.replace("_", " "), {})[str(value)] = None
        versions = (model.provenance or {}).get("versions")
        if isinstance(versions, dict):
            words = ", ".join(f"{name} {value}" for name, value in versions.items())
            values.setdefault("versions", {})[words] = None
    return [(name, "; ".join(texts)) for name, texts in values.items()]


def _preview(model: Model) -> Preview | None:
    path = paths.preview(model.folder)
    return Preview(path=path, data=_embedded(path)) if path.is_file() else None


def _embedded(path: Path) -> str | None:
    """Return a picture as a data URL, made smaller where it is large; None if it is none."""
    try:
        with open_image(path, formats=("PNG", "JPEG")) as file:
            if file.width * file.height > PREVIEW_PIXELS:
                return None
            picture = file.convert("RGB")
    except (*BROKEN, MemoryError, zlib.error):
        return None
    if picture.width > PREVIEW_PX:
        height = max(round(picture.height * PREVIEW_PX / picture.width), 1)
        picture = picture.resize((PREVIEW_PX, height), PIL.Image.Resampling.LANCZOS)
    kept, kind = _encoded(picture, "png"), "png"
    if len(kept) > PREVIEW_BYTES:
        kept, kind = _encoded(picture, "jpeg"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(kept).decode()}"


def _encoded(picture: PIL.Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True)
    return buffer.getvalue()


def _record_facts(record: FlipRecord) -> list[tuple[str, object]]:
    share = len(record.keys) / record.total if record.total else 0.0
    return [
        ("file", record.path),
        ("kind", record.kind),
        ("labels", f"{len(record.keys)} of {record.total} ({share:.2%})"),
        ("training set (SHA-256)", record.images_sha256 or "not recorded"),
        ("first keys", ", ".join(record.keys[:KEYS_SHOWN])),
    ]


def _summary_facts(model: Model) -> list[tuple[str, object]]:
    return tables.flat({name: value for name, value in model.summary.items() if name != "log"})


POINTS = 160  # of a curve; more cannot be seen at this size
BINS = 32  # of a histogram
MOST_MARKS = 30  # of a line; of more points none is marked
BELIEFS = 10  # bins of a reliability diagram
OUTSIDE = 0.005  # share of the logits that may lie beyond the ends of a histogram
CLASSES = ("real", "fake")


def curves(shown: Shown) -> Iterator[Figure]:
    """Yield the figures of a model: ROC, reliability, and over epochs its training or its old unlearning."""
    drawn = [row for row in shown.rows if "auc" in row.report.metrics]
    if drawn:
        yield roc_curves(drawn)
        yield reliability([row for row in drawn if row.pooled] or drawn)
    if epochs := shown.model.epochs:
        best = max(epochs, key=lambda epoch: epoch.merit)
        yield from over_epochs(
            "",
            f"best validation accuracy: {best.val_accuracy:.3f} in epoch {best.epoch}",
            {
                "training": [(epoch.epoch, epoch.loss) for epoch in epochs],
                "validation": [(epoch.epoch, epoch.val_loss) for epoch in epochs],
            },
            {
                "training (with its labels)": [(epoch.epoch, epoch.accuracy) for epoch in epochs],
                "validation": [(epoch.epoch, epoch.val_accuracy) for epoch in epochs],
            },
        )
    if old := shown.model.unlearning:
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
    drawn: list[Drawn] = [diagonal(frame)]
    for series, row in enumerate(rows):
        across, up, _ = roc(row.labels, row.logits)
        drawn += line(_thin(list(zip(across, up, strict=True))), series)
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
    """Return how often answers of each confidence are right; on the diagonal they mean it."""
    frame = Frame()
    drawn: list[Drawn] = [diagonal(frame)]
    for series, row in enumerate(rows):
        beliefs = np.exp(-np.logaddexp(0.0, -row.logits))
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
    drawn: list[Drawn] = [
        steps(edges.tolist(), shares.tolist(), name) for name, shares in heights.items()
    ]
    return Figure(
        frame,
        [*drawn, *([upright(frame, 0.0)] if low < 0 < high else [])],
        title=f"Logits of {row.data}",
        description="; ".join(
            f"{name} images: mean {row.logits[which].mean():.2f}"
            for name, which in of_class.items()
        ),
        x=Axis("logit", ticks(low, high)),
        y=Axis("share", ticks(0, top, 4)),
        key=swatches(heights),
    )


def over_epochs(what: str, note: str, losses: Lines, accuracies: Lines) -> Iterator[Figure]:
    """Yield loss and accuracy over epochs; values that are no finite numbers are left out.

    Args:
        what: of what they are, after "Loss"; "": of the training.
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
        title = f"{name.capitalize()}{what or ' by epoch'}"
        yield Figure(
            Frame(x=(first, last if last > first else first + 1), y=(0.0, high)),
            [
                shape
                for series, points in enumerate(finite.values())
                for shape in line(_thin(points), series, marks=len(points) <= MOST_MARKS)
            ],
            title=title,
            description=note,
            x=Axis("epoch", whole_ticks(first, last)),
            y=Axis(name, ticks(0.0, high)),
            caption=title,
            note=note,
            key=lines_key(tuple(finite)),
        )


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
