"""From facts of a machine to findings, and to lines."""

from pathlib import Path
from typing import Any

import pytest

from launcher.cli.commands.doctor import draw
from launcher.cli.doctor.checks import Finding, Verdict, check
from launcher.cli.doctor.facts import (
    Cores,
    Disk,
    Driver,
    Engine,
    Facts,
    Groups,
    Limits,
    Logout,
    Queue,
    Torch,
)
from launcher.gpu.snapshot import GpuProcess
from launcher.screens.text_table import width_of
from tests.build import GIB, a_gpu

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
NOON = 1_795_262_400.0


def disk(free: float, total: float = 100, **changes: Any) -> Disk:
    values: dict[str, Any] = {"path": "/data", "kind": "ext4", "files": 1_000_000}
    values |= {"free": round(free * GIB), "total": round(total * GIB)}
    return Disk(**values | changes)


HEALTHY = Facts(
    now=NOON,
    launcher="0.2.0",
    python="3.12.3",
    sqlite=(3, 45, 1),
    oldest_sqlite=(3, 37, 0),
    user="ada",
    driver=Driver(version="580.65.06", cuda=(13, 0), gpus=(a_gpu(0, processes=()),)),
    torch=Torch(version="2.15.0+cu132", cuda="13.2"),
    queue=Queue(home="/home/ada/queue", exists=True, schema=3, known_schema=3, newest=NOON),
    home=disk(50, path="/home/ada/queue"),
    results=disk(50, path="/work"),
    shared=disk(8, 8, path="/dev/shm", kind="tmpfs"),
    claims="/dev/shm",
    cores=Cores(machine=16, allowed=16, usable=16),
    limits=Limits(open_files=65_536, open_files_most=65_536, processes=None),
    terminal="xterm-256color",
)


def facts(**changes: Any) -> Facts:
    return HEALTHY._replace(**changes)


def driver(**changes: Any) -> Facts:
    return facts(driver=HEALTHY.driver._replace(**changes))


def queue(**changes: Any) -> Facts:
    return facts(queue=HEALTHY.queue._replace(**changes))


def finding(given: Facts, name: str) -> Finding:
    (found,) = [one for one in check(given) if one.name == name]
    return found


def test_a_healthy_machine_has_nothing_but_ok() -> None:
    findings = check(HEALTHY)

    assert {one.verdict for one in findings} == {Verdict.OK}
    assert len({one.name for one in findings}) == len(findings)


def test_a_machine_without_gpus_is_in_no_trouble() -> None:
    findings = check(facts(driver=Driver(absent="NVIDIA's driver is not loaded")))

    assert findings[0].verdict is Verdict.UNKNOWN
    assert findings[0].summary == "no GPUs: NVIDIA's driver is not loaded; jobs run on the CPU"
    assert {one.verdict for one in findings[1:]} == {Verdict.OK}


FULL = a_gpu(1, processes=(GpuProcess(pid=7, used=3 * GIB, user="ben"),), used=3)
CASES = [
    (driver(silent="not for 10 s"), "driver", "trouble", "not for 10 s", "dmesg"),
    (
        driver(absent="NVIDIA's driver was updated; reboot to load it", gpus=()),
        *("driver", "trouble", "was updated", "reboot"),
    ),
    (
        driver(absent="libnvidia-ml.so.1 is not found", gpus=(), loaded=True, cards=1),
        *("driver", "warning", "the kernel has NVIDIA's driver", "--gpus all"),
    ),
    (
        driver(absent="libnvidia-ml.so.1 is not found", gpus=(), cards=2),
        *("driver", "warning", "2 NVIDIA cards plugged in", "install NVIDIA's driver"),
    ),
    (driver(gpus=()), "driver", "warning", "lists no GPU", "--gpus all"),
    (facts(torch=Torch()), "CUDA", "warning", "torch is not installed", "pip install"),
    (
        facts(torch=Torch(version="2.15.0+cpu")),
        *("CUDA", "warning", "for the CPU only", "made for CUDA"),
    ),
    (
        facts(torch=Torch(version="2.15.0", other="AMD's GPUs (ROCm)")),
        *("CUDA", "warning", "made for AMD's GPUs", "made for CUDA"),
    ),
    (driver(cuda=(12, 8)), "CUDA", "trouble", "up to 12.8", "a torch made for CUDA 12"),
    (driver(cuda=(13, 0)), "CUDA", "ok", "which the driver runs", ""),
    (driver(cuda=(14, 1)), "CUDA", "ok", "which the driver runs", ""),
    (driver(cuda=None), "CUDA", "unknown", "does not tell", ""),
    (
        facts(torch=HEALTHY.torch._replace(works=False, tried="no kernel image")),
        *("CUDA", "trouble", "no kernel image", "pytorch.org"),
    ),
    (
        facts(torch=HEALTHY.torch._replace(works=True, tried="it computed on A100")),
        *("CUDA", "ok", "it computed on A100", ""),
    ),
    (
        driver(gpus=(a_gpu(0), a_gpu(1, fault="has fallen off the bus (Xid 79)"))),
        *("GPUs", "warning", "cuda:1 has fallen off the bus (Xid 79); 1 of 2 can", "reset"),
    ),
    (
        driver(gpus=(a_gpu(0, fault="does not answer"),)),
        *("GPUs", "trouble", "0 of 1 can be used", "dmesg"),
    ),
    (driver(modes={0: 2}), "GPUs", "trouble", "lets nobody compute", "nvidia-smi -c DEFAULT"),
    (driver(modes={0: 3}), "GPUs", "warning", "one process at a time", "nvidia-smi -c DEFAULT"),
    (driver(modes={0: 0}), "GPUs", "ok", "1 × NVIDIA A100", ""),
    (
        driver(gpus=(a_gpu(0, warnings=("a row is to be replaced",)),)),
        *("GPUs", "warning", "cuda:0: a row is to be replaced", "looks after"),
    ),
    (
        driver(gpus=(a_gpu(0, mig=0), a_gpu(0, mig=1, uuid="MIG-1"))),
        *("GPUs", "ok", "2 of them parts of divided cards (MIG)", ""),
    ),
    (facts(visible=""), "visible GPUs", "warning", "hides every GPU", "unset"),
    (facts(visible="-1"), "visible GPUs", "warning", "hides every GPU", "unset"),
    (facts(visible="0,3"), "visible GPUs", "warning", "what is not there: 3", "some of: 0"),
    (facts(visible="0"), "visible GPUs", "ok", "use cuda:0", ""),
    (facts(visible="GPU-0"), "visible GPUs", "ok", "use cuda:0", ""),
    (
        driver(gpus=(a_gpu(0), a_gpu(1, name="NVIDIA T4"))),
        *("visible GPUs", "ok", "number these cards by their speed", "CUDA_DEVICE_ORDER"),
    ),
    (driver(gpus=(a_gpu(0, processes=()), FULL)), "other users", "ok", "ben 3 GiB on cuda:1", "gp"),
    (driver(gpus=(a_gpu(0, processes=None),)), "other users", "unknown", "cuda:0", ""),
    (queue(problem="/q belongs to somebody else"), "home", "trouble", "belongs", "LAUNCHER_HOME"),
    (
        queue(network="the home /q lies on a network file system (nfs4): use it …"),
        *("home", "warning", "(nfs4)", "LAUNCHER_HOME"),
    ),
    (facts(home=disk(50, writable=False)), "home", "trouble", "cannot be written", "rights"),
    (queue(exists=False), "home", "ok", "no queue yet", ""),
    (facts(home=disk(0.1)), "home's disk", "trouble", "102 MiB of 100 GiB", "launcher clean"),
    (facts(home=disk(1)), "home's disk", "warning", "1 GiB of 100 GiB", "launcher clean"),
    (facts(home=disk(50, files=12)), "home's disk", "warning", "12 more files", "launcher clean"),
    (facts(home=Disk(path="/data")), "home's disk", "unknown", "is unknown", ""),
    (facts(results=None), "results' disk", "warning", "was deleted", "cd"),
    (facts(results=disk(9)), "results' disk", "warning", "9 GiB", "launcher clean"),
    (facts(results=disk(0.5)), "results' disk", "trouble", "512 MiB", "launcher clean"),
    (facts(results=disk(50, writable=False)), "results' disk", "warning", "written", "folder"),
    (facts(results=disk(50, kind="nfs4")), "results' disk", "ok", "over the network", ""),
    (facts(shared=None), "shared memory", "warning", "no /dev/shm", "num_threads: 0"),
    (facts(shared=disk(0.06, 0.06)), "shared memory", "warning", "61.4 MiB", "--shm-size"),
    (facts(shared=disk(0.06, 8)), "shared memory", "warning", "loaders", "ls -l /data"),
    (facts(claims_trouble="it is full"), "promises", "warning", "it is full", "LAUNCHER_CLAIMS"),
    (facts(now=1000.0), "clock", "trouble", "1970", "timedatectl"),
    (queue(newest=NOON + 7200), "clock", "warning", "2 h later: it was set back", "timedatectl"),
    (queue(newest=NOON + 5), "clock", "ok", "", ""),
    (
        facts(cores=Cores(machine=64, allowed=8, usable=4)),
        *("cores", "ok", "4 of 64 can be used: this shell may use 8 (taskset, or a cgroup)", ""),
    ),
    (
        facts(cores=Cores(machine=8, allowed=8, usable=8, threads={"OMP_NUM_THREADS": "1"})),
        *("cores", "warning", "OMP_NUM_THREADS=1 is set", "unset OMP_NUM_THREADS"),
    ),
    (facts(cores=Cores(machine=8, allowed=8, usable=1)), "cores", "warning", "1 of 8", "num_th"),
    (
        facts(limits=Limits(open_files=1024, open_files_most=1_048_576)),
        *("open files", "warning", "at most 1,024", "ulimit -n 16384"),
    ),
    (
        facts(limits=Limits(open_files=1024, open_files_most=2048)),
        *("open files", "warning", "raised to 2,048", "administrator"),
    ),
    (
        facts(limits=Limits(open_files=1024)),
        *("open files", "warning", "any number", "ulimit -n 16384"),
    ),
    (
        facts(limits=Limits(open_files=1024, open_files_most=1024)),
        *("open files", "warning", "at most 1,024 for each process: ", "administrator"),
    ),
    (
        facts(limits=Limits(processes=100, processes_most=200)),
        *("processes", "warning", "at most 100", "limits.conf"),
    ),
    (
        facts(limits=Limits(processes=100, processes_most=9000)),
        *("processes", "warning", "at most 100", "ulimit -u 9000"),
    ),
    (facts(limits=Limits(processes=100)), "processes", "warning", "", "ulimit -u unlimited"),
    (facts(logout=Logout()), "logout", "ok", "no systemd", ""),
    (facts(logout=Logout(systemd=True, kills=True)), "logout", "warning", "ends", "enable-linger"),
    (
        facts(logout=Logout(systemd=True, kills=True, lingers=True, service=True)),
        *("logout", "ok", "you linger); the scheduler is a service", ""),
    ),
    (
        facts(logout=Logout(systemd=True, kills=False, service=True)),
        *("logout", "warning", "ends when you log out", "enable-linger"),
    ),
    (facts(logout=Logout(systemd=True, kills=False)), "logout", "ok", "run on", ""),
    (facts(logout=Logout(systemd=True)), "logout", "unknown", "does not tell", "enable-linger"),
    (facts(groups=Groups()), "leftovers", "ok", "each supervisor has a control group", ""),
    (
        facts(groups=Groups(hindrance="/a.scope belongs to the system", service=True)),
        *("leftovers", "ok", "(/a.scope belongs to the system)", "launcher service install"),
    ),
    (facts(groups=Groups(hindrance="none")), "leftovers", "ok", "(none)", "cgroup2"),
    (queue(waiting=3), "scheduler", "warning", "none lives, and 3 jobs", "launcher start"),
    (queue(waiting=3, stopped=True), "scheduler", "ok", "none is needed", ""),
    (queue(scheduler=9, version="0.2.0"), "scheduler", "ok", "pid 9, version 0.2.0", ""),
    (queue(scheduler=9, version="0.1"), "scheduler", "warning", "is version 0.1", "replaces"),
    (queue(scheduler=9, restarts=2), "scheduler", "warning", "restarted 2 times", "scheduler.log"),
    (queue(damaged=True, schema=None), "queue", "trouble", "damaged", "launcher status"),
    (queue(schema=9), "queue", "trouble", "a newer launcher", "update"),
    (queue(stopped=True), "queue", "warning", "nothing starts", "launcher retry"),
    (queue(schema=None), "queue", "unknown", "cannot be read", "again"),
    (queue(looks_damaged=True, stopped=True), "queue", "trouble", "damaged", "launcher status"),
    (queue(schema=None, stopped=True), "queue", "unknown", "cannot be read", "again"),
    (queue(exists=False), "queue", "ok", "none yet", ""),
    (queue(problem="it is no folder"), "queue", "unknown", "not looked at", ""),
    (queue(problem="it is no folder"), "scheduler", "unknown", "not looked for", ""),
    (queue(waiting=1), "queue", "ok", "1 job waits or runs", ""),
    (facts(sqlite=(3, 31, 1)), "SQLite", "trouble", "3.31.1, 3.37.0 is needed", "newer build"),
    (facts(unicode=False), "terminal", "warning", "ASCII only", "LC_ALL=C.UTF-8"),
    (facts(unicode=False, terminal="dumb"), "terminal", "warning", "TERM is dumb", "export TERM="),
]


@pytest.mark.parametrize(
    ("given", "name", "verdict", "told", "advice"),
    CASES,
    ids=[f"{case[1]}: {case[3] or case[2]}" for case in CASES],
)
def test_what_is_wrong_is_told_with_what_to_do(
    given: Facts, name: str, verdict: str, told: str, advice: str
) -> None:
    found = finding(given, name)

    assert (found.verdict, told in found.summary) == (verdict, True), found
    assert advice in found.advice
    if found.verdict in {Verdict.WARNING, Verdict.TROUBLE}:
        assert found.advice


SICK = HEALTHY._replace(
    driver=HEALTHY.driver._replace(
        cuda=(12, 8),
        gpus=(
            a_gpu(0, processes=(GpuProcess(pid=1, used=3 * GIB, user="ben\x1b[2J"),)),
            a_gpu(1, fault="has fallen off the bus (Xid 79)"),
        ),
    ),
    visible="0,7",
    results=disk(4, path="/scratch/experiments/faces"),
    logout=Logout(systemd=True),
    queue=HEALTHY.queue._replace(stopped=True, newest=0.0, waiting=12),
)


def without_clock(given: Facts) -> list[Finding]:
    """The findings but the time of day, which depends on where the test runs."""
    return [one for one in check(given) if one.name != "clock"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_screen_shows_verdicts_in_words_and_what_to_do_below(width: int) -> None:
    drawn = "\n".join([*(one.text for one in draw(without_clock(SICK), width)), ""])

    assert drawn == (GOLDEN / f"doctor-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    assert max(width_of(one.text) for one in draw(check(SICK), width)) <= width


def test_no_name_of_a_user_steers_the_terminal() -> None:
    findings = check(SICK)

    assert "\x1b" not in "".join(one.text for one in draw(findings, 80))
    assert "\x1b" not in "".join(text for one in findings for text in one.columns())


def engine(**changes: Any) -> Finding:
    values: dict[str, Any] = {"name": "gpu", "kind": "slurm", "folder": "/lustre/ada/pilots"}
    values |= {"file_system": "lustre", "shared": True, "partitions": ("main", "gpu")}
    return finding(facts(engines=(Engine(**values | changes),)), "backend gpu")


def test_a_backend_whose_engine_answers_and_whose_folder_is_shared_is_well() -> None:
    well = engine(partition="gpu")
    assert well.verdict is Verdict.OK
    assert well.summary == "Slurm answers, partition gpu; pilots in /lustre/ada/pilots (lustre)"
    assert engine(kind="local").verdict is Verdict.OK


def test_an_engine_that_cannot_be_asked_is_trouble() -> None:
    absent = engine(missing=("sbatch", "squeue"))
    assert (absent.verdict, absent.summary) == (Verdict.TROUBLE, "not in PATH: sbatch, squeue")
    assert "slurm-client" in absent.advice
    mute = engine(answers=False, complaint="slurm_load_partitions: Unable to contact")
    assert mute.verdict is Verdict.TROUBLE
    assert "Unable to contact" in mute.summary


def test_a_partition_that_does_not_exist_is_named_with_those_that_do() -> None:
    other = engine(partition="gpus")
    assert other.verdict is Verdict.TROUBLE
    assert other.summary == "Slurm has no partition 'gpus'; it has main, gpu"
    assert "[backends.gpu]" in other.advice


def test_pilots_that_could_not_work_are_warned_of() -> None:
    failing = engine(failures=3, reason="the last 3 pilots of gpu could not work: no module cuda")
    assert failing.verdict is Verdict.WARNING
    assert "no module cuda" in failing.summary
    assert "launcher status" in failing.advice


def test_pilots_on_a_local_disk_are_warned_of() -> None:
    local = engine(shared=False, file_system="ext4")
    assert local.verdict is Verdict.WARNING
    assert "lies on a local disk (ext4)" in local.summary
    assert "`folder` in [backends.gpu]" in local.advice


def test_an_interpreter_without_ray_is_trouble_and_one_that_is_not_here_unknown() -> None:
    ray = {"kind": "ray", "python": "/venv/bin/python"}
    assert engine(**ray, ray="2.60.0").summary.startswith("ray 2.60.0 in /venv/bin/python")
    without = engine(**ray, answers=False, complaint="PackageNotFoundError")
    assert without.verdict is Verdict.TROUBLE
    assert "launcher-trueface[ray]" in without.advice
    assert engine(kind="ray").verdict is Verdict.UNKNOWN
