"""Attempt folders of which the queue has no record: who is left alone, and what they keep waiting."""

import fcntl
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.scheduler.start_jobs import unrecorded
from launcher.states import State
from launcher.store.queue import Store
from launcher.system.daemon_control import ensure_scheduler, wake
from launcher.system.paths import Home
from launcher.system.processes import Identity, boot_id, identity, send
from tests.build import a_spec, an_attempt, enqueue, in_state, job_row, shell, until

EARLIER = "00000000-0000-0000-0000-000000000000"  # a boot


@pytest.fixture
def daemon() -> Iterator[tuple[int, Identity]]:
    """A session whose leader has ended: the leader's pid, and what it left there."""
    with subprocess.Popen(
        shell("sleep 60 >/dev/null & echo $!"),
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as leader:
        assert leader.stdout is not None
        left = identity(int(leader.stdout.readline()))
        leader.wait()
    assert left is not None
    yield leader.pid, left
    send(left.pid, signal.SIGKILL)


def begun(home: Home, boot: str, program: int) -> None:
    """Leave an attempt whose supervisor and program are dead, with the program's pid."""
    attempt = an_attempt(home, a_spec())
    who = [{"pid": pid, "start_ticks": 5, "boot": boot} for pid in (2**22, program)]
    attempt.started.write_text("".join(f"{json.dumps(one)}\n" for one in who))


def test_who_has_the_pid_of_a_program_of_an_earlier_boot_is_left_alone(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    leader, left = daemon
    begun(home, EARLIER, leader)
    before = unrecorded(home, 1, 1)
    assert identity(left.pid) == left
    assert (before.number, len(before.began), before.living) == (2, 1, ())


def test_what_an_unrecorded_program_of_this_boot_left_ends_before_the_next_attempt(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    leader, left = daemon
    begun(home, boot_id(), leader)
    assert len(unrecorded(home, 1, 1).began) == 1
    until(lambda: identity(left.pid) is None, "nothing of it is left")


def test_a_living_process_with_the_pid_of_a_supervisor_of_an_earlier_boot_keeps_nobody_waiting(
    home: Home, daemon: tuple[int, Identity]
) -> None:
    _, left = daemon
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text(json.dumps({**left.record(), "boot": EARLIER}) + "\n")
    assert unrecorded(home, 1, 1).living == ()
    assert identity(left.pid) == left


def boundless(outcome: Path) -> None:
    outcome.write_text(json.dumps({"schema": 1, "ending": "done", "at": 10**400}))


@pytest.mark.parametrize("left", [Path.mkdir, boundless])
def test_a_folder_that_cannot_be_looked_at_keeps_its_own_job_waiting_and_no_other(
    home: Home, store: Store, left: Callable[[Path], None]
) -> None:
    bad, good = enqueue(store, a_spec(), a_spec(name="command/2"))
    in_the_way = an_attempt(home, a_spec(), job=bad)
    left(in_the_way.outcome)
    ensure_scheduler(home)
    wake(home)

    until(lambda: in_state(store, good, State.DONE), "the other one is done")
    until(lambda: str(in_the_way.folder) in job_row(store, bad).hindrance, "it is told why")
    assert in_state(store, bad, State.QUEUED)
    in_the_way.folder.rename(home.folder / "away")
    until(lambda: in_state(store, bad, State.DONE), "it runs when nothing is in the way")


def test_an_end_is_taken_in_while_another_jobs_folder_cannot_be_looked_at(
    home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    (runs,) = enqueue(store, a_spec(*shell('until [ -e "$1" ]; do sleep 0.01; done', str(gate))))
    ensure_scheduler(home)
    wake(home)
    until(lambda: in_state(store, runs, State.RUNNING), "it runs")
    in_the_way = an_attempt(home, a_spec(), job=runs + 1)
    in_the_way.started.write_text("{}\n")
    with in_the_way.started.open() as spawning:
        fcntl.flock(spawning, fcntl.LOCK_EX)  # as between a spawn and its record
        (bad,) = enqueue(store, a_spec(name="command/2"))
        assert bad == runs + 1
        wake(home)
        until(lambda: "cannot be told" in job_row(store, bad).hindrance, "it is told why")
        gate.touch()
        until(lambda: in_state(store, runs, State.DONE), "its end is taken in")
        assert in_state(store, bad, State.QUEUED)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, f'{{"pid": {10**30}, "start_ticks": 5, "boot": ""}}']
)
def test_a_record_that_no_launcher_wrote_names_nobody(home: Home, text: str) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text(f"{text}\n{text}\n")
    before = unrecorded(home, 1, 1)
    assert (before.number, len(before.began), before.unclear) == (2, 1, "")
