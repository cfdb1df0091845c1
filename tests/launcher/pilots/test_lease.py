"""No test waits for a lease to run out: it is shared through a file, and the test moves its end."""

import signal
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_messages import AttemptFinished, Heartbeat, RenewLease
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Stopped
from launcher.queue.workers import lease
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.lease import lease_of, make_lease
from launcher.system.process_trees import descendants, send_signal
from tests.build import a_spec, gone, program_of, shell, supervisor_of, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import Desk, a_pilot

LEASE_S = 600.0
WAITS = 'until [ -e "$1" ]; do sleep 0.02; done'


class Leased:
    """A pilot with a lease, an attempt that ends when it is let go, and the end of the lease."""

    def __init__(self, desk: Desk, scratch: Path) -> None:
        scratch.mkdir()
        self.desk, self.go = desk.start({"TMPDIR": str(scratch)}), scratch.parent / "go"
        self.attempt = desk.run(spec=a_spec(*shell(WAITS, str(self.go))))
        self.program, self.supervisor = program_of(self.attempt), supervisor_of(self.attempt)
        (folder,) = scratch.iterdir()
        self.lease = lease_of(Home(folder))

    def move_end(self, seconds: float) -> None:
        """Let the lease be over so many seconds from now."""
        self.lease.end()
        self.lease.run_until(lease.now() + seconds)

    def freeze(self) -> list[int]:
        """Stop all of the pilot at once, as a node that hangs does; return what is frozen."""
        pids = [self.desk.pid, *descendants(self.desk.pid)]
        assert self.program in pids
        for pid in pids:
            send_signal(pid, signal.SIGSTOP)
        return pids


@pytest.fixture
def leased(desk_of: MakeDesk, tmp_path: Path) -> Leased:
    return Leased(desk_of(a_pilot(lease_s=LEASE_S)), tmp_path / "scratch")


def test_node_frozen_past_its_lease_records_no_end(leased: Leased) -> None:
    frozen = leased.freeze()
    leased.go.touch()  # it would end well, once it wakes
    leased.move_end(-1.0)
    for pid in sorted(
        frozen, key=lambda pid: pid != leased.program
    ):  # the program has its end first
        send_signal(pid, signal.SIGCONT)
    assert "its lease expired" in leased.desk.bye()
    until(lambda: gone(leased.program) and gone(leased.supervisor), "all of it has ended")
    assert read_recorded_outcome(leased.attempt) is None
    assert leased.desk.of_kind(AttemptFinished) == []


def test_end_within_the_lease_counts(leased: Leased) -> None:
    leased.freeze()
    leased.go.touch()
    for pid in (leased.program, leased.supervisor, *descendants(leased.desk.pid), leased.desk.pid):
        send_signal(pid, signal.SIGCONT)
    assert isinstance(leased.desk.outcome(), Done)


def test_lease_runs_from_the_sending_of_the_answered_heartbeat(leased: Leased) -> None:
    desk, first = leased.desk, leased.lease.end_time
    until(lambda: len(desk.of_kind(Heartbeat)) >= 2, "two beats")
    desk.send(RenewLease(beat=1))
    until(lambda: leased.lease.end_time > first, "the lease is renewed")
    by_the_first = leased.lease.end_time
    assert by_the_first < lease.now() + LEASE_S
    until(lambda: len(desk.of_kind(Heartbeat)) >= 4, "more beats")
    desk.send(
        RenewLease(beat=1), RenewLease(beat=10**6), RenewLease(beat=-1)
    )  # read late; never sent
    desk.run(spec=a_spec("true"), job=2)
    desk.ended(2)
    assert leased.lease.end_time == by_the_first
    desk.send(RenewLease(beat=4))
    until(lambda: leased.lease.end_time > by_the_first, "the lease is renewed")


def test_supervisors_of_a_killed_pilot_end_their_programs_when_its_lease_expires(
    leased: Leased,
) -> None:
    leased.desk.kill()
    leased.move_end(0.3)
    send_signal(leased.supervisor, signal.SIGCHLD)  # it sleeps until the end that it knew
    until(lambda: gone(leased.program) and gone(leased.supervisor), "all of it has ended")
    assert read_recorded_outcome(leased.attempt) is None


def test_supervisors_of_an_abandoned_pilot_end_their_programs(leased: Leased) -> None:
    leased.desk.kill()
    leased.desk.folder.mark_abandoned()
    until(lambda: gone(leased.supervisor), "its supervisor leaves")
    assert gone(leased.program)
    assert isinstance(read_recorded_outcome(leased.attempt), Stopped)


def test_orphan_that_ends_well_before_its_pilot_is_abandoned_is_done(leased: Leased) -> None:
    leased.desk.kill()
    leased.go.touch()
    until(lambda: gone(leased.supervisor), "its supervisor leaves")
    leased.desk.folder.mark_abandoned()
    assert isinstance(read_recorded_outcome(leased.attempt), Done)


def test_unresponsive_orphan_is_killed_after_its_grace_and_recorded(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of(a_pilot()).start()
    deaf = a_spec(*shell("trap '' TERM; while :; do sleep 0.02; done"))
    attempt = desk.run(spec=deaf._replace(terms=deaf.terms._replace(grace_s=0.5)))
    until(lambda: attempt.started.exists(), "it has begun")
    program, supervisor = program_of(attempt), supervisor_of(attempt)
    desk.kill()
    desk.folder.mark_abandoned()
    until(lambda: gone(supervisor), "its supervisor leaves")
    assert gone(program)
    assert isinstance(read_recorded_outcome(attempt), Stopped)


def test_abandoned_pilot_ends_its_programs_and_logs_it(leased: Leased) -> None:
    leased.desk.folder.mark_abandoned()
    assert leased.desk.bye() == "the scheduler has abandoned it"
    until(lambda: gone(leased.program), "its program is ended")
    assert isinstance(read_recorded_outcome(leased.attempt), Stopped)


def test_nothing_starts_on_an_abandoned_pilot(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of(a_pilot())
    desk.folder.mark_abandoned()
    desk.start()
    attempt = desk.run(spec=a_spec("true"))
    desk.bye()
    assert not attempt.started.exists()


def test_grace_runs_from_the_last_check_that_found_no_mark(tmp_path: Path) -> None:
    at = [10.0]
    folder = PilotFolder(tmp_path)
    folder.abandoned_file.touch()
    burial = lease.AbandonWatch(tmp_path, clock=lambda: at[0])
    assert not burial.poll(pilot_dead=False, at_once=True)
    at[0] = 500.0  # it was frozen
    assert burial.next_poll_s(pilot_dead=True) == 0.0
    folder.mark_abandoned()
    assert burial.poll(pilot_dead=True)
    at[0] = 501.0
    assert burial.since_clear_s == 491.0
    assert burial.next_poll_s(pilot_dead=True) == float("inf")


def test_failed_check_does_not_count(tmp_path: Path) -> None:
    at = [10.0]
    burial = lease.AbandonWatch(tmp_path / "away", clock=lambda: at[0])
    at[0] = 30.0
    assert not burial.poll(pilot_dead=True)
    assert burial.since_clear_s == 20.0


def test_home_without_a_lease_has_one_without_an_end(tmp_path: Path) -> None:
    endless = lease_of(Home(tmp_path))
    assert not endless.is_shared
    assert not endless.is_over()


def test_lease_is_visible_to_all_its_readers(tmp_path: Path) -> None:
    made, seen = make_lease(Home(tmp_path)), lease_of(Home(tmp_path))
    assert seen.is_over()
    made.run_until(lease.now() + 60)
    made.run_until(lease.now() + 30)  # it never becomes shorter
    assert seen.end_time > lease.now() + 50
    made.run_until(float("inf"))
    assert seen.end_time == float("inf")
    seen.end()
    assert made.is_over()


def test_truncated_lease_is_ignored(tmp_path: Path) -> None:
    (tmp_path / lease.LEASE_FILE).write_bytes(b"123")
    assert not lease_of(Home(tmp_path)).is_shared
