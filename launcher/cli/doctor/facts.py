"""What `launcher doctor` reads of driver, torch, disks, queue and system: facts as values, and who reads them.

Nothing is changed or sent, no pilot is submitted, and nothing is waited for long.
"""

import ast
import contextlib
import json
import os
import resource
import shutil
import stat
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import pynvml

from launcher.errors import Error, UsageError
from launcher.gpu.nvml import Nvml, Refused
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.notify.notices import read_notices
from launcher.store.opening import Look, look_at
from launcher.system.daemon_control import REVIVAL_WINDOW_S, scheduler_pid
from launcher.system.files import read_json
from launcher.system.home_checks import (
    file_system,
    machine,
    network_warning,
    without_links,
)
from launcher.system.paths import Home, find_home
from launcher.system.processes import answer, in_time
from launcher.units import format_seconds


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


class Queue(NamedTuple):
    """The queue, as far as it can be seen without changing it."""

    home: str = ""
    problem: str = ""  # why it cannot be found or used
    exists: bool = False
    network: str = ""  # the warning about a home on a network file system
    damaged: bool = False  # it is on record
    look: Look | None = None  # at the database; None: it was not read
    stopped: bool = False
    scheduler: int | None = None  # its pid
    version: str | None = None  # of the scheduler
    restarts: int = 0  # lately, because it had died


class Logout(NamedTuple):
    """What becomes of our processes when their owner logs out."""

    systemd: bool = False
    kills: bool | None = None  # whether it ends them; None: unknown
    lingers: bool = False  # the owner is excepted
    service: bool = False  # the scheduler is a service of the owner's


COMMAND_S = 2.0  # for a system's program to answer
DRIVER_S = 10.0  # a driver takes seconds to wake cards that sleep
TORCH_S = 120.0  # its import alone takes many seconds from a cold disk
SYSTEMD = "run/systemd/system"  # sd_booted(3)
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor, and the class of what may compute
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


# --- the queue


def see_unsent(home: Home | None) -> tuple[str, ...]:
    """Return the messages that were given up, and why."""
    with contextlib.suppress(OSError):
        given_up = () if home is None else read_notices(home).given_up
        return tuple(f"{each.title!r} to {each.target} ({each.why})" for each in given_up)
    return ()


def see_queue(environ: Mapping[str, str], mountinfo: str, now: float) -> tuple[Home | None, Queue]:
    """Return the home, if it can be determined, and its queue."""
    try:
        home = find_home(environ)
    except Error as error:
        return None, Queue(problem=str(error))
    problem = _unfit(home)
    seen = Queue(
        home=str(home.folder),
        problem=problem,
        exists=not problem and home.exists(),
        network=network_warning(home.folder, mountinfo) or "",
    )
    if not seen.exists:
        return home, seen
    pid, record = scheduler_pid(home), read_json(home.scheduler_record) or {}
    version = record.get("version") if pid is not None and record.get("pid") == pid else None
    damaged = home.damage_record.exists()
    return home, seen._replace(
        damaged=damaged,
        look=None if damaged else look_at(home.database),
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


def limits(which: int) -> tuple[int | None, ...]:
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
    if not (root / SYSTEMD).is_dir():
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
