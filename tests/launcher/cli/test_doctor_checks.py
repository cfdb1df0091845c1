"""From what was read of a machine to findings, and to lines."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher import __version__
from launcher.cli import machine_checks, queue_checks
from launcher.cli.commands.doctor import draw
from launcher.cli.machine_checks import Disk, Driver, Finding, Torch, Verdict
from launcher.cli.queue_checks import Logout, Queue
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.notify.settings import NotifySettings, Target
from launcher.screens.text_table import width_of
from launcher.store.opening import KNOWN_SCHEMA, Look
from launcher.system.config import Configuration
from tests.build import GIB, a_gpu

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
NOON = 1_795_262_400.0
Judge = Callable[[], Finding | None]


def disk(free: float, total: float = 100, **changes: Any) -> Disk:
    values: dict[str, Any] = {"path": "/data", "kind": "ext4", "files": 1_000_000}
    values |= {"free": round(free * GIB), "total": round(total * GIB)}
    return Disk(**values | changes)


ROOMY = disk(50, path="/home/ada/queue")
WORKING = Driver(version="580.65.06", cuda=(13, 0), gpus=(a_gpu(0, processes=()),))
TORCH = Torch(version="2.15.0+cu132", cuda="13.2")
LOOK = Look(schema=KNOWN_SCHEMA, newest=NOON)
QUEUE = Queue(home="/home/ada/queue", exists=True, look=LOOK)


def driver(**changes: Any) -> Judge:
    return partial(machine_checks.judge_driver, WORKING._replace(**changes))


def cuda(torch: Torch = TORCH, **changes: Any) -> Judge:
    return partial(machine_checks.judge_cuda, torch, WORKING._replace(**changes))


def cards(*gpus: GpuSnapshot) -> Judge:
    return partial(machine_checks.judge_gpus, gpus)


def visible(words: str | None, *gpus: GpuSnapshot, order: str | None = None) -> Judge:
    return partial(machine_checks.judge_visible, gpus or WORKING.gpus, words, order)


def others(*gpus: GpuSnapshot) -> Judge:
    return partial(machine_checks.judge_others, gpus, "ada")


def home(where: Disk | None = ROOMY, **changes: Any) -> Judge:
    return partial(queue_checks.judge_home, QUEUE._replace(**changes), where)


def home_disk(where: Disk) -> Judge:
    return partial(machine_checks.judge_room, where, queue_checks.HOME_BYTES)


def results(where: Disk | None) -> Judge:
    return partial(machine_checks.judge_results, where)


def shared(where: Disk | None) -> Judge:
    return partial(machine_checks.judge_shared, where)


def promises(problem: str = "") -> Judge:
    return partial(queue_checks.judge_promises, "/dev/shm", problem)


def clock(now: float = NOON, newest: float | None = NOON) -> Judge:
    return partial(machine_checks.judge_clock, now, newest)


def cores(machine: int, allowed: int, usable: int, **environ: str) -> Judge:
    return partial(machine_checks.judge_cores, machine, allowed, usable, environ)


def open_files(soft: int | None, hard: int | None = None) -> Judge:
    return partial(machine_checks.judge_open_files, soft, hard)


def processes(soft: int | None, hard: int | None = None) -> Judge:
    return partial(machine_checks.judge_processes, soft, hard)


def logout(**known: Any) -> Judge:
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


def judged(judge: Judge) -> Finding:
    finding = judge()
    assert finding is not None
    return finding


HEALTHY: Mapping[str, Judge] = {
    "driver": driver(),
    "CUDA": cuda(),
    "GPUs": cards(*WORKING.gpus),
    "visible GPUs": visible(None),
    "other users": others(*WORKING.gpus),
    "configuration": partial(queue_checks.judge_configuration, (), None),
    "home": home(),
    "home's disk": home_disk(ROOMY),
    "results' disk": results(disk(50, path="/work")),
    "shared memory": shared(disk(8, 8, path="/dev/shm", kind="tmpfs")),
    "promises": promises(),
    "clock": clock(),
    "cores": cores(16, 16, 16),
    "open files": open_files(65_536, 65_536),
    "processes": processes(None),
    "logout": logout(),
    "leftovers": leftovers(),
    "scheduler": scheduler(),
    "queue": queue(),
    "SQLite": sqlite(3, 45, 1),
    "terminal": terminal(),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_machine_has_nothing_but_ok(name: str) -> None:
    assert judged(HEALTHY[name]).verdict is Verdict.OK


def test_a_machine_without_gpus_is_in_no_trouble() -> None:
    none = "NVIDIA's driver is not loaded"

    assert judged(driver(absent=none, gpus=(), version=None, cuda=None)) == Finding(
        Verdict.UNKNOWN, f"no GPUs: {none}; jobs run on the CPU"
    )
    assert judged(cuda(gpus=(), cuda=None)).verdict is Verdict.OK
    assert judged(partial(machine_checks.judge_visible, (), "0", None)).verdict is Verdict.OK
    assert (machine_checks.judge_gpus(()), machine_checks.judge_others((), "ada")) == (None, None)


FULL = a_gpu(1, processes=(GpuProcess(pid=7, used=3 * GIB, user="ben"),), used=3)
LIBRARY = "libnvidia-ml.so.1 is not found"

CASES: list[tuple[Judge, str, str, str, str]] = [
    (driver(silent="not for 10 s"), "driver", "trouble", "not for 10 s", "dmesg"),
    (
        driver(absent="NVIDIA's driver was updated; reboot to load it", gpus=()),
        "driver",
        "trouble",
        "was updated",
        "reboot",
    ),
    (
        driver(absent=LIBRARY, gpus=(), loaded=True, cards=1),
        "driver",
        "warning",
        "the kernel has NVIDIA's driver",
        "--gpus all",
    ),
    (
        driver(absent=LIBRARY, gpus=(), cards=2),
        "driver",
        "warning",
        "2 NVIDIA cards plugged in",
        "install NVIDIA's driver",
    ),
    (driver(gpus=()), "driver", "warning", "lists no GPU", "--gpus all"),
    (cuda(Torch()), "CUDA", "warning", "torch is not installed", "pip install"),
    (cuda(Torch(version="2.15.0+cpu")), "CUDA", "warning", "for the CPU only", "made for CUDA"),
    (
        cuda(Torch(version="2.15.0", other="AMD's GPUs (ROCm)")),
        "CUDA",
        "warning",
        "made for AMD's GPUs",
        "made for CUDA",
    ),
    (cuda(cuda=(12, 8)), "CUDA", "trouble", "up to 12.8", "a torch made for CUDA 12"),
    (cuda(cuda=(13, 0)), "CUDA", "ok", "which the driver runs", ""),
    (cuda(cuda=(14, 1)), "CUDA", "ok", "which the driver runs", ""),
    (cuda(cuda=None), "CUDA", "unknown", "does not tell", ""),
    (
        cuda(TORCH._replace(works=False, tried="no kernel image")),
        "CUDA",
        "trouble",
        "no kernel image",
        "pytorch.org",
    ),
    (
        cuda(TORCH._replace(works=True, tried="it computed on A100")),
        "CUDA",
        "ok",
        "it computed on A100",
        "",
    ),
    (
        cards(a_gpu(0), a_gpu(1, fault="has fallen off the bus (Xid 79)")),
        "GPUs",
        "warning",
        "cuda:1 has fallen off the bus (Xid 79); 1 of 2 can",
        "reset",
    ),
    (cards(a_gpu(0, fault="does not answer")), "GPUs", "trouble", "0 of 1 can be used", "dmesg"),
    (
        cards(a_gpu(0, compute_mode=2)),
        "GPUs",
        "trouble",
        "lets nobody compute",
        "nvidia-smi -c DEFAULT",
    ),
    (
        cards(a_gpu(0, compute_mode=3)),
        "GPUs",
        "warning",
        "one process at a time",
        "nvidia-smi -c DEFAULT",
    ),
    (cards(a_gpu(0, compute_mode=0)), "GPUs", "ok", "1 × NVIDIA A100", ""),
    (
        cards(a_gpu(0, warnings=("a row is to be replaced",))),
        "GPUs",
        "warning",
        "cuda:0: a row is to be replaced",
        "looks after",
    ),
    (
        cards(a_gpu(0, mig=0), a_gpu(0, mig=1, uuid="MIG-1")),
        "GPUs",
        "ok",
        "2 of them parts of divided cards (MIG)",
        "",
    ),
    (visible(""), "visible GPUs", "warning", "hides every GPU", "unset"),
    (visible("-1"), "visible GPUs", "warning", "hides every GPU", "unset"),
    (visible("0,3"), "visible GPUs", "warning", "what is not there: 3", "some of: 0"),
    (visible("0"), "visible GPUs", "ok", "use cuda:0", ""),
    (visible("GPU-0"), "visible GPUs", "ok", "use cuda:0", ""),
    (
        visible(None, a_gpu(0), a_gpu(1, name="NVIDIA T4")),
        "visible GPUs",
        "ok",
        "number these cards by their speed",
        "CUDA_DEVICE_ORDER",
    ),
    (others(a_gpu(0, processes=()), FULL), "other users", "ok", "ben 3 GiB on cuda:1", "gp"),
    (others(a_gpu(0, processes=None)), "other users", "unknown", "cuda:0", ""),
    (home(writers="group 'lab' may write /data"), "home", "warning", "and so may take", "chmod +t"),
    (home(problem="/q belongs to somebody else"), "home", "trouble", "belongs", "LAUNCHER_HOME"),
    (
        home(network="the home /q lies on a network file system (nfs4): use it …"),
        "home",
        "warning",
        "(nfs4)",
        "LAUNCHER_HOME",
    ),
    (home(disk(50, writable=False)), "home", "trouble", "cannot be written", "rights"),
    (home(exists=False), "home", "ok", "no queue yet", ""),
    (home_disk(disk(0.1)), "home's disk", "trouble", "102 MiB of 100 GiB", "launcher clean"),
    (home_disk(disk(1)), "home's disk", "warning", "1 GiB of 100 GiB", "launcher clean"),
    (home_disk(disk(50, files=12)), "home's disk", "warning", "12 more files", "launcher clean"),
    (home_disk(Disk(path="/data")), "home's disk", "unknown", "is unknown", ""),
    (results(None), "results' disk", "warning", "was deleted", "cd"),
    (results(disk(9)), "results' disk", "warning", "9 GiB", "launcher clean"),
    (results(disk(0.5)), "results' disk", "trouble", "512 MiB", "launcher clean"),
    (results(disk(50, writable=False)), "results' disk", "warning", "written", "folder"),
    (results(disk(50, kind="nfs4")), "results' disk", "ok", "over the network", ""),
    (shared(None), "shared memory", "warning", "no /dev/shm", "num_threads: 0"),
    (shared(disk(0.06, 0.06)), "shared memory", "warning", "61.4 MiB", "--shm-size"),
    (shared(disk(0.06, 8)), "shared memory", "warning", "loaders", "ls -l /data"),
    (promises("it is full"), "promises", "warning", "it is full", "LAUNCHER_CLAIMS"),
    (clock(1000.0), "clock", "trouble", "1970", "timedatectl"),
    (clock(newest=NOON + 7200), "clock", "warning", "2 h later: it was set back", "timedatectl"),
    (clock(newest=NOON + 5), "clock", "ok", "", ""),
    (
        cores(64, 8, 4),
        "cores",
        "ok",
        "4 of 64 can be used: this shell may use 8 (taskset, or a cgroup)",
        "",
    ),
    (
        cores(8, 8, 8, OMP_NUM_THREADS="1"),
        "cores",
        "warning",
        "OMP_NUM_THREADS=1 is set",
        "unset OMP_NUM_THREADS",
    ),
    (cores(8, 8, 1), "cores", "warning", "1 of 8", "num_th"),
    (open_files(1024, 1048576), "open files", "warning", "at most 1,024", "ulimit -n 16384"),
    (open_files(1024, 2048), "open files", "warning", "raised to 2,048", "administrator"),
    (open_files(1024), "open files", "warning", "any number", "ulimit -n 16384"),
    (
        open_files(1024, 1024),
        "open files",
        "warning",
        "at most 1,024 for each process: ",
        "administrator",
    ),
    (processes(100, 200), "processes", "warning", "at most 100", "limits.conf"),
    (processes(100, 9000), "processes", "warning", "at most 100", "ulimit -u 9000"),
    (processes(100), "processes", "warning", "", "ulimit -u unlimited"),
    (logout(), "logout", "ok", "no systemd", ""),
    (logout(systemd=True, kills=True), "logout", "warning", "ends", "enable-linger"),
    (
        logout(systemd=True, kills=True, lingers=True, service=True),
        "logout",
        "ok",
        "you linger); the scheduler is a service",
        "",
    ),
    (
        logout(systemd=True, kills=False, service=True),
        "logout",
        "warning",
        "ends when you log out",
        "enable-linger",
    ),
    (logout(systemd=True, kills=False), "logout", "ok", "run on", ""),
    (logout(systemd=True), "logout", "unknown", "does not tell", "enable-linger"),
    (leftovers(), "leftovers", "ok", "each supervisor has a control group", ""),
    (
        leftovers("/a.scope belongs to the system", service=True),
        "leftovers",
        "ok",
        "(/a.scope belongs to the system)",
        "launcher service install",
    ),
    (leftovers("none"), "leftovers", "ok", "(none)", "cgroup2"),
    (
        scheduler(look=LOOK._replace(waiting=3)),
        "scheduler",
        "warning",
        "none lives, and 3 jobs",
        "launcher start",
    ),
    (
        scheduler(look=LOOK._replace(waiting=3), stopped=True),
        "scheduler",
        "ok",
        "none is needed",
        "",
    ),
    (
        scheduler(scheduler=9, version=__version__),
        "scheduler",
        "ok",
        f"pid 9, version {__version__}",
        "",
    ),
    (scheduler(scheduler=9, version="0.1"), "scheduler", "warning", "is version 0.1", "replaces"),
    (
        scheduler(scheduler=9, restarts=2),
        "scheduler",
        "warning",
        "restarted 2 times",
        "scheduler.log",
    ),
    (queue(look=None, damaged=True), "queue", "trouble", "damaged", "launcher status"),
    (queue(look=Look(schema=KNOWN_SCHEMA + 1)), "queue", "trouble", "a newer launcher", "update"),
    (queue(stopped=True), "queue", "warning", "nothing starts", "launcher retry"),
    (queue(look=None), "queue", "unknown", "cannot be read", "again"),
    (
        queue(look=Look(damaged=True), stopped=True),
        "queue",
        "trouble",
        "damaged",
        "launcher status",
    ),
    (queue(look=None, stopped=True), "queue", "unknown", "cannot be read", "again"),
    (queue(exists=False), "queue", "ok", "none yet", ""),
    (queue(problem="it is no folder"), "queue", "unknown", "not looked at", ""),
    (scheduler(problem="it is no folder"), "scheduler", "unknown", "not looked for", ""),
    (queue(look=LOOK._replace(waiting=1)), "queue", "ok", "1 job waits or runs", ""),
    (sqlite(*(3, 31, 1)), "SQLite", "trouble", "3.31.1, 3.37.0 is needed", "newer build"),
    (terminal(unicode=False), "terminal", "warning", "ASCII only", "LC_ALL=C.UTF-8"),
    (terminal("dumb", unicode=False), "terminal", "warning", "TERM is dumb", "export TERM="),
]


@pytest.mark.parametrize(
    ("judge", "name", "verdict", "told", "advice"),
    CASES,
    ids=[f"{case[1]}: {case[3] or case[2]}" for case in CASES],
)
def test_what_is_wrong_is_told_with_what_to_do(
    judge: Judge, name: str, verdict: str, told: str, advice: str
) -> None:
    found = judged(judge)

    assert name in HEALTHY
    assert (found.verdict, told in found.summary) == (verdict, True), found
    assert advice in found.advice
    if found.verdict in {Verdict.WARNING, Verdict.TROUBLE}:
        assert found.advice


SICK_GPUS = (
    a_gpu(0, processes=(GpuProcess(pid=1, used=3 * GIB, user="ben\x1b[2J"),)),
    a_gpu(1, fault="has fallen off the bus (Xid 79)"),
)
SICK: Mapping[str, Judge] = {
    **HEALTHY,
    "driver": driver(cuda=(12, 8), gpus=SICK_GPUS),
    "CUDA": cuda(cuda=(12, 8), gpus=SICK_GPUS),
    "GPUs": cards(*SICK_GPUS),
    "visible GPUs": visible("0,7", *SICK_GPUS),
    "other users": others(*SICK_GPUS),
    "results' disk": results(disk(4, path="/scratch/experiments/faces")),
    "logout": logout(systemd=True),
    "scheduler": scheduler(stopped=True, look=LOOK._replace(waiting=12)),
    "queue": queue(stopped=True, look=LOOK._replace(waiting=12)),
}


def findings(*without: str) -> list[Finding]:
    """What is found on a sick machine."""
    return [
        judged(judge)._replace(name=name) for name, judge in SICK.items() if name not in without
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_screen_shows_verdicts_in_words_and_what_to_do_below(width: int) -> None:
    drawn = "\n".join([*(one.text for one in draw(findings("clock", "leftovers"), width)), ""])

    assert drawn == (GOLDEN / f"doctor-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [20, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    assert max(width_of(one.text) for one in draw(findings(), width)) <= width


def test_no_name_of_a_user_steers_the_terminal() -> None:
    found = findings()

    assert "\x1b" not in "".join(one.text for one in draw(found, 80))
    assert "\x1b" not in "".join(text for one in found for text in one.columns())


def test_messages_that_were_given_up_are_counted_and_the_last_is_named() -> None:
    assert queue_checks.judge_unsent(()) is None
    found = judged(partial(queue_checks.judge_unsent, ("'a' to me (no)", "'b' to me (late)")))
    assert found.verdict is Verdict.WARNING
    assert found.summary == "2 messages not sent, the last: 'b' to me (late)"


def test_faults_of_the_file_are_told_once_each() -> None:
    found = judged(partial(queue_checks.judge_configuration, ["a", "b", "a"], None))
    assert (found.verdict, found.summary) == (Verdict.TROUBLE, "a; b")


def test_a_configuration_that_others_may_write_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch()
    configuration = Configuration(file=file, exists=True)
    assert queue_checks.judge_configuration((), configuration).verdict is Verdict.OK
    file.chmod(0o666)
    found = queue_checks.judge_configuration((), configuration)
    assert (found.verdict, "chmod go-w" in found.advice) == (Verdict.WARNING, True)
    assert found.summary.startswith(f"every user may write {file}: who changes")


def test_each_target_of_messages_is_judged_under_its_name() -> None:
    targets = (Target("desk", command=("sh",)), Target("mail", command=("no-such-program",)))
    found = queue_checks.judge_targets(NotifySettings(targets=targets), os.environ)
    assert {name: each and each.verdict for name, each in found.items()} == {
        "notify desk": Verdict.OK,
        "notify mail": Verdict.TROUBLE,
    }
    assert queue_checks.judge_targets(None, os.environ) == {}


def test_a_path_of_config_toml_that_is_no_path_is_said_once_elsewhere() -> None:
    assert queue_checks.judge_targets(None, {"LAUNCHER_CONFIG": "relative.toml"}) == {}
