"""What `launcher doctor` looks at: facts as values, and who gathers them.

Nothing is changed or sent, no pilot is submitted, and nothing is waited for long.
"""

import ast
import contextlib
import json
import os
import platform
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import pynvml

from launcher import __version__
from launcher.backends.pilot_records import backend_folder
from launcher.backends.pilots_file import seen_pilots
from launcher.backends.settings import Backends, BackendSettings, configured_backends
from launcher.errors import Error, UsageError
from launcher.gpu.nvml import Nvml, Refused
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.notify.notices import read_notices
from launcher.notify.sending import send_now
from launcher.notify.settings import NotifySettings, Target, configured_notify
from launcher.store.opening import KNOWN_SCHEMA, OLDEST_SQLITE, Look, look_at
from launcher.system import cgroups
from launcher.system.config import Configuration, configuration_file
from launcher.system.daemon_control import REVIVAL_WINDOW_S, scheduler_pid
from launcher.system.environment import owners_environment
from launcher.system.files import read_json
from launcher.system.home_checks import (
    file_system,
    is_remote,
    machine,
    mounts,
    network_warning,
    without_links,
)
from launcher.system.paths import Home, find_home
from launcher.system.processes import answer, cores, in_time, login
from launcher.units import format_seconds
from launcher.workers.worker import THREADS


class Driver(NamedTuple):
    """NVIDIA's driver, and the GPUs that it tells of."""

    absent: str = ""  # why there is none to ask
    loaded: bool = False  # the kernel has it
    cards: int = 0  # of NVIDIA's that are plugged in, as the kernel says
    silent: str = ""  # why it did not answer
    version: str | None = None
    cuda: tuple[int, int] | None = None  # the newest CUDA that it can run
    gpus: tuple[GpuSnapshot, ...] = ()
    modes: Mapping[int, int] = MappingProxyType({})  # index → NVML's compute mode


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


class Queue(NamedTuple):
    """The queue, as far as it can be seen without changing it."""

    home: str = ""
    problem: str = ""  # why it cannot be found or used
    exists: bool = False
    network: str = ""  # the warning about a home on a network file system
    schema: int | None = None  # of the database; None: not read
    known_schema: int = 0  # the newest that this program knows
    newest: float | None = None  # when something last happened
    waiting: int = 0  # jobs that are queued or run
    unexplained: tuple[str, ...] = ()  # of jobs that wait without a cause, what is known of it
    damaged: bool = False  # it is on record
    looks_damaged: bool = False
    stopped: bool = False
    scheduler: int | None = None  # its pid
    version: str | None = None  # of the scheduler
    restarts: int = 0  # lately, because it had died


class Cores(NamedTuple):
    """The processor as this process may use it."""

    machine: int
    allowed: int  # by our affinity
    usable: int  # and by our cgroup's share of time
    threads: Mapping[str, str] = MappingProxyType({})  # variables that limit libraries


class Limits(NamedTuple):
    """Limits of this shell, as jobs inherit them; None: there is none."""

    open_files: int | None = None
    open_files_most: int | None = None  # to which it can be raised
    processes: int | None = None
    processes_most: int | None = None


class Logout(NamedTuple):
    """What becomes of our processes when their owner logs out."""

    systemd: bool = False
    kills: bool | None = None  # whether it ends them; None: unknown
    lingers: bool = False  # the owner is excepted
    service: bool = False  # the scheduler is a service of the owner's


class Groups(NamedTuple):
    """Whether each supervisor can have a control group of its own."""

    hindrance: str = ""  # why it cannot
    service: bool = False  # where a systemd could give one to the scheduler as its service


class Engine(NamedTuple):
    """A backend of config.toml, as far as this host can tell."""

    name: str
    kind: str
    missing: tuple[str, ...] = ()  # its programs that are not in PATH
    answers: bool = True  # False: it was asked, and printed nothing that helps
    complaint: str = ""  # what it said then
    partition: str = ""  # which the configuration names
    partitions: tuple[str, ...] = ()  # that there are
    python: str = ""  # the interpreter on the nodes, where this host sees it, too
    ray: str = ""  # version of the Ray that it can import
    folder: str = ""  # of its pilots
    file_system: str | None = None  # on which that lies
    shared: bool = False  # whether other machines can see it
    failures: int = 0  # pilots in a row that could not work
    reason: str = ""  # what the scheduler says of it

    @property
    def table(self) -> str:
        """Its table in config.toml."""
        return f"[backends.{self.name}]"


class NotifyTarget(NamedTuple):
    """A target of [notify] in config.toml."""

    name: str
    problem: str = ""  # why it cannot be used
    exposed: bool = False  # its address stands in a file that others may read


class Facts(NamedTuple):
    """All of it, at one moment."""

    now: float
    launcher: str  # our version
    python: str
    sqlite: tuple[int, int, int]
    oldest_sqlite: tuple[int, int, int]
    user: str
    driver: Driver = Driver()
    torch: Torch = Torch()
    visible: str | None = None  # CUDA_VISIBLE_DEVICES of this shell
    order: str | None = None  # CUDA_DEVICE_ORDER likewise
    configuration: str = ""  # where the user's file is; empty: there is none
    faults: str = ""  # what is wrong with it
    queue: Queue = Queue()
    home: Disk | None = None
    results: Disk | None = None
    shared: Disk | None = None  # memory that processes share
    engines: tuple[Engine, ...] = ()  # backends of the user's file
    targets: tuple[NotifyTarget, ...] = ()  # of messages
    unsent: tuple[str, ...] = ()  # messages that were given up, and why
    claims: str = ""  # where schedulers tell each other what they promised
    claims_trouble: str = ""
    cores: Cores | None = None
    limits: Limits | None = None
    logout: Logout = Logout()
    groups: Groups | None = None
    terminal: str = ""  # TERM
    unicode: bool = True  # the terminal knows more than ASCII


Part = TypeVar("Part")  # of what the user's file says
SLURM = ("sbatch", "squeue", "scancel", "sinfo")
ENGINE_S = 5.0  # for an engine's program to answer
LOOK_S = 15.0  # to import apprise on a busy machine
COMMAND_S = 2.0  # for a system's program to answer
DRIVER_S = 10.0  # a driver takes seconds to wake cards that sleep
TORCH_S = 120.0  # its import alone takes many seconds from a cold disk
_SYSTEMD = "run/systemd/system"  # sd_booted(3)
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor, and the class of what may compute
_OTHERS = 0o077
_RAY = "import importlib.metadata as packages; print('ray', packages.version('ray'))"
_TRIAL = """
import json, torch
result = {"works": torch.cuda.is_available(), "said": "it sees no GPU"}
if result["works"]:
    try:
        total = float(torch.ones(1000, device="cuda").sum())
        result = {"works": total == 1000.0, "said": torch.cuda.get_device_name()}
    except Exception as error:
        result = {"works": False, "said": str(error).partition("\\n")[0]}
print(json.dumps(result))
"""


def gather(
    environ: Mapping[str, str],
    read: Callable[[], Configuration],
    *,
    unicode: bool,
    deep: bool = False,
) -> Facts:
    """Return the facts of this machine, this shell and its queue.

    Args:
        environ: the shell's environment.
        read: reads the user's file; its options of verbs are not known here.
        unicode: the terminal knows more characters than ASCII.
        deep: also let torch compute on a GPU, in a process of its own.
    """
    now, mountinfo, user, shm = time.time(), mounts(), login(os.geteuid()), Path("/dev/shm")
    driver, torch = ask_driver(), torch_here()
    if deep and torch.version is not None and driver.gpus:
        torch = try_torch(torch)
    home, queue = see_queue(environ, mountinfo, now)
    claims, claims_trouble = see_claims(environ, home)
    faults: list[
        str
    ] = []  # of a file with any nothing else is told: those are a finding of their own
    configuration = _without(faults, read)
    backends = _without(faults, partial(configured_backends, environ))
    messages = _without(faults, partial(configured_notify, environ))
    return Facts(
        now=now,
        launcher=__version__,
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version_info,
        oldest_sqlite=OLDEST_SQLITE,
        user=user,
        driver=driver,
        torch=torch,
        visible=owners_environment(environ).get("CUDA_VISIBLE_DEVICES"),
        order=environ.get("CUDA_DEVICE_ORDER"),
        configuration=str(configuration.file) if configuration and configuration.exists else "",
        faults="; ".join(dict.fromkeys(faults)),
        queue=queue,
        home=None if home is None else see_disk(home.folder, mountinfo),
        results=_results(mountinfo),
        shared=see_disk(shm, mountinfo) if shm.is_dir() else None,
        engines=see_backends(backends, environ, home, mountinfo),
        targets=see_targets(messages, environ),
        unsent=see_unsent(home),
        claims=claims,
        claims_trouble=claims_trouble,
        cores=_cores(environ),
        limits=Limits(*_limits(resource.RLIMIT_NOFILE), *_limits(resource.RLIMIT_NPROC)),
        logout=see_logout(user, environ),
        # supervisors live where their scheduler does, which may be a service of systemd's
        groups=Groups(cgroups.hindrance(queue.scheduler or "self"), Path("/", _SYSTEMD).is_dir()),
        terminal=environ.get("TERM", ""),
        unicode=unicode,
    )


# --- GPUs


def ask_driver(patience_s: float = DRIVER_S) -> Driver:
    """Return what NVIDIA's driver says; one that hangs is left alone after a time."""
    late = Driver(silent=f"not for {format_seconds(patience_s)}")
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
    found = Driver(gpus=gpus, modes=_modes(gpus))
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


def _modes(gpus: tuple[GpuSnapshot, ...]) -> dict[int, int]:
    modes: dict[int, int] = {}
    for index in {gpu.index for gpu in gpus if not gpu.fault}:
        with contextlib.suppress(*Refused):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            modes[index] = int(pynvml.nvmlDeviceGetComputeMode(handle))
    return modes


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
        version=constants.get("__version__", "of an unknown version"),
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
            tried = f"it computed on {words}" if works else words
            return torch._replace(works=works, tried=tried)
    return torch._replace(works=False, tried=f"it did not come to its end: {output.strip()[-200:]}")


# --- what config.toml names


def _without(faults: list[str], read: Callable[[], Part]) -> Part | None:
    """Return what is read of the user's file, None where it is wrong; then what is wrong is added to the faults."""
    try:
        return read()
    except UsageError as error:
        faults.append(" ".join(str(error).split()))
        return None


def see_backends(
    backends: Backends | None, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> tuple[Engine, ...]:
    """Return what can be told of each backend."""
    see = partial(_engine, environ=environ, home=home, mountinfo=mountinfo)
    with ThreadPoolExecutor(max_workers=8) as threads:  # each may wait for its engine
        return tuple(threads.map(see, () if backends is None else backends.by_name.values()))


def _engine(
    settings: BackendSettings, *, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Engine:
    engine = Engine(name=settings.name, kind=settings.kind, partition=settings.partition)
    if home is not None:
        rows = {row.name: row for row in seen_pilots(home).backends}
        if row := rows.get(settings.name):
            engine = engine._replace(failures=row.failures, reason=row.reason)
        user = Path(environ.get("HOME") or "/")
        folder = backend_folder(settings, home, user, mountinfo)
        kind = file_system(mountinfo, without_links(folder))
        engine = engine._replace(folder=str(folder), file_system=kind, shared=is_remote(kind))
    if settings.kind == "slurm":
        return _slurm(engine, environ)
    if settings.kind == "ray":
        return _ray(engine, settings.python or sys.executable)
    return engine


def _slurm(engine: Engine, environ: Mapping[str, str]) -> Engine:
    missing = tuple(name for name in SLURM if shutil.which(name, path=environ.get("PATH")) is None)
    if missing:
        return engine._replace(missing=missing)
    printed = answer(("sinfo", "--noheader", "--format=%R"), ENGINE_S)
    words = tuple(dict.fromkeys(line.strip() for line in printed.splitlines() if line.strip()))
    if not words or any(" " in word for word in words):  # a complaint, in words
        return engine._replace(answers=False, complaint=" ".join(printed.split()))
    return engine._replace(partitions=words)


def _ray(engine: Engine, python: str) -> Engine:
    if not Path(python).is_file():  # the nodes may have it all the same
        return engine
    printed = answer((python, "-c", _RAY), ENGINE_S).strip()
    name, _, version = printed.rpartition(" ")
    if name == "ray":
        return engine._replace(python=python, ray=version)
    last = printed.splitlines()[-1] if printed else ""
    return engine._replace(python=python, answers=False, complaint=last)


def see_targets(
    messages: NotifySettings | None, environ: Mapping[str, str]
) -> tuple[NotifyTarget, ...]:
    """Return what can be told of each target."""
    exposed = False
    with contextlib.suppress(OSError):
        exposed = bool(configuration_file(environ).stat().st_mode & _OTHERS)
    see = partial(_target, environ=environ, exposed=exposed)
    with ThreadPoolExecutor(max_workers=4) as threads:
        return tuple(threads.map(see, () if messages is None else messages.targets))


def _target(target: Target, *, environ: Mapping[str, str], exposed: bool) -> NotifyTarget:
    if target.command:
        program = os.path.expanduser(target.command[0])  # noqa: PTH111  # of a word of a command
        found = shutil.which(program, path=environ.get("PATH"))
        problem = "" if found else f"{target.command[0]} is not in PATH, or is no program"
    else:
        sent = send_now(target._replace(timeout_s=LOOK_S), None, environ)
        problem = "" if sent.sent else sent.text
    return NotifyTarget(target.name, problem, exposed and bool(target.url))


def see_unsent(home: Home | None) -> tuple[str, ...]:
    """Return the messages that were given up, and why."""
    with contextlib.suppress(OSError):
        given_up = () if home is None else read_notices(home).given_up
        return tuple(f"{each.title!r} to {each.target} ({each.why})" for each in given_up)
    return ()


# --- the queue


def see_queue(environ: Mapping[str, str], mountinfo: str, now: float) -> tuple[Home | None, Queue]:
    """Return the home, if it can be determined, and its queue."""
    try:
        home = find_home(environ)
    except Error as error:
        return None, Queue(problem=str(error))
    problem, damaged = _unfit(home), home.damage_record.exists()
    seen = Queue(
        home=str(home.folder),
        problem=problem,
        exists=not problem and home.exists(),
        network=network_warning(home.folder, mountinfo) or "",
        known_schema=KNOWN_SCHEMA,
    )
    if not seen.exists:
        return home, seen
    pid, record = scheduler_pid(home), read_json(home.scheduler_record) or {}
    version = record.get("version") if pid is not None and record.get("pid") == pid else None
    read = None if damaged else look_at(home.database)
    look = read or Look()
    return home, seen._replace(
        schema=None if read is None or look.damaged else look.schema,
        newest=look.newest,
        waiting=look.waiting,
        unexplained=look.unexplained,
        damaged=damaged,
        looks_damaged=look.damaged,
        stopped=home.stop.exists(),
        scheduler=pid,
        version=version if isinstance(version, str) else None,
        restarts=_restarts(home, now),
    )


def _restarts(home: Home, now: float) -> int:
    """Return how often the scheduler was started again lately, because it had died."""
    times = (read_json(home.restarts) or {}).get("times")
    return sum(
        isinstance(at, int | float) and 0 <= now - at < REVIVAL_WINDOW_S
        for at in (times if isinstance(times, list) else ())
    )


def _unfit(home: Home) -> str:
    """Return why a home is not to be used by us on this machine, as far as a look tells."""
    try:
        there = home.folder.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{home.folder} cannot be reached: {error.strerror}"
    if not stat.S_ISDIR(there.st_mode):
        return f"{home.folder} is no folder"
    if there.st_uid != os.geteuid():
        return f"{home.folder} belongs to another user"
    try:
        owner = (read_json(home.record) or {}).get("machine")
    except OSError as error:
        return f"{home.record} cannot be read: {error.strerror}"
    if owner is not None and owner != machine():
        return f"{home.folder} belongs to another machine"
    return ""


def see_claims(environ: Mapping[str, str], home: Home | None) -> tuple[str, str]:
    """Return where schedulers tell each other what they promised, and what hinders that."""
    try:
        folder = reservations_folder(environ)
    except UsageError as error:
        return "", str(error)
    if not folder.is_dir():
        return str(folder), f"{folder} is no folder"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return str(folder), f"{folder} cannot be written"
    if home is None:
        return str(folder), ""
    board = ReservationBoard(folder, home.folder)
    board.others()
    return str(folder), board.trouble


# --- the machine


def _results(mountinfo: str) -> Disk | None:
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


def _cores(environ: Mapping[str, str]) -> Cores:
    return Cores(
        machine=os.cpu_count() or 1,
        allowed=len(os.sched_getaffinity(0)),
        usable=cores(),
        threads={name: environ[name] for name in THREADS if name in environ},
    )


def _limits(which: int) -> tuple[int | None, ...]:
    """Return a limit of this shell, and to what it can be raised; None: there is none."""
    infinite = resource.RLIM_INFINITY
    return tuple(None if value == infinite else value for value in resource.getrlimit(which))


def see_logout(user: str, environ: Mapping[str, str], root: Path = Path("/")) -> Logout:
    """Return what systemd does to a user's processes at logout.

    Args:
        user: whose.
        environ: tells where the user's services are.
        root: below which the system's files are.
    """
    if not (root / _SYSTEMD).is_dir():
        return Logout()
    config = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    return Logout(
        systemd=True,
        kills=_kills(root),
        lingers=(root / "var/lib/systemd/linger" / user).exists(),
        service=(config / "systemd/user/launcher.service").exists(),
    )


def _kills(root: Path) -> bool | None:
    """Return whether logind ends processes at logout: as it says, else as its files say."""
    if root == Path("/") and shutil.which("busctl"):
        place, name = "/org/freedesktop/login1", "org.freedesktop.login1"
        words = ("busctl", "get-property", name, place, f"{name}.Manager", "KillUserProcesses")
        match answer(words, COMMAND_S).split():
            case ["b", "true" | "false" as kills]:
                return kills == "true"
    kill: bool | None = None
    folders = [root / folder for folder in ("usr/lib/systemd", "etc/systemd", "run/systemd")]
    files = [folder / "logind.conf" for folder in folders]
    files += [file for each in folders for file in sorted((each / "logind.conf.d").glob("*.conf"))]
    for file in files:
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "KillUserProcesses":
                    kill = value.strip().lower() in {"yes", "true", "on", "1"}
    return kill
