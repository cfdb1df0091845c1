import os
import signal
from pathlib import Path

from launcher.pilots.messages import Beat, Ended, Lease
from launcher.states import Done
from launcher.system.paths import Attempt
from launcher.system.process_tree import descendants, send
from launcher.workers.started_file import recorded_outcome
from tests.build import a_spec, gone, program_of, shell, supervisor_of, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import Desk, a_pilot

LEASE_S = 1.0
WAITS = 'until [ -e "$1" ]; do sleep 0.02; done'


def freeze(desk: Desk, attempt: Attempt) -> list[int]:
    """Stop everything of a pilot at once, as a node that hangs does; return what is frozen."""
    pids = [desk.pid, *descendants(desk.pid)]
    assert program_of(attempt) in pids
    for pid in pids:
        send(pid, signal.SIGSTOP)
    return pids


def test_a_node_that_was_frozen_past_its_lease_records_no_end(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    desk, go = desk_of(a_pilot(lease_s=LEASE_S)).start(), tmp_path / "go"
    attempt = desk.run(spec=a_spec(*shell(WAITS, str(go))))
    supervisor, program = supervisor_of(attempt), program_of(attempt)
    until(lambda: desk.of_kind(Beat), "a beat")
    frozen = freeze(desk, attempt)
    go.touch()  # it would end well, once it wakes
    silent = os.times().elapsed
    until(lambda: os.times().elapsed > silent + 2 * LEASE_S, "the lease is over")
    for pid in sorted(frozen, key=lambda pid: pid != program):  # the program first: it has its end
        send(pid, signal.SIGCONT)
    assert "lease is over" in desk.bye()
    until(lambda: gone(program) and gone(supervisor), "all of it has ended")
    assert recorded_outcome(attempt) is None
    assert desk.of_kind(Ended) == []


def test_a_lease_that_is_renewed_lets_what_runs_go_on(desk_of: MakeDesk, tmp_path: Path) -> None:
    desk, go = desk_of(a_pilot(lease_s=LEASE_S)).start(), tmp_path / "go"
    desk.run(spec=a_spec(*shell(WAITS, str(go))))
    began, answered = os.times().elapsed, 0

    def answer() -> bool:
        nonlocal answered
        beats = desk.of_kind(Beat)
        if beats and beats[-1].number > answered:
            answered = beats[-1].number
            desk.send(Lease(beat=answered))
        return os.times().elapsed > began + 3 * LEASE_S

    until(answer, "three leases are over")
    go.touch()
    until(lambda: bool(answer()) and bool(desk.of_kind(Ended)), "it ends")
    assert isinstance(desk.outcome(), Done)


def test_an_answer_that_comes_late_does_not_lengthen_the_lease(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    desk = desk_of(a_pilot(lease_s=LEASE_S)).start()
    attempt = desk.run(spec=a_spec(*shell(WAITS, str(tmp_path / "never"))))
    program = program_of(attempt)
    until(lambda: desk.of_kind(Beat), "a beat")
    first = desk.of_kind(Beat)[0].number

    def answer_the_first() -> bool:
        desk.send(Lease(beat=first))
        return gone(program)

    until(answer_the_first, "what runs is ended")
    assert "lease is over" in desk.bye()
    assert recorded_outcome(attempt) is None


def test_supervisors_of_a_killed_pilot_end_what_runs_when_its_lease_is_over(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    desk = desk_of(a_pilot(lease_s=LEASE_S)).start()
    attempt = desk.run(spec=a_spec(*shell(WAITS, str(tmp_path / "never"))))
    program = program_of(attempt)
    desk.signal(signal.SIGKILL)
    until(lambda: gone(program), "its program is ended")
    until(lambda: gone(supervisor_of(attempt)), "its supervisor leaves")
    assert recorded_outcome(attempt) is None
