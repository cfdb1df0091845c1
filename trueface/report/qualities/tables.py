"""The tables of a page of qualities: method × quality, and differences from the reference."""

from collections.abc import Iterator
from html import escape

from trueface.evaluation.over_seeds import OverSeeds, cell, short_names
from trueface.evaluation.published.tables import published_tables
from trueface.evaluation.score_tables import without_seed
from trueface.report.qualities.content import TOTALS, Area, Comparison, Method, Row
from trueface.report.svg import breakable
from trueface.report.tables import NO_VALUE, published, table, table_row

PUBLISHED = "qad"
POINTS = 100  # differences are shown in points of the AUC


def areas(comparison: Comparison) -> str:
    """Return the AUC of each method at each quality, and what sums them up."""
    names = map(breakable, comparison.qualities)
    lines = (_line(comparison, method) for method in comparison.methods)
    return (
        '<p class="caption">AUC; ± is the standard deviation over seeds, small numbers the 95 % '
        "interval of a single seed over images. Pooled: one AUC over the images of all qualities "
        "together, lower than the mean where scores shift with the quality.</p>"
        + table(("method", "seeds", *names, *TOTALS), lines)
    )


def differences(comparison: Comparison) -> str:
    """Return how far each method is from the reference; nothing where there is none."""
    methods = [
        method for method in comparison.methods if any(row.differences for row in method.rows)
    ]
    if not methods:
        return ""
    names = [
        name
        for name in (*TOTALS, *comparison.qualities)
        if any(name in row.differences for method in methods for row in method.rows)
    ]
    lines = (
        table_row(breakable(method.name), (_difference(method, name) for name in names))
        for method in methods
    )
    return (
        f'<p class="caption">Points of the AUC, method minus {escape(reference(comparison))}, the means '
        "over seeds on the same images, with 95 % intervals of the paired bootstrap over images and, from "
        "three seeds on, over seeds. No gain is shown where the interval holds 0.</p>"
        + table(("method", *map(breakable, names)), lines)
    )


def sentences(comparison: Comparison) -> Iterator[str]:
    """Yield what the differences say; plain text, to be escaped."""
    said: dict[str, list[str]] = {}
    for method in comparison.methods:
        worst = method.difference("worst")
        if worst is not None:
            said.setdefault(worst.words, []).append(f"{method.name} {_points(worst.value)}")
    for words, methods in said.items():
        yield (
            f"At the worst quality, against {reference(comparison)}, {words}: "
            f"{'; '.join(methods)} points."
        )
    if comparison.left_out:
        yield f"Left out: {comparison.left_out} images that were not scored in every quality."


def reference(comparison: Comparison) -> str:
    """Return the name of the reference, as short as the methods' names."""
    against = without_seed(comparison.against)
    known = [without_seed(method.rows[0].model) for method in comparison.methods]
    return short_names(known).get(against, against) or "the reference"


def published_figures() -> str:
    """Return the published figures of quality-agnostic detectors, marked: none is of this data."""
    qad = next((each for each in published_tables() if each.name == PUBLISHED), None)
    return "" if qad is None else published(qad, 4)


def _line(comparison: Comparison, method: Method) -> str:
    cells = "".join(
        _area(method.auc(name), [row.area(name) for row in method.rows])
        for name in comparison.qualities
    )
    for name in TOTALS:
        ends = [row.totals.get(name, Area()) for row in method.rows]
        cells += _area(method.total(name), ends, _worst(method.rows) if name == "worst" else "")
    return (
        f'<tr><th scope="row">{breakable(method.name)}</th><td>{len(method.rows)}</td>{cells}</tr>'
    )


def _worst(rows: tuple[Row, ...]) -> str:
    names = {row.worst_quality for row in rows if row.worst_quality}
    return names.pop() if len(names) == 1 else ""


def _area(area: OverSeeds | None, ends: list[Area], note: str = "") -> str:
    below = [note] if note else []
    low, high = ends[0].low, ends[0].high
    if len(ends) == 1 and low is not None and high is not None:
        below.insert(0, f"{low:.3f}–{high:.3f}")
    small = "".join(f"<small>{escape(text)}</small>" for text in below)
    return f"<td>{cell(area, 3)}{small}</td>"


def _difference(method: Method, name: str) -> str:
    each = method.difference(name)
    if each is None:
        return f"<td>{NO_VALUE}</td>"
    ends = ""
    if each.low is not None and each.high is not None:
        ends = f"<small>{_points(each.low)} … {_points(each.high)}</small>"
    return f"<td>{_points(each.value)}{ends}<small>{each.words}</small></td>"


def _points(difference: float) -> str:
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")
