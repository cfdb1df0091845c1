"""The results of tests as tables for users, printed by `run` and `results`."""

from collections.abc import Callable, Collection, Sequence
from textwrap import wrap

from launcher.experiments.draft import condition_of_test, data_of_test
from launcher.experiments.results.metric import Metric, footnotes, read_metric
from launcher.experiments.results.table import DATA, MODEL, MODIFIER, POOLED
from launcher.frontends.cli.output import ABSENT
from launcher.frontends.cli.plain_tables import NO_RESULTS, Row, draw_plain, is_plain
from launcher.system.terminal import FULL_WIDTH
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Column, TextTable, columns, line

GUIDE = "How to read this table: launcher help results"
FEW_SOURCES = (
    "95 % intervals estimate the variation between image sources, and within the only source of a class. With few "
    "sources or images, they may be too narrow:"
)
# metrics of models calibrated on the validation split; omitted if there is none
_CALIBRATED = ("balanced_accuracy_at_threshold", "ece_scaled")
# measures without a column: `--metric` prints them. A plugin package that adds another one gets a column for it
_NOT_IN_TABLE = frozenset(
    {
        "accuracy_by_images", "ap", "auc_by_images", "balanced_accuracy_by_images", "ece_unscaled", "eer",
        "f1", "f_fpr", "fpr_gap", "precision", "recall", "tpr_at_1fpr", "video_auc",
    }
)  # fmt: skip
_PART = 8  # parts of a model are dropped before all others: its ID contains them
_NAMED = 2  # columns that identify a row
_SHORTEST = 24  # columns of a model's name; two names may differ in the middle


def table_of_tests(
    rows: Sequence[Row],
    *,
    data: str = DATA,
    few: bool = False,
    brackets: bool = False,
    is_rounded: bool = False,
    parts: Sequence[str] = (),
) -> TextTable:
    """Return the table of tests for users.

    Args:
        rows: Rows of plugin packages.
        data: Column with the test data.
        few: Print accuracy, calibration and loss without their intervals.
        brackets: Use the titles and cells for LaTeX and pipes.
        is_rounded: Round numbers with an interval to their uncertainty, as for LaTeX.
        parts: Further identifying columns.
    """

    def number(title: str, key: str, read_cell: Callable[[Row], str], drop: int) -> Column:
        return Column(title, key=key, right=True, drop=drop, cell_of=read_cell)

    def metric_column(title: str, key: str, drop: int = 0, **form: bool) -> Column:
        form |= {"brackets": brackets, "is_rounded": is_rounded}
        return number(title, key, lambda row: format_metric(row.get(key), **form), drop)

    balanced, threshold, scaled, seconds = (
        ("balanced %", "at threshold", "scaled", "made in")
        if brackets
        else ("balanced acc %", "at threshold %", "scaled ECE", "time s")
    )
    columns: tuple[Column, ...] = (
        Column("model", least=_SHORTEST, middle=True, cell_of=lambda row: row[MODEL]),
        Column("data", least=_SHORTEST, middle=True, cell_of=lambda row: row[data]),
        *map(_part_column, parts),
        number("n", "n", lambda row: str(row["n"]), 3),
        metric_column("acc %" if few else "accuracy %", "accuracy", percent=True, interval=not few),
        metric_column(balanced, "balanced_accuracy", percent=True),
        metric_column(threshold, "balanced_accuracy_at_threshold", 1, percent=True, interval=False),
        metric_column("AUC", "auc", 2),
        metric_column("ECE", "ece", 4, interval=not few),
        metric_column(scaled, "ece_scaled", 5, interval=False),
        metric_column("loss", "loss", 6, interval=False),
    )
    added = _added_measures(rows, _NOT_IN_TABLE.union(column.name for column in columns))
    columns = (
        *columns,
        *(metric_column(name, name, interval=not few) for name in added),
        Column("verdict", cell_of=lambda row: row.get("verdict") or ""),
        number(seconds, "seconds", lambda row: _seconds(row.get("seconds"), " s" * brackets), 7),
        Column("sources", cell_of=lambda row: row.get("few_sources") or ""),
    )
    table = TextTable(columns, rows)
    with_interval = ["balanced_accuracy", "auc", *([] if few else ["accuracy", "ece", *added])]
    cells = (row.get(key) for row in rows for key in with_interval)
    without = (read_metric(cell) for cell in cells if cell is not None and cell.get("why"))
    notes = footnotes(without) if brackets else []
    return table._replace(notes=[line(note) for note in notes])


def _added_measures(rows: Sequence[Row], known_columns: Collection[str]) -> list[str]:
    """Return the other measures of the rows, sorted. A measure is a value that may have an interval."""
    return [
        name
        for name in sorted(set[str]().union(*rows).difference(known_columns))
        if _is_measure(next((row[name] for row in rows if row.get(name) is not None), None))
    ]


def _is_measure(cell: object) -> bool:
    return isinstance(cell, dict) and {"value", "low", "high"} <= cell.keys()


def _seconds(seconds: float | None, unit: str) -> str:
    return "" if seconds is None else f"{seconds:.1f}{unit}"


def draw(
    rows: Sequence[Row],
    *,
    everything: bool = False,
    width: int = FULL_WIDTH,
    parts: Sequence[str] = (),
) -> str:
    """Return the table: pooled rows, then balanced accuracy by model and data set, then folders.

    Args:
        rows: Rows of plugin packages.
        everything: Print one row per model and data set instead.
        width: Columns of the terminal. If the whole table does not fit, accuracy, calibration
            and loss are printed without their intervals.
        parts: Further identifying columns, such as seed; they are dropped first.
    """
    plain = [row for row in rows if is_plain(row)]
    tested = [row for row in rows if not is_plain(row)]
    drawn = [_draw_tests(tested, everything, width, parts)] if tested else []
    drawn += [draw_plain(plain, width)] if plain else []
    return "\n\n".join(drawn) or NO_RESULTS


def _draw_tests(rows: Sequence[Row], everything: bool, width: int, parts: Sequence[str]) -> str:
    pooled = [row for row in rows if row[POOLED]]
    shown = rows if everything or not pooled else pooled
    by_groups = [*_image_interval_lines(shown), *_video_auc_lines(rows), *_group_gap_lines(rows)]
    if everything or not pooled:
        lines = _tests(table_of_tests(rows, few=width < FULL_WIDTH), width, parts)
        return "\n".join([*lines, *_few_sources(rows, width), *by_groups])
    # a pooled row has the name of its modifier: the whole ID would fill the line
    table = table_of_tests(pooled, data=MODIFIER, few=width < FULL_WIDTH)
    lines = ["all data sets of a modifier pooled, with 95 % intervals", ""]
    lines += [*_tests(table, width, parts), *_few_sources(pooled, width), *by_groups]
    lines += ["", "balanced accuracy in % per set of fakes, each with its real images", ""]
    return "\n".join([*lines, *_balanced_accuracy_lines([row for row in rows if not row[POOLED]])])


def _part_column(name: str) -> Column:
    return Column(name, right=True, drop=_PART, cell_of=lambda row: _part(row.get(name)))


def _part(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else sanitize_terminal(str(value))


def _tests(table: TextTable, width: int, parts: Sequence[str]) -> list[str]:
    """Return the lines of the tests for a width; the parts of models are dropped first if it is small."""
    few = width < FULL_WIDTH
    absent = {"sources", *(["n"] if few else [])}  # these columns are printed below
    absent |= {key for key in _CALIBRATED if few or all(row.get(key) is None for row in table.rows)}

    columns = [
        *table.columns[:_NAMED],
        *map(_part_column, parts),
        *(column for column in table.columns[_NAMED:] if column.name not in absent),
    ]
    columns[-2] = columns[-2]._replace(title="")  # a verdict needs no title
    return [line.text for line in table._replace(columns=columns).to_lines(width)]


def _balanced_accuracy_lines(rows: Sequence[Row]) -> list[str]:
    """Return balanced accuracy by data, with one line per model and condition of its tests."""
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
    """Return notes about rows with few sources of images; empty if all rows have many."""
    data: dict[str, list[str]] = {}
    for row in rows:
        if text := row.get("few_sources"):
            data.setdefault(sanitize_terminal(text), []).append(
                sanitize_terminal(data_of_test(row[DATA]))
            )
    if not data:
        return []
    same = len(data) == 1 and all(row.get("few_sources") for row in rows)
    note = [FEW_SOURCES] + [
        f"  {text}" if same else f"  {', '.join(dict.fromkeys(names))}: {text}"
        for text, names in data.items()
    ]
    return ["", *(part for line in note for part in wrap(line, width, subsequent_indent="    "))]


def _image_interval_lines(rows: Sequence[Row]) -> list[str]:
    """Return a table of intervals over images, of rows with a class of two sources; empty if there is none."""
    title = "the same with 95 % intervals over images (of frames: over videos), which say nothing about other sources"
    listed = [
        (
            *_model_and_data(row),
            format_metric(_measures_of_images(row["balanced_accuracy"]), percent=True),
            format_metric(_measures_of_images(row["auc"])),
        )
        for row in rows
        if any("images" in (row.get(name) or {}) for name in ("balanced_accuracy", "auc"))
    ]
    return _section_lines(title, ("model", "data", "balanced acc %", "AUC"), listed)


def _measures_of_images(measure: Row | None) -> Row | None:
    return None if measure is None else {**measure, **(measure.get("images") or {})}


def _video_auc_lines(rows: Sequence[Row]) -> list[str]:
    """Return a table of the AUC of videos; empty if no image is a frame."""
    title = "by video: mean probability of the frames, with 95 % intervals over videos"
    listed = [
        (*_model_and_data(row), str(row["videos"]), format_metric(row.get("video_auc")))
        for row in rows
        if row.get("videos")
    ]
    return _section_lines(title, ("model", "data", "videos", "AUC"), listed)


def _group_gap_lines(rows: Sequence[Row]) -> list[str]:
    """Return a table of the gaps between groups; empty if no image has a group."""
    title = "gaps between groups in %. In brackets: 95th percentile of shuffled groups. More: trueface fairness"
    listed = [
        (
            *_model_and_data(row),
            row["groups_by"],
            *(_gap_with_floor(row, name) for name in ("fpr_gap", "f_fpr")),
        )
        for row in rows
        if row.get("groups_by")
    ]
    return _section_lines(title, ("model", "data", "by", "FPR gap %", "F_FPR %"), listed)


def _section_lines(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a further table, whose last two columns contain numbers."""
    numbers = frozenset({len(head) - 2, len(head) - 1})
    return ["", title, "", *columns([head, *rows], right=numbers)] if rows else []


def _gap_with_floor(row: Row, name: str) -> str:
    value, floor = row.get(name), row.get(f"{name}_floor")
    if value is None:
        return ABSENT
    return f"{value['value']:.1f}" + ("" if floor is None else f" [{floor:.1f}]")


def _model_and_data(row: Row) -> tuple[str, str]:
    return row[MODEL], row[DATA]


def _percent(value: Row | None) -> str:
    return format_metric(value, percent=True, interval=False)


def format_metric(
    value: Row | None,
    *,
    percent: bool = False,
    interval: bool = True,
    brackets: bool = False,
    is_rounded: bool = False,
) -> str:
    """Return a metric with three digits, or in per cent with one, and its interval; a dash for None.

    Rounded, a metric with an interval has the digits that its uncertainty supports.
    """
    if value is None:
        return ABSENT
    metric = Metric(value["value"])
    if interval:
        metric = metric._replace(low=value["low"], high=value["high"], why=value.get("why"))
    form = (100, 1) if percent else (1, 3)
    return metric.text(*form, brackets=brackets, is_rounded=is_rounded)
