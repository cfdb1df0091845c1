"""Queue folders and runs of earlier versions, with other module paths: their finished jobs count."""

import json
import time
from typing import Any

import pytest

from launcher.states import State
from launcher.store.migration_steps import STEPS
from launcher.store.queue import Store
from launcher.system.daemon_control import wake
from launcher.system.scheduler_start import ensure_scheduler
from tests.build import endings, until
from tests.e2e.conftest import Project, reading
from tests.old_home import STORED, put_up, put_up_schema, put_up_toys


@pytest.fixture
def old(project: Project) -> Project:
    """A project whose home and runs an earlier version made."""
    put_up(project)
    return project


def jobs(project: Project, run: str) -> dict[str, dict[str, Any]]:
    completed = project.call("launcher", "status", run, "--json")
    assert completed.returncode == 0, completed.stderr
    return {job["name"]: job for job in json.loads(completed.stdout)["jobs"]}


def planned(project: Project, *options: str) -> dict[str, dict[str, Any]]:
    completed = project.call("launcher", "run", "old.yaml", "--dry-run", "--json", *options)
    assert completed.returncode == 0, completed.stderr
    return {job["name"]: job for job in json.loads(completed.stdout)["jobs"]}


def test_jobs_history_logs_and_results_of_0_2_are_readable(old: Project) -> None:
    assert {job["state"] for job in jobs(old, "run:old").values()} == {"done"}
    waiting = jobs(old, "run:later")
    assert {name: job["state"] for name, job in waiting.items()} == dict.fromkeys(
        ["sample/more", "train/gan2:pre"], "queued"
    )
    assert old.call("launcher", "logs", "command/hello").stdout == "hello\n"
    assert "ended with exit code 1" in old.call("launcher", "show", "command/fails").stdout
    history = old.call("launcher", "history", "--since", "2026-01-01")
    assert "run\told\t8\t8\t0\t8\t" in history.stdout
    assert old.call("launcher", "results", "old").stdout == (STORED / "results.tsv").read_text()


@pytest.mark.slow
def test_audit_and_report_read_runs_of_0_2(old: Project) -> None:
    report = old.call("trueface", "report", "old")
    assert report.returncode == 0, report.stderr
    page = (old.folder / "runs/old/report.html").read_text(encoding="utf-8")
    assert "gan2:pre%40~relabel" in page
    assert "undefined-metric" in page  # a finding of the audit: the tests have one class only


def test_plan_prints_the_number_of_jobs_done_with_other_code(old: Project) -> None:
    completed = old.call("launcher", "run", "old.yaml", "--dry-run")
    assert completed.stdout.count("with other code") == 1
    assert "8 jobs were done with other code (" in " ".join(completed.stdout.split())
    assert "To keep the results: --accept-code" in " ".join(completed.stdout.split())
    assert {job["state"] for job in planned(old).values()} == {"changed"}


def test_accepted_results_are_kept_without_further_notes(old: Project) -> None:
    kept = planned(old, "--accept-code")
    assert {job["state"] for job in kept.values()} == {"cached"}
    assert {job["state"] for job in planned(old).values()} == {"changed"}  # a dry run keeps nothing
    completed = old.call("launcher", "run", "old.yaml", "--accept-code", "--detach")
    assert completed.returncode == 0, completed.stderr
    assert "old: 8 jobs, 0 queued, 8 done before" in completed.stderr
    again = old.call("launcher", "run", "old.yaml", "--dry-run")
    assert "other code" not in again.stdout
    assert {job["state"] for job in planned(old).values()} == {"cached"}
    assert "result made with other code" in old.call("launcher", "show", "1").stdout


@pytest.mark.parametrize("options", [("--force",), ("--set", "reuse=nothing")])
def test_accepted_jobs_cannot_be_forced_in_the_same_command(
    old: Project, options: tuple[str, ...]
) -> None:
    completed = old.call("launcher", "run", "old.yaml", "--accept-code", *options)
    assert completed.returncode == 2
    assert "--accept-code keeps results" in completed.stderr
    assert "Remove one of them." in completed.stderr


@pytest.mark.night  # other tests run the jobs of toys and check the entry points of the others
def test_jobs_queued_by_the_earlier_version_run(old: Project) -> None:
    assert old.call("launcher", "start").returncode == 0
    assert old.call("launcher", "wait", "run:later").returncode == 0
    states = {name: job["state"] for name, job in jobs(old, "run:later").items()}
    assert set(states.values()) == {"done"}
    assert (old.folder / "runs/later/gan2:pre/checkpoints/best.pt").exists()


# --- homes of each schema, left by a loss of power; see tests/data/homes/README.md

ENDS = {  # of each job when all has gone on that can: its state, and how its attempts ended
    "toyshapes/toys": (State.DONE, ["done"]),
    "toytrain/dot:pre": (State.DONE, ["done"]),
    "toytest/dot:pre/dot:pre": (State.DONE, ["done"]),
    "command/ok": (State.DONE, ["done"]),
    "command/bad": (State.FAILED, ["failed"]),
    "command/above": (State.FAILED, ["failed"]),
    "command/skipped": (State.SKIPPED, []),
    "command/gone": (State.CANCELLED, []),
    "command/flaky": (State.DONE, ["failed", "done"]),
    "command/held": (State.DONE, ["done"]),
    "command/grouped": (State.DONE, ["done"]),
    "command/far": (State.QUEUED, []),
    "command/behind": (State.DONE, ["done"]),
    "command/unseen": (State.DONE, ["done"]),
    "command/torn": (State.DONE, ["lost", "done"]),
    "toytrain/line:pre": (State.DONE, ["done"]),
    "toytest/line:pre/line:pre": (State.DONE, ["done"]),
}
SINCE = {"command/behind": 5}  # the first schema that has such jobs


@pytest.mark.parametrize("schema", range(3, len(STEPS) + 1))
def test_queue_folder_of_each_schema_opens_and_its_jobs_continue(
    toys: Project, schema: int
) -> None:
    put_up_schema(toys, schema)
    toys.write("go", "")  # what `flaky` and `groups_in_several_lists` wait for
    expected = {name: end for name, end in ENDS.items() if schema >= SINCE.get(name, 0)}

    store = Store(toys.home, durable=False)
    numbers = {row.name: row.id for row in store.read.jobs()}
    assert [*numbers] == [*expected]
    assert [tuple(row) for row in store.database.execute("PRAGMA foreign_key_check")] == []
    store.job_control.release([numbers["command/held"]], time.time())
    ensure_scheduler(toys.home)
    wake(toys.home)
    open_jobs = {State.QUEUED, State.RUNNING, State.HELD}

    def still_open() -> set[str]:
        return {row.name for row in store.read.jobs() if row.state in open_jobs} - {"command/far"}

    until(lambda: not still_open(), "all jobs have ended")
    assert {row.name: (row.state, endings(store, row.id)) for row in store.read.jobs()} == expected
    store.close()

    torn = numbers["command/torn"]
    logs = [(toys.home.attempts / f"{torn}-{number}/log").read_text() for number in (1, 2)]
    assert logs == ["begun\n", "begun\nagain\n"]
    completed = toys.call("launcher", "results", "toys", "--json")
    rows = {row["job"]: row for row in json.loads(completed.stdout)["rows"]}
    assert rows["toytrain/dot:pre"]["seen"] == 2
    assert rows["toytest/dot:pre/dot:pre"]["known"] == 1.0
    assert (toys.folder / "runs/later/line:pre/scores/line:pre.json").exists()


def test_worker_of_an_older_version_is_done_only_with_a_report(
    toys: Project,
) -> None:
    put_up_toys(toys, "unreported")
    ensure_scheduler(toys.home)
    wake(toys.home)
    with reading(toys.home) as store:
        until(lambda: store.read.counts().get(State.DONE) == 3, "all jobs are done")
        ends = {row.name: endings(store, row.id) for row in store.read.jobs()}
        reasons = [reason.text for _, _, reason in store.read.events_of(3)]
    assert ends == {
        "toyshapes/toys": ["done"],
        "toytrain/dot:pre": ["done"],
        "toytrain/line:pre": ["failed", "done"],
    }
    assert any("exit code 0 before it reported a result" in reason for reason in reasons)
    models = {
        name: toys.folder / f"runs/toys/{name}/model.json" for name in ("dot:pre", "line:pre")
    }
    assert {name: json.loads(path.read_text()) for name, path in models.items()} == {
        "dot:pre": {"seen": ["dot-pre-0", "real-pre-0"]},
        "line:pre": {"seen": ["line-pre-0", "real-pre-0"]},
    }
