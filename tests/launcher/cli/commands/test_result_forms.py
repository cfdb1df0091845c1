"""Forms of tables of results: SQL, rows of folders, LaTeX and Parquet."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.experiments.results.averages import average_over
from launcher.experiments.results.metric import Metric
from launcher.experiments.results.pivot import metrics_of_rows, pivot
from launcher.experiments.results.table import RunResults
from launcher.experiments.results.write import NAME
from launcher.experiments.search.run_trials import RunSearches
from launcher.frontends.cli.column_tables import answer_table, default_columns
from launcher.frontends.cli.commands.results import (
    RowSelection,
    RunOutcome,
    _build_output,
    _selected_rows_output,
    all_rows,
)
from launcher.frontends.cli.main import main
from launcher.frontends.cli.output import Format, parquet_bytes, write
from launcher.frontends.cli.plain_tables import draw_plain, plain_tables
from launcher.frontends.screens.table_formats import escape_latex, latex_text
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import Store
from launcher.system.text_table import table_of_texts, width_of
from tests.build import a_spec, enqueue, finished
from tests.launcher.conftest import Launcher


def with_runs(store: Store) -> None:
    """Two runs, of which each has a job that is done."""
    pytest.importorskip("sqlite_utils")
    for number, run in enumerate(("first", "second")):
        (job,) = enqueue(store, a_spec("x", f"--lr={number}", name="command/a", run=run), run=run)
        done = Done(at=2.0, result={"auc": number / 2})
        finished(store, job, done)


def test_file_written_by_results_can_be_queried(
    launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    with_runs(store)
    path = str(tmp_path / "r.sqlite")
    written = launcher.well("results", "first", "--db", path)
    assert written.out == ""
    assert "new or changed rows" in written.err
    words = ("query", "--db", path, "SELECT name, value FROM metrics")
    assert launcher(*words).out == "name\tvalue\nauc\t0.0\n"
    assert launcher(*words, "--format", "csv").out == "name,value\r\nauc,0.0\r\n"
    assert launcher(*words, "--format", "markdown").out == (
        "| name | value |\n| --- | --: |\n| auc | 0 |\n"
    )
    assert launcher.json(*words) == {
        "schema": 1,
        "columns": ["name", "value"],
        "rows": [{"name": "auc", "value": 0.0}],
    }
    assert "\\toprule" in launcher(*words, "--format", "latex").out
    assert launcher(*words, "--format", "table").out == "name  value\nauc       0\n"


def test_query_without_a_file_uses_all_current_runs_of_the_queue(
    launcher: Launcher, store: Store, home: Home
) -> None:
    with_runs(store)
    words = ("query", "SELECT runs.name, count(*) FROM jobs JOIN runs ON runs.id = run GROUP BY 1")
    assert launcher(*words).out == "name\tcount(*)\nfirst\t1\nsecond\t1\n"
    (job,) = enqueue(store, a_spec(name="command/b", run="second"), run="second")
    assert launcher(*words).out.splitlines()[2] == "second\t2"
    states = ("query", "SELECT state FROM jobs WHERE name = 'command/b'")
    assert launcher(*states).out == "state\nqueued\n"
    finished(store, job, Done(at=3.0))
    assert launcher(*states).out == "state\ndone\n"
    before = (home.folder / NAME).stat()
    assert launcher(*states).out == "state\ndone\n"
    assert (home.folder / NAME).stat() == before or (
        home.folder / NAME
    ).stat().st_mtime_ns == before.st_mtime_ns


def test_empty_and_unusual_query_answers_are_printed(launcher: Launcher, store: Store) -> None:
    with_runs(store)
    for form, said in (("csv", "id\r\n"), ("tabs", "id\n"), ("table", "id\n")):
        assert launcher.well("query", "SELECT id FROM jobs WHERE 0", "--format", form).out == said
    assert launcher.json("query", "SELECT 1 AS x WHERE 0")["rows"] == []
    # names that come twice, blobs, and what would steer a terminal
    answer = launcher("query", "SELECT 1 AS a, 2 AS a, x'00ff' AS b", "--json")
    assert json.loads(answer.out)["rows"] == [{"a": 1, "a_2": 2, "b": "00ff"}]
    answer = launcher("query", "SELECT char(27) || '[31m' AS x, 'a' || char(10) || 'b' AS y")
    assert answer.out == "x\ty\n\\x1b[31m\ta\\nb\n"


def test_query_answer_fits_the_terminal_and_names_the_columns_without_room() -> None:
    cells: list[list[object]] = [
        ["job", "empty", "error", "seed", "why"],
        ["fit", None, "a" * 30, 1, "one two three four five six"],
        ["test", None, "b", 2, None],
    ]
    table = answer_table(cells)
    assert [each.text for each in table.to_lines(58)] == [
        "job   error                   seed  why",
        f"fit   {'a' * 21}…     1  one two three four",
        f"{' ' * 36}five six",
        "test  b                          2  –",
        "",
        "not shown: empty (--format csv prints all columns)",
    ]
    assert max(width_of(each.text) for each in table.to_lines(30)[:3]) <= 30
    assert "not shown" not in "".join(each.text for each in table.to_lines())


def test_database_of_results_is_written_without_importing_pandas() -> None:
    pytest.importorskip("pandas")
    lines = (
        "import sys",
        "from launcher.experiments.results.write import _sqlite_utils",
        "_sqlite_utils()",
        "assert 'pandas' not in sys.modules",
        "import pandas",
    )
    code = "\n".join(lines)
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("sql", ["CREATE TABLE x (y)", "DELETE FROM jobs", "ATTACH 'x' AS x"])
def test_sql_that_writes_is_refused(launcher: Launcher, store: Store, home: Home, sql: str) -> None:
    with_runs(store)
    launcher("query", "SELECT 1")
    before = (home.folder / NAME).read_bytes()
    assert "launcher query is read-only" in launcher.refused("query", sql)
    assert (home.folder / NAME).read_bytes() == before


def test_queue_database_is_refused_as_a_results_file(
    launcher: Launcher, store: Store, home: Home
) -> None:
    with_runs(store)
    assert "is a database of another program" in launcher.refused(
        "results", "first", "--db", str(home.database)
    )


def test_parquet_is_written_to_stdout_as_bytes(
    store: Store, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with_runs(store)
    with pytest.raises(SystemExit):
        main(("query", "SELECT name, value FROM metrics", "--format", "parquet"))
    table = parquet.read_table(io.BytesIO(capfdbinary.readouterr().out))
    assert table.to_pylist() == [{"name": "auc", "value": 0.0}, {"name": "auc", "value": 0.5}]


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


def test_numbers_have_four_digits_and_unknown_values_a_dash() -> None:
    assert draw_plain(ROWS, 100).splitlines() == [
        "method         mse   psnr  net_calls  hidden  mse_sd",
        "ddpm@10    0.03215  33.21         10  yes      0.001",
        "jpeg@75  1.234e-05      –          0  –            –",
    ]


def test_rows_of_another_kind_have_a_separate_table() -> None:
    assert [table.titles[0] for table in plain_tables([*ROWS, *ERASED])] == ["method", "concept"]
    assert "\n\nconcept  erased  others" in draw_plain([*ROWS, *ERASED], 100)


def test_markdown_and_tabs_contain_returned_rows_under_their_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(all_rows(ERASED, "x", everything=False), Format.MARKDOWN)
    assert capsys.readouterr().out.splitlines() == (
        ["| concept | erased | others |", "| --- | --: | --: |", "| cross | 0.02 | 1 |"]
    )
    write(all_rows(ERASED, "x"), Format.TABS)
    assert capsys.readouterr().out == "concept\terased\tothers\ncross\t0.02\t1\n"


def test_csv_contains_every_column_completely(capsys: pytest.CaptureFixture[str]) -> None:
    write(all_rows(ROWS, "x", everything=False), Format.CSV)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["mse"] for row in rows] == ["0.0321456", "1.234e-05"]
    assert rows[0]["curve"] == "[1, 2]"


@pytest.mark.parametrize("form", [Format.TABS, Format.MARKDOWN, Format.TABLE, Format.LATEX])
def test_every_format_accepts_tested_and_returned_rows(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    write(all_rows([OF_A_TEST, *ROWS], "x", everything=True), form)
    printed = capsys.readouterr().out
    assert "all:pre" in printed
    assert "jpeg@75" in printed


@pytest.mark.parametrize("form", [Format.TABS, Format.MARKDOWN, Format.TABLE, Format.LATEX])
def test_every_format_has_the_columns_that_no_id_contains(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    row, names = {**OF_A_TEST, "teacher_poison": 30.0}, ["teacher_poison"]
    write(all_rows([row], "x", parts=names, unnamed_columns=names), form)
    printed = capsys.readouterr().out.replace("\\", "")
    assert ("teacher_poison" in printed) == (form is not Format.TABS)  # tabs have no titles
    assert re.search(r"\b30\b", printed)


def test_one_returned_metric_is_a_table_by_job_names() -> None:
    table = pivot("mse", metrics_of_rows([*ROWS, OF_A_TEST]), [])
    assert table.names == ("ddpm@10", "jpeg@75")
    assert table.data == ("mse",)


def test_rows_without_printable_cells_are_omitted() -> None:
    rows: list[dict[str, Any]] = [{"curve": [1, 2]}, {"loss": 0.5, "name": "a"}]
    assert draw_plain(rows, 80).splitlines() == ["loss  name", " 0.5  a"]
    assert not draw_plain([{"curve": [1, 2]}], 80)


# --- latex


def test_latex_table_has_booktabs_rules() -> None:
    assert latex_text(table_of_texts(("model", "AUC"), [("all:pre%50~pgu_1", "-0.5")], {1})) == (
        "% \\usepackage{booktabs}\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "model & AUC \\\\\n"
        "\\midrule\n"
        "all:pre\\%50\\textasciitilde{}pgu\\_1 & $-$0.5 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("-inf", "$-$inf"),
        ("-1e-09", "$-$1e-09"),
        ("-info", "-info"),
        ('15" × 2²', r"15\textquotedblright{} $\times$ 2$^2$"),  # \textquotedbl is not in OT1
        ("µ ≤ 2°", r"$\mu$ $\leq$ 2$^\circ$"),
    ],
)
def test_latex_has_only_commands_of_its_default_encoding(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


def test_latex_line_starting_with_star_or_bracket_is_protected() -> None:
    lines = latex_text(table_of_texts(("model",), [("*%20",), ("[1, 2]",), ("a*",)])).splitlines()
    assert lines[5:8] == ["{}*\\%20 \\\\", "{}[1, 2] \\\\", "a* \\\\"]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric(0.63284, 0.50791, 0.75777, sd=0.05029, n=3), "0.633 ± 0.050 [0.508, 0.758]"),
        (Metric(0.97, 0.563, 0.999), "0.97 [0.56, 1.00]"),  # half of the interval is 0.22
        (Metric(0.5, 0.4004, 0.5996), "0.50 [0.40, 0.60]"),  # 0.0996 is rounded to 0.10
        (Metric(56789.1, sd=1234.5, n=3), "56800 ± 1200"),
        (Metric(-0.0163, sd=0.0021, n=3), "-0.0163 ± 0.0021"),
        (Metric(0.82125, sd=0.0, n=3), "0.8213 ± 0.0000"),  # the uncertainty is zero, or unknown
        (Metric(0.82125, sd=1e-17, n=3), "0.8213 ± 1e-17"),
        (Metric(0.82125), "0.8213"),
        (Metric(12), "12"),
        (Metric(0.5, float("-inf"), float("inf")), "0.5 [-inf, inf]"),
        (Metric(float("nan"), 0.1, 0.3), "nan [0.10, 0.30]"),
        (Metric(0.9, sd=0.02, n=4, note="4 of 5 seeds"), "0.900 ± 0.020 (4 of 5 seeds)"),
        (
            Metric(2e300, -4.8e299, 4.48e300, sd=1e300, n=3),
            "2.0e+300 ± 1.0e+300 [-5e+299, 4.5e+300]",
        ),
        (Metric(2e-13, 1e-15, 4.48e-13, sd=1e-13, n=3), "2.0e-13 ± 1.0e-13 [0, 4.5e-13]"),
        (Metric(1.5e-320, sd=7e-321, n=2), "1.50e-320 ± 7.0e-321"),
        (Metric(1.79e308, sd=9.9e307, n=2), "1.79e+308 ± 9.9e+307"),
        (Metric(0.0, sd=1e-12, n=3), "0 ± 1.0e-12"),
    ],
)
def test_latex_numbers_have_the_digits_of_their_uncertainty(metric: Metric, text: str) -> None:
    assert metric.text(brackets=True, is_rounded=True) == text


@given(st.floats(-1e5, 1e5), st.floats(1, 1e5), st.integers(-300, 300))
def test_very_large_and_small_numbers_are_short_and_rounded_to_the_uncertainty(
    value: float, sd: float, exponent: int
) -> None:
    value, sd = value * 10.0**exponent, sd * 10.0**exponent
    shown = Metric(value, sd=sd, n=3).text(is_rounded=True).split(" ± ")
    assert max(map(len, shown)) <= 18
    assert abs(float(shown[0]) - value) <= 0.051 * sd
    assert abs(float(shown[1]) - sd) <= 0.051 * sd


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_rounding_to_the_uncertainty_changes_no_number_by_more_than_a_tenth_of_it(
    value: float, sd: float
) -> None:
    shown = Metric(value, sd=sd, n=3).text(is_rounded=True).split(" ± ")
    assert abs(float(shown[0]) - value) <= 0.051 * sd + 1e-9 * abs(value)
    assert abs(float(shown[1]) - sd) <= 0.051 * sd


def test_only_latex_rounds_means_to_their_uncertainty(launcher: Launcher, store: Store) -> None:
    for seed, value in enumerate((0.6328, 0.5825, 0.6831)):
        spec = a_spec("x", f"--seed={seed}", name=f"command/{seed}")
        (job,) = enqueue(store, spec, run="means")
        finished(store, job, Done(at=2.0, result={"auc": value}))
    words = ("results", "means", "--over", "seed", "--format")
    latex = r"0.633 $\pm$ 0.050 [0.508, 0.758]"
    for chosen in (("--columns", "auc"), ("--metric", "auc")):
        assert latex in launcher.well(*words, "latex", *chosen).out
        assert "0.6328 ± 0.0503 (0.5078" in launcher.well(*words, "markdown", *chosen).out
    tested = {"value": 0.9251, "low": 0.6253, "high": 0.9894}
    row = {"model": "m", "data": "d", "modifier": "pre", "pooled": False, "n": 9}
    rows = [row | dict.fromkeys(("accuracy", "balanced_accuracy", "auc", "ece", "loss"), tested)]
    launcher.capsys.readouterr()
    for form in (Format.LATEX, Format.TABS):
        write(all_rows(rows, "test"), form)
    printed = launcher.capsys.readouterr().out
    assert "93 [63, 99]" in printed
    assert "0.93 [0.63, 0.99]" in printed
    assert "92.5 [62.5, 98.9]\t" in printed


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["chance"] * 3, "chance"),
        (
            ["", "constant, chance", "chance"],
            "constant, chance (1 of 3 seeds); chance (1 of 3 seeds)",
        ),
        (["chance", "", "chance"], "chance (2 of 3 seeds)"),
    ],
)
def test_every_format_of_means_has_the_verdicts_of_their_rows(
    capsysbinary: pytest.CaptureFixture[bytes], verdicts: list[str], text: str
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    place = {"model": "m", "data": "d", "modifier": "pre", "pooled": False}
    rows = [
        {**place, "seed": seed, "auc": 0.5, "verdict": each} for seed, each in enumerate(verdicts)
    ]
    single = RunResults(rows=rows, columns=("model", "data", "modifier", "pooled", "seed"))
    means = average_over(single, ["seed"], {})
    assert means.verdicts == [text]
    assert default_columns(single)[-1] == default_columns(means)[-1] == "verdict"
    assert "verdict" not in default_columns(
        single._replace(rows=[row | {"verdict": ""} for row in rows])
    )
    run = RunOutcome("r", means, [], [], {}, RunSearches())
    for form in Format:
        write(_selected_rows_output(means, RowSelection(), [], run, form), form)
        printed = capsysbinary.readouterr().out
        if form is Format.PARQUET:
            assert parquet.read_table(io.BytesIO(printed)).to_pylist()[0]["verdict"] == text
        else:
            assert text.encode() in printed, form
    for selection, metric in ((RowSelection(columns=("auc",)), None), (RowSelection(), "auc")):
        answer, _ = _build_output(run, selection, metric, Format.LATEX, everything=False)
        assert answer is not None
        write(answer, Format.LATEX)
        out, err = (each.decode() for each in capsysbinary.readouterr())
        assert text in out
        assert f"note: {text}" in err


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric(0.65, 0.4538123, 0.8461877, 0.0789912, 3), "0.6500 ± 0.0790 (0.4538 to 0.8462)"),
        (Metric(0.5, sd=0.25, n=2), "0.50 ± 0.25"),
        (Metric(123.456, sd=0.01234, n=2), "123.456 ± 0.012"),
        (Metric(0.0, sd=0.0, n=2), "0 ± 0"),
        (Metric(1.5e-9, sd=2e-10, n=2), "1.5e-09 ± 2e-10"),
        (Metric(0.65, 0.4, 0.81234), "0.65 (0.4 to 0.8123)"),
    ],
)
def test_mean_and_deviation_have_the_same_number_of_digits(metric: Metric, text: str) -> None:
    assert metric.text() == text


@given(st.text("\\&%$#_{}~^", max_size=8))
def test_special_characters_are_escaped_in_latex(text: str) -> None:
    bare = escape_latex(text)
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        bare = bare.replace(command, "")
    for character in "&%$#_{}":
        bare = bare.replace(f"\\{character}", "")
    assert bare == ""


# --- parquet


def read(columns: list[str], rows: list[tuple[Any, ...]]) -> Any:
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(io.BytesIO(parquet_bytes(columns, rows)))


def test_columns_have_the_types_of_their_values() -> None:
    table = read(["name", "n", "auc", "pooled"], [("a", 1, 0.5, True), (None, 2, 1, None)])
    assert [str(field.type) for field in table.schema] == ["string", "int64", "double", "bool"]
    assert table.to_pylist()[1] == {"name": None, "n": 2, "auc": 1.0, "pooled": None}


def test_mixed_columns_large_numbers_and_duplicate_names_are_accepted() -> None:
    table = read(["x", "x", "big"], [("a", b"\xff", 1 << 70), (1, None, 2)])
    assert table.column_names == ["x", "x_2", "big"]
    assert table.to_pylist()[0] == {"x": "a", "x_2": b"\xff", "big": float(1 << 70)}
    assert table.to_pylist()[1]["x"] == "1"
