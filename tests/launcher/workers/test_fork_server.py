import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from launcher.job import Breed
from launcher.states import Done
from launcher.store.queue import Store
from launcher.system.paths import Home
from launcher.system.processes import identity
from launcher.workers.fork_server import Nursery
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


def anonymous_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])


def test_many_attempts_leave_nothing_in_the_nursery(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1000)
    before = anonymous_kib(nursery._pid)
    descriptors = len(list(Path(f"/proc/{nursery._pid}/fd").iterdir()))
    watches = [started(nursery, an_attempt(home, a_spec(), job=job)) for job in range(MANY)]
    assert all(isinstance(outcome_of(one), Done) for one in watches)
    run_attempt(nursery, home, a_spec(), job=1001)
    children = Path(f"/proc/{nursery._pid}/task/{nursery._pid}/children")
    until(lambda: not children.read_text(), "all supervisors are collected")
    assert len(list(Path(f"/proc/{nursery._pid}/fd").iterdir())) == descriptors
    assert anonymous_kib(nursery._pid) - before < 1024
    nursery.close()


def test_a_killed_nursery_says_that_it_is_dead(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1)
    os.kill(nursery._pid, signal.SIGKILL)
    nursery.ask()
    assert nursery.born() is None
    nursery.close()


def test_a_killed_nurserys_attempts_live_on(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    attempt = an_attempt(home, a_spec(*shell("read line < go; echo went on")))
    os.mkfifo(attempt.folder / "go")
    one = started(nursery, attempt)
    program_of(attempt)
    os.kill(nursery._pid, signal.SIGKILL)
    nursery.close()
    (attempt.folder / "go").write_text("\n")
    assert isinstance(outcome_of(one), Done)
    assert lines_of(attempt.log) == ["went on"]


def test_a_nursery_goes_when_its_scheduler_does_and_its_attempts_stay(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    attempt = an_attempt(home, a_spec("sleep", "60"))
    one = started(nursery, attempt)
    program_of(attempt)
    nursery.socket.close()  # as the kernel does for a killed scheduler
    until(lambda: identity(nursery._pid) is None, "the nursery has left")
    nursery.close()
    assert one.ending() is None
    one.stop()
    outcome_of(one)


def test_a_nursery_whose_scheduler_said_goodbye_restarts_none(home: Home, store: Store) -> None:
    nursery = Nursery(home, PLAIN)
    nursery.close()
    assert identity(nursery._pid) is None
    assert not home.restarts.exists()


def test_modules_are_imported_once_for_all_workers(home: Home, tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import os\nBORN = os.getpid()\n")
    (tmp_path / "kind.py").write_text(
        "import os, sys, heavy\ndef run(job):\n    return {'shared': heavy.BORN != os.getpid()}\n"
    )
    nursery = Nursery(home, Breed(sys.executable, ("heavy",), str(tmp_path)))
    _, outcome = run_attempt(nursery, home, a_spec(name="toy/1", entry="kind:run"))
    assert isinstance(outcome, Done)
    assert outcome.result == {"shared": True}
    nursery.close()


def test_a_nursery_finds_modules_where_its_jobs_would_and_not_where_we_do(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours.py").write_text("")
    (tmp_path / "kind.py").write_text(
        "import importlib.util\ndef run(job):\n"
        "    return {'found': importlib.util.find_spec('ours') is not None}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for job, (path, found) in enumerate([(str(tmp_path), True), ("", False)], 1):
        nursery = Nursery(home, Breed(sys.executable, (), path))
        _, outcome = run_attempt(nursery, home, a_spec(entry="kind:run"), job=job)
        if found:
            assert isinstance(outcome, Done)
            assert outcome.result == {"found": True}
        else:
            assert "No module named 'kind'" in repr(outcome)
        nursery.close()


def test_an_interpreter_that_is_gone_is_an_error_of_the_machine(home: Home) -> None:
    with pytest.raises(FileNotFoundError):
        Nursery(home, Breed("/no/such/python"))


def test_a_nursery_that_cannot_begin_says_that_it_is_dead(home: Home) -> None:
    nursery = Nursery(home, Breed("/bin/false"))
    nursery.ask()
    assert nursery.born() is None
    nursery.close()


def test_a_nursery_that_still_loads_is_not_waited_for(home: Home, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    nursery = Nursery(home, Breed(sys.executable, ("endless",), str(tmp_path)))
    before = time.monotonic()
    nursery.close()
    assert time.monotonic() - before < 10
    assert identity(nursery._pid) is None


def test_a_job_that_can_do_without_a_preload_that_fails_is_done(home: Home, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no licence')\n")
    (tmp_path / "kind.py").write_text("def run(job):\n    return {}\n")
    nursery = Nursery(home, Breed(sys.executable, ("broken",), str(tmp_path)))
    _, outcome = run_attempt(nursery, home, a_spec(name="toy/1", entry="kind:run"))
    assert isinstance(outcome, Done)
    nursery.close()


def test_workers_of_a_nursery_draw_random_numbers_of_their_own(home: Home, tmp_path: Path) -> None:
    (tmp_path / "kind.py").write_text(
        "import random, numpy\ndef run(job):\n"
        "    return {'python': random.random(), 'numpy': numpy.random.random()}\n"
    )
    nursery = Nursery(home, Breed(sys.executable, ("numpy.random",), str(tmp_path)))
    drawn = []
    for job in (1, 2):
        _, outcome = run_attempt(nursery, home, a_spec(entry="kind:run"), job=job)
        assert isinstance(outcome, Done)
        drawn.append(outcome.result)
    assert drawn[0]["python"] != drawn[1]["python"]
    assert drawn[0]["numpy"] != drawn[1]["numpy"]
    nursery.close()


def test_libraries_of_a_worker_use_as_many_threads_as_its_job_has_cores_or_says(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "kind.py").write_text(
        "import threadpoolctl\ndef run(job):\n"
        "    return {one['internal_api']: one['num_threads'] for one in threadpoolctl.threadpool_info()}\n"
    )
    nursery = Nursery(home, Breed(sys.executable, ("numpy",), str(tmp_path)))
    threads = []
    for job, (cpus, environment) in enumerate(
        [
            *((1, {}), (3, {}), (1, {"OPENBLAS_NUM_THREADS": "2"})),
            (1, {"OPENBLAS_NUM_THREADS": str(10**20), "OMP_NUM_THREADS": "9" * 5000}),
        ]
    ):
        context = a_context(environment={"PATH": os.environ["PATH"], **environment})
        spec = a_spec(entry="kind:run")
        _, outcome = run_attempt(nursery, home, spec, job=job + 1, cpus=cpus, context=context)
        assert isinstance(outcome, Done)
        threads.append(outcome.result["openblas"])
    assert threads[:3] == [1, 3, 2]  # what is no number of threads says nothing
    nursery.close()


def test_a_nursery_works_above_descriptor_1023(home: Home) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < MOST_FILES:
        pytest.skip(f"at most {limits[1]} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, limits[1]))
    kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(MOST_FILES - 100)]
    try:
        nursery = Nursery(home, PLAIN)
        assert nursery.socket.fileno() > 1023
        nursery.ask()
        until(nursery.answers, "a supervisor is born")
        supervisor = nursery.born()
        assert supervisor is not None
        supervisor.channel.close()
        nursery.close()
    finally:
        for descriptor in kept:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_nursery_that_cannot_be_killed_is_left_and_collected_later(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """A process in a frozen group (cgroup v1) does not die of SIGKILL, as one that waits for a disk."""
    if not os.access(FREEZER, os.W_OK):
        pytest.skip(f"no process can be frozen here: {FREEZER} cannot be written")
    group = FREEZER / f"nursery-{os.getpid()}"
    group.mkdir()
    nursery = Nursery(home, PLAIN)
    try:
        (group / "cgroup.procs").write_text(str(nursery._pid))
        (group / "freezer.state").write_text("FROZEN")
        until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", "it is frozen")
        assert nursery.close() is False
        assert "is left; it hangs in the kernel" in caplog.text
        assert not nursery.collect()
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(nursery.collect, "it has ended")
        until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


def test_interrupting_the_terminal_does_not_reach_the_nursery(home: Home) -> None:
    nursery = Nursery(home, PLAIN)
    run_attempt(nursery, home, a_spec(), job=1)
    os.kill(nursery._pid, signal.SIGINT)
    one = started(nursery, an_attempt(home, a_spec(), job=2))
    assert ended(one.descriptor)
    assert isinstance(outcome_of(one), Done)
    assert os.getsid(nursery._pid) == nursery._pid
    nursery.close()
