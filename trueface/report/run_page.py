"""The page of a run, its report: the outcome, the audit, tables of all models, then each model with its figures.

Start reading at `run_page`, then templates/run.html.
"""

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
from markupsafe import Markup

from trueface.audit import finding
from trueface.audit.finding import Audit
from trueface.audit.run_facts import FlipRecord, Model, Run
from trueface.data.image_headers import BROKEN
from trueface.evaluation.measurement import METRICS
from trueface.evaluation.over_seeds import NO_MODELS, MissingModels
from trueface.report import tables, unlearning
from trueface.report.content import ModelReport, PartReport, ReportRow
from trueface.report.figures import (
    Figure,
)
from trueface.report.outcome import detectors_outcome, launch_modes_outcome, unlearning_outcome
from trueface.report.page import Page, render_template
from trueface.report.run_figures import curves, histogram
from trueface.report.run_tables import CAPTION, tests_table
from trueface.report.svg import picture, side_by_side
from trueface.runtime import paths
from trueface.runtime.image_files import open_image
from trueface.unlearning.evaluation.leaderboard import UnlearningLeaderboard

PREVIEW_PX = 1000  # widest image in the page
PREVIEW_PIXELS = 1 << 26  # pixels of an image that is read: 200 MB
PREVIEW_BYTES = 600_000  # bytes of an image; a larger one becomes a JPEG
ABOUT = ("device", "device_name", "threads", "git", "code")
MOST_IN_LINE = 12  # models in the contents; more are folded up
KEYS_SHOWN = 5  # keys of a poison record


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The contact sheet of a model's training images."""

    path: Path
    data: str | None  # as a data URL; None: it cannot be read


def run_page(
    run: Run,
    audit: Audit,
    models: Sequence[ModelReport],
    *,
    date: str,
    leaderboard: UnlearningLeaderboard | None = None,
    other_pages: Sequence[tuple[str, str]] = (),
    missing: MissingModels = NO_MODELS,
) -> Page:
    """Return the page; `date` is all in it that does not follow from the run.

    Args:
        run: its name and its models.
        audit: what was found in it.
        models: of the run, in its order.
        date: when the report is made, as text.
        leaderboard: the unlearning section. None if the page has none.
        other_pages: other pages in the same folder, title and file name.
        missing: models of the run without a result.
    """
    groups = () if leaderboard is None else leaderboard.groups
    outcome = [*detectors_outcome(models, missing), *map(unlearning_outcome, groups)]
    outcome += launch_modes_outcome(models)
    if outcome and audit.faults:
        found = finding.count(audit.faults, "fault")
        outcome.append(f"The audit found {found}. Read its findings before you use these numbers.")
    of_models = [[*curves(shown)] for shown in models]
    of_rows = [[*map(histogram, shown.rows)] for shown in models]
    figures: dict[str, list[Figure]] = {}
    for shown, of_model, of_row in zip(models, of_models, of_rows, strict=True):
        figures.setdefault(shown.model.folder.name, []).extend([*of_model, *of_row])
    html = render_template(
        "run.html",
        [("date", date), ("folder", run.folder), *_describe_run(run)],
        run=run,
        audit=audit,
        gaps=list(finding.gaps(audit)),
        models=models,
        most_in_line=MOST_IN_LINE,
        outcome=outcome,
        troubles=[(shown.model.name, trouble) for shown in models for trouble in shown.troubles],
        unlearning="" if leaderboard is None else unlearning.section(leaderboard, figures),
        beside=other_pages,
        curves=[*map(side_by_side, of_models)],
        histograms=[[*map(picture, figures)] for figures in of_rows],
        metrics=METRICS,
        tables=tables,
        tests=_tests,
        preview_of=_preview,
        record_facts=_record_facts,
        summary_facts=_summary_facts,
    )
    return Page(html, figures)


def _describe_run(run: Run) -> list[tuple[str, str]]:
    """Return the settings of the models: each name with all its values."""
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


def _tests(rows: Sequence[ReportRow | PartReport]) -> Markup:
    return tables.study_table(tests_table(rows), caption=CAPTION)


def _preview(model: Model) -> Preview | None:
    path = paths.preview(model.folder)
    return Preview(path=path, data=_embed_image(path)) if path.is_file() else None


def _embed_image(path: Path) -> str | None:
    """Return an image as a data URL, reduced if it is large. None if it is not an image."""
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
    kept, kind = _encode_image(picture, "png"), "png"
    if len(kept) > PREVIEW_BYTES:
        kept, kind = _encode_image(picture, "jpeg"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(kept).decode()}"


def _encode_image(picture: PIL.Image.Image, kind: str) -> bytes:
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
    return tables.flatten_record(
        {name: value for name, value in model.summary.items() if name != "log"}
    )
