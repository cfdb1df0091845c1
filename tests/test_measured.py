"""docs/measured.md agrees with the files of the benchmarks."""

import json
from pathlib import Path

import pytest

from benchmarks import measured
from benchmarks.measured import Measurement, Status, judged, page, record, sections


def test_the_page_is_made_of_the_files() -> None:
    assert measured.PAGE.read_text(encoding="utf-8") == page(), (
        "python -m benchmarks.measured --write"
    )


def test_every_missed_target_is_in_the_second_table() -> None:
    missed = [
        row["benchmark"]
        for section in sections()
        for table in section["tables"]
        for row in table["rows"]
        if row.get("status") in {"missed", "sometimes"}
    ]
    table = page().partition("## Targets that are missed")[2].partition("\n## ")[0]
    assert missed
    assert not [name for name in missed if f"| {name} |" not in table]
    assert not [name for name in missed if name.startswith("…")]  # unclear without its neighbour


@pytest.mark.parametrize(
    ("value", "target", "status"),
    [
        ("4.46", "at most 5", Status.MET),
        ("5.1", "at most 5", Status.MISSED),
        ("160 to 223", "at most 200", Status.SOMETIMES),
        ("66,000", "at least 50,000", Status.MET),
        ("49,999", "at least 50,000", Status.MISSED),
        ("2.06", "at most 1.5 × task-spooler", Status.NONE),  # a person decides
        ("3", "", Status.NONE),
    ],
)
def test_a_value_is_judged_by_its_target(value: str, target: str, status: Status) -> None:
    assert judged(Measurement("b", value, target=target)) is status


def test_benchmarks_write_values_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "benchmark": "a gap",
            "value": "9",
            "target": "at most 5",
            "status": "missed",
            "measures": "gap",
        },
        {"benchmark": "other", "value": "1"},
    ]
    table = {"date": "2026-01-01", "command": "x", "machine": "", "note": "", "rows": rows}
    file = tmp_path / "queue.json"
    text = json.dumps({"order": 1, "title": "Queue", "about": "", "tables": [table]})
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.delenv(measured.ASKED, raising=False)
    record("queue", {"gap": ("4", "loop 1")})
    assert file.read_text(encoding="utf-8") == text
    monkeypatch.setenv(measured.ASKED, "1")
    record("queue", {"gap": ("4", "loop 1"), "unknown": ("7", "")})
    (written,) = json.loads(file.read_text(encoding="utf-8"))["tables"]
    assert written["rows"] == [
        {**rows[0], "value": "4", "status": "met", "reference": "loop 1"},
        rows[1],
    ]
    assert written["date"] > "2026-01-01"
