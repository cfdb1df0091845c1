"""Results of folders: rows whose columns are their laboratory's own."""

import csv
import io
import json
from typing import Any

import pytest

from launcher.cli.commands.results import all_rows
from launcher.cli.output import Format, write
from launcher.cli.result_tables import draw, draw_plain, plain_tables
from launcher.results.table import of_rows, pivot

ROWS: list[dict[str, Any]] = [
    {
        "method": "ddpm@10",
        "mse": 0.0321456,
        "mse_sd": 0.001,
        "psnr": 33.214159,
        "net_calls": 10,
        "hidden": True,
        "curve": [1, 2],
    },
    {"method": "jpeg@75", "mse": 1.234e-5, "mse_sd": None, "psnr": float("nan"), "net_calls": 0},
]
ERASED = [{"concept": "cross", "erased": 0.02, "others": 1.0}]
_MEASURES = ("accuracy", "balanced_accuracy", "auc", "ece", "loss")
OF_A_TEST: dict[str, Any] = {
    "model": "all:pre",
    "data": "gan2:pre",
    "modifier": "pre",
    "pooled": False,
    "n": 6,
    **{key: {"value": 0.9, "low": 0.8, "high": 0.95} for key in _MEASURES},
}


def test_numbers_have_four_digits_and_what_is_not_known_a_dash() -> None:
    assert draw_plain(ROWS, 100).splitlines() == [
        "method         mse   psnr  net_calls  hidden  mse_sd",
        "ddpm@10    0.03215  33.21         10  yes      0.001",
        "jpeg@75  1.234e-05      –          0  –            –",
    ]


def test_columns_without_room_are_left_out_from_the_right_and_named() -> None:
    lines = draw_plain(ROWS, 30).splitlines()
    assert lines[0].split() == ["method", "mse", "psnr"]
    assert lines[-1] == "not shown: net_calls, hidden, mse_sd (--format csv has all columns)"
    assert max(map(len, lines[:-1])) <= 30


def test_rows_of_another_kind_are_a_table_of_their_own() -> None:
    assert [table.titles[0] for table in plain_tables([*ROWS, *ERASED])] == ["method", "concept"]
    assert "\n\nconcept  erased  others" in draw_plain([*ROWS, *ERASED], 100)


def test_they_follow_the_table_of_the_tests() -> None:
    text = draw([OF_A_TEST, *ROWS], width=140)
    assert text.index("gan2:pre") < text.index("ddpm@10")
    assert draw(ROWS, width=140).startswith("method")


def test_markdown_and_tabs_have_them_under_their_own_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(all_rows(ERASED, "x", everything=False), Format.MARKDOWN)
    assert capsys.readouterr().out.splitlines() == (
        ["| concept | erased | others |", "| --- | --: | --: |", "| cross | 0.02 | 1 |"]
    )
    write(all_rows(ERASED, "x"), Format.TABS)
    assert capsys.readouterr().out == "concept\terased\tothers\ncross\t0.02\t1\n"


def test_csv_has_every_column_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    write(all_rows(ROWS, "x", everything=False), Format.CSV)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["mse"] for row in rows] == ["0.0321456", "1.234e-05"]
    assert rows[0]["curve"] == "[1, 2]"


def test_json_has_the_rows_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write(all_rows(ERASED, "x", everything=False), Format.JSON)
    record = json.loads(capsys.readouterr().out)
    assert record == {"schema": 1, "run": "x", "rows": ERASED}


@pytest.mark.parametrize("form", [Format.TABS, Format.MARKDOWN, Format.TABLE, Format.LATEX])
def test_every_format_takes_rows_of_both(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    write(all_rows([OF_A_TEST, *ROWS], "x", everything=True), form)
    printed = capsys.readouterr().out
    assert "all:pre" in printed
    assert "jpeg@75" in printed


def test_one_metric_of_them_is_a_table_by_their_names() -> None:
    table = pivot("mse", of_rows([*ROWS, OF_A_TEST]), [])
    assert table.names == ("ddpm@10", "jpeg@75")
    assert table.data == ("mse",)


def test_rows_of_which_no_cell_is_a_word_take_no_room() -> None:
    rows: list[dict[str, Any]] = [{"curve": [1, 2]}, {"loss": 0.5, "name": "a"}]
    assert draw_plain(rows, 80).splitlines() == ["loss  name", " 0.5  a"]
    assert not draw_plain([{"curve": [1, 2]}], 80)
