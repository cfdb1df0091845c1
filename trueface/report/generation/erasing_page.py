"""The page of erasing; templates/erasing.html, which escapes what comes from the run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from trueface.report.generation import erasing_tables as tables
from trueface.report.generation.erasing_plots import rate_bars, recoveries, recovery_plots
from trueface.report.generation.erasing_verdicts import sentences
from trueface.report.generation.made_folders import Made
from trueface.report.generation.rows import Row, rows_of
from trueface.report.json_fields import text_of
from trueface.report.page import environment
from trueface.report.style import CSS
from trueface.report.tables import facts
from trueface.runtime.files import Json, write_atomic

FILE = "erasing.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """All that a run has to say about erasing."""

    name: str  # of the run
    rows: Sequence[Mapping[str, Json]]  # one a method, the teacher among them
    erased: Sequence[Made]  # folders with samples and curves
    rule: str = ""  # how the rows' verdicts are found


def write_erasing_page(run: Erasing, path: Path) -> None:
    """Write the page of a run, atomically; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, erasing_page(run).encode(errors="backslashreplace"))


def erasing_page(run: Erasing) -> str:
    """Return the page: it needs no other file, and the same run gives the same page."""
    rows = rows_of(run.rows)
    order = [row.name for row in rows]
    return (
        environment()
        .get_template("erasing.html")
        .render(
            name=run.name,
            css=Markup(CSS),
            about=Markup(facts(_about(run, rows))),  # escaped where made, as is all below
            sentences=list(sentences(rows)),
            rule=run.rule,
            methods=Markup(tables.method_table(rows)) if rows else "",
            bars=Markup(rate_bars(rows)),
            samples=Markup(tables.sample_table(run.erased, order)),
            curves=Markup(recovery_plots(recoveries(run.erased, order))),
            published=Markup(tables.published_table()),
        )
    )


def _about(run: Erasing, rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "methods", ", ".join(row.name for row in rows) or "none"
    for key, words in (("concept", "concept erased"), ("anchor", "anchor")):
        names = dict.fromkeys(text_of(made.measures, key) for made in run.erased)
        if any(names):
            yield words, ", ".join(filter(None, names))
    known = [rate for row in rows if (rate := row.mean("classifier_accuracy")) is not None]
    if known:
        yield "classifier, on held-out real images", f"{100 * min(known):.1f} % recognised"
