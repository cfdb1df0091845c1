"""Gathers what a check of the machine looks at; nothing is changed or sent, no pilot is submitted.

Nothing is waited for long.
"""

import contextlib
import os
import platform
import pwd
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher import __version__
from launcher.backends.pilot_records import backend_folder
from launcher.backends.pilots_file import read_pilots
from launcher.backends.settings import Backends, BackendSettings, configured_backends
from launcher.cli.doctor.facts import (
    Cores,
    Disk,
    Engine,
    Facts,
    Groups,
    Limits,
    Logout,
    NotifyTarget,
    Queue,
)
from launcher.cli.doctor.gather_gpu import ask_driver, torch_here, try_torch
from launcher.errors import Error, UsageError
from launcher.gpu.reservation_files import reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.notify.notices import read_notices
from launcher.notify.sending import send_now
from launcher.notify.settings import Target, configured_notify
from launcher.store.opening import KNOWN_SCHEMA, OLDEST_SQLITE, look_at
from launcher.system import cgroups
from launcher.system.config import configuration_file, read_configuration
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
from launcher.system.processes import answer, cores
from launcher.workers.worker import THREADS

SLURM = ("sbatch", "squeue", "scancel", "sinfo")
ENGINE_S = 5.0  # for an engine's program to answer
_RAY = "import importlib.metadata as packages; print('ray', packages.version('ray'))"


def see_backends(
    environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> tuple[Engine, ...]:
    """Return what can be told of each backend; of a file with faults nothing, as those are told elsewhere."""
    try:
        backends = configured_backends(environ)
    except UsageError:
        return ()
    return _engines(backends, environ, home, mountinfo)


def _engines(
    backends: Backends, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> tuple[Engine, ...]:
    if not backends.by_name:
        return ()
    see = partial(_engine, environ=environ, home=home, mountinfo=mountinfo)
    with ThreadPoolExecutor(max_workers=8) as threads:  # each may wait for its engine
        return tuple(threads.map(see, backends.by_name.values()))


def _engine(
    settings: BackendSettings, *, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Engine:
    engine = Engine(name=settings.name, kind=settings.kind, partition=settings.partition)
    if home is not None:
        rows = {row.name: row for row in read_pilots(home).backends}
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
    if name != "ray":
        last = printed.splitlines()[-1] if printed else ""
        return engine._replace(python=python, answers=False, complaint=last)
    return engine._replace(python=python, ray=version)


LOOK_S = 15.0  # to import apprise on a busy machine
_OTHERS = 0o077


def see_targets(environ: Mapping[str, str]) -> tuple[NotifyTarget, ...]:
    """Return what can be told of each target; of a file with faults nothing, as those are told elsewhere."""
    try:
        settings = configured_notify(environ)
        exposed = settings is not None and _is_exposed(configuration_file(environ))
    except UsageError:
        return ()
    if settings is None or not settings.targets:
        return ()
    with ThreadPoolExecutor(max_workers=4) as threads:
        problems = threads.map(lambda target: _problem(target, environ), settings.targets)
        return tuple(
            NotifyTarget(name=target.name, problem=problem, exposed=exposed and bool(target.url))
            for target, problem in zip(settings.targets, problems, strict=True)
        )


def see_unsent(home: Home | None) -> tuple[str, ...]:
    """Return the messages that were given up, and why."""
    if home is None:
        return ()
    try:
        given_up = read_notices(home).given_up
    except OSError:
        return ()
    return tuple(f"{each.title!r} to {each.target} ({each.why})" for each in given_up)


def _problem(target: Target, environ: Mapping[str, str]) -> str:
    """Return why a target cannot be used, '' where it can."""
    if target.command:
        program = os.path.expanduser(target.command[0])  # noqa: PTH111  # of a word of a command
        path = shutil.which(program, path=environ.get("PATH"))
        return "" if path else f"{target.command[0]} is not in PATH, or is no program"
    answer = send_now(target._replace(timeout_s=LOOK_S), None, environ)
    return "" if answer.sent else answer.text


def _is_exposed(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & _OTHERS)
    except OSError:
        return False


_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
COMMAND_S = 2.0  # for a system's program to answer


def gather(environ: Mapping[str, str], *, unicode: bool, deep: bool = False) -> Facts:
    """Return the facts of this machine, this shell and its queue.

    Args:
        environ: the shell's environment.
        unicode: the terminal knows more characters than ASCII.
        deep: also let torch compute on a GPU, in a process of its own.
    """
    now, mountinfo = time.time(), mounts()
    here = _folder()
    driver = ask_driver()
    torch = torch_here()
    if deep and torch.version is not None and driver.gpus:
        torch = try_torch(torch)
    configuration, faults = see_configuration(environ)
    home, queue = see_queue(environ, mountinfo, now)
    claims, claims_trouble = see_claims(environ, home)
    return Facts(
        now=now,
        launcher=__version__,
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version_info,
        oldest_sqlite=OLDEST_SQLITE,
        user=_login(),
        driver=driver,
        torch=torch,
        visible=owners_environment(environ).get("CUDA_VISIBLE_DEVICES"),
        order=environ.get("CUDA_DEVICE_ORDER"),
        configuration=configuration,
        faults=faults,
        queue=queue,
        home=None if home is None else see_disk(home.folder, mountinfo),
        results=None if here is None else see_disk(here, mountinfo),
        shared=see_disk(Path("/dev/shm"), mountinfo) if Path("/dev/shm").is_dir() else None,
        engines=see_backends(environ, home, mountinfo),
        targets=see_targets(environ),
        unsent=see_unsent(home),
        claims=claims,
        claims_trouble=claims_trouble,
        cores=Cores(
            machine=os.cpu_count() or 1,
            allowed=len(os.sched_getaffinity(0)),
            usable=cores(),
            threads={name: environ[name] for name in THREADS if name in environ},
        ),
        limits=Limits(
            open_files=_limit(resource.RLIMIT_NOFILE, 0),
            open_files_most=_limit(resource.RLIMIT_NOFILE, 1),
            processes=_limit(resource.RLIMIT_NPROC, 0),
            processes_most=_limit(resource.RLIMIT_NPROC, 1),
        ),
        logout=see_logout(_login(), environ),
        groups=Groups(
            # supervisors live where their scheduler does, which may be a service of systemd's
            hindrance=cgroups.hindrance(queue.scheduler or "self"),
            service=_SYSTEMD.is_dir(),
        ),
        terminal=environ.get("TERM", ""),
        unicode=unicode,
    )


def see_configuration(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return where the user's file is, and what is wrong with it; '' for what is not."""
    try:
        read = read_configuration(environ)
    except UsageError as error:
        return "", " ".join(str(error).split())
    return (str(read.file) if read.exists else ""), ""


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
        known_schema=KNOWN_SCHEMA,
    )
    if seen.problem or not seen.exists:
        return home, seen
    pid = scheduler_pid(home)
    record = read_json(home.scheduler_record) or {}
    version = record.get("version") if pid is not None and record.get("pid") == pid else None
    times = (read_json(home.restarts) or {}).get("times")
    recent = [
        at
        for at in (times if isinstance(times, list) else ())
        if isinstance(at, int | float) and 0 <= now - at < REVIVAL_WINDOW_S
    ]
    look = None if home.damage_record.exists() else look_at(home.database)
    return home, replace(
        seen,
        schema=None if look is None or look.damaged else look.schema,
        newest=None if look is None else look.newest,
        waiting=0 if look is None else look.waiting,
        unexplained=() if look is None else look.unexplained,
        damaged=home.damage_record.exists(),
        looks_damaged=look is not None and look.damaged,
        stopped=home.stop.exists(),
        scheduler=pid,
        version=version if isinstance(version, str) else None,
        restarts=len(recent),
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


def see_disk(path: Path, mountinfo: str) -> Disk:
    """Return how much room there is where a folder is, or will be."""
    real = without_links(path)
    there = next((folder for folder in (real, *real.parents) if os.access(folder, os.F_OK)), real)
    kind = file_system(mountinfo, there)
    try:
        status = os.statvfs(there)
    except OSError:
        return Disk(path=str(path), kind=kind)
    return Disk(
        path=str(path),
        kind=kind,
        total=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        files=status.f_favail if status.f_files else None,
        writable=os.access(there, os.W_OK | os.X_OK),
    )


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


def see_logout(user: str, environ: Mapping[str, str], root: Path = Path("/")) -> Logout:
    """Return what systemd does to a user's processes at logout.

    Args:
        user: whose.
        environ: tells where the user's services are.
        root: below which the system's files are.
    """
    if not (root / "run/systemd/system").is_dir():  # sd_booted(3)
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
        place = "/org/freedesktop/login1"
        name = "org.freedesktop.login1"
        words = ("busctl", "get-property", name, place, f"{name}.Manager", "KillUserProcesses")
        match answer(words, COMMAND_S).split():
            case ["b", "true"]:
                return True
            case ["b", "false"]:
                return False
    linger: bool | None = None
    folders = ("usr/lib/systemd", "etc/systemd", "run/systemd")
    files = [root / folder / "logind.conf" for folder in folders]
    for folder in folders:
        files += sorted((root / folder / "logind.conf.d").glob("*.conf"))
    for file in files:
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "KillUserProcesses":
                    linger = value.strip().lower() in {"yes", "true", "on", "1"}
    return linger


def _folder() -> Path | None:
    """Return the folder of this shell, None if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _limit(which: int, place: int) -> int | None:
    value = resource.getrlimit(which)[place]
    return None if value == resource.RLIM_INFINITY else value


def _login() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
