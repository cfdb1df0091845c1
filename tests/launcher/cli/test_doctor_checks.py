"""From what was read of a machine to findings, and to lines."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher import __version__
from launcher.frontends.cli import disk_checks, gpu_checks, machine_checks, queue_checks
from launcher.frontends.cli.commands.doctor import draw
from launcher.frontends.cli.disk_checks import FilesystemInfo
from launcher.frontends.cli.findings import CheckStatus, Finding
from launcher.frontends.cli.gpu_checks import Driver, Torch
from launcher.frontends.cli.machine_checks import ProcessLimits, judge_job_limits
from launcher.frontends.cli.queue_checks import Logout, QueueHealth
from launcher.frontends.notify.settings import NotifySettings, NotifyTarget
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.store.inspection import DatabaseProbe
from launcher.queue.store.schema import KNOWN_SCHEMA
from launcher.system.config import Configuration
from launcher.system.process_limits import Limit
from tests.build import GIB, a_gpu

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
NOON = 1_795_262_400.0
Judge = Callable[[], Finding | None]


def disk(free: float, total: float = 100, **changes: Any) -> FilesystemInfo:
    values: dict[str, Any] = {"path": "/data", "kind": "ext4", "files": 1_000_000}
    values |= {"free": round(free * GIB), "total": round(total * GIB)}
    return FilesystemInfo(**values | changes)


ROOMY = disk(50, path="/home/ada/queue")
WORKING = Driver(version="580.65.06", cuda=(13, 0), gpus=(a_gpu(0, processes=()),))
TORCH = Torch(version="2.15.0+cu132", cuda="13.2")
LOOK = DatabaseProbe(schema=KNOWN_SCHEMA, newest_event_at=NOON)
QUEUE = QueueHealth(home="/home/ada/queue", exists=True, probe=LOOK)


def driver(**changes: Any) -> Judge:
    return partial(gpu_checks.judge_driver, WORKING._replace(**changes))


def cuda(torch: Torch = TORCH, **changes: Any) -> Judge:
    return partial(gpu_checks.judge_cuda, torch, WORKING._replace(**changes))


def check_gpus(*gpus: GpuSnapshot) -> Judge:
    return partial(gpu_checks.judge_gpus, gpus)


def check_visible_devices(words: str | None, *gpus: GpuSnapshot, order: str | None = None) -> Judge:
    return partial(gpu_checks.judge_visible, gpus or WORKING.gpus, words, order)


def check_other_users(*gpus: GpuSnapshot) -> Judge:
    return partial(gpu_checks.judge_others, gpus, "ada")


def home(where: FilesystemInfo | None = ROOMY, **changes: Any) -> Judge:
    return partial(queue_checks.judge_home, QUEUE._replace(**changes), where)


def home_disk(where: FilesystemInfo) -> Judge:
    return partial(disk_checks.judge_room, where, queue_checks.HOME_BYTES)


def results(where: FilesystemInfo | None) -> Judge:
    return partial(disk_checks.judge_results, where)


def shared(where: FilesystemInfo | None) -> Judge:
    return partial(disk_checks.judge_shared, where)


def check_reservations(problem: str = "") -> Judge:
    return partial(queue_checks.judge_reservations, "/dev/shm", problem)


def clock(now: float = NOON, newest: float | None = NOON) -> Judge:
    return partial(machine_checks.judge_clock, now, newest)


def cores(machine: int, allowed: int, usable: int, **environ: str) -> Judge:
    return partial(machine_checks.judge_cores, machine, allowed, usable, environ)


def open_files(soft: int | None, hard: int | None = None) -> Judge:
    return partial(machine_checks.judge_open_files, soft, hard)


def processes(soft: int | None, hard: int | None = None) -> Judge:
    return partial(machine_checks.judge_processes, soft, hard)


def check_logout(**known: Any) -> Judge:
    return partial(queue_checks.judge_logout, Logout(**known))


def leftovers(hindrance: str = "", *, service: bool = False) -> Judge:
    return partial(queue_checks.judge_leftovers, hindrance, service=service)


def scheduler(**changes: Any) -> Judge:
    return partial(queue_checks.judge_scheduler, QUEUE._replace(**changes))


def queue(**changes: Any) -> Judge:
    return partial(queue_checks.judge_queue, QUEUE._replace(**changes))


def sqlite(*have: int) -> Judge:
    major, minor, patch = have
    return partial(queue_checks.judge_sqlite, (major, minor, patch), "3.12.3")


def terminal(term: str = "xterm-256color", *, unicode: bool = True) -> Judge:
    return partial(machine_checks.judge_terminal, term, unicode=unicode)


def judge_finding(judge: Judge) -> Finding:
    finding = judge()
    assert finding is not None
    return finding


HEALTHY: Mapping[str, Judge] = {
    "driver": driver(),
    "CUDA": cuda(),
    "GPUs": check_gpus(*WORKING.gpus),
    "visible GPUs": check_visible_devices(None),
    "other users": check_other_users(*WORKING.gpus),
    "configuration": partial(queue_checks.judge_configuration, (), None),
    "queue folder": home(),
    "queue's disk": home_disk(ROOMY),
    "results' disk": results(disk(50, path="/work")),
    "shared memory": shared(disk(8, 8, path="/dev/shm", kind="tmpfs")),
    "reservations": check_reservations(),
    "clock": clock(),
    "cores": cores(16, 16, 16),
    "open files": open_files(65_536, 65_536),
    "processes": processes(None),
    "logout": check_logout(),
    "leftovers": leftovers(),
    "scheduler": scheduler(),
    "queue": queue(),
    "SQLite": sqlite(3, 45, 1),
    "terminal": terminal(),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_machine_has_only_ok_findings(name: str) -> None:
    assert judge_finding(HEALTHY[name]).status is CheckStatus.OK


def test_machine_without_gpus_has_no_problem() -> None:
    none = "NVIDIA's driver is not loaded"

    assert judge_finding(driver(absent=none, gpus=(), version=None, cuda=None)) == Finding(
        CheckStatus.UNKNOWN, f"no GPU found: {none}; jobs run on the CPU"
    )
    assert judge_finding(cuda(gpus=(), cuda=None)).status is CheckStatus.OK
    assert judge_finding(partial(gpu_checks.judge_visible, (), "0", None)).status is CheckStatus.OK
    assert (gpu_checks.judge_gpus(()), gpu_checks.judge_others((), "ada")) == (None, None)


FULL = a_gpu(1, processes=(GpuProcess(pid=7, used=3 * GIB, user="ben"),), used=3)
LIBRARY = "libnvidia-ml.so.1 is not found"

CASES: Mapping[str, Sequence[tuple[Judge, str, str]]] = {
    "trouble": [
        (driver(silent="not for 10 s"), "not for 10 s", "dmesg"),
        (
            driver(absent="NVIDIA's driver was updated; reboot to load it", gpus=()),
            "was updated",
            "reboot",
        ),
        (cuda(cuda=(12, 8)), "up to 12.8", "a torch built for CUDA 12"),
        (
            cuda(TORCH._replace(works=False, tried="no kernel image")),
            "no kernel image",
            "pytorch.org",
        ),
        (check_gpus(a_gpu(0, fault="does not respond")), "0 of 1 GPUs usable", "dmesg"),
        (check_gpus(a_gpu(0, compute_mode=2)), "prohibits computing", "nvidia-smi -c DEFAULT"),
        (home(problem="/q belongs to somebody else"), "belongs", "LAUNCHER_HOME"),
        (home(disk(50, writable=False)), "cannot be written", "permissions"),
        (home_disk(disk(0.1)), "102 MiB of 100 GiB", "launcher clean"),
        (results(disk(0.5)), "512 MiB", "launcher clean"),
        (clock(1000.0), "1970", "timedatectl"),
        (queue(probe=None, damaged=True), "damaged", "launcher status"),
        (queue(probe=DatabaseProbe(schema=KNOWN_SCHEMA + 1)), "a newer launcher", "update"),
        (queue(probe=DatabaseProbe(is_damaged=True), stopped=True), "damaged", "launcher status"),
        (sqlite(*(3, 31, 1)), "3.31.1; 3.37.0 or newer is needed", "newer build"),
    ],
    "warning": [
        (
            driver(absent=LIBRARY, gpus=(), loaded=True, cards=1),
            "the kernel module of the NVIDIA driver is loaded",
            "--gpus all",
        ),
        (
            driver(absent=LIBRARY, gpus=(), cards=2),
            "2 NVIDIA GPUs installed but not usable",
            "install the NVIDIA driver",
        ),
        (driver(gpus=()), "lists no GPU", "--gpus all"),
        (cuda(Torch()), "torch is not installed", "pip install"),
        (cuda(Torch(version="2.15.0+cpu")), "for the CPU only", "built for CUDA"),
        (
            cuda(Torch(version="2.15.0", other="AMD's GPUs (ROCm)")),
            "built for AMD's GPUs",
            "built for CUDA",
        ),
        (
            check_gpus(a_gpu(0), a_gpu(1, fault="has fallen off the bus (Xid 79)")),
            "cuda:1 has fallen off the bus (Xid 79); 1 of 2 GPUs",
            "reset",
        ),
        (check_gpus(a_gpu(0, compute_mode=3)), "one process at a time", "nvidia-smi -c DEFAULT"),
        (
            check_gpus(a_gpu(0, warnings=("a row is to be replaced",))),
            "cuda:0: a row is to be replaced",
            "administrator",
        ),
        (check_visible_devices(""), "hides every GPU", "unset"),
        (check_visible_devices("-1"), "hides every GPU", "unset"),
        (check_visible_devices("0,3"), "GPUs that do not exist: 3", "choose from 0"),
        (home(writers="group 'lab' may write /data"), "and so remove", "chmod +t"),
        (
            home(network="the home /q lies on a network file system (nfs4): use it …"),
            "(nfs4)",
            "LAUNCHER_HOME",
        ),
        (home_disk(disk(1)), "1 GiB of 100 GiB", "launcher clean"),
        (home_disk(disk(50, files=12)), "12 inodes free", "launcher clean"),
        (results(None), "was deleted", "cd"),
        (results(disk(9)), "9 GiB", "launcher clean"),
        (results(disk(50, writable=False)), "written", "folder"),
        (shared(None), "/dev/shm is missing", "num_threads: 0"),
        (shared(disk(0.06, 0.06)), "61.4 MiB", "--shm-size"),
        (shared(disk(0.06, 8)), "loaders", "ls -l /data"),
        (check_reservations("it is full"), "it is full", "LAUNCHER_CLAIMS"),
        (
            clock(newest=NOON + 7200),
            "the clock was set back, as the queue has an event 2 h later",
            "timedatectl",
        ),
        (cores(8, 8, 8, OMP_NUM_THREADS="1"), "OMP_NUM_THREADS=1 is set", "unset OMP_NUM_THREADS"),
        (cores(8, 8, 1), "1 of 8", "more cores"),
        (open_files(1024, 1048576), "at most 1,024", "ulimit -n 16384"),
        (open_files(1024, 2048), "raised to 2,048", "administrator"),
        (open_files(1024), "any number", "ulimit -n 16384"),
        (open_files(1024, 1024), "at most 1,024 per process: ", "administrator"),
        (processes(100, 200), "at most 100", "limits.conf"),
        (processes(100, 9000), "at most 100", "ulimit -u 9000"),
        (processes(100), "", "ulimit -u unlimited"),
        (check_logout(systemd=True, kills=True), "ends", "enable-linger"),
        (
            check_logout(systemd=True, kills=False, service=True),
            "ends when you log out",
            "enable-linger",
        ),
        (scheduler(probe=LOOK._replace(waiting=3)), "not running, but 3 jobs", "launcher start"),
        (scheduler(scheduler=9, version="0.1"), "has version 0.1", "replaces"),
        (scheduler(scheduler=9, restarts=2), "restarted 2 times", "scheduler.log"),
        (queue(stopped=True), "no job starts", "launcher start"),
        (terminal(unicode=False), "the locale is ASCII", "LC_ALL=C.UTF-8"),
        (terminal("dumb", unicode=False), "TERM is dumb", "export TERM="),
    ],
    "ok": [
        (cuda(cuda=(13, 0)), "which the driver supports", ""),
        (cuda(cuda=(14, 1)), "which the driver supports", ""),
        (cuda(TORCH._replace(works=True, tried="it computed on A100")), "it computed on A100", ""),
        (check_gpus(a_gpu(0, compute_mode=0)), "1 × NVIDIA A100", ""),
        (
            check_gpus(a_gpu(0, mig=0), a_gpu(0, mig=1, uuid="MIG-1")),
            "(2 MIG instances)",
            "",
        ),
        (check_visible_devices("0"), "use cuda:0", ""),
        (check_visible_devices("GPU-0"), "use cuda:0", ""),
        (
            check_visible_devices(None, a_gpu(0), a_gpu(1, name="NVIDIA T4")),
            "number these GPUs by speed",
            "CUDA_DEVICE_ORDER",
        ),
        (check_other_users(a_gpu(0, processes=()), FULL), "ben 3 GiB on cuda:1", "gp"),
        (home(exists=False), "no queue yet", ""),
        (results(disk(50, kind="nfs4")), ", network)", ""),
        (clock(newest=NOON + 5), "", ""),
        (cores(64, 8, 4), "4 of 64 usable: taskset or a cgroup allows 8", ""),
        (check_logout(), "no systemd", ""),
        (
            check_logout(systemd=True, kills=True, lingers=True, service=True),
            "lingering is enabled); the scheduler is a service",
            "",
        ),
        (check_logout(systemd=True, kills=False), "continue", ""),
        (leftovers(), "each job has a control group", ""),
        (
            leftovers("/a.scope belongs to the system", service=True),
            "(/a.scope belongs to the system)",
            "launcher service install",
        ),
        (leftovers("none"), "(none)", "cgroup2"),
        (scheduler(probe=LOOK._replace(waiting=3), stopped=True), "not needed", ""),
        (scheduler(scheduler=9, version=__version__), f"pid 9, version {__version__}", ""),
        (queue(exists=False), "no queue yet", ""),
        (queue(probe=LOOK._replace(waiting=1)), "1 job waits or runs", ""),
    ],
    "unknown": [
        (cuda(cuda=None), "does not report", ""),
        (check_other_users(a_gpu(0, processes=None)), "cuda:0", ""),
        (home_disk(FilesystemInfo(path="/data")), "is unknown", ""),
        (check_logout(systemd=True), "unknown whether", "enable-linger"),
        (queue(probe=None), "cannot be read", "again"),
        (queue(probe=None, stopped=True), "cannot be read", "again"),
        (queue(problem="it is no folder"), "not checked", ""),
        (scheduler(problem="it is no folder"), "not checked", ""),
    ],
}


@pytest.mark.parametrize(
    ("verdict", "judge", "told", "advice"),
    [(CheckStatus(verdict), *case) for verdict, cases in CASES.items() for case in cases],
)
def test_problem_is_reported_with_advice(
    verdict: CheckStatus, judge: Judge, told: str, advice: str
) -> None:
    found = judge_finding(judge)
    assert (found.status, told in found.summary) == (verdict, True), found
    assert advice in found.advice
    assert found.advice or verdict not in {CheckStatus.WARNING, CheckStatus.TROUBLE}


SICK_GPUS = (
    a_gpu(0, processes=(GpuProcess(pid=1, used=3 * GIB, user="ben\x1b[2J"),)),
    a_gpu(1, fault="has fallen off the bus (Xid 79)"),
)
SICK: Mapping[str, Judge] = {
    **HEALTHY,
    "driver": driver(cuda=(12, 8), gpus=SICK_GPUS),
    "CUDA": cuda(cuda=(12, 8), gpus=SICK_GPUS),
    "GPUs": check_gpus(*SICK_GPUS),
    "visible GPUs": check_visible_devices("0,7", *SICK_GPUS),
    "other users": check_other_users(*SICK_GPUS),
    "results' disk": results(disk(4, path="/scratch/experiments/faces")),
    "logout": check_logout(systemd=True),
    "scheduler": scheduler(stopped=True, probe=LOOK._replace(waiting=12)),
    "queue": queue(stopped=True, probe=LOOK._replace(waiting=12)),
}


def findings(*without: str) -> list[Finding]:
    """What is found on a sick machine."""
    return [
        judge_finding(judge)._replace(name=name)
        for name, judge in SICK.items()
        if name not in without
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_screen_shows_status_words_with_advice_below(width: int) -> None:
    drawn = "\n".join([*(one.text for one in draw(findings("clock", "leftovers"), width)), ""])

    assert drawn == (GOLDEN / f"doctor-{width}.txt").read_text(encoding="utf-8")


def test_user_names_contain_no_terminal_control_sequences() -> None:
    found = findings()

    assert "\x1b" not in "".join(one.text for one in draw(found, 80))
    assert "\x1b" not in "".join(text for one in found for text in one.columns())


def test_abandoned_messages_are_counted_and_the_last_is_named() -> None:
    assert queue_checks.judge_unsent(()) is None
    found = judge_finding(
        partial(queue_checks.judge_unsent, ("'a' to me (no)", "'b' to me (late)"))
    )
    assert found.status is CheckStatus.WARNING
    assert found.summary == "2 messages not sent; the last: 'b' to me (late)"


def test_configuration_writable_by_others_causes_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch()
    configuration = Configuration(file=file, exists=True)
    assert queue_checks.judge_configuration((), configuration).status is CheckStatus.OK
    file.chmod(0o666)
    found = queue_checks.judge_configuration((), configuration)
    assert (found.status, "chmod go-w" in found.advice) == (CheckStatus.WARNING, True)
    assert found.summary.startswith(f"every user may write {file}: whoever changes")


def test_each_notification_target_is_checked_under_its_name() -> None:
    targets = (
        NotifyTarget("desk", command=("sh",)),
        NotifyTarget("mail", command=("no-such-program",)),
    )
    found = queue_checks.judge_targets(NotifySettings(targets=targets), os.environ)
    assert {name: each and each.status for name, each in found.items()} == {
        "notify desk": CheckStatus.OK,
        "notify mail": CheckStatus.TROUBLE,
    }
    assert queue_checks.judge_targets(None, os.environ) == {}


def limits(files: int | None, space: int | None = None, niceness: int = 0) -> ProcessLimits:
    """Limits of a process on open files and virtual memory; it can raise the first one fourfold."""
    hard = None if files is None else 4 * files
    known = {"NOFILE": Limit(files, hard), "NPROC": Limit(None, None), "AS": Limit(space, space)}
    return ProcessLimits(known, niceness)


@pytest.mark.parametrize(
    ("scheduler", "files", "judged"),
    [
        (None, "at most 8,192", None),
        (limits(8192), "at most 8,192", ("ok", "open files 8,192 (at most 32,768), processes unlimited, niceness 0")),
        (limits(None), "at most 8,192", ("ok", "open files unlimited, processes unlimited, niceness 0")),
        (limits(64), "at most 256", ("warning", "lower than in this shell (open files)")),
        (limits(8192, GIB), "at most 8,192", ("warning", "virtual memory 1 GiB, niceness 0; lower than in this shell")),
        (limits(8192, niceness=15), "at most 8,192", ("warning", "niceness 15; jobs run at this niceness")),
    ],
)  # fmt: skip
def test_limits_of_jobs_are_those_of_the_shell_within_the_limits_of_the_scheduler(
    scheduler: ProcessLimits | None, files: str, judged: tuple[str, str] | None
) -> None:
    found = judge_job_limits(limits(8192), scheduler)
    open_files, own = found["open files"], found["scheduler limits"]
    assert open_files is not None
    assert files in open_files.summary
    if judged is None:
        assert own is None
        return
    assert own is not None
    assert (own.status.value, judged[1] in own.summary) == (judged[0], True)
    restart = "restart the scheduler from this shell"
    assert (restart in open_files.advice) == judged[1].endswith("(open files)")
    assert (restart in own.advice) == (own.status is CheckStatus.WARNING)
