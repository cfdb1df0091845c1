"""The page of qualities; templates/qualities.html, which escapes what comes from the run."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from markupsafe import Markup

from trueface.evaluation.intervals import Difference
from trueface.evaluation.over_seeds import NO_VALUE, cell, short_names, without_seed
from trueface.evaluation.published_tables import published_tables
from trueface.evaluation.qualities import (
    SUMMARIES,
    ComparedQualities,
    QualityMethod,
    QualityRow,
    comparisons,
)
from trueface.report.page import filled
from trueface.report.quality_curves import (
    Collaboration,
    collaboration_plots,
    collaborations,
    idle_terms,
    quality_curves,
    score_curves,
)
from trueface.report.svg import breakable
from trueface.report.tables import published, table, table_row
from trueface.runtime.files import write_atomic

FILE = "qualities.html"  # in a run's folder, where its report links to it
PUBLISHED = "qad"
POINTS = 100  # differences are shown in points of the AUC


def write_quality_page(rows: Sequence[QualityRow], path: Path, *, run: Path) -> None:
    """Write the page of a run's rows, atomically; folders are made as needed.

    Args:
        rows: one a model (a seed) and test.
        path: the file.
        run: its folder, for what its trainings logged of their collaboration.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, quality_page(rows, run.name, tuple(collaborations(run))))


def quality_page(
    rows: Sequence[QualityRow], name: str, trained: Sequence[Collaboration] = ()
) -> str:
    """Return the page: it needs no other file, and the same rows give the same page."""
    return filled(
        "qualities.html",
        _about(rows),
        name=name,
        sections=[_section(each) for each in comparisons(rows)],
        collaboration=Markup(collaboration_plots(trained)),  # escaped where made
        idle=list(idle_terms(trained)),
        published=Markup(_published()),
    )


def _about(rows: Sequence[QualityRow]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    yield "tests", ", ".join(dict.fromkeys(row.data for row in rows))
    yield "qualities", ", ".join(dict.fromkeys(name for row in rows for name in row.names))


def _section(compared: ComparedQualities) -> dict[str, object]:
    reference = _reference(compared)
    return {
        "data": compared.data,
        "sentences": list(_sentences(compared, reference)),
        "curves": Markup(quality_curves(compared)),
        "areas": Markup(_areas(compared)),
        "differences": Markup(_differences(compared, reference)),
        "scores": Markup(score_curves(compared)),
    }


def _reference(compared: ComparedQualities) -> str:
    """Return the name of the reference, as short as the methods' names."""
    models = {each.against.model for each in compared.methods if each.against is not None}
    against = without_seed(next(iter(models), ""))
    known = [method.model for method in compared.methods]
    return short_names(known).get(against, against) or "the reference"


def _sentences(compared: ComparedQualities, reference: str) -> Iterator[str]:
    """Yield what the differences say; plain text, to be escaped."""
    said: dict[str, list[str]] = {}
    for method in compared.methods:
        worst = method.difference("worst")
        if worst is not None:
            said.setdefault(_word(worst), []).append(f"{method.name} {_points(worst.value)}")
    for word, methods in said.items():
        yield f"At the worst quality, against {reference}, {word}: {'; '.join(methods)} points."
    if compared.left_out:
        yield f"Left out: {compared.left_out[-1]} images that were not scored in every quality."


def _areas(compared: ComparedQualities) -> str:
    """Return the AUC of each method at each quality, and what sums them up."""
    names = compared.qualities
    rows = (
        table_row(
            breakable(method.name),
            (
                f"<td>{len(method.rows)}</td>",
                *(f"<td>{_area(method, name)}</td>" for name in (*names, *SUMMARIES)),
            ),
        )
        for method in compared.methods
    )
    return (
        '<p class="caption">AUC; ± is the standard deviation over seeds, small numbers the 95 % '
        "interval of a single seed over images. Pooled: one AUC over the images of all qualities "
        "together, lower than the mean where scores shift with the quality.</p>"
        + table(("method", "seeds", *map(breakable, names), *SUMMARIES), rows)
    )


def _area(method: QualityMethod, name: str) -> str:
    only = method.over_images(name)
    below = [] if only is None else [f"{only.low:.3f}–{only.high:.3f}"]
    worst = {row.worst_quality for row in method.rows if row.worst_quality}
    if name == "worst" and len(worst) == 1:
        below += worst
    small = "".join(f"<small>{escape(text)}</small>" for text in below)
    return f"{cell(method.area(name), 3)}{small}"


def _differences(compared: ComparedQualities, reference: str) -> str:
    """Return how far each method is from the reference; nothing where there is none."""
    methods = [method for method in compared.methods if method.against is not None]
    names = [
        name
        for name in (*SUMMARIES, *compared.qualities)
        if any(method.difference(name) is not None for method in methods)
    ]
    if not names:
        return ""
    rows = (
        table_row(
            breakable(method.name),
            (f"<td>{_difference(method.difference(name))}</td>" for name in names),
        )
        for method in methods
    )
    return (
        f'<p class="caption">Points of the AUC, method minus {escape(reference)}, the means '
        "over seeds on the same images, with 95 % intervals of the paired bootstrap over images and, from "
        "three seeds on, over seeds. No gain is shown where the interval holds 0.</p>"
        + table(("method", *map(breakable, names)), rows)
    )


def _difference(of: Difference | None) -> str:
    if of is None:
        return NO_VALUE
    ends = f"{_points(of.low)} … {_points(of.high)}"
    return f"{_points(of.value)}<small>{ends}</small><small>{_word(of)}</small>"


def _word(of: Difference) -> str:
    return "no gain shown" if of.low <= 0 <= of.high else of.word


def _points(difference: float) -> str:
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _published() -> str:
    """Return the published figures of quality-agnostic detectors, marked: none is of this data."""
    qad = next((each for each in published_tables() if each.name == PUBLISHED), None)
    return "" if qad is None else published(qad, 4)
