"""Messages about one job (`notify_on`): a real queue, real commands, restarts and kills of the process that sends."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import NewJob, Store
from launcher.system.installation import install_command
from tests.build import a_context, a_spec, enqueue, lines_of, shell, until
from tests.launcher.conftest import Launcher
from tests.launcher.notify.test_service import ServiceHarness, command, finish

# appends a line of facts to a file; "$1" is the file
NOTE = 'echo "$LAUNCHER_EVENT|$LAUNCHER_JOB|$LAUNCHER_JOB_NAME|$LAUNCHER_STATE|$LAUNCHER_REASON" >> "$1"'

HOLD = (
    'echo "$LAUNCHER_EVENT|$LAUNCHER_TITLE|$LAUNCHER_HELD|$LAUNCHER_JOB|$LAUNCHER_JOB_NAME'
    '|$(echo "$LAUNCHER_TEXT" | grep release)" >> "$1"'
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def teller(home: Home, store: Store, tmp_path: Path, notes: Path) -> Iterator[ServiceHarness]:
    config = tmp_path / "config.toml"
    config.write_text(
        command(notes, NOTE).replace("[notify.desk]", "[notify]\nevents = []\n[notify.desk]")
    )
    teller = ServiceHarness(home, config)
    yield teller
    teller.service.close()


def put(store: Store, name: str, when: str, **spec: Any) -> int:
    (job,) = enqueue(store, a_spec(name=name, terms=Terms(notify_on=when), **spec), run="study")
    return job


def settle(teller: ServiceHarness) -> None:
    """Let the service send all that is due, and look for more."""
    teller.minute()
    teller.until(lambda: not teller.notices.job_ends, "all is sent")
    teller.service.step()


def test_end_reports_every_end_and_failure_only_a_failure(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    finish(store, put(store, "a", "end"))
    finish(store, put(store, "b", "end"), failed="no such file")
    finish(store, put(store, "c", "failure"))
    finish(store, put(store, "d", "failure"), failed="boom")
    finish(store, *enqueue(store, a_spec(name="silent"), run="study"))
    store.job_control.cancel([put(store, "e", "end"), put(store, "f", "failure")], time.time())
    settle(teller)
    assert lines_of(notes) == [
        "job-ended|1|a|done|done",
        "job-failed|2|b|failed|no such file",
        "job-failed|4|d|failed|boom",
        "job-ended|6|e|cancelled|cancelled by its owner",
    ]


def test_failure_that_is_tried_again_is_not_reported(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    (job,) = enqueue(
        store, a_spec(name="a", terms=Terms(notify_on="failure", retries=1, backoff_s=0.0))
    )
    assert finish(store, job, failed="once") is State.QUEUED
    settle(teller)
    assert lines_of(notes) == []
    store.ready_jobs.release_due_timers(time.time())
    assert finish(store, job, failed="twice") is State.FAILED
    settle(teller)
    assert [line.split("|")[4] for line in lines_of(notes)] == ["twice"]


def test_job_that_ends_again_is_reported_again(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    job = put(store, "a", "end")
    finish(store, job)
    settle(teller)
    store.job_control.retry([job], time.time())
    finish(store, job, failed="now it fails")
    settle(teller)
    assert [line.split("|")[3] for line in lines_of(notes)] == ["done", "failed"]


def test_restart_loses_and_repeats_no_message(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    for name in "abc":
        finish(store, put(store, name, "end"))
    teller.service.step()  # the ends are on record, the first is being sent
    assert [end.name for end in teller.notices.job_ends] == ["a", "b", "c"]
    teller.until(lambda: len(teller.notices.job_ends) == 2, "the first is on record as sent")
    teller.again()
    settle(teller)
    teller.again()
    settle(teller)
    names = [line.split("|")[2] for line in lines_of(notes)]
    assert [*dict.fromkeys(names)] == ["a", "b", "c"]
    # `b` may have been on its way when the process was stopped: at least once
    assert (names.count("a"), names.count("c")) == (1, 1)


def test_message_goes_to_the_targets_that_the_run_selects(
    teller: ServiceHarness, store: Store, tmp_path: Path, notes: Path
) -> None:
    other = tmp_path / "other"
    config = Path(teller.environ["LAUNCHER_CONFIG"])
    config.write_text(command(notes, NOTE) + command(other, NOTE).replace("desk", "other"))
    job = put(store, "a", "end")
    with store.database.writing():
        run = store.read.jobs_by_id([job])[0].run_id
        store.set_notify(run, RunNotify(events=(), to=("other",)))
    finish(store, job)
    settle(teller)
    assert (lines_of(notes), len(lines_of(other))) == ([], 1)


def a_sweep(store: Store, run: str, number: int, **terms: Any) -> list[int]:
    """Queue jobs as one command does."""
    specs = [
        a_spec(name=f"fit{number}@n={n}", run=run, terms=Terms(**terms)) for n in range(number)
    ]
    with store.database.writing():
        place = store.ensure_run(Path("/nowhere"), run)
        jobs = [NewJob(spec=spec) for spec in specs]
        return [*store.insert_new(place, a_context(), jobs, time.time())]


def test_hold_is_reported_once_and_again_after_a_release(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    config = Path(teller.environ["LAUNCHER_CONFIG"])
    config.write_text(f'[notify]\nevents = ["jobs-held"]\n{command(notes, HOLD)}')
    jobs = a_sweep(store, "study", 9, max_failures=2)
    for job in jobs[:2]:
        finish(store, job, failed="boom")
    settle(teller)
    what = "7 jobs are held after 2 failures (most recent: boom)"
    first = f"jobs-held|study: {what}|7|2|fit9@n=1|To continue: launcher release run:study"
    assert lines_of(notes) == [first]
    teller.again()
    settle(teller)
    assert lines_of(notes) == [first]
    store.job_control.release(jobs, time.time())
    for job in jobs[2:4]:
        finish(store, job, failed="boom")
    settle(teller)
    (again,) = lines_of(notes)[1:]
    assert "study: 5 jobs are held after 2 failures" in again


def test_hold_is_reported_to_targets_of_the_event_or_on_request(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    config = Path(teller.environ["LAUNCHER_CONFIG"])
    config.write_text(f"[notify]\nevents = []\n{command(notes, HOLD)}")
    for at, terms in enumerate([{}, {"notify_on": "failure"}]):
        for job in a_sweep(store, "add", 9 + at, **terms)[:5]:
            finish(store, job, failed=f"{at}")
        store.job_control.cancel([row.id for row in store.read.open_jobs()], time.time())
    settle(teller)
    (hold,) = [line for line in lines_of(notes) if line.startswith("jobs-held|")]
    what = "add: 5 jobs are held after 5 failures with one cause (1)"
    assert hold == f"jobs-held|{what}|5|14|fit10@n=4|To continue: launcher release 15 16 17 18 19"


def test_message_survives_a_kill_of_the_scheduler(
    launcher: Launcher, home: Home, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(command(notes, NOTE))
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    gate = tmp_path / "gate"
    script = 'until [ -e "$1" ]; do sleep 0.05; done; exit 3'
    added = launcher.well("add", "--notify-on", "failure", "--", *shell(script, str(gate)))
    assert "warning" not in added.err
    launcher.well("wait", "1", "--for", "running")
    pid = scheduler_pid(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    gate.touch()
    assert launcher("wait", "1").code == 1
    expected = "job-failed|1|command/1|failed|ended with exit code 3"
    until(lambda: expected in lines_of(notes), "it is reported")
    assert lines_of(notes).count(expected) == 1


def test_missing_target_is_reported_when_the_job_is_queued(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    monkeypatch.chdir(tmp_path)
    warning = (
        "no message is sent. Add a table [notify.NAME] to config.toml (launcher help messages)."
    )
    added = launcher.well("add", "--hold", "--notify-on", "end", "--", "true")
    assert added.err == f"warning: --notify-on: {warning}\n"
    (tmp_path / "t.yaml").write_text(
        "name: t\ncommand:\n  - {name: a, argv: ['true'], notify_on: failure}\n  - {name: b, argv: ['true']}\n"
    )
    planned = launcher.well("run", "t.yaml", "--dry-run", "--json")
    assert f"warning: notify_on: {warning}" in planned.err
    resources = [
        job["resources"]["notify_on"] for job in launcher.json("run", "t.yaml", "--dry-run")["jobs"]
    ]
    assert resources == ["failure", None]


def test_missing_extra_is_reported_when_the_job_is_queued(
    launcher: Launcher, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(command(notes))
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    monkeypatch.setitem(sys.modules, "apprise", None)
    words = ("add", "--hold", "--notify-on", "end", "--", "true")
    assert launcher.well(*words).err == ""
    config.write_text(f'{command(notes)}[notify.mail]\nurl = "mailtos://a:b@example.org"\n')
    error = launcher.well(*words).err
    assert "warning: --notify-on: no message is sent to mail, because apprise is not" in error
    assert install_command("notify") in error


def test_option_is_stored_only_if_it_is_given(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--notify-on", "end", "--", "true")
    launcher.well("add", "--hold", "--priority", "1", "--retries", "2", "--", "true")
    with_it, without = store.read.jobs()
    assert with_it.spec.terms.notify_on == "end"
    assert "notify_on" not in without.spec_text
    launcher.well("edit", "2", "--set", "resources.notify_on=failure")
    assert store.read.jobs_by_id([2])[0].spec.terms.notify_on == "failure"
