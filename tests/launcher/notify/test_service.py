"""Messages of a real queue, sent to real servers on the loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.frontends.notify.notices import (
    NotificationState,
    read_notification_state,
    write_notification_state,
)
from launcher.frontends.notify.service import EVENT_POLL_S, LONGEST_STAY_S, NotifyService
from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.jobs.states import Done, Failed, OomReport, OutOfMemory, State
from launcher.queue.store.queue import Store
from tests.build import Clock, a_spec, claimed, enqueue, lines_of, until
from tests.receivers import a_silent_server, a_webhook

# appends a line of facts to a file; "$1" is the file
NOTE = 'echo "$LAUNCHER_EVENT|$LAUNCHER_RUN|$LAUNCHER_TITLE" >> "$1"'
# the process, with shorter waits
PROCESS = """
import sys
from launcher.frontends.notify import notices, service
notices.RUN_END_DELAY_S = service.SCHEDULER_GRACE_S = service.EVENT_POLL_S = 0.05
sys.exit(service.main(sys.argv[1:]))
"""


class ServiceHarness:
    """A service without a process of its own, whose clock a test sets."""

    def __init__(self, home: Home, config: Path) -> None:
        self.clock, self.up = Clock(now=time.time()), Clock(now=5000.0)
        self.environ = {**os.environ, "LAUNCHER_CONFIG": str(config)}
        self.home = home
        self.service = self.again()

    def again(self) -> NotifyService:
        """Return the service after a restart."""
        if hasattr(self, "service"):
            self.service.close()
        self.service = NotifyService(self.home, self.environ, clock=self.clock, uptime=self.up)
        return self.service

    def until(self, condition: Callable[[], object], what: str, each_s: float = 0.0) -> None:
        """Run steps of the service until a condition holds; `each_s` seconds pass per step."""

        def step_and_check() -> object:
            self.later(each_s)
            self.service.step()
            return condition()

        until(step_and_check, what)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.up.now += seconds

    def minute(self) -> None:
        """Let the service read events, and let a minute pass."""
        self.service.step()
        self.later(61)

    @property
    def notices(self) -> NotificationState:
        """The stored notification state."""
        return read_notification_state(self.home)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def command(notes: Path, script: str = NOTE) -> str:
    words = ", ".join(f"'''{word}'''" for word in ("/bin/sh", "-c", script, "sh", str(notes)))
    return f"[notify.desk]\ncommand = [{words}]\n"


@pytest.fixture
def teller(
    home: Home, store: Store, config: Path, notes: Path
) -> Iterator[ServiceHarness]:  # the database
    config.write_text(command(notes))
    teller = ServiceHarness(home, config)
    yield teller
    teller.service.close()


def count_tries(teller: ServiceHarness, target: str) -> int:
    """Return the number of failed deliveries to a target."""
    failing = teller.notices.failing.get(target)
    return 0 if failing is None else failing.tries


def has_unreported_events(teller: ServiceHarness) -> bool:
    """Return whether an event is not yet recorded as sent to the target."""
    notices = teller.notices
    runs = notices.runs.values()
    return notices.has_pending or any(
        set(run.happened) - set(run.told.get("desk", ())) for run in runs
    )


def finish(store: Store, job: int, *, failed: str = "", now: float | None = None) -> State | None:
    at = time.time() if now is None else now
    outcome = Failed(at=at, error=failed) if failed else Done(at=at)
    return store.transitions.finish_attempt(claimed(store, job, at), outcome, outputs={}, now=at)


def test_message_is_retried_until_the_server_accepts_it(
    teller: ServiceHarness, store: Store, config: Path
) -> None:
    with a_webhook([500]) as webhook:
        config.write_text(f'[notify.hook]\nurl = "{webhook.url}"\n')
        finish(store, *enqueue(store, a_spec()))
        teller.minute()
        teller.until(lambda: count_tries(teller, "hook") == 1, "it failed")
        teller.service.step()
        assert len(webhook.posts) == 1  # not at once
        teller.later(60)
        teller.until(lambda: not teller.notices.has_pending, "it is sent")
    assert len(webhook.posts) == 2
    assert not teller.notices.given_up


def test_hanging_server_does_not_delay_other_targets(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    with a_silent_server() as port:
        hanging = f'[notify.hook]\nurl = "json://127.0.0.1:{port}/s3cret-t0ken"\ntimeout = "1s"\n'
        config.write_text(hanging + command(notes))
        finish(store, *enqueue(store, a_spec()))
        teller.minute()
        teller.until(lambda: lines_of(notes), "the other has it")
        teller.until(lambda: count_tries(teller, "hook"), "it is given up for now")
    assert [*teller.notices.failing] == ["hook"]
    assert teller.notices.failing["hook"].answer == "no answer in 1 s"
    assert "s3cret" not in teller.home.notify_record.read_text()


def sender_pids() -> list[int]:
    """Return the pids of our own processes that send a message."""
    mine = f"PPid:\t{os.getpid()}\n"
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [
        pid for pid in pids if mine in _read(pid, "status") and _DELIVER in _read(pid, "cmdline")
    ]


_DELIVER = "launcher.frontends.notify.sending"


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def test_secret_is_in_no_command_line_environment_or_file(
    teller: ServiceHarness, store: Store, config: Path, tmp_path: Path
) -> None:
    with a_silent_server() as port:
        file = tmp_path / "hook.url"
        file.write_text(f"json://127.0.0.1:{port}/s3cret-t0ken\n")
        file.chmod(0o600)
        config.write_text(f'[notify.hook]\nurl_file = "{file}"\ntimeout = "1s"\n')
        finish(store, *enqueue(store, a_spec()))
        teller.minute()
        teller.service.step()
        until(sender_pids, "it is under way")
        (pid,) = sender_pids()
        for name in ("cmdline", "environ"):
            assert "s3cret" not in _read(pid, name)
        teller.until(lambda: count_tries(teller, "hook"), "it failed")
    assert "s3cret" not in teller.home.notify_record.read_text()


def test_restart_sends_each_message_exactly_once(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    first, second, third = enqueue(store, "a", "b", "c")
    finish(store, first, failed="boom", now=teller.clock.now)
    teller.minute()
    teller.until(
        lambda: lines_of(notes) and not has_unreported_events(teller), "the failure is told"
    )
    teller.again()
    finish(store, second, now=teller.clock.now)
    teller.service.step()
    teller.again()
    finish(store, third, now=teller.clock.now)
    teller.minute()
    teller.again()
    teller.until(
        lambda: len(lines_of(notes)) == 2 and not has_unreported_events(teller), "the end is told"
    )
    teller.again()
    teller.later(9000)
    teller.until(lambda: not teller.notices.has_pending, "nothing is left")
    failure, end = lines_of(notes)
    assert failure.startswith("first-failure|test|test: a failed, the first failure of this run")
    assert end.startswith("run-ended|test|test ended: 2 done, 1 failed in ")


def test_message_is_sent_again_after_a_kill_before_its_record_is_written(
    home: Home, store: Store, config: Path, notes: Path
) -> None:
    # the first time the target kills who asked it to send, before that can learn of it
    script = (
        'echo "$LAUNCHER_MESSAGE" >> "$1"; [ -e "$1.once" ] || { touch "$1.once"; kill -9 $PPID; }'
    )
    config.write_text(command(notes, script))
    finish(store, *enqueue(store, a_spec()))
    words = [sys.executable, "-P", "-c", PROCESS, str(home.folder)]
    environ = {**os.environ, "LAUNCHER_CONFIG": str(config)}
    ends = [
        subprocess.run(words, env=environ, check=False, timeout=60).returncode for _ in range(3)
    ]
    assert ends == [-9, 0, 0]
    first, second = lines_of(notes)
    assert first == second  # a receiver can tell that it is the same
    assert not read_notification_state(home).has_pending


def test_events_are_read_again_after_their_record_could_not_be_written(
    teller: ServiceHarness, home: Home, store: Store, notes: Path
) -> None:
    home.notify_record.mkdir()  # as on a full disk
    finish(store, *enqueue(store, a_spec(), run="study"))
    teller.service.step()
    home.notify_record.rmdir()
    teller.minute()
    teller.until(lambda: lines_of(notes), "the command was told")
    assert "run-ended|study|" in lines_of(notes)[0]


def test_database_change_with_unchanged_size_and_time_is_noticed(
    teller: ServiceHarness, store: Store, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 4096, time.time_ns()  # as two writes within a tick of the file system's clock
    monkeypatch.setattr("launcher.frontends.notify.service.file_stamp", lambda _: written)
    jobs = enqueue(store, a_spec(), run="study")
    teller.service.step()
    finish(store, *jobs)
    teller.minute()
    teller.until(lambda: lines_of(notes), "the command was told")
    assert "run-ended|study|" in lines_of(notes)[0]


def test_removed_target_does_not_delay_others_when_the_record_is_unwritable(
    teller: ServiceHarness, home: Home, store: Store, config: Path, notes: Path
) -> None:
    desk = command(notes, '[ -e "$1.ready" ] && ' + NOTE)
    config.write_text(desk.replace("notify.desk", "notify.gone") + desk)
    finish(store, *enqueue(store, a_spec(), run="study"))
    teller.minute()
    teller.until(
        lambda: count_tries(teller, "gone") == count_tries(teller, "desk") == 1, "both failed"
    )
    config.write_text(desk)
    home.notify_record.unlink()
    home.notify_record.mkdir()  # as on a full disk
    Path(f"{notes}.ready").touch()
    teller.until(lambda: lines_of(notes), "the command was told", each_s=60)


def test_run_without_notify_events_sends_no_message(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    loud, silent = (enqueue(store, run, run=run)[0] for run in ("loud", "silent"))
    with store.database.writing():
        store.set_notify(store.ensure_run(Path("/nowhere"), "silent"), RunNotify(events=()))
    finish(store, silent)
    finish(store, loud)
    teller.minute()
    teller.until(lambda: lines_of(notes) and not teller.notices.has_pending, "it is told")
    (line,) = lines_of(notes)
    assert "|loud|" in line


def test_final_out_of_memory_failure_is_reported(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    first, _ = enqueue(store, "a", "b")
    now = time.time()
    short = OutOfMemory(at=now, error="tried to allocate 90 GiB", report=OomReport("gpu"))
    store.transitions.finish_attempt(claimed(store, first, now), short, outputs={}, now=now)
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")
    assert lines_of(notes) == ["out-of-memory|test|test: a ran out of memory"]


def test_messages_wait_until_a_broken_configuration_is_corrected(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    good = config.read_text()
    teller.service.step()
    config.write_text('[notify]\nretry = "always"\n' + good)
    finish(store, *enqueue(store, a_spec()))
    teller.minute()
    teller.service.step()
    assert teller.notices.has_pending is False
    assert lines_of(notes) == []
    config.write_text(good)
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")


def test_target_with_an_unreadable_address_is_retried(
    teller: ServiceHarness, store: Store, config: Path, tmp_path: Path
) -> None:
    with a_webhook() as webhook:
        file = tmp_path / "hook.url"
        config.write_text(f'[notify.hook]\nurl_file = "{file}"\n')
        finish(store, *enqueue(store, a_spec()))
        teller.minute()
        teller.until(lambda: count_tries(teller, "hook"), "it failed")
        assert "cannot read" in teller.notices.failing["hook"].answer
        file.write_text(webhook.url)
        file.chmod(0o600)
        teller.later(60)
        teller.until(lambda: webhook.posts, "it is sent")


def test_command_target_does_not_run_a_shell(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    evil = a_spec(name="$(touch owned);`touch owned`")
    finish(store, *enqueue(store, evil), failed="'; touch owned; '")
    script = 'printf "%s\\n" "$LAUNCHER_JOB_NAME" "$LAUNCHER_REASON" >> "$1"'
    config.write_text(command(notes, script))
    teller.minute()
    teller.until(lambda: len(lines_of(notes)) == 2, "it is told")
    assert lines_of(notes) == [evil.name, "'; touch owned; '"]


def test_process_exits_without_scheduler_and_pending_messages(
    teller: ServiceHarness, store: Store, config: Path
) -> None:
    teller.service.step()
    assert not teller.service.is_finished()
    teller.later(10)
    teller.service.step()
    assert teller.service.is_finished()
    config.write_text('[notify.desk]\ncommand = ["/bin/false"]\n')
    finish(store, *enqueue(store, a_spec()))
    teller.minute()
    teller.until(lambda: count_tries(teller, "desk"), "it failed")
    assert not teller.service.is_finished()
    teller.later(LONGEST_STAY_S)
    teller.until(lambda: teller.service.is_finished(), "it does not stay for ever")


def test_first_start_reports_only_events_of_the_last_minutes(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    now = time.time()
    finish(store, *enqueue(store, "a", run="old"), now=now)
    with store.database.writing():
        store.database.execute("UPDATE events SET at = at - 7200")
    finish(store, *enqueue(store, "b", run="new"), now=now)
    teller.minute()
    teller.until(lambda: lines_of(notes) and not teller.notices.has_pending, "it is told")
    (line,) = lines_of(notes)
    assert "|new|" in line


def test_first_target_gets_no_message_of_earlier_runs(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    old, (first, second) = enqueue(store, "a", run="old"), enqueue(store, "a", "b", run="new")
    broken, going, _ = enqueue(store, "a", "b", "c", run="open")
    now = time.time()
    os.utime(config, (now - 30, now - 30))
    finish(store, *old, now=now)
    finish(store, broken, failed="boom", now=now)
    finish(store, first, now=now)
    with store.database.writing():
        store.database.execute("UPDATE events SET at = at - 60")
        store.database.execute("UPDATE jobs SET ended = ended - 60")
    finish(store, second, now=now)
    finish(store, going, now=now)  # the run goes on, and its failure lies before the target
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")
    teller.until(lambda: teller.service.step() == EVENT_POLL_S, "nothing is under way")
    (line,) = lines_of(notes)
    assert line.startswith("run-ended|new|new ended: 2 done in 1 m")


def test_additional_target_gets_no_message_of_reported_events(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    broken, going, _ = enqueue(store, "a", "b", "c", run="open")
    ended = enqueue(store, "a", run="old")
    finish(store, broken, failed="boom", now=teller.clock.now - 60)
    finish(store, *ended, now=teller.clock.now - 60)
    with store.database.writing():
        store.database.execute("UPDATE events SET at = at - 60")
    now = teller.clock.now
    config.write_text(command(notes, "false"))
    os.utime(config, (now - 300, now - 300))
    teller.minute()
    teller.until(lambda: count_tries(teller, "desk"), "it failed")
    config.write_text(command(notes, "false") + command(notes).replace("desk", "late"))
    teller.until(lambda: len(teller.notices.targets or ()) == 2, "it is read")
    finish(store, *enqueue(store, "a", run="next"), now=teller.clock.now)
    finish(store, going, now=teller.clock.now)  # after the target, but not the run's failure
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")
    teller.minute()
    teller.service.step()
    (line,) = lines_of(notes)
    assert "|next|" in line


def test_target_gets_no_message_of_runs_that_ended_before_its_definition(
    teller: ServiceHarness, store: Store, config: Path, notes: Path
) -> None:
    now = teller.clock.now
    config.write_text(command(notes, "false"))
    os.utime(config, (now - 300, now - 300))
    teller.service.step()
    finish(store, *enqueue(store, "a", run="old"), now=now)
    with store.database.writing():
        store.database.execute("UPDATE events SET at = at - 60")
    config.write_text(command(notes, "false") + command(notes).replace("desk", "late"))
    os.utime(config, (now - 30, now - 30))
    finish(store, *enqueue(store, "a", run="next"), now=now)
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")
    teller.minute()
    teller.service.step()
    (line,) = lines_of(notes)
    assert "|next|" in line


def test_replacement_by_an_older_database_is_followed(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    write_notification_state(teller.home, NotificationState(cursor=999_999))
    teller.again()
    teller.service.step()
    assert teller.notices.cursor == 0
    finish(store, *enqueue(store, a_spec()))
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")


def test_invalid_notification_state_is_reset(
    teller: ServiceHarness, store: Store, notes: Path
) -> None:
    for text in (
        "",
        "[]",
        '{"schema": 2}',
        '{"schema": 1, "cursor": 5}',
        '{"schema": 2, "cursor": "x"}',
        '{"schema": 2, "cursor": 5, "runs": [{}], "failing": {}, "given_up": []}',
    ):
        teller.home.notify_record.write_text(text)
        assert read_notification_state(teller.home) == NotificationState()
    teller.again()
    finish(store, *enqueue(store, a_spec()))
    teller.minute()
    teller.until(lambda: lines_of(notes), "it is told")
