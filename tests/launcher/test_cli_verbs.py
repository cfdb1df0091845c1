import contextlib
import json
import os
import signal
import subprocess
import threading
from datetime import datetime
from pathlib import Path

import pytest

from launcher import __version__
from launcher.cli.main import VERBS
from launcher.handover import ensure_scheduler, scheduler_pid
from launcher.paths import Home
from launcher.processes import identity
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
    program_of,
    shell,
    until,
)
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND, in_a_terminal

STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m"


def with_a_log(home: Home, store: Store, log: bytes, name: str = "command/1") -> int:
    """A job that is done and left a log."""
    (job,) = enqueue(store, a_spec(name=name))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    store.scheduling.finish(claimed(store, job), Done(at=2.0), outputs={}, now=2.0)
    attempt.log.write_bytes(log)
    return job


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
    assert absent["schema"] == 1
    assert absent["home"] == str(home.folder)
    assert absent["warning"] is None
    assert absent["scheduler"] == {"pid": None, "state": "absent", "since": None, "version": None}
    assert absent["counts"]["queued"] == 1
    assert absent["jobs"][0]["name"] == "command/1"
    pid = ensure_scheduler(home)
    scheduler = json.loads(launcher("status", "--json").out)["scheduler"]
    assert (scheduler["pid"], scheduler["state"]) == (pid, "running")
    assert scheduler["version"] == __version__
    datetime.fromisoformat(scheduler["since"])


def test_status_can_tell_by_its_exit_code_that_a_job_failed(
    launcher: Launcher, store: Store
) -> None:
    (job,) = enqueue(store, a_spec())
    assert launcher("status", "--exit-status").code == 0
    store.scheduling.finish(claimed(store, job), Failed(at=2.0, error="no"), outputs={}, now=2.0)
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
    store.scheduling.finish(claimed(store, job), failure, outputs={}, now=2.0)
    said = launcher("show", "1").out
    assert "command/1  (test, job 1)\nfailed: ended with exit code 3: no data" in said
    assert "python x.py --lr 0.1" in said
    for word in ("queued", "running", "fits", "after 1 s"):
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
    store.scheduling.finish(claimed(store, job), failure, outputs={}, now=2.0)
    (other,) = enqueue(store, a_spec(name=f"{name}2"))
    for words in (
        ("status",),
        ("show", "1"),
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
    for words in (("status",), ("logs", "1"), ("show", "1")):
        drawn = in_a_terminal(*words, columns=100)
        assert "title" in drawn
        assert drawn.replace("\n", "").isprintable(), words


def test_status_in_a_terminal_fits_into_it(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"command/{'long' * 30}{number}") for number in range(3)))
    drawn = in_a_terminal("status", columns=60)
    assert "3 queued" in drawn
    assert "○ queued" in drawn
    assert [line for line in drawn.splitlines()[1:] if len(line) > 60] == []


# --- wait, stop


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
    assert (answer.code, answer.err) == (0, "no new jobs; 1 running one finishes\n")
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
    assert (answer.code, answer.err) == (0, "stopped; 1 job waits in the queue\n")
    assert scheduler_pid(home) is None
    assert identity(program) is None
    assert in_state(store, 1, State.QUEUED)
    assert launcher("stop", "--now").code == 0, "a second stop has nothing to do"
    flag.touch()
    launcher("add", "--", "true")
    assert launcher("wait", "1", "2").code == 0
    assert job_row(store, 1).attempts == 2


# --- every command


@pytest.mark.parametrize("verb", VERBS)
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
