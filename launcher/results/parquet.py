"""A table as a Parquet file: columns with types, for pandas, DuckDB, R and others."""

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
