import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.handover import ensure_scheduler, scheduler_pid
from launcher.paths import Home
from launcher.processes import identity
from launcher.records import write_json
from launcher.states import Done, Failed, State
from launcher.store.store import Store
from tests.build import (
    a_context,
    a_spec,
    an_attempt,
    claimed,
    enqueue,
    in_state,
    job_row,
    lines_of,
    program_of,
    shell,
    until,
)
from tests.launcher.conftest import Launcher

COMMAND = (sys.executable, "-c", "from launcher.cli.main import main; main()")
STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m"


def in_a_terminal(*words: str, columns: int) -> str:
    """Run the command line in a terminal of its own and return what it drew."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    try:
        while chunk := os.read(ours, 4096):
            drawn += chunk
    except OSError:
        pass  # the terminal's other end was closed
    os.close(ours)
    assert child.wait() == 0
    return drawn.decode().replace("\r\n", "\n")


def with_a_log(home: Home, store: Store, log: bytes, name: str = "command/1") -> int:
    """A job that is done and left a log."""
    (job,) = enqueue(store, a_spec(name=name))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    store.finish(claimed(store, job), Done(at=2.0), outputs={}, now=2.0)
    attempt.log.write_bytes(log)
    return job


# --- add


def test_a_program_is_queued_as_it_is_typed(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "blue")
    script = 'echo "$1|$2|$COLOUR" > out; umask >> out'
    before = os.umask(0o037)
    try:
        answer = launcher(
            "add", "--name", "mine", "--priority", "3", "--", *shell(script, "a b", "-n")
        )
    finally:
        os.umask(before)
    assert (answer.code, answer.out) == (0, "1\tcommand/mine\n")
    assert launcher("wait").code == 0
    assert lines_of(tmp_path / "out") == ["a b|-n|blue", "0037"]
    row = job_row(store, 1)
    assert (row.state, row.priority, row.run) == (State.DONE, 3, "add")


def test_options_after_the_program_are_its_own(launcher: Launcher, store: Store) -> None:
    launcher("add", "printf", "%s", "--help")
    assert job_row(store, 1).spec.argv == ("printf", "%s", "--help")


def test_a_name_is_given_once(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "twin", "--", "true")
    answer = launcher("add", "--name", "twin", "--", "false")
    assert answer.code == 2
    assert "there is a job 'command/twin' already" in answer.err
    assert len(store.read.jobs()) == 1


@pytest.mark.parametrize(
    "words", [(), ("--cpus", "0", "--", "true"), ("--cpus", "x", "true"), ("--cpu", "2", "true")]
)
def test_what_cannot_be_queued_is_refused(
    launcher: Launcher, store: Store, words: Sequence[str]
) -> None:
    assert launcher("add", *words).code == 2
    assert store.read.jobs() == []


def test_a_name_that_is_no_text_is_refused(launcher: Launcher, store: Store) -> None:
    answer = launcher("add", "--name", os.fsdecode(b"caf\xe9"), "--", "true")
    assert answer.code == 2
    assert "is no UTF-8 text" in answer.err
    assert store.read.jobs() == []


def test_many_who_queue_at_once_lose_nothing(home: Home, store: Store) -> None:
    clients = [
        subprocess.Popen([*COMMAND, "add", "--", "true"], stdout=subprocess.DEVNULL)
        for _ in range(5)
    ]
    assert [client.wait() for client in clients] == [0] * 5
    jobs = store.read.jobs()
    assert len({job.name for job in jobs}) == 5
    until(lambda: store.read.counts().get(State.DONE) == 5, "all are done")


# --- looking


def test_a_queue_that_does_not_exist_is_no_error_for_status_alone(
    launcher: Launcher, home: Home
) -> None:
    answer = launcher("status")
    assert (answer.code, answer.out, answer.err) == (0, "", "no jobs\n")
    assert launcher("status", "--json").code == 0
    for verb in ("show", "logs", "cancel"):
        answer = launcher(verb, "1")
        assert answer.code == 2
        assert "there is no queue in" in answer.err
    assert not home.exists()


def test_status_in_a_pipe_is_one_line_a_job(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    lines = launcher("status").out.splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        ["1", "test", "command/a", "queued"],
        ["2", "test", "command/b", "queued"],
    ]


def test_status_for_machines_tells_all(launcher: Launcher, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    absent = json.loads(launcher("status", "--json").out)
    assert absent["scheduler"] == {"pid": None, "state": "absent"}
    assert absent["counts"]["queued"] == 1
    assert absent["jobs"][0]["name"] == "command/1"
    pid = ensure_scheduler(home)
    assert json.loads(launcher("status", "--json").out)["scheduler"] == {
        "pid": pid,
        "state": "running",
    }


def test_status_can_tell_by_its_exit_code_that_a_job_failed(
    launcher: Launcher, store: Store
) -> None:
    (job,) = enqueue(store, a_spec())
    assert launcher("status", "--exit-status").code == 0
    store.finish(claimed(store, job), Failed(at=2.0, error="no"), outputs={}, now=2.0)
    assert launcher("status").code == 0
    assert launcher("status", "--exit-status").code == 1


def test_jobs_are_chosen_by_number_name_glob_and_run(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec(name="train/a"), a_spec(name="train/b"), a_spec(name="test/[x]"))

    def chosen(*patterns: str) -> list[str]:
        return [line.split("\t")[0] for line in launcher("status", *patterns).out.splitlines()]

    assert chosen("2") == ["2"]
    assert chosen("train/a") == ["1"]
    assert chosen("train/*") == ["1", "2"]
    assert chosen("test/[x]") == ["3"]
    assert chosen("run:test") == ["1", "2", "3"]
    assert chosen("3", "train/a", "1") == ["1", "3"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("trian/a", "no job is called 'trian/a', did you mean 'train/a'?"),
        ("run:tset", "there is no run 'tset', did you mean run:test?"),
        ("99999999999999999999999", "no job is called '99999999999999999999999'"),
        ("²", "no job is called '²'"),
        (os.fsdecode(b"\xff"), "no job is called '\\udcff'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(
    launcher: Launcher, store: Store, pattern: str, message: str
) -> None:
    enqueue(store, a_spec(name="train/a"))
    answer = launcher("show", pattern)
    assert answer.code == 2
    assert message in answer.err


def test_show_wants_one_job(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec(name="train/a"), a_spec(name="train/b"))
    answer = launcher("show", "train/*")
    assert answer.code == 2
    assert "matches 2 jobs (train/a, train/b);" in answer.err


def test_show_tells_what_happened(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec("python", "x.py", "--lr", "0.1"))
    failure = Failed(at=2.0, error="ended with exit code 3: no data", exit_code=3)
    store.finish(claimed(store, job), failure, outputs={}, now=2.0)
    said = launcher("show", "1").out
    assert "command/1  (test, job 1)\nfailed: ended with exit code 3: no data" in said
    assert "python x.py --lr 0.1" in said
    for word in ("queued", "running", "fits", "1.0 s"):
        assert word in said
    record = json.loads(launcher("show", "1", "--json").out)
    assert record["schema"] == 1
    assert record["attempts"][0]["outcome"]["exit_code"] == 3
    assert [event["state"] for event in record["events"]] == ["queued", "running", "failed"]
    assert "environment" not in json.dumps(record)


def test_nothing_that_a_job_says_or_is_called_steers_the_terminal(
    launcher: Launcher, home: Home, store: Store
) -> None:
    name = f"command/{STEERING}"
    (job,) = enqueue(store, a_spec(STEERING, name=name, settings={STEERING: STEERING}))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    attempt.log.write_text(f"{STEERING}\n")
    failure = Failed(at=2.0, error=f"{STEERING} said {STEERING}")
    store.finish(claimed(store, job), failure, outputs={}, now=2.0)
    (other,) = enqueue(store, a_spec(name=f"{name}2"))
    for words in (
        ("status",),
        ("show", "1"),
        ("logs", "1"),
        ("logs", "2"),
        ("show", "command*"),
        ("show", f"{name}3"),
        ("cancel", "-n", "*"),
        ("cancel", "2"),
        ("wait", "1", "2"),
        ("add", "--name", f"{STEERING}3", "--", "true"),
        ("add", "--name", f"{STEERING}3", "--", "true"),
    ):
        answer = launcher(*words)
        said = (answer.out + answer.err).replace("\n", "").replace("\t", "")
        assert said, words
        assert said.isprintable(), words
    assert in_state(store, other, State.CANCELLED)
    drawn = in_a_terminal("status", columns=100)
    assert drawn.replace("\n", "").isprintable()


def test_status_in_a_terminal_fits_into_it(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"command/{'long' * 30}{number}") for number in range(3)))
    drawn = in_a_terminal("status", columns=60)
    assert "3 queued" in drawn
    assert "○ queued" in drawn
    assert [line for line in drawn.splitlines()[1:] if len(line) > 60] == []


# --- logs


def test_logs_are_what_the_program_wrote(launcher: Launcher, home: Home, store: Store) -> None:
    text = "one\n\ttwo\\three C:\\temp\\new ünïcödé\r\nno end"
    with_a_log(home, store, text.encode())
    assert launcher("logs", "1").out == text.replace("\r", "")


def test_a_character_may_lie_where_two_readings_meet(
    launcher: Launcher, home: Home, store: Store
) -> None:
    text = "x" + "ü" * 70_000 + "\n"
    with_a_log(home, store, text.encode())
    assert launcher("logs", "1").out == text


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_of_a_long_log_are_found_from_its_end(
    launcher: Launcher, home: Home, store: Store, end: str
) -> None:
    lines = [f"line {number} {'x' * 90}" for number in range(5000)]
    with_a_log(home, store, ("\n".join(lines) + end).encode())
    assert launcher("logs", "1", "-n", "3").out == "\n".join(lines[-3:]) + end
    assert launcher("logs", "1", "-n", "9999").out == "\n".join(lines) + end


def test_a_job_that_has_not_run_has_no_log(launcher: Launcher, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    answer = launcher("logs", "1")
    assert answer.code == 2
    assert "command/1 has not run yet: new" in answer.err
    with_a_log(home, store, b"", name="command/2")
    assert "has 1 attempts, not 7" in launcher("logs", "2", "--attempt", "7").err
    home.attempt(2, 1).log.unlink()
    assert "there is no log at" in launcher("logs", "2").err
    assert "there is no log at" in launcher("logs", "2", "-f").err


def test_following_a_log_ends_with_its_job(launcher: Launcher, tmp_path: Path) -> None:
    script = 'echo one; until [ -e "$1" ]; do sleep 0.01; done; echo two'
    launcher("add", "--", *shell(script, str(tmp_path / "flag")))
    follower = subprocess.Popen([*COMMAND, "logs", "1", "-f"], stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    with follower:
        assert follower.stdout.readline() == "one\n"
        (tmp_path / "flag").touch()
        assert follower.stdout.read() == "two\n"
    assert follower.returncode == 0


def test_a_reader_who_has_seen_enough_is_no_error(home: Home, store: Store) -> None:
    with_a_log(home, store, b"line\n" * 100_000)
    client = subprocess.Popen(
        [*COMMAND, "logs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert client.stderr is not None
    with client:
        assert client.stdout.readline() == "line\n"
        client.stdout.close()
        assert client.stderr.read() == ""
    assert client.returncode == 141


# --- cancel, wait, stop


def test_waiting_jobs_are_cancelled_without_a_question(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec(name="train/a"), a_spec(name="train/b"), a_spec(name="test/a"))
    answer = launcher("cancel", "train/*")
    assert answer.out == "1\ttrain/a\tcancelled\n2\ttrain/b\tcancelled\n"
    assert [job.state for job in store.read.jobs()] == [
        State.CANCELLED,
        State.CANCELLED,
        State.QUEUED,
    ]


def test_a_dry_run_of_cancel_changes_nothing(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec())
    assert launcher("cancel", "-n", "1").out == "1\tcommand/1\tqueued\n"
    assert in_state(store, 1, State.QUEUED)


def test_running_jobs_are_ended_only_when_that_is_said(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--", "sleep", "60")
    program = program_of(home.attempt(1, 1))
    answer = launcher("cancel", "1")
    assert answer.code == 2
    assert "say --yes where nobody can be asked" in answer.err
    assert identity(program) is not None
    assert launcher("cancel", "--yes", "1").out == "1\tcommand/1\tending\n"
    assert launcher("wait", "1").code == 1
    assert in_state(store, 1, State.CANCELLED)
    assert identity(program) is None


def test_cancelling_a_running_job_works_without_a_scheduler_too(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--", "sleep", "60")
    program = program_of(home.attempt(1, 1))
    write_json(home.restarts, {"schema": 1, "times": [time.time()] * 3})  # nobody restarts it
    pid = scheduler_pid(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(home) is None, "the scheduler is gone")
    launcher("cancel", "--yes", "1")
    assert launcher("wait", "1").code == 1
    assert identity(program) is None


def test_waiting_tells_which_jobs_did_not_come_to_a_good_end(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--", "true")
    launcher("add", "--name", "bad", "--", *shell("echo why; exit 3"))
    answer = launcher("wait")
    assert answer.code == 1
    assert answer.out == "2\tcommand/bad\tfailed\tended with exit code 3: why\n"
    assert launcher("wait", "1").code == 0
    assert launcher("wait").code == 0, "nothing is open"


def test_waiting_has_an_end(launcher: Launcher) -> None:
    launcher("add", "--", "sleep", "60")
    answer = launcher("wait", "--timeout", "0.1")
    assert answer.code == 3
    assert "still not ended after 0.1 s; the jobs go on" in answer.err


def test_waiting_replaces_a_scheduler_that_died(
    launcher: Launcher, home: Home, store: Store
) -> None:
    enqueue(store, a_spec())
    assert scheduler_pid(home) is None
    assert launcher("wait").code == 0
    assert in_state(store, 1, State.DONE)


def test_stopping_lets_running_jobs_finish(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    script = 'until [ -e "$1" ]; do sleep 0.01; done'
    launcher("add", "--", *shell(script, str(tmp_path / "flag")))
    program_of(home.attempt(1, 1))
    answer = launcher("stop")
    assert (answer.code, answer.err) == (0, "no new jobs; 1 running ones finish\n")
    assert json.loads(launcher("status", "--json").out)["scheduler"]["state"] == "stopping"
    (tmp_path / "flag").touch()
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    assert in_state(store, 1, State.DONE)
    assert json.loads(launcher("status", "--json").out)["scheduler"]["state"] == "stopped"


def test_stopping_now_puts_running_jobs_back_and_a_later_add_goes_on(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    launcher("add", "--", *shell('[ -e "$1" ] || exec sleep 60', str(flag)))
    program = program_of(home.attempt(1, 1))
    answer = launcher("stop", "--now")
    assert (answer.code, answer.err) == (0, "stopped; 1 jobs wait in the queue\n")
    assert scheduler_pid(home) is None
    assert identity(program) is None
    assert in_state(store, 1, State.QUEUED)
    assert launcher("stop", "--now").code == 0, "a second stop has nothing to do"
    flag.touch()
    launcher("add", "--", "true")
    assert launcher("wait", "1", "2").code == 0
    assert job_row(store, 1).attempts == 2


# --- every command


@pytest.mark.parametrize(
    "verb", ["add", "cancel", "logs", "results", "run", "show", "status", "stop", "wait"]
)
def test_every_verb_has_a_help_page_with_an_example(launcher: Launcher, verb: str) -> None:
    answer = launcher(verb, "--help")
    assert answer.code == 0
    examples = answer.out.partition("\n  Examples:\n")[2].splitlines()
    assert examples[0].startswith(f"    launcher {verb}"), "click has not wrapped the lines"


def test_a_wrong_verb_is_an_error_with_a_hint(launcher: Launcher) -> None:
    answer = launcher("statsu")
    assert answer.code == 2
    assert "No such command 'statsu'. Did you mean 'status'?" in answer.err


def test_an_error_has_a_traceback_only_when_that_is_asked_for(
    launcher: Launcher, home: Home
) -> None:
    home.database.write_bytes(b"no database at all, but long enough to look like one " * 100)
    answer = launcher("status")
    assert answer.code == 3
    assert answer.err.startswith("error: cannot open the queue")
    assert "Traceback" not in answer.err
    assert "Traceback" in launcher("--debug", "status").err


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"]])
def test_output_that_finds_no_room_is_trouble_of_the_machine(
    home: Home, store: Store, words: list[str]
) -> None:
    enqueue(store, a_spec())
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert said.returncode == 3
    assert said.stderr == "error: [Errno 28] No space left on device\n"


def test_an_order_that_cannot_be_written_is_trouble_of_the_machine(
    launcher: Launcher, home: Home, store: Store
) -> None:
    home.stop.mkdir()  # root may write anywhere, but replaces no folder by a file
    answer = launcher("stop")
    home.stop.rmdir()
    assert answer.code == 3
    assert answer.err.startswith("error: [Errno 21] Is a directory")


def test_a_run_without_results_says_so_beside_an_empty_table(
    launcher: Launcher, store: Store
) -> None:
    enqueue(store, a_spec())
    answer = launcher("results", job_row(store, 1).run)
    assert (answer.code, answer.out, answer.err) == (0, "", "no results yet\n")


def test_a_home_that_is_no_absolute_path_is_refused(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", "here")
    answer = launcher("status")
    assert answer.code == 2
    assert "must be an absolute path" in answer.err


def test_a_home_of_somebody_else_is_refused(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("LAUNCHER_HOME", str(theirs))
    answer = launcher("add", "--", "true")
    assert answer.code == 3
    assert "belongs to user 12345" in answer.err


def test_interrupting_a_command_leaves_the_jobs_alone(home: Home, store: Store) -> None:
    client = subprocess.Popen([*COMMAND, "add", "--", "sleep", "60"], stdout=subprocess.DEVNULL)
    assert client.wait() == 0
    program = program_of(home.attempt(1, 1))
    waiter = subprocess.Popen([*COMMAND, "wait"], stderr=subprocess.PIPE, text=True)
    until(lambda: has_open(waiter.pid, home.database), "it has looked into the queue")
    waiter.send_signal(signal.SIGINT)
    _, said = waiter.communicate()
    assert waiter.returncode == 130
    assert "Traceback" not in said
    assert identity(program) is not None


def has_open(pid: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # it closes and opens as we look
        return any(entry.readlink() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_many_readers_and_a_writer_do_not_disturb_each_other(home: Home, store: Store) -> None:
    troubles: list[Exception] = []
    finished = threading.Event()

    def read() -> None:
        mine = Store(home)
        try:
            while not finished.is_set():
                mine.read.counts()
                mine.read.jobs_open()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test must see it
            troubles.append(error)
        mine.close()

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for number in range(30):
        enqueue(store, a_spec(name=f"command/{number}"), context=a_context())
    finished.set()
    for reader in readers:
        reader.join()
    assert troubles == []
    assert len(store.read.jobs()) == 30


def test_waiting_for_jobs_of_a_stopped_queue_says_so_instead_of_waiting_for_ever(
    launcher: Launcher, home: Home
) -> None:
    launcher("add", "--", "sleep", "60")
    program_of(home.attempt(1, 1))
    assert launcher("stop", "--now").code == 0
    said = launcher("wait")
    assert said.code == 3
    assert "the queue is stopped" in said.err
