"""The data of a run on the web page: its results, pictures, reports and folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.results.result_jobs import result_jobs
from launcher.experiments.results.table import RunResults
from launcher.frontends.web import run_data
from launcher.frontends.web.comparison import NUMBER, RUN, RunComparison, compare_runs
from launcher.frontends.web.results import FEW, MOST_ROWS, ResultTable, result_table
from launcher.frontends.web.run_data import read_runs
from launcher.frontends.web.run_filter import (
    SettingsIndex,
    canonical,
    matches,
    read_filter,
    unknown_settings,
)
from launcher.frontends.web.run_pictures import folders_of
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.listings import ListingQueries
from launcher.queue.store.queue import Store
from launcher.system.files import Json
from tests.build import a_spec, claimed, enqueue, job_row
from tests.launcher.queued_again import FAILED, a_seed, add, done
from tests.launcher.results.conftest import scored
from tests.launcher.results.scored_toys import SCORES
from tests.launcher.web.made_runs import a_png, a_training

__all__ = ["scored"]  # a fixture


def test_a_run_has_results_pictures_and_reports(home: Home, store: Store, scored: Path) -> None:
    (scored / "report.html").write_text('<svg viewBox="0 0 200 9"><title>ROC</title></svg>')
    (scored / "preview.png").write_bytes(a_png())
    data = read_runs(home, [1])
    assert len(data.comparison.results.rows) == 6 * 4
    assert [report.path for report in data.reports] == ["report.html"]
    assert [picture.path for picture in data.gallery.pictures] == ["preview.png"]
    assert data.error == ""


def test_error_of_a_plugin_package_is_reported(home: Home, store: Store, scored: Path) -> None:
    for file in scored.rglob(SCORES):
        file.write_text("{}")
    data = read_runs(home, [1])
    assert data.error.startswith("cannot read the results: KeyError")
    assert data.comparison.results.rows == ()


def test_run_with_too_many_jobs_names_the_command(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "MOST_JOBS", 1)
    for rate in (0.1, 0.2):
        a_training(store, tmp_path, "night", settings={"lr": rate}, result={"auc": rate})
    assert (
        "at most 1 jobs, but there are 2. To print their results: launcher results RUN"
        in read_runs(home, [1]).error
    )


def test_deleted_run_has_no_data(home: Home, store: Store) -> None:
    assert read_runs(home, [77]).comparison.results.rows == []


def test_folders_belong_to_a_run_and_its_jobs(home: Home, store: Store, tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs" / "night" / "net", tmp_path / "data"
    spec = a_spec(run="night", root=str(tmp_path), outputs=(str(inside), str(outside)))
    (number,) = enqueue(store, spec, run="night", root=tmp_path)
    assert folders_of(home, [job_row(store, number)]) == {
        "run": tmp_path / "runs" / "night",
        "output-1-1": outside,
    }
    claimed(store, number)
    folders = folders_of(home, [job_row(store, number)])
    assert folders["attempt-1"] == home.attempt(1, 1).folder


@pytest.mark.parametrize("name", ["../elsewhere", "..", "a/b"])
def test_run_name_that_is_a_path_has_no_folder(
    home: Home, store: Store, tmp_path: Path, name: str
) -> None:
    spec = a_spec(run=name, root=str(tmp_path))
    (number,) = enqueue(store, spec, run=name, root=tmp_path)
    assert folders_of(home, [job_row(store, number)]) == {}


COLUMNS = (RUN, "model", "lr", "data", "modifier", "pooled", NUMBER)


def a_row(model: str, data: str = "dot", *, lr: float = 0.1, **more: Any) -> dict[str, Any]:
    place = {"modifier": "pre", "pooled": False, NUMBER: 7}
    return {RUN: "night", "model": model, "lr": lr, "data": data, **place, **more}


def table(listed: Sequence[Mapping[str, Any]], **wish: Any) -> ResultTable:
    results = RunResults(rows=listed, columns=COLUMNS)
    return result_table(RunComparison(results=results, kinds={}), **wish)


def column(made: ResultTable, name: str) -> list[str]:
    at = [heading.name for heading in made.headings].index(name)
    return [row.cells[at].text for row in made.rows]


def best_cells(made: ResultTable) -> set[tuple[str, str]]:
    names = [heading.name for heading in made.headings]
    return {
        (names[at], cell.text)
        for row in made.rows
        for at, cell in enumerate(row.cells)
        if cell.best
    }


def test_columns_are_names_differing_settings_and_metrics() -> None:
    made = table([a_row("a", auc=0.5), a_row("b", auc=0.6)])
    assert [heading.name for heading in made.headings] == ["model", "auc"]
    assert made.data == "dot"
    assert column(made, "model") == ["a", "b"]
    assert [row.job for row in made.rows] == [7, 7]
    made = table([a_row("a", auc=0.5), a_row("a", lr=0.2, auc=0.6)])
    assert column(made, "lr") == ["0.1", "0.2"]


def test_best_value_per_dataset_is_marked_in_the_right_direction() -> None:
    rows = [
        a_row("a", auc=0.5, loss=0.3, n=4),
        a_row("b", auc=0.75, loss=0.5, n=5),
        a_row("a", "ring", auc=0.1, loss=0.9, n=6),
        a_row("b", "ring", auc=float("nan"), loss=0.9, n=7),
    ]
    assert best_cells(table(rows)) == {("auc", "0.75"), ("loss", "0.3")}
    rows = [
        a_row("a", acc=float("inf"), value=0.3, trial=None),
        a_row("b", acc=0.9, value=0.2, trial="pruned"),
        a_row("c", acc=0.7, value=0.1, trial=None),
        a_row("d", acc=0.6, value=0.4, trial=None),
    ]
    assert best_cells(table(rows)) == {("acc", "0.7")}


def test_rows_are_sorted_by_a_column_and_then_reversed() -> None:
    rows = [a_row("a", auc=0.5, loss=0.3), a_row("b", auc=0.75, loss=0.5), a_row("c", auc=0.6)]
    made = table(rows, sort="-auc")
    assert column(made, "model") == ["b", "c", "a"]
    heads = {heading.name: heading for heading in made.headings}
    assert (heads["auc"].order, heads["auc"].sort) == ("descending", "auc")
    assert (heads["loss"].order, heads["loss"].sort) == ("", "loss")
    assert column(table(rows, sort="loss"), "loss") == ["0.3", "0.5", "–"]
    assert column(table(rows, sort="nothing"), "model") == ["a", "b", "c"]


def test_pooled_rows_are_shown_first_and_separately() -> None:
    rows = [a_row("a", auc=0.5), a_row("a", "dot&ring", auc=0.6, pooled=True)]
    made = table(rows)
    assert (made.data, made.pooled, made.single) == ("pre", 1, 1)
    assert made.shows_pooled
    assert table(rows, single=True).data == "dot"
    both = table([*rows, a_row("a", "ring", auc=0.5)], single=True)
    assert column(both, "data") == ["dot", "ring"]
    assert (both.data, both.data_differs, both.intervals) == ("", True, False)


def test_metrics_with_intervals_come_first() -> None:
    many: dict[str, Any] = {f"m{number}": number / 7 for number in range(FEW + 3)}
    row = a_row("a", **many, auc={"value": 0.51234, "low": 0.412345, "high": 0.6})
    made = table([row])
    assert [heading.name for heading in made.headings if heading.numeric] == ["auc"]
    assert made.metrics_left == FEW + 3
    assert made.intervals
    (cell,) = [cell for cell in made.rows[0].cells if cell.numeric]
    assert (cell.text, cell.interval) == ("0.5123", "0.412 to 0.6")
    assert table([row], everything=True).metrics_left == 0


def test_long_table_is_cut() -> None:
    made = table([a_row(f"m{number}", auc=0.5) for number in range(MOST_ROWS + 3)])
    assert (len(made.rows), made.rows_left) == (MOST_ROWS, 3)


def test_no_results_give_an_empty_table() -> None:
    assert table([]).rows == ()


def test_each_row_has_its_run_and_job(home: Home, store: Store, scored: Path) -> None:
    jobs = store.read.jobs_of_runs_named("test")
    compared = compare_runs(home, store, [result_jobs(home, store, jobs)])
    names = {job.id: job.name for job in jobs}
    for row in compared.results.rows:
        assert row[RUN] == "test"
        maker = f"scoredtrain/{row['model']}"
        test = f"scoredtest/{row['model']}/{row['data']}"
        assert names[row[NUMBER]] == (maker if row["pooled"] else test)
    assert RUN not in compared.results.varying_columns


def test_runs_with_results_are_compared_by_differing_settings(
    home: Home, store: Store, tmp_path: Path
) -> None:
    a_training(store, tmp_path, "dusk", settings={"lr": 1, "depth": 3})
    dusk = result_jobs(home, store, store.read.jobs_of_runs_named("dusk"))
    assert compare_runs(home, store, [dusk]).results.rows == []
    for run, rate in (("night", 0.1), ("day", 0.2)):
        settings: dict[str, Json] = {"lr": rate, "depth": 3, "name": f"x{rate}"}
        a_training(store, tmp_path, run, settings=settings, result={"loss": rate * 2})
    runs = [
        result_jobs(home, store, store.read.jobs_of_runs_named(name)) for name in ("night", "day")
    ]
    results = compare_runs(home, store, [*runs, dusk]).results
    assert [(row[RUN], row["lr"], row["loss"]) for row in results.rows] == [
        ("night", 0.1, 0.2),
        ("day", 0.2, 0.4),
    ]
    assert "depth" not in results.names
    assert {RUN, "lr"} <= set(results.varying_columns)
    assert results.metrics == ["loss"]


def test_result_column_named_run_is_kept(home: Home, store: Store, tmp_path: Path) -> None:
    a_training(store, tmp_path, "night", settings={"lr": 1}, result={"run": 5})
    night = result_jobs(home, store, store.read.jobs_of_runs_named("night"))
    (row,) = compare_runs(home, store, [night]).results.rows
    assert (row[RUN], row["setting_run"]) == ("night", 5)


def test_table_shows_means_over_seeds_on_request(home: Home, store: Store) -> None:
    for seed, accuracy in ((1, 0.5), (2, 0.7)):
        done(store, home, a_seed(seed, name="a", lr=0.1), accuracy)
        add(store, a_seed(seed, name="b", lr=0.2), FAILED)
    add(store, a_seed(3, name="a", lr=0.1), FAILED)
    jobs = store.read.jobs_of_runs_named("fix")
    comparison = read_runs(home, [jobs[0].run_id]).comparison
    each, means = (result_table(comparison, means=means) for means in (False, True))
    assert (each.repeated, each.means, len(each.rows)) == (True, False, 2)
    assert (means.means, means.metrics_left) == (True, 0)
    assert [heading.name for heading in means.headings] == ["lr", "count", "acc"]
    assert column(means, "lr") == ["0.1", "0.2"]
    assert column(means, "count") == ["2 of 3 seeds, 1 failed", "0 of 2 seeds, 2 failed"]
    assert column(means, "acc") == ["0.6 ± 0.1414", "–"]
    assert means.rows[0].cells[-1].interval == ""
    assert means.rows[0].job is None
    assert not result_table(read_runs(home, []).comparison, means=True).means


def test_job_name_counts_once_per_run(home: Home, store: Store) -> None:
    first, again = (done(store, home, a_seed(6), value) for value in (0.1, 0.6))
    add(store, a_seed(7), FAILED)
    add(store, a_seed(7))
    (jobs,) = [store.read.jobs_of_runs_named("fix")]
    data = read_runs(home, [jobs[0].run_id])
    (row,) = data.comparison.results.rows
    assert (row[NUMBER], row["acc"], first) == (again, 0.6, 1)
    assert result_table(data.comparison).notes == ("1 of 2 jobs has no result: 1 waiting",)
    (record,) = ListingQueries(store.database).run_records([jobs[0].run_id])
    assert (record.jobs, record.replaced) == (2, 2)
    assert record.counts == {State.DONE: 1, State.QUEUED: 1}


SETTINGS = {"lr": {"0.1"}, "method": {"pgu", "npo"}, "seed": {"1", "2"}, "amp": {"true"}}


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("", True),
        ("lr=0.1", True),
        ("lr=1e-1 seed=2", True),
        ("lr=1e-1 method=PGU amp=True", True),
        ("lr=0.2", False),
        ("lr=0.1 seed=3", False),
        ("method=p*", True),
        ("night", True),
        ("nig* lr=0.1", True),
        ("nig", True),
        ("?ight?", True),
        ("day", False),
        ("n[a-z]ght1", True),
        ("depth=3", False),
        ("lr=", False),
        ("=3", False),
    ],
)
def test_run_matches_all_words_of_a_filter(text: str, listed: bool) -> None:
    assert matches(read_filter(text), "night1", SETTINGS) is listed


def test_filter_value_can_contain_an_equals_sign() -> None:
    assert read_filter("a=b=c").settings == (("a", "b=c"),)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.1, "0.1", "1e-1"), "0.1"),
        (("0.10",), "0.10"),
        (("007",), "007"),
        ((1234567890123, "1234567890123"), "1234567890123"),
        ((3, 3.0, "3"), "3"),
        ((True, "True", "true"), "true"),
        ((None,), "none"),
        (("PGU", "pgu"), "pgu"),
        (([1, "a"],), '[1, "a"]'),
        ((float("nan"), "nan"), "nan"),
        ((10**400,), str(10**400)),
    ],
)
def test_equal_values_have_the_same_canonical_text(values: tuple[object, ...], text: str) -> None:
    assert {canonical(value) for value in values} == {text}


def test_unknown_setting_names_the_nearest() -> None:
    (line,) = unknown_settings(read_filter("metod=pgu lr=1"), SETTINGS)
    assert "no job has a setting 'metod'. Did you mean 'method'?" in line


def queued(store: Store, *words: str, run: str = "night") -> None:
    spec = a_spec("train.py", *words, name=f"command/{'-'.join(words)}")
    enqueue(store, spec, run=run)


def test_settings_of_new_jobs_are_added_to_their_run(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    index = SettingsIndex(home)
    assert index.read()[1]["lr"] == {"0.1"}
    queued(store, "--lr=0.2", "--seed=3")
    queued(store, "--lr=0.3", run="day")
    runs = index.read()
    assert (runs[1]["lr"], runs[1]["seed"]) == ({"0.1", "0.2"}, {"3"})
    assert runs[2]["lr"] == {"0.3"}


def test_returned_settings_do_not_change_later(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    index = SettingsIndex(home)
    before = index.read()
    queued(store, "--lr=0.2")
    assert index.read()[1]["lr"] == {"0.1", "0.2"}
    assert before[1]["lr"] == {"0.1"}


def test_unreadable_spec_has_no_settings(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    store.database.execute("UPDATE jobs SET spec = '[not a spec'")
    assert SettingsIndex(home).read() == {1: {}}


def test_settings_of_changed_or_removed_jobs_are_dropped(home: Home, store: Store) -> None:
    queued(store, "--lr=0.1")
    queued(store, "--lr=0.2")
    queued(store, "--lr=0.3", run="day")
    index = SettingsIndex(home)
    index.read()
    store.database.execute("DELETE FROM jobs WHERE id = 1")
    store.database.execute("DELETE FROM jobs WHERE id = 3")
    assert {run: values["lr"] for run, values in index.read().items()} == {1: {"0.2"}}
    store.database.execute(
        "UPDATE jobs SET spec = replace(spec, '0.2', '0.5'), hash = 'another' WHERE id = 2"
    )
    assert index.read()[1]["lr"] == {"0.5"}


def test_model_data_and_kind_count_as_settings(home: Home, store: Store) -> None:
    spec = a_spec(
        name="train/net", kind="train", model="net:pre", data="real:pre", settings={"a": 1}
    )
    enqueue(store, spec, root=Path("/nowhere"))
    values = SettingsIndex(home).read()[1]
    assert values == {"kind": {"train"}, "model": {"net:pre"}, "data": {"real:pre"}, "a": {"1"}}
