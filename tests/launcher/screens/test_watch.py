"""`launcher status --watch` in a terminal and in a pipe, beside a queue that changes."""

import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.frontends.screens.watch import wrap_message
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Failed, State
from launcher.queue.store.backups import back_up
from launcher.queue.store.queue import Store
from launcher.queue.texts import pause_reason
from launcher.system.processes import identity
from launcher.system.text_table import TextStyle, line, width_of
from tests.build import (
    DEADLINE_S,
    a_spec,
    claimed,
    enqueue,
    finished,
    in_state,
    job_row,
    program_of,
    shell,
    until,
)
from tests.forked import ROOT
from tests.launcher.conftest import Launcher
from tests.screens import texts_of
from tests.terminal import COMMAND, piped, seen

IMPATIENT = "tests.launcher.screens.impatient"
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


def test_ctrl_c_ends_watch_and_restores_the_terminal(store: Store) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch") as window:
        window.shows("command/1")
        window.type("\x03")
        assert window.ends() == 130
        assert window.raw.rstrip().endswith(b"\x1b[?25h\x1b[?1049l"), "no cursor is hidden"


def test_watch_fits_a_shrinking_window(store: Store) -> None:
    enqueue(store, *(f"command/{'x' * 60}{number}" for number in range(30)))
    with seen("status", "--watch=3600s", columns=120, rows=40) as window:
        window.until(lambda text: text.count("command/xxx") == 30, "all are seen")
        window.resize(60, 12)
        window.shows("more lines")
        assert len(window.lines) == 12
        window.until(lambda text: "…" in text, "names are cut")


def test_line_as_wide_as_the_window_keeps_its_last_character(store: Store) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch") as window:
        window.shows("command/1")
        assert re.search(rb"command/1[^\r\n]*\x1b\[K", window.raw), "a shorter one is cleared"
        assert re.search(rb"\d\d:\d\d:\d\d\r\n", window.raw), "the clock ends at the edge"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTSTP])
def test_signals_restore_the_terminal(store: Store, number: signal.Signals) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch=0.2s") as window:
        window.shows("command/1")
        window.child.send_signal(number)
        window.until(lambda _: LEAVE in window.raw, "the terminal is given back")
        if number == signal.SIGTERM:
            assert window.ends() == -signal.SIGTERM
            assert window.raw.endswith(LEAVE)
        else:  # nobody can go on a process that has no shell: it is never halted
            window.until(lambda _: ENTER in window.raw.partition(LEAVE)[2], "it goes on")
            window.type("\x03")
            assert window.ends() == 130


def test_terminal_without_cursor_movement_gets_one_line_per_change(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    with seen("status", "--watch", TERM="dumb") as window:

        def told(text: str) -> bool:  # nobody knows when it begins to look
            store.job_control.hold([job], 1.0)
            store.job_control.release([job], 1.0)
            return "held" in text

        window.until(told, "it tells of a change")
        assert b"\x1b" not in window.raw


def test_run_view_has_no_style_without_colours(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    waits = "sh, -c, 'until [ -e \"$0\" ]; do sleep 0.01; done', go"
    (tmp_path / "tasks.yaml").write_text(f"name: few\ncommand:\n  - {{argv: [{waits}]}}\n")
    for colour in (True, False):
        (tmp_path / "go").unlink(missing_ok=True)
        with seen("run", "tasks.yaml", "--force", colour=colour) as window:
            window.shows("0 of 1")
            (tmp_path / "go").touch()
            assert window.ends() == 0
            assert bool(re.search(rb"\x1b\[[0-9;]*m", window.raw)) is colour
            assert "✓ done" in window.text
            assert "0 of 1" not in window.text, "what changes is gone at the end"
            assert "RUNNING" not in window.text


def test_run_view_shows_why_nothing_starts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    late = "  - {name: late, argv: ['true'], not_before: +1h}\n"
    (tmp_path / "tasks.yaml").write_text(f"name: few\ncommand:\n{late}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with seen("run", "tasks.yaml", command=IMPATIENT) as window:
        window.shows("WAITING")
        window.shows("waiting for 20")
        window.type("\x03")
        assert window.ends() == 130


def test_watch_ends_if_the_queue_is_deleted(store: Store, home: Home) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch=0.2s") as window:
        window.shows("command/1")
        home.database.unlink()
        assert window.ends() == 3
        assert "does not exist any more" in window.text


def test_watch_ends_if_the_queue_is_replaced(store: Store, home: Home) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch=0.2s") as window:
        window.shows("command/1")
        back_up(home.database, home.backups, 4).replace(home.database)
        assert window.ends() == 3
        assert "was replaced" in window.text


def test_watch_ends_if_the_window_is_closed(store: Store) -> None:
    enqueue(store, a_spec())
    with seen("status", "--watch=0.2s") as window:
        window.shows("command/1")
        window.close()
        assert window.ends() in {-signal.SIGHUP, 3, 141}


def test_watch_shows_only_matching_jobs(store: Store) -> None:
    enqueue(store, "command/a", "command/b")
    with seen("status", "--watch", "*/b") as window:
        assert "command/a" not in window.shows("command/b")


def test_pipe_gets_one_line_per_change(store: Store, tmp_path: Path) -> None:
    a, b = enqueue(store, "command/a", "command/b")
    told = tmp_path / "told"
    with told.open("wb") as file:
        watch = subprocess.Popen([*COMMAND, "status", "--watch"], stdout=file)

    def begins() -> bool:  # nobody knows when it begins to look
        store.job_control.hold([b], 1.0)
        store.job_control.release([b], 1.0)
        return bool(told.read_text())

    until(begins, "it tells of a change")
    claim = claimed(store, a)
    store.job_control.pause([a], lambda _: pause_reason("cpu", None, 1.0), 1.0)
    store.transitions.finish_attempt(claim, Failed(at=2.0, error="boom"), outputs={}, now=2.0)
    until(lambda: "failed" in told.read_text(), "it tells of the failure")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(DEADLINE_S) == 130
    lines = told.read_text().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d ‖ held      command/b  held by its owner", lines[0])
    start, paused, failed = (line for line in lines if "command/a" in line)
    assert "◐ paused    command/a  paused since " in paused
    assert start.endswith("● start     command/a  fits")
    assert failed.endswith("✗ failed    command/a  boom  → launcher logs 1")


def test_watch_ends_if_the_pipe_is_closed(store: Store) -> None:
    enqueue(store, a_spec())
    command = [sys.executable, "-m", IMPATIENT, "status", "--watch"]
    watch = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert watch.stdout is not None
    watch.stdout.close()
    assert watch.wait(DEADLINE_S) == 141


def test_pipe_gets_column_names_on_request(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    finished(store, job)
    lines = launcher("status", "--header").out.splitlines()
    assert lines[0].split("\t") == ["id", "run", "name", "state", "since", "why"]
    assert lines[1].split("\t")[:4] == ["1", "test", job_row(store, job).name, "done"]


def test_change_is_wrapped_between_words() -> None:
    name = "train/gan2:pre&gan3:pre&real:pre%50~pgu@lr=0.001,seed=1"
    text = f"14:02:07 ✗ failed    {name}  ended with exit code 1: KeyError: 'lr'  → launcher logs 7"
    drawn = texts_of(wrap_message(line(text, TextStyle.BAD), "  [12/48]", 80))
    assert " ".join(drawn).split() == [*text.split(), "[12/48]"]
    assert all(one.startswith(" " * 21) for one in drawn[1:])
    assert all(width_of(one) <= 80 for one in drawn)
    assert texts_of(wrap_message(line(text), "", None)) == [text]
    assert {one.spans[0].style for one in wrap_message(line(text, TextStyle.BAD), "", 80)} == {
        TextStyle.BAD
    }


def test_change_does_not_wrap_within_a_long_name() -> None:
    name = "unlearn/gan2:pre&gan3:pre&sd15:pre&real:pre%50~pgu@lr=0.001,seed=1"
    text = f"14:02:07 ✓ done      {name}  1m 4s  accuracy 0.93"
    drawn = texts_of(wrap_message(line(text), "  [12/48]", 80))
    assert [drawn[0], drawn[1].split()[0]] == ["14:02:07 ✓ done", name]
    assert all(one.startswith("  ") and width_of(one) <= 80 for one in drawn[1:])


# --- watch_waiting


# --- wait, stop


def test_wait_names_jobs_that_did_not_succeed(launcher: Launcher, store: Store) -> None:
    launcher("add", "--", "true")
    launcher("add", "--name", "bad", "--", *shell("echo why; exit 3"))
    answer = launcher("wait")
    assert answer.code == 1
    assert answer.out == "2\tcommand/bad\tfailed\tended with exit code 3: why\n"
    launcher.well("wait", "1")
    assert launcher("wait").code == 0, "nothing is open"


def test_stop_lets_running_jobs_finish(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    script = 'until [ -e "$1" ]; do sleep 0.01; done'
    launcher("add", "--", *shell(script, str(tmp_path / "flag")))
    program_of(home.attempt(1, 1))
    assert launcher.well("stop").err == "The queue is stopped. 1 running job finishes.\n"
    assert launcher.json("status")["scheduler"]["state"] == "stopping"
    (tmp_path / "flag").touch()
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    assert in_state(store, 1, State.DONE)
    assert launcher.json("status")["scheduler"]["state"] == "stopped"


def test_stop_now_requeues_running_jobs_and_start_resumes_them(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    launcher("add", "--", *shell('[ -e "$1" ] || exec sleep 60', str(flag)))
    program = program_of(home.attempt(1, 1))
    assert launcher.well("stop", "--now").err == "The queue is stopped. 1 job waits in it.\n"
    assert scheduler_pid(home) is None
    assert identity(program) is None
    assert in_state(store, 1, State.QUEUED)
    assert launcher("stop", "--now").code == 0, "a second stop has nothing to do"
    flag.touch()
    launcher("add", "--", "true")
    launcher("start")
    launcher.well("wait", "1", "2")
    assert job_row(store, 1).attempts == 2


def test_wait_reports_a_stopped_queue(launcher: Launcher, home: Home) -> None:
    launcher("add", "--", "sleep", "60")
    program_of(home.attempt(1, 1))
    launcher.well("stop", "--now")
    said = launcher("wait")
    assert said.code == 3
    assert "the queue is stopped" in said.err


def test_wait_json_lists_all_jobs(launcher: Launcher, store: Store) -> None:
    good, bad = enqueue(store, "train/a", "train/b")
    finished(store, good)
    store.job_control.cancel([bad], 3.0)
    answer = launcher("wait", "train/", "--json")
    record = json.loads(answer.out)
    assert (answer.code, record["schema"]) == (1, 1)
    assert [(one["name"], one["state"]) for one in record["jobs"]] == [
        ("train/a", "done"),
        ("train/b", "cancelled"),
    ]


def test_wait_names_a_held_job_once(launcher: Launcher, store: Store) -> None:
    for _ in range(2):
        launcher("add", "--hold", "--", "true")
    with piped("wait") as waiter:
        assert waiter.err.readline() == (
            "note: 2 held jobs do not start before `launcher release`: command/1, command/2\n"
        )
        launcher("release", "1")
        launcher("release", "2")
        assert waiter.err.read() == ""


def test_wait_names_a_job_that_becomes_held(launcher: Launcher, home: Home, store: Store) -> None:
    launcher("add", "--not-before", "+1h", "--", "true")
    with piped("wait", code=1) as waiter:
        until(lambda: has_open(waiter.process.pid, home.database), "it has looked into the queue")
        launcher("hold", "1")
        said = waiter.err.readline()
        assert said.startswith(
            "note: 1 held job does not start before `launcher release`: command/1"
        )
        launcher("cancel", "1")


def test_wait_timeout_needs_a_unit_like_other_times(launcher: Launcher, store: Store) -> None:
    launcher("add", "--hold", "--", "true")
    for text, said in (("0.1s", "0.1 s"), ("0s", "0 s")):
        answer = launcher("wait", "--timeout", text)
        assert answer.code == 3
        assert f"the jobs have not ended after {said} (--timeout). They continue." in answer.err
    assert launcher("wait", "--timeout", "soon").code == 2
    for words in (
        ("wait", "--timeout"),
        ("query", "select 1", "--time-limit"),
        ("clean", "--older"),
    ):
        assert "'5' has no unit. Write 5s, 5m, 5h or 5d" in launcher.refused(*words, "5")
    assert "--watch: '5' has no unit. Write 5s, 5m" in launcher.refused("status", "--watch=5")


def test_wait_for_no_jobs_returns_at_once(launcher: Launcher, store: Store) -> None:
    assert json.loads(launcher.well("wait", "--json").out) == {"schema": 1, "jobs": []}


def has_open(pid: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it closes and opens as we look
        return any(entry.readlink() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False
