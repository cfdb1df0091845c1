"""Options of jobs that a task file gives, on their way into the queue."""

import json
from pathlib import Path

import pytest

from launcher.job import Terms
from launcher.states import State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import job_row
from tests.launcher.conftest import Launcher

OPTIONS = (
    "group: night, not_before: +2h, time_limit: 8h, warn: 5m, signal: USR1, retries: 3, "
    "backoff: 1m, grace: 2m, rerun: never, priority: 4"
)


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    entry = f"{{name: a, argv: ['true'], resources: {{{OPTIONS}}}}}"
    Path("study.yaml").write_text(f"name: study\ncommand: [{entry}]\n")
    return "study.yaml"


def test_a_task_file_queues_its_jobs_on_the_terms_that_it_gives(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "night", "--limit", "2")
    answer = launcher("run", task_file, "--detach")
    assert answer.code == 0, answer.err
    row = job_row(store, 1)
    assert (row.state, row.priority) == (State.QUEUED, 4)
    assert row.starts_at is not None
    assert row.starts_at - row.submitted == pytest.approx(7200.0, abs=60.0)
    assert row.spec.terms == Terms(
        group="night",
        not_before=row.starts_at,
        retries=3,
        backoff_s=60.0,
        time_limit_s=28_800.0,
        warn_s=300.0,
        warn_signal="SIGUSR1",
        rerun="never",
        grace_s=120.0,
    )


def test_a_group_of_a_task_file_that_is_not_there_is_refused_as_launcher_add_does(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "nights", "--limit", "2")
    message = "is no group 'night'; did you mean 'nights'? `launcher group night --limit N` makes"
    dry = launcher("run", task_file, "--dry-run")
    assert (dry.code, message in " ".join(dry.out.split())) == (2, True)
    told = json.loads(launcher("run", task_file, "--dry-run", "--json").out)
    assert message in told["refusals"][0]
    answer = launcher("run", task_file, "--detach")
    assert (answer.code, message in answer.err) == (2, True)
    assert store.read.jobs() == []


def test_a_job_that_starts_later_is_not_among_the_first(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "night", "--limit", "2")
    told = json.loads(launcher("run", task_file, "--dry-run", "--json").out)
    assert told["first_wave"]["starts"] == []
    now = json.loads(
        launcher("run", task_file, "--dry-run", "--json", "--set", "resources.not_before=+0s").out
    )
    assert [start["jobs"] for start in now["first_wave"]["starts"]] == [1]
    assert store.read.jobs() == []


def test_a_run_lets_another_policy_decide_from_then_on_and_one_that_is_refused_does_not(
    home: Home, launcher: Launcher, store: Store, task_file: str
) -> None:
    words = ("run", task_file, "--detach", "--policy", "easy")
    assert launcher(*words).code == 2, "there is no such group"
    assert not home.policy.exists()
    launcher("group", "night", "--limit", "2")
    listed = launcher("run", task_file, "--dry-run", "--policy", "easy")
    assert f"launcher run {task_file} --policy easy" in listed.out
    assert not home.policy.exists()
    answer = launcher(*words)
    assert (answer.code, len(store.read.jobs())) == (0, 1)
    assert "policy easy decides: EASY backfill on whole GPUs; launcher start" in answer.err
    assert "policy launcher decides" in launcher("start", "--policy", "launcher").err
    assert not home.policy.exists()
    assert (
        "no policy 'fast'; expected one of launcher, fifo"
        in launcher("start", "--policy", "fast").err
    )


def test_a_program_is_looked_for_in_its_own_folder_and_path(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "work" / "here"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    Path("study.yaml").write_text(
        "name: study\ncommand:\n"
        "  - {name: own, argv: [./here], cwd: work}\n"
        f"  - {{name: path, argv: [here], env: {{PATH: {program.parent}}}}}\n"
        "  - {name: lost, argv: [./here]}\n"
        "  - {name: gone, argv: [here]}\n"
    )
    answer = launcher("run", "study.yaml", "--dry-run")
    warnings = [line for line in answer.err.splitlines() if line.startswith("warning")]
    assert ["command/lost" in line or "command/gone" in line for line in warnings] == [True, True]
