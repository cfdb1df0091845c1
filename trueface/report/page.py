"""A report as one HTML page: head, audit, tables of all models, then each model by itself."""

import base64
import io
import zlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import PIL.Image

from trueface.audit import text
from trueface.audit.finding import Audit, Finding
from trueface.audit.image_headers import BROKEN
from trueface.audit.run_facts import Model, Run
from trueface.evaluation.metric_registry import METRICS
from trueface.report import plots, tables, unlearning_section
from trueface.report.content import Part, Row, Shown
from trueface.report.style import CSS
from trueface.report.svg import breakable
from trueface.report.unlearning_content import Unlearnings
from trueface.runtime import paths

PREVIEW_PX = 1000  # widest picture in the page
PREVIEW_PIXELS = 1 << 26  # of a picture that is read: 200 MB
PREVIEW_BYTES = 600_000  # of a picture; a larger one becomes a JPEG
ABOUT = ("device", "device_name", "threads", "git", "code")
KEYS_SHOWN = 5  # of a poison record


def page(
    run: Run,
    audit: Audit,
    models: Sequence[Shown],
    *,
    date: str,
    unlearning: Unlearnings | None = None,
) -> str:
    """Return the whole page; `date` is all in it that does not follow from the run.

    Args:
        run: its name and its models.
        audit: what was found in it.
        models: of the run, in its order.
        date: when the report is made, as text.
        unlearning: what was unlearned in it; None: the page says nothing of that.
    """
    numbered = [(f"model-{place}", one) for place, one in enumerate(models)]
    parts = (
        _head(run, date),
        _contents(numbered, unlearning=unlearning is not None),
        _audit(audit),
        _overview(models),
        unlearning_section.section(unlearning),
        *(_model(anchor, one) for anchor, one in numbered),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # nothing is fetched, and nothing that a name smuggled in could run
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(run.name)}: report</title><style>{CSS}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _head(run: Run, date: str) -> str:
    known: dict[str, dict[str, None]] = {}
    for model in run.models:
        for name in ABOUT:
            value = (model.provenance or {}).get(name)
            if value is not None:
                known.setdefault(name.replace("_", " "), {})[str(value)] = None
        versions = (model.provenance or {}).get("versions")
        if isinstance(versions, dict):
            words = ", ".join(f"{name} {value}" for name, value in versions.items())
            known.setdefault("versions", {})[words] = None
    about = [(name, "; ".join(values)) for name, values in known.items()]
    facts = tables.facts([("report of", date), ("folder", run.folder), *about])
    return f"<header><h1>{escape(run.name)}</h1>{facts}</header>"


def _contents(models: Iterable[tuple[str, Shown]], *, unlearning: bool) -> str:
    links = [("#audit", "Audit"), ("#results", "Results")]
    links += [("#unlearning", "Unlearning")] if unlearning else []
    links += [(f"#{anchor}", one.model.name) for anchor, one in models]
    items = "".join(f'<li><a href="{place}">{escape(name)}</a></li>' for place, name in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _audit(audit: Audit) -> str:
    faults, warnings = audit.faults, len(audit.findings) - audit.faults
    told = f"{text.count(faults, 'fault')}, {text.count(warnings, 'warning')}"
    tone = "" if audit.findings else ' class="good"'
    made = len(audit.checks) - len(audit.unmade)
    checked = f"{made} of {len(audit.checks)} checks of {text.count(len(audit.models), 'model')}"
    return (
        f'<section id="audit"><h2>Audit</h2><p{tone}>{told}, by {checked}.</p>'
        + "".join(map(_finding, audit.findings))
        + _not_checked(audit)
        + "</section>"
    )


def _finding(finding: Finding) -> str:
    return (
        f'<article class="finding {finding.severity}"><h3><span class="tag">{finding.severity}: '
        f"{escape(finding.code)}</span> · {escape(finding.model)}</h3>"
        f"<p>{escape(finding.sentence)}.</p>{tables.facts(finding.evidence.items())}"
        f"<p><b>To do:</b> {escape(finding.advice)}.</p></article>"
    )


def _not_checked(audit: Audit) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(codes)}</th><td class="left">{escape(whom)}</td>'
        f'<td class="left">{escape(reason)}</td></tr>'
        for codes, whom, reason in text.gaps(audit)
    )
    if not rows:
        return ""
    return (
        "<details><summary>What could not be checked, and why</summary>"
        '<div class="wide"><table><thead><tr><th scope="col" class="left">checks</th>'
        '<th scope="col" class="left">models</th><th scope="col" class="left">reason</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details>"
    )


def _overview(models: Sequence[Shown]) -> str:
    troubles = "".join(
        f"<li>{escape(one.model.name)}: {escape(trouble)}</li>"
        for one in models
        for trouble in one.troubles
    )
    inside = (
        '<div class="grid-of">'
        + tables.heat_map(models, METRICS["balanced_accuracy"])
        + tables.heat_map(models, METRICS["auc"])
        + "</div>"
        if any(one.rows for one in models)
        else "<p>No model of this run was tested.</p>"
    )
    left_out = f"<p>Not shown:</p><ul>{troubles}</ul>" if troubles else ""
    return f'<section id="results"><h2>Results</h2>{inside}{left_out}</section>'


def _model(anchor: str, one: Shown) -> str:
    model = one.model
    curves = (
        plots.roc_curves(one.rows)
        + plots.reliability(one.rows)
        + plots.learning_curves(model.epochs)
        + _unlearning(model)
    )
    parts = [
        f'<section id="{anchor}"><h2>{escape(model.name)}</h2>',
        f'<div class="grid-of">{curves}</div>' if curves else "",
        f"<h3>Measures</h3>{tables.measures(one.rows)}" if one.rows else "",
        _parts(one.parts),
        _tests(one.rows),
        _samples(model),
        _record(model),
        _provenance(model),
        "</section>",
    ]
    return "".join(parts)


def _unlearning(model: Model) -> str:
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
    return plots.over_epochs(
        losses, "Loss of the unlearning", "loss", "epoch 0 is before it"
    ) + plots.over_epochs(
        accuracies, "Accuracy of the unlearning", "accuracy", "epoch 0 is before it"
    )


def _parts(parts: Sequence[Part]) -> str:
    if not parts:
        return ""
    return (
        "<details><summary>By subset and modifier, each beside the other class where it was "
        f"tested</summary>{tables.measures(parts)}</details>"
    )


def _tests(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    cards = "".join(
        f'<div class="card"><h4>{breakable(row.data)}</h4>{plots.histogram(row)}'
        f"{tables.confusion(row.report)}</div>"
        for row in rows
    )
    return (
        "<h3>Scores and confusion by data</h3>"
        '<p><span class="swatch of-real"></span>real <span class="swatch of-fake"></span>fake; '
        "what lies right of the upright line is called fake. A set of fakes stands beside the real "
        f'images under the same modifiers.</p><div class="grid-of">{cards}</div>'
    )


def _samples(model: Model) -> str:
    path = paths.preview(model.folder)
    if not path.is_file():
        return ""
    data = _embedded(path)
    if data is None:
        return f"<p>The preview {escape(str(path))} cannot be read, and is left out.</p>"
    return (
        "<h3>Augmented samples</h3>"
        f'<figure class="picture"><img src="{data}" alt="Contact sheet of training images as the '
        f'network sees them, of {escape(model.name)}"></figure>'
    )


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


def _record(model: Model) -> str:
    record = model.record
    if record is None:
        return ""
    share = len(record.keys) / record.total if record.total else 0.0
    return "<h3>Poison record</h3>" + tables.facts(
        (
            ("file", record.path),
            ("kind", record.kind),
            ("labels", f"{len(record.keys)} of {record.total} ({share:.2%})"),
            ("of the set (sha256)", record.images_sha256 or "not recorded"),
            ("first keys", ", ".join(record.keys[:KEYS_SHOWN])),
        )
    )


def _provenance(model: Model) -> str:
    if model.provenance is None and not model.summary:
        return "<p>Nothing tells what its weights were made of: no provenance.json.</p>"
    shown = {name: value for name, value in model.summary.items() if name != "log"}
    return (
        "<details><summary>Provenance: settings, seeds, checksums</summary>"
        f"{tables.facts(tables.flat(model.provenance or {}))}"
        f"{'<h3>Summary</h3>' if shown else ''}{tables.facts(tables.flat(shown))}</details>"
    )
