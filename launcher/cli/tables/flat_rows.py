"""Results as one table with a row each: what the row is of, and the numbers that came out."""

from collections.abc import Sequence
from typing import Any

from launcher.cli.tables.forms import shown_cell
from launcher.results.columns import DATA, MODEL, POOLED, RunResults, metric_of
from launcher.results.over import COUNT
from launcher.results.returned import JOB
from launcher.screens.format import harmless
from launcher.screens.result_table import Metric
from launcher.screens.text_table import Column, Span, table, width_of

# of the metrics of a detector those that a table shows; JSON and CSV have all
MAIN = ("balanced_accuracy", "accuracy", "auc", "eer", "ece", "loss")
_ALWAYS = (JOB, MODEL, DATA, COUNT)
_SHORTEST = 20  # columns of a name


def shown_columns(results: RunResults, first: Sequence[str] = ()) -> list[str]:
    """Return the columns that people see: what rows differ in, and the metrics that matter.

    Args:
        results: of a run.
        first: metrics that were asked for; they come before the others.
    """
    varying = {*results.varying, *_ALWAYS} - {POOLED}
    named = [name for name in results.columns if name in varying and name in results.names]
    metrics = results.metrics
    main = [name for name in MAIN if name in metrics] or metrics
    return list(dict.fromkeys([*named, *(n for n in first if n not in results.columns), *main]))


def flat_texts(results: RunResults, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the cells of some columns as people read them, their names first."""
    head = tuple(map(harmless, names))
    return [head, *(tuple(_text(row.get(name)) for name in names) for row in results.rows)]


def flat_numbers(results: RunResults, names: Sequence[str]) -> frozenset[int]:
    """Return which of some columns hold numbers."""
    return frozenset(
        index
        for index, name in enumerate(names)
        if any(metric_of(row.get(name)) is not None for row in results.rows)
    )


def draw_flat(results: RunResults, names: Sequence[str], width: int) -> str:
    """Return the table for a terminal; columns that have no room are named below it.

    Args:
        results: of a run.
        names: of the columns.
        width: columns of the terminal.
    """
    texts = flat_texts(results, names)
    if _wide(texts) > width:  # then without intervals
        texts = [texts[0], *(tuple(_brief(row.get(n)) for n in names) for row in results.rows)]
    right = flat_numbers(results, names)
    kept = [index for index, name in enumerate(names) if name in _ALWAYS]
    shapes = [
        Column(
            title=title,
            right=index in right,
            drop=0 if index in kept else index,
            least=0 if index in right else min(_SHORTEST, width),
            middle=index not in right,
        )
        for index, title in enumerate(texts[0])
    ]
    lines = table(shapes, (([Span(cell) for cell in row], None) for row in texts[1:]), width)
    head = lines[0].text.split() if lines else []
    hidden = [title for title in texts[0] if title not in head and any(_filled(texts, title))]
    more = [f"not shown: {', '.join(hidden)} (--format csv has all columns)"] if hidden else []
    return "\n".join([*(line.text for line in lines), *([""] if more else []), *more])


def _filled(texts: Sequence[Sequence[str]], title: str) -> list[bool]:
    index = list(texts[0]).index(title)
    return [bool(row[index].strip()) for row in texts[1:]]


def _wide(texts: Sequence[Sequence[str]]) -> int:
    widths = [max(width_of(row[index]) for row in texts) for index in range(len(texts[0]))]
    return sum(widths) + 2 * (len(widths) - 1)


def _text(cell: Any) -> str:
    metric = metric_of(cell)
    return shown_cell(cell) if metric is None or not _has_more(metric) else metric.text()


def _brief(cell: Any) -> str:
    metric = metric_of(cell)
    if metric is None or not _has_more(metric):
        return shown_cell(cell)
    return Metric(value=metric.value, sd=metric.sd).text()


def _has_more(metric: Metric) -> bool:
    return metric.low is not None or metric.sd is not None or isinstance(metric.value, float)
