"""Rows of results: their columns, metrics, sweeps and models, and means over rows."""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.experiments.results.averages import average_over, mean_with_interval
from launcher.experiments.results.best import best_rows, rank_trials
from launcher.experiments.results.metric import Metric, read_metric
from launcher.experiments.results.metric_range import count_shares, range_of
from launcher.experiments.results.model_columns import ModelIndex, named_columns, swept_settings
from launcher.experiments.results.pivot import (
    Pivot,
    metric_names,
    metrics_of_result,
    metrics_of_rows,
    pivot,
)
from launcher.experiments.results.rows import results_of
from launcher.experiments.results.t_distribution import t_quantile
from launcher.experiments.results.table import AbsentRow, RunResults, sort_rows
from launcher.queue.jobs.job import Spec
from launcher.queue.store.queue import Store
from launcher.system.errors import UsageError
from tests.build import a_spec
from tests.launcher.toylab import Toy, TrainSettings, laboratory

SETTINGS = {"architecture": "model"}
ID_PARTS = {"training_data": "#", "poison": "%", "poison_kind": "%kind", "method": "~"}


def test_means_over_one_or_several_columns_keep_other_differing_columns(
    store: Store, scored: Path
) -> None:
    each = results_of(store.read.jobs_of_runs_named("test"))
    results = average_over(each, ["seed"], SETTINGS)
    rows = {(row["model"], row["data"]): row for row in results.rows}
    assert len(rows) == len(results.rows) == 2 * 4
    row = rows["line:pre@lr=0.2", "dot:pre"]
    assert row["goodness"]["value"] == pytest.approx(0.3)
    assert row["goodness"]["sd"] == pytest.approx(0.1)
    assert (row["count"], row["goodness"]["n"], row["n"]) == (3, 3, 10)
    assert (row["setting_lr"], row["architecture"]) == (0.2, "tiny")
    assert "seed" not in row
    results = average_over(each, ["seed", "setting_lr"], SETTINGS)
    row = next(row for row in results.rows if row["data"] == "dot:pre")
    assert (row["model"], row["count"]) == ("line:pre", 6)


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
def test_name_of_a_mean_omits_the_averaged_part_of_the_id(column: str, model: str) -> None:
    row = {"model": "dot:pre%f2r-20~pgu@lr=1", "data": "ring:pre", column: "", "pooled": False}
    results = RunResults(rows=[row], columns=("model", column, "data"))
    (mean,) = average_over(results, [column], ID_PARTS).rows
    assert (mean["model"], mean["count"]) == (model, 1)


def test_means_over_data_exclude_pooled_rows_and_over_a_condition_combine_its_tests(
    store: Store, scored: Path
) -> None:
    each = results_of(store.read.jobs_of_runs_named("test"))
    results = average_over(each, ["data"], SETTINGS)
    counts = {(row["model"], row["condition"]): row["count"] for row in results.rows}
    assert counts["line:pre@lr=0.1,seed=0", ""] == 2
    assert counts["line:pre@lr=0.1,seed=0", "tilt=3"] == 1
    assert len(counts) == 12
    results = average_over(each, ["tilt"], SETTINGS)
    row = next(row for row in results.rows if row["data"] == "dot:pre")
    assert (row["count"], row["condition"]) == (2, "")


def test_the_calls_for_means_grow_in_proportion_to_the_jobs() -> None:
    def calls(number: int) -> int:
        counter: Counter[str] = Counter()
        rows = [{"job": f"a{lr}", "lr": lr, "seed": 1, "acc": 0.5} for lr in range(number)]
        absent = [AbsentRow({**row, "seed": 2}, "failed") for row in rows]
        results = RunResults(rows=rows, columns=("job", "lr", "seed"), absent=absent)
        sys.setprofile(lambda _frame, event, _argument: counter.update([event]))
        try:
            means = average_over(results, ["seed"], SETTINGS).rows
        finally:
            sys.setprofile(None)
        assert {row["count_note"] for row in means} == {"1 of 2 seeds, 1 failed"}
        return counter["call"]

    assert calls(80) < 3 * calls(40)


@pytest.mark.parametrize(
    ("metric", "values", "limits"),
    [
        ("auc", [0.5, 1], (0.0, 1.0)),
        ("val_acc", [0.5], (0.0, 1.0)),
        ("balancedAccuracy", [91.0, 0.5], (0.0, 100.0)),
        ("test/f1", [-0.1], None),
        ("acc", [120.0], None),
        ("dice_loss", [0.5], None),
        ("loss", [0.5], None),
        ("recall_gain", [0.5], None),
    ],
)
def test_range_of_a_metric(
    metric: str, values: list[float], limits: tuple[float, float] | None
) -> None:
    assert range_of(metric, values) == limits


@pytest.mark.parametrize(
    ("metric", "values", "shares"),
    [
        ("acc", [91.0, 0.95, 92.5, math.inf, math.nan], 1),
        ("val_auc", [1.0, 50.0], 0),
        ("acc", [0.91, 0.95, 0.0], 0),
        ("acc", [91.0, 0.0, 95], 0),
        ("acc", [math.inf, math.nan], 0),
        ("eer", [0.5, 3.0], 0),  # both may be in per cent
        ("loss", [0.5, 3.0], 0),
        ("acc", [0.5, 120.0], 0),
    ],
)
def test_shares_among_percentages_are_counted(
    metric: str, values: list[float], shares: int
) -> None:
    assert count_shares(metric, values) == shares


def test_trials_that_are_not_complete_stand_behind_the_others() -> None:
    lacking = {"value": 0.99, "n": 1, "expected": 3, "note": "1 of 3 seeds, 2 failed"}
    rows: list[dict[str, Any]] = [
        {"x": 1, "trial": "pruned", "acc": 0.9},
        {"x": 2, "trial": None, "acc": math.inf},
        {"x": 3, "trial": "incomplete", "acc": None},
        {"x": 4, "trial": "incomplete", "acc": lacking},
        {"x": 5, "trial": None, "acc": 0.5},
        {"x": 6, "trial": "incomplete", "acc": 0.7},
        {"x": 7, "trial": None, "acc": 0.6},
    ]
    results = RunResults(rows=rows, columns=("x", "trial"))
    assert [row["x"] for row in rank_trials(results, "acc").rows] == [5, 7, 4, 6, 1, 2, 3]
    best = best_rows(results, "acc", low=False, most=5, are_trials=True)
    assert [row["x"] for row in best.results.rows] == [7, 5, 4, 6, 1]
    assert best.notes("acc") == [
        "1 row was left out of the best: 1 has no finite acc",
        "3 rows follow the best ones: 1 is a pruned trial, 1 has a failed or missing value, "
        "1 is an incomplete trial",
    ]
    none = best_rows(results._replace(rows=rows[:1]), "acc", low=False, most=2, are_trials=True)
    assert (len(none.results.rows), none.best) == (1, None)
    text = {"x": 8, "trial": None, "acc": "0.99"}  # a function returned it
    assert best_rows(results._replace(rows=[rows[4], text]), "acc", low=False).notes("acc") == [
        "1 row was left out of the best: 1 has no finite acc"
    ]


def test_best_model_is_kept_per_data_set(store: Store, scored: Path) -> None:
    every = results_of(store.read.jobs_of_runs_named("test"))
    results = best_rows(every, "goodness", low=False).results
    assert {row["model"] for row in results.rows} == {"line:pre@lr=0.2,seed=2"}
    assert len(results.rows) == 4
    worst = best_rows(results, "badness", low=False).results
    assert len(worst.rows) == 4
    with pytest.raises(UsageError, match="no metric 'lr'"):
        best_rows(results, "lr", low=True)


def test_rows_without_a_value_are_sorted_last_in_both_orders(store: Store, scored: Path) -> None:
    results = results_of(store.read.jobs_of_runs_named("test"))
    for column in ("tilt", "-tilt"):
        values = [row["tilt"] for row in sort_rows(results, [column]).rows]
        assert values == [3] * 12 + [None] * 12
    names = [row["model"] for row in sort_rows(results, ["-goodness", "model"]).rows]
    assert names[0] == "line:pre@lr=0.2,seed=2"


ROWS = metrics_of_rows(
    [
        {"model": "m", "data": "a", "pooled": False, "n": 5, "eer": {"value": 0.1}},
        {"model": "m", "data": "a&b", "pooled": True, "n": 9, "eer": {"value": 0.2}},
        {"model": "k", "data": "b", "pooled": False, "n": 4, "eer": None, "verdict": "chance"},
    ]
)


def values(found: Pivot) -> dict[tuple[str, str], float]:
    return {place: metric.value for place, metric in found.cells.items()}


@pytest.mark.parametrize(
    ("told", "metric"),
    [
        (3, Metric(value=3)),
        (0.5, Metric(value=0.5)),
        ({"value": 1, "low": 0.5, "high": 2}, Metric(value=1, low=0.5, high=2)),
        ({"value": 1.0, "low": None, "high": None}, Metric(value=1.0)),
        (True, None),
        ("3", None),
        (None, None),
        ([1], None),
        ({"value": "much"}, None),
        ({"value": 1, "unit": "s"}, None),
    ],
)
def test_metric_is_a_number_with_an_optional_interval(told: object, metric: Metric | None) -> None:
    assert read_metric(told) == metric


def test_metric_is_printed_with_its_interval() -> None:
    assert str(Metric(value=0.123456)) == "0.1235"
    assert str(Metric(value=600)) == "600"
    assert str(Metric(value=0.5, low=0.41, high=0.59)) == "0.5 (0.41 to 0.59)"


def test_pooled_rows_are_in_a_pivot_only_on_request_or_alone() -> None:
    assert values(pivot("n", ROWS, [])) == {("m", "a"): 5, ("k", "b"): 4}
    assert values(pivot("n", ROWS, [], everything=True))[("m", "a&b")] == 9
    assert values(pivot("n", [ROWS[1]], [])) == {("m", "a&b"): 9}


def test_pivot_keeps_the_order_of_the_run_and_empty_cells() -> None:
    found = pivot("n", ROWS, [])
    assert (found.names, found.data) == (("m", "k"), ("a", "b"))
    assert [[one and one.value for one in row] for _, row in found.rows()] == [[5, None], [None, 4]]


def test_returned_metric_is_found_without_a_table() -> None:
    jobs = [
        metrics_of_result("train/m", "m", "", {"epochs": 3, "loss": {"first": 2.0, "last": 0.5}}),
        metrics_of_result("command/prep", "", "", {"rows": 7, "n": 99, "note": "fine"}),
    ]
    assert metric_names([*ROWS, *jobs]) == ["n", "eer", "epochs", "loss.first", "loss.last", "rows"]
    assert values(pivot("loss.last", ROWS, jobs)) == {("m", "loss.last"): 0.5}
    assert values(pivot("rows", ROWS, jobs)) == {("command/prep", "rows"): 7}
    assert ("command/prep", "n") not in pivot("n", ROWS, jobs).cells


def test_jobs_of_the_same_model_have_separate_rows() -> None:
    jobs = [metrics_of_result(name, "m", "a", {"s": at}) for at, name in enumerate(("x/m", "y/m"))]
    assert values(pivot("s", [], jobs)) == {("x/m", "a"): 0, ("y/m", "a"): 1}


def test_unknown_metric_is_refused_with_the_nearest_and_known_names() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'eer'\? \(known: n, eer\)"):
        pivot("err", ROWS, [])
    with pytest.raises(UsageError, match="no job of the run has reported a number"):
        pivot("eer", [], [])


class NamedSettings(TrainSettings):
    """A toy training whose network has a column of its own."""

    columns: ClassVar[dict[str, str]] = {"architecture": "model"}


TRAIN = laboratory()["train"]
assert isinstance(TRAIN, Toy)
NAMED = Toy(name="train", role=TRAIN.role, entry="", settings=NamedSettings)
KINDS = {**laboratory(), "train": NAMED}


def training(model: str, base: str | None = None, /, **settings: Any) -> Spec:
    return a_spec(
        name=f"train/{model}", kind="train", role="train", model=model, base=base, settings=settings
    )


def unlearning(model: str, base: str, /, **settings: Any) -> Spec:
    return a_spec(
        name=f"unlearn/{model}",
        kind="unlearn",
        role="unlearn",
        model=model,
        base=base,
        settings=settings,
    )


def test_model_columns_come_from_its_id_and_settings() -> None:
    models = ModelIndex(
        [
            training("dot:pre%f2r-20@lr=0.1,seed=1", model="tiny", lr=0.1, seed=1),
            training("dot:pre%f2r-20@lr=0.2,seed=1", model="tiny", lr=0.2, seed=1),
            unlearning(
                "dot:pre%f2r-20~pgu@lr=0.2,seed=1", "dot:pre%f2r-20@lr=0.2,seed=1", method="pgu"
            ),
        ],
        KINDS,
    )
    assert models.swept == ("lr",)
    assert models.columns("dot:pre%f2r-20~pgu@lr=0.2,seed=1") == {
        "architecture": "tiny",
        "training_data": "dot:pre",
        "poison": 20.0,
        "poison_kind": "f2r",
        "method": "pgu",
        "seed": 1,
        "lr": 0.2,
    }


def test_changed_labels_of_a_named_model_have_a_column_if_a_job_names_one() -> None:
    columns = {**Toy.model_columns, "teacher_poison": "teacher%"}

    class Distilling(Toy):
        model_columns = columns

        def recorded_labels(
            self, folder: Path, settings: Mapping[str, Any], name: str
        ) -> float | None:
            return 30.0 if (folder.name, settings[name]) == ("w:pre", "flipped.pt") else None

    kinds = {
        **KINDS,
        "train": Distilling(name="train", role=NAMED.role, entry="", settings=TrainSettings),
    }
    specs = [
        training("a:pre%40", teacher=""),
        training("s:pre%10", teacher="a:pre%40"),
        training("s:pre%10#t:pre", "s:pre%10", teacher=""),
        training("u:pre", teacher="s:pre"),
        training("s:pre", teacher="a:pre%40"),
        training("v:pre", teacher="best.pt"),
        training("w:pre", teacher="flipped.pt"),
        training("z:pre", teacher="w:pre"),
        training("x:pre", teacher="y:pre"),
        training("y:pre", teacher="x:pre"),
    ]
    models = ModelIndex(specs, kinds)
    known = {str(spec.model): models.columns(str(spec.model)) for spec in specs}
    assert {model: row["teacher_poison"] for model, row in known.items()} == {
        "a:pre%40": None,
        "s:pre%10": 40.0,
        "s:pre%10#t:pre": 40.0,
        "u:pre": 40.0,
        "s:pre": 40.0,
        "v:pre": None,
        "w:pre": 30.0,
        "z:pre": 30.0,
        "x:pre": 0.0,
        "y:pre": 0.0,
    }
    assert known["s:pre%10"]["poison"] == 10.0
    assert named_columns(kinds.values()) == ["teacher_poison"]
    assert "teacher_poison" in models.parts
    assert "teacher_poison" not in ModelIndex(specs[:1], kinds).parts


def test_fine_tuned_model_has_all_stages_and_the_last_settings() -> None:
    base, model = "dot:pre", "dot:pre#ring:fb"
    models = ModelIndex(
        [training(base, model="tiny", lr=0.1), training(model, base, model="", lr=0.01)], KINDS
    )
    columns = models.columns(model)
    assert columns["training_data"] == "dot:pre#ring:fb"
    assert (columns["architecture"], columns["lr"]) == ("tiny", 0.01)
    assert (columns["poison"], columns["method"]) == (0.0, "train")


def test_external_model_without_an_id_has_no_columns() -> None:
    columns = ModelIndex([], KINDS).columns("my old model")
    assert set(columns.values()) == {None}


def test_cycle_of_base_models_terminates() -> None:
    models = ModelIndex([training("a:b", "c:d", lr=1), training("c:d", "a:b", lr=2)], KINDS)
    assert models.columns("a:b")["lr"] == 1


def test_swept_settings_are_those_that_differ_and_affect_results() -> None:
    jobs = [
        a_spec(kind="train", settings={"lr": lr, "epochs": 3, "threads": threads})
        for lr, threads in ((0.1, 1), (0.2, 2), (0.1, 3))
    ]
    jobs += [a_spec(kind="test", settings={"crops": 1, "lr": 7})]
    assert swept_settings(jobs, laboratory()) == {"train": ("lr",), "test": ()}


# Fisher and Yates, Statistical Tables, two-sided 5 %
TABLE = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    9: 2.262,
    10: 2.228,
    30: 2.042,
    120: 1.980,
}


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom, 0.95) == pytest.approx(quantile, abs=6e-4)


@given(freedom=st.integers(1, 400), confidence=st.floats(0.01, 0.999))
def test_quantiles_are_those_of_scipy(freedom: int, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert t_quantile(freedom, confidence) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ((0.5, math.nan), math.nan),
        ((0.5, math.inf), math.inf),
        ((math.inf, -math.inf), math.nan),
        ((1e308, 1.5e308), 1.25e308),
        ((1.7e308, -1.7e308), 0.0),
    ],
)
def test_mean_of_numbers_that_are_not_finite_or_too_large_has_no_deviation(
    values: tuple[float, float], mean: float
) -> None:
    result = mean_with_interval(values)
    assert str(result.value) == str(mean)
    assert (result.low, result.high, result.sd, result.n) == (None, None, None, 2)
