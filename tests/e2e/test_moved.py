"""A queue folder or a project that was moved or copied, through real schedulers."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from launcher.experiments.functions.future import future
from launcher.queue.home.paths import Home
from tests.build import end_everything, lines_of, until
from tests.e2e.conftest import Project, a_project
from tests.forked import BIN

SUBMIT = """\
from launcher.api import submit
def answer(): return 5
if __name__ == "__main__": submit(answer, cpus=1, hold=True)
"""
TASK = """\
name: files
command:
  - {name: make, argv: [sh, -c, "echo make >>../journal; cp in.txt out.txt"], inputs: [in.txt], outputs: [out.txt]}
  - {name: own, argv: [sh, -c, "echo own >>../journal; cp out.txt '{job_folder}'"], inputs: [out.txt], outputs: ["{job_folder}/out.txt"]}
"""


def call_successfully(project: Project, *words: str) -> str:
    completed = project.call(*words)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def states(project: Project) -> dict[str, str]:
    jobs = json.loads(call_successfully(project, "launcher", "status", "--all", "--json"))["jobs"]
    return {job["name"]: job["state"] for job in jobs}


def test_waiting_jobs_run_after_the_queue_folder_is_moved(project: Project, tmp_path: Path) -> None:
    project.write("submit.py", SUBMIT)
    call_successfully(project, sys.executable, "submit.py")
    inner = f"{BIN}/launcher add --name inner -- true"
    call_successfully(
        project, "launcher", "add", "--hold", "--name", "outer", "--", "sh", "-c", inner
    )
    folder = "cp in.txt {job_folder}/out.txt"
    project.write("in.txt", "in")
    call_successfully(
        project, "launcher", "add", "--hold", "--name", "own", "--", "sh", "-c", folder
    )
    call_successfully(project, "launcher", "stop", "--now")
    new = tmp_path / "new"
    project.home.folder.rename(new)
    after = project.with_home(new)
    try:
        call_successfully(after, "launcher", "start")
        call_successfully(after, "launcher", "release", "1", "2", "3")
        call_successfully(after, "launcher", "wait", "1", "2", "3", "--timeout", "60s")
        call_successfully(after, "launcher", "wait", "inner", "--timeout", "60s")
        assert {*states(after).values()} == {"done"}
        assert (new / "runs/add/jobs/3/out.txt").read_text() == "in"
        assert not project.home.folder.exists()
    finally:
        end_everything(after.home)


def test_copied_queue_folder_runs_only_new_jobs(project: Project, tmp_path: Path) -> None:
    journal, gate = tmp_path / "journal", tmp_path / "gate"
    os.mkfifo(gate)
    script = 'echo $1 >>"$2"; read line <"$3"'
    argv = ["sh", "-c", script, "sh", "runs", str(journal), str(gate)]
    call_successfully(project, "launcher", "add", "--name", "runs", "--", *argv)
    until(lambda: lines_of(journal) == ["runs"], "the job runs")
    call_successfully(
        project, "launcher", "add", "--name", "waits", "--after", "runs", "--", "true"
    )
    copy = project.with_home(tmp_path / "copy")
    shutil.copytree(project.home.folder, copy.home.folder, ignore=shutil.ignore_patterns("wake"))
    try:
        added = copy.call("launcher", "add", "--name", "new", "--", "true")
        assert "Its 2 unfinished jobs are held" in added.stderr
        call_successfully(copy, "launcher", "wait", "new", "--timeout", "60s")
        held = {"command/runs": "held", "command/waits": "held", "command/new": "done"}
        assert states(copy) == held
        call_successfully(copy, "launcher", "cancel", "--yes", "runs")  # not that of the original
        assert states(project) == {"command/runs": "running", "command/waits": "queued"}
        gate.write_text("\n")
        call_successfully(project, "launcher", "wait", "--timeout", "60s")
        assert lines_of(journal) == ["runs"]
    finally:
        end_everything(copy.home)


def test_waiting_future_reports_a_moved_queue_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher.api import MachineError, submit

    home = Home(tmp_path / "home")
    monkeypatch.setenv("LAUNCHER_HOME", str(home.folder))
    monkeypatch.setattr("launcher.queue.store.feed.CHECK_EVERY_S", 0.2)
    new = Home(tmp_path / "new")
    try:
        waiting = submit(abs, -1, hold=True)
        end_everything(home)
        home.folder.rename(new.folder)
        with pytest.raises(
            MachineError,
            match=r"does not exist any more\. If its folder was moved, set LAUNCHER_HOME",
        ):
            waiting.result(60)
        monkeypatch.setenv("LAUNCHER_HOME", str(new.folder))
        again = future(waiting.job)
        assert again.state == "held"
        again.cancel()
    finally:
        end_everything(home)
        end_everything(new)


def test_moved_project_keeps_its_results(tmp_path: Path) -> None:
    with a_project(tmp_path) as project:
        project.write("in.txt", "in")
        project.write("t.yaml", TASK)
        call_successfully(project, "launcher", "run", "t.yaml")
        assert lines_of(tmp_path / "journal") == ["make", "own"]
        new = tmp_path / "new"
        project.folder.rename(new)
        moved = Project(folder=new, home=project.home, environment=project.environment)
        plan = " ".join(call_successfully(moved, "launcher", "run", "t.yaml", "--dry-run").split())
        assert f"2 new jobs are done in {project.folder}, which no longer exists" in plan
        option = ["--adopt", str(project.folder)]
        plan = call_successfully(moved, "launcher", "run", "t.yaml", "--dry-run", *option)
        assert f"2 results of {project.folder} would be adopted" in " ".join(plan.split())
        adopted = moved.call("launcher", "run", "t.yaml", *option)
        assert adopted.returncode == 0
        assert f"2 results of {project.folder} are adopted" in adopted.stderr
        assert lines_of(tmp_path / "journal") == ["make", "own"]
        shown = json.loads(call_successfully(moved, "launcher", "show", "own", "--json"))
        assert (shown["reason_code"], shown["folder"]) == ("adopted", f"{new}/runs/files/jobs/own")
        wrong = moved.call("launcher", "run", "t.yaml", "--adopt", "nowhere")
        assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
            2,
            "error: --adopt nowhere: no job of run 'files' was queued there. Leave the option out",
        )
