"""The table of the prototype: which code and which files the jobs of a project use that was edited while they waited."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from launcher.api import submit_program, wait
from launcher.frontends.screens.code_notes import code_change_notes, different_code_notes
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.store.queue import Store
from launcher.queue.store.queued_code import has_unrecorded_code
from tests.build import end_everything, until
from tests.launcher.snapshots.projects import edit, make_project


class Finished:
    """The project after its jobs, which were queued before it was edited."""

    def __init__(self, folder: Path, home: Home, jobs: Mapping[str, int]) -> None:
        self.folder, self.home, self.jobs = folder, home, jobs

    def read(self, name: str) -> str:
        """Return the content of a file of the project."""
        return (self.folder / name).read_text()

    def snapshots(self) -> list[Path]:
        """Return the copies of the code."""
        return [*self.home.snapshots.glob("*/project")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Queue jobs of all kinds, edit everything, and let them run."""
    folder = tmp_path_factory.mktemp("prototype") / "project"
    folder.mkdir()
    home = Home(folder.parent / "home")
    python = str(make_project(folder))
    for path in folder.glob("mypkg/*"):
        os.utime(path, (time.time() // 1, time.time() // 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(home.folder))
        patch.chdir(folder)
        make_home(home)
        lines = {
            "train": [python, "train.py", "configs/a.yaml"],
            "again": [python, "train.py", "configs/a.yaml"],
            "flat": [python, "tools/flat.py"],
            "tool": [".venv/bin/tool"],
            "module": [python, "-m", "mypkg.train"],
            "shell": ["bash", "run.sh"],
        }
        jobs = {
            name: submit_program(line, name=name, hold=True, snapshot=True).job
            for name, line in lines.items()
        }
        store = Store(home, durable=False)
        try:
            until(lambda: not has_unrecorded_code(store.database), "records")
            edit(folder)
            store.job_control.release(jobs.values(), time.time())
            wake(home)
            ensure_scheduler(home)
            states = wait([*jobs.values()], timeout=60, progress=False)
            logs = [home.attempt(job, 1).log.read_text() for job in jobs.values()]
            assert {*states.values()} == {"done"}, logs
            yield Finished(folder, home, jobs)
        finally:
            store.close()
            end_everything(home)


def test_script_and_local_package_are_old(finished: Finished) -> None:
    assert {line.split(",")[0] for line in finished.read("results.csv").split()} == {"old"}
    assert {line.split(",")[1] for line in finished.read("results.csv").split()} == {"old"}


def test_editable_package_below_src_is_old(finished: Finished) -> None:
    assert {line.split(",")[2] for line in finished.read("results.csv").split()} == {"old"}


def test_console_script_of_an_environment_in_the_tree_runs_old_code(finished: Finished) -> None:
    assert finished.read("tool.txt") == "old"


def test_flat_package_of_the_finder_of_setuptools_is_old(finished: Finished) -> None:
    assert finished.read("flat.txt") == "old"


def test_configuration_is_old_as_an_argument_and_named_in_the_code(finished: Finished) -> None:
    assert {tuple(line.split(",")[3:]) for line in finished.read("results.csv").split()} == {
        ("old", "old")
    }
    store = Store(finished.home, durable=False)
    rows = store.read.jobs_by_id(finished.jobs.values())
    try:
        until(lambda: bool(code_change_notes(store, rows)), "a note")
        found = code_change_notes(store, rows)
    finally:
        store.close()
    assert found == {finished.jobs["shell"]: "run.sh was changed after this job was queued"}


def test_results_of_all_jobs_are_in_the_original_file(finished: Finished) -> None:
    assert len(finished.read("results.csv").split()) == 2
    assert not [*finished.snapshots()[0].glob("**/results.csv")][1:]


def test_folder_that_did_not_exist_is_made_in_the_project(finished: Finished) -> None:
    assert finished.read("runs/out") == "x"


def test_folder_beside_the_script_is_made_in_the_project(finished: Finished) -> None:
    assert finished.read("runs2/out") == "42"
    (copy,) = finished.snapshots()
    assert not (copy / "runs2").exists()


def test_python_that_a_shell_script_starts_is_old(finished: Finished) -> None:
    assert finished.read("shell.txt") == "old"


def test_module_is_old(finished: Finished) -> None:
    assert finished.read("module.txt") == "old"


def test_jobs_with_equal_code_share_a_copy_that_tables_name(finished: Finished) -> None:
    (copy,) = finished.snapshots()
    store = Store(finished.home, durable=False)
    try:
        rows = store.read.jobs_by_id(finished.jobs.values())
        assert different_code_notes(store, rows) == [
            f"all jobs have the code of snapshot {copy.parent.name}"
        ]
    finally:
        store.close()
