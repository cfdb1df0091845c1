from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.results.over import over
from launcher.results.rows import results_of
from launcher.results.table import RunResults, best, in_order
from launcher.store.queue import Store

SETTINGS = {"architecture": "model"}
ID_PARTS = {"training_data": "#", "poison": "%", "poison_kind": "%kind", "method": "~"}


def test_rows_have_the_parts_of_their_models_and_what_the_models_differ_in(
    store: Store, scored: Path
) -> None:
    jobs = store.read.of_run("test")
    results = results_of(jobs)
    row = next(row for row in results.rows if row["model"].endswith("lr=0.2,seed=1"))
    assert {name: row[name] for name in results.columns if name in row} == {
        "model": "line:pre@lr=0.2,seed=1",
        "architecture": "tiny",
        "training_data": "line:pre",
        "poison": 0.0,
        "poison_kind": None,
        "method": "train",
        "seed": 1,
        "setting_lr": 0.2,  # the laboratory has a column lr of its own
        "data": "dot:pre",
        "modifier": "pre",
        "condition": "",
        "pooled": False,
        "tilt": None,
    }
    assert row["lr"] == "a word that is no setting"
    (under, *_) = [row for row in results.rows if row["condition"] and not row["pooled"]]
    assert under["tilt"] == 3


def test_means_over_seeds_keep_what_else_models_differ_in(store: Store, scored: Path) -> None:
    results = over(results_of(store.read.of_run("test")), ["seed"], SETTINGS)
    rows = {(row["model"], row["data"]): row for row in results.rows}
    assert len(rows) == len(results.rows) == 2 * 4
    row = rows["line:pre@lr=0.2", "dot:pre"]
    assert row["goodness"]["value"] == pytest.approx(0.3)
    assert row["goodness"]["sd"] == pytest.approx(0.1)
    assert (row["count"], row["goodness"]["n"], row["n"]) == (3, 3, 10)
    assert (row["setting_lr"], row["architecture"]) == (0.2, "tiny")
    assert "seed" not in row


@pytest.mark.parametrize(
    ("column", "model"),
    [
        ("training_data", "*%f2r-20~pgu@lr=1"),
        ("poison", "dot:pre~pgu@lr=1"),
        ("poison_kind", "dot:pre~pgu@lr=1"),
        ("method", "dot:pre%f2r-20@lr=1"),
        ("lr", "dot:pre%f2r-20~pgu"),
    ],
)
def test_the_name_of_a_mean_has_not_what_its_column_shows_of_an_id(column: str, model: str) -> None:
    row = {"model": "dot:pre%f2r-20~pgu@lr=1", "data": "ring:pre", column: "", "pooled": False}
    results = RunResults(rows=[row], columns=("model", column, "data"))
    (mean,) = over(results, [column], ID_PARTS).rows
    assert (mean["model"], mean["count"]) == (model, 1)


def test_means_over_data_leave_out_what_is_pooled_already(store: Store, scored: Path) -> None:
    results = over(results_of(store.read.of_run("test")), ["data"], SETTINGS)
    counts = {(row["model"], row["condition"]): row["count"] for row in results.rows}
    assert counts["line:pre@lr=0.1,seed=0", ""] == 2
    assert counts["line:pre@lr=0.1,seed=0", "tilt=3"] == 1
    assert len(counts) == 12


def test_means_over_a_condition_take_its_tests_together(store: Store, scored: Path) -> None:
    results = over(results_of(store.read.of_run("test")), ["tilt"], SETTINGS)
    row = next(row for row in results.rows if row["data"] == "dot:pre")
    assert (row["count"], row["condition"]) == (2, "")


def test_means_over_several_columns_are_one_row_each(store: Store, scored: Path) -> None:
    results = over(results_of(store.read.of_run("test")), ["seed", "setting_lr"], SETTINGS)
    row = next(row for row in results.rows if row["data"] == "dot:pre")
    assert (row["model"], row["count"]) == ("line:pre", 6)


def test_of_each_set_of_data_the_best_model_stays(store: Store, scored: Path) -> None:
    results = best(results_of(store.read.of_run("test")), "goodness", low=False)
    assert {row["model"] for row in results.rows} == {"line:pre@lr=0.2,seed=2"}
    assert len(results.rows) == 4
    worst = best(results, "badness", low=False)
    assert len(worst.rows) == 4
    with pytest.raises(UsageError, match="no metric 'lr'"):
        best(results, "lr", low=True)


def test_rows_without_a_value_come_last_in_either_order(store: Store, scored: Path) -> None:
    results = results_of(store.read.of_run("test"))
    for column in ("tilt", "-tilt"):
        values = [row["tilt"] for row in in_order(results, [column]).rows]
        assert values == [3] * 12 + [None] * 12
    names = [row["model"] for row in in_order(results, ["-goodness", "model"]).rows]
    assert names[0] == "line:pre@lr=0.2,seed=2"
