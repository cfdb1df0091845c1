"""One table of a study in each form: intervals, reasons of missing ones, floors and verdicts are in all of them."""

from pathlib import Path

import pytest

from trueface.cli.studies import table_records, write_csv
from trueface.cli.text_tables import latex_tables, tab_lines, table_lines
from trueface.evaluation.estimate import Difference, Estimate, Interval
from trueface.evaluation.over_seeds import SeedSummary
from trueface.report.study_table import (
    NUMBER_COLUMNS,
    Column,
    NumberForm,
    StudyEntry,
    StudyRow,
    StudyTable,
    decimals,
)
from trueface.report.tables import study_table

WHY = "5 of 20 reals"
SEEDS = SeedSummary(0.875, 0.125, (0.75, 1.0), 3, {"failed": 1})
ONE = SeedSummary(0.5, None, (0.5,), 1)
TIME = NumberForm(lambda value: f"{value:.1f}", lambda spread, _: f"{spread:.2g}")
TABLE = StudyTable.of_rows(
    (
        Column("method"),
        Column("verdict", is_text=True),
        Column("test", "%", header="test", key="test", form=decimals(1, factor=100), better="up"),
        Column("AUC", key="auc", below="of all"),
        Column("gain", form=decimals(2, sign="+")),
        Column("time, s", key="seconds", form=TIME, page_form=decimals(0)),
    ),
    (
        StudyRow(
            "scrub",
            (
                StudyEntry(""),
                StudyEntry(SEEDS, floor=ONE, note="2 of 3 groups"),
                StudyEntry(Estimate(value=0.75, interval=Interval(0.5, 1.0))),
                StudyEntry(Difference(0.25, Interval(0.125, 0.375))),
                StudyEntry(SeedSummary(3.25, 0.125, (3.125, 3.375), 2)),
            ),
            kind="method",
        ),
        StudyRow(
            "ng\x1b",
            (
                StudyEntry("constant"),
                StudyEntry(ONE, only=Estimate(value=0.5, why=WHY), mark="†"),
                StudyEntry(Estimate(value=0.5, why=WHY)),
                StudyEntry(Difference(-0.25, None, "no pair")),
                StudyEntry(why="it stopped"),
            ),
            kind="method",
            tag="<constant>",
            alarms=("it is <constant>",),
        ),
    ),
    ("† not ranked: ng",),
    title="by gender",
    facts={"base": "gan:pre"},
)


def test_text_has_intervals_floors_and_reasons() -> None:
    cut = tuple(row._replace(entries=row.entries[:2]) for row in TABLE.rows)
    assert table_lines(TABLE._replace(head=TABLE.head[:3], rows=cut)) == [
        "method  verdict                                                        test %",
        "scrub             87.5 ± 12.5 (2 of 4 seeds, 1 failed) [50.0] (2 of 3 groups)",
        "ng\\x1b  constant                            50.0 (no interval: 5 of 20 reals)",
    ]
    head = (TABLE.head[0], *TABLE.head[3:])
    cut = tuple(row._replace(entries=row.entries[2:]) for row in TABLE.rows)
    assert table_lines(StudyTable.of_rows(head, cut)) == [
        "method                                 AUC                             gain     time, s",
        "scrub               0.750 (0.500 to 1.000)           +0.25 (+0.12 to +0.38)  3.2 ± 0.12",
        "ng\\x1b  0.500 (no interval: 5 of 20 reals)  -0.25 (not comparable: no pair)           –",
    ]


def test_pipe_has_brackets_and_one_header_for_equal_columns() -> None:
    other = TABLE._replace(facts={"base": "sd:pre"}, rows=TABLE.rows[:1])
    header, first, second, third = [line.split("\t") for line in tab_lines([TABLE, other])]
    assert header == ["base", "method", "verdict", "test", "AUC", "gain", "time, s"]
    assert first == [
        "gan:pre", "scrub", "", "87.5 ± 12.5 (2 of 4 seeds, 1 failed) [50.0] (2 of 3 groups)",
        "0.750 [0.500, 1.000]", "+0.25 [+0.12, +0.38]", "3.2 ± 0.12",
    ]  # fmt: skip
    assert second == [
        "gan:pre", "ng\\x1b", "constant", f"50.0 [no interval: {WHY}]", f"0.500 [no interval: {WHY}]",
        "-0.25 [not comparable: no pair]", "–",
    ]  # fmt: skip
    assert third == ["sd:pre", *first[1:]]


def test_latex_has_marks_and_the_notes_that_explain_them() -> None:
    lines = latex_tables([TABLE]).splitlines()
    assert lines[0] == "% by gender"
    (row,) = [line for line in lines if "constant" in line]
    assert rf"constant & 50.0 (no interval: {WHY})$^\dagger$ & 0.500 (no interval: {WHY}) & " in row
    assert any("not ranked: ng" in line for line in lines)


def test_json_has_numbers_and_reasons_by_the_name_of_each_column() -> None:
    (record,) = table_records([TABLE])
    rows = record.pop("rows")
    assert record == {"title": "by gender", "base": "gan:pre", "notes": ["† not ranked: ng"]}
    assert rows == [
        {
            "method": "scrub",
            "verdict": {"text": ""},
            "test": {"value": 0.875, "sd": 0.125, "n": 2, "note": "2 of 3 groups", "floor": 0.5},
            "auc": {"value": 0.75, "low": 0.5, "high": 1.0},
            "gain": {"value": 0.25, "low": 0.125, "high": 0.375, "verdict": "gain"},
            "seconds": {"value": 3.25, "sd": 0.125, "n": 2},
        },
        {
            "method": "ng\x1b",
            "verdict": {"text": "constant"},
            "test": {
                "value": 0.5, "sd": None, "n": 1, "low": None, "high": None, "why": WHY, "mark": "†",
            },
            "auc": {"value": 0.5, "low": None, "high": None, "why": WHY},
            "gain": {
                "value": -0.25, "low": None, "high": None, "why": "no pair", "verdict": "not comparable",
            },
            "seconds": {"value": None, "why": "it stopped"},
        },
    ]  # fmt: skip


def test_csv_has_a_line_for_each_number_with_the_verdict_of_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = ("base", "method", *NUMBER_COLUMNS, "verdict")
    write_csv(str(tmp_path / "t.csv"), header, [TABLE])
    write_csv("-", header, [TABLE])
    text = (tmp_path / "t.csv").read_text()
    assert capsys.readouterr().out == text
    assert text.splitlines() == [
        "base,method,measure,value,sd,n,low,high,why,verdict",
        "gan:pre,scrub,test,0.875,0.125,2,,,,",
        "gan:pre,scrub,auc,0.75,,,0.5,1.0,,",
        "gan:pre,scrub,gain,0.25,,,0.125,0.375,,gain",
        "gan:pre,scrub,seconds,3.25,0.125,2,,,,",
        f"gan:pre,ng\x1b,test,0.5,,1,,,{WHY},constant",
        f"gan:pre,ng\x1b,auc,0.5,,,,,{WHY},constant",
        "gan:pre,ng\x1b,gain,-0.25,,,,,no pair,not comparable",
        "gan:pre,ng\x1b,seconds,,,,,,it stopped,constant",
    ]


def test_page_has_signs_for_missing_intervals_and_lines_for_alarms() -> None:
    html = study_table(TABLE, caption="Means.")
    sign = f'<abbr title="no interval: {WHY}">†</abbr>'
    assert f"<caption>Means. †: no interval (test, {WHY}; AUC, {WHY}).</caption>" in html
    assert '<th scope="col">test, % ↑</th><th scope="col">AUC<small>of all</small></th>' in html
    first, second = html.split("<tbody ")[1:]
    assert first.startswith(
        'class="method"><tr><th scope="row">scrub</th><td class="left">–</td>'
        "<td>87.5<small>± 12.5</small><small>2 of 4 seeds, 1 failed</small><small>2 of 3 groups</small>"
        "<small>floor 50.0</small></td><td>0.750<small>0.500 to 1.000</small></td>"
        "<td>+0.25<small>+0.12 to +0.38</small></td><td>3<small>± 0</small></td></tr></tbody>"
    )
    assert '<small><span class="tag">&lt;constant&gt;</span></small></th>' in second
    assert f'<td class="left">constant</td><td>50.0{sign}</td><td>0.500{sign}</td>' in second
    assert "<td>-0.25<small>not comparable: no pair</small></td>" in second
    assert '<td title="it stopped">–</td></tr>' in second
    assert '<p><span class="tag">alarm</span> it is &lt;constant&gt;</p>' in second
    assert not study_table(TABLE._replace(rows=()))
