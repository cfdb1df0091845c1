"""Pages of HTML, and that of a run: head, audit, tables of all models, then each model by itself.

Every page is a file in templates that extends base.html; a name from the run is escaped there. What tables and
plots return is HTML already, and passes as such.
"""

import base64
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import PIL.Image
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trueface.audit import finding
from trueface.audit.finding import Audit
from trueface.audit.run_facts import Model, Record, Run
from trueface.data.image_headers import BROKEN
from trueface.evaluation.measurement import METRICS
from trueface.report import plots, tables, unlearning
from trueface.report.content import Shown
from trueface.report.outcome import detectors_outcome, unlearning_outcome
from trueface.report.style import CSS
from trueface.report.svg import breakable, plots_in
from trueface.runtime import paths
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
        drawn = _curves(shown) + "".join(map(plots.histogram, shown.rows))
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
        "histogram": plots.histogram,
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
        plots.roc_curves(shown.rows)
        + plots.reliability(shown.rows)
        + plots.learning_curves(shown.model.epochs)
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
    return plots.over_epochs(losses, "Loss of the unlearning", "loss", note) + plots.over_epochs(
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


def _record_facts(record: Record) -> list[tuple[str, object]]:
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
