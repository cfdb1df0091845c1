"""Task files whose entries name the jobs that they follow, through the installed commands."""

import json
import os
import signal

import pytest

from launcher.states import State
from launcher.system.daemon_control import scheduler_pid
from tests.build import lines_of, until
from tests.e2e.conftest import Project, reading

PREPARE = """\
mkdir -p toys made
for word in pre-dot pre-real pre-line; do echo "$WORDS $word" > toys/$word.txt; done
until [ -e go ]; do sleep 0.05; done
echo prepare >> order
[ ! -e broken ]
"""
EXPORT = """\
cat ../runs/study/dot:pre/model.json > exported
echo "export $NAME in $(pwd)" >> ../order
"""
TASK = """\
name: study
toytrain:
  - {data: "dot:pre", after: prepare}
  - {model: "dot:pre", data: "line:pre"}
toytest: [{model: "dot:pre", data: "dot:pre"}]
command:
  - {name: mail, argv: [sh, -c, "echo mail >> order"], after_any: ["toy*", export], priority: 9}
  - {name: export, argv: [sh, export.sh], after: "dot:pre", cwd: made, env: {NAME: "a b"}}
  - {name: prepare, argv: [sh, prepare.sh], env: {WORDS: few}, retries: 0}
"""
JOBS = {
    "command/prepare",
    "toytrain/dot:pre",
    "toytrain/dot:pre#line:pre",
    "toytest/dot:pre/dot:pre",
    "command/export",
    "command/mail",
}


@pytest.fixture
def study(toys: Project) -> Project:
    """A project whose data a program makes, and whose model another one exports."""
    toys.write("prepare.sh", PREPARE)
    # the folder of a program is not that of its task file
    toys.write("made/export.sh", EXPORT)
    toys.write("study.yaml", TASK)
    return toys


def states(project: Project) -> dict[str, State]:
    with reading(project.home) as store:
        return {row.name: row.state for row in store.read.of_run("study")}


def planned(project: Project, *words: str) -> dict[str, str]:
    """Return job → what would be done with it now."""
    answer = project.call("launcher", "run", "study.yaml", "--dry-run", "--json", *words)
    assert answer.returncode == 0, answer.stderr
    return {job["name"]: job["state"] for job in json.loads(answer.stdout)["jobs"]}


def changed(project: Project) -> set[str]:
    return {name for name, state in planned(project).items() if state != "cached"}


def order(project: Project) -> list[str]:
    return lines_of(project.folder / "order")


def test_data_is_prepared_before_training_and_the_model_exported_after_it(study: Project) -> None:
    assert planned(study) == dict.fromkeys(JOBS, "new")
    study.write("go", "")
    answer = study.call("launcher", "run", "study.yaml")
    assert answer.returncode == 0, answer.stderr
    assert "has to make them" in answer.stderr
    made = study.folder / "made"
    assert order(study) == ["prepare", f"export a b in {made}", "mail"]
    seen = json.loads((made / "exported").read_text())["seen"]
    assert seen == ["few", "pre-dot", "few", "pre-real"]
    assert changed(study) == set()


def test_a_failed_preparation_skips_what_follows_and_what_awaits_its_end_runs(
    study: Project,
) -> None:
    study.write("go", "")
    study.write("broken", "")
    assert study.call("launcher", "run", "study.yaml").returncode == 1
    expected = dict.fromkeys(JOBS, State.SKIPPED)
    assert states(study) == expected | {
        "command/prepare": State.FAILED,
        "command/mail": State.DONE,
    }
    assert order(study) == ["prepare", "mail"]
    (study.folder / "broken").unlink()
    assert study.call("launcher", "run", "study.yaml").returncode == 0
    assert set(states(study).values()) == {State.DONE}


def test_the_order_holds_when_the_scheduler_is_killed_in_between(study: Project) -> None:
    assert study.call("launcher", "run", "study.yaml", "--detach").returncode == 0
    until(lambda: states(study)["command/prepare"] is State.RUNNING, "the preparation runs")
    pid = scheduler_pid(study.home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(study.home) is None, "the scheduler is dead")
    study.write("go", "")
    answer = study.call("launcher", "wait", "run:study")
    assert answer.returncode == 0, answer.stderr
    assert [line.split()[0] for line in order(study)] == ["prepare", "export", "mail"]
    assert set(states(study).values()) == {State.DONE}


def test_a_change_of_a_program_runs_what_follows_it_and_nothing_else(study: Project) -> None:
    study.write("go", "")
    assert study.call("launcher", "run", "study.yaml").returncode == 0
    study.write("study.yaml", TASK.replace("a b", "c"))
    assert changed(study) == {"command/export"}
    study.write("study.yaml", TASK.replace("WORDS: few", "WORDS: many"))
    assert changed(study) == JOBS - {"command/mail"}
    assert study.call("launcher", "run", "study.yaml").returncode == 0
    seen = json.loads((study.folder / "made" / "exported").read_text())["seen"]
    assert seen == ["many", "pre-dot", "many", "pre-real"]
    assert [line.split()[0] for line in order(study)] == [
        "prepare", "export", "mail", "prepare", "export",
    ]  # fmt: skip
    assert changed(study) == set()


def test_a_program_that_was_changed_in_the_queue_is_done_again_by_the_next_run(
    study: Project,
) -> None:
    study.write("go", "")
    study.call("launcher", "run", "study.yaml", "--detach", "--set", "resources.not_before=+1h")
    answer = study.call("launcher", "edit", "command/prepare", "--set", "env={WORDS: many}")
    assert answer.returncode == 0, answer.stderr
    assert "WORDS=many" in study.call("launcher", "show", "command/prepare").stdout
    with reading(study.home) as store:
        stored = {row.name: row.hash for row in store.read.of_run("study")}
    answer = study.call("launcher", "run", "study.yaml", "--dry-run", "--json")
    by_file = {job["name"]: job["hash"] for job in json.loads(answer.stdout)["jobs"]}
    assert {name for name in stored if stored[name] != by_file[name]} == JOBS - {"command/mail"}


def test_a_program_with_whose_output_others_have_worked_is_not_changed(study: Project) -> None:
    study.write("go", "")
    assert study.call("launcher", "run", "study.yaml").returncode == 0
    words = ("retry", "command/prepare", "--force", "--set", "env={WORDS: many}")
    answer = study.call("launcher", *words)
    assert answer.returncode == 2
    assert "worked with what command/prepare makes" in answer.stderr


def test_the_command_lines_of_a_plan_do_the_same_without_the_launcher(study: Project) -> None:
    answer = study.call("launcher", "run", "study.yaml", "--dry-run", "--commands")
    lines = answer.stdout.splitlines()
    assert lines[0] == "env WORDS=few sh prepare.sh"
    assert "env -C made 'NAME=a b' sh export.sh" in lines


def test_a_program_cannot_take_what_the_launcher_sets(project: Project) -> None:
    variables = (
        "CUDA_VISIBLE_DEVICES: '7', LAUNCHER_JOB: '99', OMP_NUM_THREADS: '5', PATH: /nowhere"
    )
    entry = f"{{name: a, argv: [/usr/bin/env], cpus: 2, env: {{{variables}}}}}"
    project.write("study.yaml", f"name: study\ncommand: [{entry}]\n")
    assert project.call("launcher", "run", "study.yaml").returncode == 0
    log = project.call("launcher", "logs", "command/a").stdout.splitlines()
    variables_of_job = dict(line.split("=", 1) for line in log if "=" in line)
    names = ("CUDA_VISIBLE_DEVICES", "LAUNCHER_JOB", "OMP_NUM_THREADS", "PATH")
    assert [variables_of_job[name] for name in names] == ["", "1", "5", "/nowhere"]


def test_a_folder_that_no_job_has_made_is_named_where_its_program_fails(project: Project) -> None:
    project.write(
        "study.yaml",
        "name: study\ncommand:\n"
        "  - {name: first, argv: ['true']}\n"
        "  - {name: second, argv: ['true'], cwd: made, after: first}\n",
    )
    answer = project.call("launcher", "run", "study.yaml")
    assert answer.returncode == 1
    assert f"there is no folder {project.folder}/made" in answer.stderr
