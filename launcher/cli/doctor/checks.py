"""The checks of `launcher doctor`: each judges facts, and says in a line what it finds and what to do.

They stand in an order that tells causes before effects. Nothing is asked here: all of it is in the facts.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from launcher.cli.doctor.facts import Disk, Engine, Facts, NotifyTarget
from launcher.errors import counted
from launcher.scheduler.policy.gpu_slot import is_visible
from launcher.screens.format import harmless, moment
from launcher.store.rows import visible_devices
from launcher.system.files import Json
from launcher.system.home_checks import is_remote
from launcher.units import format_bytes, format_seconds

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


# it is in order; it may cause trouble; jobs cannot run well until it is repaired; it cannot be told, or does not matter
ok, warning, trouble, unknown = (partial(Finding, verdict) for verdict in Verdict)


def check(facts: Facts) -> tuple[Finding, ...]:
    """Return everything that was looked at."""
    found = [
        *((name, judged(facts)) for name, judged in CAUSES.items()),
        *((f"backend {engine.name}", _backend(engine)) for engine in facts.engines),
        *((f"notify {target.name}", _target(target)) for target in facts.targets),
        *((name, judged(facts)) for name, judged in EFFECTS.items()),
    ]
    return tuple(finding._replace(name=name) for name, finding in found if finding)


# --- GPUs


def _driver(facts: Facts) -> Finding:
    driver = facts.driver
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


def _cuda(facts: Facts) -> Finding:
    driver, torch = facts.driver, facts.torch
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


def _cards(facts: Facts) -> Finding | None:
    gpus, modes = facts.driver.gpus, facts.driver.modes
    if not gpus:
        return None
    bad = [f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault]
    closed = sorted({gpu.index for gpu in gpus if modes.get(gpu.index) == _PROHIBITED})
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
    if alone := sorted({gpu.index for gpu in gpus if modes.get(gpu.index) in _EXCLUSIVE}):
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


def _visible(facts: Facts) -> Finding:
    gpus, visible = facts.driver.gpus, facts.visible
    if visible is None:
        summary = "CUDA_VISIBLE_DEVICES is not set: jobs may use every GPU"
        names = {gpu.name for gpu in gpus if gpu.mig is None}
        if len(names) > 1 and facts.order != "PCI_BUS_ID":
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


def _others(facts: Facts) -> Finding | None:
    gpus = facts.driver.gpus
    if not gpus:
        return None
    taken: dict[str, Counter[str]] = {}  # who → label → bytes
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.user != facts.user:
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


def _configuration(facts: Facts) -> Finding:
    if facts.faults:
        advice = "mend the file: verbs that read it refuse to run; then see `launcher config`"
        return trouble(facts.faults, advice)
    return ok(facts.configuration or "no file; every default holds")


def _home(facts: Facts) -> Finding:
    queue, disk = facts.queue, facts.home
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


def _home_disk(facts: Facts) -> Finding | None:
    return None if facts.home is None else _room(facts.home, HOME_BYTES)


def _results_disk(facts: Facts) -> Finding:
    """Check the disk of the shell's folder, where results are written."""
    disk = facts.results
    if disk is None:
        return warning("this shell's folder was deleted", "go to a folder that is there: cd")
    if not disk.writable:
        return warning(f"{disk.path} cannot be written", "go to a folder of your own")
    return _room(disk, RESULTS_BYTES)


def _room(disk: Disk, least: tuple[int, int]) -> Finding:
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


def _shared_memory(facts: Facts) -> Finding:
    disk = facts.shared
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


def _backend(engine: Engine) -> Finding:
    """Check whether an engine can be asked, and whether nodes see what they need."""
    judged = {"slurm": _slurm, "ray": _ray}.get(engine.kind)
    if judged and (wrong := judged(engine)):
        return wrong
    if engine.failures:
        return warning(
            engine.reason,
            "`launcher status` has the last lines of their log; mend that, or change the table: then it is tried at once",
        )
    summary = _engine(engine)
    if engine.kind == "local" or engine.shared or not engine.folder:
        return ok(summary)
    kind = engine.file_system or "of unknown type"
    return warning(
        f"{summary}; but {engine.folder} lies on a local disk ({kind}), which other machines do not see",
        f"name a shared folder: `folder` in {engine.table}; on a cluster of this machine alone it is well",
    )


def _slurm(engine: Engine) -> Finding | None:
    if engine.missing:
        return trouble(
            f"not in PATH: {', '.join(engine.missing)}",
            "install Slurm's client programs on this host (Debian: slurm-client), or run launcher on "
            "a login node of the cluster",
        )
    if not engine.answers:
        return trouble(
            f"Slurm does not answer: {engine.complaint or 'it printed nothing'}",
            "`sinfo` in this shell must list the partitions; SLURM_CONF names another configuration",
        )
    if engine.partition and engine.partition not in engine.partitions:
        there = ", ".join(engine.partitions[:_NAMED])
        return trouble(
            f"Slurm has no partition {engine.partition!r}; it has {there}",
            f"correct `partition` in {engine.table} of config.toml",
        )
    return None


def _ray(engine: Engine) -> Finding | None:
    if not engine.python:
        return unknown(
            "its interpreter is not on this host, which must join the cluster with it",
            f"name one with ray in it: `python` in {engine.table}",
        )
    if engine.ray:
        return None
    return trouble(
        f"{engine.python} has no ray: {engine.complaint or 'it printed nothing'}",
        f"pip install 'launcher-trueface[ray]' there, or name another `python` in {engine.table}",
    )


def _engine(engine: Engine) -> str:
    """Return what is well with a backend."""
    match engine.kind:
        case "slurm":
            partitions = counted(len(engine.partitions), "partition")
            where = f"partition {engine.partition}" if engine.partition else partitions
            text = f"Slurm answers, {where}"
        case "ray":
            text = f"ray {engine.ray} in {engine.python}"
        case _:
            return "pilots are processes of this machine"
    return f"{text}; pilots in {engine.folder} ({engine.file_system})" if engine.shared else text


def _target(target: NotifyTarget) -> Finding:
    table = f"[notify.{target.name}]"
    if target.problem:
        return trouble(target.problem, f"mend {table} of config.toml, or what it names")
    if target.exposed:
        return warning(
            "other users may read config.toml, where its address stands",
            f"chmod 600 the file, or name a file of mode 600 with url_file in {table}",
        )
    return ok("can be used; `launcher notify --test` sends a message")


def _messages(facts: Facts) -> Finding | None:
    if not facts.unsent:
        return None
    return warning(
        f"{counted(len(facts.unsent), 'message')} not sent, the last: {facts.unsent[-1]}",
        "`launcher notify` lists them; `launcher notify --test` tries every target now",
    )


def _promises(facts: Facts) -> Finding:
    if facts.claims_trouble:
        return warning(
            f"other launchers cannot know ours: {facts.claims_trouble}",
            f"have {facts.claims or 'the folder'} mended, or set LAUNCHER_CLAIMS for all users",
        )
    return ok(f"schedulers tell each other in {facts.claims} what they promised")


# --- clock, cores and limits


def _clock(facts: Facts) -> Finding:
    summary = moment(facts.now)
    if not _OLDEST_YEAR <= datetime.fromtimestamp(facts.now, UTC).year <= _LAST_YEAR:
        return trouble(f"it is not {summary}", "set the clock: timedatectl set-ntp true")
    ahead_s = (facts.queue.newest or 0.0) - facts.now
    if ahead_s > _SKEW_S:
        return warning(
            f"{summary}; the queue saw something {format_seconds(ahead_s)} later: it was set back",
            "check it (timedatectl); times of jobs and pauses are wrong until then",
        )
    return ok(summary)


def _cores(facts: Facts) -> Finding | None:
    cores = facts.cores
    if cores is None:
        return None
    why = []
    if cores.allowed < cores.machine:
        why.append(f"this shell may use {cores.allowed} (taskset, or a cgroup)")
    if cores.usable < cores.allowed:
        why.append("the cgroup limits their time")
    reasons = f": {', '.join(why)}" if why else ""
    summary = f"{cores.usable} of {cores.machine} can be used{reasons}"
    limits = {key: value for key, value in sorted(cores.threads.items()) if value.strip()}
    if limits:
        limited = ", ".join(f"{key}={value}" for key, value in limits.items())
        return warning(
            f"{summary}; {limited} is set in this shell and holds for its jobs, whatever cores they get",
            f"unset {' '.join(limits)}: each job gets its number of cores in these variables",
        )
    if cores.usable < 2:
        return warning(
            f"{summary}: a training and whatever loads its images share it",
            "leave num_threads at 0, or get more cores (in a container: docker run --cpus)",
        )
    return ok(summary)


def _open_files(facts: Facts) -> Finding | None:
    if facts.limits is None:
        return None
    soft, hard = facts.limits.open_files, facts.limits.open_files_most
    if soft is None or soft >= FEW_OPEN_FILES:
        return ok("no limit" if soft is None else f"at most {soft:,} for each process")
    more = "any number" if hard is None else f"{hard:,}"
    most = f" (can be raised to {more})" if hard is None or hard > soft else ""
    wanted = FEW_OPEN_FILES * 4 if hard is None else min(hard, FEW_OPEN_FILES * 4)
    advice = f"ulimit -n {wanted} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_OPEN_FILES:
        advice = "have an administrator raise nofile in /etc/security/limits.conf"
    return warning(f"at most {soft:,} for each process{most}: loaders need more", advice)


def _processes(facts: Facts) -> Finding | None:
    if facts.limits is None:
        return None
    soft, hard = facts.limits.processes, facts.limits.processes_most
    if soft is None:
        return ok("no limit")
    summary = f"at most {soft:,} of one user, threads among them"
    if soft >= FEW_PROCESSES:
        return ok(summary)
    advice = f"ulimit -u {hard or 'unlimited'} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_PROCESSES:
        advice = "have an administrator raise nproc in /etc/security/limits.conf"
    return warning(f"{summary}: a training has hundreds", advice)


def _logout(facts: Facts) -> Finding:
    logout, runs_on = facts.logout, "jobs run on when you log out"
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


def _leftovers(facts: Facts) -> Finding | None:
    groups = facts.groups
    if groups is None:
        return None
    if not groups.hindrance:
        return ok("each supervisor has a control group: nothing that a job starts outlives it")
    return ok(
        f"a daemon of a job may outlive it where its supervisor is killed: no control groups ({groups.hindrance})",
        "`launcher service install`: systemd lets the scheduler divide the group of its service"
        if groups.service
        else "have a writable cgroup2 file system mounted (for a container: with its own cgroup)",
    )


# --- the queue, and what shows it


def _scheduler(facts: Facts) -> Finding:
    queue, version = facts.queue, facts.launcher
    if queue.problem:
        return unknown(f"not looked for: {_NO_HOME}")
    if queue.restarts:
        return warning(
            f"it died and was restarted {counted(queue.restarts, 'time')} in the last minutes",
            f"its log says why: {queue.home}/scheduler.log",
        )
    if queue.scheduler is None:
        if queue.waiting and not queue.stopped and not queue.damaged:
            summary = f"none lives, and {counted(queue.waiting, 'job')} wait or should run"
            return warning(summary, "`launcher start` starts one")
        return ok("none lives, and none is needed")
    if queue.version is not None and queue.version != version:
        return warning(
            f"pid {queue.scheduler} is version {queue.version}, this command {version}",
            "the next `launcher run` or `launcher add` replaces it; jobs run on meanwhile",
        )
    return ok(f"lives, pid {queue.scheduler}, version {queue.version or version}")


def _queue(facts: Facts) -> Finding:
    queue = facts.queue
    if queue.problem:
        return unknown(f"not looked at: {_NO_HOME}")
    if queue.damaged:
        summary = "its database was found damaged and is kept aside"
        return trouble(summary, "`launcher status` says how to go on")
    if queue.looks_damaged:
        return trouble(
            f"its database in {queue.home} looks damaged",
            "`launcher status` looks again, and says how to go on",
        )
    if queue.schema is not None and queue.schema > queue.known_schema:
        return trouble(
            f"a newer launcher wrote it (shape {queue.schema}, this one knows {queue.known_schema})",
            "update launcher, or set LAUNCHER_HOME to another folder",
        )
    if queue.exists and queue.schema is None:
        return unknown("its database cannot be read now", "try again; another may be writing")
    if queue.stopped:
        advice = "`launcher run`, `launcher add` or `launcher retry` goes on"
        return warning("it is stopped: nothing starts", advice)
    if not queue.exists:
        return ok("there is none yet; `launcher run TASKFILE` or `launcher add` begins one")
    if queue.unexplained and queue.scheduler is not None:
        more = len(queue.unexplained) - 1
        others = f" (and {counted(more, 'other job')} likewise)" if more else ""
        return warning(
            f"{queue.unexplained[0]}{others}",
            f"`launcher show` says more; what the scheduler saw is in {queue.home}/scheduler.log",
        )
    verbs = "waits or runs" if queue.waiting == 1 else "wait or run"
    return ok(f"{counted(queue.waiting, 'job')} {verbs}")


def _sqlite(facts: Facts) -> Finding:
    have, least = _dotted(facts.sqlite), _dotted(facts.oldest_sqlite)
    if facts.sqlite < facts.oldest_sqlite:
        return trouble(f"this Python has {have}, {least} is needed", "use a newer build of Python")
    return ok(f"{have}, with Python {facts.python}")


def _terminal(facts: Facts) -> Finding:
    kind = facts.terminal or "not told"
    if kind == "dumb":
        return warning(
            "TERM is dumb: screens are drawn with plain characters, and top not at all",
            "export TERM=xterm-256color, unless the terminal cannot do more",
        )
    if facts.unicode:
        return ok(f"TERM is {kind}; screens are drawn in Unicode")
    return warning(
        f"TERM is {kind}, the locale knows ASCII only: screens are drawn with plain characters",
        "export LC_ALL=C.UTF-8, unless the terminal cannot do more",
    )


Check = Callable[[Facts], Finding | None]  # None: there is nothing to tell
CAUSES: Mapping[str, Check] = {
    "driver": _driver,
    "CUDA": _cuda,
    "GPUs": _cards,
    "visible GPUs": _visible,
    "other users": _others,
    "configuration": _configuration,
    "home": _home,
    "home's disk": _home_disk,
    "results' disk": _results_disk,
    "shared memory": _shared_memory,
}
EFFECTS: Mapping[str, Check] = {  # behind what is said of each backend and target
    "messages": _messages,
    "promises": _promises,
    "clock": _clock,
    "cores": _cores,
    "open files": _open_files,
    "processes": _processes,
    "logout": _logout,
    "leftovers": _leftovers,
    "scheduler": _scheduler,
    "queue": _queue,
    "SQLite": _sqlite,
    "terminal": _terminal,
}
