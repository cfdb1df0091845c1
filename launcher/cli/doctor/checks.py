"""The checks of `launcher doctor`: each judges what was read, and says in a line what it finds and what to do.

`check` is the list of them, in an order that tells causes before effects.
"""

import contextlib
import os
import platform
import resource
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from launcher import __version__
from launcher.backends.pilot_records import backend_folder
from launcher.backends.pilots_file import seen_pilots
from launcher.backends.settings import Backends, BackendSettings, configured_backends
from launcher.cli.doctor.facts import (
    SYSTEMD,
    Disk,
    Driver,
    Logout,
    Queue,
    Torch,
    ask_driver,
    limits,
    see_claims,
    see_disk,
    see_logout,
    see_queue,
    see_results,
    see_unsent,
    torch_here,
    try_torch,
)
from launcher.errors import UsageError, counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.notify.sending import send_now
from launcher.notify.settings import NotifySettings, Target, configured_notify
from launcher.scheduler.policy.gpu_slot import is_visible
from launcher.screens.format import harmless, moment
from launcher.store.opening import KNOWN_SCHEMA, OLDEST_SQLITE, Look
from launcher.store.rows import visible_devices
from launcher.system import cgroups
from launcher.system.config import Configuration, configuration_file
from launcher.system.environment import owners_environment
from launcher.system.files import Json
from launcher.system.home_checks import file_system, is_remote, mounts, without_links
from launcher.system.paths import Home
from launcher.system.processes import answer, cores, login
from launcher.units import format_bytes, format_seconds
from launcher.workers.worker import THREADS

Part = TypeVar("Part")  # of what the user's file says
GIB = 1 << 30
# free bytes: below the first number nothing works, below the second it soon will not
HOME_BYTES = (256 << 20, 2 * GIB)  # records of jobs and their logs
RESULTS_BYTES = (1 * GIB, 10 * GIB)  # a checkpoint of a large model has gigabytes
FEW_FILES = 10_000  # an experiment makes thousands
SHARED_BYTES = 1 * GIB  # a loader passes batches through it; a container has 64 MiB
FEW_OPEN_FILES = 4096  # loaders open one for each tensor that they pass on
FEW_PROCESSES = 1024  # threads count, too: a training has hundreds
_OLDEST_YEAR, _LAST_YEAR = 2025, 2100
_SKEW_S = 60.0  # what another clock may be ahead without harm
# NVML's compute modes in which a card is not shared as usual
_PROHIBITED, _EXCLUSIVE = 2, {1, 3}
_PICK = "https://pytorch.org/get-started/locally tells the command"
_NAMED = 8  # partitions that a line names
SLURM = ("sbatch", "squeue", "scancel", "sinfo")
ENGINE_S = 5.0  # for an engine's program to answer
LOOK_S = 15.0  # to import apprise on a busy machine
_OTHERS = 0o077
_RAY = "import importlib.metadata as packages; print('ray', packages.version('ray'))"
_NO_HOME = "the home is not to be used, see above"


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


def check(
    environ: Mapping[str, str],
    read: Callable[[], Configuration],
    *,
    unicode: bool,
    deep: bool = False,
) -> tuple[Finding, ...]:
    """Look at this machine, this shell and its queue, and return a finding of each thing that matters here.

    Nothing is changed or sent, no pilot is submitted, and nothing is waited for long.

    Args:
        environ: the shell's environment.
        read: reads the user's file; its options of verbs are not known here.
        unicode: the terminal knows more characters than ASCII.
        deep: also let torch compute on a GPU, in a process of its own.
    """
    now, mountinfo, user = time.time(), mounts(), login(os.geteuid())
    home, queue = see_queue(environ, mountinfo, now)
    found = {
        **_check_gpus(environ, user, deep=deep),
        **_check_places(environ, read, home, queue, mountinfo),
        "clock": judge_clock(now, queue.look and queue.look.newest),
        "cores": judge_cores(os.cpu_count() or 1, len(os.sched_getaffinity(0)), cores(), environ),
        "open files": judge_open_files(*limits(resource.RLIMIT_NOFILE)),
        "processes": judge_processes(*limits(resource.RLIMIT_NPROC)),
        "logout": judge_logout(see_logout(user, environ)),
        # supervisors live where their scheduler does, which may be a service of systemd's
        "leftovers": judge_leftovers(
            cgroups.hindrance(queue.scheduler or "self"), service=Path("/", SYSTEMD).is_dir()
        ),
        "scheduler": judge_scheduler(queue),
        "queue": judge_queue(queue),
        "SQLite": judge_sqlite(sqlite3.sqlite_version_info, platform.python_version()),
        "terminal": judge_terminal(environ.get("TERM", ""), unicode=unicode),
    }
    return tuple(finding._replace(name=name) for name, finding in found.items() if finding)


def _check_gpus(environ: Mapping[str, str], user: str, *, deep: bool) -> Findings:
    driver, torch = ask_driver(), torch_here()
    if deep and torch.version is not None and driver.gpus:
        torch = try_torch(torch)
    visible = owners_environment(environ).get("CUDA_VISIBLE_DEVICES")
    return {
        "driver": judge_driver(driver),
        "CUDA": judge_cuda(torch, driver),
        "GPUs": judge_gpus(driver.gpus),
        "visible GPUs": judge_visible(driver.gpus, visible, environ.get("CUDA_DEVICE_ORDER")),
        "other users": judge_others(driver.gpus, user),
    }


def _check_places(
    environ: Mapping[str, str],
    read: Callable[[], Configuration],
    home: Home | None,
    queue: Queue,
    mountinfo: str,
) -> Findings:
    # of a file with faults nothing else is told: those are a finding of their own
    faults: list[str] = []
    configuration = _without(faults, read)
    backends = _without(faults, partial(configured_backends, environ))
    messages = _without(faults, partial(configured_notify, environ))
    disk = None if home is None else see_disk(home.folder, mountinfo)
    shm = Path("/dev/shm")
    return {
        "configuration": judge_configuration(faults, configuration),
        "home": judge_home(queue, disk),
        "home's disk": None if disk is None else judge_room(disk, HOME_BYTES),
        "results' disk": judge_results(see_results(mountinfo)),
        "shared memory": judge_shared(see_disk(shm, mountinfo) if shm.is_dir() else None),
        **judge_backends(backends, environ, home, mountinfo),
        **judge_targets(messages, environ),
        "messages": judge_unsent(see_unsent(home)),
        "promises": judge_promises(*see_claims(environ, home)),
    }


def _without(faults: list[str], read: Callable[[], Part]) -> Part | None:
    """Return what is read of the user's file, None where it is wrong; then what is wrong is added to the faults."""
    try:
        return read()
    except UsageError as error:
        faults.append(" ".join(str(error).split()))
        return None


# --- GPUs


def judge_driver(driver: Driver) -> Finding:
    """Check whether programs can ask NVIDIA's driver, and whether it lists GPUs."""
    if driver.silent:
        return trouble(
            f"the driver does not answer: {driver.silent}",
            "nvidia-smi and the kernel's log (dmesg) may say why; it may need a reboot",
        )
    if "reboot" in driver.absent:
        return trouble(driver.absent, "reboot, or load the new driver's kernel module")
    if driver.absent and driver.loaded:
        return warning(
            f"the kernel has NVIDIA's driver, and programs cannot ask it: {driver.absent}",
            "in a container, start it with its GPUs (docker run --gpus all); else install the "
            "driver's libraries",
        )
    if driver.absent and driver.cards:
        return warning(
            f"{counted(driver.cards, 'NVIDIA card')} plugged in, and not used: {driver.absent}",
            "install NVIDIA's driver, and reboot",
        )
    if driver.absent:
        return unknown(f"no GPUs: {driver.absent}; jobs run on the CPU")
    summary = f"NVIDIA's driver {driver.version}" if driver.version else "NVIDIA's driver answers"
    if driver.cuda:
        summary += f", runs CUDA up to {_dotted(driver.cuda)}"
    if driver.gpus:
        return ok(summary)
    return warning(
        f"{summary}, and lists no GPU; jobs run on the CPU",
        "in a container, start it with its GPUs (docker run --gpus all); else see nvidia-smi",
    )


def judge_cuda(torch: Torch, driver: Driver) -> Finding:
    """Check whether the driver runs the CUDA for which torch was built."""
    if torch.version is None:
        summary = "torch is not installed in the Python of this command"
        advice = "install it where your jobs run: pip install torch torchvision"
        return warning(summary, advice) if driver.gpus else unknown(summary)
    name = f"torch {torch.version}"
    if torch.works is False:
        return trouble(f"{name} cannot compute on a GPU: {torch.tried}", f"mend that; {_PICK}")
    if torch.cuda is None:
        summary = f"{name} is made {f'for {torch.other}' if torch.other else 'for the CPU only'}"
        if not driver.gpus:
            return ok(summary)
        advice = f"install a torch that is made for CUDA; {_PICK}"
        return warning(f"{summary}: jobs cannot use NVIDIA's GPUs", advice)
    summary = f"{name} is made for CUDA {torch.cuda}"
    if not driver.gpus:
        return ok(f"{summary}; without GPUs it computes on the CPU")
    major = torch.cuda.partition(".")[0]
    if driver.cuda is None or not major.isdigit():
        return unknown(f"{summary}; the driver does not tell which CUDA it runs")
    if int(major) > driver.cuda[0]:
        return trouble(
            f"{summary}, and the driver runs CUDA up to {_dotted(driver.cuda)}",
            f"update the driver, or install a torch made for CUDA {driver.cuda[0]}; {_PICK}",
        )
    tried = f"; {torch.tried}" if torch.works else ""
    # CUDA 11 and later: a driver runs every program of its own major version
    return ok(f"{summary}, which the driver runs{tried}")


def judge_gpus(gpus: Sequence[GpuSnapshot]) -> Finding | None:
    """Check whether jobs may start on the cards, and share them; without any there is nothing to tell."""
    if not gpus:
        return None
    bad = [f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault]
    modes = {(gpu.index, gpu.compute_mode) for gpu in gpus if not gpu.fault}
    closed = sorted(index for index, mode in modes if mode == _PROHIBITED)
    if bad or closed:
        advice = "nothing starts there; " + (
            "dmesg tells more, and a reset or reboot may help"
            if bad
            else "an administrator can allow it: nvidia-smi -c DEFAULT"
        )
        healthy = len({gpu.uuid for gpu in gpus if not gpu.fault and gpu.index not in closed})
        problems = "; ".join([*bad, *(f"cuda:{index} lets nobody compute" for index in closed)])
        told = warning if healthy else trouble
        return told(f"{problems}; {healthy} of {len(gpus)} can be used", advice)
    if alone := sorted(index for index, mode in modes if mode in _EXCLUSIVE):
        which = ", ".join(f"cuda:{index}" for index in alone)
        return warning(
            f"{which} takes one process at a time (exclusive): jobs cannot share it",
            "an administrator can let them: nvidia-smi -c DEFAULT",
        )
    if odd := [f"{gpu.label}: {text}" for gpu in gpus for text in gpu.warnings]:
        return warning("; ".join(odd), "tell it to who looks after the machine")
    named = Counter(gpu.name for gpu in gpus)
    summary = ", ".join(f"{number} × {name}" for name, number in named.items())
    parts = sum(gpu.mig is not None for gpu in gpus)
    return ok(f"{summary} ({parts} of them parts of divided cards (MIG))" if parts else summary)


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
                f"{summary}; programs outside of the queue number these cards by their speed",
                "for the same numbers everywhere: export CUDA_DEVICE_ORDER=PCI_BUS_ID",
            )
        return ok(summary)
    wanted = visible_devices({"CUDA_VISIBLE_DEVICES": visible}) or ()
    if not gpus:
        return ok(f"CUDA_VISIBLE_DEVICES={visible}, and there is no GPU")
    if not wanted or wanted[0] == "-1":
        return warning(
            "CUDA_VISIBLE_DEVICES hides every GPU from jobs that are queued from this shell",
            "unset CUDA_VISIBLE_DEVICES, unless that is what you want",
        )
    lost = [word for word in wanted if not any(is_visible(gpu, (word,)) for gpu in gpus)]
    if lost:
        labels = ", ".join(gpu.label.removeprefix("cuda:") for gpu in gpus)
        return warning(
            f"CUDA_VISIBLE_DEVICES={visible} names what is not there: {', '.join(lost)}",
            f"unset it, or name some of: {labels}",
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
                labels = taken.setdefault(process.user or "somebody", Counter())
                labels[gpu.label] += process.used or 0
    if taken:
        usage = [
            f"{who} {f'{format_bytes(labels.total())} ' if labels.total() else ''}on {', '.join(labels)}"
            for who, labels in taken.items()
        ]
        idle = sum(gpu.processes == () for gpu in gpus)
        summary = f"{'; '.join(usage)}; {counted(idle, 'GPU')} without anybody"
        return ok(summary, "`launcher gpus` shows every process; jobs keep clear of them")
    if blind := [gpu.label for gpu in gpus if gpu.processes is None and not gpu.fault]:
        return unknown(f"the driver does not tell who uses {', '.join(blind)}")
    return ok("nobody else uses the GPUs now")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --- configuration, home and disks


def judge_configuration(faults: Sequence[str], configuration: Configuration | None) -> Finding:
    """Check the user's file, None where it could not be read."""
    if faults:
        advice = "mend the file: verbs that read it refuse to run; then see `launcher config`"
        return trouble("; ".join(dict.fromkeys(faults)), advice)
    if configuration is None or not configuration.exists:
        return ok("no file; every default holds")
    return ok(str(configuration.file))


def judge_home(queue: Queue, disk: Disk | None) -> Finding:
    """Check whether the queue's home can be used, on whichever disk it is or will be."""
    if queue.problem:
        return trouble(queue.problem, "mend that, or set LAUNCHER_HOME to another folder")
    if queue.network:
        return warning(
            queue.network.partition(":")[0],
            "use it from this machine only, or set LAUNCHER_HOME to a folder on a local disk",
        )
    if disk is not None and not disk.writable:
        return trouble(
            f"{queue.home} cannot be written",
            "mend its rights, or set LAUNCHER_HOME to a folder that you can write",
        )
    kind = f" ({disk.kind})" if disk is not None and disk.kind else ""
    if not queue.exists:
        return ok(f"no queue yet; it will be in {queue.home}{kind}")
    return ok(f"{queue.home}, on a local file system{kind}")


def judge_results(disk: Disk | None) -> Finding:
    """Check the disk of the shell's folder, where results are written; None: that was deleted."""
    if disk is None:
        return warning("this shell's folder was deleted", "go to a folder that is there: cd")
    if not disk.writable:
        return warning(f"{disk.path} cannot be written", "go to a folder of your own")
    return judge_room(disk, RESULTS_BYTES)


def judge_room(disk: Disk, least: tuple[int, int]) -> Finding:
    """Check the free space of a disk and, where the file system has a limit, its free files."""
    if disk.free is None or disk.total is None:
        return unknown(f"the free space in {disk.path} is unknown")
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    advice = "`launcher clean` deletes what ended attempts left; then see `du -sh *`"
    if disk.free < least[1]:
        return (trouble if disk.free < least[0] else warning)(summary, advice)
    if disk.files is not None and disk.files < FEW_FILES:
        return warning(f"{summary}, but room for {disk.files:,} more files only", advice)
    return ok(f"{summary} ({disk.kind}, over the network)" if is_remote(disk.kind) else summary)


def judge_shared(disk: Disk | None) -> Finding:
    """Check the memory that processes share, None where there is none."""
    if disk is None or disk.free is None or disk.total is None:
        return warning(
            "there is no /dev/shm, through which loaders pass images to a training",
            "train with num_threads: 0, or have /dev/shm mounted",
        )
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    if disk.free >= SHARED_BYTES:
        return ok(summary)
    advice = (
        "start the container with more (docker run --shm-size 8g), or use few loaders"
        if disk.total < SHARED_BYTES
        else f"see who fills it: ls -l {disk.path}"
    )
    return warning(f"{summary}: loaders of images may die there", advice)


# --- backends, and targets of messages


def judge_backends(
    backends: Backends | None, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Findings:
    """Check of each backend whether its engine can be asked, and whether nodes see what they need."""
    judge = partial(_backend, environ=environ, home=home, mountinfo=mountinfo)
    named = {} if backends is None else backends.by_name
    with ThreadPoolExecutor(max_workers=8) as threads:  # each may wait for its engine
        found = threads.map(judge, named.values())
        return {f"backend {name}": finding for name, finding in zip(named, found, strict=True)}


def _backend(
    settings: BackendSettings, *, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Finding:
    engine = ok("pilots are processes of this machine")
    if settings.kind == "slurm":
        engine = _slurm(settings, environ)
    elif settings.kind == "ray":
        engine = _ray(settings)
    if engine.verdict is not Verdict.OK or home is None:
        return engine
    for row in seen_pilots(home).backends:
        if row.name == settings.name and row.failures:
            return warning(
                row.reason,
                "`launcher status` has the last lines of their log; mend that, or change the table: then it is tried at once",
            )
    if settings.kind == "local":
        return engine
    folder = backend_folder(settings, home, Path(environ.get("HOME") or "/"), mountinfo)
    kind = file_system(mountinfo, without_links(folder))
    if is_remote(kind):
        return ok(f"{engine.summary}; pilots in {folder} ({kind})")
    return warning(
        f"{engine.summary}; but {folder} lies on a local disk ({kind or 'of unknown type'}), which other machines do not see",
        f"name a shared folder: `folder` in [backends.{settings.name}]; on a cluster of this machine alone it is well",
    )


def _slurm(settings: BackendSettings, environ: Mapping[str, str]) -> Finding:
    path, partition = environ.get("PATH"), settings.partition
    if missing := [name for name in SLURM if shutil.which(name, path=path) is None]:
        return trouble(
            f"not in PATH: {', '.join(missing)}",
            "install Slurm's client programs on this host (Debian: slurm-client), or run launcher on "
            "a login node of the cluster",
        )
    printed = answer(("sinfo", "--noheader", "--format=%R"), ENGINE_S)
    there = tuple(dict.fromkeys(line.strip() for line in printed.splitlines() if line.strip()))
    if not there or any(" " in word for word in there):  # a complaint, in words
        return trouble(
            f"Slurm does not answer: {' '.join(printed.split()) or 'it printed nothing'}",
            "`sinfo` in this shell must list the partitions; SLURM_CONF names another configuration",
        )
    if partition and partition not in there:
        return trouble(
            f"Slurm has no partition {partition!r}; it has {', '.join(there[:_NAMED])}",
            f"correct `partition` in [backends.{settings.name}] of config.toml",
        )
    where = f"partition {partition}" if partition else counted(len(there), "partition")
    return ok(f"Slurm answers, {where}")


def _ray(settings: BackendSettings) -> Finding:
    python, table = settings.python or sys.executable, f"[backends.{settings.name}]"
    if not Path(python).is_file():  # the nodes may have it all the same
        return unknown(
            "its interpreter is not on this host, which must join the cluster with it",
            f"name one with ray in it: `python` in {table}",
        )
    printed = answer((python, "-c", _RAY), ENGINE_S).strip()
    name, _, version = printed.rpartition(" ")
    if name == "ray":
        return ok(f"ray {version} in {python}")
    complaint = printed.splitlines()[-1] if printed else "it printed nothing"
    return trouble(
        f"{python} has no ray: {complaint}",
        f"pip install 'launcher-trueface[ray]' there, or name another `python` in {table}",
    )


def judge_targets(messages: NotifySettings | None, environ: Mapping[str, str]) -> Findings:
    """Check of each target of messages whether it can be used."""
    exposed = False
    with contextlib.suppress(OSError, UsageError):
        exposed = bool(configuration_file(environ).stat().st_mode & _OTHERS)
    judge = partial(_target, environ=environ, exposed=exposed)
    targets = () if messages is None else messages.targets
    with ThreadPoolExecutor(max_workers=4) as threads:
        found = threads.map(judge, targets)
        return {
            f"notify {target.name}": finding for target, finding in zip(targets, found, strict=True)
        }


def _target(target: Target, *, environ: Mapping[str, str], exposed: bool) -> Finding:
    table = f"[notify.{target.name}]"
    if target.command:
        program = os.path.expanduser(target.command[0])  # noqa: PTH111  # of a word of a command
        found = shutil.which(program, path=environ.get("PATH"))
        problem = "" if found else f"{target.command[0]} is not in PATH, or is no program"
    else:
        sent = send_now(target._replace(timeout_s=LOOK_S), None, environ)
        problem = "" if sent.sent else sent.text
    if problem:
        return trouble(problem, f"mend {table} of config.toml, or what it names")
    if exposed and target.url:
        return warning(
            "other users may read config.toml, where its address stands",
            f"chmod 600 the file, or name a file of mode 600 with url_file in {table}",
        )
    return ok("can be used; `launcher notify --test` sends a message")


def judge_unsent(unsent: Sequence[str]) -> Finding | None:
    """Tell of messages that were given up."""
    if not unsent:
        return None
    return warning(
        f"{counted(len(unsent), 'message')} not sent, the last: {unsent[-1]}",
        "`launcher notify` lists them; `launcher notify --test` tries every target now",
    )


def judge_promises(claims: str, problem: str) -> Finding:
    """Check whether schedulers can tell each other what they promised.

    Args:
        claims: the folder where they do, empty where none can be named.
        problem: what hinders that.
    """
    if problem:
        return warning(
            f"other launchers cannot know ours: {problem}",
            f"have {claims or 'the folder'} mended, or set LAUNCHER_CLAIMS for all users",
        )
    return ok(f"schedulers tell each other in {claims} what they promised")


# --- clock, cores and limits


def judge_clock(now: float, newest: float | None) -> Finding:
    """Check the time against what calendars and the queue know.

    Args:
        now: seconds since 1970.
        newest: when something last happened in the queue.
    """
    summary = moment(now)
    if not _OLDEST_YEAR <= datetime.fromtimestamp(now, UTC).year <= _LAST_YEAR:
        return trouble(f"it is not {summary}", "set the clock: timedatectl set-ntp true")
    ahead_s = (newest or 0.0) - now
    if ahead_s > _SKEW_S:
        return warning(
            f"{summary}; the queue saw something {format_seconds(ahead_s)} later: it was set back",
            "check it (timedatectl); times of jobs and pauses are wrong until then",
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
        why.append(f"this shell may use {allowed} (taskset, or a cgroup)")
    if usable < allowed:
        why.append("the cgroup limits their time")
    reasons = f": {', '.join(why)}" if why else ""
    summary = f"{usable} of {machine} can be used{reasons}"
    if limits := [key for key in sorted(THREADS) if environ.get(key, "").strip()]:
        limited = ", ".join(f"{key}={environ[key]}" for key in limits)
        return warning(
            f"{summary}; {limited} is set in this shell and holds for its jobs, whatever cores they get",
            f"unset {' '.join(limits)}: each job gets its number of cores in these variables",
        )
    if usable < 2:
        return warning(
            f"{summary}: a training and whatever loads its images share it",
            "leave num_threads at 0, or get more cores (in a container: docker run --cpus)",
        )
    return ok(summary)


def judge_open_files(soft: int | None, hard: int | None) -> Finding:
    """Check a limit of this shell that jobs inherit, and to what it can be raised; None: there is none."""
    if soft is None or soft >= FEW_OPEN_FILES:
        return ok("no limit" if soft is None else f"at most {soft:,} for each process")
    more = "any number" if hard is None else f"{hard:,}"
    most = f" (can be raised to {more})" if hard is None or hard > soft else ""
    wanted = FEW_OPEN_FILES * 4 if hard is None else min(hard, FEW_OPEN_FILES * 4)
    advice = f"ulimit -n {wanted} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_OPEN_FILES:
        advice = "have an administrator raise nofile in /etc/security/limits.conf"
    return warning(f"at most {soft:,} for each process{most}: loaders need more", advice)


def judge_processes(soft: int | None, hard: int | None) -> Finding:
    """Check a limit of this shell that jobs inherit, and to what it can be raised; None: there is none."""
    if soft is None:
        return ok("no limit")
    summary = f"at most {soft:,} of one user, threads among them"
    if soft >= FEW_PROCESSES:
        return ok(summary)
    advice = f"ulimit -u {hard or 'unlimited'} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_PROCESSES:
        advice = "have an administrator raise nproc in /etc/security/limits.conf"
    return warning(f"{summary}: a training has hundreds", advice)


def judge_logout(logout: Logout) -> Finding:
    """Check whether jobs run on when their owner logs out."""
    runs_on = "jobs run on when you log out"
    if not logout.systemd:
        return ok(f"{runs_on} (no systemd here)")
    service = "; the scheduler is a service" if logout.service else ""
    if logout.lingers:
        return ok(f"{runs_on} (you linger){service}")
    advice = "loginctl enable-linger, once"
    if logout.kills:
        return warning(f"systemd ends your processes when you log out{service}", advice)
    if logout.service:
        return warning("the scheduler is a service, and ends when you log out", advice)
    if logout.kills is None:
        return unknown("systemd does not tell whether it ends processes at logout", advice)
    return ok(runs_on)


def judge_leftovers(hindrance: str, *, service: bool) -> Finding:
    """Tell whether a daemon of a job may outlive it.

    Args:
        hindrance: why supervisors can have no control groups of their own, empty where they can.
        service: a systemd could give one to the scheduler as its service.
    """
    if not hindrance:
        return ok("each supervisor has a control group: nothing that a job starts outlives it")
    return ok(
        f"a daemon of a job may outlive it where its supervisor is killed: no control groups ({hindrance})",
        "`launcher service install`: systemd lets the scheduler divide the group of its service"
        if service
        else "have a writable cgroup2 file system mounted (for a container: with its own cgroup)",
    )


# --- the queue, and what shows it


def judge_scheduler(queue: Queue) -> Finding:
    """Check whether a scheduler lives where one is needed, of which version, and how well."""
    if queue.problem:
        return unknown(f"not looked for: {_NO_HOME}")
    if queue.restarts:
        return warning(
            f"it died and was restarted {counted(queue.restarts, 'time')} in the last minutes",
            f"its log says why: {queue.home}/scheduler.log",
        )
    if queue.scheduler is None:
        if queue.look and queue.look.waiting and not queue.stopped:
            summary = f"none lives, and {counted(queue.look.waiting, 'job')} wait or should run"
            return warning(summary, "`launcher start` starts one")
        return ok("none lives, and none is needed")
    if queue.version is not None and queue.version != __version__:
        return warning(
            f"pid {queue.scheduler} is version {queue.version}, this command {__version__}",
            "the next `launcher run` or `launcher add` replaces it; jobs run on meanwhile",
        )
    return ok(f"lives, pid {queue.scheduler}, version {queue.version or __version__}")


def judge_queue(queue: Queue) -> Finding:
    """Check whether the queue's database can be read, and whether what waits in it is explained."""
    if queue.problem:
        return unknown(f"not looked at: {_NO_HOME}")
    if queue.damaged:
        summary = "its database was found damaged and is kept aside"
        return trouble(summary, "`launcher status` says how to go on")
    look = queue.look or Look()
    if look.damaged:
        return trouble(
            f"its database in {queue.home} looks damaged",
            "`launcher status` looks again, and says how to go on",
        )
    if look.schema > KNOWN_SCHEMA:
        return trouble(
            f"a newer launcher wrote it (shape {look.schema}, this one knows {KNOWN_SCHEMA})",
            "update launcher, or set LAUNCHER_HOME to another folder",
        )
    if queue.exists and queue.look is None:
        return unknown("its database cannot be read now", "try again; another may be writing")
    if queue.stopped:
        advice = "`launcher run`, `launcher add` or `launcher retry` goes on"
        return warning("it is stopped: nothing starts", advice)
    if not queue.exists:
        return ok("there is none yet; `launcher run TASKFILE` or `launcher add` begins one")
    if look.unexplained and queue.scheduler is not None:
        more = len(look.unexplained) - 1
        others = f" (and {counted(more, 'other job')} likewise)" if more else ""
        return warning(
            f"{look.unexplained[0]}{others}",
            f"`launcher show` says more; what the scheduler saw is in {queue.home}/scheduler.log",
        )
    verbs = "waits or runs" if look.waiting == 1 else "wait or run"
    return ok(f"{counted(look.waiting, 'job')} {verbs}")


def judge_sqlite(have: tuple[int, int, int], python: str) -> Finding:
    """Check whether Python has the SQLite that the queue needs."""
    if have < OLDEST_SQLITE:
        summary = f"this Python has {_dotted(have)}, {_dotted(OLDEST_SQLITE)} is needed"
        return trouble(summary, "use a newer build of Python")
    return ok(f"{_dotted(have)}, with Python {python}")


def judge_terminal(term: str, *, unicode: bool) -> Finding:
    """Check what screens can be drawn with."""
    kind = term or "not told"
    if kind == "dumb":
        return warning(
            "TERM is dumb: screens are drawn with plain characters, and top not at all",
            "export TERM=xterm-256color, unless the terminal cannot do more",
        )
    if unicode:
        return ok(f"TERM is {kind}; screens are drawn in Unicode")
    return warning(
        f"TERM is {kind}, the locale knows ASCII only: screens are drawn with plain characters",
        "export LC_ALL=C.UTF-8, unless the terminal cannot do more",
    )
