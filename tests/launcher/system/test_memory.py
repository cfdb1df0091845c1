import signal
from pathlib import Path

import pytest

from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.states import Done, Failed, OomReport, OutOfMemory
from launcher.queue.workers.exit_outcome import ExitContext, judge_exit
from launcher.system import memory
from launcher.system.files import write_json

MIB = 1 << 20


def a_machine(root: Path, *, cgroup: str, files: dict[str, str]) -> Path:
    """Create a root folder with the kernel's files about memory."""
    texts = {
        "proc/meminfo": "MemTotal:       1048576 kB\nMemAvailable:    524288 kB\nHugePages_Total: 0\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


OWN = {"cgroup.controllers": "memory"}


@pytest.mark.parametrize(
    ("cgroup", "files", "total", "kills"),
    [
        ("", {}, 1024, None),  # the machine's
        (  # the tightest limit above us counts
            "0::/user/job\n",
            {
                **OWN,
                "user/memory.max": "268435456",
                "user/job/memory.max": "max",
                "user/job/memory.events": "low 0\noom 3\noom_kill 2\n",
            },
            *(256, 2),
        ),
        (  # a group that counts no memory is counted by the one above
            "0::/job/launcher-12-345\n",
            {
                **OWN,
                "job/memory.events": "oom_kill 4\n",
                "job/launcher-12-345/cgroup.procs": "12\n",
            },
            *(1024, 4),
        ),
        (  # version 1
            "9:cpu:/\n4:memory:/job\n0::/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/job/memory.limit_in_bytes": "134217728",
                "memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
            },
            *(128, 5),
        ),
        # a path of the host is looked for where the container is
        ("0::/host/slice/job\n", {**OWN, "memory.max": "134217728"}, 128, None),
    ],
)
def test_limits_and_counts_are_those_of_our_cgroups(
    tmp_path: Path, cgroup: str, files: dict[str, str], total: int, kills: int | None
) -> None:
    root = a_machine(tmp_path, cgroup=cgroup, files=files)
    assert (memory.usable_bytes(root), memory.count_oom_kills(root)) == (total * MIB, kills)
    assert memory.available_bytes(root) == 512 * MIB


# --- the reported cause of an end


LOSS, CUDA = "epoch 3\nloss 0.1\n\n", "RuntimeError: CUDA error: out of memory\n"
LOADER = "RuntimeError: DataLoader worker (pid 42) is killed by signal: Killed. \n"
FAILED, NOTHING = 1 << 8, ExitContext()
FULL = ExitContext(oom_kills=1, max_rss=7 << 30, ram=4 << 30)
USED = (
    "killed by the kernel: the machine or its cgroup ran out of memory: loss 0.1"
    " (used 7 GiB of main memory, reserved: 4 GiB)"
)


@pytest.mark.parametrize(
    ("log", "status", "how", "told"),
    [
        (LOSS, signal.SIGKILL, ExitContext(oom_kills=0), "SIGKILL, not for lack of memory"),
        (LOSS, signal.SIGKILL, NOTHING, "ended by SIGKILL"),
        (LOSS, 137 << 8, NOTHING, "ended with exit code 137"),
        (LOSS, signal.SIGSEGV, ExitContext(oom_kills=1), "ended by SIGSEGV"),
        (LOSS, 40, NOTHING, "ended by signal 40"),
        # the log does not explain an end that others caused
        (CUDA, signal.SIGTERM, NOTHING, ""),
        (CUDA, 143 << 8, NOTHING, ""),
        (CUDA, signal.SIGKILL, ExitContext(oom_kills=0), ""),
        (CUDA, FAILED, ExitContext(over_limit_s=1.0), ""),
        (LOADER, FAILED, ExitContext(oom_kills=0), ""),
        (LOADER, FAILED, NOTHING, ""),
        (LOSS, signal.SIGKILL, FULL, (USED, OomReport(where="ram", wanted=0, held=7 << 30))),
        (LOSS, 137 << 8, FULL, (USED, OomReport(where="ram", wanted=0, held=7 << 30))),
        (CUDA, FAILED, ExitContext(max_rss=1), (CUDA.strip(), OomReport(where="gpu"))),
        (CUDA, signal.SIGABRT, ExitContext(max_rss=1), (CUDA.strip(), OomReport(where="gpu"))),
        (
            LOADER,
            FAILED,
            ExitContext(oom_kills=1),
            None,
        ),  # the process that the kernel killed was below it
        (CUDA, 0, NOTHING, Done),  # it got over it
        ("", 0, ExitContext(over_limit_s=1.0), "reached its time limit of 1 s"),
    ],
)
def test_end_is_explained_by_the_kernel_and_the_end_of_the_log(
    tmp_path: Path, log: str, status: int, how: ExitContext, told: object
) -> None:
    attempt = Attempt(tmp_path)
    attempt.log.write_text(log)
    outcome = judge_exit(status, attempt, how, 5.0)
    if isinstance(told, str):
        assert isinstance(outcome, Failed)
        assert told in outcome.error
        assert outcome.error.endswith(": loss 0.1") or log != LOSS
    elif told is Done:
        assert isinstance(outcome, Done)
    else:
        assert isinstance(outcome, OutOfMemory)
        assert told in {None, (outcome.error, outcome.report)}
    if log is LOADER:
        write_json(attempt.result, {"schema": 1, "ok": False, "error": LOADER})
        assert type(judge_exit(status, attempt, how, 5.0)) is type(outcome)
