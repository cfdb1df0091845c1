"""The page of qualities; templates/qualities.html, which escapes what comes from the run.

Its plots: AUC and scores by quality, and by epoch what a collaboration did. A collaboration between qualities is
shown by its nHSIC beside that of exchanged images.
"""

from collections.abc import Iterator, Sequence
from html import escape

from markupsafe import Markup

from trueface.evaluation.estimate import NOTHING_SHOWN, Difference
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_VALUE,
    MissingModels,
    cell,
    seeds_text,
    short_names,
    strip_seed,
)
from trueface.evaluation.published_tables import published_tables
from trueface.evaluation.qualities import (
    SUMMARIES,
    ComparedQualities,
    QualityMethod,
    QualityRow,
    comparisons,
)
from trueface.report.collaboration import Collaboration, collaboration_plots, idle_terms
from trueface.report.figures import (
    Figure,
)
from trueface.report.page import Page, render_template
from trueface.report.quality_figures import quality_curves, score_curves
from trueface.report.svg import breakable, framed, side_by_side
from trueface.report.tables import published, table, table_row

FILE = "qualities.html"  # in a run's folder, where its report links to it
PUBLISHED = "qad"
POINTS = 100  # differences are shown in points of the AUC


def quality_page(
    rows: Sequence[QualityRow],
    name: str,
    trained: Sequence[Collaboration] = (),
    missing: MissingModels = NO_MODELS,
) -> Page:
    """Return the page: the same rows give the same page.

    Args:
        rows: one per model (seed) and test.
        name: of the run.
        trained: what its trainings logged of their collaboration.
        missing: models of the run without a result.
    """
    figures: list[Figure] = []
    sections = [_section(each, figures) for each in comparisons(rows, missing)]
    collaboration = list(collaboration_plots(trained))
    html = render_template(
        "qualities.html",
        _describe_run(rows),
        name=name,
        sections=sections,
        collaboration=side_by_side(collaboration),
        idle=list(idle_terms(trained)),
        published=Markup(_published()),
    )
    return Page(html, {"": [*figures, *collaboration]})


def _describe_run(rows: Sequence[QualityRow]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    yield "tests", ", ".join(dict.fromkeys(row.data for row in rows))
    yield "qualities", ", ".join(dict.fromkeys(name for row in rows for name in row.names))


def _section(compared: ComparedQualities, figures: list[Figure]) -> dict[str, object]:
    """Return the template's values of a test; add its figures to those of the page."""
    reference = _reference(compared)
    areas, scores = quality_curves(compared), list(score_curves(compared))
    figures += [*([areas] if areas else []), *scores]
    return {
        "data": compared.data,
        "sentences": list(_sentences(compared, reference)),
        "curves": framed(areas),
        "areas": _areas(compared),
        "differences": _differences(compared, reference),
        "scores": side_by_side(scores),
    }


def _reference(compared: ComparedQualities) -> str:
    """Return the name of the reference, as short as the methods' names."""
    models = {
        each.reference_comparison.model
        for each in compared.methods
        if each.reference_comparison is not None
    }
    against = strip_seed(next(iter(models), ""))
    known = [method.model for method in compared.methods]
    return short_names(known).get(against, against) or "the reference"


def _sentences(compared: ComparedQualities, reference: str) -> Iterator[str]:
    """Yield the conclusions of the differences; plain text, to be escaped."""
    said: dict[str, list[str]] = {}
    for method in compared.methods:
        worst = method.difference("worst")
        if worst is not None:
            said.setdefault(_word(worst), []).append(f"{method.name} {_in_points(worst.value)}")
    for word, methods in said.items():
        yield f"At the worst quality, compared with {reference}, {word}: {'; '.join(methods)} points."
    if compared.left_out:
        yield f"Left out: {compared.left_out[-1]} images without scores in every quality."


def _areas(compared: ComparedQualities) -> str:
    """Return the AUC of each method at each quality, and the summaries."""
    names = compared.qualities
    rows = (
        table_row(
            breakable(method.name),
            (
                f"<td>{seeds_text(len(method.rows), method.missing)}</td>",
                *(f"<td>{_area(method, name)}</td>" for name in (*names, *SUMMARIES)),
            ),
        )
        for method in compared.methods
    )
    return table(
        ("method", "seeds", *map(breakable, names), *SUMMARIES),
        rows,
        above="AUC. ± is the standard deviation over seeds. Small numbers are the 95 % interval over images, for a "
        "single seed. pooled: one AUC over the images of all qualities together. It is lower than the mean if the "
        "scores shift with the quality.",
    )


def _area(method: QualityMethod, name: str) -> str:
    only = method.over_images(name)
    below = [] if only is None else [only.ends_text(".3f")]
    worst = {row.worst_quality for row in method.rows if row.worst_quality}
    if name == "worst" and len(worst) == 1:
        below += worst
    small = "".join(f"<small>{escape(text)}</small>" for text in below)
    return f"{cell(method.area(name), 3)}{small}"


def _differences(compared: ComparedQualities, reference: str) -> str:
    """Return how far each method is from the reference; nothing where there is none."""
    methods = [method for method in compared.methods if method.reference_comparison is not None]
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
    return table(
        ("method", *map(breakable, names)),
        rows,
        above=f"AUC difference in points (hundredths), method minus {reference}: means over seeds on the same images. "
        "95 % intervals are from the paired bootstrap over images and, from three seeds on, over seeds. No gain is "
        "shown if the interval contains 0.",
    )


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NO_VALUE
    if difference.interval is None:
        return f"{_in_points(difference.value)}<small>{escape(difference.ends_text('.3f'))}</small>"
    ends = f"{_in_points(difference.interval.low)} to {_in_points(difference.interval.high)}"
    return f"{_in_points(difference.value)}<small>{ends}</small><small>{_word(difference)}</small>"


def _word(difference: Difference) -> str:
    return "no gain shown" if difference.word == NOTHING_SHOWN else difference.word


def _in_points(difference: float) -> str:
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _published() -> str:
    """Return the published figures of quality-agnostic detectors, marked: none is of this data."""
    qad = next((each for each in published_tables() if each.name == PUBLISHED), None)
    return "" if qad is None else published(qad, 4)
