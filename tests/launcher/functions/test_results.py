"""Results of a run in Python."""

import importlib.util
import json

import pytest

from launcher.api import UsageError, results, submit_many, wait
from launcher.functions.task_files import flat
from tests.launcher.conftest import Launcher

pytestmark = pytest.mark.usefixtures("one_queue", "queue")


def test_what_functions_returned_is_a_row_each() -> None:
    wait(submit_many(lambda lr: {"loss": 2 * lr, "nested": {"n": 1}}, [0.5, 1.0]))
    rows = results("functions", frame=False)
    assert [(row["job"], row["state"], row["lr"], row["loss"]) for row in rows] == [
        (1, "done", 0.5, 1.0),
        (2, "done", 1.0, 2.0),
    ]


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_where_pandas_is_installed_they_are_a_data_frame() -> None:
    wait(submit_many(abs, [-1, -2]))
    frame = results("functions")
    assert list(frame["value"]) == [1, 2]
    assert list(frame["name"]) == ["function/abs#1", "function/abs#2"]


def test_a_run_that_does_not_exist_is_refused() -> None:
    wait(submit_many(abs, [-1]))
    with pytest.raises(UsageError, match="no run 'nights'"):
        results("nights")


def test_a_number_with_an_interval_makes_three_columns() -> None:
    row = {"model": "a", "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "x": {"y": {"z": 1}}}
    assert flat(row) == {
        "model": "a",
        "accuracy": 0.9,
        "accuracy_low": 0.8,
        "accuracy_high": 0.95,
        "x.y.z": 1,
    }


@pytest.mark.usefixtures("alone")
def test_functions_have_means_over_an_argument(launcher: Launcher) -> None:
    wait(submit_many(lambda lr, seed: {"loss": 10 * lr + seed}, [0.1, 0.1, 0.2], [1, 3, 5]))
    answer = launcher("results", "functions", "--over", "seed", "--format", "json")
    rows = json.loads(answer.out)["rows"]
    assert [(row["lr"], row["loss"]["value"]) for row in rows] == [(0.1, 3.0), (0.2, 7.0)]
