"""A real scheduler and its jobs: normal operation, kill -9, stops, errors, and the process that sends messages."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Attempt, Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.scheduler.process import Notifier
from launcher.queue.store.queue import Store
from launcher.queue.store.transitions import LOST_LIMIT
from launcher.queue.workers.progress.attempt_progress import read_last_metrics
from launcher.system.files import Json, write_atomic, write_json
from launcher.system.locks import lock_file, lock_holder
from launcher.system.process_trees import descendants, send_signal, session_processes
from launcher.system.processes import identity
from tests.build import (
    a_context,
    a_seat,
    a_spec,
    claimed,
    end_everything,
    endings,
    enqueue,
    fork_servers_of,
    gone,
    in_state,
    job_row,
    lane_reason_text,
    lines_of,
    program_of,
    shell,
    supervisor_of,
    until,
)
from tests.shortened import QUICK_KILLS, QUICK_LOSSES, shortened

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with a living scheduler."""

    home: Home
    store: Store
    run: str = "test"

    def add(
        self,
        *specs: Spec,
        needs: dict[str, list[str]] | None = None,
        context: Context | None = None,
    ) -> list[int]:
        """Queue jobs as a command does: commit, see that a scheduler lives, wake it."""
        jobs = enqueue(self.store, *specs, needs=needs, context=context, run=self.run)
        ensure_scheduler(self.home)
        wake(self.home)
        return jobs

    def wait(self, *jobs: int) -> list[State]:
        """Wait until jobs have ended; return their states."""
        until(
            lambda: all(in_state(self.store, job, *ENDED_STATES) for job in jobs),
            f"jobs {jobs} have ended",
        )
        return [job_row(self.store, job).state for job in jobs]

    def running(self, job: int, number: int = 1) -> Attempt:
        """Wait until an attempt's program runs."""
        attempt = self.home.attempt(job, number)
        program_of(attempt)
        return attempt

    @property
    def scheduler(self) -> int:
        """The living scheduler's pid."""
        pid = scheduler_pid(self.home)
        assert pid is not None
        return pid


@pytest.fixture(scope="module", autouse=True)
def quick_kills() -> Iterator[None]:
    """Killed jobs run again within a fraction of a second."""
    with shortened(QUICK_KILLS | QUICK_LOSSES):
        yield


@pytest.fixture
def queue(home: Home, store: Store) -> Queue:
    """A queue of the test's own, for tests that harm its scheduler."""
    return Queue(home, store)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("shared") / "home")
    make_home(home)
    yield home
    end_everything(home)


@pytest.fixture
def shared_queue(shared_home: Home, request: pytest.FixtureRequest) -> Iterator[Queue]:
    """A run of the test's own in a queue whose scheduler serves all calm tests."""
    store = Store(shared_home, durable=False)
    yield Queue(shared_home, store, run=request.node.name)
    store.close()


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def a_job_with_an_effect(effects: Path, name: str = "command/1", pause_s: float = 0.0) -> Spec:
    """Stamp its start, work, stamp its end."""
    script = 'echo "start $2" >> "$1"; sleep "$3"; echo "end $2" >> "$1"'
    return a_spec(*shell(script, str(effects), name, str(pause_s)), name=name)


def until_it_can_finish(flag: Path, effects: Path) -> tuple[str, ...]:
    """A program that stamps its start, works until `flag` exists, and stamps its end."""
    script = 'echo start >> "$2"; until [ -e "$1" ]; do sleep 0.01; done; echo end >> "$2"'
    return shell(script, str(flag), str(effects))


# --- the plain life of jobs


def test_job_runs_and_its_end_is_recorded(shared_queue: Queue) -> None:
    good, bad, none = shared_queue.add(
        a_spec("echo", "hi", name="command/good"),
        a_spec(*shell("echo sorry; exit 4"), name="command/bad"),
        a_spec("no-such-program", name="command/none"),
    )
    assert shared_queue.wait(good, bad, none) == [State.DONE, State.FAILED, State.FAILED]
    assert shared_queue.home.attempt(good, 1).log.read_text() == "hi\n"
    assert job_row(shared_queue.store, bad).reason == "failed: ended with exit code 4: sorry"
    assert "no such program" in job_row(shared_queue.store, none).reason
    assert [endings(shared_queue.store, job) for job in (good, bad, none)] == [
        ["done"],
        ["failed"],
        ["failed"],
    ]


def test_jobs_run_in_dependency_order_and_failures_propagate(
    shared_queue: Queue, effects: Path
) -> None:
    def job(name: str) -> Spec:
        return a_job_with_an_effect(effects, f"command/{name}")

    needs = {
        "command/c": ["command/a", "command/b"],
        "command/d": ["command/bad"],
        "command/e": ["command/d", "command/a"],
    }
    specs = [job("a"), job("b"), job("c"), a_spec("false", name="command/bad"), job("d"), job("e")]
    jobs = shared_queue.add(*specs, needs=needs)
    assert shared_queue.wait(*jobs) == [
        *[State.DONE] * 3,
        State.FAILED,
        *[State.SKIPPED] * 2,
    ]
    done = lines_of(effects)
    assert len(done) == 6
    assert done[-2:] == ["start command/c", "end command/c"]
    assert (
        job_row(shared_queue.store, jobs[-1]).reason == f"skipped: job {jobs[3]} command/bad failed"
    )


def test_concurrent_jobs_do_not_exceed_the_cores(shared_queue: Queue, effects: Path) -> None:
    specs = [
        a_job_with_an_effect(effects, f"command/{number}", 0.05) for number in range(3 * CORES)
    ]
    assert set(shared_queue.wait(*shared_queue.add(*specs))) == {State.DONE}
    at_once, most = 0, 0
    for line in lines_of(effects):
        at_once += 1 if line.startswith("start") else -1
        most = max(most, at_once)
    assert most == CORES


def test_waiting_job_has_a_reason(shared_queue: Queue, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    wide, waiting = shared_queue.add(
        a_spec(*until_it_can_finish(flag, tmp_path / "e"), name="command/wide", cpus=CORES),
        a_spec(name="command/waiting"),
    )
    shared_queue.running(wide)
    until(
        lambda: "0 of" in lane_reason_text(job_row(shared_queue.store, waiting)),
        "its reason is told",
    )
    assert (
        lane_reason_text(job_row(shared_queue.store, waiting))
        == f"waiting for 1 CPU core: 0 of {CORES} free"
    )
    flag.touch()
    assert shared_queue.wait(wide, waiting) == [State.DONE, State.DONE]


# --- kill -9


def processes_by_role(queue: Queue, attempt: Attempt) -> dict[str, list[int]]:
    """Return the processes of each sort, and all of them."""
    (fork_server,) = fork_servers_of(queue.home)
    found = {
        "scheduler": [queue.scheduler],
        "fork server": [fork_server],
        "supervisor": [supervisor_of(attempt)],
        "program": [program_of(attempt)],
    }
    return found | {
        "all": [
            queue.scheduler,
            fork_server,
            *descendants(fork_server),
            *found["supervisor"],
            *found["program"],
        ]
    }


@pytest.mark.parametrize(
    ("killed", "expected"),
    [
        ("scheduler", ["done"]),
        ("fork server", ["done"]),
        ("scheduler+fork server", ["done"]),
        ("program", ["failed"]),
        ("supervisor", ["done"]),
        ("scheduler+supervisor", ["done"]),
        ("all", ["lost", "done"]),
    ],
)
def test_killed_process_repeats_an_effect_only_after_a_lost_attempt(
    queue: Queue, tmp_path: Path, effects: Path, killed: str, expected: list[str]
) -> None:
    flag = tmp_path / "flag"
    (job,) = queue.add(a_spec(*until_it_can_finish(flag, effects)))
    attempt = queue.running(job)
    until(lambda: lines_of(effects), "the program has begun")
    first, there = program_of(attempt), processes_by_role(queue, attempt)
    for pid in [pid for name in killed.split("+") for pid in there[name]]:
        send_signal(pid, signal.SIGKILL)
    if killed in {"scheduler+fork server", "all"}:
        until(lambda: scheduler_pid(queue.home) is None, "all of ours is gone")
        ensure_scheduler(queue.home)  # as the next command does
    else:
        until(lambda: scheduler_pid(queue.home) is not None, "a helper has restarted it")
    flag.touch()
    queue.wait(job)
    assert endings(queue.store, job) == expected
    assert lines_of(effects).count("start") == len(expected)
    assert gone(first)


@pytest.mark.parametrize("killed", ["", "scheduler", "supervisor", "scheduler+supervisor"])
def test_numbers_in_a_log_are_recorded_with_the_end_of_the_job(
    queue: Queue, tmp_path: Path, killed: str
) -> None:
    flag = tmp_path / "flag"
    table = tmp_path / "m.csv"
    write = f"echo loss=0.5 speed=3.2; printf 'epoch,acc\\n1,0.75' > {table}"
    script = f"echo loss=1; until [ -e {flag} ]; do sleep 0.01; done; {write}"
    terms = Terms(metrics=str(table), numbers=("speed", "ghost"))
    (job,) = queue.add(a_spec(*shell(script), terms=terms))
    attempt = queue.running(job)
    until(lambda: attempt.log.read_text() == "loss=1\n", "the program has begun")
    there = processes_by_role(queue, attempt)
    for pid in [pid for name in killed.split("+") if name for pid in there[name]]:
        send_signal(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(queue.home) is not None, "a helper has restarted it")
    flag.touch()
    assert queue.wait(job) == [State.DONE]
    sources: Json = {"acc": "metrics file", "speed": "log", "loss": "log"}
    faults: Json = ["the log has no number 'ghost'"]
    result = {"acc": 0.75, "speed": 3.2, "loss": 0.5, "read_from": sources, "number_faults": faults}
    assert queue.store.read.result_of(job) == result
    table.write_text("epoch,acc\n1,0.25\n")
    assert read_last_metrics(attempt) == result


def test_new_scheduler_adopts_running_attempts(queue: Queue) -> None:
    (job,) = queue.add(a_spec("sleep", "60"))
    queue.running(job)
    old = queue.scheduler
    send_signal(old, signal.SIGKILL)
    until(lambda: "adopted" in queue.home.scheduler_log.read_text(), "the job is adopted")
    assert queue.scheduler != old
    assert endings(queue.store, job) == [None]


def test_a_job_that_was_claimed_and_never_started_runs(queue: Queue, effects: Path) -> None:
    (job,) = enqueue(queue.store, a_job_with_an_effect(effects))
    claimed(queue.store, job, time.time())  # and here its scheduler dies
    attempt = queue.home.attempt(job, 1)
    attempt.folder.mkdir(parents=True)
    write_json(attempt.spec, {"schema": 1})
    ensure_scheduler(queue.home)
    assert queue.wait(job) == [State.DONE]
    assert endings(queue.store, job) == ["void", "done"]
    assert len(lines_of(effects)) == 2


# --- cancelling and stopping


def test_a_running_job_that_is_cancelled_ends_and_those_that_need_it_are_skipped(
    shared_queue: Queue,
) -> None:
    first, second = shared_queue.add(
        a_spec(*shell("sleep 60 & wait"), name="command/a"),
        a_spec(name="command/b"),
        needs={"command/b": ["command/a"]},
    )
    attempt = shared_queue.running(first)
    program = program_of(attempt)
    shared_queue.store.job_control.cancel([first], time.time())
    wake(shared_queue.home)
    assert shared_queue.wait(first, second) == [State.CANCELLED, State.SKIPPED]
    assert endings(shared_queue.store, first) == ["stopped"]
    assert session_processes(program) == []


def test_unsupervised_program_can_be_cancelled(shared_queue: Queue) -> None:
    (job,) = shared_queue.add(a_spec("sleep", "60"))
    attempt = shared_queue.running(job)
    send_signal(supervisor_of(attempt), signal.SIGKILL)
    until(
        lambda: f"job={job} attempt=1 adopted" in shared_queue.home.scheduler_log.read_text(),
        "the program is adopted",
    )
    shared_queue.store.job_control.cancel([job], time.time())
    wake(shared_queue.home)
    assert shared_queue.wait(job) == [State.CANCELLED]
    assert identity(program_of(attempt)) is None


def test_stopped_queue_starts_nothing_and_continues_after_a_restart(
    queue: Queue, tmp_path: Path, effects: Path
) -> None:
    flag = tmp_path / "flag"
    (running,) = queue.add(a_spec(*until_it_can_finish(flag, effects), name="command/running"))
    queue.running(running)
    write_json(queue.home.stop_record, {"schema": 1, "now": False})
    wake(queue.home)
    (waiting,) = enqueue(queue.store, a_spec(name="command/waiting"))
    wake(queue.home)
    flag.touch()
    assert queue.wait(running) == [State.DONE]
    until(lambda: scheduler_pid(queue.home) is None, "the scheduler has left")
    assert job_row(queue.store, waiting).state is State.QUEUED
    queue.home.stop_record.unlink()
    ensure_scheduler(queue.home)
    assert queue.wait(waiting) == [State.DONE]


def test_job_queued_during_scheduler_exit_is_run(queue: Queue, home: Home) -> None:
    (first,) = queue.add(a_spec(name="command/1"))
    queue.wait(first)
    (fork_server,) = fork_servers_of(queue.home)
    send_signal(
        fork_server, signal.SIGSTOP
    )  # the scheduler waits for its end before it gives up its lock
    write_json(home.stop_record, {"schema": 1, "now": False})
    wake(home)
    until(lambda: "leaves" in home.scheduler_log.read_text(), "the scheduler is on its way out")
    home.stop_record.unlink()
    (second,) = queue.add(a_spec(name="command/2"))
    send_signal(fork_server, signal.SIGCONT)
    assert queue.wait(second) == [State.DONE]


# --- trouble


def test_scheduler_exits_after_its_queue_folder_was_removed(queue: Queue, home: Home) -> None:
    (job,) = queue.add(a_spec())
    queue.wait(job)
    scheduler = queue.scheduler
    alarm = os.open(home.wake_pipe, os.O_WRONLY | os.O_NONBLOCK)  # its path will be gone
    shutil.rmtree(home.folder)
    os.write(alarm, b".")
    os.close(alarm)
    until(lambda: identity(scheduler) is None, "the scheduler has left")
    assert not home.folder.exists()


CRASHES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
HALF = "raise OSError('libcudart.so.12: cannot open shared object')\n"
HALF_KIND = (
    "import sys\nif 'half' not in sys.modules: raise RuntimeError('half is half imported')\n"
)


@pytest.mark.parametrize(
    ("interpreter", "entry", "preload", "reason"),
    [
        ("/no/such/python", "toy:run", (), "cannot run /no/such/python: No such file or directory"),
        (
            "/bin/false",
            "toy:run",
            (),
            "/bin/false does not start: it died while it imported launcher (exit code 1), 3 times (see ",
        ),
        ("", "toy:run", ("crashing",), "died while it imported crashing (SIGSEGV), 3 times"),
        (
            "",
            "halfkind:run",
            ("half",),
            "cannot import half: OSError: libcudart.so.12: cannot open shared object",
        ),
    ],
)
def test_failing_environment_fails_only_its_job_with_its_message(
    shared_queue: Queue,
    tmp_path: Path,
    interpreter: str,
    entry: str,
    preload: tuple[str, ...],
    reason: str,
) -> None:
    for name, text in (("crashing", CRASHES), ("half", HALF), ("halfkind", HALF_KIND)):
        (tmp_path / f"{name}.py").write_text(text)
    context = a_context(environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)})
    if interpreter:
        context = a_context(interpreter=interpreter)
    (odd,) = shared_queue.add(a_spec(name="toy/odd", entry=entry, preload=preload), context=context)
    (good,) = shared_queue.add(a_spec(name="command/good"))
    assert shared_queue.wait(good, odd) == [State.DONE, State.FAILED]
    assert reason in job_row(shared_queue.store, odd).reason
    assert endings(shared_queue.store, odd) == ["failed"]


def test_job_that_deletes_its_records_is_recorded(shared_queue: Queue) -> None:
    script = 'rm -rf "$(dirname "$(readlink /proc/$$/fd/1)")"; exit 3'
    (job,) = shared_queue.add(a_spec(*shell(script)))
    assert shared_queue.wait(job) == [State.FAILED]
    assert endings(shared_queue.store, job) == ["failed"]


def test_new_scheduler_does_not_repeat_a_job_that_deleted_its_records(
    queue: Queue, tmp_path: Path, effects: Path
) -> None:
    flag = tmp_path / "flag"
    script = (
        'rm -rf "$(dirname "$(readlink /proc/$$/fd/1)")"; echo start >> "$2";'
        ' until [ -e "$1" ]; do sleep 0.01; done'
    )
    (job,) = queue.add(a_spec(*shell(script, str(flag), str(effects))))
    until(lambda: lines_of(effects), "its records are gone")
    send_signal(queue.scheduler, signal.SIGKILL)
    until(lambda: "adopted" in queue.home.scheduler_log.read_text(), "the job is adopted")
    flag.touch()
    assert queue.wait(job) == [State.DONE]
    assert lines_of(effects) == ["start"]


def test_job_that_repeatedly_loses_its_supervisor_fails(shared_queue: Queue) -> None:
    script = "kill -9 $PPID; sleep 0.05; exit 3"
    (job,) = shared_queue.add(a_spec(*shell(script)))
    assert shared_queue.wait(job) == [State.FAILED]
    assert endings(shared_queue.store, job) == ["lost"] * LOST_LIMIT
    assert f"lost {LOST_LIMIT} times" in job_row(shared_queue.store, job).reason


def test_a_job_that_fails_runs_again_after_a_pause(shared_queue: Queue, effects: Path) -> None:
    script = 'echo try >> "$1"; [ $(wc -l < "$1") -ge 3 ]'
    spec = a_spec(*shell(script, str(effects)), terms=Terms(retries=3, backoff_s=0.05))
    (job,) = shared_queue.add(spec)
    assert shared_queue.wait(job) == [State.DONE]
    assert endings(shared_queue.store, job) == ["failed", "failed", "done"]


def test_a_job_does_not_start_before_its_time(shared_queue: Queue, effects: Path) -> None:
    at = time.time() + 0.5
    script = 'date +%s.%N >> "$1"'
    (job,) = shared_queue.add(a_spec(*shell(script, str(effects)), terms=Terms(not_before=at)))
    assert shared_queue.wait(job) == [State.DONE]
    assert float(lines_of(effects)[0]) >= at


def test_a_job_of_an_earlier_boot_is_lost_and_runs_again(queue: Queue, effects: Path) -> None:
    (job,) = enqueue(queue.store, a_job_with_an_effect(effects))
    queue.store.claims.claim(job, a_seat(boot="earlier"), reason="", now=1.0)
    ensure_scheduler(queue.home)
    assert queue.wait(job) == [State.DONE]
    assert endings(queue.store, job) == ["lost", "done"]
    events = [reason.text for _, _, reason in queue.store.read.events_of(job)]
    assert "lost (the machine was restarted). Queued again" in events


def test_leftover_files_in_a_job_folder_do_not_block_the_job(queue: Queue, effects: Path) -> None:
    (job,) = enqueue(queue.store, a_job_with_an_effect(effects))
    attempt = queue.home.attempt(job, 1)
    attempt.folder.mkdir()
    attempt.started.touch()  # the power failed: the claim and the written files are lost
    ensure_scheduler(queue.home)
    assert queue.wait(job) == [State.DONE]
    assert endings(queue.store, job) == ["done"]
    assert len(lines_of(effects)) == 2


def test_file_at_the_path_of_an_attempt_folder_does_not_block_the_job(
    queue: Queue,
) -> None:
    jobs = enqueue(queue.store, *(a_spec(name=f"command/{n}") for n in range(3)))
    odd = queue.home.attempt(jobs[1], 1).folder
    odd.touch()
    ensure_scheduler(queue.home)
    assert set(queue.wait(*jobs)) == {State.DONE}
    odd.unlink()
    assert [endings(queue.store, job) for job in jobs] == [["done"]] * 3


def test_large_output_fills_only_the_log(shared_queue: Queue) -> None:
    (job,) = shared_queue.add(
        a_spec(*shell("head -c 20000000 /dev/zero | tr '\\0' x; echo; exit 1"))
    )
    assert shared_queue.wait(job) == [State.FAILED]
    assert shared_queue.home.attempt(job, 1).log.stat().st_size == 20_000_001
    assert len(job_row(shared_queue.store, job).reason) < 300


def test_program_without_free_descriptors_affects_no_other(shared_queue: Queue) -> None:
    script = "import os\nwhile True: os.dup(1)"
    (job,) = shared_queue.add(a_spec(sys.executable, "-c", script, name="command/greedy"))
    assert shared_queue.wait(job) == [State.FAILED]
    assert "Too many open files" in job_row(shared_queue.store, job).reason


def test_idle_scheduler_does_not_wake_up(shared_queue: Queue) -> None:
    (job,) = shared_queue.add(a_spec())
    shared_queue.wait(job)
    threads = Path(f"/proc/{shared_queue.scheduler}/task")

    def wakeups() -> int:
        states = [(thread / "status").read_text() for thread in threads.iterdir()]
        return sum(
            int(state.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for state in states
        )

    def is_asleep() -> bool:
        before = wakeups()
        subprocess.run(["sleep", "0.5"], check=True)  # the test measures that nothing happens
        return wakeups() == before

    until(is_asleep, "the scheduler sleeps for half a second")


# --- the process that sends messages


TABLE = '[notify.desk]\ncommand = ["true"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def locked_home(home: Home, store: Store) -> Iterator[Home]:  # the database
    """A queue folder with a scheduler, as shown by its lock."""
    held = lock_file(home.scheduler_lock)
    assert held is not None
    yield home
    os.close(held)


def test_notifier_is_started_if_configured_and_restarted_after_its_death(
    locked_home: Home, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    notifier = Notifier(locked_home, os.environ, "launcher.notify")
    notifier.ensure_running()
    assert not locked_home.notify_log.exists()
    write_atomic(config, TABLE)  # the process leaves where it reads half a file
    notifier.ensure_running()
    until(lambda: lock_holder(locked_home.notify_lock), "it lives")
    pid = lock_holder(locked_home.notify_lock) or 0
    for text in (f"{TABLE}# changed\n", f"{TABLE}# and again\n"):
        write_atomic(config, text)
        notifier.ensure_running()
    assert lock_holder(locked_home.notify_lock) == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid), "it is dead")  # its lock is free before its parent can reap it

    def lives_again() -> int | None:
        # a scheduler asks again and again: the end of the process may not be there to take in yet
        write_atomic(config, f"{TABLE}# {time.monotonic()}\n")
        notifier.ensure_running()
        return lock_holder(locked_home.notify_lock)

    until(lives_again, "another one lives")
    another = lock_holder(locked_home.notify_lock) or 0
    config.write_text("")
    notifier.ensure_running()
    until(lambda: gone(another), "it leaves by itself where nobody is to be told")
    assert any(f"notify pid={another} ends" in line for line in lines_of(locked_home.notify_log))


def test_invalid_configuration_starts_no_notifier(locked_home: Home, config: Path) -> None:
    config.write_text("[notify")
    Notifier(locked_home, {"LAUNCHER_CONFIG": str(config)}, "launcher.notify").ensure_running()
    assert not locked_home.notify_log.exists()
