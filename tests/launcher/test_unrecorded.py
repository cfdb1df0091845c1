"""Attempt folders of which the queue has no record: who is left alone, and what they keep waiting."""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from launcher.paths import Home
from launcher.processes import Identity, boot_id, identity, send
from launcher.unrecorded import unrecorded
from tests.build import a_spec, an_attempt, shell, until

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
    who = [{"pid": pid, "start_ticks": 5, "boot": boot} for pid in (2**22 + 1, program)]
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
