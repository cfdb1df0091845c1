"""Tables of plain text: equal columns, numbers to the right.

The original system printed its confusion matrices with pandas; `frame` gives the same text without it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads SciPy, for which a help text need not wait
    from trueface.evaluation.estimate import Difference, Estimate
    from trueface.report.study_table import StudyTable

LONGEST = 1e9  # from here on a number is written with its power of ten


def frame(
    values: Sequence[Sequence[int]], index: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """Return a table in the format of pandas: names to the left, two blanks, numbers to the right."""
    rows = [
        ("", *columns),
        *((name, *map(str, row)) for name, row in zip(index, values, strict=True)),
    ]
    return align_columns(rows)


def table_lines(table: "StudyTable") -> list[str]:
    """Return a table of a study as lines of equal columns."""
    cells = [tuple(map(escape_unprintable, row)) for row in table.plain_cells()]
    return align_columns([table.plain_titles, *cells], left_columns=table.texts)


def tab_lines(tables: Iterable["StudyTable"]) -> Iterator[str]:
    """Yield tables of a study for other programs, with a header only where the columns change."""
    last: tuple[str, ...] = ()
    for table in tables:
        header = (*table.facts, *(column.header or column.plain_title for column in table.head))
        if header != last:
            yield "\t".join(header)
        last = header
        for cells in table.plain_cells(brackets=True):
            yield "\t".join(map(escape_unprintable, (*map(str, table.facts.values()), *cells)))


def latex_tables(tables: Iterable["StudyTable"]) -> str:
    """Return tables of a study with their notes for LaTeX, each below a comment with its title."""
    from launcher.api import latex_table  # most commands print no LaTeX

    return "\n\n".join(
        f"% {escape_unprintable(table.title)}\n"
        + latex_table(
            table.plain_titles, table.plain_cells(marks=True), texts=table.texts, notes=table.notes
        )
        for table in tables
    )


def align_columns(
    rows: Sequence[Sequence[str]], *, left_columns: Collection[int] = (0,)
) -> list[str]:
    """Return rows as lines of equal columns, those at positions `left_columns` to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at in left_columns else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def format_with_interval(value: "Estimate | Difference | None", scale: int) -> str:
    """Return a value with its interval, such as "91.20 (90.10 to 92.30)" for 0.912, or a dash for None.

    Without an interval it is "0.37 (no interval: 50 of 368 reals)", and of a difference "… (not comparable: …)".

    Args:
        value: of a report.
        scale: 100 for percent with two decimals, otherwise four decimals.
    """
    if value is None:
        return "–"
    digits = 2 if scale == 100 else 4
    middle = _round_number(scale * value.value, digits)
    if value.interval is None:
        return f"{middle} ({value.ends_text('')})"
    low, high = (_round_number(scale * number, digits) for number in value.interval)
    return f"{middle} ({', '.join(filter(None, (f'{low} to {high}', value.note)))})"


def _round_number(number: float, digits: int) -> str:
    return f"{number:.{digits}{'f' if abs(number) < LONGEST else 'e'}}"


def escape_unprintable(name: str) -> str:
    """Return a name that is safe to print: no character of it moves the cursor."""
    return name if name.isprintable() else ascii(name)[1:-1]
