"""The results of a run as a table for a terminal, which `run` and `results` print.

Those that no test made, such as those of folders, are tables whose columns are those of their rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from textwrap import wrap
from typing import Any, NamedTuple

from launcher.draft import condition_of_test, data_of_test
from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import read_metric, short
from launcher.screens.terminal import FULL_WIDTH
from launcher.screens.text_table import GAP, Column, Span, table, width_of

NONE = "–"
_SPREAD = "_sd"  # ends the name of a standard deviation, which goes to the right of the means


Row = Mapping[str, Any]


class PlainTable(NamedTuple):
    """Rows with the same columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]  # columns that hold numbers

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The header, and the rows below it."""
        return [self.header, *self.rows]


def is_plain(row: Row) -> bool:
    """Tell whether a row is no test's: those say whether they pool several sets of images."""
    return "pooled" not in row


def plain_tables(rows: Sequence[Row]) -> Iterator[PlainTable]:
    """Give the tables of some rows: a new one begins where a row has hardly a column of those before."""
    together: list[Row] = []
    for row in rows:
        if together and not _alike(together, row):
            yield _table(together)
            together = []
        together.append(row)
    if together:
        yield _table(together)


def draw_plain(rows: Sequence[Row], width: int) -> str:
    """Return the tables of some rows for a terminal; columns without room are named below.

    Args:
        rows: as laboratories tell them.
        width: columns of the terminal.
    """
    parts = []
    for plain in plain_tables(rows):
        kept = _fitting(plain, width)
        lines = columns([line[:kept] for line in plain.lines], right=plain.right)
        if hidden := plain.header[kept:]:
            lines += ["", f"not shown: {', '.join(hidden)} (--format csv has all columns)"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def tabbed_plain(rows: Sequence[Row]) -> str:
    """Return the tables of some rows as lines with tabs, the names of the columns first."""
    return "\n".join(tabbed(table.lines) for table in plain_tables(rows))


def _alike(together: Sequence[Row], row: Row) -> bool:
    keys = {key for other in together for key in other}
    return 2 * len(keys & set(row)) >= min(len(keys), len(row))


def _table(rows: Sequence[Row]) -> PlainTable:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if all(_is_scalar(row.get(key)) for row in rows)]
    shown.sort(key=lambda key: key.endswith(_SPREAD))  # stable: otherwise in the rows' order
    numbers = frozenset(
        index
        for index, key in enumerate(shown)
        if any(read_metric(row.get(key)) is not None for row in rows)
    )
    return PlainTable(
        header=tuple(map(harmless, shown)),
        rows=tuple(tuple(_cell(row.get(key)) for key in shown) for row in rows),
        right=numbers,
    )


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float) or read_metric(value) is not None


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    metric = read_metric(value)
    if metric is not None:
        return short(metric.value) if isfinite(metric.value) else NONE
    return harmless(value) if isinstance(value, str) and value else NONE


def _fitting(table: PlainTable, width: int) -> int:
    """Return how many columns have room, from the left; the first one stays in any case."""
    taken = -GAP
    for index in range(len(table.header)):
        taken += GAP + max(width_of(line[index]) for line in table.lines)
        if taken > width and index:
            return index
    return len(table.header)


HEADER = (
    "model", "data", "n", "accuracy %", "balanced %", "at threshold", "AUC", "ECE", "scaled", "loss", "",
    "made in",
)  # fmt: skip
NOTHING = "no results yet"

FEW = ("model", "data", "acc %", "balanced %", "AUC", "ECE", "loss", "", "made in")


FEW_SOURCES = "intervals are of other sources of images, and rest on few:"


_DISPENSABLE = {
    "made in": 7,
    "loss": 6,
    "scaled": 5,
    "ECE": 4,
    "n": 3,
    "AUC": 2,
    "at threshold": 1,
}  # the highest goes first
_PART = 8  # likewise, of a part of a model: its ID says the same
_NAMED = 2  # columns that name a row


# of models that validation has calibrated; left out where there is none
_CALIBRATED = frozenset({"at threshold", "scaled"})


_SHORTEST = 24  # columns of a model's name; what tells two apart may be its middle


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
    tested_rows = [row for row in rows if not is_plain(row)]
    parts = [_draw_tests(tested_rows, everything, width, parts)] if tested_rows else []
    parts += [draw_plain(plain, width)] if plain else []
    return "\n\n".join(parts) or NOTHING


def _draw_tests(rows: Sequence[Row], everything: bool, width: int, parts: Sequence[str]) -> str:
    pooled = [row for row in rows if row["pooled"]]
    cells, titles = (result_cells, HEADER) if width >= FULL_WIDTH else (_few_cells, FEW)
    header = (*titles[:_NAMED], *map(harmless, parts), *titles[_NAMED:])

    def whole(row: Row, data: str) -> tuple[str, ...]:
        model, _, *others = cells(row)
        return (model, data, *(_part(row.get(name)) for name in parts), *others)

    if everything or not pooled:
        notes = [*_few_sources(rows, width), *_by_video(rows), *_by_group(rows)]
        listed = [whole(row, harmless(row["data"])) for row in rows]
        return "\n".join([*_fitted(header, listed, width), *notes])
    # a pooled row is named by its modifier: the whole ID would fill the line
    short = [whole(row, row["modifier"]) for row in pooled]
    lines = ["all sets of a modifier together, with 95 % intervals", ""]
    lines += _fitted(header, short, width)
    lines += [*_few_sources(pooled, width), *_by_video(rows), *_by_group(rows)]
    lines += ["", "balanced accuracy in % by set of fakes, each with the real images beside it", ""]
    lines += _pivot([row for row in rows if not row["pooled"]])
    return "\n".join(lines)


def _part(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else harmless(str(value))


def _fitted(header: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the table in so many columns; what a model's making took goes first where they are few."""
    whole = [tuple(row) for row in rows]
    shown = [
        index
        for index, title in enumerate(header)
        if title not in _CALIBRATED or any(row[index] != "–" for row in whole)
    ]
    header = [header[index] for index in shown]
    rows = [[row[index] for index in shown] for row in whole]
    numbers = number_columns(header)
    shapes = [
        Column(
            title=title,
            right=index in numbers,
            drop=_DISPENSABLE.get(title, 0 if title in HEADER or title in FEW else _PART),
            least=0 if index in numbers or not title else _SHORTEST,
            middle=title in {"model", "data"},
        )
        for index, title in enumerate(header)
    ]
    cells = (([Span(cell) for cell in row], None) for row in rows)
    return [line.text for line in table(shapes, cells, width)]


def _pivot(rows: Sequence[Row]) -> list[str]:
    """Return balanced accuracy by data; a line for each model, and for each condition of its tests."""
    by_place = {_place(row): row["balanced_accuracy"] for row in rows}
    data = list(dict.fromkeys(name for _, _, name in by_place))
    tests = list(dict.fromkeys((model, condition) for model, condition, _ in by_place))
    names = ("model", "condition") if any(condition for _, condition in tests) else ("model",)
    listed = [(*names, *data)]
    for test in tests:
        cells = [_percent(by_place.get((*test, name))) for name in data]
        listed.append((*test[: len(names)], *cells))
    return columns(listed, right=frozenset(range(len(names), len(names) + len(data))))


def _place(row: Row) -> tuple[str, str, str]:
    """Return the model of a row, the condition of its test, and its data."""
    return row["model"], condition_of_test(row["data"]), data_of_test(row["data"])


def _few_sources(rows: Sequence[Row], width: int) -> list[str]:
    """Return lines on what so few sources of images tell; none where all rows have many."""
    data: dict[str, list[str]] = {}
    for row in rows:
        if text := row.get("few_sources"):
            data.setdefault(harmless(text), []).append(harmless(data_of_test(row["data"])))
    same = len(data) == 1 and all(row.get("few_sources") for row in rows)
    lines = [
        f"{text}" if same else f"{', '.join(dict.fromkeys(names))}: {text}"
        for text, names in data.items()
    ]
    note = [FEW_SOURCES, *(f"  {line}" for line in lines)] if lines else []
    return (
        ["", *(part for line in note for part in wrap(line, width, subsequent_indent="    "))]
        if note
        else []
    )


def _by_video(rows: Sequence[Row]) -> list[str]:
    """Return a table of the AUC of videos; nothing where no image is a frame."""
    listed = [
        (
            harmless(row["model"]),
            harmless(row["data"]),
            str(row["videos"]),
            interval_text(row.get("video_auc"), percent=False),
        )
        for row in rows
        if row.get("videos")
    ]
    if not listed:
        return []
    header = ("model", "data", "videos", "AUC")
    title = "by video: mean probability of its frames, intervals of other videos"
    return ["", title, "", *columns([header, *listed], right=frozenset({2, 3}))]


def _by_group(rows: Sequence[Row]) -> list[str]:
    """Return a table of the gaps between groups; nothing where no image has a group."""
    listed = [
        (
            harmless(row["model"]),
            harmless(row["data"]),
            harmless(row["groups_by"]),
            *(_over_floor(row, name) for name in ("fpr_gap", "f_fpr")),
        )
        for row in rows
        if row.get("groups_by")
    ]
    if not listed:
        return []
    header = ("model", "data", "by", "FPR gap", "F_FPR")
    title = (
        "by group, in %; [floor]: 95 % of shuffled groups stay below it; more: trueface fairness"
    )
    return ["", title, "", *columns([header, *listed], right=frozenset({3, 4}))]


def _over_floor(row: Row, name: str) -> str:
    value, floor = row.get(name), row.get(f"{name}_floor")
    if value is None:
        return "–"
    return f"{value['value']:.1f}" + ("" if floor is None else f" [{floor:.1f}]")


def _few_cells(row: Row) -> tuple[str, ...]:
    whole = result_cells(row)
    return (
        *whole[:2],
        _percent(row["accuracy"]),
        whole[4],
        whole[6],
        *(plain_value(row.get(key)) for key in ("ece", "loss")),
        *whole[10:],
    )


def _percent(value: Row | None) -> str:
    return "–" if value is None else f"{100 * value['value']:.1f}"


def number_columns(header: Sequence[str]) -> frozenset[int]:
    """Return which columns of a table of results hold numbers."""
    return frozenset(
        index for index, title in enumerate(header) if title not in {"model", "data", ""}
    )


def result_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a result below `HEADER`."""
    seconds = row.get("seconds")
    return (
        harmless(row["model"]),
        harmless(row["data"]),
        str(row["n"]),
        interval_text(row["accuracy"], percent=True),
        interval_text(row["balanced_accuracy"], percent=True),
        _percent(row.get("balanced_accuracy_at_threshold")),
        interval_text(row["auc"], percent=False),
        interval_text(row["ece"], percent=False),
        plain_value(row.get("ece_scaled")),
        plain_value(row.get("loss")),
        row.get("verdict") or "",
        "" if seconds is None else f"{seconds:.1f} s",
    )


def plain_value(value: Row | None) -> str:
    """Return a measure with three digits; a dash where there is none."""
    return "–" if value is None else f"{value['value']:.3f}"


def interval_text(value: Row | None, *, percent: bool) -> str:
    """Return a measure with its interval; a dash where there is none."""
    if value is None:
        return "–"
    factor, digits = (100, 1) if percent else (1, 3)
    middle, low, high = (factor * value[key] for key in ("value", "low", "high"))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
