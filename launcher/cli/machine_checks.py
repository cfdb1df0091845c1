"""What `launcher doctor` finds of the machine: driver, torch, GPUs, disks, clock, cores, limits, terminal.

What `see_…`, `ask_…` read is a value; a `judge_…` makes a line of it that says what is wrong, and what to do.
Nothing is changed, and nothing is waited for long.
"""

import ast
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import pynvml

from launcher.errors import counted
from launcher.gpu.nvml import Nvml, Refused
from launcher.gpu.snapshot import ONE_PROCESS, PROHIBITED, GpuSnapshot
from launcher.scheduler.policy.gpu_slot import is_visible
from launcher.screens.format import harmless, moment
from launcher.store.lanes import visible_devices
from launcher.system.files import Json
from launcher.system.home_checks import file_system, is_remote, without_links
from launcher.system.process_limits import Limit, limit_of, min_limit, niceness_of
from launcher.system.processes import answer, in_time
from launcher.units import format_bytes, format_seconds
from launcher.workers.preloads import THREADS

GIB = 1 << 30
RESULTS_BYTES = (1 * GIB, 10 * GIB)  # a checkpoint of a large model has gigabytes
FEW_FILES = 10_000  # an experiment makes thousands
SHARED_BYTES = 1 * GIB  # a loader passes batches through it; a container has 64 MiB
FEW_OPEN_FILES = 4096  # loaders open one for each tensor that they pass on
FEW_PROCESSES = 1024  # threads count, too: a training has hundreds
_OLDEST_YEAR, _LAST_YEAR = 2025, 2100
_SKEW_S = 60.0  # what another clock may be ahead without harm
# NVML's compute modes in which a card is not shared as usual
_PICK = "for the command see https://pytorch.org/get-started/locally"
DRIVER_S = 10.0  # a driver takes seconds to wake cards that sleep
TORCH_S = 120.0  # its import alone takes many seconds from a cold disk
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor, and the class of what may compute
_TRIAL = """
import json, torch
result = {"works": torch.cuda.is_available(), "said": "torch sees no GPU"}
if result["works"]:
    try:
        total = float(torch.ones(1000, device="cuda").sum())
        result = {"works": total == 1000.0, "said": torch.cuda.get_device_name()}
    except Exception as error:
        result = {"works": False, "said": str(error).partition("\\n")[0]}
print(json.dumps(result))
"""


class Verdict(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """The result of one check."""

    verdict: Verdict
    summary: str
    advice: str = ""  # what to do; empty: nothing
    name: str = ""

    def columns(self) -> tuple[str, ...]:
        """Return the finding as a line for pipes."""
        return (self.name, self.verdict, harmless(self.summary), harmless(self.advice) or "-")

    def record(self) -> dict[str, Json]:
        """Return the finding for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "told": self.summary,
            "advice": self.advice or None,
        }


Findings = Mapping[str, Finding | None]  # by name; None: there is nothing to tell
# it is in order; it may cause trouble; jobs cannot run well until it is repaired; it cannot be told, or does not matter
ok, warning, trouble, unknown = (partial(Finding, verdict) for verdict in Verdict)


class Driver(NamedTuple):
    """NVIDIA's driver, and the GPUs that it tells of."""

    absent: str = ""  # why there is none to ask
    loaded: bool = False  # the kernel has it
    cards: int = 0  # of NVIDIA's that are plugged in, as the kernel says
    silent: str = ""  # why it did not answer
    version: str | None = None
    cuda: tuple[int, int] | None = None  # the newest CUDA that it can run
    gpus: tuple[GpuSnapshot, ...] = ()


class Torch(NamedTuple):
    """The torch that jobs of this Python import."""

    version: str | None = None  # None: none is installed
    cuda: str | None = None  # for which it was built
    other: str = ""  # another make of GPUs for which it was built
    tried: str = ""  # the outcome of a computation on a GPU; empty: not tried
    works: bool | None = None  # whether it did


class Disk(NamedTuple):
    """Where files lie, or will lie."""

    path: str
    kind: str | None = None  # type of the file system
    total: int | None = None  # bytes; None: unknown
    free: int | None = None  # bytes that we may fill
    files: int | None = None  # that can still be made; None: as many as fit
    writable: bool = True


# --- GPUs


def ask_driver(patience_s: float = DRIVER_S) -> Driver:
    """Return what NVIDIA's driver says; one that hangs is left alone after a time."""
    late = Driver(silent=f"no answer for {format_seconds(patience_s)}")
    return in_time({"driver": _asked_driver}, patience_s).get("driver", late)


def _asked_driver() -> Driver:
    try:
        return _driver(Nvml())
    except Exception as error:  # noqa: BLE001  # any error is a finding
        return Driver(silent=f"{type(error).__name__}: {error}")


def _driver(probe: Nvml) -> Driver:
    gpus = probe.snapshot()
    if probe.absent:
        return plugged_in()._replace(absent=probe.absent)
    found = Driver(gpus=gpus)
    with contextlib.suppress(*Refused):
        found = found._replace(version=str(pynvml.nvmlSystemGetDriverVersion()))
    with contextlib.suppress(*Refused):
        major, rest = divmod(int(pynvml.nvmlSystemGetCudaDriverVersion()), 1000)
        found = found._replace(cuda=(major, rest % 100 // 10))
    return found


def plugged_in(root: Path = Path("/")) -> Driver:
    """Return what the kernel tells of NVIDIA's cards: whether it has their driver, and how many."""
    count = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
            count += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return Driver(loaded=(root / "proc/driver/nvidia/version").exists(), cards=count)


def torch_here(path: list[str] | None = None) -> Torch:
    """Return which torch a program of this Python would import; it is not imported.

    Args:
        path: where it is looked for; None: where Python looks.
    """
    spec = PathFinder.find_spec("torch", path)
    if spec is None or spec.origin is None:
        return Torch()
    constants: dict[str, str] = {}
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        for line in ast.parse(text).body:
            match line:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value)))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(value)))
                ):
                    constants[name] = value
    others = {"hip": "AMD's GPUs (ROCm)", "xpu": "Intel's GPUs"}
    return Torch(
        version=constants.get("__version__", "(unknown version)"),
        cuda=constants.get("cuda"),
        other=next((vendor for name, vendor in others.items() if constants.get(name)), ""),
    )


def try_torch(torch: Torch, patience_s: float = TORCH_S) -> Torch:
    """Let torch compute on a GPU in a process of its own."""
    output = answer((sys.executable, "-c", _TRIAL), patience_s)
    result = None
    with contextlib.suppress(ValueError, IndexError):
        result = json.loads(output.splitlines()[-1])
    match result:
        case {"works": bool(works), "said": str(words)}:
            tried = f"a computation on {words} succeeded" if works else words
            return torch._replace(works=works, tried=tried)
    return torch._replace(works=False, tried=f"the test did not finish: {output.strip()[-200:]}")


def judge_driver(driver: Driver) -> Finding:
    """Check whether programs can ask NVIDIA's driver, and whether it lists GPUs."""
    if driver.silent:
        return trouble(
            f"the NVIDIA driver does not respond: {driver.silent}",
            "check nvidia-smi and the kernel log (dmesg); a reboot may help",
        )
    if "reboot" in driver.absent:
        return trouble(driver.absent, "reboot, or load the kernel module of the new driver")
    if driver.absent and driver.loaded:
        return warning(
            f"the kernel module of the NVIDIA driver is loaded, but programs cannot use it: {driver.absent}",
            "in a container, start it with GPUs (docker run --gpus all); otherwise install the libraries of "
            "the driver",
        )
    if driver.absent and driver.cards:
        return warning(
            f"{counted(driver.cards, 'NVIDIA GPU')} installed but not usable: {driver.absent}",
            "install the NVIDIA driver and reboot",
        )
    if driver.absent:
        return unknown(f"no GPU found: {driver.absent}; jobs run on the CPU")
    summary = f"NVIDIA driver {driver.version}" if driver.version else "the NVIDIA driver answers"
    if driver.cuda:
        summary += f", supports CUDA up to {dotted(driver.cuda)}"
    if driver.gpus:
        return ok(summary)
    return warning(
        f"{summary}, but lists no GPU; jobs run on the CPU",
        "in a container, start it with GPUs (docker run --gpus all); otherwise check nvidia-smi",
    )


def judge_cuda(torch: Torch, driver: Driver) -> Finding:
    """Check whether the driver runs the CUDA for which torch was built."""
    if torch.version is None:
        summary = "torch is not installed in the Python of this command"
        advice = "install it for the Python of your jobs: pip install torch torchvision"
        return warning(summary, advice) if driver.gpus else unknown(summary)
    name = f"torch {torch.version}"
    if torch.works is False:
        return trouble(
            f"{name} cannot compute on a GPU: {torch.tried}",
            f"install a torch that fits the driver; {_PICK}",
        )
    if torch.cuda is None:
        summary = f"{name} is built {f'for {torch.other}' if torch.other else 'for the CPU only'}"
        if not driver.gpus:
            return ok(summary)
        advice = f"install a torch built for CUDA; {_PICK}"
        return warning(f"{summary}: jobs cannot use NVIDIA GPUs", advice)
    summary = f"{name} is built for CUDA {torch.cuda}"
    if not driver.gpus:
        return ok(f"{summary}; jobs run on the CPU, as there is no GPU")
    major = torch.cuda.partition(".")[0]
    if driver.cuda is None or not major.isdigit():
        return unknown(f"{summary}; the driver does not report its CUDA version")
    if int(major) > driver.cuda[0]:
        return trouble(
            f"{summary}, but the driver supports CUDA only up to {dotted(driver.cuda)}",
            f"update the driver, or install a torch built for CUDA {driver.cuda[0]}; {_PICK}",
        )
    tried = f"; {torch.tried}" if torch.works else ""
    # CUDA 11 and later: a driver runs every program of its own major version
    return ok(f"{summary}, which the driver supports{tried}")


def judge_gpus(gpus: Sequence[GpuSnapshot]) -> Finding | None:
    """Check whether jobs may start on the cards, and share them; without any there is nothing to tell."""
    if not gpus:
        return None
    bad = [f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault]
    modes = {(gpu.index, gpu.compute_mode) for gpu in gpus if not gpu.fault}
    closed = sorted(index for index, mode in modes if mode == PROHIBITED)
    if bad or closed:
        advice = "no job starts there; " + (
            "see dmesg; a reset or reboot may help"
            if bad
            else "an administrator can change the compute mode: nvidia-smi -c DEFAULT"
        )
        healthy = len({gpu.uuid for gpu in gpus if not gpu.fault and gpu.index not in closed})
        prohibited = (f"cuda:{index} prohibits computing (compute mode)" for index in closed)
        problems = "; ".join([*bad, *prohibited])
        told = warning if healthy else trouble
        return told(f"{problems}; {healthy} of {len(gpus)} GPUs usable", advice)
    if alone := sorted(index for index, mode in modes if mode in ONE_PROCESS):
        which = ", ".join(f"cuda:{index}" for index in alone)
        return warning(
            f"{which} allows one process at a time (compute mode): jobs cannot share the GPU",
            "an administrator can change the compute mode: nvidia-smi -c DEFAULT",
        )
    if odd := [f"{gpu.label}: {text}" for gpu in gpus for text in gpu.warnings]:
        return warning("; ".join(odd), "report it to the administrator of this machine")
    named = Counter(gpu.name for gpu in gpus)
    summary = ", ".join(f"{number} × {name}" for name, number in named.items())
    parts = sum(gpu.mig is not None for gpu in gpus)
    return ok(f"{summary} ({counted(parts, 'MIG instance')})" if parts else summary)


def judge_visible(gpus: Sequence[GpuSnapshot], visible: str | None, order: str | None) -> Finding:
    """Check which GPUs this shell shows to its jobs.

    Args:
        gpus: all of them.
        visible: CUDA_VISIBLE_DEVICES, None where it is not set.
        order: CUDA_DEVICE_ORDER, likewise.
    """
    if visible is None:
        summary = "CUDA_VISIBLE_DEVICES is not set: jobs may use every GPU"
        names = {gpu.name for gpu in gpus if gpu.mig is None}
        if len(names) > 1 and order != "PCI_BUS_ID":
            return ok(
                f"{summary}; programs outside the queue number these GPUs by speed",
                "for the same numbers everywhere: export CUDA_DEVICE_ORDER=PCI_BUS_ID",
            )
        return ok(summary)
    wanted = visible_devices({"CUDA_VISIBLE_DEVICES": visible}) or ()
    if not gpus:
        return ok(f"CUDA_VISIBLE_DEVICES={visible}, but there is no GPU")
    if not wanted or wanted[0] == "-1":
        return warning(
            "CUDA_VISIBLE_DEVICES hides every GPU from jobs queued in this shell",
            "unset CUDA_VISIBLE_DEVICES, unless it is intended",
        )
    lost = [word for word in wanted if not any(is_visible(gpu, (word,)) for gpu in gpus)]
    if lost:
        labels = ", ".join(gpu.label.removeprefix("cuda:") for gpu in gpus)
        return warning(
            f"CUDA_VISIBLE_DEVICES={visible} names GPUs that do not exist: {', '.join(lost)}",
            f"unset CUDA_VISIBLE_DEVICES, or choose from {labels}",
        )
    shown = ", ".join(gpu.label for gpu in gpus if is_visible(gpu, wanted))
    return ok(f"CUDA_VISIBLE_DEVICES={visible}: jobs from this shell use {shown}")


def judge_others(gpus: Sequence[GpuSnapshot], user: str) -> Finding | None:
    """Tell who else uses the GPUs."""
    if not gpus:
        return None
    taken: dict[str, Counter[str]] = {}  # who → label → bytes
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.user != user:
                labels = taken.setdefault(process.user or "an unknown user", Counter())
                labels[gpu.label] += process.used or 0
    if taken:
        usage = [
            f"{who} {f'{format_bytes(labels.total())} ' if labels.total() else ''}on {', '.join(labels)}"
            for who, labels in taken.items()
        ]
        idle = sum(gpu.processes == () for gpu in gpus)
        summary = f"{'; '.join(usage)}; {counted(idle, 'GPU')} unused"
        return ok(summary, "jobs avoid these GPUs; list the processes: launcher gpus")
    if blind := [gpu.label for gpu in gpus if gpu.processes is None and not gpu.fault]:
        return unknown(f"the driver does not report the processes on {', '.join(blind)}")
    return ok("no other user uses the GPUs now")


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as it is written."""
    return ".".join(map(str, version))


# --- disks


def see_results(mountinfo: str) -> Disk | None:
    """Return the disk of the folder of this shell, None if it was deleted."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    return see_disk(here, mountinfo)


def see_disk(path: Path, mountinfo: str) -> Disk:
    """Return how much room there is where a folder is, or will be."""
    real = without_links(path)
    there = next((folder for folder in (real, *real.parents) if os.access(folder, os.F_OK)), real)
    disk = Disk(path=str(path), kind=file_system(mountinfo, there))
    try:
        status = os.statvfs(there)
    except OSError:
        return disk
    return disk._replace(
        total=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        files=status.f_favail if status.f_files else None,
        writable=os.access(there, os.W_OK | os.X_OK),
    )


def judge_results(disk: Disk | None) -> Finding:
    """Check the disk of the shell's folder, where results are written; None: that was deleted."""
    if disk is None:
        return warning("the current folder was deleted", "change to an existing folder: cd")
    if not disk.writable:
        return warning(
            f"the current folder {disk.path} cannot be written", "change to a folder of your own"
        )
    return judge_room(disk, RESULTS_BYTES)


def judge_room(disk: Disk, least: tuple[int, int]) -> Finding:
    """Check the free space of a disk and, where the file system has a limit, its free files."""
    if disk.free is None or disk.total is None:
        return unknown(f"the free space in {disk.path} is unknown")
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    advice = "delete logs of old jobs (launcher clean --older 30d), then large files (du -sh *)"
    if disk.free < least[1]:
        return (trouble if disk.free < least[0] else warning)(summary, advice)
    if disk.files is not None and disk.files < FEW_FILES:
        return warning(f"{summary}, but only {disk.files:,} more files fit", advice)
    return ok(f"{summary} ({disk.kind}, network)" if is_remote(disk.kind) else summary)


def judge_shared(disk: Disk | None) -> Finding:
    """Check the memory that processes share, None where there is none."""
    if disk is None or disk.free is None or disk.total is None:
        return warning(
            "/dev/shm is missing, through which data loaders pass images to a training",
            "train with num_threads: 0, or mount /dev/shm",
        )
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    if disk.free >= SHARED_BYTES:
        return ok(summary)
    advice = (
        "start the container with more (docker run --shm-size 8g), or use fewer loaders"
        if disk.total < SHARED_BYTES
        else f"see what fills it: ls -l {disk.path}"
    )
    return warning(f"{summary}: data loaders may crash", advice)


# --- clock, cores and limits

_TITLES = {
    "NOFILE": "open files",
    "NPROC": "processes",
    "AS": "virtual memory",
    "DATA": "data memory",
    "FSIZE": "file size",
    "CPU": "CPU time",
}
_ALWAYS_SHOWN = frozenset({"NOFILE", "NPROC"})
_RESTART = "restart the scheduler from this shell: `launcher stop`, then `launcher start`"
_IN_BYTES = frozenset({"AS", "DATA", "FSIZE"})


def judge_clock(now: float, newest: float | None) -> Finding:
    """Check the time against what calendars and the queue know.

    Args:
        now: seconds since 1970.
        newest: when something last happened in the queue.
    """
    summary = moment(now)
    if not _OLDEST_YEAR <= datetime.fromtimestamp(now, UTC).year <= _LAST_YEAR:
        return trouble(f"the clock is wrong: {summary}", "set the clock: timedatectl set-ntp true")
    ahead_s = (newest or 0.0) - now
    if ahead_s > _SKEW_S:
        return warning(
            f"{summary}; the clock was set back, as the queue has an event {format_seconds(ahead_s)} later",
            "check the clock (timedatectl); times of jobs and pauses are wrong until then",
        )
    return ok(summary)


def judge_cores(machine: int, allowed: int, usable: int, environ: Mapping[str, str]) -> Finding:
    """Check how much of the processor jobs get.

    Args:
        machine: cores that it has.
        allowed: of these, by our affinity.
        usable: of these, by our cgroup's share of time.
        environ: may limit libraries.
    """
    why = []
    if allowed < machine:
        why.append(f"taskset or a cgroup allows {allowed}")
    if usable < allowed:
        why.append("a cgroup limits the CPU time")
    reasons = f": {', '.join(why)}" if why else ""
    summary = f"{usable} of {machine} usable{reasons}"
    if limits := [key for key in sorted(THREADS) if environ.get(key, "").strip()]:
        limited = ", ".join(f"{key}={environ[key]}" for key in limits)
        return warning(
            f"{summary}; {limited} is set in this shell and also limits its jobs",
            f"unset {' '.join(limits)}; launcher sets these variables to the cores of each job",
        )
    if usable < 2:
        return warning(
            f"{summary}: a training and its data loaders share it",
            "leave num_threads at 0, or use more cores (in a container: docker run --cpus)",
        )
    return ok(summary)


class ProcessLimits(NamedTuple):
    """Limits of a process and its niceness."""

    limits: Mapping[str, Limit]  # by name, such as NOFILE; those that are known
    niceness: int


def see_limits(pid: int) -> ProcessLimits | None:
    """Return the limits of a process, 0 for this one; None if they are unknown."""
    niceness = niceness_of(pid)
    if niceness is None:
        return None
    known = {name: limit for name in _TITLES if (limit := limit_of(name, pid)) is not None}
    return ProcessLimits(known, niceness)


def see_scheduler_limits(pid: int | None) -> ProcessLimits | None:
    """Return the limits of a scheduler; None if none is running, or they are unknown."""
    return see_limits(pid) if pid else None


def judge_job_limits(shell: ProcessLimits | None, scheduler: ProcessLimits | None) -> Findings:
    """Check the limits of jobs: those of this shell, as far as the running scheduler allows.

    Args:
        shell: the limits of this process; None if they are unknown.
        scheduler: those of the running scheduler; None: one would have the limits of this shell.
    """
    if shell is None:
        return {}
    findings: dict[str, Finding | None] = {}
    for name, judge in (("NOFILE", judge_open_files), ("NPROC", judge_processes)):
        limit = shell.limits[name]
        if name in _lowered(shell, scheduler) and scheduler is not None:
            hard = scheduler.limits[name].hard
            findings[_TITLES[name]] = judge(min_limit(limit.soft, hard), hard, advice=_RESTART)
        else:
            findings[_TITLES[name]] = judge(*limit)
    findings["scheduler limits"] = _judge_scheduler_limits(shell, scheduler)
    return findings


def _lowered(shell: ProcessLimits, scheduler: ProcessLimits | None) -> list[str]:
    """Return the limits that the scheduler cannot raise as far as this shell can."""
    if scheduler is None:
        return []
    return [
        name
        for name, limit in scheduler.limits.items()
        if limit.hard is not None
        and name in shell.limits
        and min_limit(limit.hard, shell.limits[name].hard) != shell.limits[name].hard
    ]


def _judge_scheduler_limits(
    shell: ProcessLimits, scheduler: ProcessLimits | None
) -> Finding | None:
    if scheduler is None:
        return None
    shown = [
        _limit_text(name, limit)
        for name, limit in scheduler.limits.items()
        if name in _ALWAYS_SHOWN or limit.hard is not None
    ]
    summary = ", ".join([*shown, f"niceness {scheduler.niceness}"])
    if lowered := _lowered(shell, scheduler):
        titles = ", ".join(_TITLES[name] for name in lowered)
        return warning(f"{summary}; lower than in this shell ({titles})", _RESTART)
    if scheduler.niceness > shell.niceness:
        return warning(
            f"{summary}; jobs run at this niceness, higher than that of this shell", _RESTART
        )
    return ok(summary)


def _limit_text(name: str, limit: Limit) -> str:
    soft, hard = (_amount(name, value) for value in limit)
    return f"{_TITLES[name]} {soft}" if soft == hard else f"{_TITLES[name]} {soft} (at most {hard})"


def _amount(name: str, value: int | None) -> str:
    if value is None:
        return "unlimited"
    if name == "CPU":
        return format_seconds(value)
    return format_bytes(value) if name in _IN_BYTES else f"{value:,}"


def judge_open_files(soft: int | None, hard: int | None, advice: str = "") -> Finding:
    """Check a limit of jobs from this shell.

    Args:
        soft: the limit; None: unlimited.
        hard: to what it can be raised; None: to any number.
        advice: how to raise it; '': in the shell.
    """
    if soft is None or soft >= FEW_OPEN_FILES:
        return ok("no limit" if soft is None else f"at most {soft:,} per process")
    more = "any number" if hard is None else f"{hard:,}"
    most = f" (can be raised to {more})" if hard is None or hard > soft else ""
    wanted = FEW_OPEN_FILES * 4 if hard is None else min(hard, FEW_OPEN_FILES * 4)
    way = advice or f"run `ulimit -n {wanted}` in this shell before you queue jobs"
    if not advice and hard is not None and hard < FEW_OPEN_FILES:
        way = "ask an administrator to raise nofile in /etc/security/limits.conf"
    return warning(f"at most {soft:,} per process{most}: data loaders need more", way)


def judge_processes(soft: int | None, hard: int | None, advice: str = "") -> Finding:
    """Check a limit of jobs from this shell.

    Args:
        soft: the limit; None: unlimited.
        hard: to what it can be raised; None: to any number.
        advice: how to raise it; '': in the shell.
    """
    if soft is None:
        return ok("no limit")
    summary = f"at most {soft:,} per user, including threads"
    if soft >= FEW_PROCESSES:
        return ok(summary)
    way = advice or f"run `ulimit -u {hard or 'unlimited'}` in this shell before you queue jobs"
    if not advice and hard is not None and hard < FEW_PROCESSES:
        way = "ask an administrator to raise nproc in /etc/security/limits.conf"
    return warning(f"{summary}: a training needs hundreds", way)


# --- the terminal


def judge_terminal(term: str, *, unicode: bool) -> Finding:
    """Check what screens can be drawn with."""
    kind = term or "not set"
    if kind == "dumb":
        return warning(
            "TERM is dumb: screens are drawn with ASCII characters, and `launcher top` does not work",
            "export TERM=xterm-256color, unless the terminal does not support it",
        )
    if unicode:
        return ok(f"TERM is {kind}; screens are drawn in Unicode")
    return warning(
        f"TERM is {kind}, and the locale is ASCII: screens are drawn with ASCII characters",
        "export LC_ALL=C.UTF-8, unless the terminal does not support it",
    )
