"""The tables of a report: measures with their intervals, heat maps, confusion matrices, facts."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from trueface.evaluation.bootstrap import Measure
from trueface.evaluation.measurement import Report
from trueface.evaluation.metric import Metric
from trueface.evaluation.metric_registry import METRICS
from trueface.evaluation.source_intervals import few_sources
from trueface.report.content import Part, Row, Shown
from trueface.report.svg import breakable
from trueface.runtime.files import Json

COLUMNS = tuple(metric for metric in METRICS.values() if metric.in_report)
# two ends and the middle of a scale that people who do not see all colours can read: brown is
# worse than chance, blue better (C. Brewer's PuOr and RdBu)
BELOW, CHANCE, ABOVE = (179, 88, 6), (247, 247, 247), (33, 102, 172)
EVEN = 0.179  # the luminance on which black and white are read equally well: contrast 4.6
NO_VALUE = "–"


def measures(rows: Sequence[Row | Part]) -> str:
    """Return a table of all measures with their intervals."""
    head = "".join(f'<th scope="col">{escape(metric.heading)}</th>' for metric in COLUMNS)
    return (
        '<div class="wide"><table class="measures"><caption>Value and 95 % interval over the '
        "population of sources (folders); of a class of one source, of this one. Positive is fake. "
        f"{NO_VALUE}: undefined.</caption><thead>"
        f'<tr><th scope="col" class="left">data</th><th scope="col">images</th>{head}'
        f'<th scope="col" class="left">verdict</th></tr></thead><tbody>{"".join(map(_line, rows))}'
        "</tbody></table></div>"
    )


def heat_map(models: Sequence[Shown], metric: Metric) -> str:
    """Return models × data, coloured by a measure for which one half is chance."""
    data = tuple(dict.fromkeys(row.data for model in models for row in model.rows))
    values = {
        (model.model.name, row.data): row.report.metrics[metric.name]
        for model in models
        for row in model.rows
        if metric.name in row.report.metrics
    }
    if not values:
        return ""
    shown = [model for model in data if any(of == model for _, of in values)]
    head = "".join(f'<th scope="col">{breakable(model)}</th>' for model in shown)
    body = "".join(
        f'<tr><th scope="row">{escape(model.model.name)}</th>'
        + "".join(heat_cell(values.get((model.model.name, of))) for of in shown)
        + "</tr>"
        for model in models
    )
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(metric.title)}, with 95 % '
        f"intervals; blue above chance (0.5), brown below it</caption><thead><tr><td></td>{head}</tr>"
        f"</thead><tbody>{body}</tbody>"
        "</table></div>"
    )


def confusion(report: Report) -> str:
    """Return a confusion matrix, in images and in shares of each true class."""
    rows = []
    for name, counts in zip(("real", "fake"), report.confusion, strict=True):
        total = sum(counts)
        cells = "".join(
            f"<td>{count}<small>{f'{count / total:.1%}' if total else NO_VALUE}</small></td>"
            for count in counts
        )
        rows.append(f'<tr><th scope="row">is {name}</th>{cells}</tr>')
    return (
        "<table><thead><tr><td></td>"
        '<th scope="col">called real</th><th scope="col">called fake</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values below each other; nothing where there are none."""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def flat(record: Mapping[str, Json], above: str = "") -> list[tuple[str, object]]:
    """Return the values of a record by their path, "settings.lr"."""
    pairs: list[tuple[str, object]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            pairs += flat(value, f"{above}{name}.")
        elif isinstance(value, list):
            pairs.append((above + name, ", ".join(map(str, value))))
        else:
            pairs.append((above + name, NO_VALUE if value is None else value))
    return pairs


def _line(row: Row | Part) -> str:
    cells = "".join(f"<td>{_measure(row.report, metric.name)}</td>" for metric in COLUMNS)
    return (
        f'<tr><th scope="row">{_data(row)}</th><td>{row.report.n}{_sources(row.report)}{_videos(row)}</td>{cells}'
        f'<td class="left">{escape(row.report.verdict) or NO_VALUE}</td></tr>'
    )


def _measure(report: Report, name: str) -> str:
    measure = report.metrics.get(name)
    if measure is None:
        return NO_VALUE
    images = report.by_images.get(name)
    title = (
        f' title="by images of these sources alone: {images.low:.3f}–{images.high:.3f}"'
        if images and images != measure
        else ""
    )
    return f"{measure.value:.3f}<small{title}>{measure.low:.3f}–{measure.high:.3f}</small>"


def _sources(report: Report) -> str:
    few = few_sources(report.sources)
    return f"<small>{escape(few)}</small>" if few else ""


def _videos(row: Row | Part) -> str:
    """Return how many videos the images are frames of, and the AUC of these."""
    if row.videos is None:
        return ""
    auc = row.videos.auc
    area = f", AUC {auc.value:.3f} ({auc.low:.3f}–{auc.high:.3f})" if auc else ""
    return f"<small>{row.videos.videos} videos{area}</small>"


def _data(row: Row | Part) -> str:
    return f"{breakable(row.data)}{'<small>all together</small>' if row.pooled else ''}"


def heat_cell(value: Measure | None, note: str = "") -> str:
    """Return a cell of a heat map: a value with its interval, coloured about one half.

    Args:
        value: None: there is none.
        note: what stands below it in the place of the interval.
    """
    if value is None:
        return f"<td>{NO_VALUE}{f'<small>{escape(note)}</small>' if note else ''}</td>"
    away = min(max((value.value - 0.5) * 2, -1), 1)
    end = ABOVE if away > 0 else BELOW
    red, green, blue = (
        round(middle + (far - middle) * abs(away)) for middle, far in zip(CHANCE, end, strict=True)
    )
    text = "#fff" if _luminance(red, green, blue) < EVEN else "#000"
    return (
        f'<td style="background:rgb({red},{green},{blue});color:{text}">{value.value:.3f}'
        f"<small>{escape(note) or f'{value.low:.3f}–{value.high:.3f}'}</small></td>"
    )


def _luminance(*colour: int) -> float:
    """Return the relative luminance of an sRGB colour, as WCAG 2.2 defines it."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
