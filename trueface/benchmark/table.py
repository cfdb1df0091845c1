"""The long table of a benchmark: one row per measure, as CSV (and Parquet if pyarrow is installed)."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from trueface.benchmark.cells import DIGITS
from trueface.benchmark.results import CellResult, MeasureValue, RunResults
from trueface.corruptions.registry import NONE
from trueface.runtime.errors import DataError

TOLERANCE = 1e-4  # difference of a value that is measured again
NOT_RUN = "cell"  # the measure of the one row of a cell without scores
SHA_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure of one cell; empty texts and None if there is no value."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    manifest: str  # the benchmark's name
    model: str  # ID without the seed
    architecture: str
    train: str
    seed: int | None
    test: str
    setting: str
    why: str
    corrupt: str
    attack: str
    access: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n_real: int
    n_fake: int
    threshold: float | None
    mark: str  # why the cell is not ranked
    reason: str  # why the value is empty, or the cell not ranked
    ms_image: float
    params: int
    checkpoint_sha: str
    code: str


COLUMNS = tuple(field.name for field in fields(Row))
# columns that may be empty numbers
_EMPTY = frozenset({"seed", "value", "low", "high", "threshold"})
_ROW = TypeAdapter(Row)


def rows_of(run: RunResults) -> Iterator[Row]:
    """Yield the rows of a run, in the order of its cells and their measures."""
    for result in run.results:
        names = [value.name for value in result.measured.values] or [NOT_RUN]
        yield from (row_of(run.manifest.name, result, name) for name in names)


def as_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV: the same rows give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    return text.getvalue()


def read_csv(path: Path) -> tuple[Row, ...]:
    """Return the rows of a table.

    Raises:
        DataError: it cannot be read, or is no such table; the line is named.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read table {path}: {error}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path}:1: expected the columns {','.join(COLUMNS)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            pairs = zip(COLUMNS, line, strict=True)
            rows.append(
                _ROW.validate_python(
                    {name: text or (None if name in _EMPTY else "") for name, text in pairs}
                )
            )
        except ValueError as error:  # pydantic's errors are among these
            raise DataError(f"{path}:{number}: not a row of a benchmark table ({error})") from error
    return tuple(rows)


def join(tables: Sequence[tuple[str, Sequence[Row]]]) -> tuple[Row, ...]:
    """Return the rows of several tables as one; a row in two tables counts once.

    Args:
        tables: each with its name for messages.

    Raises:
        DataError: they are of different benchmarks, as their manifests differ, or they disagree about a measure
            of the same weights.
    """
    first: tuple[str, str] | None = None
    joined: dict[tuple[object, ...], tuple[str, Row]] = {}
    for name, rows in tables:
        for row in rows:
            first = first or (name, row.manifest)
            if row.manifest != first[1]:
                raise DataError(
                    f"{first[0]} has manifest {first[1]}, but {name} has {row.manifest}. They were measured on "
                    "different images. Score both on the same images."
                )
            key = (row.model, row.seed, row.test, row.corrupt, row.attack, row.measure)
            other, before = joined.setdefault((*key, row.checkpoint_sha), (name, row))
            if not same_value(before.value, row.value):
                raise DataError(
                    f"{other} and {name} disagree on {row.measure} of {row.model} on {row.test} "
                    f"({row.attack if row.corrupt == NONE else row.corrupt}): {_cell(before.value)} and "
                    f"{_cell(row.value)} with the same weights. Check both with `trueface benchmark RUN --check`."
                )
    return tuple(row for _, row in joined.values())


def same_value(first: float | None, second: float | None) -> bool:
    """Return whether two values of a measure are the same, to 1e-4 of the first or absolutely."""
    if first is None or second is None:
        return first is second
    return abs(second - first) <= TOLERANCE * max(1.0, abs(first))


def has_parquet() -> bool:
    """Return whether tables can be written as Parquet, which needs pyarrow."""
    return find_spec("pyarrow") is not None


def as_parquet(rows: Iterable[Row]) -> bytes:
    """Return rows as a Parquet file."""
    import pyarrow  # an extra, only where it is installed
    from pyarrow import parquet

    # as declared: a column without any value would have no type, and fit no other table
    kinds: dict[Any, Any] = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        int | None: pyarrow.int64(),
        float: pyarrow.float64(),
        float | None: pyarrow.float64(),
    }
    schema = pyarrow.schema([(field.name, kinds[field.type]) for field in fields(Row)])
    buffer = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    parquet.write_table(table, buffer)
    return bytes(buffer.getvalue().to_pybytes())


def row_of(benchmark: str, result: CellResult, measure: str) -> Row:
    """Return the row of one measure of a cell.

    Args:
        benchmark: its name.
        result: the cell.
        measure: the name of one of its values. Empty: the row of a cell that was not run.
    """
    index, cell, measured = result.index, result.cell, result.measured
    value = measured[measure] or MeasureValue(measure)
    low, high = value.interval or (None, None)
    return Row(
        manifest=benchmark[:DIGITS],
        model=result.group,
        architecture=index.architecture,
        train=index.train,
        seed=index.seed,
        test=index.test,
        setting=cell.setting,
        why=cell.why,
        corrupt=cell.corrupt,
        attack=cell.attack,
        access=cell.access,
        measure=measure,
        value=value.value,
        low=low,
        high=high,
        n_real=measured.counts[0],
        n_fake=measured.counts[1],
        threshold=value.threshold,
        mark=measured.marked.mark,
        reason=value.reason or measured.marked.reason,
        ms_image=result.facts.ms_image,
        params=result.facts.parameters,
        checkpoint_sha=index.checkpoint_sha256[:SHA_DIGITS],
        code=index.code[:SHA_DIGITS],
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)
