"""A table as a file: Parquet, with types, for pandas, DuckDB, R and others; LaTeX with the rules of the package booktabs."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from launcher.errors import MachineError

INSTALL = "pip install 'launcher-trueface[data]'"


def parquet_bytes(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a table as a Parquet file; a column has the type that holds all of its values.

    Args:
        columns: their names; a name that comes twice gets a number.
        rows: cells: text, numbers, bytes, or None.

    Raises:
        MachineError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MachineError(f"Parquet files need pyarrow; {INSTALL}") from error
    table = pyarrow.table(
        [pyarrow.array(_alike([row[index] for row in rows])) for index in range(len(columns))],
        names=list(distinct_names(columns)),
    )
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _alike(values: list[Any]) -> list[Any]:
    """Return values of one type: numbers as they are, of mixed ones their texts."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds != {str}:
        if kinds == {int} and any(not -(1 << 63) <= value < 1 << 63 for value in values if value):
            return [None if value is None else float(value) for value in values]
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="backslashreplace").decode()


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of columns, a number behind those that came before."""
    distinct: dict[str, None] = {}
    for name in names:
        free, number = _text(name), 1
        while free in distinct:
            number += 1
            free = f"{_text(name)}_{number}"
        distinct[free] = None
    return tuple(distinct)


# --- for a paper

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--",
    "\u2212": "$-$", "×": r"$\times$", "→": r"$\rightarrow$",
}  # fmt: skip
_SPECIAL_CHARACTERS = str.maketrans(_SPECIAL)


def latex_text(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Return rows as a `tabular`, the first as its head; the document needs the package booktabs.

    Args:
        rows: cells without control characters; what LaTeX takes for more than a character is escaped.
        right: columns whose cells end together.
    """
    head, *below = rows
    shape = "".join("r" if index in right else "l" for index in range(len(head)))
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{shape}}}",
        "\\toprule",
        _line(head),
        "\\midrule",
        *map(_line, below),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    text = " & ".join(map(escaped, cells))
    # the end of the line before would take these for its own star and option
    return f"{{}}{text} \\\\" if text[:1] in {"*", "["} else f"{text} \\\\"


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it; a minus before a number is one."""
    if text[:1] == "-" and text[1:2].isdigit():
        return f"$-${text[1:].translate(_SPECIAL_CHARACTERS)}"
    return text.translate(_SPECIAL_CHARACTERS)
