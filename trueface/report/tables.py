"""The tables of pages: columns of numbers, published figures, measures with intervals, heat maps, facts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from markupsafe import Markup

from trueface.evaluation.estimate import Difference, Estimate
from trueface.evaluation.measurement import Report
from trueface.evaluation.metric import Metric
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary
from trueface.evaluation.published_tables import OTHER_DATA, PublishedTable
from trueface.report.content import ModelReport
from trueface.report.study_table import Column, NumberForm, StudyEntry, StudyRow, StudyTable
from trueface.report.svg import allow_line_breaks
from trueface.runtime.files import Json

SIGN = "†"  # a value without an interval
ARROWS = {"up": "\N{UPWARDS ARROW}", "down": "\N{DOWNWARDS ARROW}", "": ""}
# two ends and the middle of a scale that people who do not see all colours can read: brown is
# worse than chance, blue better (C. Brewer's PuOr and RdBu)
BELOW, CHANCE, ABOVE = (179, 88, 6), (247, 247, 247), (33, 102, 172)
EVEN = 0.179  # the luminance on which black and white are read equally well: contrast 4.6


def table(
    head: Sequence[str],
    rows: Iterable[str],
    *,
    words: Collection[str] = (),
    text_above: str = "",
    caption: str = "",
    kind: str = "measures",
    is_grouped: bool = False,
) -> Markup:
    """Return a table as wide as needed. All arguments are HTML, except the text above the table.

    Args:
        head: titles of the columns, whose first one names the rows.
        rows: as `table_row` returns them.
        words: titles of further columns that do not hold numbers.
        text_above: a paragraph.
        caption: of the table.
        kind: classes of the style sheet.
        is_grouped: each of `rows` is a `tbody`.
    """
    left = {head[0], *words}
    titles = "".join(
        '<th scope="col"' + (' class="left"' if title in left else "") + f">{title}</th>"
        for title in head
    )
    classes = f' class="{kind}"' if kind else ""
    lead = f'<p class="caption">{escape(text_above)}</p>' if text_above else ""
    inside = f"<caption>{caption}</caption>" if caption else ""
    body = "".join(rows)
    return Markup(
        f'{lead}<div class="wide"><table{classes}>{inside}<thead><tr>{titles}</tr></thead>'
        f"{body if is_grouped else f'<tbody>{body}</tbody>'}</table></div>"
    )


def table_row(name: str, cells: Iterable[str]) -> str:
    """Return a row of a table: HTML of its name, and its cells, each a `td`."""
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def study_table(
    table_of: StudyTable, *, text_above: str = "", caption: str = "", kind: str = "measures"
) -> Markup:
    """Return a table of a study; nothing if it has no row. See `table` for the texts around it."""
    if not table_of.rows:
        return Markup()
    titles: list[str] = []
    words: list[str] = []
    for column in table_of.head:
        title = f"{allow_line_breaks(column.title)}{f', {column.unit}' if column.unit else ''}"
        title = f"{title} {ARROWS[column.better]}".rstrip()
        if column.joins:
            titles[-1] += _small_print(title)
            continue
        titles.append(title + (_small_print(escape(column.below)) if column.below else ""))
        words += titles[-1:] if column.is_text else []
    rows = (_study_row(table_of.head, row) for row in table_of.rows)
    grouped = any(row.kind for row in table_of.rows)
    return table(
        titles,
        rows,
        words=words,
        text_above=text_above,
        caption=" ".join(filter(None, (caption, _missing_intervals(table_of)))),
        kind=kind,
        is_grouped=grouped,
    )


def _missing_intervals(table_of: StudyTable) -> str:
    """Return the reasons of missing intervals, each once; "" where there is none."""
    missing = {
        f"{column.title}, {why}": None
        for at, column in enumerate(table_of.head[1:])
        for row in table_of.rows
        if (why := row.entries[at].missing_interval)
    }
    return f"{SIGN}: no interval ({escape('; '.join(missing))})." if missing else ""


def _study_row(head: Sequence[Column], row: StudyRow) -> str:
    cells: list[str] = []
    for column, entry in zip(head[1:], row.entries, strict=True):
        form = column.page_form or column.form
        if column.joins:
            cells[-1] += _small_print(_value(entry, form))
            continue
        words = "left words" if column.is_wide else "left"
        left = f' class="{words}"' if column.is_text else ""
        hint = f' title="{escape(entry.hint or entry.why)}"' if entry.hint or entry.why else ""
        cells.append(f"<td{left}{hint}>{_value(entry, form)}{_lines_below(entry, form)}")
    below = f'<small class="id">{allow_line_breaks(row.below)}</small>' if row.below else ""
    below += _small_print(f'<span class="tag">{escape(row.tag)}</span>') if row.tag else ""
    inside = table_row(f"{allow_line_breaks(row.name)}{below}", (f"{cell}</td>" for cell in cells))
    inside += _remarks(row, columns=len(cells) + 1)
    return f'<tbody class="{row.kind}">{inside}</tbody>' if row.kind else inside


def _remarks(row: StudyRow, *, columns: int) -> str:
    lines = [
        *(f'<p><span class="tag">alarm</span> {escape(text)}</p>' for text in row.alarms),
        *(f"<p>{escape(text)}</p>" for text in row.notes),
    ]
    cell = f'<td class="left" colspan="{columns}">{"".join(lines)}</td>'
    return f'<tr class="said">{cell}</tr>' if lines else ""


def _value(entry: StudyEntry, form: NumberForm) -> str:
    sign = (
        f'<abbr title="no interval: {escape(why)}">{SIGN}</abbr>'
        if (why := entry.missing_interval)
        else ""
    )
    match entry.value:
        case None | "":
            return NO_VALUE
        case str() as text:
            return escape(text)
        case SeedSummary() as summary:
            small = filter(None, (form.deviation_text(summary), summary.seeds_note))
            return f"{form.value(summary.mean)}{sign}{''.join(map(_small_print, small))}"
        case Estimate() | Difference() as measure:
            ends = "" if sign else _small_print(escape(form.ends_text(measure)))
            return f"{form.value(measure.value)}{sign}{ends}"
        case number:
            return form.value(number)


def _lines_below(entry: StudyEntry, form: NumberForm) -> str:
    lines = [] if entry.only is None or entry.missing_interval else [form.ends_text(entry.only)]
    lines += [*entry.below, *([entry.note] if entry.note else [])]
    if entry.floor is not None:
        lines.append(f"floor {form.value(entry.floor.mean)}")
    reason = f'<small class="id">{allow_line_breaks(entry.reason)}</small>' if entry.reason else ""
    return "".join(_small_print(escape(line)) for line in lines) + reason


def _small_print(html: str) -> str:
    return f"<small>{html}</small>"


def render_published(table_of: PublishedTable, digits: int) -> str:
    """Return the figures of a publication, folded up and marked: none is of this data."""
    words = ("detector", "trained on", "tested on", "measure", "mark")
    rows = (
        f'<tr><th scope="row">{escape(figure.detector)}</th><td class="left">{escape(figure.trained_on)}'
        f'</td><td class="left">{escape(figure.tested_on)}</td><td class="left">{escape(figure.metric)}'
        f'</td><td>{figure.value:.{digits}f}</td><td class="left">{OTHER_DATA}</td></tr>'
        for figure in table_of.rows
    )
    return (
        f"<details><summary>{escape(table_of.title)}</summary><p>{escape(table_of.citation)}. "
        f"{escape(table_of.note)}.</p>"
        f"{table((*words[:-1], 'value', words[-1]), rows, words=words, kind='')}</details>"
    )


def heat_map(
    models: Sequence[ModelReport], metric: Metric, *, by_condition: bool = False
) -> Markup:
    """Return models × data, coloured by a measure for which one half is chance.

    Args:
        models: with their rows.
        metric: the measure.
        by_condition: of tests under conditions, in the place of those of images as they are.
    """
    rows = [
        (model, row)
        for model in models
        for row in (model.conditioned if by_condition else model.rows)
    ]
    data = tuple(dict.fromkeys(row.data for _, row in rows))
    values = {
        (model.model.name, row.data): row.report.metrics[metric.name]
        for model, row in rows
        if metric.name in row.report.metrics
    }
    if not values:
        return Markup()
    shown = [model for model in data if any(row == model for _, row in values)]
    head = "".join(f'<th scope="col">{allow_line_breaks(model)}</th>' for model in shown)
    body = "".join(
        f'<tr><th scope="row">{escape(model.model.name)}</th>'
        + "".join(heat_cell(values.get((model.model.name, row))) for row in shown)
        + "</tr>"
        for model in models
    )
    return Markup(
        f'<div class="wide"><table class="heat"><caption>{escape(metric.title)}, with 95 % '
        f"intervals. {heat_scale()}</caption><thead><tr><td></td>{head}</tr>"
        f"</thead><tbody>{body}</tbody>"
        "</table></div>"
    )


def confusion(report: Report) -> Markup:
    """Return a confusion matrix, in images and in shares of each true class."""
    rows = []
    for name, counts in zip(("real", "fake"), report.confusion, strict=True):
        total = sum(counts)
        cells = "".join(
            f"<td>{count}<small>{f'{count / total:.1%}' if total else NO_VALUE}</small></td>"
            for count in counts
        )
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return Markup(
        "<table><thead><tr><td>true</td>"
        '<th scope="col">predicted real</th><th scope="col">predicted fake</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Return names and values below each other; nothing where there are none."""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs
    )
    return Markup(f'<dl class="facts">{items}</dl>' if items else "")


def flatten_record(record: Mapping[str, Json], prefix: str = "") -> list[tuple[str, object]]:
    """Return the values of a record by their path, "settings.lr"."""
    pairs: list[tuple[str, object]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            pairs += flatten_record(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            pairs.append((prefix + name, ", ".join(map(str, value))))
        else:
            pairs.append((prefix + name, NO_VALUE if value is None else value))
    return pairs


def heat_cell(value: Estimate | None, *, note: str = "") -> str:
    """Return a cell of a heat map: a value with its interval, coloured about one half.

    Args:
        value: None: there is none.
        note: text below it.
    """
    below = [value.ends_text(".3f")] if value and (value.interval or value.why) else []
    lines = "".join(f"<small>{escape(text)}</small>" for text in (*below, note) if text)
    if value is None:
        return f"<td>{NO_VALUE}{lines}</td>"
    colour = _colour(value.value)
    text = "#fff" if _luminance(*colour) < EVEN else "#000"
    return (
        f'<td style="background:rgb{str(colour).replace(" ", "")};color:{text}">{value.value:.3f}'
        f"{lines}</td>"
    )


def heat_scale() -> str:
    """Return the scale of the colours of a heat map, from 0 to 1."""
    boxes = "".join(
        f'<span class="box" style="background:rgb{str(_colour(step / 10)).replace(" ", "")}"></span>'
        for step in range(11)
    )
    return f'<span class="scale">0 {boxes} 1 (palest at chance, 0.5)</span>'


def _colour(value: float) -> tuple[int, int, int]:
    """Return the colour of a value: brown below one half, blue above it."""
    away = min(max((value - 0.5) * 2, -1), 1)
    end = ABOVE if away > 0 else BELOW
    red, green, blue = (
        round(middle + (far - middle) * abs(away)) for middle, far in zip(CHANCE, end, strict=True)
    )
    return red, green, blue


def _luminance(*colour: int) -> float:
    """Return the relative luminance of an sRGB colour, as WCAG 2.2 defines it."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
