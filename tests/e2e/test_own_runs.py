"""Programs in runs of their own, with folders of their own: real commands, a real scheduler, real kills."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from launcher.frontends.notify.notices import read_notification_state
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.jobs.job_folders import OWNER
from launcher.queue.jobs.states import State
from launcher.queue.workers.progress.attempt_progress import read_reported_steps
from tests.build import end_everything, in_state, lines_of, program_of, shell, supervisor_of, until
from tests.e2e.conftest import Project, reading
from tests.launcher.staging.attempts import files_in
from tests.launcher.workers.progress.event_writer import event, simple, write_events
from tests.receivers import a_webhook
from tests.shortened import QUICK_MESSAGES, shorten

WRITES = 'echo "$1" > {job_folder}/answer'


WAITS = f'{WRITES}; read line < "$2"; echo "$line" >> {{job_folder}}/answer'


def add(project: Project, *words: str) -> int:
    answer = project.call("launcher", "add", "--run", "night", *words)
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout.split("\t")[0])


def job_details(project: Project, job: int) -> dict[str, object]:
    record: dict[str, object] = json.loads(
        project.call("launcher", "show", str(job), "--json").stdout
    )
    return record


def run_files(project: Project, run: str = "night") -> dict[str, str]:
    """Return the files of a run without staging folders and the record of its queue folder."""
    files = files_in(project.folder / "runs" / run)
    apart = (".attempts/", f"jobs/{OWNER}")
    return {name: text for name, text in files.items() if not name.startswith(apart)}


def folder_and_link(job: int, name: str, answer: str) -> dict[str, str]:
    """Return the files that an added job leaves: its folder, and a link that names the job for people."""
    return {f"jobs/{job}/answer": answer, f"jobs/{name}@{job}": f"→ {job}"}


@pytest.mark.slow  # with the intervals of the product: a run ends five seconds after its last job
def test_message_is_sent_each_time_a_program_run_ends(project: Project, tmp_path: Path) -> None:
    config, gate = tmp_path / "config.toml", tmp_path / "gate"
    project.environment["LAUNCHER_CONFIG"] = str(config)
    shorten(project.environment, QUICK_MESSAGES)
    os.mkfifo(gate)
    posts: list[dict[str, str]] = []
    with a_webhook() as webhook:
        config.write_text(f'[notify.hook]\nurl = "{webhook.url}"\nevents = ["run-ended"]\n')
        config.chmod(0o600)
        for programs in ((shell('read line < "$1"', str(gate)), ["true"]), (["false"],)):
            for program in programs:
                add(project, "--", *program)
            if not posts:  # the run has two jobs before one of them ends
                gate.write_text("over\n")
            until(lambda: webhook.posts, "its end is told", 60.0)
            until(
                lambda: not read_notification_state(project.home).has_pending,
                "it is on record as sent",
            )
            posts += webhook.posts
            webhook.posts.clear()
    titles = [post["title"].split(" in ")[0] for post in posts]
    assert titles == ["night ended: 2 done", "night ended: 1 failed"]
    assert "The whole run: 2 done, 1 failed." in posts[1]["message"]


def test_job_folder_is_moved_to_the_run_if_done_and_set_aside_if_failed(
    project: Project,
) -> None:
    done = add(project, "--name", "good", "--", *shell(WRITES, "first"))
    failed = add(project, "--name", "bad", "--", *shell(f"{WRITES}; exit 1", "half"))
    assert project.call("launcher", "wait", str(done), str(failed)).returncode == 1
    assert run_files(project) == folder_and_link(done, "good", "first\n")
    assert job_details(project, done)["folder"] == f"{project.folder}/runs/night/jobs/{done}"
    aside = job_details(project, failed)["not_accepted"]
    assert isinstance(aside, str)
    assert files_in(Path(aside)) == folder_and_link(failed, "bad", "half\n")
    newer = add(project, "--name", "good", "--", *shell(WRITES, "second"))
    assert project.call("launcher", "wait", str(newer)).returncode == 0
    both = folder_and_link(done, "good", "first\n") | folder_and_link(newer, "good", "second\n")
    assert run_files(project) == both
    assert project.call("launcher", "clean", "run:night", "--yes").returncode == 0
    assert run_files(project) == both
    assert not Path(aside).exists()


@pytest.mark.parametrize("words", [("add", "--run", "night"), ("run",)])
def test_jobs_of_two_queue_folders_at_once_do_not_mix_their_files(
    project: Project, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Added jobs of the same number have two folders. An entry of a task file keeps the whole folder of the last job."""
    other = project.with_home(tmp_path / "other")
    try:
        for name, queue in (("a", project), ("b", other)):
            os.mkfifo(tmp_path / name)
            argv = shell(
                f'echo {name} > {{job_folder}}/{name}; read line < "$1"', str(tmp_path / name)
            )
            if words == ("run",):
                task = f"name: night\ncommand: [{{name: long, argv: {json.dumps(argv)}}}]\n"
                queue.write(f"{name}.yaml", task)
                assert queue.call("launcher", "run", f"{name}.yaml", "--detach").returncode == 0
            else:
                assert queue.call("launcher", *words, "--name", "long", "--", *argv).returncode == 0
            program_of(queue.home.attempt(1, 1))
        for name, queue in (("a", project), ("b", other)):
            (tmp_path / name).write_text("over\n")
            assert queue.call("launcher", "wait", "1").returncode == 0
        own = job_details(other, 1)["folder"]
        assert isinstance(own, str)
        folder = Path(own).name
        expected = (
            {"jobs/long/b": "b\n"}
            if words == ("run",)
            else {"jobs/1/a": "a\n", "jobs/long@1": "→ 1"}
            | {f"jobs/{folder}/b": "b\n", f"jobs/long@{folder}": f"→ {folder}"}
        )
        assert run_files(project) == expected
    finally:
        end_everything(other.home)


def test_new_job_folder_replaces_the_previous_one_completely(
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
        assert {*run_files(project, "study")} == {f"jobs/a/{made}", "jobs/b/here"}
        plan = project.call("launcher", "run", "study.yaml", "--dry-run")
        assert "No job has to run." in plan.stdout
        (run / "jobs/b/here").unlink()
        (run / "jobs/b").rmdir()
        plan = project.call("launcher", "run", "study.yaml", "--dry-run", "--all")
        assert f"{run}/jobs/b is gone" in plan.stdout
        project.write("study.yaml", task.replace("sh, -c", "bash, -c", 1))
    assert run_files(project, "study") == {"jobs/a/second": "2\n"}
    assert (project.folder / "runs/study").exists()


@pytest.mark.parametrize("instant", ["before its end", "before its folder is accepted"])
def test_job_folder_survives_a_killed_scheduler(
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
        assert run_files(project) == {}
        os.kill(scheduler, signal.SIGKILL)
    assert project.call("launcher", "wait", str(job)).returncode == 0
    assert run_files(project) == folder_and_link(job, "long", "begun\nover\n")
    assert not (project.folder / "runs/night/.attempts").exists()


def test_next_attempt_continues_with_the_folder_of_a_killed_attempt(
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
    assert run_files(project) == folder_and_link(job, "long", f"{job}\n{job}\n")


def test_job_folder_that_cannot_be_created_is_named(project: Project) -> None:
    (project.folder / "runs").write_text("no folder")
    job = add(project, "--", "true", "{job_folder}")
    assert project.call("launcher", "wait", str(job)).returncode == 1
    with reading(project.home) as store:
        assert in_state(store, job, State.FAILED)
    assert f"cannot make a folder in {project.folder}/runs/night" in str(
        job_details(project, job)["reason"]
    )


def test_event_files_in_a_job_folder_are_read_during_and_after_the_run(
    project: Project, tmp_path: Path
) -> None:
    gate, events = tmp_path / "gate", tmp_path / "events.out.tfevents.1"
    os.mkfifo(gate)
    write_events(events, event("loss", 3, simple(0.5), at=time.time() + 60))
    copies = 'mkdir -p {job_folder}/logs; cp "$1" {job_folder}/logs; read line < "$2"'
    words = ("--tensorboard", "{job_folder}/logs", "--", *shell(copies, str(events), str(gate)))
    job = add(project, *words)

    def metrics() -> object:
        steps = read_reported_steps(project.home.attempt(job, 1))
        return steps and dict(steps[-1].metrics)

    until(lambda: metrics() == {"loss": 0.5}, "its numbers are read")
    gate.write_text("over\n")
    assert project.call("launcher", "wait", str(job)).returncode == 0
    assert metrics() == {"loss": 0.5}


# --- Task files whose entries name the jobs that they follow, through the installed commands


PREPARE = """\
mkdir -p toys made
for word in pre-dot pre-real pre-line; do echo "$WORDS $word" > toys/$word.txt; done
until [ -e go ]; do sleep 0.05; done
echo prepare >> order
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
        return {row.name: row.state for row in store.read.jobs_of_runs_named("study")}


def planned(project: Project, *words: str) -> dict[str, str]:
    """Return job → what would be done with it now."""
    answer = project.call("launcher", "run", "study.yaml", "--dry-run", "--json", *words)
    assert answer.returncode == 0, answer.stderr
    return {job["name"]: job["state"] for job in json.loads(answer.stdout)["jobs"]}


def changed(project: Project) -> set[str]:
    return {name for name, state in planned(project).items() if state != "cached"}


def order(project: Project) -> list[str]:
    return lines_of(project.folder / "order")


def test_job_order_survives_a_killed_scheduler(study: Project) -> None:
    assert planned(study) == dict.fromkeys(JOBS, "new")
    assert study.call("launcher", "run", "study.yaml", "--detach").returncode == 0
    until(lambda: states(study)["command/prepare"] is State.RUNNING, "the preparation runs")
    pid = scheduler_pid(study.home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(study.home) is None, "the scheduler is dead")
    study.write("go", "")
    answer = study.call("launcher", "wait", "run:study")
    assert answer.returncode == 0, answer.stderr
    made = study.folder / "made"
    assert order(study) == ["prepare", f"export a b in {made}", "mail"]
    seen = json.loads((made / "exported").read_text())["seen"]
    assert seen == ["few", "pre-dot", "few", "pre-real"]
    assert set(states(study).values()) == {State.DONE}
    assert changed(study) == set()


def test_program_edited_in_the_queue_is_rerun_by_the_next_run(
    study: Project,
) -> None:
    study.write("go", "")
    study.call("launcher", "run", "study.yaml", "--detach", "--set", "resources.not_before=+1h")
    answer = study.call("launcher", "edit", "command/prepare", "--set", "env={WORDS: many}")
    assert answer.returncode == 0, answer.stderr
    assert "WORDS=many" in study.call("launcher", "show", "command/prepare").stdout
    with reading(study.home) as store:
        stored = {row.name: row.hash for row in store.read.jobs_of_runs_named("study")}
    answer = study.call("launcher", "run", "study.yaml", "--dry-run", "--json")
    by_file = {job["name"]: job["hash"] for job in json.loads(answer.stdout)["jobs"]}
    assert {name for name in stored if stored[name] != by_file[name]} == JOBS - {"command/mail"}


def test_program_whose_output_was_used_cannot_be_edited(study: Project) -> None:
    study.write("go", "")
    assert study.call("launcher", "run", "study.yaml").returncode == 0
    words = ("retry", "command/prepare", "--force", "--set", "env={WORDS: many}")
    answer = study.call("launcher", *words)
    assert answer.returncode == 2
    assert "cannot change command/prepare, because" in answer.stderr


def test_printed_command_lines_of_a_plan_work_without_the_queue(study: Project) -> None:
    answer = study.call("launcher", "run", "study.yaml", "--dry-run", "--commands")
    lines = answer.stdout.splitlines()
    assert lines[0] == "env WORDS=few sh prepare.sh"
    assert "env -C made 'NAME=a b' sh export.sh" in lines


def test_program_cannot_override_variables_set_by_launcher(project: Project) -> None:
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


def test_failed_program_names_the_missing_folder(project: Project) -> None:
    project.write(
        "study.yaml",
        "name: study\ncommand:\n"
        "  - {name: first, argv: ['true']}\n"
        "  - {name: second, argv: ['true'], cwd: made, after: first}\n",
    )
    answer = project.call("launcher", "run", "study.yaml")
    assert answer.returncode == 1
    assert f"cannot start 'true': the folder {project.folder}/made does not exist" in answer.stderr
