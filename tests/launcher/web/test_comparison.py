from pathlib import Path

from launcher.store.queue import Store
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.web.results import NUMBER, RUN, compare
from tests.launcher.results.conftest import scored
from tests.launcher.web.made_runs import a_training

__all__ = ["scored"]  # a fixture


def test_each_row_has_its_run_and_its_job(home: Home, store: Store, scored: Path) -> None:
    jobs = store.read.of_run("test")
    compared = compare(home, store, [jobs])
    names = {job.id: job.name for job in jobs}
    for row in compared.results.rows:
        assert row[RUN] == "test"
        maker = f"scoredtrain/{row['model']}"
        test = f"scoredtest/{row['model']}/{row['data']}"
        assert names[row[NUMBER]] == (maker if row["pooled"] else test)
    assert RUN not in compared.results.varying


def test_runs_are_compared_by_the_settings_in_which_they_differ(
    home: Home, store: Store, tmp_path: Path
) -> None:
    for run, rate in (("night", 0.1), ("day", 0.2)):
        settings: dict[str, Json] = {"lr": rate, "depth": 3, "name": f"x{rate}"}
        a_training(store, tmp_path, run, settings=settings, result={"loss": rate * 2})
    runs = [store.read.of_run(name) for name in ("night", "day")]
    results = compare(home, store, runs).results
    assert [(row[RUN], row["lr"], row["loss"]) for row in results.rows] == [
        ("night", 0.1, 0.2),
        ("day", 0.2, 0.4),
    ]
    assert "depth" not in results.names
    assert {RUN, "lr"} <= set(results.varying)
    assert results.metrics == ["loss"]


def test_a_result_that_is_called_run_is_kept(home: Home, store: Store, tmp_path: Path) -> None:
    a_training(store, tmp_path, "night", settings={"lr": 1}, result={"run": 5})
    (row,) = compare(home, store, [store.read.of_run("night")]).results.rows
    assert (row[RUN], row["setting_run"]) == ("night", 5)


def test_a_run_without_results_has_no_rows(home: Home, store: Store, tmp_path: Path) -> None:
    a_training(store, tmp_path, "night", settings={"lr": 1})
    assert compare(home, store, [store.read.of_run("night")]).results.rows == []
