"""`launcher add --replace`, and the command line of a job to copy."""

import subprocess
from pathlib import Path

import pytest

from launcher.states import State
from launcher.store.queue import Store
from tests.build import in_state, job_row, until
from tests.launcher.conftest import Launcher


def test_a_waiting_job_is_replaced_where_it_stands(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "prep", "--hold", "--priority", "2", "--", "false")
    launcher("add", "--name", "next", "--after", "prep", "--", "true")
    launcher("tag", "prep", "+paper")
    before = job_row(store, 1)
    answer = launcher("add", "--replace", "--name", "prep", "--retries", "1", "--", "true", "x")
    assert (answer.code, answer.out) == (0, "1\tcommand/prep\n"), answer
    row = job_row(store, 1)
    assert (row.spec.argv, row.spec.terms.retries, row.priority) == (("true", "x"), 1, 0)
    assert (row.state, row.submitted) == (State.HELD, before.submitted)
    assert store.steering.tags_of([1]) == {1: ["paper"]}
    assert job_row(store, 2).waits == 1
    launcher("release", "prep")
    until(lambda: in_state(store, 2, State.DONE), "what waits for it is done")


def test_a_name_without_a_waiting_job_is_queued_as_ever(launcher: Launcher, store: Store) -> None:
    assert launcher("add", "--replace", "--name", "mine", "--", "true").out == "1\tcommand/mine\n"
    until(lambda: in_state(store, 1, State.DONE), "it is done")
    assert launcher("add", "--replace", "--name", "mine", "--", "true").out == "2\tcommand/mine\n"
    assert launcher("add", "--replace", "--", "true").code == 2


def test_a_running_job_is_not_replaced(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "mine", "--", "sleep", "300")
    until(lambda: in_state(store, 1, State.RUNNING), "it runs")
    answer = launcher("add", "--replace", "--name", "mine", "--", "true")
    assert (answer.code, "which is running" in answer.err) == (2, True)


def test_a_job_cannot_come_to_wait_for_what_waits_for_it(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "a", "--hold", "--", "true")
    launcher("add", "--name", "b", "--after", "a", "--", "true")
    launcher("add", "--name", "c", "--after-any", "b", "--", "true")
    for last in ("c", "b"):
        answer = launcher("add", "--replace", "--name", "a", "--after", last, "--", "true")
        assert (answer.code, "which waits for it" in answer.err) == (2, True), answer
    assert (
        "cannot wait for itself"
        in launcher("add", "--replace", "--name", "a", "--after-any", "a", "--", "true").err
    )
    assert store.read.needs_of(1) == []


def test_a_command_line_to_copy_does_the_same(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    launcher("add", "--hold", "--", "sh", "-c", 'printf "%s|" "$PWD" "$@"', "sh", "a b", "it's\n$x")
    line = launcher("show", "1", "--command").out
    assert line.count("\n") == 1
    printed = subprocess.run(["bash", "-c", line], cwd="/", capture_output=True, check=True).stdout
    assert printed.decode() == f"{folder}|a b|it's\n$x|"
    assert launcher("show", "1", "--command", "--json").code == 2


def test_the_environment_may_ask_for_it(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher("add", "--name", "prep", "--hold", "--", "false")
    monkeypatch.setenv("LAUNCHER_ADD_REPLACE", "1")
    answer = launcher("add", "--name", "prep", "--hold", "--", "true")
    assert (answer.out, job_row(store, 1).spec.argv) == ("1\tcommand/prep\n", ("true",)), answer
