import contextlib
import json
import signal
import subprocess
from pathlib import Path

from launcher.states import Done, State
from launcher.store.queue import Store
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import Home
from launcher.system.processes import identity
from tests.build import (
    a_spec,
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
from tests.terminal import COMMAND

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


def test_stopping_now_puts_running_jobs_back_and_a_later_start_goes_on(
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
    launcher("start")
    assert launcher("wait", "1", "2").code == 0
    assert job_row(store, 1).attempts == 2


def test_waiting_for_jobs_of_a_stopped_queue_says_so_instead_of_waiting_for_ever(
    launcher: Launcher, home: Home
) -> None:
    launcher("add", "--", "sleep", "60")
    program_of(home.attempt(1, 1))
    assert launcher("stop", "--now").code == 0
    said = launcher("wait")
    assert said.code == 3
    assert "the queue is stopped" in said.err


def test_waiting_for_machines_tells_of_all_jobs(launcher: Launcher, store: Store) -> None:
    good, bad = enqueue(store, a_spec(name="train/a"), a_spec(name="train/b"))
    store.scheduling.finish(claimed(store, good), Done(at=2.0), outputs={}, now=2.0)
    store.steering.cancel([bad], 3.0)
    answer = launcher("wait", "train/", "--json")
    record = json.loads(answer.out)
    assert (answer.code, record["schema"]) == (1, 1)
    assert [(one["name"], one["state"]) for one in record["jobs"]] == [
        ("train/a", "done"),
        ("train/b", "cancelled"),
    ]


def test_a_held_job_that_is_waited_for_is_named_once(launcher: Launcher, store: Store) -> None:
    for _ in range(2):
        launcher("add", "--hold", "--", "true")
    waiter = subprocess.Popen([*COMMAND, "wait"], stderr=subprocess.PIPE, text=True)
    assert waiter.stderr is not None
    with waiter:
        assert waiter.stderr.readline() == (
            "2 held jobs do not start before `launcher release`: command/1, command/2\n"
        )
        launcher("release", "1")
        launcher("release", "2")
        assert waiter.stderr.read() == ""
    assert waiter.returncode == 0


def test_a_job_that_is_held_while_somebody_waits_is_named(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--not-before", "+1h", "--", "true")
    waiter = subprocess.Popen([*COMMAND, "wait"], stderr=subprocess.PIPE, text=True)
    assert waiter.stderr is not None
    with waiter:
        until(lambda: has_open(waiter.pid, home.database), "it has looked into the queue")
        launcher("hold", "1")
        said = waiter.stderr.readline()
        assert said.startswith("1 held job does not start before `launcher release`: command/1")
        launcher("cancel", "1")
    assert waiter.returncode == 1


def test_a_job_that_runs_again_is_waited_for(launcher: Launcher, tmp_path: Path) -> None:
    script = 'echo >> "$1"; [ $(wc -l < "$1") = 3 ]'
    words = ("--retries", "2", "--backoff", "0s")
    launcher("add", *words, "--", *shell(script, str(tmp_path / "tries")))
    assert launcher("wait", "1").code == 0
    assert len(lines_of(tmp_path / "tries")) == 3


def test_how_long_to_wait_is_said_with_or_without_a_unit(launcher: Launcher, store: Store) -> None:
    launcher("add", "--hold", "--", "true")
    for text, said in (("0.1", "0.1 s"), ("0.1s", "0.1 s"), ("0", "0 s")):
        answer = launcher("wait", "--timeout", text)
        assert answer.code == 3
        assert f"still not ended after {said}; the jobs go on" in answer.err
    assert launcher("wait", "--timeout", "soon").code == 2


def test_waiting_for_nothing_is_over_at_once(launcher: Launcher, store: Store) -> None:
    answer = launcher("wait", "--json")
    assert (answer.code, json.loads(answer.out)) == (0, {"schema": 1, "jobs": []})


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
