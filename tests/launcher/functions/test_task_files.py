"""Task files and plans into the queue from Python."""

from pathlib import Path

import pytest

from launcher.api import TaskFileError, UsageError, load, plan, results, submit, wait
from launcher.store.queue import Store
from launcher.system.paths import Home

TASK = """
name: two
command:
  - {name: first, argv: [echo, "1"]}
  - {name: second, argv: [echo, "2"]}
"""


@pytest.fixture
def task(queue: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task file in the working directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "two.yaml"
    file.write_text(TASK, encoding="utf-8")
    return file


def test_the_jobs_of_a_task_file_run_and_a_second_submission_finds_them_done(task: Path) -> None:
    run = submit(task)
    assert (run.name, run.queued, run.cached) == ("two", 2, 0)
    assert set(run.wait().values()) == {"done"}
    again = submit(str(task))
    assert (again.queued, again.cached, again.jobs) == (0, 2, run.jobs)
    assert len(results(run, frame=False)) == 2


def test_a_plan_is_submitted_into_its_own_folder(task: Path, tmp_path: Path) -> None:
    made = plan(load(task), root=tmp_path)
    run = submit(made)
    assert run.folder == tmp_path / "runs/two"
    assert set(wait(run).values()) == {"done"}
    with pytest.raises(UsageError, match="a plan is complete"):
        submit(made, settings=["name=other"])


def test_settings_are_stronger_than_the_file(task: Path) -> None:
    run = submit(task, settings=["name=other"])
    assert (run.name, set(run.wait().values())) == ("other", {"done"})


def test_what_is_wrong_with_a_task_file_is_told_and_nothing_is_queued(
    task: Path, store: Store
) -> None:
    task.write_text(TASK + "  - {nam: third}\n", encoding="utf-8")
    with pytest.raises(TaskFileError, match="nam"):
        submit(task)
    with pytest.raises(UsageError, match="no task file"):
        submit("absent.yaml")
    task.write_text(TASK, encoding="utf-8")
    with pytest.raises(UsageError, match="can never start here"):
        submit(task, settings=["resources.cpus=99999"])
    assert store.read.jobs() == []


def test_what_is_no_function_and_no_task_file_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="got int"):
        submit(3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="takes no arguments"):
        submit("a.yaml", 3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"unknown option 'cpus'.*resources\.cpus=4"):
        submit("a.yaml", cpus=3)  # type: ignore[call-overload]
