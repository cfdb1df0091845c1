"""The page of qualities; templates/qualities.html, which escapes what comes from the run.

Its plots: AUC and scores by quality, and by epoch what a collaboration did. A collaboration between qualities is
shown by its nHSIC beside that of exchanged images.
"""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from trueface.evaluation.over_seeds import (
    NO_MODELS,
    MissingModels,
    short_names,
    strip_seed,
)
from trueface.evaluation.published_tables import published_tables
from trueface.evaluation.qualities import (
    ComparedQualities,
    QualityRow,
    comparisons,
)
from trueface.report.collaboration import Collaboration, collaboration_plots, idle_terms
from trueface.report.figures import (
    Figure,
)
from trueface.report.page import Page, render_template
from trueface.report.quality_figures import quality_curves, score_curves
from trueface.report.quality_tables import (
    areas_table,
    differences_table,
    format_in_points,
    gain_word,
)
from trueface.report.svg import render_framed, side_by_side
from trueface.report.tables import render_published, study_table

PUBLISHED = "qad"


def quality_page(
    rows: Sequence[QualityRow],
    name: str,
    collaborations: Sequence[Collaboration] = (),
    missing: MissingModels = NO_MODELS,
) -> Page:
    """Return the page: the same rows give the same page.

    Args:
        rows: one per model (seed) and test.
        name: of the run.
        collaborations: what its trainings logged of their collaboration.
        missing: models of the run without a result.
    """
    figures: list[Figure] = []
    sections = [_section(each, figures) for each in comparisons(rows, missing)]
    collaboration = list(collaboration_plots(collaborations))
    html = render_template(
        "qualities.html",
        _describe_run(rows),
        name=name,
        sections=sections,
        collaboration=side_by_side(collaboration),
        idle=list(idle_terms(collaborations)),
        published=Markup(_published_figures()),
    )
    return Page(html, {"": [*figures, *collaboration]})


def _describe_run(rows: Sequence[QualityRow]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    yield "tests", ", ".join(dict.fromkeys(row.data for row in rows))
    yield "qualities", ", ".join(dict.fromkeys(name for row in rows for name in row.names))


def _section(comparison: ComparedQualities, figures: list[Figure]) -> dict[str, object]:
    """Return the template's values of a test; add its figures to those of the page."""
    reference = _reference(comparison)
    areas, scores = quality_curves(comparison), list(score_curves(comparison))
    figures += [*([areas] if areas else []), *scores]
    return {
        "data": comparison.data,
        "sentences": list(_sentences(comparison, reference)),
        "curves": render_framed(areas),
        "areas": study_table(
            areas_table(comparison),
            text_above="AUC. ± is the standard deviation over seeds. Small numbers are the 95 % interval over images, for a "
            "single seed. pooled: one AUC over the images of all qualities together. It is lower than the mean if the "
            "scores shift with the quality.",
        ),
        "differences": _differences(comparison, reference),
        "scores": side_by_side(scores),
    }


def _reference(comparison: ComparedQualities) -> str:
    """Return the name of the reference, as short as the methods' names."""
    models = {
        each.reference_comparison.model
        for each in comparison.methods
        if each.reference_comparison is not None
    }
    against = strip_seed(next(iter(models), ""))
    known = [method.model for method in comparison.methods]
    return short_names(known).get(against, against) or "the reference"


def _sentences(comparison: ComparedQualities, reference: str) -> Iterator[str]:
    """Yield the conclusions of the differences; plain text, to be escaped."""
    said: dict[str, list[str]] = {}
    for method in comparison.methods:
        worst = method.difference("worst")
        if worst is not None:
            said.setdefault(gain_word(worst), []).append(
                f"{method.name} {format_in_points(worst.value)}"
            )
    for word, methods in said.items():
        yield f"At the worst quality, compared with {reference}, {word}: {'; '.join(methods)} points."
    if comparison.left_out:
        yield f"Left out: {comparison.left_out[-1]} images without scores in every quality."


def _differences(comparison: ComparedQualities, reference: str) -> str:
    """Return how far each method is from the reference; nothing where there is none."""
    table_of = differences_table(comparison)
    if table_of is None:
        return ""
    return study_table(
        table_of,
        text_above=f"AUC difference in points (hundredths), method minus {reference}: means over seeds on the same images. "
        "95 % intervals are from the paired bootstrap over images and, from three seeds on, over seeds. No gain is "
        "shown if the interval contains 0.",
    )


def _published_figures() -> str:
    """Return the published figures of quality-agnostic detectors, marked: none is of this data."""
    qad = next((each for each in published_tables() if each.name == PUBLISHED), None)
    return "" if qad is None else render_published(qad, 4)
