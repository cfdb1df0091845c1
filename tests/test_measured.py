"""The pages of measurements agree with the files of the benchmarks, and their rows with the output of the benchmarks."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measured
from benchmarks.measured import (
    Measurement,
    Status,
    excess,
    judged,
    page,
    page_of_all,
    record,
    sections,
)
from benchmarks.table import Row
from tests.printed_names import is_printed, sources


def test_values_in_readme_are_those_of_the_result_files() -> None:
    text = measured.README.read_text(encoding="utf-8")
    assert text == measured.readme(), "python -m benchmarks.measured --write"


def test_page_for_users_is_short_and_names_what_is_slower() -> None:
    assert len(page().split()) <= 900
    table = page().partition("## What is slower")[2].partition("\n## ")[0]
    assert not [name for name in measured.SLOWER if f"| {name} |" not in table]


def test_second_table_contains_all_missed_targets() -> None:
    missed = [
        row["benchmark"]
        for section in sections()
        for table in section["tables"]
        for row in table["rows"]
        if row.get("status") in {"missed", "sometimes"}
    ]
    table = page_of_all().partition("## Targets that are missed")[2].partition("\n## ")[0]
    assert missed
    assert not [name for name in missed if f"| {name} |" not in table]
    assert not [name for name in missed if name.startswith("…")]  # unclear without its neighbour


@pytest.mark.parametrize(
    "file", sorted(measured.RESULTS.glob("*.json")), ids=lambda file: file.stem
)
def test_every_recorded_row_is_printed_by_its_benchmark(file: Path) -> None:
    for table in json.loads(file.read_text(encoding="utf-8"))["tables"]:
        names = [row["measures"] for row in table["rows"] if row.get("measures")]
        found = sources(table["command"]) if names else []
        assert not [name for name in names if not is_printed(name, found)], table["command"]
        assert not names or is_printed(file.stem, found), table["command"]  # it writes this file


def test_row_name_consists_of_strings_of_its_benchmark() -> None:
    found = sources("python -m benchmarks.queue million")
    assert is_printed("1,000,000 jobs: claim, ms", found)
    assert not is_printed("1,000,000 jobs: claims, ms", found)
    assert not is_printed("1,000,000 tasks: claim, ms", found)
    assert sources("make chaos") == sources("python -m tests.chaos")


@pytest.mark.parametrize("section", sections(), ids=lambda section: section["title"])
def test_benchmark_row_is_on_the_page_once(section: dict[str, Any]) -> None:
    names = Counter(
        row["measures"]
        for table in section["tables"]
        for row in table["rows"]
        if row.get("measures")
    )
    assert not [name for name, count in names.items() if count > 1]


def test_every_status_is_computed_from_value_and_target() -> None:
    rows = [
        Measurement.of(row)
        for section in sections()
        for table in section["tables"]
        for row in table["rows"]
    ]
    assert not [row.benchmark for row in rows if judged(row) is not row.status]


@pytest.mark.parametrize(
    ("value", "target", "status"),
    [
        ("4.46", "at most 5", Status.MET),
        ("5.1", "at most 5", Status.MISSED),
        ("160 to 223", "at most 200", Status.SOMETIMES),
        ("66,000", "at least 50,000", Status.MET),
        ("49,999", "at least 50,000", Status.MISSED),
        ("-1.7", "at least -2", Status.MET),
        ("2.2e-4", "at most 1e-4", Status.MISSED),
        ("0", "0", Status.MET),
        ("2", "0", Status.MISSED),
        ("2.06", "at most 1.5 × task-spooler", Status.MISSED),
        ("1.06", "at most 1.5 × task-spooler", Status.MET),
        ("1.06", "at most 1.5 × huey", Status.NONE),  # not measured in this run
        ("1.7", "at most 1.5 ×", Status.MISSED),  # a target of the first reference
        ("0.1", "at least 6 × faster", Status.MET),
        ("0.2", "at least 6 × faster", Status.MISSED),
        ("3", "done", Status.NONE),  # a person decides
        ("3", "", Status.NONE),
    ],
)
def test_status_of_a_value_depends_on_its_target(value: str, target: str, status: Status) -> None:
    references = "bare loop: 0.83; task-spooler 1.10; EASY 2 d"
    assert judged(Measurement("b", value, reference=references, target=target)) is status


@pytest.mark.parametrize(
    ("value", "target", "text"),
    [
        ("6", "at most 5", "20 %"),
        ("160 to 223", "at most 200", "12 %"),
        ("12", "at most 5", "2.4 × the target"),
        ("33", "at least 100", "67 %"),
        ("2", "0", ""),
        ("2", "done", ""),
    ],
)
def test_missed_target_has_a_distance(value: str, target: str, text: str) -> None:
    assert excess(Measurement("b", value, target=target)) == text


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of a benchmark that the module writes instead of the real ones."""
    rows = [
        {"benchmark": "a gap", "value": "9", "target": "at most 5", "status": "missed", "measures": "gap"},
        {"benchmark": "an end", "value": "9", "target": "done", "status": "met", "measures": "end"},
        {"benchmark": "other", "value": "1", "reference": "loop 2"},
    ]  # fmt: skip
    table = {"date": "2026-01-01", "command": "x", "machine": "a GPU", "note": "", "rows": rows}
    file = tmp_path / "queue.json"
    text = json.dumps({"order": 1, "title": "Queue", "about": "", "tables": [table]})
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.setenv(measured.ASKED, "1")
    return file


def _rows(results: Path) -> list[dict[str, str]]:
    (table,) = json.loads(results.read_text(encoding="utf-8"))["tables"]
    rows: list[dict[str, str]] = table["rows"]
    return rows


def test_benchmarks_write_results_only_on_request(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results.read_text(encoding="utf-8")
    monkeypatch.delenv(measured.ASKED)
    record("queue", {"gap": ("4", "loop 1")})
    assert results.read_text(encoding="utf-8") == before


def test_run_updates_only_the_rows_it_measured(results: Path) -> None:
    gap, end, other = _rows(results)
    record("queue", {"gap": ("4", "loop 1")})
    written, *others = _rows(results)
    assert others == [end, other]
    assert written.pop("date") > "2026-01-01"
    assert written == {**gap, "value": "4", "status": "met", "reference": "loop 1"}


def test_reference_of_an_earlier_run_is_replaced(results: Path) -> None:
    record("queue", {"gap": ("4", "loop 1")})
    record("queue", {"gap": ("4", "")})
    assert _rows(results)[0]["reference"] == ""


def test_page_shows_the_dates_of_all_rows(results: Path) -> None:
    assert "\n2026-01-01 · x on a GPU\n" in page_of_all()
    record("queue", {"gap": ("4", "")})
    today = _rows(results)[0]["date"]
    assert f"\n2026-01-01 to {today} · x on a GPU\n" in page_of_all()


def test_page_lists_rows_that_no_benchmark_writes(results: Path) -> None:
    assert results.exists()
    assert "\nMeasured by hand: other.\n" in page_of_all()


def test_values_without_a_row_and_targets_without_a_number_are_reported(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("queue", {"gap": ("4", ""), "end": ("7", ""), "unknown": ("7", ""), "other": ("7", "")})
    assert capsys.readouterr().err.splitlines() == [
        f"{results}: decide the status of 'an end': done",
        f"{results}: no row measures 'unknown', 'other'",
    ]


def test_values_of_another_machine_are_not_written(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _rows(results)
    record("queue", {"gap": ("4", "")}, machine="another GPU")
    assert _rows(results) == before
    assert capsys.readouterr().err == f"{results}: no row on another GPU measures 'gap'\n"


def test_page_shows_a_value_with_references_or_the_ratio() -> None:
    row = Row(what="load", ours=30.0, peers={"loop": 12.0, "other": 1234.5}, beside="loop")
    assert row.recorded() == ("30", "loop 12; other 1,234")
    assert replace(row, as_ratio=True).recorded() == ("2.5", "")
