"""Jobs that are changed and paused while they are in the queue, through the installed commands."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.store.queue import Store
from launcher.system.process_trees import descendants, send_signal
from launcher.system.processes import is_stopped
from tests.build import lines_of, program_of, shell, supervisor_of, until
from tests.e2e.conftest import Project, reading

TASK = """
name: toys
toyshapes: [{data_root: toys}]
toytrain:
  - {model: null, data: "dot:pre"LR}
  - {model: "dot:pre", data: "line:pre"}
toytest:
  - {model: "dot:pre", data: "dot:pre"}
  - {model: "dot:pre", data: "dot:pre", settings: {haze: thick}}
"""
TRAIN = "toytrain/dot:pre"


def a_task(project: Project, lr: str = "") -> str:
    return project.write("toys.yaml", TASK.replace("LR", f", settings: {{lr: {lr}}}" if lr else ""))


def planned(project: Project, task: str) -> dict[str, str]:
    """Return job → what would be done with it now."""
    answer = project.call("launcher", "run", task, "--dry-run", "--json")
    assert answer.returncode == 0, answer.stderr
    return {job["name"]: job["state"] for job in json.loads(answer.stdout)["jobs"]}


def queued(project: Project, lr: str = "") -> str:
    """Queue the toys behind a program in their group: none of them starts before that ends."""
    task = a_task(project, lr)
    project.call("launcher", "group", "few", "--limit", "1")
    project.call("launcher", "add", "--name", "blocks", "--group", "few", "--", "sleep", "300")
    until(lambda: project.home.attempt(1, 1).started.exists(), "the program runs")
    answer = project.call("launcher", "run", task, "--detach", "--set", "resources.group=few")
    assert answer.returncode == 0, answer.stderr
    return task


def hashes(project: Project) -> Mapping[str, str]:
    with reading(project.home) as store:
        return {row.name: row.hash for row in store.read.jobs_of_runs_named("toys")}


def test_changed_request_keeps_the_job_hash(toys: Project) -> None:
    task = queued(toys)
    before = hashes(toys)
    sets = ("resources.retries=2", "toytrain.resources.priority=4")
    answer = toys.call(
        "launcher", "edit", TRAIN, *(word for each in sets for word in ("--set", each))
    )
    assert answer.returncode == 0, answer.stderr
    assert "retries 0 → 2" in answer.stdout
    assert hashes(toys) == before
    toys.call("launcher", "cancel", "blocks", "--yes")
    assert toys.call("launcher", "wait", "run:toys").returncode == 0
    assert set(planned(toys, task).values()) == {"cached"}
    with reading(toys.home) as store:
        (row,) = store.read.select_by_pattern(TRAIN)
    assert (row.priority, row.spec.terms.retries) == (4, 2)


REFUSED = [
    ("lr=0.5", "'lr' is a setting of toytrain and changes the results"),
    ("toytrain.lr=0.5", "change the task file and run it"),
    ("epoch=2", "did you mean 'epochs'?"),
    ("toytest.crops=2", "'toytest' is not a job type"),
    ("toypoison=20", "'toypoison' is not a setting"),
    ("resources.cpu=1", "did you mean 'cpus'?"),
]


def test_settings_of_a_plugin_job_can_only_be_changed_in_the_task_file(toys: Project) -> None:
    queued(toys)
    before = hashes(toys)
    for word, why in REFUSED:
        answer = toys.call("launcher", "edit", TRAIN, "--set", word)
        assert (answer.returncode, why in answer.stderr) == (2, True), answer
        assert "nothing was changed" in answer.stderr
    assert hashes(toys) == before
    toys.environment["EDITOR"] = "cat"
    answer = toys.call("launcher", "edit", TRAIN)
    assert "settings:" not in answer.stdout
    assert "edit its task file" in answer.stdout


def test_retry_of_several_failed_jobs_applies_to_all_or_none(toys: Project) -> None:
    task = toys.write(
        "bad.yaml",
        'name: bad\ntoyshapes: [{data_root: toys}]\ntoytrain: [{model: null, data: "dot:pre"},'
        ' {model: null, data: "line:pre"}]\ndefaults: {toytrain: {fail: "no"}}\n',
    )
    assert toys.call("launcher", "run", task).returncode == 1
    answer = toys.call("launcher", "retry", "--failed", "--set", "fail=''")
    assert answer.returncode == 2
    answer = toys.call("launcher", "retry", "--failed", "--set", "resources.warn=1m")
    assert (answer.returncode, "warn needs" in answer.stderr) == (2, True), answer
    answer = toys.call("launcher", "retry", "--failed", "--set", "resources.grace=2s")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("changed: grace 30s → 2s") == 2


COUNTING = 'i=0; while :; do i=$((i+1)); echo $i >"$1"; sleep .1; done'


def a_counting_job(project: Project, *options: str) -> Path:
    """Run a program that counts in a file, and a child of it in another session that counts, too."""
    script = f"setsid sh -c '{COUNTING}' sh \"$1.child\" & {COUNTING}"
    file = project.folder / "count"
    project.call("launcher", "add", "--name", "counts", *options, "--", *shell(script, str(file)))
    until(lambda: number(file) > 2 and number(Path(f"{file}.child")) > 2, "both count")
    return file


def number(file: Path) -> int:
    try:
        return int(file.read_text() or 0)
    except FileNotFoundError:
        return 0


def job_details(project: Project) -> Any:
    return json.loads(project.call("launcher", "show", "counts", "--json").stdout)


def program_processes(project: Project) -> list[int]:
    program = program_of(project.home.attempt(1, 1))
    return [program, *descendants(program)]


def program_is_stopped(project: Project) -> bool:
    return all(map(is_stopped, program_processes(project)))


def test_paused_program_stops_with_its_children_and_continues(
    project: Project,
) -> None:
    file = a_counting_job(project)
    answer = project.call("launcher", "pause", "counts")
    assert (answer.returncode, answer.stdout) == (0, "1\tcommand/counts\tpaused\n"), answer
    until(lambda: program_is_stopped(project), "all of it stands still")
    counts = number(file), number(Path(f"{file}.child"))
    record = job_details(project)
    assert (record["state"], record["note_code"]) == ("running", "paused")
    assert record["note"].startswith("paused since ")
    again = project.call("launcher", "pause", "counts")
    assert "already paused" in again.stderr
    assert (number(file), number(Path(f"{file}.child"))) == counts
    assert project.call("launcher", "resume", "counts").stdout == "1\tcommand/counts\tresumed\n"
    until(
        lambda: number(file) > counts[0] and number(Path(f"{file}.child")) > counts[1], "it goes on"
    )
    assert job_details(project)["note_code"] == "started"
    assert project.call("launcher", "resume", "counts").returncode == 2


def test_time_limit_excludes_pauses(project: Project) -> None:
    a_counting_job(project, "--time-limit", "3s", "--grace", "1s")
    assert project.call("launcher", "pause", "counts").returncode == 0
    until(lambda: program_is_stopped(project), "it stands still")
    began = job_details(project)["attempts"][0]["claimed"]
    project.call("launcher", "add", "--name", "long", "--", "sleep", "3")
    assert project.call("launcher", "wait", "long").returncode == 0
    assert job_details(project)["state"] == "running"
    project.call("launcher", "resume", "counts")
    project.call("launcher", "wait", "counts")
    record = job_details(project)
    assert record["reason_code"] == "time-limit"
    (attempt,) = record["attempts"]
    assert attempt["paused"] >= 3
    assert attempt["ended"] - began >= 6
    assert abs(record["seconds"] - (attempt["ended"] - began - attempt["paused"])) < 1e-6


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_paused_program_receives_sigterm(project: Project, how: str) -> None:
    # no child that is spawned all the time: between vfork and exec its parent waits in the kernel, not stopped
    trap = "trap 'echo heard; exit 1' TERM; echo set; sleep 60 & while :; do wait; done"
    project.call("launcher", "add", "--name", "counts", "--grace", "20s", "--", *shell(trap))
    log = project.home.attempt(1, 1).log
    until(lambda: log.exists() and "set" in log.read_text(), "it waits for the signal")
    project.call("launcher", "pause", "counts")
    until(lambda: program_is_stopped(project), "it stands still")
    if how == "cancel":
        project.call("launcher", "cancel", "counts", "--yes")
        assert project.call("launcher", "wait", "counts").returncode == 1
        assert job_details(project)["state"] == "cancelled"
    else:
        project.call("launcher", "stop", "--now")
        until(lambda: job_details(project)["state"] == "queued", "it is queued again")
    assert log.read_text().endswith("heard\n")
    with reading(project.home) as store:
        (row,) = store.read.jobs_by_id([1])
    assert row.paused is None


@pytest.mark.parametrize("supervised", [True, False])
def test_pause_survives_scheduler_and_supervisor(project: Project, supervised: bool) -> None:
    file = a_counting_job(project)
    if not supervised:
        attempt = project.home.attempt(1, 1)
        send_signal(
            int(json.loads(attempt.started.read_bytes().splitlines()[1])["pid"]), signal.SIGKILL
        )
    project.call("launcher", "pause", "counts")
    until(lambda: program_is_stopped(project), "it stands still")
    scheduler = scheduler_pid(project.home)
    assert scheduler is not None
    send_signal(scheduler, signal.SIGKILL)
    until(lambda: scheduler_pid(project.home) is None, "the scheduler is gone")
    before = number(file)
    project.call("launcher", "add", "--", "true")  # another scheduler comes
    project.call("launcher", "wait", "2")
    assert (program_is_stopped(project), number(file)) == (True, before)
    send_signal(scheduler_pid(project.home) or 0, signal.SIGKILL)
    store = Store(project.home)
    assert store.job_control.resume([1], time.time()) == [1]  # while there is none
    store.close()
    project.call("launcher", "add", "--", "true")
    until(lambda: number(file) > before, "it goes on")


IGNORES = 'trap "echo got >>$1" TERM; echo up >>$1; while :; do sleep .1; done'


def an_ignoring_job(project: Project, *options: str) -> Path:
    """Run a program that writes a line when it gets SIGTERM, and goes on."""
    file = project.folder / "lines"
    options = ("--name", "counts", "--grace", "5m", *options)
    project.call("launcher", "add", *options, "--", *shell(IGNORES, str(file)))
    until(lambda: lines_of(file) == ["up"], "it runs")
    return file


def test_cancelled_program_is_shown_as_ending_and_killed_with_now(project: Project) -> None:
    file = an_ignoring_job(project)
    assert project.call("launcher", "cancel", "counts", "--yes").returncode == 0
    until(lambda: lines_of(file) == ["up", "got"], "it gets SIGTERM")
    record = job_details(project)
    assert (record["state"], record["reason_code"]) == ("running", "ending")
    assert "cancelled by its owner; SIGKILL in " in record["note"]
    killed = project.call("launcher", "cancel", "--now", "counts", "--yes")
    assert killed.stdout == "1\tcommand/counts\tkilled\n"
    assert project.call("launcher", "wait", "counts").returncode == 1
    assert job_details(project)["state"] == "cancelled"


def test_program_cancelled_with_now_gets_no_sigterm(project: Project) -> None:
    file = an_ignoring_job(project)
    assert project.call("launcher", "cancel", "--now", "counts", "--yes").returncode == 0
    project.call("launcher", "wait", "counts")
    assert job_details(project)["state"] == "cancelled"
    assert lines_of(file) == ["up"]


def test_paused_program_is_killed_with_now(project: Project) -> None:
    a_counting_job(project, "--grace", "5m")
    assert project.call("launcher", "pause", "counts").returncode == 0
    until(lambda: program_is_stopped(project), "it stands still")
    assert project.call("launcher", "cancel", "--now", "counts", "--yes").returncode == 0
    project.call("launcher", "wait", "counts")
    assert job_details(project)["state"] == "cancelled"


def test_program_without_supervisor_is_killed_with_now(project: Project) -> None:
    an_ignoring_job(project)
    supervisor = supervisor_of(project.home.attempt(1, 1))
    send_signal(supervisor, signal.SIGKILL)
    until(lambda: "adopted" in project.home.scheduler_log.read_text(), "it is adopted")
    assert project.call("launcher", "cancel", "--now", "counts", "--yes").returncode == 0
    project.call("launcher", "wait", "counts")
    assert job_details(project)["state"] == "cancelled"


def test_program_ended_by_its_time_limit_is_shown_as_ending_with_an_event(
    project: Project,
) -> None:
    an_ignoring_job(project, "--time-limit", "2s")

    def noted() -> bool:
        return bool(job_details(project)["events"][-1]["reason_code"] == "ending")

    until(noted, "the end at the time limit is an event")
    record = job_details(project)
    assert record["termination"]["cause"] == "time-limit"
    project.call("launcher", "cancel", "--now", "counts", "--yes")
    project.call("launcher", "wait", "counts")
    assert job_details(project)["state"] == "cancelled"


NESTED = """
import os
for name in ["y.csv", *["a"] * 1200]:  # more than Python nests calls of functions
    os.mkdir(name)
    os.chdir(name)
raise SystemExit(3)
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python deletes folders of any depth")
def test_output_that_cannot_be_deleted_yet_is_named(project: Project) -> None:
    output = project.folder / "y.csv"
    output.write_text("old")
    words = (sys.executable, "-c", NESTED)
    project.call("launcher", "add", "--name", "counts", "--output", "y.csv", "--", *words)
    try:
        until(lambda: job_details(project)["reason_code"] == "settling", "it is told")
        assert output.read_text() == "old"
        (incomplete,) = project.folder.glob(".y.csv.*")
        why = f"cannot delete {incomplete}, its incomplete output: "
        assert why in job_details(project)["note"]
    finally:  # pytest could not delete it either
        subprocess.run(["rm", "-rf", *project.folder.glob(".y.csv.*")], check=True)
    project.call("launcher", "wait", "counts")
    assert (job_details(project)["state"], output.read_text()) == ("failed", "old")
