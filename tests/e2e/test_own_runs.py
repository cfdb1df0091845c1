"""Programs in runs of their own, with folders of their own: real commands, a real scheduler, real kills."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from launcher.notify.notices import read_notices
from launcher.states import State
from launcher.system.daemon_control import scheduler_pid
from launcher.workers.progress.attempt_progress import reported_steps
from tests.build import in_state, program_of, shell, supervisor_of, until
from tests.e2e.conftest import Project, reading
from tests.launcher.staging.attempts import files_in
from tests.launcher.workers.progress.event_writer import event, simple, write_events
from tests.receivers import a_webhook

WRITES = 'echo "$1" > {job_folder}/answer'
WAITS = f'{WRITES}; read line < "$2"; echo "$line" >> {{job_folder}}/answer'


def add(project: Project, *words: str) -> int:
    answer = project.call("launcher", "add", "--run", "night", *words)
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout.split("\t")[0])


def shown(project: Project, job: int) -> dict[str, object]:
    record: dict[str, object] = json.loads(
        project.call("launcher", "show", str(job), "--json").stdout
    )
    return record


def left(project: Project, run: str = "night") -> dict[str, str]:
    """Return the files of a run, stages apart."""
    files = files_in(project.folder / "runs" / run)
    return {name: text for name, text in files.items() if not name.startswith(".attempts/")}


@pytest.mark.slow  # a run has ended when nothing was added for five seconds, and it ends twice
def test_a_run_of_ones_own_is_told_each_time_it_ends(project: Project, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    project.environment["LAUNCHER_CONFIG"] = str(config)
    posts: list[dict[str, str]] = []
    with a_webhook() as webhook:
        config.write_text(f'[notify.hook]\nurl = "{webhook.url}"\nevents = ["run-ended"]\n')
        config.chmod(0o600)
        for programs in (("true", "true"), ("false",)):
            for program in programs:
                add(project, "--", program)
            until(lambda: webhook.posts, "its end is told", 60.0)
            until(lambda: not read_notices(project.home).pending, "it is on record as sent")
            posts += webhook.posts
            webhook.posts.clear()
    titles = [post["title"].split(" in ")[0] for post in posts]
    assert titles == ["night ended: 2 done", "night ended: 1 failed"]
    assert "The run in all: 2 done, 1 failed." in posts[1]["message"]


def test_the_folder_of_a_program_is_its_runs_when_it_is_done_and_put_aside_when_it_fails(
    project: Project,
) -> None:
    done = add(project, "--name", "good", "--", *shell(WRITES, "first"))
    failed = add(project, "--name", "bad", "--", *shell(f"{WRITES}; exit 1", "half"))
    assert project.call("launcher", "wait", str(done), str(failed)).returncode == 1
    assert left(project) == {f"jobs/good@{done}/answer": "first\n"}
    assert shown(project, done)["folder"] == f"{project.folder}/runs/night/jobs/good@{done}"
    aside = shown(project, failed)["not_accepted"]
    assert isinstance(aside, str)
    assert files_in(Path(aside)) == {f"jobs/bad@{failed}/answer": "half\n"}
    newer = add(project, "--name", "good", "--", *shell(WRITES, "second"))
    assert project.call("launcher", "wait", str(newer)).returncode == 0
    both = {f"jobs/good@{done}/answer": "first\n", f"jobs/good@{newer}/answer": "second\n"}
    assert left(project) == both
    assert project.call("launcher", "clean", "run:night", "--yes").returncode == 0
    assert left(project) == both
    assert not Path(aside).exists()


def test_a_folder_is_made_anew_and_takes_the_place_of_the_former_one_as_a_whole(
    project: Project,
) -> None:
    once = (
        "[ -e former ] && echo 2 > {job_folder}/second || echo 1 > {job_folder}/first; touch former"
    )
    task = (
        "name: study\ncommand:\n"
        f"  - {{name: a, argv: [sh, -c, {json.dumps(once)}]}}\n"
        '  - {name: b, after: a, cwd: "{job_folder}", argv: [sh, -c, "echo $FROM > here"], '
        'env: {FROM: "{run_folder}/jobs/a"}}\n'
    )
    project.write("study.yaml", task)
    run = project.folder / "runs" / "study"
    for made in ("first", "second"):
        assert project.call("launcher", "run", "study.yaml").returncode == 0
        assert {*left(project, "study")} == {f"jobs/a/{made}", "jobs/b/here"}
        plan = project.call("launcher", "run", "study.yaml", "--dry-run")
        assert "nothing has to run" in plan.stdout
        (run / "jobs/b/here").unlink()
        (run / "jobs/b").rmdir()
        plan = project.call("launcher", "run", "study.yaml", "--dry-run", "--all")
        assert f"{run}/jobs/b is gone" in plan.stdout
        project.write("study.yaml", task.replace("sh, -c", "bash, -c", 1))
    assert left(project, "study") == {"jobs/a/second": "2\n"}
    assert (project.folder / "runs/study").exists()


@pytest.mark.parametrize("instant", ["before its end", "before its folder is accepted"])
def test_a_folder_survives_the_death_of_the_scheduler(
    project: Project, tmp_path: Path, instant: str
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = add(project, "--name", "long", "--", *shell(WAITS, "begun", str(gate)))
    attempt = project.home.attempt(job, 1)
    supervisor_of(attempt)
    scheduler = scheduler_pid(project.home) or 0
    os.kill(scheduler, signal.SIGSTOP if instant.endswith("accepted") else signal.SIGKILL)
    gate.write_text("over\n")
    until(lambda: b'"done"' in attempt.started.read_bytes(), "its end is on record")
    if instant.endswith("accepted"):
        assert left(project) == {}
        os.kill(scheduler, signal.SIGKILL)
    assert project.call("launcher", "wait", str(job)).returncode == 0
    assert left(project) == {f"jobs/long@{job}/answer": "begun\nover\n"}
    assert not (project.folder / "runs/night/.attempts").exists()


def test_the_next_attempt_goes_on_with_what_was_left_when_all_of_one_was_killed(
    project: Project, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    goes_on = 'echo "$LAUNCHER_JOB" >> {job_folder}/answer; ls -A {job_folder}; read line < "$1"'
    job = add(project, "--name", "long", "--", *shell(goes_on, str(gate)))
    first = project.home.attempt(job, 1)
    until(lambda: first.log.exists() and first.log.read_text() == "answer\n", "it has begun")
    for pid in (supervisor_of(first), program_of(first)):
        os.kill(pid, signal.SIGKILL)
    second = project.home.attempt(job, 2)
    until(lambda: second.log.exists() and second.log.read_text() == "answer\n", "it begins again")
    gate.write_text("over\n")
    assert project.call("launcher", "wait", str(job)).returncode == 0
    assert left(project) == {f"jobs/long@{job}/answer": f"{job}\n{job}\n"}


def test_a_folder_that_cannot_be_made_is_named(project: Project) -> None:
    (project.folder / "runs").write_text("no folder")
    job = add(project, "--", "true", "{job_folder}")
    assert project.call("launcher", "wait", str(job)).returncode == 1
    with reading(project.home) as store:
        assert in_state(store, job, State.FAILED)
    assert f"no folder in {project.folder}/runs/night" in str(shown(project, job)["reason"])


def test_event_files_in_the_folder_of_a_program_are_read_while_it_runs_and_when_it_is_done(
    project: Project, tmp_path: Path
) -> None:
    gate, events = tmp_path / "gate", tmp_path / "events.out.tfevents.1"
    os.mkfifo(gate)
    write_events(events, event("loss", 3, simple(0.5), at=time.time() + 60))
    copies = 'mkdir -p {job_folder}/logs; cp "$1" {job_folder}/logs; read line < "$2"'
    words = ("--tensorboard", "{job_folder}/logs", "--", *shell(copies, str(events), str(gate)))
    job = add(project, *words)

    def metrics() -> object:
        steps = reported_steps(project.home.attempt(job, 1))
        return steps and dict(steps[-1].metrics)

    until(lambda: metrics() == {"loss": 0.5}, "its numbers are read")
    gate.write_text("over\n")
    assert project.call("launcher", "wait", str(job)).returncode == 0
    assert metrics() == {"loss": 0.5}
