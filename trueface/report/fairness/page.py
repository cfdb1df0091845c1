"""The page of fairness; templates/fairness.html, which escapes what comes from the run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from trueface.report.fairness.content import Comparison, Row, comparisons
from trueface.report.fairness.gap_plot import gap_plot
from trueface.report.fairness.group_tables import groups_of
from trueface.report.fairness.ladder import further, ladder
from trueface.report.fairness.records import row_of
from trueface.report.fairness.summary import sentences
from trueface.report.page import environment
from trueface.report.style import CSS
from trueface.report.tables import facts
from trueface.runtime.files import Json, write_atomic

FILE = "fairness.html"  # in a run's folder, where its report links to it
UNFOLDED = 1  # methods whose groups are shown at once


class Recorded(Protocol):
    """A row of `trueface fairness`."""

    @property
    def record(self) -> Mapping[str, Json]:
        """What `--json` prints of it."""


def write_fairness_page(rows: Sequence[Recorded], path: Path, *, name: str = "") -> None:
    """Write the page of a run's rows, atomically; folders are made as needed.

    Args:
        rows: one a model (a seed), test and column.
        path: the file.
        name: of the run; by default that of the file's folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = fairness_page([row.record for row in rows], name or path.absolute().parent.name)
    write_atomic(path, text.encode(errors="backslashreplace"))


def fairness_page(records: Sequence[Mapping[str, Json]], name: str) -> str:
    """Return the page: it needs no other file, and the same rows give the same page."""
    rows = [row_of(record) for record in records]
    template = environment().get_template("fairness.html")
    return template.render(
        name=name,
        css=Markup(CSS),
        about=Markup(facts(_about(rows))),  # escaped where made
        sections=[_section(each) for each in comparisons(rows)],
    )


def _section(comparison: Comparison) -> dict[str, object]:
    opened = len(comparison.methods) <= UNFOLDED
    groups = (groups_of(method, opened=opened) for method in comparison.methods)
    return {
        # predictions from elsewhere name no test
        "title": f"By {comparison.by}" + (f", {comparison.data}" if comparison.data else ""),
        "sentences": list(sentences(comparison)),
        "ladder": Markup(ladder(comparison)),
        "further": Markup(further(comparison)),
        "plot": Markup(gap_plot(comparison)),
        "groups": [Markup(text) for text in groups],
    }


def _about(rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    tests = dict.fromkeys(row.data for row in rows if row.data)
    if tests:
        yield "tests", ", ".join(tests)
    yield "columns of groups", ", ".join(dict.fromkeys(row.by for row in rows))
    files = dict.fromkeys(file for row in rows for file in row.attributes)
    if files:
        yield "attributes", ", ".join(files)
