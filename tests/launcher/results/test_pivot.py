import pytest

from launcher.errors import UsageError
from launcher.results.table import (
    Metric,
    Pivot,
    metric_names,
    of_result,
    of_rows,
    pivot,
    read_metric,
)

ROWS = of_rows(
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
def test_a_metric_is_a_number_alone_or_with_an_interval(
    told: object, metric: Metric | None
) -> None:
    assert read_metric(told) == metric


def test_a_metric_is_drawn_with_its_interval_where_it_has_one() -> None:
    assert str(Metric(value=0.123456)) == "0.1235"
    assert str(Metric(value=600)) == "600"
    assert str(Metric(value=0.5, low=0.41, high=0.59)) == "0.5 [0.41, 0.59]"


def test_what_pools_others_stands_in_a_pivot_only_when_asked_for_or_alone() -> None:
    assert values(pivot("n", ROWS, [])) == {("m", "a"): 5, ("k", "b"): 4}
    assert values(pivot("n", ROWS, [], everything=True))[("m", "a&b")] == 9
    assert values(pivot("n", [ROWS[1]], [])) == {("m", "a&b"): 9}


def test_a_pivot_keeps_the_order_of_the_run_and_leaves_places_empty() -> None:
    found = pivot("n", ROWS, [])
    assert (found.names, found.data) == (("m", "k"), ("a", "b"))
    assert [[one and one.value for one in row] for _, row in found.rows()] == [[5, None], [None, 4]]


def test_what_a_job_returned_is_known_where_no_table_knows_it() -> None:
    jobs = [
        of_result("train/m", "m", "", {"epochs": 3, "loss": {"first": 2.0, "last": 0.5}}),
        of_result("command/prep", "", "", {"rows": 7, "n": 99, "note": "fine"}),
    ]
    assert metric_names([*ROWS, *jobs]) == ["n", "eer", "epochs", "loss.first", "loss.last", "rows"]
    assert values(pivot("loss.last", ROWS, jobs)) == {("m", "loss.last"): 0.5}
    assert values(pivot("rows", ROWS, jobs)) == {("command/prep", "rows"): 7}
    assert ("command/prep", "n") not in pivot("n", ROWS, jobs).cells


def test_jobs_of_one_model_stand_for_themselves() -> None:
    jobs = [of_result(name, "m", "a", {"s": at}) for at, name in enumerate(("x/m", "y/m"))]
    assert values(pivot("s", [], jobs)) == {("x/m", "a"): 0, ("y/m", "a"): 1}


def test_an_unknown_metric_names_the_nearest_and_all_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'eer'\? \(known: n, eer\)"):
        pivot("err", ROWS, [])
    with pytest.raises(UsageError, match="no job of the run has returned a number"):
        pivot("eer", [], [])
