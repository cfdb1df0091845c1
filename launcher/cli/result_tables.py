"""The results of a run as tables for people, which `run` and `results` print.

Those of tests have columns of their own; those that no test made, such as those of folders, are tables whose columns
are those of their rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from textwrap import wrap
from typing import Any

from launcher.cli.output import NONE, shown_cell
from launcher.draft import condition_of_test, data_of_test
from launcher.results.rows import JOB
from launcher.results.table import (
    COUNT,
    DATA,
    EXPECTED,
    MODEL,
    MODIFIER,
    NOTE,
    POOLED,
    Metric,
    Pivot,
    RunResults,
    read_metric,
    short,
)
from launcher.screens.format import first_few, harmless
from launcher.screens.terminal import FULL_WIDTH
from launcher.screens.text_table import Column, Table, columns, of_texts, width_of

Row = Mapping[str, Any]
NOTHING = "no results yet"
_NAMED_HIDDEN = 12  # columns without room that are named
_SPREAD = "_sd"  # ends the name of a standard deviation, which goes to the right of the means


def _left_out(titles: Sequence[str]) -> str:
    """Name the columns that had no room."""
    return f"not shown: {first_few(titles, _NAMED_HIDDEN)} (--format csv prints all columns)"


# --- what no test made


def is_plain(row: Row) -> bool:
    """Tell whether a row is no test's: those say whether they pool several sets of images."""
    return POOLED not in row


def plain_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Give the tables of some rows: a new one begins where a row has hardly a column of those before."""
    together: list[Row] = []
    for row in rows:
        keys = {key for other in together for key in other}
        if together and 2 * len(keys & set(row)) < min(len(keys), len(row)):
            yield _plain(together)
            together = []
        together.append(row)
    if together:
        yield _plain(together)


def draw_plain(rows: Sequence[Row], width: int) -> str:
    """Return the tables of some rows for a terminal; columns without room are named below.

    Args:
        rows: as laboratories tell them.
        width: columns of the terminal.
    """
    parts = []
    for table in plain_tables(rows):
        if not table.columns:  # rows of curves alone, say, of which no cell is a word
            continue
        # the first stays whole in any case
        first = max(width_of(row[0]) for row in (table.titles, *table.rows))
        parts.append("\n".join(line.text for line in table.drawn(max(width, first))))
    return "\n\n".join(parts)


def _plain(rows: Sequence[Row]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if all(_is_scalar(row.get(key)) for row in rows)]
    shown.sort(key=lambda key: key.endswith(_SPREAD))  # stable: otherwise in the rows' order
    table = _texts(rows, shown, _cell)
    # those on the right go first
    columns = [column._replace(drop=index) for index, column in enumerate(table.columns)]
    return table._replace(columns=columns)


def _texts(rows: Sequence[Row], names: Sequence[str], text_of: Callable[[Any], str]) -> Table:
    """Return some columns of rows, each cell as a text; those that hold a number end together."""
    numbers = frozenset(
        index
        for index, name in enumerate(names)
        if any(read_metric(row.get(name)) is not None for row in rows)
    )
    cells = [tuple(text_of(row.get(name)) for name in names) for row in rows]
    columns = [Column(harmless(name), right=at in numbers) for at, name in enumerate(names)]
    return Table(columns, cells, left_out=_left_out)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float) or read_metric(value) is not None


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    metric = read_metric(value)
    if metric is not None:
        return short(metric.value) if isfinite(metric.value) else NONE
    return harmless(value) if isinstance(value, str) and value else NONE


# --- tests

GUIDE = "How to read this table: launcher help results"
FEW_SOURCES = "95 % intervals estimate the variation between image sources. With few sources, treat them with caution:"
# of models that validation has calibrated; left out where there is none
_CALIBRATED = ("balanced_accuracy_at_threshold", "ece_scaled")
_PART = 8  # parts of a model go before all others: its ID says the same
_NAMED = 2  # columns that name a row
_SHORTEST = 24  # columns of a model's name; what tells two apart may be its middle


def table_of_tests(
    rows: Sequence[Row], *, data: str = DATA, few: bool = False, brackets: bool = False
) -> Table:
    """Return tests as people read them.

    Args:
        rows: as laboratories tell them.
        data: the column that says on what a model was tested.
        few: accuracy, calibration and loss stand without their intervals.
        brackets: with the titles and cells that LaTeX and pipes have.
    """

    def number(title: str, key: str, of: Callable[[Row], str], drop: int) -> Column:
        return Column(title, key=key, right=True, drop=drop, of=of)

    def measured(title: str, key: str, drop: int = 0, **form: bool) -> Column:
        return number(
            title, key, lambda row: measure(row.get(key), brackets=brackets, **form), drop
        )

    balanced, threshold, scaled, seconds = (
        ("balanced %", "at threshold", "scaled", "made in")
        if brackets
        else ("balanced acc %", "at threshold %", "scaled ECE", "time s")
    )
    columns = (
        Column("model", least=_SHORTEST, middle=True, of=lambda row: row[MODEL]),
        Column("data", least=_SHORTEST, middle=True, of=lambda row: row[data]),
        number("n", "n", lambda row: str(row["n"]), 3),
        measured("acc %" if few else "accuracy %", "accuracy", percent=True, interval=not few),
        measured(balanced, "balanced_accuracy", percent=True),
        measured(threshold, "balanced_accuracy_at_threshold", 1, percent=True, interval=False),
        measured("AUC", "auc", 2),
        measured("ECE", "ece", 4, interval=not few),
        measured(scaled, "ece_scaled", 5, interval=False),
        measured("loss", "loss", 6, interval=False),
        Column("verdict", of=lambda row: row.get("verdict") or ""),
        number(seconds, "seconds", lambda row: _seconds(row.get("seconds"), " s" * brackets), 7),
        Column("sources", of=lambda row: row.get("few_sources") or ""),
    )
    return Table(columns, rows)


def _seconds(seconds: float | None, unit: str) -> str:
    return "" if seconds is None else f"{seconds:.1f}{unit}"


def draw(
    rows: Sequence[Row],
    *,
    everything: bool = False,
    width: int = FULL_WIDTH,
    parts: Sequence[str] = (),
) -> str:
    """Return the table: pooled rows first, then balanced accuracy by model and data set; then folders.

    Args:
        rows: of `collect`.
        everything: a row per model and data set instead.
        width: columns of the terminal; where the whole table does not fit, accuracy, calibration
            and loss stand without their intervals.
        parts: further columns that say what a row is of, such as seed; they go first.
    """
    plain = [row for row in rows if is_plain(row)]
    tested = [row for row in rows if not is_plain(row)]
    drawn = [_draw_tests(tested, everything, width, parts)] if tested else []
    drawn += [draw_plain(plain, width)] if plain else []
    return "\n\n".join(drawn) or NOTHING


def _draw_tests(rows: Sequence[Row], everything: bool, width: int, parts: Sequence[str]) -> str:
    pooled = [row for row in rows if row[POOLED]]
    by_groups = [*_by_video(rows), *_by_group(rows)]
    if everything or not pooled:
        lines = _tests(table_of_tests(rows, few=width < FULL_WIDTH), width, parts)
        return "\n".join([*lines, *_few_sources(rows, width), *by_groups])
    # a pooled row is named by its modifier: the whole ID would fill the line
    table = table_of_tests(pooled, data=MODIFIER, few=width < FULL_WIDTH)
    lines = ["all data sets of a modifier pooled, with 95 % intervals", ""]
    lines += [*_tests(table, width, parts), *_few_sources(pooled, width), *by_groups]
    lines += ["", "balanced accuracy in % per set of fakes, each with its real images", ""]
    return "\n".join([*lines, *_by_data([row for row in rows if not row[POOLED]])])


def _part(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else harmless(str(value))


def _tests(table: Table, width: int, parts: Sequence[str]) -> list[str]:
    """Return tests in so many columns; what a model's making took goes first where they are few."""
    few = width < FULL_WIDTH
    absent = {"sources", *(["n"] if few else [])}  # which are told below
    absent |= {key for key in _CALIBRATED if few or all(row.get(key) is None for row in table.rows)}

    def part(name: str) -> Column:
        return Column(name, right=True, drop=_PART, of=lambda row: _part(row.get(name)))

    columns = [
        *table.columns[:_NAMED],
        *map(part, parts),
        *(column for column in table.columns[_NAMED:] if column.name not in absent),
    ]
    columns[-2] = columns[-2]._replace(title="")  # a verdict speaks for itself
    return [line.text for line in table._replace(columns=columns).drawn(width)]


def _by_data(rows: Sequence[Row]) -> list[str]:
    """Return balanced accuracy by data; a line for each model, and for each condition of its tests."""
    by_place = {
        (row[MODEL], condition_of_test(row[DATA]), data_of_test(row[DATA])): row[
            "balanced_accuracy"
        ]
        for row in rows
    }
    data = list(dict.fromkeys(name for _, _, name in by_place))
    tests = list(dict.fromkeys((model, condition) for model, condition, _ in by_place))
    names = (MODEL, "condition") if any(condition for _, condition in tests) else (MODEL,)
    listed = [(*names, *data)]
    for test in tests:
        cells = [_percent(by_place.get((*test, name))) for name in data]
        listed.append((*test[: len(names)], *cells))
    return columns(listed, right=frozenset(range(len(names), len(names) + len(data))))


def _few_sources(rows: Sequence[Row], width: int) -> list[str]:
    """Return lines on what so few sources of images tell; none where all rows have many."""
    data: dict[str, list[str]] = {}
    for row in rows:
        if text := row.get("few_sources"):
            data.setdefault(harmless(text), []).append(harmless(data_of_test(row[DATA])))
    if not data:
        return []
    same = len(data) == 1 and all(row.get("few_sources") for row in rows)
    note = [FEW_SOURCES] + [
        f"  {text}" if same else f"  {', '.join(dict.fromkeys(names))}: {text}"
        for text, names in data.items()
    ]
    return ["", *(part for line in note for part in wrap(line, width, subsequent_indent="    "))]


def _by_video(rows: Sequence[Row]) -> list[str]:
    """Return a table of the AUC of videos; nothing where no image is a frame."""
    title = "by video: mean probability of the frames, with 95 % intervals over videos"
    listed = [
        (*_place(row), str(row["videos"]), measure(row.get("video_auc")))
        for row in rows
        if row.get("videos")
    ]
    return _below(title, ("model", "data", "videos", "AUC"), listed)


def _by_group(rows: Sequence[Row]) -> list[str]:
    """Return a table of the gaps between groups; nothing where no image has a group."""
    title = "gaps between groups in %. In brackets: 95th percentile of shuffled groups. More: trueface fairness"
    listed = [
        (
            *_place(row),
            row["groups_by"],
            *(_over_floor(row, name) for name in ("fpr_gap", "f_fpr")),
        )
        for row in rows
        if row.get("groups_by")
    ]
    return _below(title, ("model", "data", "by", "FPR gap %", "F_FPR %"), listed)


def _below(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a further table, whose last two columns hold numbers."""
    numbers = frozenset({len(head) - 2, len(head) - 1})
    return ["", title, "", *columns([head, *rows], right=numbers)] if rows else []


def _over_floor(row: Row, name: str) -> str:
    value, floor = row.get(name), row.get(f"{name}_floor")
    if value is None:
        return NONE
    return f"{value['value']:.1f}" + ("" if floor is None else f" [{floor:.1f}]")


def _place(row: Row) -> tuple[str, str]:
    return row[MODEL], row[DATA]


def _percent(value: Row | None) -> str:
    return measure(value, percent=True, interval=False)


def measure(
    value: Row | None, *, percent: bool = False, interval: bool = True, brackets: bool = False
) -> str:
    """Return a measure with three digits, or in per cent with one, and its interval; a dash where there is none."""
    if value is None:
        return NONE
    bounds = (value["low"], value["high"]) if interval else ()
    form = (100, 1) if percent else (1, 3)
    return Metric(value["value"], *bounds).text(*form, brackets=brackets)


# --- rows that a person has chosen, and one metric

# of the metrics of a detector those that a table shows; JSON and CSV have all
MAIN = ("balanced_accuracy", "accuracy", "auc", "eer", "ece", "loss")
_ALWAYS = (JOB, MODEL, DATA, COUNT)
_COUNTED = (EXPECTED, NOTE)  # which the cell of COUNT says already
_SHORTEST_TEXT = 20  # columns


def shown_columns(results: RunResults, first: Sequence[str] = ()) -> list[str]:
    """Return the columns that people see: of tests what they differ in, and the metrics that matter; else all.

    Args:
        results: of a run.
        first: metrics that were asked for; they come before the others.
    """
    asked = [name for name in first if name not in results.columns]
    metrics = results.metrics
    main = [name for name in MAIN if name in metrics]
    if POOLED not in results.names:
        named = [name for name in results.columns if name in results.names]
        shown = dict.fromkeys([*named, *asked, *metrics, *results.names])
        return [name for name in shown if name not in _COUNTED or name in first]
    varying = {*results.varying, *_ALWAYS} - {POOLED}
    varying -= {*_COUNTED} - {*first}
    named = [name for name in results.columns if name in varying and name in results.names]
    return list(dict.fromkeys([*named, *asked, *(main or metrics)]))


def _noted(row: Row, names: Sequence[str]) -> Row:
    """Return a row of means that says once of how many values they are: behind their count, otherwise behind each.

    Args:
        row: of a table.
        names: of the columns that are shown.
    """
    note = row.get(NOTE)
    if note is None or COUNT not in names:
        return row
    said = {
        name: metric
        for name in names
        if (metric := read_metric(row.get(name))) and metric.note == note
    }
    without = {name: metric._replace(note=None).record() for name, metric in said.items()}
    return {**row, **without, COUNT: note}


def flat_table(
    results: RunResults, names: Sequence[str], *, intervals: bool = True, brackets: bool = False
) -> Table:
    """Return some columns of rows as people read them, numbers with their intervals where there is room.

    Args:
        results: of a run.
        names: of the columns.
        intervals: numbers stand with their intervals.
        brackets: write intervals as LaTeX has them.
    """

    def text_of(cell: Any) -> str:
        metric = read_metric(cell)
        if metric is None or (
            metric.low is None and metric.sd is None and isinstance(metric.value, int)
        ):
            return shown_cell(cell)
        known = metric if intervals else metric._replace(low=None, high=None)
        return known.text(brackets=brackets)

    table = _texts([_noted(row, names) for row in results.rows], names, text_of)

    def fitting(index: int, column: Column) -> Column:
        """What is alike in all rows goes first, then what stands on the right."""
        alike = len(table.rows) > 1 and len({row[index] for row in table.rows}) == 1
        drop = 0 if names[index] in _ALWAYS else index + alike * len(names)
        least = 0 if column.right else _SHORTEST_TEXT
        return column._replace(drop=drop, least=least, middle=not column.right)

    columns = [fitting(index, column) for index, column in enumerate(table.columns)]
    less = partial(flat_table, results, names, intervals=False) if intervals else None
    return table._replace(columns=columns, less=less)


def pivot_table(
    pivot: Pivot, head: str, *, intervals: bool = True, brackets: bool = False
) -> Table:
    """Return one metric by name and data: with intervals, without, or a line for each number.

    Args:
        pivot: the metric.
        head: the title of the names.
        intervals: numbers stand with their intervals.
        brackets: write intervals as LaTeX has them.
    """

    def cell(metric: Metric | None) -> str:
        if metric is None:
            return NONE
        known = metric if intervals else Metric(metric.value, note=metric.note)
        return known.text(brackets=brackets)

    rows = [(name, *map(cell, row)) for name, row in pivot.rows()]
    head = "" if pivot.data == (head,) else head
    table = of_texts((head, *pivot.data), rows, range(1, 1 + len(pivot.data)))
    return table._replace(
        less=partial(pivot_table, pivot, head, intervals=False)
        if intervals
        else partial(_long, pivot)
    )


def _long(pivot: Pivot) -> Table:
    listed = [(name, data, str(metric)) for (name, data), metric in pivot.cells.items()]
    return of_texts(("", "", pivot.metric), listed)
