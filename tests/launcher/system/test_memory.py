import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.states import Done, Failed, OutOfMemory, Shortage
from launcher.system import memory
from launcher.system.files import write_json
from launcher.system.paths import Attempt, Home
from launcher.workers.exit_outcome import Circumstances, judge, last_line
from launcher.workers.fork_server_pool import ForkServer
from tests.build import PLAIN, a_spec, an_attempt, outcome_of, shell, started

MIB = 1 << 20
EATER = "x = []\nwhile True: x.append(bytearray(1 << 20))"


def a_machine(root: Path, *, cgroup: str, files: dict[str, str]) -> Path:
    """A root folder with what the kernel tells of memory."""
    texts = {
        "proc/meminfo": "MemTotal:       1048576 kB\nMemAvailable:    524288 kB\nHugePages_Total: 0\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_limit_the_machines_memory_is_ours(tmp_path: Path) -> None:
    root = a_machine(tmp_path, cgroup="", files={})
    assert memory.total(root) == 1024 * MIB
    assert memory.available(root) == 512 * MIB
    assert memory.oom_kills(root) is None


def test_the_tightest_limit_above_us_counts(tmp_path: Path) -> None:
    files = {
        "cgroup.controllers": "memory",
        "user/memory.max": "268435456",
        "user/job/memory.max": "max",
        "user/job/memory.events": "low 0\noom 3\noom_kill 2\n",
    }
    root = a_machine(tmp_path, cgroup="0::/user/job\n", files=files)
    assert memory.total(root) == 256 * MIB
    assert memory.oom_kills(root) == 2


def test_a_group_that_counts_no_memory_is_counted_by_the_one_above(tmp_path: Path) -> None:
    files = {
        "cgroup.controllers": "memory",
        "job/memory.events": "oom_kill 4\n",
        "job/launcher-12-345/cgroup.procs": "12\n",
    }
    root = a_machine(tmp_path, cgroup="0::/job/launcher-12-345\n", files=files)
    assert memory.oom_kills(root) == 4


def test_version_1_of_cgroups_is_understood(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/job/memory.limit_in_bytes": "134217728",
        "memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
    }
    root = a_machine(tmp_path, cgroup="9:cpu:/\n4:memory:/job\n0::/\n", files=files)
    assert memory.total(root) == 128 * MIB
    assert memory.oom_kills(root) == 5


def test_a_path_of_the_host_is_looked_for_where_the_container_is(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "memory", "memory.max": "134217728"}
    root = a_machine(tmp_path, cgroup="0::/host/slice/job\n", files=files)
    assert memory.total(root) == 128 * MIB


def test_this_machine_has_memory() -> None:
    assert 0 < memory.available() <= 1 << 50
    assert 0 < memory.total() <= 1 << 50


# --- how an end is told


@pytest.mark.parametrize(
    ("status", "how", "sentence"),
    [
        (signal.SIGKILL, Circumstances(oom_kills=0), "SIGKILL, and not for lack of memory"),
        (signal.SIGKILL, Circumstances(), "ended by SIGKILL"),
        (137 << 8, Circumstances(), "ended with exit code 137"),
        (signal.SIGSEGV, Circumstances(oom_kills=1), "ended by SIGSEGV"),
        (40, Circumstances(), "ended by signal 40"),
    ],
)
def test_an_end_is_explained_in_a_sentence_with_the_end_of_the_log(
    tmp_path: Path, status: int, how: Circumstances, sentence: str
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text("epoch 3\nloss 0.1\n\n")
    outcome = judge(status, attempt, how, 5.0)
    assert isinstance(outcome, Failed)
    assert sentence in outcome.error
    assert outcome.error.endswith(": loss 0.1")


@pytest.mark.parametrize("status", [signal.SIGKILL, 137 << 8])
def test_who_is_killed_for_lack_of_memory_is_told_with_what_it_used(
    tmp_path: Path, status: int
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text("loss 0.1\n")
    how = Circumstances(oom_kills=1, max_rss=7 << 30, ram=4 << 30)
    outcome = judge(status, attempt, how, 5.0)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.error == (
        "killed by the kernel: the machine or its cgroup ran out of memory: loss 0.1"
        " (used 7 GiB of main memory, was promised 4 GiB)"
    )
    assert outcome.shortage == Shortage(where="ram", wanted=0, held=7 << 30)


CUDA = "RuntimeError: CUDA error: out of memory\n"


@pytest.mark.parametrize("status", [1 << 8, signal.SIGABRT])
def test_a_log_that_ends_with_a_lack_of_memory_tells_why_a_program_failed(
    tmp_path: Path, status: int
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(CUDA)
    outcome = judge(status, attempt, Circumstances(max_rss=1 << 30), 5.0)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.error == CUDA.strip()
    assert outcome.shortage == Shortage(where="gpu")


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (signal.SIGTERM, Circumstances()),
        (143 << 8, Circumstances()),
        (signal.SIGKILL, Circumstances(oom_kills=0)),
        (1 << 8, Circumstances(over_limit_s=1.0)),
    ],
)
def test_a_log_does_not_tell_why_a_program_was_ended_by_others(
    tmp_path: Path, status: int, how: Circumstances
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(CUDA)
    assert isinstance(judge(status, attempt, how, 5.0), Failed)


def test_a_program_that_got_over_a_lack_of_memory_is_done(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(CUDA)
    assert isinstance(judge(0, attempt, Circumstances(), 5.0), Done)


LOADER = "RuntimeError: DataLoader worker (pid 42) is killed by signal: Killed. "


@pytest.mark.parametrize(("kills", "end"), [(1, OutOfMemory), (0, Failed), (None, Failed)])
def test_a_process_below_that_the_kernel_killed_ends_its_program_for_lack_of_memory(
    tmp_path: Path, kills: int | None, end: type
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(f"{LOADER}\n")
    assert isinstance(judge(1 << 8, attempt, Circumstances(oom_kills=kills), 5.0), end)
    write_json(attempt.result, {"schema": 1, "ok": False, "error": LOADER})
    assert isinstance(judge(1 << 8, attempt, Circumstances(oom_kills=kills), 5.0), end)


def test_a_program_that_ended_well_in_spite_of_its_limit_is_done(tmp_path: Path) -> None:
    assert isinstance(judge(0, Attempt(tmp_path), Circumstances(over_limit_s=1.0), 5.0), Done)


def test_the_end_of_a_huge_log_is_read_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(10 << 30)  # sparse
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last word\n")
    assert last_line(log) == "the last word"


@pytest.fixture
def narrow_cgroup() -> Iterator[Path]:
    """A memory cgroup of 64 MiB below our own."""
    mine = memory.folders(Path("/"))
    if os.geteuid() != 0 or not mine:
        pytest.skip("only root can make a memory cgroup, where the kernel shows them")
    folder = mine[0] / f"launcher-test-{os.getpid()}"
    try:
        folder.mkdir()
        limit = "memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes"
        (folder / limit).write_text(str(64 * MIB))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield folder
    subprocess.run(["rmdir", str(folder)], check=False)


def test_who_was_killed_for_lack_of_memory_says_so_and_who_was_killed_by_a_user_does_not(
    home: Home, narrow_cgroup: Path
) -> None:
    fork_server = ForkServer(home, PLAIN)
    (narrow_cgroup / "cgroup.procs").write_text(str(fork_server._pid))
    greedy = an_attempt(home, a_spec(sys.executable, "-c", EATER), job=1)
    outcome = outcome_of(started(fork_server, greedy))
    assert isinstance(outcome, OutOfMemory)
    assert "ran out of memory" in outcome.error
    assert outcome.shortage.where == "ram"
    assert outcome.shortage.held
    victim = an_attempt(home, a_spec(*shell("kill -9 $$")), job=2)
    outcome = outcome_of(started(fork_server, victim))
    assert isinstance(outcome, Failed)
    assert "not for lack of memory" in outcome.error
    fork_server.close()
