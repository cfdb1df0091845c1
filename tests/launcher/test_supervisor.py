import contextlib
import os
import random
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.adoption import Watch, ending_of, watch
from launcher.nursery import Breed, Nursery
from launcher.paths import Attempt, Home
from launcher.processes import alive, end_session, identity, recorded, send
from launcher.progress import latest
from launcher.records import read_json, write_json
from launcher.specs import Spec
from launcher.states import Done, Failed, Lost, Stopped, Void
from tests.build import (
    a_claim,
    a_context,
    a_spec,
    an_attempt,
    ended,
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
SAYS_GOODBYE = """
import signal, sys, time
def leave(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""
FOR_EVER = "while :; do sleep 60 & wait; done"


def said_by(attempt: Attempt) -> str:
    return attempt.log.read_text(errors="replace")


def gone(pid: int) -> bool:
    return identity(pid) is None


# --- how a program ends


def test_a_program_that_ends_well_is_done(nursery: Nursery, home: Home) -> None:
    attempt, outcome = run_attempt(nursery, home, a_spec("echo", "hello"))
    assert isinstance(outcome, Done)
    assert said_by(attempt) == "hello\n"


def test_an_exit_code_is_recorded_with_the_last_line(nursery: Nursery, home: Home) -> None:
    attempt, outcome = run_attempt(nursery, home, a_spec(*shell("echo one; echo two >&2; exit 3")))
    assert isinstance(outcome, Failed)
    assert (outcome.exit_code, outcome.signal) == (3, None)
    assert outcome.error == "ended with exit code 3: two"
    assert said_by(attempt) == "one\ntwo\n"


def test_the_signal_that_ended_a_program_is_recorded(nursery: Nursery, home: Home) -> None:
    _, outcome = run_attempt(nursery, home, a_spec(*shell("kill -SEGV $$")))
    assert isinstance(outcome, Failed)
    assert (outcome.exit_code, outcome.signal) == (None, signal.SIGSEGV)
    assert outcome.error == "ended by SIGSEGV"


def test_a_program_that_does_not_exist_says_so(nursery: Nursery, home: Home) -> None:
    _, outcome = run_attempt(nursery, home, a_spec("no-such-program"))
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 127
    assert "cannot start 'no-such-program': no such program" in outcome.error


def test_a_file_that_is_no_program_says_so(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    _, outcome = run_attempt(nursery, home, a_spec(str(tmp_path / "data")))
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 126
    assert "Permission denied" in outcome.error


def test_a_folder_that_is_gone_is_named(nursery: Nursery, home: Home) -> None:
    _, outcome = run_attempt(nursery, home, a_spec(), context=a_context("/no/such/folder"))
    assert isinstance(outcome, Failed)
    assert "No such file or directory: '/no/such/folder'" in outcome.error


def test_the_records_of_an_attempt_are_private(nursery: Nursery, home: Home) -> None:
    attempt, _ = run_attempt(nursery, home, a_spec())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in attempt.folder.iterdir()}
    del modes["spec.json"], modes["process.json"]  # the scheduler's umask decides, as it is 0o077
    assert set(modes.values()) == {0o600}


def test_the_log_also_appears_where_the_run_keeps_it(nursery: Nursery, home: Home) -> None:
    link = home.folder / "runs" / "test" / "m" / "train.log"
    link.parent.mkdir(parents=True)
    link.write_text("of an earlier attempt")
    attempt, _ = run_attempt(nursery, home, a_spec("echo", "new", log_link=str(link)))
    assert link.read_text() == "new\n" == said_by(attempt)


# --- the surroundings


def test_a_program_finds_itself_where_it_was_queued(
    nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    core = min(os.sched_getaffinity(0))
    context = a_context(
        tmp_path,
        umask=0o027,
        environment={"PATH": os.environ["PATH"], "COLOUR": "ro t", "CUDA_VISIBLE_DEVICES": "7"},
        affinity=(core,),
    )
    script = "pwd; umask; env; grep Cpus_allowed_list /proc/self/status"
    attempt, _ = run_attempt(nursery, home, a_spec(*shell(script)), context=context, cpus=3)
    said = said_by(attempt).splitlines()
    assert said[:2] == [str(tmp_path), "0027"]
    variables = {line for line in said if line.partition("=")[0] not in {"PWD", "_", "SHLVL"}}
    assert variables == {
        f"PATH={os.environ['PATH']}",
        "COLOUR=ro t",
        "CUDA_VISIBLE_DEVICES=7",
        "CUDA_DEVICE_ORDER=PCI_BUS_ID",
        "LAUNCHER_CPUS=3",
        *said[:2],
        f"Cpus_allowed_list:\t{core}",
    }


def test_words_reach_a_program_unchanged(nursery: Nursery, home: Home) -> None:
    words = ["a b", "", "$HOME", "*", "ü\n'\"\\", os.fsdecode(b"\xff")]
    attempt, _ = run_attempt(nursery, home, a_spec("printf", "%s|", *words))
    assert attempt.log.read_bytes() == b"".join(os.fsencode(word) + b"|" for word in words)


def test_a_program_inherits_nothing_but_its_output(nursery: Nursery, home: Home) -> None:
    script = "ls -l /proc/$$/fd; grep Sig /proc/self/status; ps -o sid= $$; echo $$"
    attempt, _ = run_attempt(nursery, home, a_spec(*shell(script)))
    said = said_by(attempt)
    opened = [line.split(" -> ")[1] for line in said.splitlines() if " -> " in line]
    assert opened == ["/dev/null", str(attempt.log), str(attempt.log)]
    assert "SigBlk:\t0000000000000000" in said
    ignored_by_libc = 0x180000000  # 32 and 33 are its own
    assert int(said.partition("SigIgn:\t")[2].split()[0], 16) & ~ignored_by_libc == 0
    *_, session, pid = said.split()
    assert session == pid


def test_a_program_is_on_record_before_its_first_instruction(nursery: Nursery, home: Home) -> None:
    attempt = an_attempt(home, a_spec(*shell('echo $$; cat "$1"', str(home.attempt(1, 1).process))))
    outcome_of(started(nursery, attempt))
    pid, record = said_by(attempt).split("\n", 1)
    who = recorded(read_json(attempt.process))
    assert who is not None
    assert int(pid) == who.pid
    assert record == attempt.process.read_text()


# --- stopping


def test_a_program_that_is_asked_to_stop_may_say_goodbye(nursery: Nursery, home: Home) -> None:
    attempt = an_attempt(home, a_spec(sys.executable, "-c", SAYS_GOODBYE))
    one = started(nursery, attempt)
    until(lambda: lines_of(attempt.log) == ["ready"], "the program is ready")
    one.ask_to_stop()
    assert isinstance(outcome_of(one), Stopped)
    assert said_by(attempt) == "ready\nsaved\n"


def test_a_program_that_does_not_listen_is_killed_with_its_whole_tree(
    nursery: Nursery, home: Home
) -> None:
    script = f"trap '' TERM; sh -c 'echo $$; {FOR_EVER}' & setsid sh -c 'echo $$; {FOR_EVER}'"
    attempt = an_attempt(home, a_spec(*shell(script)), grace_s=0.2)
    one = started(nursery, attempt)
    until(lambda: len(lines_of(attempt.log)) == 2, "both children are there")
    one.ask_to_stop()
    before = time.monotonic()
    assert isinstance(outcome_of(one), Stopped)
    assert time.monotonic() - before >= 0.2
    assert all(gone(int(pid)) for pid in lines_of(attempt.log))
    assert gone(program_of(attempt))


def test_what_a_program_leaves_behind_ends_with_it(nursery: Nursery, home: Home) -> None:
    # one child in the background, and one that has left for a session of its own, twice forked
    script = "sleep 60 & echo $!; (setsid sh -c 'echo $$; exec sleep 60' &) ; sleep 0.2; exit 5"
    attempt, outcome = run_attempt(nursery, home, a_spec(*shell(script)))
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 5
    left = [int(pid) for pid in lines_of(attempt.log)]
    assert len(left) == 2
    assert all(gone(pid) for pid in left)


def test_orphans_of_a_long_program_do_not_pile_up_as_zombies(nursery: Nursery, home: Home) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do (true &); done; echo ready; sleep 60"
    attempt = an_attempt(home, a_spec(*shell(script)))
    one = started(nursery, attempt)
    until(lambda: lines_of(attempt.log) == ["ready"], "the orphans were made")
    children = Path(f"/proc/{supervisor_of(attempt)}/task/{supervisor_of(attempt)}/children")
    until(lambda: children.read_text().split() == [str(program_of(attempt))], "they are collected")
    one.ask_to_stop()
    outcome_of(one)


def test_a_stop_at_any_instant_is_heard(nursery: Nursery, home: Home, tmp_path: Path) -> None:
    pause = random.Random(1)
    effects = tmp_path / "effects"
    for job in range(1, 21):
        attempt = an_attempt(
            home, a_spec(*shell(f"{EFFECT}; exec sleep 60", str(effects))), job=job
        )
        one = started(nursery, attempt)
        time.sleep(pause.uniform(0, 0.006))  # the instants that are to be met
        one.ask_to_stop()
        assert ended(one.descriptor, deadline_s=10), "the signal was lost"
        outcome = ending_of(one)
        # a supervisor that was stopped before it had the right to start leaves it to nobody
        assert isinstance(outcome, Stopped | Void)
        if isinstance(outcome, Void):
            assert not attempt.process.exists()


def test_a_program_that_had_ended_already_was_not_stopped(
    nursery: Nursery, home: Home, tmp_path: Path
) -> None:
    # what it leaves takes its time, so that its supervisor lives a little longer
    slow = "trap 'sleep 0.3; exit' TERM; touch \"$1\"; sleep 60 & wait"
    script = f'({slow}) & until [ -e "$1" ]; do sleep 0.01; done'
    attempt = an_attempt(home, a_spec(*shell(script, str(tmp_path / "ready"))))
    one = started(nursery, attempt)
    program = program_of(attempt)
    until(lambda: gone(program), "the program has ended")
    one.ask_to_stop()
    assert isinstance(outcome_of(one), Done)


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


# --- a kind's worker

KIND = """
import os, time
from launcher.api import Job, JobError

def report(job):
    print("words of", job.name)
    job.progress(step=1, total=4, loss=0.5)
    job.progress(step=4, total=4, loss=0.25)
    return {"attempt": job.attempt, "cpus": job.cpus, "device": job.device, "kind": job.kind,
            "folder": str(job.folder), "settings": dict(job.settings), "cwd": os.getcwd()}

def refuse(job):
    raise JobError("image 12 is none")

def explode(job):
    return {"ratio": 1 / 0}

def odd(job):
    return {"model": object()}

def bytes_(job):
    raise JobError("cannot read \\udcff.png")

def patient(job):
    print("ready", flush=True)
    job.stop.wait(60)
    return {"stopped": job.stop.is_set()}

def leaves(job):
    print("ready", flush=True)
    job.stop.wait(60)
    raise JobError("stopped in epoch 2")

def dies(job):
    os.kill(os.getpid(), 9)

def broken_pipe(job):
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    except BrokenPipeError:
        return {"caught": True}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "lab_kind.py").write_text(KIND)
    return folder


@pytest.fixture(scope="module")
def lab_nursery(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    home = Home(tmp_path_factory.mktemp("nursery"))
    nursery = Nursery(home, Breed(sys.executable, ("launcher.kinds", "no_such_module"), str(lab)))
    yield nursery
    nursery.close()


def a_job(function: str, **changes: Any) -> Spec:
    return a_spec(name=f"toy/{function}", kind="toy", entry=f"lab_kind:{function}", **changes)


def test_a_worker_tells_its_result_and_how_far_it_is(lab_nursery: Nursery, home: Home) -> None:
    spec = a_job("report", settings={"lr": 0.1})
    attempt, outcome = run_attempt(lab_nursery, home, spec, cpus=2, number=3)
    folder = str(attempt.folder)
    assert isinstance(outcome, Done)
    assert outcome.result == {
        "attempt": 3,
        "cpus": 2,
        "device": "cpu",
        "kind": "toy",
        "folder": folder,
        "settings": {"lr": 0.1},
        "cwd": folder,
    }
    assert said_by(attempt) == "words of toy/report\n"
    assert str(latest(attempt.progress)) == "4/4 loss=0.25"


def test_a_worker_that_refuses_says_why_without_a_traceback(
    lab_nursery: Nursery, home: Home
) -> None:
    attempt, outcome = run_attempt(lab_nursery, home, a_job("refuse"))
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.exit_code) == ("image 12 is none", 1)
    assert said_by(attempt) == "error: image 12 is none\n"


def test_a_worker_that_breaks_leaves_its_traceback_in_the_log(
    lab_nursery: Nursery, home: Home
) -> None:
    attempt, outcome = run_attempt(lab_nursery, home, a_job("explode"))
    assert isinstance(outcome, Failed)
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert 'return {"ratio": 1 / 0}' in said_by(attempt)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("odd", "Object of type object is not JSON serializable"),
        ("absent", "has no attribute 'absent'"),
        ("bytes_", "cannot read \udcff.png"),
        ("dies", "ended by SIGKILL"),
    ],
)
def test_whatever_goes_wrong_in_a_worker_is_recorded(
    lab_nursery: Nursery, home: Home, function: str, error: str
) -> None:
    _, outcome = run_attempt(lab_nursery, home, a_job(function))
    assert isinstance(outcome, Failed)
    assert error in outcome.error


def test_a_worker_meets_a_broken_pipe_as_an_error(lab_nursery: Nursery, home: Home) -> None:
    _, outcome = run_attempt(lab_nursery, home, a_job("broken_pipe"))
    assert isinstance(outcome, Done)
    assert outcome.result == {"caught": True}


@pytest.mark.parametrize(("function", "state"), [("patient", Done), ("leaves", Stopped)])
def test_a_worker_that_is_asked_to_stop_finishes_or_leaves(
    lab_nursery: Nursery, home: Home, function: str, state: type
) -> None:
    attempt = an_attempt(home, a_job(function))
    one = started(lab_nursery, attempt)
    until(lambda: lines_of(attempt.log), "the worker is ready")
    one.ask_to_stop()
    assert isinstance(outcome_of(one), state)


def test_an_edit_of_a_kind_counts_at_once(lab_nursery: Nursery, home: Home, lab: Path) -> None:
    for job, word in enumerate(["first", "second"], 1):
        (lab / "edited.py").write_text(f"def say(job):\n    return {{'word': {word!r}}}\n")
        spec = a_spec(name="toy/edited", entry="edited:say")
        _, outcome = run_attempt(lab_nursery, home, spec, job=job)
        assert isinstance(outcome, Done)
        assert outcome.result == {"word": word}


def test_an_adopted_session_is_not_touched_once_it_is_empty(nursery: Nursery, home: Home) -> None:
    attempt, _ = run_attempt(nursery, home, a_spec())
    who = recorded(read_json(attempt.process))
    assert who is not None
    end_session(who)
