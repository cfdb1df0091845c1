import json
import os
import random
import resource
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home, make_home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import SEPARATE, Resources
from launcher.queue.jobs.states import Done, Failed, Outcome, OutOfMemory, Stopped
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.queue.workers.attempt_process import close_on_exec
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.fork_server_handles import ForkServer, SupervisorReport
from launcher.queue.workers.termination import Termination, write_termination
from launcher.system.environment import RECORD_VARIABLE
from launcher.system.process_trees import processes_with_marker
from tests.build import (
    a_context,
    a_spec,
    an_attempt,
    end_everything,
    ended,
    gone,
    lines_of,
    outcome_of,
    program_of,
    run_attempt,
    said_by,
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


Run = Callable[..., tuple[Attempt, Outcome]]


@pytest.fixture
def run(fork_server: ForkServer, home: Home) -> Run:
    """Run one attempt from its order to its recorded end."""
    return partial(run_attempt, fork_server, home)


# --- how a program ends


def test_program_folder_has_its_values_and_its_owners_permissions(run: Run, tmp_path: Path) -> None:
    look = "cat {job_folder}/params.json; stat -c %a {job_folder} > {job_folder}/rights"
    name = "command/a@lr=0.1"  # no path of the attempt has it
    values = {"params": {"lr": 0.1}}
    spec = a_spec(*shell(look), name=name, hash="0f", root=str(tmp_path), settings=values)
    attempt, outcome = run(spec, context=a_context(umask=0o027))
    assert isinstance(outcome, Done)
    assert json.loads(said_by(attempt)) == {"lr": 0.1}
    assert lines_of(attempt.folder / "runs/test/jobs/1/rights") == ["750"]


@pytest.mark.parametrize(
    ("argv", "code", "number", "error", "said"),
    [
        (("echo", "hello"), None, None, "", "hello\n"),
        (
            shell("echo one; echo two >&2; exit 3"),
            3,
            None,
            "ended with exit code 3: two",
            "one\ntwo\n",
        ),
        (shell("kill -SEGV $$"), None, signal.SIGSEGV, "ended by SIGSEGV", ""),
        (("no-such-program",), 127, None, "cannot start 'no-such-program': no such program", None),
        (("./data",), 126, None, "Permission denied", None),
    ],
)
def test_exit_of_a_program_and_its_output_are_recorded(
    run: Run,
    tmp_path: Path,
    argv: tuple[str, ...],
    code: int | None,
    number: int | None,
    error: str,
    said: str | None,
) -> None:
    (tmp_path / "data").write_text("no program")
    attempt, outcome = run(a_spec(*argv), context=a_context(tmp_path))
    assert said in {None, said_by(attempt)}
    assert isinstance(outcome, Failed if error else Done)
    if isinstance(outcome, Failed):
        assert (outcome.exit_code, outcome.signal) == (code, number)
        assert outcome.error == error if said is not None else error in outcome.error


def test_program_out_of_main_memory_is_reported_with_usage_and_reservation(
    fork_server: ForkServer, home: Home
) -> None:
    program = "x = bytearray(b'x' * (48 << 20)); raise MemoryError"
    promised = Resources(device="cpu", ram=4 << 30)
    _, outcome = run_attempt(
        fork_server, home, a_spec(sys.executable, "-c", program, resources=promised)
    )
    assert isinstance(outcome, OutOfMemory)
    assert (outcome.report.where, outcome.exit_code) == ("ram", 1)
    assert outcome.error.startswith("MemoryError (used ")
    assert outcome.error.endswith(" of main memory, reserved: 4 GiB)")
    assert outcome.report.held
    assert 48 << 20 <= outcome.report.held < 1 << 30


def test_program_is_searched_in_the_whole_path_of_its_owner(run: Run, tmp_path: Path) -> None:
    for folder in ("data", "bin", "later"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "hello").write_text("no program")
    for folder in ("bin", "later"):
        (tmp_path / folder / "hello").write_text(f"#!/bin/sh\necho from {folder}")
        (tmp_path / folder / "hello").chmod(0o755)
    path = f"{tmp_path}/absent:{tmp_path}/data:bin:{tmp_path}/later:{os.environ['PATH']}"
    context = a_context(tmp_path, environment={"PATH": path})
    attempt, _ = run(a_spec("hello"), context=context)
    assert said_by(attempt) == "from bin\n"


def test_program_that_is_missing_at_first_is_awaited(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    tool = tmp_path / "tool"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    context = a_context(environment=environment, programs={"tool": str(tool)})
    run = started(fork_server, an_attempt(home, a_spec("tool"), context=context))
    said = run.attempt.log
    until(lambda: f"launcher: waiting up to 60 s for {tool}" in lines_of(said), "it waits")
    tool.with_suffix(".new").write_text("#!/bin/sh\necho there")
    tool.with_suffix(".new").chmod(0o755)
    tool.with_suffix(".new").rename(tool)
    assert isinstance(outcome_of(run), Done)
    assert lines_of(said)[1:] == ["there"]
    tool.unlink()
    run = started(fork_server, an_attempt(home, a_spec("tool"), context=context, job=2))
    until(lambda: lines_of(run.attempt.log), "it waits again")
    run.stop()
    assert isinstance(outcome_of(run), Stopped)


def test_non_executable_file_is_reported_before_a_missing_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("no program")
    context = a_context(tmp_path, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    _, outcome = run(a_spec("hello"), context=context)
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 126
    assert "cannot start 'hello': Permission denied" in outcome.error


def test_missing_folder_is_named(run: Run) -> None:
    _, outcome = run(a_spec(), context=a_context("/no/such/folder"))
    assert isinstance(outcome, Failed)
    assert "the folder /no/such/folder does not exist" in outcome.error


def test_records_of_an_attempt_are_private(run: Run) -> None:
    attempt, _ = run(a_spec(), stderr=SEPARATE)
    write_termination(attempt, Termination(since=1.0, kill_at=2.0))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in attempt.folder.iterdir()}
    assert {"log", "stderr", "termination.json"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_log_also_appears_in_the_folder_of_the_run(run: Run, home: Home) -> None:
    link = home.folder / "runs" / "test" / "m" / "train.log"
    link.parent.mkdir(parents=True)
    link.write_text("of an earlier attempt")
    attempt, _ = run(a_spec("echo", "new", log_link=str(link)))
    assert link.read_text() == "new\n" == said_by(attempt)


def test_run_folders_are_created_with_the_owners_umask(run: Run, home: Home) -> None:
    folder = home.folder / "runs" / "test"
    spec = a_spec(log_link=str(folder / "m" / "train.log"))
    run(spec, context=a_context(umask=0o002))
    assert [stat.S_IMODE(one.stat().st_mode) for one in (folder, folder / "m")] == [0o775] * 2


# --- the surroundings


def test_program_runs_in_the_folder_it_was_queued_in(run: Run, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    context = a_context(
        tmp_path,
        umask=0o027,
        environment={"PATH": os.environ["PATH"], "COLOUR": "ro t", "CUDA_VISIBLE_DEVICES": "7"},
        affinity=(core,),
    )
    script = "pwd; umask; env; grep Cpus_allowed_list /proc/self/status"
    attempt, _ = run(a_spec(*shell(script)), context=context, cpus=3)
    said = said_by(attempt).splitlines()
    assert said[:2] == [str(tmp_path), "0027"]
    known = {"PWD", "_", "SHLVL", RECORD_VARIABLE}
    variables = {line for line in said if line.partition("=")[0] not in known}
    assert variables == {
        f"PATH={os.environ['PATH']}",
        "COLOUR=ro t",
        "CUDA_VISIBLE_DEVICES=",
        "CUDA_DEVICE_ORDER=PCI_BUS_ID",
        "LAUNCHER_CPUS=3",
        "LAUNCHER_JOB=1",
        f"LAUNCHER_ATTEMPT={attempt.folder}",
        *(f"{library}_NUM_THREADS=3" for library in ("OMP", "MKL", "OPENBLAS")),
        *said[:2],
        f"Cpus_allowed_list:\t{core}",
    }


LIMITED = {"NOFILE": 64, "STACK": 1 << 20, "CORE": 1 << 60}
WHICH = (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK, resource.RLIMIT_CORE)


def limited_by(limits: dict[str, int]) -> list[tuple[int, int]]:
    """Return soft and hard limits of a process below this one that wants these soft ones."""
    hard = [resource.getrlimit(which)[1] for which in WHICH]
    return [
        (soft if most == resource.RLIM_INFINITY else min(soft, most), most)
        for soft, most in zip(limits.values(), hard, strict=True)
    ]


def test_program_has_the_limits_and_niceness_of_its_shell_and_its_supervisor_keeps_its_own(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    script = (
        f"import os, resource; print([*map(resource.getrlimit, {WHICH})], os.nice(0), os.getcwd())"
    )
    context = a_context(tmp_path, limits=LIMITED, niceness=os.nice(0) + 3)
    spec = a_spec(sys.executable, "-c", script)
    supervised = started(fork_server, an_attempt(home, spec, context=context))
    assert ended(supervised.descriptor)
    assert isinstance(supervised.poll_outcome(), Done)
    said = said_by(supervised.attempt)
    assert said == f"{limited_by(LIMITED)} {os.nice(0) + 3} {tmp_path}\n"
    supervisor = supervised.supervisor.who.pid
    assert os.getpriority(os.PRIO_PROCESS, supervisor) == os.nice(0)
    assert [resource.prlimit(supervisor, which) for which in WHICH] == [
        *map(resource.getrlimit, WHICH)
    ]
    spec = a_spec("sh", "-c", "ulimit -S -n; nice")
    again = replace(supervised, attempt=an_attempt(home, spec, job=2))
    again.supervisor.run(again.attempt)
    assert isinstance(outcome_of(again), Done)
    assert said_by(again.attempt).split() == [f"{resource.getrlimit(WHICH[0])[0]}", f"{os.nice(0)}"]


def test_program_with_limits_inherits_only_its_output(run: Run) -> None:
    script = "ls -l /proc/$$/fd; grep Sig /proc/self/status; ps -o sid= $$; echo $$"
    attempt, outcome = run(a_spec(*shell(script)), context=a_context(limits={"NOFILE": 64}))
    assert isinstance(outcome, Done)
    said = said_by(attempt)
    opened = [line.split(" -> ")[1] for line in said.splitlines() if " -> " in line]
    assert opened == ["/dev/null", str(attempt.log), str(attempt.log)]
    assert "SigBlk:\t0000000000000000" in said
    *_, session, pid = said.split()
    assert session == pid


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("no-such-program", "cannot start 'no-such-program': no such program"),
        ("/etc/passwd", "cannot start '/etc/passwd': Permission denied"),
    ],
)
def test_program_with_limits_that_cannot_start_reports_the_reason(
    run: Run, program: str, error: str
) -> None:
    _, outcome = run(a_spec(program), context=a_context(limits={"NOFILE": 64}))
    assert isinstance(outcome, Failed)
    assert error in outcome.error


def test_worker_has_the_limits_and_niceness_of_its_shell(home: Home, tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(
        "import os, resource\ndef run(job):\n"
        f"    return {{'limits': [*map(resource.getrlimit, {WHICH})], 'nice': os.nice(0)}}\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    context = a_context(environment=environment, limits=LIMITED, niceness=os.nice(0) + 3)
    fork_server = ForkServer(home, WorkerEnvironment(sys.executable, (), str(tmp_path)))
    spec = a_spec(name="toy/1", entry="limited:run")
    _, outcome = run_attempt(fork_server, home, spec, context=context)
    fork_server.close()
    assert isinstance(outcome, Done)
    assert outcome.result == {
        "limits": [[*pair] for pair in limited_by(LIMITED)],
        "nice": os.nice(0) + 3,
    }


def test_program_with_unknown_gpu_numbers_fails_with_a_remedy(
    fork_server: ForkServer, home: Home
) -> None:
    spec = a_spec("true", resources=Resources(device="cuda", gpu_ids="numbers"))
    attempt = an_attempt(home, spec, device="GPU-1")
    outcome = outcome_of(started(fork_server, attempt))
    assert isinstance(outcome, Failed)
    assert "gpu_ids=numbers does not work here" in outcome.error
    assert "Use gpu_ids=uuids" in said_by(attempt)


def test_arguments_reach_a_program_unchanged(run: Run) -> None:
    words = ["a b", "", "$HOME", "*", "ü\n'\"\\", os.fsdecode(b"\xff")]
    attempt, _ = run(a_spec("printf", "%s|", *words))
    assert attempt.log.read_bytes() == b"".join(os.fsencode(word) + b"|" for word in words)


def test_descriptor_of_whoever_started_the_fork_server_is_not_inherited() -> None:
    descriptors = os.pipe()
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    close_on_exec()
    assert not any(map(os.get_inheritable, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)


def test_program_inherits_only_its_output(run: Run) -> None:
    script = "ls -l /proc/$$/fd; grep Sig /proc/self/status; ps -o sid= $$; echo $$"
    attempt, _ = run(a_spec(*shell(script)))
    said = said_by(attempt)
    opened = [line.split(" -> ")[1] for line in said.splitlines() if " -> " in line]
    assert opened == ["/dev/null", str(attempt.log), str(attempt.log)]
    assert "SigBlk:\t0000000000000000" in said
    ignored_by_libc = 0x180000000  # 32 and 33 are its own
    assert int(said.partition("SigIgn:\t")[2].split()[0], 16) & ~ignored_by_libc == 0
    *_, session, pid = said.split()
    assert session == pid


def test_worker_is_recorded_before_its_first_instruction(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "reader.py").write_text(
        "import os, pathlib\ndef run(job):\n"
        "    return {'pid': os.getpid(), 'text': (job.attempt_folder / 'started').read_text()}\n"
    )
    context = a_context(environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)})
    breeding = ForkServer(home, WorkerEnvironment(sys.executable, (), str(tmp_path)))
    spec = a_spec(name="toy/1", entry="reader:run")
    _, outcome = run_attempt(breeding, home, spec, context=context)
    breeding.close()
    assert isinstance(outcome, Done)
    *_, program = str(outcome.result["text"]).splitlines()
    assert json.loads(program)["pid"] == outcome.result["pid"]


def test_program_is_recorded_and_carries_its_marker(fork_server: ForkServer, home: Home) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    supervised = started(fork_server, attempt)
    program = program_of(attempt)
    assert [who.pid for who in processes_with_marker(attempt.folder)] == [program]
    supervised.stop()
    outcome_of(supervised)


def test_supervisor_runs_attempts_one_after_another(fork_server: ForkServer, home: Home) -> None:
    supervised = started(fork_server, an_attempt(home, a_spec("echo", "first"), job=1))
    assert ended(supervised.descriptor)
    assert isinstance(supervised.poll_outcome(), Done)
    second = an_attempt(home, a_spec(*shell("echo second; exit 2")), job=2)
    again = replace(supervised, attempt=second)
    again.supervisor.run(second)
    assert isinstance(outcome_of(again), Failed)
    assert supervisor_of(second) == supervised.supervisor.who.pid
    assert said_by(second) == "second\n"


def test_late_stop_does_not_reach_the_next_attempt(fork_server: ForkServer, home: Home) -> None:
    supervised = started(fork_server, an_attempt(home, a_spec(), job=1))
    assert ended(supervised.descriptor)
    assert isinstance(supervised.poll_outcome(), Done)
    second = an_attempt(home, a_spec(*shell("sleep 0.2; echo whole")), job=2)
    again = replace(supervised, attempt=second)
    again.supervisor.run(second)
    program_of(second)
    supervised.stop()  # the first attempt
    assert isinstance(outcome_of(again), Done)
    assert said_by(second) == "whole\n"


@pytest.mark.parametrize(
    "leave", ['mkdir "$1"', 'printf "%0100000d" 0 | tr 0 "[" > "$1"', 'echo 7 > "$1"']
)
def test_file_left_by_a_program_in_place_of_a_workers_report_is_ignored(
    run: Run, home: Home, leave: str
) -> None:
    result = str(home.attempt(1, 1).result)
    _, outcome = run(a_spec(*shell(f"{leave}; exit 4", result)))
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 4


# --- time limits


@pytest.mark.parametrize(
    ("argv", "grace_s", "error"),
    [
        (("sleep", "60"), 30.0, ""),
        (shell(f"trap '' TERM; {FOR_EVER}"), 0.1, " and was killed after its grace period"),
    ],
)
def test_program_that_reaches_its_time_limit_fails_and_is_killed_after_its_grace(
    fork_server: ForkServer, home: Home, argv: tuple[str, ...], grace_s: float, error: str
) -> None:
    attempt = an_attempt(home, a_spec(*argv), time_limit_s=0.5, grace_s=grace_s)
    outcome = outcome_of(started(fork_server, attempt))
    assert isinstance(outcome, Failed)
    assert outcome.error == f"reached its time limit of 0.5 s{error}"
    assert outcome.signal == (signal.SIGKILL if error else signal.SIGTERM)


@pytest.mark.parametrize("code", [0, 3])
def test_program_that_handles_the_time_limit_signal_has_reached_the_limit(
    fork_server: ForkServer, home: Home, code: int
) -> None:
    script = f"trap 'echo saved; exit {code}' TERM; echo ready; while :; do sleep 0.05; done"
    attempt = an_attempt(home, a_spec(*shell(script)), time_limit_s=1.0)
    outcome = outcome_of(started(fork_server, attempt))
    assert isinstance(outcome, Failed)
    assert (outcome.over_limit, outcome.exit_code) == (True, code)
    assert outcome.error == "reached its time limit of 1 s"


def test_time_limit_of_months_is_accepted(fork_server: ForkServer, home: Home) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"), time_limit_s=90 * 86_400.0)
    supervised = started(fork_server, attempt)
    program_of(attempt)
    supervised.stop()
    assert isinstance(outcome_of(supervised), Stopped)


def test_program_is_warned_before_its_time_limit_and_may_finish(
    fork_server: ForkServer, home: Home
) -> None:
    script = "trap 'echo saved; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
    attempt = an_attempt(
        home, a_spec(*shell(script)), time_limit_s=60.0, warn_s=59.5, warn_signal="SIGUSR1"
    )
    assert isinstance(outcome_of(started(fork_server, attempt)), Done)
    assert said_by(attempt) == "ready\nsaved\n"


# --- stopping


def test_program_asked_to_stop_may_exit_by_itself(fork_server: ForkServer, home: Home) -> None:
    attempt = an_attempt(home, a_spec(sys.executable, "-c", SAYS_GOODBYE))
    supervised = started(fork_server, attempt)
    until(lambda: lines_of(attempt.log) == ["ready"], "the program is ready")
    supervised.stop()
    assert isinstance(outcome_of(supervised), Stopped)
    assert said_by(attempt) == "ready\nsaved\n"


def test_unresponsive_program_is_killed_with_its_whole_process_tree(
    fork_server: ForkServer, home: Home
) -> None:
    script = f"trap '' TERM; sh -c 'echo $$; {FOR_EVER}' & setsid sh -c 'echo $$; {FOR_EVER}'"
    attempt = an_attempt(home, a_spec(*shell(script)), grace_s=0.2)
    supervised = started(fork_server, attempt)
    until(lambda: len(lines_of(attempt.log)) == 2, "both children are there")
    supervised.stop()
    before = time.monotonic()
    assert isinstance(outcome_of(supervised), Stopped)
    assert time.monotonic() - before >= 0.2
    assert all(gone(int(pid)) for pid in lines_of(attempt.log))
    assert gone(program_of(attempt))


def test_processes_left_by_a_program_end_with_it(run: Run) -> None:
    # one child in the background, and one that has left for a session of its own, twice forked
    script = "sleep 60 & echo $!; (setsid sh -c 'echo $$; exec sleep 60' &) ; sleep 0.2; exit 5"
    attempt, outcome = run(a_spec(*shell(script)))
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == 5
    left = [int(pid) for pid in lines_of(attempt.log)]
    assert len(left) == 2
    assert all(gone(pid) for pid in left)


def test_folder_deleted_by_its_program_is_distinguished_from_a_foreign_one(run: Run) -> None:
    script = 'rm -r "$LAUNCHER_ATTEMPT"'
    attempt, outcome = run(a_spec(*shell(script)), job=7)
    assert isinstance(outcome, Done)
    assert read_attempt_spec(attempt.spec.read_bytes()).job == 7


def test_scheduler_started_by_a_job_does_not_end_with_it(
    run: Run, home: Home, tmp_path: Path
) -> None:
    other = Home(tmp_path / "other")
    make_home(other)
    script = (
        "import pathlib, sys\nfrom launcher.queue.home.scheduler_start import ensure_scheduler\n"
        "from launcher.queue.home.paths import Home\nfrom launcher.queue.store.queue import Store\n"
        "home = Home(pathlib.Path(sys.argv[1]))\nStore(home).close()\n"
        "print(ensure_scheduler(home))"
    )
    words = (sys.executable, "-c", script, str(other.folder))
    attempt, outcome = run(a_spec(*words))
    assert isinstance(outcome, Done), said_by(attempt)
    scheduler = int(said_by(attempt))
    assert scheduler_pid(other) == scheduler
    assert scheduler not in [who.pid for who in processes_with_marker(attempt.folder)]
    end_everything(other)


def test_orphans_of_a_long_program_do_not_accumulate_as_zombies(
    fork_server: ForkServer, home: Home
) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do (true &); done; echo ready; sleep 60"
    attempt = an_attempt(home, a_spec(*shell(script)))
    supervised = started(fork_server, attempt)
    until(lambda: lines_of(attempt.log) == ["ready"], "the orphans were made")
    children = Path(f"/proc/{supervisor_of(attempt)}/task/{supervisor_of(attempt)}/children")
    until(lambda: children.read_text().split() == [str(program_of(attempt))], "they are collected")
    supervised.stop()
    outcome_of(supervised)


def test_stop_at_any_instant_is_received(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    pause = random.Random(1)
    effects = tmp_path / "effects"
    for job in range(1, 21):
        attempt = an_attempt(
            home, a_spec(*shell(f"{EFFECT}; exec sleep 60", str(effects))), job=job
        )
        supervised = started(fork_server, attempt)
        time.sleep(pause.uniform(0, 0.006))  # the instants that are to be met
        supervised.stop()
        assert ended(supervised.descriptor, deadline_s=10), "the signal was lost"
        assert isinstance(supervised.poll_outcome(), Stopped)
        supervised.supervisor.channel.close()


def test_program_that_had_already_ended_was_not_stopped(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    # the process that it leaves takes its time, so that its supervisor lives a little longer
    slow = "trap 'sleep 0.3; exit' TERM; touch \"$1\"; sleep 60 & wait"
    script = f'({slow}) & until [ -e "$1" ]; do sleep 0.01; done'
    attempt = an_attempt(home, a_spec(*shell(script, str(tmp_path / "ready"))))
    supervised = started(fork_server, attempt)
    program = program_of(attempt)
    until(lambda: gone(program), "the program has ended")
    supervised.stop()
    assert isinstance(outcome_of(supervised), Done)


# --- orders that are read ahead


def test_prefetched_spec_that_has_changed_is_not_executed(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    gate, effect = tmp_path / "gate", tmp_path / "effect"
    waits = shell(f"until [ -e {gate} ]; do sleep 0.01; done")
    first = started(fork_server, an_attempt(home, a_spec(*waits)))
    program_of(first.attempt)
    stale = an_attempt(home, a_spec(*shell(f"echo stale >> {effect}")), job=2)
    first.supervisor.read_ahead(home.attempt(3, 1))  # there is no such folder
    first.supervisor.read_ahead(stale)
    gate.touch()
    assert ended(first.descriptor)
    assert first.supervisor.receive_report() == SupervisorReport(
        read_recorded_outcome(first.attempt)
    )
    shutil.rmtree(stale.folder)
    second = an_attempt(home, a_spec(*shell(f"echo new >> {effect}")), job=2)
    first.supervisor.run(second)
    assert isinstance(outcome_of(replace(first, attempt=second)), Done)
    assert effect.read_text() == "new\n"


def test_prefetched_spec_is_executed_once(
    fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    effect = tmp_path / "effect"
    first = started(fork_server, an_attempt(home, a_spec("sleep", "0.2")))
    program_of(first.attempt)
    second = an_attempt(home, a_spec(*shell(f"echo once >> {effect}")), job=2)
    first.supervisor.read_ahead(second)
    assert ended(first.descriptor)
    assert isinstance(first.supervisor.receive_report(), SupervisorReport)
    first.supervisor.run(second)
    assert isinstance(outcome_of(replace(first, attempt=second)), Done)
    assert effect.read_text() == "once\n"
    assert lines_of(second.log) == []
