"""A pilot as a real process; and where a network file system shows its files late."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from launcher.queue.backends.node_attempts import ATTEMPT_SPEC_TIMEOUT_S
from launcher.queue.backends.node_facts import PATHS_TIMEOUT_S
from launcher.queue.backends.node_start import SPEC_TIMEOUT_S
from launcher.queue.backends.pilot_folder import PilotFolder, attempt_name
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    AttemptStarted,
    Deregistered,
    Drain,
    Draining,
    Heartbeat,
    KillAttempt,
    StartAttempt,
    StopAttempt,
)
from launcher.queue.gpu.monitor import parent_pid
from launcher.queue.jobs.states import Done, Failed, Lost, NeverStarted, Stopped
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.termination import read_termination
from launcher.system.process_trees import descendants, send_signal
from tests.build import a_context, a_spec, gone, program_of, said_by, shell, supervisor_of, until
from tests.launcher.pilots.conftest import MakeDesk
from tests.launcher.pilots.desk import a_pilot
from tests.launcher.pilots.late_files import LateFiles

FOR_EVER = "while :; do sleep 60 & wait; done"


def test_pilot_registers_runs_its_attempts_and_exits(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    hello = desk.hello()
    assert (hello.pid, hello.cpus, hello.troubles, hello.gpus) == (desk.pid, 2, (), ())
    attempt = desk.run(spec=a_spec("echo", "hello"))
    bad = desk.run(spec=a_spec(*shell("exit 3")), job=2)
    assert isinstance(desk.outcome(1), Done)
    assert isinstance(desk.outcome(2), Failed)
    assert said_by(attempt) == "hello\n"
    assert isinstance(read_recorded_outcome(bad), Failed)
    assert {began.attempt for began in desk.of_kind(AttemptStarted)} == {"1-1", "2-1"}
    until(lambda: len(desk.of_kind(Heartbeat)) >= 2, "two beats")
    assert [beat.number for beat in desk.of_kind(Heartbeat)][:2] == [1, 2]
    assert desk.leave() == "the scheduler requested it"
    assert desk.exit_code() == 0


def test_attempt_sent_twice_runs_once(desk_of: MakeDesk, tmp_path: Path) -> None:
    desk = desk_of().start()
    desk.run(spec=a_spec(*shell('echo effect >> "$1"', str(tmp_path / "effects"))))
    desk.send(StartAttempt(attempt="1-1"))
    desk.ended()
    desk.send(StartAttempt(attempt="1-1"), Drain())
    desk.bye()
    assert (tmp_path / "effects").read_text() == "effect\n"
    assert len(desk.of_kind(AttemptFinished)) == 1


def test_attempt_is_stopped_with_its_grace(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    attempt = desk.run(spec=a_spec(*shell(FOR_EVER)))
    program = program_of(attempt)
    desk.send(StopAttempt(attempt="1-1"))
    assert isinstance(desk.outcome(), Stopped)
    assert gone(program)


def test_attempt_is_killed_without_its_grace_also_after_a_stop(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of().start()
    attempt = desk.run(
        spec=a_spec(*shell("trap 'echo got' TERM; echo ready; " + "while :; do sleep .1; done")),
        grace_s=600.0,
    )
    until(lambda: attempt.log.exists() and "ready" in said_by(attempt), "it is ready")
    desk.send(StopAttempt(attempt="1-1"))
    until(lambda: "got" in said_by(attempt), "it gets SIGTERM")
    until(lambda: read_termination(attempt) is not None, "its end is recorded")
    termination = read_termination(attempt)
    assert termination is not None
    assert termination.kill_at > termination.since
    desk.send(KillAttempt(attempt="1-1"))
    assert isinstance(desk.outcome(), Stopped)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_signal_stops_running_attempts_gracefully_and_then_the_pilot(
    desk_of: MakeDesk, number: signal.Signals
) -> None:
    desk = desk_of().start()
    attempt = desk.run(
        spec=a_spec(*shell("trap 'echo saved; exit 0' TERM; echo ready; " + FOR_EVER))
    )
    until(lambda: attempt.log.exists() and "ready" in said_by(attempt), "it is ready")
    desk.signal(number)
    assert isinstance(desk.outcome(), Stopped | Done)
    assert number.name in desk.bye()
    assert "saved" in said_by(attempt)


def test_pilot_in_grace_announces_at_once_that_it_accepts_no_more(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    saving = desk.run(
        spec=a_spec(
            *shell("trap 'echo saves' TERM; echo ready; until [ -e go ]; do sleep .1; done")
        )
    )
    until(lambda: saving.log.exists() and "ready" in said_by(saving), "it is ready")
    desk.signal(signal.SIGTERM)
    until(lambda: desk.of_kind(Draining), "the pilot says that it leaves")
    assert "SIGTERM" in desk.of_kind(Draining)[0].why
    assert not desk.of_kind(Deregistered)
    send_signal(program_of(saving), signal.SIGKILL)
    assert "SIGTERM" in desk.bye()
    assert len(desk.of_kind(Draining)) == 1


def test_attempt_sent_to_an_exiting_pilot_is_never_started(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    first = desk.run(spec=a_spec(*shell(FOR_EVER)))
    program_of(first)
    desk.send(Drain())
    second = desk.run(spec=a_spec("true"), job=2)
    outcome = desk.outcome(2)
    assert isinstance(outcome, NeverStarted)
    assert not second.started.exists()
    desk.send(Drain(now=True))
    assert isinstance(desk.outcome(1), Stopped)
    desk.bye()


def test_pilot_without_work_exits(desk_of: MakeDesk) -> None:
    desk = desk_of(a_pilot(idle_s=0.2)).start()
    assert desk.bye() == "without work for 0.2 s"


def test_supervisors_finish_the_attempts_of_a_killed_pilot(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    desk = desk_of().start()
    go = tmp_path / "go"
    attempt = desk.run(spec=a_spec(*shell('until [ -e "$1" ]; do sleep 0.05; done', str(go))))
    program_of(attempt)
    assert desk.kill() == -signal.SIGKILL
    go.touch()
    until(lambda: isinstance(read_recorded_outcome(attempt), Done), "its end is on record")


def test_attempt_of_a_killed_supervisor_is_ended_and_lost(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    attempt = desk.run(spec=a_spec(*shell(FOR_EVER)))
    program = program_of(attempt)
    os.kill(supervisor_of(attempt), signal.SIGKILL)
    assert isinstance(desk.outcome(), Lost)
    assert gone(program)
    desk.run(spec=a_spec("true"), job=2)
    assert isinstance(desk.outcome(2), Done)


def test_pilot_runs_commands_written_before_it_started_and_exits(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of()
    desk.run(spec=a_spec("true"))
    desk.send(Drain())
    desk.start()
    assert isinstance(desk.outcome(), Done)
    assert desk.bye() == "the scheduler requested it"
    assert desk.exit_code() == 0


def test_invalid_commands_are_skipped(desk_of: MakeDesk) -> None:
    desk = desk_of()
    with desk.folder.commands_file.open("ab") as file:
        file.write(b'{"say": "run"}\n[]\n\xff\n{"say": "run", "attempt": "../../etc"}\n')
        file.write(b'{"say": "run", "attempt": "-1-1"}\n{"say": "stop", "attempt": "9-9"}\n')
        file.write(b'{"say": "lease", "beat": 100000000000000000000}\n{"say": "dance"}\n')
    desk.run(spec=a_spec("true"))
    desk.start()
    assert isinstance(desk.outcome(), Done)
    desk.leave()
    assert {ended.attempt for ended in desk.of_kind(AttemptFinished)} == {"1-1"}


def test_node_that_does_not_see_the_folder_logs_it(desk_of: MakeDesk, tmp_path: Path) -> None:
    desk = desk_of()
    desk.start(folder=PilotFolder(tmp_path / "nowhere" / desk.folder.token))
    assert desk.exit_code() == 3
    assert f"does not see the pilot's folder {tmp_path}/nowhere" in desk.log


def test_signal_to_all_processes_stops_attempts_and_fails_none(
    desk_of: MakeDesk,
) -> None:
    desk = desk_of().start()
    attempts = [desk.run(spec=a_spec(*shell(FOR_EVER)), job=job) for job in (1, 2)]
    for attempt in attempts:
        program_of(attempt)
    for pid in reversed([desk.pid, *descendants(desk.pid)]):  # as an engine that preempts
        send_signal(pid, signal.SIGTERM)
    assert all(isinstance(desk.outcome(job), Stopped) for job in (1, 2))
    assert "SIGTERM" in desk.bye()


def test_attempt_continues_when_its_fork_server_is_killed(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    desk, go = desk_of().start(), tmp_path / "go"
    attempt = desk.run(spec=a_spec(*shell('until [ -e "$1" ]; do sleep 0.05; done', str(go))))
    program_of(attempt)
    fork_server = parent_pid(supervisor_of(attempt))
    assert fork_server is not None
    os.kill(fork_server, signal.SIGKILL)
    desk.run(spec=a_spec("true"), job=2)
    assert isinstance(desk.outcome(2), Done)
    go.touch()
    assert isinstance(desk.outcome(1), Done)


def test_job_without_named_cores_has_those_of_the_pilot(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    cores = "import os; print(sorted(os.sched_getaffinity(0)))"
    spec = a_spec(sys.executable, "-c", cores)
    attempt = desk.run(spec=spec, context=a_context(affinity=()))
    assert isinstance(desk.outcome(), Done)
    assert said_by(attempt) == f"{sorted(os.sched_getaffinity(desk.pid))}\n"


def test_pilot_with_a_deleted_folder_ends_its_attempts(desk_of: MakeDesk) -> None:
    code = "from launcher.queue.backends import node_pilot; node_pilot.FOLDER_TIMEOUT_S = 0.1"
    desk = desk_of().start(code=code)
    program = program_of(desk.run(spec=a_spec(*shell(FOR_EVER))))
    shutil.rmtree(desk.folder.folder)
    assert desk.exit_code() == 0
    until(lambda: gone(program), "its program is ended")


# --- a network file system that shows names late


NAMES_S = 0.6
NFS_NAMES_S = 30.0  # acdirmin of nfs(5)


def test_jobs_run_once_each_where_new_names_appear_late(desk_of: MakeDesk, tmp_path: Path) -> None:
    here, there, effects = tmp_path / "here", tmp_path / "there", tmp_path / "effects"
    with LateFiles(here, there, NAMES_S):
        desk = desk_of(root=here)
        desk.start(folder=PilotFolder(there / desk.folder.token))
        count = a_spec(*shell('echo effect >> "$1"', str(effects)))
        for job in (1, 2, 3):
            desk.run(spec=count, job=job)  # the order is seen before the attempt's folder
        long = 'head -c 6000 /dev/zero | tr "\\0" x >&2; exit 3'
        desk.run(spec=a_spec(*shell(long)), job=4)
        for job in (1, 2, 3):
            ended = desk.ended(job)
            assert isinstance(ended.outcome, Done)  # its record need not be seen for that
        desk.ended(4)
        failed = desk.folder.attempt(attempt_name(4, 1))
        until(lambda: isinstance(read_recorded_outcome(failed), Failed), "its record is seen, too")
        desk.leave()
    assert effects.read_text() == "effect\n" * 3
    assert len(desk.of_kind(AttemptFinished)) == 4


def test_every_timeout_is_longer_than_names_are_hidden() -> None:
    assert min(ATTEMPT_SPEC_TIMEOUT_S, SPEC_TIMEOUT_S, PATHS_TIMEOUT_S) > NFS_NAMES_S


def test_pilot_keeps_no_message_file_open(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    desk.run(spec=a_spec("true"))
    desk.ended()
    talks = {str(desk.folder.commands_file), str(desk.folder.messages_file)}

    def opened() -> set[str]:
        names = set()
        for descriptor in Path(f"/proc/{desk.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                names.add(str(descriptor.readlink()))
        return names

    until(lambda: not talks & opened(), "both are closed between two looks")
    desk.leave()
