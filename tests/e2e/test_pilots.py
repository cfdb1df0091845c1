"""Jobs on pilots, by the real command line, scheduler, pilots and programs; the engine is this machine's own."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.frontends.notify.notices import read_notification_state
from launcher.provenance.file_digests import FileDigests
from launcher.queue.backends.local import make
from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import make_home
from launcher.queue.jobs.states import ENDED_STATES, Done, State
from launcher.queue.store.queue import Store
from launcher.system.files import read_json
from launcher.system.locks import lock_holder
from launcher.system.processes import identity, identity_from_record
from tests.build import (
    a_spec,
    claimed,
    endings,
    enqueue,
    gone,
    in_state,
    job_row,
    lines_of,
    program_of,
    shell,
    until,
)
from tests.e2e.conftest import Project, reading
from tests.forked import spawn_detached
from tests.receivers import a_mailbox, free_port
from tests.shortened import QUICK_MESSAGES, QUICK_PILOTS, shorten

CONFIG = """
[backends.box]
kind = "local"
cpus = 2
pilots = 2
beat = "0.2s"
poll = "0.2s"
"""


PATIENCE_S = 120.0  # a pilot has to start


FOR_EVER = "echo up; while :; do sleep 60 & wait; done"


@dataclass
class Lab:
    """A person whose jobs run on pilots."""

    project: Project
    store: Store

    def add(self, *words: str, on: str = "box") -> int:
        program = words[words.index("--") + 1 :] if "--" in words else words
        options = words[: words.index("--")] if "--" in words else ()
        answer = self.call("add", "--on", on, *options, "--", *program)
        return int(answer.split("\t")[0])

    def call(self, *words: str) -> str:
        done = self.project.call("launcher", *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def until(self, job: int, *states: State) -> None:
        until(
            lambda: in_state(self.store, job, *states),
            f"job {job} is {' or '.join(states)}; it is {job_row(self.store, job).state}",
            PATIENCE_S,
        )

    def pilots(self) -> list[PilotFolder]:
        """The folders of all pilots that there were."""
        pilots = self.project.home.folder / "pilots"
        return [PilotFolder(path.parent) for path in sorted(pilots.glob("*/spec.json"))]

    def pilot_of(self, job: int) -> int:
        """The pilot on which a job's first attempt runs."""
        folder = self.project.home.attempt(job, 1).folder.readlink().parents[1]
        who = identity_from_record(read_json(folder / "process.json"))
        assert who is not None
        return who.pid

    def pids(self) -> list[int]:
        """The pilots that live."""
        records = (
            identity_from_record(read_json(pilot.folder / "process.json"))
            for pilot in self.pilots()
        )
        return [who.pid for who in records if who is not None and identity(who.pid) is not None]


@pytest.fixture
def lab(project: Project, tmp_path: Path) -> Iterator[Lab]:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    shorten(project.environment, QUICK_PILOTS)
    project.environment["LAUNCHER_CONFIG"] = str(config)
    assert project.call("launcher", "add", "--", "true").returncode == 0  # begins the queue
    with reading(project.home) as store:
        lab = Lab(project, store)
        try:
            yield lab
        finally:
            project.call("launcher", "stop", "--now")
            engine = make(BackendSettings(name="box", kind="local"), project.home)
            engine.cancel([pilot.token for pilot in lab.pilots()])


def test_jobs_run_on_pilots_with_ordinary_logs(lab: Lab) -> None:
    jobs = [lab.add("echo", f"job {number}") for number in range(3)]
    for number, job in enumerate(jobs):
        lab.until(job, State.DONE)
        assert lab.call("logs", str(job)) == f"job {number}\n"
    assert "pilot" in lab.call("show", str(jobs[0]))
    lab.call("stop", "--now")
    until(lambda: not lab.pids(), "no pilot is left")


def test_next_scheduler_adopts_jobs_on_pilots(lab: Lab) -> None:
    gate = lab.project.folder / "gate"
    job = lab.add(*shell('while [ ! -e "$1" ]; do sleep 0.05; done', str(gate)))
    lab.until(job, State.RUNNING)
    program_of(lab.project.home.attempt(job, 1))
    scheduler = scheduler_pid(lab.project.home)
    assert scheduler is not None
    os.kill(scheduler, signal.SIGKILL)
    until(lambda: gone(scheduler), "it is dead")
    gate.touch()
    other = lab.add("true")  # starts the next one
    for each in (job, other):
        lab.until(each, State.DONE)
        assert endings(lab.store, each) == ["done"]


def test_job_on_a_pilot_can_be_cancelled(lab: Lab) -> None:
    job = lab.add(*shell(FOR_EVER))
    lab.until(job, State.RUNNING)
    program = program_of(lab.project.home.attempt(job, 1))
    lab.call("cancel", "--yes", str(job))
    lab.until(job, *ENDED_STATES)
    assert job_row(lab.store, job).state is State.CANCELLED
    until(lambda: gone(program), "its program is dead")


def test_job_of_a_killed_pilot_runs_again_on_another_pilot(lab: Lab) -> None:
    mark = lab.project.folder / "mark"
    job = lab.add(*shell('if [ -e "$1" ]; then exit 0; fi; touch "$1"; sleep 600', str(mark)))
    until(mark.exists, "it runs", PATIENCE_S)
    os.kill(lab.pilot_of(job), signal.SIGKILL)
    lab.until(job, State.DONE)
    assert endings(lab.store, job) == ["lost", "done"]


def test_job_with_rerun_never_is_lost_if_an_attempt_is_unrecorded(lab: Lab) -> None:
    """As after the restore of a backup: claims for a pilot are not sent to it."""
    job = 2  # the next one
    before = lab.project.home.attempt(job, 1)
    before.folder.mkdir()
    before.spec.write_text("{}")
    before.started.write_text('{"pid": 1, "start_ticks": 1, "boot": "another"}\n')
    assert lab.add("--rerun", "never", "--", "sh", "-c", "echo ran >> ran") == job
    lab.until(job, *ENDED_STATES)
    (attempt,) = lab.store.read.attempts([job])
    assert attempt.number == 2
    assert attempt.outcome is not None
    assert attempt.outcome["ending"] == "lost"
    assert attempt.outcome["why"] == f"the queue has no record of the attempt in {before.folder}"
    assert not (lab.project.folder / "ran").exists()


def test_program_files_are_checked_on_the_pilot_and_restored_locally(lab: Lab) -> None:
    lab.project.write("in.txt", "one")
    output = lab.project.folder / "out.txt"
    copy = ("--input", "in.txt", "--output", "out.txt", "--", *shell("cat in.txt > out.txt"))
    job = lab.add(*copy)
    lab.until(job, State.DONE)
    row = job_row(lab.store, job)
    assert row.outputs == {str(output): FileDigests().read_file_version(str(output))}
    assert list(row.spec.sources) == ["in.txt"]
    assert lab.add(*copy) == job, "it is done already"
    failing = lab.add("--output", "out.txt", "--", *shell("echo part > out.txt; exit 3"))
    lab.until(failing, State.FAILED)
    assert output.read_text() == "one"
    lab.project.write("in.txt", "two")
    again = lab.add(*copy)
    lab.until(again, State.DONE)
    assert (again > failing, output.read_text()) == (True, "two")


# --- A person with a mailbox: real commands, a real scheduler, a real mail server


TASK = """\
name: study
notify: {events: [run-ended, first-failure], to: mail}
command:
  - {argv: [sh, -c, "exit 0"]}
  - {argv: [sh, -c, "echo no such file; exit 1"]}
"""


@pytest.fixture
def config(project: Project, tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    project.environment["LAUNCHER_CONFIG"] = str(path)
    shorten(project.environment, QUICK_MESSAGES)
    return path


def test_ended_run_sends_a_mail(project: Project, config: Path) -> None:
    with a_mailbox() as mailbox:
        config.write_text(f'[notify.mail]\nurl = "{mailbox.url}"\n')
        config.chmod(0o600)
        project.write("study.yaml", TASK)
        ended = project.call("launcher", "run", "study.yaml")
        assert ended.returncode == 1, ended.stderr
        until(lambda: mailbox.mails, "the mail is there")
        until(
            lambda: not read_notification_state(project.home).has_pending, "it is on record as sent"
        )
    assert mailbox.mails[0]["Subject"].startswith("study ended: 1 done, 1 failed in ")
    assert mailbox.mails[0]["To"] == "me@example.org"
    assert "first failure: command/sh-c-echo-no-such-file-exit-1 (job 2)\n" in mailbox.text()
    assert "no such file\n  launcher logs 2" in mailbox.text()
    assert len(mailbox.mails) == 1
    listed = project.call("launcher", "notify")
    assert listed.stdout.splitlines()[0].split("\t")[:3] == ["target", "mail", "mailto://•••"]
    pid = lock_holder(project.home.notify_lock)
    assert pid is not None
    assert project.call("launcher", "stop", "--now").returncode == 0
    until(lambda: scheduler_pid(project.home) is None, "the scheduler leaves")
    until(lambda: gone(pid), "so does the process that sends messages")


def test_killed_scheduler_sends_no_message_twice(
    project: Project, config: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with a_mailbox() as mailbox:
        config.write_text(f'[notify.mail]\nurl = "{mailbox.url}"\n')
        waits = ("launcher", "add", "--", "sh", "-c", f"read line < {gate} || true")
        for words in (waits, ("launcher", "add", "false")):  # the run goes on after the failure
            assert project.call(*words).returncode == 0
        until(lambda: mailbox.mails, "the failure is told")
        until(
            lambda: not read_notification_state(project.home).has_pending, "it is on record as sent"
        )
        os.kill(scheduler_pid(project.home) or 0, signal.SIGKILL)
        until(lambda: _opened(gate), "the job goes on")
        project.call("launcher", "wait")
        until(lambda: len(mailbox.mails) == 2, "the end is told")
        until(
            lambda: not read_notification_state(project.home).has_pending, "it is on record as sent"
        )
    failure, end = (mail["Subject"] for mail in mailbox.mails)
    assert failure.endswith("failed, the first failure of this run")
    assert end.startswith("add ended: 1 done, 1 failed in ")


def _opened(gate: Path) -> bool:
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # nobody reads it yet
        return False
    return True


def test_unreachable_target_delays_no_other_and_shows_no_secret(
    project: Project, config: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    config.write_text(
        f'[notify.hook]\nurl = "json://127.0.0.1:{free_port()}/s3cret-t0ken"\n[notify.desk]\n'
        f"""command = ["sh", "-c", 'echo "$LAUNCHER_TITLE" >> {notes}']\n"""
    )
    make_home(project.home)
    store = Store(project.home, durable=False)
    (job,) = enqueue(store, a_spec())
    store.transitions.finish_attempt(
        claimed(store, job), Done(at=time.time()), outputs={}, now=time.time()
    )
    store.close()
    words = ["-P", "-m", "launcher.notify", str(project.home.folder)]
    log, append = tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = spawn_detached([sys.executable, *words], log, append, project.environment)
    try:
        until(lambda: lines_of(notes), "it is told")
        until(
            lambda: "hook" in read_notification_state(project.home).failing,
            "the other target was tried",
        )
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    assert "Connection error" in log.read_text()
    assert "s3cret" not in log.read_text() + project.home.notify_record.read_text()
    assert lines_of(notes)[0].startswith("test ended: 1 done in ")
