"""Pages of HTML, and that of a run: head, audit, tables of all models, then each model with its plots.

Every page is a file in templates that extends base.html; a name from the run is escaped there. What tables and
plots return is HTML already, and passes as such. Every plot says in words what it shows to those who cannot see it.
"""

import base64
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trueface.audit import finding
from trueface.audit.finding import Audit
from trueface.audit.run_facts import FlipRecord, Model, Run
from trueface.data.image_headers import BROKEN
from trueface.evaluation.intervals import Floats
from trueface.evaluation.measurement import METRICS, roc
from trueface.report import tables, unlearning
from trueface.report.content import ReportRow, Shown
from trueface.report.outcome import detectors_outcome, unlearning_outcome
from trueface.report.style import CSS
from trueface.report.svg import (
    Frame,
    Point,
    axes,
    breakable,
    diagonal,
    key,
    line,
    plots_in,
    steps,
    svg,
    ticks,
    upright,
)
from trueface.runtime import paths
from trueface.training.history import Epoch
from trueface.unlearning.evaluation.leaderboard import Ladder

TEMPLATES = Path(__file__).parent / "templates"
PREVIEW_PX = 1000  # widest picture in the page
PREVIEW_PIXELS = 1 << 26  # of a picture that is read: 200 MB
PREVIEW_BYTES = 600_000  # of a picture; a larger one becomes a JPEG
ABOUT = ("device", "device_name", "threads", "git", "code")
MOST_IN_LINE = 12  # models in the contents; more are folded up
KEYS_SHOWN = 5  # of a poison record
MOST_OF_A_TITLE = 60  # characters in the name of a file, which may have 255 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The contact sheet of a model's training images."""

    path: Path
    data: str | None  # as a data URL; None: it cannot be read


def page(
    run: Run,
    audit: Audit,
    models: Sequence[Shown],
    *,
    date: str,
    unlearned: Ladder | None = None,
    beside: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the whole page; `date` is all in it that does not follow from the run.

    Args:
        run: its name and its models.
        audit: what was found in it.
        models: of the run, in its order.
        date: when the report is made, as text.
        unlearned: what was unlearned in it; None: the page says nothing of that.
        beside: other pages that lie beside it, title and file name.
    """
    groups = () if unlearned is None else unlearned.groups
    return filled(
        "page.html",
        [("report of", date), ("folder", run.folder), *_about(run)],
        run=run,
        audit=audit,
        gaps=list(finding.gaps(audit)),
        models=models,
        most_in_line=MOST_IN_LINE,
        outcome=[*detectors_outcome(models), *map(unlearning_outcome, groups)],
        troubles=[(shown.model.name, trouble) for shown in models for trouble in shown.troubles],
        unlearning=Markup("" if unlearned is None else unlearning.section(unlearned)),
        beside=beside,
    )


def filled(template: str, about: Iterable[tuple[str, object]], **values: object) -> str:
    """Return a page: it needs no other file, and the same values give the same bytes.

    Args:
        template: name of a file in `templates`, which extends base.html.
        about: names and facts below its title.
        values: what the template names; text is escaped there, `Markup` is not.
    """
    return environment().get_template(template).render(about=Markup(tables.facts(about)), **values)


def figure_files(models: Sequence[Shown]) -> Iterator[tuple[str, str]]:
    """Give path, below some folder, and content of an SVG file for each plot of the models."""
    for shown in models:
        drawn = _curves(shown) + "".join(map(histogram, shown.rows))
        for number, (title, drawing) in enumerate(plots_in(drawn, CSS), start=1):
            name = f"{number:02} {title[:MOST_OF_A_TITLE]}.svg".replace("/", "_")
            yield f"{shown.model.folder.name}/{name}", drawing


@cache
def environment() -> Environment:
    """Return what fills templates in: names are escaped, what tables and plots return is not."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    html: dict[str, Callable[..., str]] = {
        "facts": tables.facts,
        "heat_map": tables.heat_map,
        "measures": tables.measures,
        "confusion": tables.confusion,
        "histogram": histogram,
        "breakable": breakable,
        "model_curves": _curves,
    }
    environment.globals |= {name: _markup(function) for name, function in html.items()}
    environment.globals |= {
        "css": Markup(CSS),
        "count": finding.count,
        "flat": tables.flat,
        "metrics": METRICS,
        "preview_of": _preview,
        "record_facts": _record_facts,
        "summary_facts": _summary_facts,
    }
    return environment


def _markup(function: Callable[..., str]) -> Callable[..., Markup]:
    """Return a function whose HTML is not escaped again."""
    return lambda *arguments, **options: Markup(function(*arguments, **options))


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


def _curves(shown: Shown) -> str:
    return (
        roc_curves(shown.rows)
        + reliability(shown.rows)
        + learning_curves(shown.model.epochs)
        + _unlearning_curves(shown.model)
    )


def _unlearning_curves(model: Model) -> str:
    """Return the curves of an old unlearning, its accuracies as shares."""
    if not model.unlearning:
        return ""
    accuracies = {
        name: [(epoch, accuracy / 100) for epoch, (_, accuracy) in enumerate(points)]
        for name, points in model.unlearning.items()
    }
    losses = {
        name: [(epoch, loss) for epoch, (loss, _) in enumerate(points)]
        for name, points in model.unlearning.items()
    }
    note = "epoch 0 is before it"
    return over_epochs(losses, "Loss of the unlearning", "loss", note) + over_epochs(
        accuracies, "Accuracy of the unlearning", "accuracy", note
    )


def _preview(model: Model) -> Preview | None:
    path = paths.preview(model.folder)
    return Preview(path=path, data=_embedded(path)) if path.is_file() else None


def _embedded(path: Path) -> str | None:
    """Return a picture as a data URL, made smaller where it is large; None if it is none."""
    try:
        # of other formats Pillow would start programs
        with PIL.Image.open(path, formats=("PNG", "JPEG")) as file:
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
        ("of the set (sha256)", record.images_sha256 or "not recorded"),
        ("first keys", ", ".join(record.keys[:KEYS_SHOWN])),
    ]


def _summary_facts(model: Model) -> list[tuple[str, object]]:
    return tables.flat({name: value for name, value in model.summary.items() if name != "log"})


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
