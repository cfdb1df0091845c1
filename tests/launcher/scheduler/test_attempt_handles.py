import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import (
    Done,
    Failed,
    Lost,
    NeverStarted,
    Outcome,
    Stopped,
    outcome_record,
)
from launcher.queue.workers import attempt_handles
from launcher.queue.workers.attempt_handles import (
    AdoptedAttempt,
    AttemptHandle,
    SupervisedAttempt,
    UnreadableAttempt,
    inspect_attempt,
    probe_attempt,
)
from launcher.queue.workers.attempt_journal import acquire_start, revoke_attempt
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.system.files import write_json
from launcher.system.process_trees import end_session, processes_with_marker, send_signal
from launcher.system.processes import boot_id, identity, identity_from_record
from tests.build import (
    a_claim,
    a_spec,
    an_attempt,
    ended,
    gone,
    judged,
    lines_of,
    on_record,
    outcome_of,
    program_of,
    run_attempt,
    seen,
    shell,
    started,
    until,
    wait_until_known,
)

EFFECT = 'echo effect >> "$1"'
FOR_EVER = "while :; do sleep 60 & wait; done"


def kill_supervisor(one: SupervisedAttempt) -> None:
    """Kill it and see it gone: its channel closes a moment before."""
    send_signal(one.supervisor.who.pid, signal.SIGKILL)
    until(lambda: gone(one.supervisor.who.pid), "the supervisor is gone")
    one.supervisor.channel.close()


def adopt_attempt(attempt: Attempt) -> AdoptedAttempt:
    """Watch what lives of an attempt whose supervisor is dead, as a new scheduler does."""
    found = seen(attempt)
    assert isinstance(found, AdoptedAttempt)
    return found


def wait_for_outcome(found: Outcome | AttemptHandle) -> Outcome:
    """Wait for the end of an adopted attempt, until it is reported."""
    while isinstance(found := wait_until_known(found), AttemptHandle):
        assert isinstance(found, AdoptedAttempt)
        assert ended(found.descriptor)
        found = found.poll_outcome() or found
    return found


def write_ended_record(attempt: Attempt, outcome: str) -> None:
    """Leave the record of an attempt of which nothing lives."""
    who = json.dumps({"pid": 2**22, "start_ticks": 5, "boot": boot_id()})
    attempt.started.write_text(f"{who}\n{who}\n{outcome}")


# --- who may start


def test_attempt_is_either_started_or_voided(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    pause_s = 0.0005
    seen = set()
    for job in range(1, 26):
        effects = tmp_path / f"effects-{job}"
        attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))), job=job)
        supervised = started(fork_server, attempt)
        time.sleep(pause_s)  # it finds the instant at which both are equally quick
        found = inspect_attempt(supervised.supervisor.who, attempt)
        assert ended(supervised.descriptor)
        supervised.supervisor.channel.close()
        outcome = wait_for_outcome(found)
        assert isinstance(outcome, Done | NeverStarted)
        assert lines_of(effects) == (["effect"] if isinstance(outcome, Done) else [])
        pause_s *= 0.8 if isinstance(outcome, Done) else 1.3
        seen.add(type(outcome))
    assert seen == {Done, NeverStarted}


def test_a_voided_attempt_is_never_started(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))))
    assert isinstance(judged(attempt), NeverStarted)
    supervised = started(fork_server, attempt)
    assert ended(supervised.descriptor)
    supervised.supervisor.channel.close()
    assert not effects.exists()
    assert isinstance(judged(attempt), NeverStarted)


def test_second_supervisor_does_not_affect_a_running_attempt(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    attempt = an_attempt(home, a_spec(*shell(f"{EFFECT}; sleep 60", str(effects))))
    first = started(fork_server, attempt)
    until(effects.exists, "the program runs")
    second = started(fork_server, attempt)
    assert ended(second.descriptor)
    second.supervisor.channel.close()
    assert lines_of(effects) == ["effect"]
    first.stop()
    assert isinstance(outcome_of(first), Stopped)


# --- kill -9


def test_supervisor_killed_at_any_time_never_repeats_an_effect(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    pause = random.Random(1)
    for job in range(1, 21):
        effects = tmp_path / f"effects-{job}"
        attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))), job=job)
        supervised = started(fork_server, attempt)
        time.sleep(pause.uniform(0, 0.008))  # the instants that are to be met
        kill_supervisor(supervised)
        match outcome := wait_for_outcome(seen(attempt, a_claim(job=job))):
            case Done():
                assert lines_of(effects) == ["effect"]
            case NeverStarted():
                assert lines_of(effects) == []
            case _:
                assert isinstance(outcome, Lost)
        assert not processes_with_marker(attempt.folder)


def test_program_of_a_killed_supervisor_is_watched_until_its_end(
    fork_server: ForkServer, home: Home
) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    supervised = started(fork_server, attempt)
    program = program_of(attempt)
    kill_supervisor(supervised)
    orphan = adopt_attempt(attempt)
    assert (orphan.program, orphan.poll_outcome()) == (program, None)
    orphan.stop()
    assert isinstance(wait_for_outcome(orphan), Lost)


@pytest.mark.parametrize(
    ("script", "asked", "end"),
    [
        ("exit 0", "", Done),
        ("exit 3", "", Lost),
        ("kill -9 $$", "", Lost),
        (
            "(trap '' HUP; sleep 60) & exit 0",
            "",
            Done,
        ),  # a process that it leaves behind is not the program
        ("exit 0", "supervisor", Lost),  # it may have ended early, as it was asked to
        ("exit 0", "program", Lost),
        ("exit 0", "nobody, and both have ended", Done),
    ],
)
def test_program_that_outlives_its_supervisor_is_done_if_that_is_certain(
    fork_server: ForkServer, home: Home, script: str, asked: str, end: type[Outcome]
) -> None:
    waits = "trap 'touch heard' TERM; touch ready; until [ -e go ]; do sleep 0.01; done"
    attempt = an_attempt(home, a_spec(*shell(f"{waits}; {script}")))
    supervised, heard = started(fork_server, attempt), attempt.folder / "heard"
    program = program_of(attempt)
    until((attempt.folder / "ready").exists, "it listens")
    if asked == "supervisor":
        supervised.stop()
        until(heard.exists, "it was asked to end")
    if asked == "nobody, and both have ended":
        send_signal(supervised.supervisor.who.pid, signal.SIGSTOP)
        (attempt.folder / "go").touch()
        until(lambda: gone(program), "the program has ended")
    kill_supervisor(supervised)
    found = seen(attempt)
    if asked == "program":
        assert isinstance(found, AdoptedAttempt)
        found.stop()
        until(heard.exists, "it was asked to end")
    (attempt.folder / "go").touch()
    assert isinstance(wait_for_outcome(found), end)
    assert not processes_with_marker(attempt.folder)


def test_program_that_outlives_its_supervisor_needs_its_outputs(
    fork_server: ForkServer, home: Home
) -> None:
    for job, (script, end) in enumerate([("touch made", Done), ("true", Failed)], 1):
        argv = shell(f"until [ -e go ]; do sleep 0.01; done; {script}")
        settings = {"argv": [*argv], "outputs": ["made"]}
        attempt = an_attempt(home, a_spec(*argv, kind="program", settings=settings), job=job)
        supervised = started(fork_server, attempt)
        program_of(attempt)
        kill_supervisor(supervised)
        (attempt.folder / "go").touch()
        assert isinstance(wait_for_outcome(seen(attempt)), end)


@pytest.mark.parametrize(("last", "end"), [("os._exit(0)", Failed), ("return {}", Done)])
def test_worker_that_outlives_its_supervisor_needs_a_report(
    fork_server: ForkServer, home: Home, tmp_path: Path, last: str, end: type[Outcome]
) -> None:
    (tmp_path / "silent.py").write_text(
        "import os, time\n\ndef work(job):\n    open('begun', 'w').close()\n"
        f"    while not os.path.exists('go'):\n        time.sleep(0.01)\n    {last}\n"
    )
    environment = WorkerEnvironment(sys.executable, (), str(tmp_path))
    with contextlib.closing(ForkServer(home, environment)) as laboratory:
        spec = a_spec(name="toy/1", kind="toy", entry="silent:work")
        attempt = an_attempt(home, spec)
        supervised = started(laboratory, attempt)
        # before that its worker may still wait for the order of its supervisor
        until((attempt.folder / "begun").exists, "it works")
        kill_supervisor(supervised)
        (attempt.folder / "go").touch()
        assert isinstance(wait_for_outcome(seen(attempt)), end)


def test_unrecorded_program_end_counts_after_the_supervisor_died(
    fork_server: ForkServer, home: Home
) -> None:
    script = "(trap 'touch heard' TERM; touch ready; while :; do sleep 0.01; done) &"
    attempt = an_attempt(home, a_spec(*shell(f"{script} until [ -e ready ]; do sleep 0.01; done")))
    supervised = started(fork_server, attempt)
    until((attempt.folder / "heard").exists, "the supervisor ends what was left behind")
    kill_supervisor(supervised)
    assert isinstance(wait_for_outcome(seen(attempt)), Done)


def test_unsupervised_program_that_ignores_signals_is_killed_with_its_children(
    fork_server: ForkServer, home: Home
) -> None:
    script = f"trap '' TERM; setsid sh -c 'echo $$; {FOR_EVER}' & echo ready; {FOR_EVER}"
    attempt = an_attempt(home, a_spec(*shell(script)))
    supervised = started(fork_server, attempt)
    until(lambda: len(lines_of(attempt.log)) == 2, "the program is ready")
    supervised.kill_unsupervised()  # no more than a word while the supervisor lives
    assert supervised.poll_outcome() is None
    kill_supervisor(supervised)
    orphan = adopt_attempt(attempt)
    orphan.kill_unsupervised()
    assert isinstance(wait_for_outcome(orphan), Lost)
    (child,) = [int(line) for line in lines_of(attempt.log) if line != "ready"]
    until(lambda: gone(child), "its child has ended, too")


def test_no_process_of_a_lost_attempt_is_alive(fork_server: ForkServer, home: Home) -> None:
    attempt = an_attempt(home, a_spec(*shell("sleep 60 & echo $!; wait")))
    supervised = started(fork_server, attempt)
    until(lambda: lines_of(attempt.log), "its child is there")
    program = program_of(attempt)
    kill_supervisor(supervised)
    send_signal(program, signal.SIGKILL)
    until(lambda: gone(program), "the program has ended")
    assert isinstance(judged(attempt), Lost)
    assert gone(int(lines_of(attempt.log)[0]))


def test_program_with_a_reused_pid_is_lost_and_the_process_is_not_killed(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    me = identity(os.getpid())
    assert me is not None
    other = {**me.to_json(), "start_ticks": me.start_ticks - 1}
    attempt.started.write_text(f"{json.dumps(other)}\n{json.dumps(other)}\n")
    assert isinstance(judged(attempt), Lost)


def test_done_report_of_a_killed_worker_counts(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text("{}")
    write_json(attempt.result, {"schema": 1, "ok": True, "result": {"auc": 0.9}})
    outcome = judged(attempt)
    assert isinstance(outcome, Done)
    assert outcome.result == {"auc": 0.9}


def test_an_attempt_of_an_earlier_boot_is_lost(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    assert isinstance(judged(attempt, claim=a_claim(boot="earlier")), Lost)


def test_an_outcome_of_an_earlier_boot_counts(fork_server: ForkServer, home: Home) -> None:
    attempt, outcome = run_attempt(fork_server, home, a_spec())
    assert judged(attempt, claim=a_claim(boot="earlier")) == outcome


def test_truncated_outcome_does_not_count(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    outcome = json.dumps(outcome_record(Done(at=7.0)))
    write_ended_record(attempt, outcome[:-1])
    assert isinstance(judged(attempt), Lost)
    write_ended_record(attempt, f"{outcome}\n")
    assert judged(attempt) == Done(at=7.0)


def test_start_lock_is_granted_once(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    record = acquire_start(attempt)
    assert record is not None
    os.close(record)
    assert acquire_start(attempt) is None
    assert not revoke_attempt(attempt)
    assert attempt.started.samefile(attempt.spec)


def test_voided_attempt_grants_no_start_lock(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    assert revoke_attempt(attempt)
    assert acquire_start(attempt) is None


def test_attempt_that_deletes_its_folder_keeps_its_outcome(
    fork_server: ForkServer, home: Home
) -> None:
    attempt = an_attempt(home, a_spec(*shell('rm -r "$1"', str(home.attempt(1, 1).folder))))
    supervised = started(fork_server, attempt)
    assert ended(supervised.descriptor)
    assert isinstance(supervised.poll_outcome(), Done)
    supervised.supervisor.channel.close()


def test_an_attempt_without_a_folder_is_watched_while_its_supervisor_lives(
    fork_server: ForkServer, home: Home
) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    supervised = started(fork_server, attempt)
    program = program_of(attempt)
    shutil.rmtree(attempt.folder)
    found = inspect_attempt(supervised.supervisor.who, attempt)
    assert isinstance(found, AdoptedAttempt)
    assert found.program == 0
    send_signal(supervised.supervisor.who.pid, signal.SIGKILL)
    assert ended(found.descriptor)
    lone = found.poll_outcome()
    assert isinstance(lone, AdoptedAttempt)  # found by its mark
    assert lone.program == program
    supervised.supervisor.channel.close()
    lone.kill_unsupervised()
    assert isinstance(wait_for_outcome(lone), Lost)


def test_attempt_without_a_folder_or_processes_is_lost_and_not_voided(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    shutil.rmtree(attempt.folder)
    assert isinstance(judged(attempt), Lost)


def test_unrecorded_program_is_found_by_its_environment_marker(
    home: Home,
) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text("{}\n")  # and here its supervisor was killed
    environment = {**os.environ, "LAUNCHER_ATTEMPT": str(attempt.folder)}
    with subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True) as program:
        found = adopt_attempt(attempt)
        assert found.program == program.pid
        found.stop()
        program.wait()
    assert isinstance(found.poll_outcome(), Lost)


def test_living_attempt_is_not_lost_without_free_descriptors(
    fork_server: ForkServer, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    supervised = started(fork_server, attempt)
    program_of(attempt)
    look = partial(inspect_attempt, supervised.supervisor.who, attempt)
    with monkeypatch.context() as patched:
        patched.setattr(attempt_handles, "open_files_shortage", lambda: "48 files")
        found = probe_attempt(attempt, look)
    assert isinstance(found, UnreadableAttempt)
    lives = wait_until_known(found)
    assert isinstance(lives, AdoptedAttempt)
    os.close(lives.descriptor)
    supervised.stop()
    outcome_of(supervised)


def test_failed_probe_is_repeated(home: Home) -> None:
    answers: list[Outcome | OSError] = [
        OSError(28, "No space left on device"),
        NeverStarted(at=1.0),
    ]

    def look() -> Outcome:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    unclear = probe_attempt(home.attempt(1, 1), look)
    assert isinstance(unclear, UnreadableAttempt)
    assert unclear.poll_outcome() is None, "not at once: that would be a storm"
    assert replace(unclear, retry_at=0.0).poll_outcome() == NeverStarted(at=1.0)


def test_reason_of_an_unreadable_attempt_is_logged_once_until_it_changes(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    full, slow = OSError(28, "No space left on device"), OSError(5, "Input/output error")
    answers = [full, full, full, slow, slow, full]

    def look() -> Outcome:
        raise answers.pop(0)

    found = probe_attempt(home.attempt(1, 1), look)
    while answers:
        assert isinstance(found, UnreadableAttempt)
        again = replace(found, retry_at=0.0).poll_outcome()
        assert again is not None
        found = again
    reasons = [record.getMessage().partition("unclear=")[2] for record in caplog.records]
    assert reasons == [repr(str(error)) for error in (full, slow, full)]


def test_attempt_is_not_evaluated_while_its_program_is_spawned(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    # a process shares this with its spawner until it is the program: the lock on the record
    script = (
        "import fcntl, json, os, sys, time\n"
        "record = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL)\n"
        "fcntl.flock(record, fcntl.LOCK_EX)\n"
        "os.write(record, b'{}\\n')\n"
        "print('begun', flush=True)\n"
        "time.sleep(0.3)\n"
        "os.environ['LAUNCHER_ATTEMPT'] = os.path.dirname(sys.argv[1])\n"
        "os.execv('/bin/sleep', ['sleep', '60'])\n"
    )
    words = [sys.executable, "-c", script, str(attempt.started)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        found = adopt_attempt(attempt)
        assert found.program == program.pid
        program.kill()
    assert isinstance(found.poll_outcome(), Lost)


def test_empty_adopted_session_is_not_signalled(fork_server: ForkServer, home: Home) -> None:
    attempt, _ = run_attempt(fork_server, home, a_spec())
    who = identity_from_record(json.loads(on_record(attempt)[1]))
    assert who is not None
    end_session(who)
