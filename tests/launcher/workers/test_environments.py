"""Environments that do not start, or not now: what becomes of their jobs, and of all others."""

import os
import sys
import time
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.workers.fork_server_handles import Supervisor
from launcher.queue.workers.fork_server_pool import (
    MOST_DEATHS,
    CannotStartWorker,
    ForkServerPool,
)
from launcher.queue.workers.start_pauses import (
    FIRST_KEY_BACKOFF_S,
    LONGEST_KEY_BACKOFF_S,
    BackoffSet,
)
from tests.build import a_context, a_spec, endings, enqueue, in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import put, serve, until_done
from tests.shortened import QUICK_LOSSES, shortened

WRAPPER = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
BROKEN = "#!/bin/sh\nexit 1\n"


def taken(fork_servers: ForkServerPool, environment: WorkerEnvironment) -> Supervisor:
    found: list[Supervisor] = []

    def comes() -> bool:
        fork_servers.collect_spawned()
        server = fork_servers.take_supervisor(environment)
        found.extend([server] if server is not None else [])
        return bool(found)

    until(comes, "a supervisor is forked")
    return found[0]


def unusable(fork_servers: ForkServerPool, environment: WorkerEnvironment) -> CannotStartWorker:
    found: list[CannotStartWorker] = []

    def fails() -> bool:
        fork_servers.collect_spawned()
        try:
            server = fork_servers.take_supervisor(environment)
        except CannotStartWorker as error:
            found.append(error)
        else:
            assert server is None
        return bool(found)

    until(fails, "none can be forked")
    return found[0]


def write(file: Path, text: str) -> None:
    """Put a program in its place at once, as installers do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    new.rename(file)


def test_interpreter_that_is_a_loop_of_links_blocks_no_other_job(
    home: Home, store: Store, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    context = a_context(interpreter=str(loop))
    jobs = enqueue(
        store, *(a_spec(name=f"toy/{n}", entry="toy:run") for n in range(3)), context=context
    )
    good = put(store, map(str, range(3)))
    with shortened(QUICK_LOSSES):
        serve(home)
    until_done(store, *good)
    until(lambda: bool(endings(store, jobs[0])), "the first bad one was tried")
    assert in_state(store, jobs[0], State.QUEUED)
    loop.unlink()
    loop.symlink_to("/no/such/python")
    until(lambda: in_state(store, jobs[0], State.FAILED), "the first bad one was tried again")
    assert "cannot run" in job_row(store, jobs[0]).reason


def test_interpreter_that_is_missing_for_a_moment_is_awaited(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.queue.workers.fork_server_pool.MISSING_POLL_S", 0.05)
    python = tmp_path / "python"
    environment = WorkerEnvironment(str(python))
    fork_servers = ForkServerPool(home, most_idle=1, awaits_interpreters=True)
    assert fork_servers.take_supervisor(environment) is None
    assert fork_servers.why_delayed(environment) == f"{python} does not exist"
    write(python, WRAPPER)
    taken(fork_servers, environment).channel.close()
    assert fork_servers.why_delayed(environment) == ""
    fork_servers.close()


def test_job_of_a_deleted_environment_fails_and_is_retried_in_the_present_one(
    home: Home,
    store: Store,
    launcher: Launcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "bin").mkdir(parents=True)
        write(tmp_path / name / "bin/tool", f"#!/bin/sh\necho {name}\n")
    old, usual = tmp_path / "old", os.environ["PATH"]

    def activate(folder: Path) -> None:
        monkeypatch.setenv("VIRTUAL_ENV", str(folder))
        monkeypatch.setenv("PATH", f"{folder}/bin:{tmp_path}/new/bin:{usual}")

    activate(old)
    monkeypatch.setenv("MY_TOKEN", "t1")
    for words in (["env", "A=1", "tool"], ["sh", "-c", "tool"], ["sh", "-c", "exit 3"]):
        launcher.well("add", "--hold", "--pass-env", "MY_TOKEN", "--", *words)
    assert f"program  {old}/bin/tool" in launcher.well("show", "1").out
    assert f", {old}, {old}/bin/tool\n" in launcher.well("show", "2").out
    old.rename(tmp_path / "away")
    with shortened(QUICK_LOSSES):
        serve(home)
    launcher.well("release", "1", "2")
    until(
        lambda: in_state(store, 1, State.FAILED) and in_state(store, 2, State.FAILED), "both fail"
    )
    for job, lacks in (
        (1, f"{old}/bin/tool, which was 'tool'"),
        (2, f"{old}, which was '$VIRTUAL_ENV'"),
    ):
        assert (
            f"{lacks} when job {job} was queued, does not exist. To run it in the present "
            f"environment: launcher retry {job} --environment"
        ) in job_row(store, job).reason
    activate(tmp_path / "new")
    monkeypatch.setenv("OTHER", "1")
    monkeypatch.delenv("MY_TOKEN")
    launcher.well("retry", "1", "2", "--environment")
    until_done(store, 1, 2)
    assert home.attempt(1, 2).log.read_text() == home.attempt(2, 2).log.read_text() == "new\n"
    present = store.read.context_of(1).environment
    assert (present["OTHER"], present["MY_TOKEN"]) == ("1", "t1")
    assert "OTHER" not in store.read.context_of(3).environment


def test_interpreter_that_cannot_run_for_now_is_not_an_outage_of_the_machine(
    home: Home, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    lacks: list[str] = []
    fork_servers = ForkServerPool(home, most_idle=1, on_start_failure=lacks.append)
    for _ in range(2):  # the next job of its kind gives way at once
        with pytest.raises(CannotStartWorker, match="Too many levels of symbolic links") as caught:
            fork_servers.take_supervisor(WorkerEnvironment(str(loop)))
        assert caught.value.is_transient
    assert lacks == []
    taken(fork_servers, WorkerEnvironment()).channel.close()
    fork_servers.close()


def test_reinstalled_environment_that_worked_fails_no_job_permanently(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    write(python, WRAPPER)
    environment = WorkerEnvironment(str(python))
    fork_servers = ForkServerPool(home, most_idle=1)
    fork_servers.give_back(environment, taken(fork_servers, environment))
    write(python, BROKEN)
    monkeypatch.setattr("launcher.queue.workers.fork_server_pool.DEATHS_BACKOFF_S", 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(
            "launcher.queue.workers.fork_server_pool.RETIRE_AFTER_S", 0.0
        )  # as after ten minutes without a job
        fork_servers.retire()
    error = unusable(fork_servers, environment)
    assert error.is_transient
    assert f"(exit code 1), {MOST_DEATHS} times" in str(error)
    write(python, WRAPPER)
    over = time.monotonic() + 0.2
    until(lambda: time.monotonic() > over, "the pause is over")
    taken(fork_servers, environment).channel.close()
    fork_servers.close()


def test_environment_without_room_is_skipped_and_others_start(home: Home, tmp_path: Path) -> None:
    """Its module lets it open so few files that it can make no channel for a supervisor."""
    python = tmp_path / "python"
    (tmp_path / "greedy.py").write_text(
        "import os, resource\n"
        "ends = os.pipe()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(ends) + 1, max(ends) + 1))\n"
        "os.close(ends[0]), os.close(ends[1])\n"
    )
    write(python, WRAPPER)
    large = WorkerEnvironment(str(python), ("greedy",), str(tmp_path))
    lacks: list[str] = []
    fork_servers = ForkServerPool(home, most_idle=1, on_start_failure=lacks.append)

    def refused() -> bool:
        fork_servers.collect_spawned()
        assert fork_servers.take_supervisor(large) is None
        return bool(lacks)

    until(refused, "the large one has no room")
    assert 0 < fork_servers.excluded_s(large) <= FIRST_KEY_BACKOFF_S
    assert fork_servers.excluded_s(WorkerEnvironment()) == 0
    taken(fork_servers, WorkerEnvironment()).channel.close()
    fork_servers.close()


def test_backoff_doubles_up_to_a_minute_and_is_reset_after_a_quiet_minute() -> None:
    bars, now, spans = BackoffSet[str](), 0.0, list[float]()
    for _ in range(7):
        bars.add("bad", now)
        bars.add("bad", now)  # the same failure, seen twice
        spans.append(bars.wait_s("bad", now))
        now += spans[-1]
        assert bars.wait_s("bad", now) == 0
    assert spans == [2, 4, 8, 16, 32, 60, LONGEST_KEY_BACKOFF_S]
    assert bars.wait_s("good", now) == 0
    bars.add("bad", now + LONGEST_KEY_BACKOFF_S)
    assert bars.wait_s("bad", now + LONGEST_KEY_BACKOFF_S) == FIRST_KEY_BACKOFF_S


def test_scheduler_started_by_a_job_does_not_use_the_jobs_cores_and_gpus(
    home: Home, store: Store, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (job,) = enqueue(
        store,
        a_spec(
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from launcher.queue.home.paths import Home, make_home\n"
            "from launcher.queue.home.scheduler_start import ensure_scheduler\n"
            f"home = Home(Path({str(other)!r})); make_home(home); ensure_scheduler(home)",
        ),
        context=a_context(environment={"PATH": os.environ["PATH"]}),
    )
    serve(home)
    until_done(store, job)
    there = Home(other)
    pid = scheduler_pid(there)
    assert pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: bool(children.read_text().split()), "it has a fork server")
    server = children.read_text().split()[0]
    environ = Path(f"/proc/{server}/environ").read_bytes()
    there.stop_record.write_text("{}")
    wake(there)
    for name in (
        b"CUDA_VISIBLE_DEVICES=",
        b"OMP_NUM_THREADS=",
        b"LAUNCHER_CPUS=",
        b"LAUNCHER_PLACE=",
    ):
        assert name not in environ
