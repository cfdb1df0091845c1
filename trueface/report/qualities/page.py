"""The page of qualities; templates/qualities.html, which escapes what comes from the run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from trueface.report.page import environment
from trueface.report.qualities import tables
from trueface.report.qualities.collaboration import Collaboration, collaborations, plots
from trueface.report.qualities.collaboration import sentences as of_collaboration
from trueface.report.qualities.content import Comparison, Row, comparisons
from trueface.report.qualities.curves import quality_curves, score_curves
from trueface.report.qualities.records import row_of
from trueface.report.style import CSS
from trueface.report.tables import facts
from trueface.runtime.files import Json, write_atomic

FILE = "qualities.html"  # in a run's folder, where its report links to it


class Recorded(Protocol):
    """A row of `trueface qualities`."""

    @property
    def record(self) -> Mapping[str, Json]:
        """What `--json` prints of it."""


def write_quality_page(
    rows: Sequence[Recorded], path: Path, *, name: str = "", run: Path | None = None
) -> None:
    """Write the page of a run's rows, atomically; folders are made as needed.

    Args:
        rows: one a model (a seed) and test.
        path: the file.
        name: of the run; by default that of the file's folder.
        run: its folder, for what its trainings logged of their collaboration.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    trained = [] if run is None else list(collaborations(run))
    title = name or path.absolute().parent.name
    text = quality_page([row.record for row in rows], title, trained)
    write_atomic(path, text)


def quality_page(
    records: Sequence[Mapping[str, Json]], name: str, trained: Sequence[Collaboration] = ()
) -> str:
    """Return the page: it needs no other file, and the same rows give the same page."""
    rows = [row_of(record) for record in records]
    template = environment().get_template("qualities.html")
    return template.render(
        name=name,
        css=Markup(CSS),
        about=Markup(facts(_about(rows))),  # escaped where made, as is all below
        sections=[_section(each) for each in comparisons(rows)],
        collaboration=Markup(plots(trained)),
        idle=list(of_collaboration(trained)),
        published=Markup(tables.published_figures()),
    )


def _section(comparison: Comparison) -> dict[str, object]:
    return {
        "data": comparison.data,
        "sentences": list(tables.sentences(comparison)),
        "curves": Markup(quality_curves(comparison)),
        "areas": Markup(tables.areas(comparison)),
        "differences": Markup(tables.differences(comparison)),
        "scores": Markup(score_curves(comparison)),
    }


def _about(rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    yield "tests", ", ".join(dict.fromkeys(row.data for row in rows))
    names = dict.fromkeys(quality.name for row in rows for quality in row.qualities)
    yield "qualities", ", ".join(names)
