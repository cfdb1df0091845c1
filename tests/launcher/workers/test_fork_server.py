import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Done, Failed, Outcome
from launcher.queue.store.queue import Store
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.system.processes import identity
from tests.build import (
    PLAIN,
    a_context,
    a_spec,
    an_attempt,
    ended,
    lines_of,
    outcome_of,
    program_of,
    run_attempt,
    shell,
    started,
    until,
)

MANY = 30
MOST_FILES = 1300
FREEZER = Path("/sys/fs/cgroup/freezer")


@pytest.fixture
def fork_server(home: Home) -> Iterator[ForkServer]:
    """One of the test's own."""
    fork_server = ForkServer(home, PLAIN)
    yield fork_server
    fork_server.close()


def result_of(
    home: Home, folder: Path, code: str, *preload: str, job: int = 1, **order: Any
) -> Outcome:
    """Run the function of a module in `folder` under a fork server of its own; `preload` is imported there."""
    (folder / "kind.py").write_text(code)
    server = ForkServer(home, WorkerEnvironment(sys.executable, preload, str(folder)))
    _, outcome = run_attempt(server, home, a_spec(name="toy/1", entry="kind:run"), job=job, **order)
    server.close()
    return outcome


def anonymous_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])


def test_many_attempts_leave_nothing_in_the_fork_server(
    fork_server: ForkServer, home: Home
) -> None:
    run_attempt(fork_server, home, a_spec(), job=1000)
    before = anonymous_kib(fork_server._pid)
    descriptors = len(list(Path(f"/proc/{fork_server._pid}/fd").iterdir()))
    watches = [started(fork_server, an_attempt(home, a_spec(), job=job)) for job in range(MANY)]
    assert all(isinstance(outcome_of(one), Done) for one in watches)
    run_attempt(fork_server, home, a_spec(), job=1001)
    children = Path(f"/proc/{fork_server._pid}/task/{fork_server._pid}/children")
    until(lambda: not children.read_text(), "all supervisors are collected")
    assert len(list(Path(f"/proc/{fork_server._pid}/fd").iterdir())) == descriptors
    assert anonymous_kib(fork_server._pid) - before < 1024


def test_killed_fork_server_reports_its_death(fork_server: ForkServer, home: Home) -> None:
    run_attempt(fork_server, home, a_spec(), job=1)
    os.kill(fork_server._pid, signal.SIGKILL)
    fork_server.request_supervisor()
    assert fork_server.receive_supervisor() is None


def test_attempts_of_a_killed_fork_server_continue(fork_server: ForkServer, home: Home) -> None:
    attempt = an_attempt(home, a_spec(*shell("read line < go; echo went on")))
    os.mkfifo(attempt.folder / "go")
    supervised = started(fork_server, attempt)
    program_of(attempt)
    os.kill(fork_server._pid, signal.SIGKILL)
    fork_server.close()
    (attempt.folder / "go").write_text("\n")
    assert isinstance(outcome_of(supervised), Done)
    assert lines_of(attempt.log) == ["went on"]


@pytest.mark.parametrize("end", ["killed", "goodbye"])
def test_fork_server_without_a_scheduler_exits_once_its_supervisors_are_idle(
    fork_server: ForkServer, home: Home, end: str
) -> None:
    attempt = an_attempt(home, a_spec("sleep", "60"))
    supervised = started(fork_server, attempt)
    program_of(attempt)
    if end == "goodbye":
        assert not fork_server.close(), "it stays"
    fork_server.socket.close()  # as the kernel does for a killed scheduler
    assert supervised.poll_outcome() is None
    assert identity(fork_server._pid) is not None
    supervised.stop()
    outcome_of(supervised)
    until(lambda: fork_server.reap(), "the fork server has left")


def test_fork_server_closed_by_its_scheduler_restarts_no_scheduler(
    home: Home, store: Store
) -> None:
    fork_server = ForkServer(home, PLAIN)
    fork_server.close()
    assert identity(fork_server._pid) is None
    assert not home.restarts.exists()


def test_modules_are_imported_once_for_all_workers(home: Home, tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import os\nBORN = os.getpid()\n")
    code = (
        "import os, sys, heavy\ndef run(job):\n    return {'shared': heavy.BORN != os.getpid()}\n"
    )
    outcome = result_of(home, tmp_path, code, "heavy")
    assert isinstance(outcome, Done)
    assert outcome.result == {"shared": True}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin package whose work reads another module, and the names of its files when it is imported.

    Python takes an edit for none if second and size of a file stay the same.
    """
    folder = tmp_path / "plugin"
    (folder / "parts").mkdir(parents=True)
    (folder / "word.py").write_text("WORD = 'old'\n")
    (folder / "work.py").write_text(
        "import os\nfrom pathlib import Path\nfrom plugin.word import WORD\n"
        "BORN = os.getpid()\nPARTS = len([*Path(__file__).parent.glob('parts/*.py')])\n"
        "def run(job):\n"
        "    return {'word': WORD, 'parts': PARTS, 'shared': BORN != os.getpid()}\n"
    )
    package = tmp_path / "plugin-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[launcher.kinds]\nplug = plugin.kind:PLUG\n")
    return folder


def outcomes_around(home: Home, plugin: Path, change: Callable[[], object]) -> list[Outcome]:
    """Run a job of a plugin package before and after a change, under one fork server that imports its work."""
    environment = WorkerEnvironment(sys.executable, ("plugin.work",), str(plugin.parent))
    server = ForkServer(home, environment)
    outcomes: list[Outcome] = []
    for job in (1, 2, 3):
        if job == 3:  # its worker may be forked already
            change()
        _, outcome = run_attempt(server, home, a_spec(entry="plugin.work:run"), job=job)
        outcomes.append(outcome)
    server.close()
    return outcomes[1:]


@pytest.mark.parametrize(
    ("change", "word", "parts"),
    [
        (lambda folder: (folder / "word.py").write_text("WORD = 'other'\n"), "other", 0),
        (lambda folder: (folder / "parts/new.py").write_text(""), "old", 1),
        (lambda folder: (folder / "parts/first").rename(folder / "parts/first.py"), "old", 1),
    ],
    ids=["edited", "added", "renamed"],
)
def test_plugin_modules_are_imported_once_and_again_after_a_change(
    home: Home, plugin: Path, change: Callable[[Path], object], word: str, parts: int
) -> None:
    (plugin / "parts/first").write_text("")
    before, after = outcomes_around(home, plugin, lambda: change(plugin))
    assert isinstance(before, Done)
    assert before.result == {"word": "old", "parts": 0, "shared": True}
    assert isinstance(after, Done)
    assert after.result == {"word": word, "parts": parts, "shared": False}


def test_plugin_module_that_fails_ahead_fails_in_the_job_until_it_is_mended(
    home: Home, plugin: Path
) -> None:
    mended = (plugin / "work.py").read_text()
    (plugin / "work.py").write_text(f"{mended}\n1 / 0\n")
    before, after = outcomes_around(home, plugin, lambda: (plugin / "work.py").write_text(mended))
    assert isinstance(before, Failed)
    assert before.error == "ZeroDivisionError: division by zero"
    assert isinstance(after, Done)
    assert after.result["word"] == "old"


def test_fork_server_resolves_modules_like_its_jobs(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours.py").write_text("")
    (tmp_path / "kind.py").write_text(
        "import importlib.util\ndef run(job):\n"
        "    return {'found': importlib.util.find_spec('ours') is not None}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for job, (path, found) in enumerate([(str(tmp_path), True), ("", False)], 1):
        fork_server = ForkServer(home, WorkerEnvironment(sys.executable, (), path))
        _, outcome = run_attempt(fork_server, home, a_spec(entry="kind:run"), job=job)
        if found:
            assert isinstance(outcome, Done)
            assert outcome.result == {"found": True}
        else:
            assert "No module named 'kind'" in repr(outcome)
        fork_server.close()


def test_loading_fork_server_is_not_waited_for(home: Home, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    fork_server = ForkServer(home, WorkerEnvironment(sys.executable, ("endless",), str(tmp_path)))
    fork_server.close()  # the limit of a test is far below 600 s
    assert identity(fork_server._pid) is None


def test_job_runs_despite_a_failing_optional_preload(home: Home, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no licence')\n")
    code = "def run(job):\n    return {}\n"
    assert isinstance(result_of(home, tmp_path, code, "broken"), Done)


def test_workers_of_a_fork_server_have_independent_random_numbers(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "kind.py").write_text(
        "import random, numpy\ndef run(job):\n"
        "    return {'python': random.random(), 'numpy': numpy.random.random()}\n"
    )
    fork_server = ForkServer(
        home, WorkerEnvironment(sys.executable, ("numpy.random",), str(tmp_path))
    )
    drawn = []
    for job in (1, 2):
        _, outcome = run_attempt(fork_server, home, a_spec(entry="kind:run"), job=job)
        assert isinstance(outcome, Done)
        drawn.append(outcome.result)
    assert drawn[0]["python"] != drawn[1]["python"]
    assert drawn[0]["numpy"] != drawn[1]["numpy"]
    fork_server.close()


def test_libraries_of_a_worker_use_as_many_threads_as_its_job_has_cores_or_requests(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "kind.py").write_text(
        "import threadpoolctl\ndef run(job):\n"
        "    return {one['internal_api']: one['num_threads'] for one in threadpoolctl.threadpool_info()}\n"
    )
    fork_server = ForkServer(home, WorkerEnvironment(sys.executable, ("numpy",), str(tmp_path)))
    threads = []
    for job, (cpus, environment) in enumerate(
        [
            *((1, {}), (3, {}), (1, {"OPENBLAS_NUM_THREADS": "2"})),
            (1, {"OPENBLAS_NUM_THREADS": str(10**20), "OMP_NUM_THREADS": "9" * 5000}),
        ]
    ):
        context = a_context(environment={"PATH": os.environ["PATH"], **environment})
        spec = a_spec(entry="kind:run")
        _, outcome = run_attempt(fork_server, home, spec, job=job + 1, cpus=cpus, context=context)
        assert isinstance(outcome, Done)
        threads.append(outcome.result["openblas"])
    assert threads[:3] == [1, 3, 2]  # a value that is not a number of threads has no effect
    fork_server.close()


def test_fork_server_works_above_descriptor_1023(home: Home) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < MOST_FILES:
        pytest.skip(f"at most {limits[1]} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, limits[1]))
    kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(MOST_FILES - 100)]
    try:
        fork_server = ForkServer(home, PLAIN)
        assert fork_server.socket.fileno() > 1023
        fork_server.request_supervisor()
        until(fork_server.has_answer, "a supervisor is forked")
        supervisor = fork_server.receive_supervisor()
        assert supervisor is not None
        supervisor.channel.close()
        fork_server.close()
    finally:
        for descriptor in kept:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_fork_server_that_cannot_be_killed_is_left_and_reaped_later(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in a frozen group (cgroup v1) does not die of SIGKILL, as one that waits for a disk."""
    if not os.access(FREEZER, os.W_OK):
        pytest.skip(f"no process can be frozen here: {FREEZER} cannot be written")
    group = FREEZER / f"fork-server-{os.getpid()}"
    group.mkdir()
    for name in ("CLOSE_TIMEOUT_S", "KILL_TIMEOUT_S"):
        monkeypatch.setattr(f"launcher.queue.workers.fork_server_handles.{name}", 0.1)
    fork_server = ForkServer(home, PLAIN)
    try:
        (group / "cgroup.procs").write_text(str(fork_server._pid))
        (group / "freezer.state").write_text("FROZEN")
        until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", "it is frozen")
        assert fork_server.close() is False
        assert "does not end after SIGKILL; it hangs in the kernel" in caplog.text
        assert not fork_server.reap()
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(fork_server.reap, "it has ended")
        until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


def test_terminal_interrupt_does_not_reach_the_fork_server(
    fork_server: ForkServer, home: Home
) -> None:
    run_attempt(fork_server, home, a_spec(), job=1)
    os.kill(fork_server._pid, signal.SIGINT)
    supervised = started(fork_server, an_attempt(home, a_spec(), job=2))
    assert ended(supervised.descriptor)
    assert isinstance(outcome_of(supervised), Done)
    assert os.getsid(fork_server._pid) == fork_server._pid
