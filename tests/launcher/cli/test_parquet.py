import io
from typing import Any

import pytest

from launcher.cli.output import parquet_bytes

parquet = pytest.importorskip("pyarrow.parquet")


def read(columns: list[str], rows: list[tuple[Any, ...]]) -> Any:
    return parquet.read_table(io.BytesIO(parquet_bytes(columns, rows)))


def test_columns_have_the_types_of_their_values() -> None:
    table = read(["name", "n", "auc", "pooled"], [("a", 1, 0.5, True), (None, 2, 1, None)])
    assert [str(field.type) for field in table.schema] == ["string", "int64", "double", "bool"]
    assert table.to_pylist()[1] == {"name": None, "n": 2, "auc": 1.0, "pooled": None}


def test_mixed_columns_large_numbers_and_names_that_come_twice_are_taken() -> None:
    table = read(["x", "x", "big"], [("a", b"\xff", 1 << 70), (1, None, 2)])
    assert table.column_names == ["x", "x_2", "big"]
    assert table.to_pylist()[0] == {"x": "a", "x_2": b"\xff", "big": float(1 << 70)}
    assert table.to_pylist()[1]["x"] == "1"


def test_a_table_without_rows_is_a_table() -> None:
    assert read(["a", "b"], []).num_rows == 0
