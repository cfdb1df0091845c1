import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

from launcher.adoption import Watch, ending_of, watch
from launcher.nursery import Nursery
from launcher.paths import Home
from launcher.processes import alive, end_session, identity, recorded, send
from launcher.records import read_json, write_json
from launcher.states import Done, Lost, Stopped, Void
from tests.build import (
    a_claim,
    a_spec,
    an_attempt,
    ended,
    gone,
    judged,
    lines_of,
    outcome_of,
    program_of,
    run_attempt,
    shell,
    started,
    supervisor_of,
    until,
)

EFFECT = 'echo effect >> "$1"'
FOR_EVER = "while :; do sleep 60 & wait; done"


# --- who may start


def test_an_attempt_is_started_or_voided_and_never_both(
    nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    pause_s = 0.0005
    seen = set()
    for job in range(1, 26):
        effects = tmp_path / f"effects-{job}"
        attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))), job=job)
        one = started(nursery, attempt)
        time.sleep(pause_s)  # it finds the instant at which both are equally quick
        found = watch(a_claim(job=job), attempt)
        assert ended(one.descriptor)
        if isinstance(found, Watch):
            assert ended(found.descriptor)
            outcome = ending_of(found)
        else:
            outcome = found
        os.close(one.descriptor)
        assert isinstance(outcome, Done | Void)
        assert lines_of(effects) == (["effect"] if isinstance(outcome, Done) else [])
        pause_s *= 0.8 if isinstance(outcome, Done) else 1.3
        seen.add(type(outcome))
    assert seen == {Done, Void}


def test_a_voided_attempt_is_never_started(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))))
    assert isinstance(judged(attempt), Void)
    one = started(nursery, attempt)
    assert ended(one.descriptor)
    os.close(one.descriptor)
    assert not effects.exists()
    assert isinstance(judged(attempt), Void)


def test_a_second_supervisor_leaves_a_running_attempt_alone(
    nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    attempt = an_attempt(home, a_spec(*shell(f"{EFFECT}; sleep 60", str(effects))))
    first = started(nursery, attempt)
    until(effects.exists, "the program runs")
    second = started(nursery, attempt)
    assert ended(second.descriptor)
    os.close(second.descriptor)
    assert lines_of(effects) == ["effect"]
    first.ask_to_stop()
    assert isinstance(outcome_of(first), Stopped)


# --- kill -9


def test_a_supervisor_that_is_killed_at_any_instant_never_doubles_an_effect(
    nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    pause = random.Random(1)
    for job in range(1, 21):
        effects = tmp_path / f"effects-{job}"
        attempt = an_attempt(home, a_spec(*shell(EFFECT, str(effects))), job=job)
        one = started(nursery, attempt)
        time.sleep(pause.uniform(0, 0.008))  # the instants that are to be met
        with contextlib.suppress(ProcessLookupError):  # a quick machine is through already
            signal.pidfd_send_signal(one.descriptor, signal.SIGKILL)
        assert ended(one.descriptor)
        os.close(one.descriptor)
        found = watch(a_claim(job=job), attempt)
        if isinstance(found, Watch):  # its program lives
            assert ended(found.descriptor)
            outcome = ending_of(found)
        else:
            outcome = found
        match outcome:
            case Done():
                assert lines_of(effects) == ["effect"]
            case Void():
                assert lines_of(effects) == []
            case _:
                assert isinstance(outcome, Lost)
        program = recorded(read_json(attempt.process))
        assert program is None or not alive(program)


def test_a_program_whose_supervisor_was_killed_is_watched_to_its_end(
    nursery: Nursery, home: Home
) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    one = started(nursery, attempt)
    program = program_of(attempt)
    send(supervisor_of(attempt), signal.SIGKILL)
    assert ended(one.descriptor)
    os.close(one.descriptor)
    orphan = watch(a_claim(), attempt)
    assert isinstance(orphan, Watch)
    assert orphan.pid == program
    assert not orphan.ended()
    orphan.ask_to_stop()
    assert ended(orphan.descriptor)
    assert isinstance(ending_of(orphan), Lost)


def test_a_lone_program_that_does_not_listen_can_be_killed_with_what_it_started(
    nursery: Nursery, home: Home
) -> None:
    script = f"trap '' TERM; setsid sh -c 'echo $$; {FOR_EVER}' & echo ready; {FOR_EVER}"
    attempt = an_attempt(home, a_spec(*shell(script)))
    one = started(nursery, attempt)
    until(lambda: len(lines_of(attempt.log)) == 2, "the program is ready")
    one.insist()  # no more than a word while the supervisor lives
    assert not one.ended()
    send(supervisor_of(attempt), signal.SIGKILL)
    assert ended(one.descriptor)
    os.close(one.descriptor)
    orphan = watch(a_claim(), attempt)
    assert isinstance(orphan, Watch)
    orphan.insist()
    assert ended(orphan.descriptor)
    (child,) = [int(line) for line in lines_of(attempt.log) if line != "ready"]
    until(lambda: gone(child), "its child has ended, too")
    assert isinstance(ending_of(orphan), Lost)


def test_nothing_of_a_lost_attempt_lives_when_it_is_judged(nursery: Nursery, home: Home) -> None:
    attempt = an_attempt(home, a_spec(*shell("sleep 60 & echo $!; wait")))
    one = started(nursery, attempt)
    until(lambda: lines_of(attempt.log), "its child is there")
    program = program_of(attempt)
    send(supervisor_of(attempt), signal.SIGKILL)
    send(program, signal.SIGKILL)
    assert ended(one.descriptor)
    os.close(one.descriptor)
    until(lambda: gone(program), "the program has ended")
    assert isinstance(judged(attempt), Lost)
    assert gone(int(lines_of(attempt.log)[0]))


def test_a_recorded_program_whose_pid_was_reused_is_lost_and_left_alone(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    me = identity(os.getpid())
    assert me is not None
    attempt.started.write_text("{}")
    write_json(attempt.process, {**me.record(), "start_ticks": me.start_ticks - 1})
    assert isinstance(judged(attempt), Lost)


def test_a_killed_workers_own_word_that_it_was_done_counts(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.started.write_text("{}")
    write_json(attempt.result, {"schema": 1, "ok": True, "result": {"auc": 0.9}})
    outcome = judged(attempt)
    assert isinstance(outcome, Done)
    assert outcome.result == {"auc": 0.9}


def test_an_attempt_of_an_earlier_boot_is_lost(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    assert isinstance(judged(attempt, claim=a_claim(boot="earlier")), Lost)


def test_an_outcome_of_an_earlier_boot_counts(nursery: Nursery, home: Home) -> None:
    attempt, outcome = run_attempt(nursery, home, a_spec())
    assert judged(attempt, claim=a_claim(boot="earlier")) == outcome


def test_an_attempt_whose_folder_was_deleted_is_lost_and_not_voided(
    nursery: Nursery, home: Home
) -> None:
    attempt = an_attempt(home, a_spec(*shell('rm -r "$1"', str(home.attempt(1, 1).folder))))
    one = started(nursery, attempt)
    assert ended(one.descriptor)
    assert isinstance(ending_of(one), Lost)


def test_an_attempt_that_lost_its_files_is_lost_and_not_voided(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    shutil.rmtree(attempt.folder)
    attempt.folder.mkdir()
    assert isinstance(judged(attempt), Lost)


def test_an_adopted_session_is_not_touched_once_it_is_empty(nursery: Nursery, home: Home) -> None:
    attempt, _ = run_attempt(nursery, home, a_spec())
    who = recorded(read_json(attempt.process))
    assert who is not None
    end_session(who)
