import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.results.best import count_equal
from launcher.experiments.results.metric import Metric, read_metric
from launcher.experiments.results.pivot import metrics_of_result, pivot
from launcher.experiments.results.returned_rows import PRUNED, TRIAL
from launcher.experiments.results.table import RunResults
from launcher.frontends.cli.column_tables import flat_table, pivot_table
from launcher.frontends.cli.commands.results import all_rows
from launcher.frontends.cli.output import Format, csv_text, long_rows, write
from launcher.frontends.cli.result_tables import draw
from launcher.frontends.cli.search_results import repeating_command
from launcher.frontends.screens.table_formats import latex_text, markdown_text
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.steps import ProgressWriter
from launcher.system.files import Json
from launcher.system.text_table import table_of_texts
from tests.build import a_spec, enqueue, finished, job_row
from tests.launcher.conftest import Launcher
from tests.screens import texts_of
from tests.terminal import in_a_terminal


def a_value(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def a_row(model: str, data: str, *, pooled: bool, **changes: Any) -> dict[str, Any]:
    values = {key: a_value(0.9) for key in ("accuracy", "balanced_accuracy", "auc", "ece", "loss")}
    row = {"model": model, "data": data, "modifier": "pre", "pooled": pooled, "n": 600}
    return row | values | {"verdict": "", "seconds": 12.34} | changes


ROWS = [
    a_row("all:pre", "gan2:pre", pooled=False, balanced_accuracy=a_value(0.97)),
    a_row("all:pre", "gan2:pre&real:pre", pooled=True),
    a_row("all:pre%50", "gan2:pre", pooled=False, balanced_accuracy=None),
    a_row("all:pre%50", "gan2:pre&real:pre", pooled=True, auc=a_value(0.5), verdict="chance"),
]


def test_wide_terminal_shows_every_interval() -> None:
    lines = draw(ROWS, width=140).splitlines()
    assert lines[2].split() == (
        [
            "model",
            "data",
            "n",
            "accuracy",
            "%",
            "balanced",
            "acc",
            "%",
            "AUC",
            "ECE",
            "loss",
            "time",
            "s",
        ]
    )
    assert "0.900 (0.890 to 0.910)" in lines[3]
    assert lines[3].endswith(" 12.3")
    assert "chance" in lines[4]
    assert lines[-2].split() == ["all:pre", "97.0"]
    assert lines[-1].split() == ["all:pre%50", "–"]


@pytest.mark.parametrize("width", [80, 140])
def test_measure_that_a_plugin_package_adds_has_a_column(width: int) -> None:
    rows = [{**row, "f2": a_value(0.7), "eer": a_value(0.1), "temperature": 1.5} for row in ROWS]
    rows[1]["f2"] = None
    lines = draw(rows, width=width, everything=True).splitlines()
    assert "f2" in lines[0]
    assert "eer" not in lines[0]
    assert "temperature" not in lines[0]
    assert "0.700 (0.690 to 0.710)" in lines[1] if width == 140 else "0.700" in lines[1]
    assert "0.700" not in lines[2]


def test_note_below_the_table_counts_the_sources_of_the_intervals() -> None:
    few = "3 real sources, 1 fake source (over its images)"
    lines = draw([a_row("m", "gan2:pre", pooled=False, few_sources=few)], width=60).splitlines()
    assert lines[-2:] == [
        "    or images, they may be too narrow:",
        f"  {few}",
    ]
    mixed = [a_row("m", "gan2:pre", pooled=False, few_sources=few), ROWS[0]]
    assert f"  gan2:pre: {few}" in draw(mixed, everything=True, width=140)
    assert "few" not in draw(ROWS, width=140)
    assert draw([]) == "no results yet"


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        (0.91, 0.01, "0.9100"),  # as in a terminal: 0.9100 ± 0.0100
        (2 / 3, 0.01, "0.6666666666666666"),
        (-12.5, 1.25, "-12.50"),
        (3, 0.5, "3"),
        (1e-07, 2e-08, "1e-07"),
        (math.nan, 0.1, "nan"),
        (0.91, None, "0.91"),
    ],
)
def test_mean_in_a_pipe_has_the_decimals_of_a_terminal(
    value: float, sd: float | None, text: str
) -> None:
    mean = Metric(value, low=0.97 * value, high=1.03 * value, sd=sd, n=3)
    assert mean.complete_text() == text


def test_number_without_an_interval_says_why() -> None:
    rate = {"value": 0.37, "low": None, "high": None, "why": "50 of 368 reals"}
    rows = [a_row("m", "gan2:pre", pooled=False, auc=rate)]
    assert "0.370 (no interval: 50 of 368 reals)" in draw(rows, width=160)
    (row,) = csv.DictReader(io.StringIO(csv_text(long_rows(rows))))
    assert (row["auc"], row["auc_low"], row["auc_high"]) == ("0.37", "", "")
    results = RunResults(rows=rows, columns=("model",))
    (chosen,) = flat_table(results, ["model", "auc"]).cells
    assert chosen == ["m", "0.37 (no interval: 50 of 368 reals)"]
    latex = latex_text(flat_table(results, ["model", "auc"], latex=True))
    assert "m & 0.37$^\\dagger$ \\\\" in latex
    assert "{$^\\dagger$ no interval: 50 of 368 reals}" in latex


def test_class_of_two_sources_has_intervals_over_both_and_over_their_images() -> None:
    area = a_value(0.9) | {
        "over": {"real": "sources", "fake": "sources"},
        "images": {"low": 0.896, "high": 0.904},
    }
    rows = [a_row("m", "gan2:pre", pooled=False, auc=area)]
    lines = draw(rows, width=140).splitlines()
    assert "0.900 (0.890 to 0.910)" in lines[1]
    at = next(at for at, line in enumerate(lines) if "over images" in line)
    assert lines[at + 3].endswith("0.900 (0.896 to 0.904)")
    assert str(read_metric(area)) == ("0.9 (0.89 to 0.91 over sources, 0.896 to 0.904 over images)")


@pytest.mark.parametrize("record", [{"value": 0.9, "images": 500}, {"value": "high"}, {"low": 1}])
def test_record_that_is_no_number_is_not_read(record: dict[str, Any]) -> None:
    assert read_metric(record) is None


def test_each_test_condition_has_a_row_after_unmodified_images() -> None:
    tests = ("gan2:pre", "gan3:pre")
    rows = [
        a_row("m", f"{data}{condition}", pooled=False, balanced_accuracy=a_value(share))
        for condition, share in (("", 0.9), ("@corrupt=jpeg50", 0.6))
        for data in tests
    ]
    rows += [a_row("m", "gan2:pre&gan3:pre", pooled=True)]
    lines = draw(rows, width=200).splitlines()
    at = next(at for at, line in enumerate(lines) if line.split() == ["model", "condition", *tests])
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["m", "90.0", "90.0"], ["m", "corrupt=jpeg50", "60.0", "60.0"],
    ]  # fmt: skip


# --- forms


def test_csv_has_separate_columns_for_intervals() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(long_rows(ROWS)))))
    assert len(rows) == len(ROWS)
    assert rows[0]["balanced_accuracy"] == "0.97"
    assert float(rows[0]["balanced_accuracy_low"]) == 0.97 - 0.01
    assert rows[2]["balanced_accuracy"] == rows[2]["balanced_accuracy_high"] == ""
    assert (rows[0]["pooled"], rows[1]["pooled"]) == ("false", "true")
    assert (rows[0]["n"], rows[0]["seconds"], rows[3]["verdict"]) == ("600", "12.34", "chance")


def test_csv_follows_rfc_4180_and_disables_formulas() -> None:
    text = csv_text([["a", 'say "hi", twice'], ["two\nlines", -1.5], ["=1+1", "@x"]])
    assert text == 'a,"say ""hi"", twice"\r\n"two\nlines",-1.5\r\n\'=1+1,\'@x\r\n'
    # settings as they were typed
    assert csv_text([["-1e-05", "-.5", "+3", "-1+2", "-x"]]) == "-1e-05,-.5,+3,'-1+2,'-x\r\n"


def test_markdown_shows_ids_literally() -> None:
    text = markdown_text(table_of_texts(("model", "n"), [("a%50~pgu|b_c", "1")], {1}))
    assert text == "| model | n |\n| --- | --: |\n| a%50\\~pgu\\|b\\_c | 1 |"


@pytest.mark.parametrize(
    "form", [Format.TABLE, Format.CSV, Format.JSON, Format.MARKDOWN, Format.TABS]
)
def test_table_of_a_plugin_package_is_written_in_every_format(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    write(all_rows(ROWS, "test", everything=True), form)
    said = capsys.readouterr().out
    if form is Format.JSON:
        assert json.loads(said) == {"schema": 1, "run": "test", "rows": ROWS}
    else:
        lines = said.splitlines()
        # lists in a pipe have no head
        above = {Format.MARKDOWN: 2, Format.TABS: 0}.get(form, 1)
        assert len(lines) == above + len(ROWS)
        assert not above or "model" in lines[0]
        assert "gan2:pre" in lines[above]
        assert "chance" in lines[-1]


def a_result(store: Store, *argv: str, result: Mapping[str, Any], **changes: Any) -> None:
    """A job of the run `test` that is done and returned numbers."""
    (job,) = enqueue(store, a_spec(*argv, **changes))
    done = Done(at=2.0, result=result)
    finished(store, job, done)


def with_results(store: Store, results: Mapping[str, Mapping[str, Any]], **changes: Any) -> None:
    """Jobs without arguments that returned numbers."""
    for name, result in results.items():
        a_result(store, name=name, result=result, **changes)


NUMBERS: dict[str, dict[str, Json]] = {
    "command/a": {"n": 3, "speed": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "=b": {"n": 4},
}


def test_default_run_is_the_newest_with_tests(launcher: Launcher, store: Store) -> None:
    assert "the queue has no jobs" in launcher("results").err
    with_results(store, {"command/a": {"n": 3}})
    answer = launcher.well("results")
    assert (answer.out, answer.err) == (
        "job\tn\ncommand/a\t3\n",
        "note: these are the results of run test, the newest\n",
    )
    with_results(store, {"command/b": {"n": 4}}, role="test")
    assert "command/b\t4" in launcher.well("results", "--metric", "n").out


def test_test_results_that_need_absent_packages_give_way_to_the_newest_run(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run, kind, role in (
        ("tests", "test", "test"),
        ("older", "command", "plain"),
        ("mine", "command", "plain"),
        ("trials", "test", "test"),
    ):
        (job,) = enqueue(store, a_spec(name=f"{kind}/b", kind=kind, role=role), run=run)
        finished(store, job, Done(at=2.0, result={"n": 4}))
    monkeypatch.setattr(
        "launcher.experiments.planning.missing_packages._is_there", lambda module: False
    )
    answer = launcher.well("results")
    assert answer.out == "job\tn\ncommand/b\t4\n"
    assert "note: these are the results of run mine, the newest that can be read\n" in answer.err
    assert "note: the test results of run trials cannot be read: test needs" in answer.err
    asked = launcher.well("query", "select count(distinct run) from results")
    assert asked.out == "count(distinct run)\n2\n"  # those of `older` and `mine`
    assert asked.err.count("\n") == 1
    assert "the results of 2 runs (tests, trials) were not updated: test needs" in asked.err


def test_run_name_means_the_run_of_this_folder_or_else_the_newest(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, n in (("old", 1), ("new", 2)):
        (root := tmp_path / name).mkdir()
        (job,) = enqueue(store, a_spec(name=name, role="test"), root=root)
        finished(store, job, Done(at=2.0, result={"n": n}))
    for here, told, other in (("old", "old", "new"), ("new", "new", "old"), (".", "new", "old")):
        monkeypatch.chdir(tmp_path / here)
        answer = launcher("results", "test", "--columns", "job")
        assert answer.out == f"job\n{told}\n"
        assert answer.err == (
            f"note: this is the run test of {tmp_path / told}. For the runs of the same name, change to {tmp_path / other}\n"
        )
    monkeypatch.chdir(tmp_path / "old")
    assert launcher("results", "--columns", "job").out == "job\nnew\n", "the newest that tests"


def test_cleaned_run_is_not_suggested_for_itself(launcher: Launcher, store: Store) -> None:
    enqueue(store, "command/a")
    launcher.well("cancel", "run:test", "--yes")
    launcher.well("clean", "run:test", "--yes")
    for words in (("results", "test"), ("status", "run:test")):
        assert (
            launcher.refused(*words)
            == "error: the jobs of run 'test' were deleted by launcher clean\n"
        )


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("csv", "model,speed\r\ncommand/a,0.5\r\n"),
        ("markdown", "|  | speed |\n| --- | --: |\n| command/a | 0.5 (0.4 to 0.6) |\n"),
        ("table", "           speed\ncommand/a  0.5 (0.4 to 0.6)\n"),
        (
            "latex",
            "% \\usepackage{booktabs}\n\\begin{tabular}{lr}\n\\toprule\n & speed \\\\\n\\midrule\n"
            "command/a & 0.50 [0.40, 0.60] \\\\\n\\bottomrule\n\\end{tabular}\n",
        ),
    ],
)
def test_metric_is_written_in_every_format(
    launcher: Launcher, store: Store, form: str, said: str
) -> None:
    with_results(store, NUMBERS)
    answer = launcher("results", "test", "--metric", "speed", "--format", form)
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines == [line.split() for line in said.splitlines()]


def test_json_of_a_metric_is_one_object(launcher: Launcher, store: Store) -> None:
    with_results(store, NUMBERS, model="m:pre", data="d:pre")
    words = ("results", "test", "--metric", "speed")
    record = launcher.json(*words)
    assert record == json.loads(launcher(*words, "--format", "json").out)
    assert record == {
        "schema": 1,
        "run": "test",
        "metric": "speed",
        "values": [{"model": "m:pre", "data": "d:pre", "value": 0.5, "low": 0.4, "high": 0.6}],
        "counts": {"jobs": 2, "older_results": {}, "without_result": {}},
    }


def test_run_without_tests_shows_returned_rows(launcher: Launcher, store: Store) -> None:
    with_results(store, NUMBERS)
    assert launcher("results", "test").out == (
        "job\tn\tspeed\tspeed_low\tspeed_high\ncommand/a\t3\t0.5\t0.4\t0.6\n=b\t4\t\t\t\n"
    )
    table = launcher("results", "test", "--format", "csv").out
    assert table.splitlines()[0] == "job,n,speed,speed_low,speed_high"
    row, _ = launcher.json("results", "test")["rows"]
    assert row["speed"] == {"value": 0.5, "low": 0.4, "high": 0.6}


def test_numbers_that_do_not_count_are_explained(launcher: Launcher, store: Store) -> None:
    absent, table = "metrics file m.csv was not written", "metrics file m.csv is a folder"
    with_results(
        store,
        {
            "command/a": {"acc": 0.5, "number_faults": [table]},
            "command/b": {"number_faults": [absent]},
            "command/c": {"number_faults": [absent]},
        },
    )
    answer = launcher.well("results", "test")
    assert answer.out == "job\tacc\ncommand/a\t0.5\n"
    assert answer.err == f"note: 2 jobs: {absent}\nnote: command/a: {table}\n"
    faults = {"command/a": [table], "command/b": [absent], "command/c": [absent]}
    record = launcher.json("results", "test")
    assert (record["rows"], record["number_faults"]) == (
        [{"job": "command/a", "acc": 0.5}],
        faults,
    )
    none = launcher.well("results", "test", "command/b")
    assert (none.out, none.err) == ("", f"no results yet\nnote: command/b: {absent}\n")
    assert f"note: 2 jobs: {absent}\n" in launcher("results", "test", "--best", "f1").err
    shown = launcher.well("show", "command/a").out
    assert f"numbers that do not count\n  {table}\n" in shown
    assert "number_faults" not in shown
    record = launcher.json("show", "command/a")
    assert (record["result"], record["number_faults"]) == ({"acc": 0.5}, [table])
    with_results(store, {f"command/{n}": {"number_faults": [f"fault {n}"]} for n in range(5)})
    err = launcher.well("results", "test").err
    assert err.endswith("note: 2 more jobs lack numbers. To see why: launcher show JOB\n")


def test_json_contains_null_for_nan(launcher: Launcher, store: Store) -> None:
    told: Json = {"value": 0.5, "low": float("-inf"), "high": 1}
    with_results(store, {"a": {"n": float("nan")}, "b": {"n": told}, "c": {"n": 2}})
    values = launcher.json("results", "test", "--metric", "n")["values"]
    assert [(one["value"], one["low"]) for one in values] == [(None, None), (0.5, None), (2, None)]


def test_csv_on_a_terminal_contains_no_control_sequences(store: Store) -> None:
    with_results(store, {"a\x1b[31m": {"n": 1}, "two\nlines": {"n": 2}})
    drawn = in_a_terminal("results", "test", "--metric", "n", "--format", "csv")
    assert drawn == 'model,n\na\\x1b[31m,1\n"two\\nlines",2\n'


@pytest.mark.parametrize(
    ("width", "shown"), [(100, "0.5 (0.4 to 0.6)"), (30, "0.5"), (20, "0.5 (")]
)
def test_pivot_shows_intervals_if_there_is_room(width: int, shown: str) -> None:
    result: dict[str, Json] = {"speed": {"value": 0.5, "low": 0.4, "high": 0.6}}
    told = [metrics_of_result(f"job/{n}", "m:pre", f"data{n}:pre", result) for n in range(2)]
    lines = texts_of(pivot_table(pivot("speed", [], told), "speed").to_lines(width))
    assert any(shown in line for line in lines)
    assert (len(lines) == 3) == (width < 30)
    assert ("(" in "".join(lines)) == ("(" in shown)


# --- chosen rows


def trainings(store: Store) -> None:
    """Programs that are done: two learning rates, three seeds each, and their accuracy."""
    for rate, values in (("0.1", (0.80, 0.84, 0.82)), ("0.01", (0.90, 0.92, 0.97))):
        for seed, value in enumerate(values):
            argv = ("python", "train.py", "--lr", rate, f"--seed={seed}")
            result = {"accuracy": value, "loss": 1 - value}
            a_result(store, *argv, name=f"command/{rate}-{seed}", result=result)


def test_means_over_seeds_have_deviation_and_interval(launcher: Launcher, store: Store) -> None:
    trainings(store)
    low, high = launcher.json("results", "test", "--over", "seed", "--sort", "lr")["rows"]
    assert (low["lr"], high["lr"], low["count"]) == (0.01, 0.1, 3)
    accuracy = high["accuracy"]
    # 0.82 ± t(0.975; 2) · 0.02 / √3
    assert accuracy["value"] == pytest.approx(0.82)
    assert accuracy["sd"] == pytest.approx(0.02)
    assert accuracy["high"] == pytest.approx(0.82 + 4.302653 * 0.02 / 3**0.5)
    assert accuracy["n"] == 3
    assert "seed" not in high
    answer = launcher("results", "test", "--over", "seed", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [row["accuracy_n"] for row in rows] == ["3", "3"]
    assert float(rows[0]["accuracy_sd"]) == pytest.approx(0.02)


def test_best_row_respects_the_direction_of_the_metric(launcher: Launcher, store: Store) -> None:
    trainings(store)
    for metric in ("accuracy", "loss"):
        answer = launcher("results", "test", "--best", metric, "--format", "csv")
        (row,) = csv.DictReader(io.StringIO(answer.out))
        assert (row["job"], row["accuracy"]) == ("command/0.01-2", "0.97")
        best = {"accuracy": "best: highest accuracy\n", "loss": "best: lowest loss\n"}[metric]
        assert (row["lr"], row["seed"], answer.err) == ("0.01", "2", best)
    for word in ("low", "min"):
        answer = launcher("results", "test", "--best", f"accuracy:{word}", "--columns", "job")
        assert (answer.out, answer.err) == ("job\ncommand/0.1-0\n", "best: lowest accuracy\n")


def test_best_of_a_metric_with_an_unknown_direction_needs_one(
    launcher: Launcher, store: Store
) -> None:
    for value in (1, 2):
        result: dict[str, Json] = {"value": value, "acc": value, "acc:max": -value}
        a_result(store, "train.py", f"--lr={value}", name=f"command/{value}", result=result)
    assert "Write --best value:min or --best value:max." in launcher.refused(
        "results", "test", "--best", "value"
    )
    assert launcher.json("results", "test", "--best", "value:max")["rows"][0]["value"] == 2
    assert launcher.json("results", "test", "--best", "value:min")["rows"][0]["value"] == 1
    # a name that ends like a direction
    assert launcher.json("results", "test", "--best", "acc:max:max")["rows"][0]["acc:max"] == -1


def test_rows_that_may_not_be_best_are_left_out_and_counted(
    launcher: Launcher, store: Store
) -> None:
    for seed, value in enumerate([0.5, math.nan, math.inf, 0.7]):
        a_result(store, "train.py", f"--seed={seed}", name=f"command/{seed}", result={"acc": value})
    answer = launcher("results", "test", "--best", "acc", "--top", "9", "--columns", "acc")
    assert answer.out == "acc\n0.7\n0.5\n"
    assert "note: 2 rows were left out of the best: 2 have no finite acc\n" in answer.err
    answer = launcher("results", "test", "--over", "seed", "--best", "acc", "--json")
    assert json.loads(answer.out)["rows"] == []
    assert "1 row was left out of the best: 1 has a failed or missing value\n" in answer.err
    (row,) = launcher.json("results", "test", "--over", "seed")["rows"]
    assert row["acc"]["value"] == pytest.approx(0.6)
    assert row["acc"]["note"] == "2 of 4 seeds, 2 not finite"


def test_seed_that_was_queued_again_counts_once(launcher: Launcher, store: Store) -> None:
    """The newest job with the number counts; jobs of another program or without a seed are others."""
    results: list[tuple[str, dict[str, Json]]] = [
        ("--seed=1", {"acc": 0.1, "loss": 5.0}),
        ("--seed=2", {"acc": 0.2}),
        ("--seed=1", {"acc": 0.3}),
        ("--seed=3", {"acc": 0.4}),
        ("--seed=3", {"acc": 0.4}),
    ]
    for number, (seed, result) in enumerate(results):
        a_result(store, "train.py", seed, name=f"command/{number}", result=result)
    (row,) = launcher.json("results", "test", "--over", "seed")["rows"]
    assert (row["count"], row["acc"]["n"], row["acc"]["value"]) == (3, 3, pytest.approx(0.3))
    assert (row["loss"]["n"], row["loss"]["value"]) == (1, 5.0)
    note = "note: 2 older results are left out of the means: equal jobs were queued several times"
    err = launcher("results", "test", "--over", "seed").err
    mixed = (
        "note: 1 mean has results of several programs: their scripts, options, folders or variables"
    )
    assert (note in err, mixed in err) == (True, False)
    for name, argv in (("other", ("other.py", "--seed=1")), ("x", ("train.py",))):
        for again in range(2):
            a_result(store, *argv, name=f"command/{name}{again}", result={"acc": 0.5})
    rows = launcher.json("results", "test", "--over", "seed")["rows"]
    assert sum(row["count"] for row in rows) == 6
    assert mixed in launcher("results", "test", "--over", "seed").err
    assert mixed not in launcher("results", "test", "other*", "--over", "seed").err


def test_interval_of_a_mean_is_possible_and_the_same_in_every_format(
    launcher: Launcher, store: Store
) -> None:
    for seed, value in enumerate((0.9, 0.95, 1.0)):
        a_result(
            store,
            "t.py",
            f"--seed={seed}",
            name=f"command/{seed}",
            result={"auc": value, "gain": value},
        )
    words = ("results", "test", "--over", "seed", "--columns", "auc,gain")
    assert "[0.826, 1.000]" in launcher(*words, "--format", "latex").out
    assert "(0.826 to 1.000)" in launcher(*words, "--format", "table").out
    (row,) = launcher.json(*words)["rows"]
    assert (row["auc"]["high"], row["gain"]["high"] > 1) == (1.0, True)


def test_mean_of_two_values_has_no_interval(launcher: Launcher, store: Store) -> None:
    for seed, value in enumerate((0.6, 0.7)):
        a_result(store, "t.py", f"--seed={seed}", name=f"command/{seed}", result={"auc": value})
    words = ("results", "test", "--over", "seed", "--format")
    assert "[" not in launcher(*words, "latex").out.partition("midrule")[2]
    (row,) = csv.DictReader(io.StringIO(launcher(*words, "csv").out))
    assert (row["auc_low"], row["auc_high"], row["auc_n"]) == ("", "", "2")


def test_option_that_is_made_of_swept_values_is_no_column(launcher: Launcher, store: Store) -> None:
    def a_sweep(tag: str) -> None:
        words = ("t.py", "--lr={lr}", "--seed={seed}", f"--name={tag}{{seed}}", "-n", "{seed}")
        for seed in (1, 2):
            values = {"lr": 0.1, "seed": seed}
            template = {"settings": {"argv": [*words]}}
            argv = (word.format(**values) for word in words)
            settings = {"params": values, "template": template}
            result = {"acc": seed / 10}
            a_result(store, *argv, name=f"command/{tag}{seed}", settings=settings, result=result)

    a_sweep("y")
    assert {*launcher.json("results", "test")["rows"][0]} == {"job", "lr", "seed", "acc"}
    assert [row["count"] for row in launcher.json("results", "test", "--over", "seed")["rows"]] == [
        2
    ]
    a_sweep("z")  # the option distinguishes the sweeps
    assert "name" in launcher.json("results", "test")["rows"][0]


def test_top_prints_the_first_rows_of_an_order_or_the_best_ones(
    launcher: Launcher, store: Store
) -> None:
    trainings(store)
    words = ("results", "test", "--columns", "accuracy", "--top", "2")
    assert launcher.well(*words, "--sort", "accuracy").out == "accuracy\n0.8\n0.82\n"
    assert launcher.well(*words, "--best", "accuracy").out == "accuracy\n0.97\n0.92\n"
    assert launcher.well(*words, "--best", "accuracy:low").out == "accuracy\n0.8\n0.82\n"
    many = launcher.well(*words[:-1], "99", "--sort", "-accuracy")
    assert many.out.splitlines()[1:] == ["0.97", "0.92", "0.9", "0.84", "0.82", "0.8"]
    a_result(store, name="command/equal", result={"accuracy": 0.92})
    equal = launcher.well(*words, "--best", "accuracy")
    assert equal.out == "accuracy\n0.97\n0.92\n0.92\n"  # neither of two equal rows is left out
    first = launcher.well(*words, "--sort", "-accuracy")
    assert first.out == "accuracy\n0.97\n0.92\n"
    note = (
        "note: 1 row that is not shown has the same accuracy as the last row. To print all: --top 3"
    )
    assert note in first.err
    for order in ("-accuracy,job", "accuracy"):  # neither a difference nor equal rows in front
        assert "the same" not in launcher.well(*words, "--sort", order).err


def test_rows_that_a_cut_leaves_out_are_counted_if_their_place_is_that_of_the_last_row() -> None:
    rows: list[Mapping[str, object]] = [
        {"acc": 0.9, "lr": 1}, {"acc": 0.9, "lr": 1}, {"acc": 0.9, "lr": 1.0},
        {"acc": 0.9, "lr": 2}, {"acc": 0.9, "lr": 3, TRIAL: PRUNED}, {"lr": 4}, {"lr": 4},
    ]  # fmt: skip
    results = RunResults(rows, ("lr", TRIAL))
    cases = (
        (["acc"], 1, 3), (["acc"], 4, 0), (["acc", "lr"], 1, 2), (["acc", "lr"], 3, 0),
        (["acc"], 6, 0), (["lr"], 6, 1), (["acc"], 9, 0),
    )  # fmt: skip
    for columns, most, equal in cases:
        assert count_equal(results, most, columns, "acc") == equal, (columns, most)


def test_texts_that_equal_as_numbers_are_different_settings(
    launcher: Launcher, store: Store
) -> None:
    ids = ("7", "007", "1e3", "1000", "1", "1.0", "12e4567", "5e999", "1e-4")
    for at, (text, seed) in enumerate((text, seed) for text in ids for seed in range(2)):
        argv = ("train.py", f"--id={text}", f"--seed={seed}")
        a_result(store, *argv, name=f"command/{at}", result={"loss": 1.0 + at // 2})
    rows = launcher.json("results", "test", "--over", "seed", "--sort", "id")["rows"]
    means = [(row["id"], row["count"], row["loss"]["value"]) for row in rows]
    assert [(str(value), count, loss) for value, count, loss in means] == [
        ("0.0001", 2, 9), ("1", 2, 5), ("1.0", 2, 6), ("7", 2, 1), ("007", 2, 2),
        ("1e3", 2, 3), ("1000", 2, 4), ("5e999", 2, 8), ("12e4567", 2, 7),
    ]  # fmt: skip
    assert [type(value) for value, _, _ in means[:5]] == [float, int, float, int, str]
    names = launcher("results", "test", "--over", "seed", "--metric", "loss").out
    assert "id=7 count=2\t1.0" in names
    assert "id=007 count=2\t2.0" in names


def test_rows_without_repetitions_are_explained(launcher: Launcher, store: Store) -> None:
    for seed in range(2):
        argv = ("train.py", f"--seed={seed}", f"--augment_seed={seed + 7}")
        a_result(store, *argv, name=f"command/{seed}", result={"accuracy": seed / 2})
    answer = launcher("results", "test", "--over", "seed", "--json")
    assert "no two of 2 rows differ only in seed" in answer.err
    assert "--over seed,augment_seed" in answer.err
    (row,) = launcher.json("results", "test", "--over", "seed,augment_seed")["rows"]
    assert row["accuracy"]["value"] == 0.25


def test_an_option_called_model_that_changes_with_the_seed_is_named(
    launcher: Launcher, store: Store
) -> None:
    for seed in range(2):
        argv = ("train.py", f"--seed={seed}", f"--model=m-{seed}.npz")
        a_result(store, *argv, name=f"command/{seed}", result={"accuracy": seed / 2})
    answer = launcher("results", "test", "--over", "seed", "--json")
    assert "Average over all: --over seed,model" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--over", "sed"), "the results have no column 'sed'. Did you mean 'seed'?"),
        (
            ("--over", "accuracy"),
            "'accuracy' is a result, and means are not taken over results. Columns",
        ),
        (("--best", "acuracy"), "the results have no metric 'acuracy'. Did you mean 'accuracy'?"),
        (("--best", "lr"), "the results have no metric 'lr'"),
        (("--best", "acuracy:max"), "the results have no metric 'acuracy'. Did you mean"),
        (("--best", "loss:maximize"), "Write --best loss:min or --best loss:max."),
        (("--best", ":max"), "--best :max: the metric is missing. Write --best acc:max."),
        (("--sort", "-los"), "the results have no column 'los'. Did you mean 'loss'?"),
        (("--columns", "lr,x"), "the results have no column 'x'"),
        (("--db", "x", "--sort", "lr"), "--db writes the whole run"),
        (("--top", "2"), "--top 2: no column to sort by. Add --sort -COLUMN"),
        (("--top", "2", "--over", "seed"), "--top 2: no column to sort by"),
        (("--top", "0", "--sort", "lr"), "--top: expected a whole number of at least 1, got '0'"),
        (("--top", "x", "--sort", "lr"), "--top: expected a whole number of at least 1, got 'x'"),
    ],
)
def test_unknown_column_is_an_error(
    launcher: Launcher, store: Store, words: tuple[str, ...], said: str
) -> None:
    trainings(store)
    assert said in launcher.refused("results", "test", *words)


def test_a_run_without_results_has_no_rows_to_choose(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec())
    assert "the run has no results yet" in launcher.refused("results", "test", "--sort", "lr")


def test_narrow_terminal_names_hidden_columns(store: Store) -> None:
    trainings(store)
    drawn = in_a_terminal("results", "test", "--sort", "-accuracy", columns=40)
    assert "command/0.01-2" in drawn.splitlines()[1]
    assert "not shown: " in drawn
    words = ("results", "test", "--format", "parquet")
    assert "--format parquet writes binary data" in in_a_terminal(*words, code=2)


def test_pipe_receives_all_returned_values_in_their_order(launcher: Launcher, store: Store) -> None:
    name = f"command/{'long' * 40}"
    result: dict[str, Json] = {"accuracy": {"value": 0.987654321, "low": 0.9, "high": 1.0}}
    result |= {f"epoch_{n}": float(n) for n in range(100)}
    a_result(store, "train.py", "--seed=1", name=name, result=result)
    head, row = launcher("results", "test").out.splitlines()
    assert head.startswith("job\tseed\taccuracy\taccuracy_low\taccuracy_high\tepoch_0\tepoch_1\t")
    assert row.startswith(f"{name}\t1\t0.987654321\t0.9\t1.0\t0.0\t1.0\t")
    drawn = in_a_terminal("results", "test", columns=80).splitlines()
    assert drawn[0].split()[:3] == ["job", "seed", "accuracy"]
    assert drawn[-1].startswith("not shown: epoch_")
    assert drawn[-1].endswith("more (--format csv prints all columns)")


def test_pattern_selects_rows_of_the_run(launcher: Launcher, store: Store) -> None:
    trainings(store)
    enqueue(store, "command/elsewhere", run="other")
    words = ("results", "test", "--columns", "job")
    assert launcher(*words, "0.1-0", "0.01-2").out == "job\ncommand/0.1-0\ncommand/0.01-2\n"
    assert launcher(*words, "*-2").out == "job\ncommand/0.1-2\ncommand/0.01-2\n"
    answer = launcher(*words, "elsewhere")
    assert (answer.code, answer.err) == (
        2,
        "error: no job of run 'test' matches elsewhere. List its jobs: launcher status run:test\n",
    )


def test_missing_results_explain_the_expected_output_of_programs(
    launcher: Launcher, store: Store
) -> None:
    with_results(store, {"command/silent": {}})
    answer = launcher.well("results", "test")
    assert answer.out == ""
    assert answer.err == (
        "no results yet. A program reports results when it prints `launcher: acc=0.91`, or `launcher: step=3 total=10 loss=0.2`"
        " while it runs.\n"
    )


def test_distinguishing_settings_follow_model_names_if_there_is_room() -> None:
    rows = [row | {"seed": at, "lr": 0.1} for at, row in enumerate(ROWS)]
    head = draw(rows, everything=True, width=160, parts=["seed", "lr"]).splitlines()[0].split()
    assert head[:5] == ["model", "data", "seed", "lr", "n"]
    narrow = draw(rows, everything=True, width=100, parts=["seed", "lr"])
    assert "seed" not in narrow
    assert narrow == draw(rows, everything=True, width=100)


@pytest.mark.parametrize(
    ("log", "numbers"),
    [
        ("launcher: step=1 loss=1\nlauncher: step=2 loss=.5 phase=end\n", {"loss": 0.5}),
        ("launcher: acc=0.91 f1=.9\n", {"acc": 0.91, "f1": 0.9}),
        ("launcher: step=2 loss=.5 acc=0\nINFO launcher: acc=.9\nbye\n", {"loss": 0.5, "acc": 0.9}),
        ("launcher: acc=.1\nlauncher: acc=.2\n", {"acc": 0.2}),
        (
            "launcher: step=1 val=.8\nlauncher: step=2 loss=1 val=.9\n" + "launcher: step=3 loss=.5\n" * 9999,
            {"loss": 0.5, "val": 0.9},
        ),
        (
            "train: 100%|█| 2/2 [00:01<00:00, 1.0it/s, loss=.3]\ntest: 100%|█| 1/1 [00:01<00:00, 1.0it/s, acc=.2]\n",
            {"acc": 0.2, "loss": 0.3, "read_from": "log"},
        ),
        (" 50%|█ | 1/2 [00:01<00:01, 1.0it/s, loss=.3]\nlauncher: acc=.2\n", {"acc": 0.2}),
        ("launcher: step=1 größe=3 loss=1\nlauncher: Précision=.5 acc=.9\n",
         {"größe": 3, "loss": 1, "Précision": 0.5, "acc": 0.9}),
        ("launcher: größe=3 acc=.9\n", {"größe": 3, "acc": 0.9}),
        ("launcher: acc is =x\nlauncher: step=x acc=y\nacc=.2\n", {"acc": 0.2, "read_from": "log"}),
        ("acc=.1\nlauncher: acc=.2", {"acc": 0.2}),
        ("epoch 1 loss=.5\nepoch 2 loss=.25\nsaved\n", {"loss": 0.25, "read_from": "log"}),
        ("lr=.1 batch=32\nloss=1\nloss=2, acc=50%.\n", {"loss": 2, "acc": 50, "read_from": "log"}),
        ("n=3\nloss=1\nloss=2\n{'acc'}: acc=.9)\n", {"loss": 2, "read_from": "log"}),
        ("\x1b[1mloss=\x1b[0m.5\r\n", {"loss": 0.5, "read_from": "log"}),
        ("loss=.5\nlauncher: acc=.9\n", {"acc": 0.9}),  # reports count alone
        (" 50%|█ | 1/2 [00:01<00:01, 1.0it/s, loss=.3]\nval=.4\n", {"loss": 0.3, "read_from": "log"}),
        ("seed=3 path=/tmp/x at=2026-11-27 loss=\n", None),
        ("x=" + "1" * 5000 + "\n" + "=" * 9999, None),
        ("done\n", None),
    ],
)  # fmt: skip
def test_last_reported_value_of_a_program_is_its_result(
    launcher: Launcher, store: Store, home: Home, log: str, numbers: dict[str, float] | None
) -> None:
    attempt = home.attempt(1, 1)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text(log)
    a_result(store, "train.py", result={})
    rows = launcher.json("results", "test")["rows"]
    assert rows == ([] if numbers is None else [{"job": "command/1"} | numbers])


def test_numbers_read_from_logs_are_averaged_and_counted_like_reports(
    launcher: Launcher, store: Store, home: Home
) -> None:
    for seed in range(3):
        attempt = home.attempt(seed + 1, 1)
        attempt.folder.mkdir(parents=True)
        attempt.log.write_text(f"seed={seed} loss=.5\nseed={seed} loss={seed}\n")
        spec = a_spec("python", "x.py", f"--seed={seed}", name=f"command/{seed}")
        (job,) = enqueue(store, spec)
        finished(store, job, Failed(at=2.0, error="no") if seed == 2 else Done(at=2.0))
    first, second = launcher.json("results", "test")["rows"]
    # a parameter that the program prints stays a parameter
    assert first == {"job": "command/0", "seed": 0, "loss": 0, "read_from": "log"}
    assert second["loss"] == 1
    (mean,) = launcher.json("results", "test", "--over", "seed")["rows"]
    assert (mean["count"], mean["count_note"]) == (2, "2 of 3 seeds, 1 failed")
    assert mean["read_from"] == "log"
    by_metric = launcher.well("results", "test", "--metric", "loss")
    assert "note: numbers of 2 of 2 jobs were read from the log\n" in by_metric.err


def test_last_reported_numbers_of_a_program_are_its_results(
    launcher: Launcher, store: Store, home: Home
) -> None:
    for seed in range(2):
        attempt = home.attempt(seed + 1, 1)
        attempt.folder.mkdir(parents=True)
        report = ProgressWriter(attempt.progress)
        for step in range(3):
            report(step=step + 1, total=3, loss=1 - step / 4 - seed / 8)
        a_result(store, "train.py", f"--seed={seed}", name=f"command/{seed}", result={})
    answer = launcher("results", "test", "--sort", "loss", "--columns", "seed,loss")
    assert answer.out == "seed\tloss\n1\t0.375\n0\t0.5\n"


def test_names_that_are_left_out_are_said(launcher: Launcher, store: Store) -> None:
    with_results(
        store,
        {"command/a": {"acc": 0.5, "left_out": ["speed", "lr"]}, "command/b": {"left_out": ["lr"]}},
    )
    answer = launcher.well("results", "test")
    assert answer.out == "job\tacc\ncommand/a\t0.5\n"
    assert answer.err == (
        "note: 2 printed names are left out of the results. To see why: launcher show JOB. "
        "To count one: launcher add --numbers NAME\n"
    )
    none = launcher.well("results", "test", "command/b").err.splitlines()
    assert none[0] == "no results yet"
    assert "their names are not names of results: lr. To count one: launcher add" in none[1]
    (row, *_) = launcher.json("results", "test")["rows"]
    assert row == {"job": "command/a", "acc": 0.5}


def test_done_job_that_returned_nothing_is_counted(launcher: Launcher, store: Store) -> None:
    with_results(store, {"command/a": {"acc": 0.5}, "command/b": {}}, argv=("python", "fit.py"))
    with_results(store, {"command/c": {}}, argv=("python", "download.py"))  # is not similar
    answer = launcher.well("results", "test")
    assert answer.err == "note: 1 of 3 jobs has no result: 1 done\n"
    assert launcher.json("results", "test")["counts"]["without_result"] == {"done": 1}


def test_command_that_repeats_the_best_job_gives_it_a_folder_if_it_had_one(store: Store) -> None:
    for argv, line in (
        (("fit", "--lr=1"), "fit --lr=1"),
        (("fit", "{job_folder}/m"), "launcher add -- fit '{job_folder}/m'"),
    ):
        spec = a_spec(*argv, name=f"command/{len(argv[1])}")
        (job,) = enqueue(store, spec)
        written = repeating_command(job_row(store, job), is_trial=False)
        assert written == f"to repeat the best job (job {job}): {line}"
