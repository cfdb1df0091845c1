"""A person with a mailbox: real commands, a real scheduler, a real mail server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.notify.notices import read_notices
from launcher.states import Done
from launcher.store.queue import Store
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import make_home
from launcher.system.processes import lock_holder
from tests.build import a_spec, claimed, enqueue, gone, lines_of, until
from tests.e2e.conftest import Project
from tests.receivers import a_mailbox, free_port

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
    return path


def test_a_run_that_ended_is_told_by_mail(project: Project, config: Path) -> None:
    with a_mailbox() as mailbox:
        config.write_text(f'[notify.mail]\nurl = "{mailbox.url}"\n')
        config.chmod(0o600)
        project.write("study.yaml", TASK)
        ended = project.call("launcher", "run", "study.yaml")
        assert ended.returncode == 1, ended.stderr
        until(lambda: mailbox.mails, "the mail is there")
        until(lambda: not read_notices(project.home).pending, "it is on record as sent")
    assert mailbox.mails[0]["Subject"].startswith("study ended: 1 done, 1 failed in ")
    assert "no such file" in mailbox.text()
    assert len(mailbox.mails) == 1
    listed = project.call("launcher", "notify")
    assert listed.stdout.splitlines()[0].split("\t")[:3] == ["target", "mail", "mailto://•••"]
    pid = lock_holder(project.home.notify_lock)
    assert pid is not None
    assert project.call("launcher", "stop", "--now").returncode == 0
    until(lambda: scheduler_pid(project.home) is None, "the scheduler leaves")
    until(lambda: gone(pid), "so does the process that sends messages")


def test_the_death_of_a_scheduler_sends_nothing_twice(
    project: Project, config: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with a_mailbox() as mailbox:
        config.write_text(f'[notify.mail]\nurl = "{mailbox.url}"\n')
        waits = ("launcher", "add", "--", "sh", "-c", f"read line < {gate} || true")
        for words in (("launcher", "add", "false"), waits):
            assert project.call(*words).returncode == 0
        until(lambda: mailbox.mails, "the failure is told")
        until(lambda: not read_notices(project.home).pending, "it is on record as sent")
        os.kill(scheduler_pid(project.home) or 0, signal.SIGKILL)
        until(lambda: _opened(gate), "the job goes on")
        project.call("launcher", "wait")
        until(lambda: len(mailbox.mails) == 2, "the end is told")
        until(lambda: not read_notices(project.home).pending, "it is on record as sent")
    failure, end = (mail["Subject"] for mail in mailbox.mails)
    assert failure.endswith("failed, the first of this run")
    assert end.startswith("add ended: 1 done, 1 failed in ")


def _opened(gate: Path) -> bool:
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # nobody reads it yet
        return False
    return True


def test_where_nothing_is_configured_no_process_sends_messages(
    project: Project, config: Path
) -> None:
    config.write_text("")
    assert project.call("launcher", "add", "true").returncode == 0
    assert project.call("launcher", "wait").returncode == 0
    assert lock_holder(project.home.notify_lock) is None
    assert not project.home.notify_log.exists()


def test_a_target_that_cannot_be_told_keeps_no_other_waiting_and_shows_no_secret(
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
    store.scheduling.finish(claimed(store, job), Done(at=time.time()), outputs={}, now=time.time())
    store.close()
    words = [sys.executable, "-P", "-m", "launcher.notify", str(project.home.folder)]
    environment = {**os.environ, **project.environment}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: lines_of(notes), "it is told")
        until(lambda: "hook" in read_notices(project.home).failing, "the other target was tried")
    finally:
        process.terminate()
        _, log = process.communicate()
    assert "Connection error" in log
    assert "s3cret" not in log + project.home.notify.read_text()
    assert lines_of(notes)[0].startswith("test ended: 1 done in ")
