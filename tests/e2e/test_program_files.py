"""Programs that say which files they read and make, through the installed commands and a real queue."""

import json
import os
import signal
from pathlib import Path

import pytest

from launcher.states import State
from launcher.system.processes import descendants, send
from tests.build import job_row, lines_of, supervisor_of, until
from tests.e2e.conftest import Project, reading

TASK = """\
name: files
command:
  - {name: last, argv: [cp, middle.txt, "{run_folder}/last.txt"], inputs: [middle.txt], outputs: ["{run_folder}/last.txt"]}
  - {name: first, argv: [sh, first.sh, in.txt], inputs: [in.txt], outputs: [middle.txt]}
  - {name: own, argv: [cp, in.txt, "{job_folder}/copy"], outputs: ["{job_folder}/copy"]}
"""


def todo(project: Project, file: str, *words: str) -> dict[str, str]:
    """Return what a dry run would run, each with the reason."""
    shown = project.call("launcher", "run", file, "--dry-run", "--json", *words)
    jobs = json.loads(shown.stdout)["jobs"]
    return {job["name"]: job["reason"] for job in jobs if job["state"] != "cached"}


def test_programs_run_in_the_order_of_their_files_and_again_when_these_change(
    project: Project,
) -> None:
    project.write("in.txt", "one")
    project.write("first.sh", "cat $1 >middle.txt\n")
    project.write("files.yaml", TASK)
    assert project.call("launcher", "run", "files.yaml").returncode == 0
    last = project.folder / "runs/files/last.txt"
    assert last.read_text() == "one"
    assert todo(project, "files.yaml") == {}
    project.write("in.txt", "two")
    assert todo(project, "files.yaml") == {
        "command/first": "in.txt changed",
        "command/last": "command/first runs again",
        "command/own": "in.txt changed",
    }
    assert project.call("launcher", "run", "files.yaml").returncode == 0
    assert (last.read_text(), todo(project, "files.yaml")) == ("two", {})
    project.write("first.sh", "cat $1 $1 >middle.txt\n")
    changed = "first.sh changed"
    assert todo(project, "files.yaml")["command/first"] == changed
    assert todo(project, "files.yaml", "--accept-code") == {}
    last.unlink()
    (project.folder / "runs/files/jobs/own/copy").unlink()
    assert todo(project, "files.yaml", "--accept-code") == {
        "command/last": "{run_folder}/last.txt is gone",
        "command/own": "{job_folder}/copy is gone",
    }


@pytest.mark.parametrize("end", ["cancel", "kill", "fail"])
def test_what_stood_in_an_output_is_back_when_its_program_comes_to_nothing(
    project: Project, end: str
) -> None:
    output = project.folder / "made.txt"
    project.write("made.txt", "old")
    project.write("make.sh", "echo part >made.txt; until [ -e go ]; do sleep 0.02; done; exit 3\n")
    entry = "{name: t, argv: [sh, make.sh], outputs: [made.txt]}"
    project.write("x.yaml", f"name: x\ncommand: [{entry}]\n")
    assert project.call("launcher", "run", "x.yaml", "--detach").returncode == 0
    attempt = project.home.attempt(1, 1)
    until(lambda: lines_of(output) == ["part"], "it writes")
    if end == "cancel":
        assert project.call("launcher", "cancel", "t", "--yes").returncode == 0
    elif end == "fail":
        project.write("go", "")
    else:
        supervisor = supervisor_of(attempt)
        program = descendants(supervisor)
        project.call("launcher", "stop")  # nothing of it shall run again
        os.kill(supervisor, signal.SIGKILL)
        for pid in program:
            send(pid, signal.SIGKILL)

    def is_over() -> bool:
        with reading(project.home) as store:
            return job_row(store, 1).state is not State.RUNNING

    until(is_over, "its end is taken in")
    assert output.read_text() == "old"
    assert [path.name for path in Path(project.folder).glob(".*")] == []
