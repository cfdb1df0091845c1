"""Checks of `launcher doctor` for the queue, its folder, configuration, backends, messages, and behaviour at logout.

Checks change and send nothing, submit no pilot, and have short timeouts.
"""

import contextlib
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from launcher import __version__
from launcher.frontends.cli.disk_checks import GIB, FilesystemInfo
from launcher.frontends.cli.findings import (
    CheckStatus,
    Finding,
    Findings,
    ok,
    trouble,
    unknown,
    warning,
)
from launcher.frontends.cli.gpu_checks import version_text
from launcher.frontends.notify.notices import read_notification_state
from launcher.frontends.notify.sending import deliver
from launcher.frontends.notify.settings import NotifySettings, NotifyTarget
from launcher.queue.backends.pilot_records import backend_folder
from launcher.queue.backends.pilot_status import read_pilot_status
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.gpu.reservation_files import reservations_folder
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.home.daemon_control import RESTART_WINDOW_S, scheduler_pid
from launcher.queue.home.home_checks import (
    machine_identity,
    network_warning,
    other_writers,
    relocation,
    resolve_links,
)
from launcher.queue.home.paths import (
    DEVELOPMENT_VERSION_REMEDY,
    SCHEMA,
    Home,
    find_home,
    written_by_development_version,
)
from launcher.queue.store.inspection import DatabaseProbe, probe_database
from launcher.queue.store.recovery import describe_long_log
from launcher.queue.store.schema import KNOWN_SCHEMA, OLDEST_SQLITE
from launcher.system.config import Configuration, configuration_file
from launcher.system.errors import Error, UsageError, pluralize
from launcher.system.files import read_json
from launcher.system.installation import install_command
from launcher.system.mounts import file_system, is_remote
from launcher.system.parallel_calls import read_program_output

COMMAND_TIMEOUT_S = 2.0  # seconds for a system program
SYSTEMD = "run/systemd/system"  # sd_booted(3)
Asked = TypeVar("Asked", BackendSettings, NotifyTarget)
# free bytes: below the first number the queue fails, below the second it soon will
HOME_BYTES = (256 << 20, 2 * GIB)  # records of jobs and their logs
_NAMED = 8  # partitions named in a line
SLURM = ("sbatch", "squeue", "scancel", "sinfo")
ENGINE_TIMEOUT_S = 5.0  # seconds for a program of an engine
TARGET_TIMEOUT_S = 15.0  # seconds to import apprise on a busy machine
_OTHERS = 0o077
_RAY = "import importlib.metadata as packages; print('ray', packages.version('ray'))"
_NO_HOME = "the queue folder cannot be used (see 'queue folder')"


class QueueHealth(NamedTuple):
    """The health of the queue, read without changing it."""

    home: str = ""
    problem: str = ""  # why the queue cannot be found or used
    exists: bool = False
    network: str = ""  # the warning about a queue folder on a network file system
    writers: str = ""  # other users who may replace the queue folder
    damaged: bool = False  # damage is recorded
    probe: DatabaseProbe | None = None  # findings in the database; None: not read
    stopped: bool = False
    scheduler: int | None = None  # pid of the scheduler
    version: str | None = None  # version of the scheduler
    restarts: int = 0  # recent ones, after crashes
    grown_log: str = ""  # why the database's log has grown
    # the original, if the queue folder is a copy whose jobs no command has held yet
    copied: str = ""


class Logout(NamedTuple):
    """The settings for processes of a user at logout."""

    systemd: bool = False
    kills: bool | None = None  # whether a logout ends them; None: unknown
    lingers: bool = False  # whether the user is exempt
    service: bool = False  # whether the scheduler is a service of the user


# --- the queue folder


def read_queue_health(
    environ: Mapping[str, str], mountinfo: str, now: float
) -> tuple[Home | None, QueueHealth]:
    """Return the queue folder, if it can be determined, and its health."""
    try:
        home = find_home(environ)
    except Error as error:
        return None, QueueHealth(problem=str(error))
    problem = _unusable_reason(home)
    seen = QueueHealth(
        home=str(home.folder),
        problem=problem,
        exists=not problem and home.exists(),
        network=network_warning(home.folder, mountinfo) or "",
        writers=other_writers(home.folder.parent),
    )
    if not seen.exists:
        return home, seen
    pid, record = scheduler_pid(home), read_json(home.scheduler_record) or {}
    version = record.get("version") if pid is not None and record.get("pid") == pid else None
    damaged = home.damage_record.exists()
    where = relocation(home.record)
    return home, seen._replace(
        damaged=damaged,
        probe=None if damaged else probe_database(home.database),
        stopped=home.stop_record.exists(),
        scheduler=pid,
        version=version if isinstance(version, str) else None,
        restarts=_restarts(home, now),
        grown_log=describe_long_log(home),
        copied=where.former_folder if where is not None and where.is_copy else "",
    )


def _restarts(home: Home, now: float) -> int:
    """Return the number of recent restarts of the scheduler after crashes."""
    times = (read_json(home.restarts) or {}).get("times")
    return sum(
        isinstance(at, int | float) and 0 <= now - at < RESTART_WINDOW_S
        for at in (times if isinstance(times, list) else ())
    )


def _unusable_reason(home: Home) -> str:
    """Return why this user must not use a queue folder on this machine, checked without changes."""
    try:
        there = home.folder.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{home.folder} cannot be read: {error.strerror}"
    if not stat.S_ISDIR(there.st_mode):
        return f"{home.folder} is not a folder"
    if there.st_uid != os.geteuid():
        return f"{home.folder} belongs to another user"
    try:
        owner = (read_json(home.record) or {}).get("machine")
    except OSError as error:
        return f"{home.record} cannot be read: {error.strerror}"
    if owner is not None and owner != machine_identity():
        return f"{home.folder} belongs to another machine"
    return ""


def judge_configuration(faults: Sequence[str], configuration: Configuration | None) -> Finding:
    """Check the user's file, None if it could not be read."""
    if faults:
        advice = "fix the file, as commands refuse to run with it; check it with `launcher config`"
        return trouble("; ".join(dict.fromkeys(faults)), advice)
    if configuration is None or not configuration.exists:
        return ok("no config.toml; all defaults apply")
    if others := other_writers(configuration.file):
        return warning(
            f"{others}: whoever changes {configuration.file} can run programs as you",
            "remove the right (chmod go-w), or name another file with LAUNCHER_CONFIG",
        )
    return ok(str(configuration.file))


def judge_home(queue: QueueHealth, disk: FilesystemInfo | None) -> Finding:
    """Check whether the queue folder can be used, on its current or future disk."""
    if queue.problem:
        return trouble(
            queue.problem,
            "repair it as `launcher status` says, or set LAUNCHER_HOME to another folder",
        )
    if queue.copied:
        return warning(
            f"{queue.home} is a copy of {queue.copied}, which may have run its unfinished jobs",
            "`launcher status` holds these jobs in the copy; start one with `launcher release JOB`",
        )
    if queue.network:
        return warning(
            queue.network.partition(":")[0],
            "use it from this machine only, or set LAUNCHER_HOME to a folder on a local disk",
        )
    if disk is not None and not disk.writable:
        return trouble(
            f"{queue.home} cannot be written",
            "fix its permissions, or set LAUNCHER_HOME to a folder that you can write",
        )
    if queue.writers:
        return warning(
            f"{queue.writers}, and so remove {queue.home}",
            "remove the right (chmod go-w, or chmod +t), or set LAUNCHER_HOME to another folder",
        )
    kind = f" ({disk.kind})" if disk is not None and disk.kind else ""
    if not queue.exists:
        return ok(f"no queue yet; its folder will be {queue.home}{kind}")
    return ok(f"{queue.home}, on a local file system{kind}")


# --- backends, and targets of messages


def _check_each(
    prefix: str, judge: Callable[[Asked], Finding], addresses: Mapping[str, Asked]
) -> dict[str, Finding]:
    """Run several checks in parallel, because each may wait for an answer."""
    with ThreadPoolExecutor(max_workers=8) as threads:
        found = threads.map(judge, addresses.values())
        return {f"{prefix} {name}": finding for name, finding in zip(addresses, found, strict=True)}


def judge_backends(
    backends: Backends | None, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Findings:
    """Check for each backend whether its engine responds and whether nodes can access the required files."""
    judge = partial(_backend, environ=environ, home=home, mountinfo=mountinfo)
    return _check_each("backend", judge, {} if backends is None else backends.by_name)


def _backend(
    settings: BackendSettings, *, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Finding:
    engine = ok("pilots are processes of this machine")
    if settings.kind == "slurm":
        engine = _slurm(settings, environ)
    elif settings.kind == "ray":
        engine = _ray(settings)
    if engine.status is not CheckStatus.OK or home is None:
        return engine
    for row in read_pilot_status(home).backends:
        if row.name == settings.name and row.failures:
            return warning(
                row.reason,
                f"see the log in `launcher status`; then fix the cause or [backends.{settings.name}] of "
                "config.toml",
            )
    if settings.kind == "local":
        return engine
    folder = backend_folder(settings, home, Path(environ.get("HOME") or "/"), mountinfo)
    kind = file_system(mountinfo, resolve_links(folder))
    if is_remote(kind):
        return ok(f"{engine.summary}; files of pilots in {folder} ({kind})")
    return warning(
        f"{engine.summary}; but {folder} is on a local disk ({kind or 'unknown type'}), not visible to other machines",
        f"set `folder` in [backends.{settings.name}] to a shared folder, unless this machine is the cluster",
    )


def _slurm(settings: BackendSettings, environ: Mapping[str, str]) -> Finding:
    path, partition = environ.get("PATH"), settings.partition
    if missing := [name for name in SLURM if shutil.which(name, path=path) is None]:
        return trouble(
            f"not in PATH: {', '.join(missing)}",
            "install the Slurm client programs (Debian: slurm-client), or run launcher on a login node of "
            "the cluster",
        )
    printed = read_program_output(("sinfo", "--noheader", "--format=%R"), ENGINE_TIMEOUT_S)
    there = tuple(dict.fromkeys(line.strip() for line in printed.splitlines() if line.strip()))
    if not there or any(" " in word for word in there):  # an error message
        return trouble(
            f"Slurm does not respond: {' '.join(printed.split()) or 'sinfo printed nothing'}",
            "check that `sinfo` lists the partitions; SLURM_CONF names another configuration",
        )
    if partition and partition not in there:
        return trouble(
            f"Slurm has no partition {partition!r}; its partitions: {', '.join(there[:_NAMED])}",
            f"correct `partition` in [backends.{settings.name}] of config.toml",
        )
    where = f"partition {partition}" if partition else pluralize(len(there), "partition")
    return ok(f"Slurm answers, {where}")


def _ray(settings: BackendSettings) -> Finding:
    python, table = settings.python or sys.executable, f"[backends.{settings.name}]"
    if not Path(python).is_file():  # the nodes may have the interpreter
        return unknown(
            f"the interpreter {python} does not exist on this host, which joins the cluster with it",
            f"set `python` in {table} to an interpreter with ray",
        )
    printed = read_program_output((python, "-c", _RAY), ENGINE_TIMEOUT_S).strip()
    name, _, version = printed.rpartition(" ")
    if name == "ray":
        return ok(f"ray {version} in {python}")
    complaint = printed.splitlines()[-1] if printed else "no output"
    return trouble(
        f"{python} cannot import ray: {complaint}",
        f"run `{install_command('ray', python=python)}`, or set another `python` in {table}",
    )


def judge_targets(messages: NotifySettings | None, environ: Mapping[str, str]) -> Findings:
    """Check whether each target of messages can be used."""
    exposed = False
    with contextlib.suppress(OSError, UsageError):
        exposed = bool(configuration_file(environ).stat().st_mode & _OTHERS)
    targets = () if messages is None else messages.targets
    judge = partial(_target, environ=environ, is_exposed=exposed)
    return _check_each("notify", judge, {target.name: target for target in targets})


def _target(target: NotifyTarget, *, environ: Mapping[str, str], is_exposed: bool) -> Finding:
    table = f"[notify.{target.name}]"
    if target.command:
        program = os.path.expanduser(target.command[0])  # noqa: PTH111  # the path is an argument of a command
        found = shutil.which(program, path=environ.get("PATH"))
        problem = "" if found else f"{target.command[0]} is not in PATH or not executable"
    else:
        sent = deliver(target._replace(timeout_s=TARGET_TIMEOUT_S), None, environ)
        problem = "" if sent.delivered else sent.text
    if problem:
        return trouble(problem, f"correct {table} of config.toml")
    if is_exposed and target.url:
        return warning(
            "other users can read config.toml, which contains the address of this target",
            f"chmod 600 the file, or set url_file in {table} to a file of mode 600",
        )
    return ok("usable; to send a test message: launcher notify --test")


def read_unsent(home: Home | None) -> tuple[str, ...]:
    """Return the abandoned messages with the reasons."""
    with contextlib.suppress(OSError):
        given_up = () if home is None else read_notification_state(home).given_up
        return tuple(f"{each.title!r} to {each.target} ({each.why})" for each in given_up)
    return ()


def judge_unsent(unsent_targets: Sequence[str]) -> Finding | None:
    """Report abandoned messages."""
    if not unsent_targets:
        return None
    return warning(
        f"{pluralize(len(unsent_targets), 'message')} not sent; the last: {unsent_targets[-1]}",
        "list them with `launcher notify`, and test all targets with `launcher notify --test`",
    )


def find_reservations_folder(
    environ: Mapping[str, str], home: Home | None
) -> tuple[str, str, Sequence[str]]:
    """Return the folder in which schedulers publish reservations, why it cannot be used, and faults of its files."""
    try:
        folder = reservations_folder(environ)
    except UsageError as error:
        return "", str(error), ()
    if not folder.is_dir():
        fault = "is not a folder" if folder.exists() else "does not exist"
        return str(folder), f"{folder} {fault}", ()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return str(folder), f"{folder} cannot be written", ()
    if home is None:
        return str(folder), "", ()
    board = ReservationBoard(folder, home.folder, logs=False)
    board.foreign_reservations()
    return str(folder), board.error, [f"{what}: {why}" for what, why in sorted(board.complaints)]


def judge_reservations(claims: str, problem: str, faults: Sequence[str] = ()) -> Finding:
    """Check whether schedulers can publish reservations, and read those of others.

    Args:
        claims: Folder of the reservations, '' if there is none.
        problem: Why it cannot be used.
        faults: Files of others that are not in order.
    """
    if problem:
        remedy = f"ask an administrator to fix {claims or 'the folder'}"
        if problem.endswith("does not exist"):
            remedy = f"create it for all users with `mkdir -p -m 1777 {shlex.quote(claims)}`"
        return warning(
            f"schedulers of other queues cannot see the reservations of this queue: {problem}",
            f"{remedy}, or set LAUNCHER_CLAIMS for all users",
        )
    if faults:
        return warning(
            f"{pluralize(len(faults), 'fault')} of reservations in {claims}. {'. '.join(faults)}",
            "use the same version of launcher in all queues. If no scheduler renews the file, delete it",
        )
    return ok(f"schedulers share their reservations in {claims}")


# --- the scheduler and its database


def judge_scheduler(queue: QueueHealth) -> Finding:
    """Check whether a needed scheduler is running, its version and its restarts."""
    if queue.problem:
        return unknown(f"not checked: {_NO_HOME}")
    if queue.restarts:
        return warning(
            f"crashed and restarted {pluralize(queue.restarts, 'time')} in the last minutes",
            f"see its log: {queue.home}/scheduler.log",
        )
    if queue.scheduler is None:
        if queue.copied:
            return ok("not running, and not needed before you release jobs of the copy")
        if queue.probe and queue.probe.waiting and not queue.stopped:
            waiting = queue.probe.waiting
            summary = f"not running, but {pluralize(waiting, 'job')} {'waits' if waiting == 1 else 'wait'}"
            return warning(summary, "start it: launcher start")
        return ok("not running, and not needed")
    if queue.version is not None and queue.version != __version__:
        return warning(
            f"pid {queue.scheduler} has version {queue.version}, this command {__version__}",
            "the next `launcher run` or `launcher add` replaces it; running jobs continue",
        )
    return ok(f"running, pid {queue.scheduler}, version {queue.version or __version__}")


def judge_queue(queue: QueueHealth) -> Finding:
    """Check whether the queue's database can be read and whether waiting jobs have a reason."""
    if queue.problem:
        return unknown(f"not checked: {_NO_HOME}")
    if queue.damaged:
        summary = f"the database was damaged and moved aside in {queue.home}"
        return trouble(summary, "for the next steps: launcher status")
    look = queue.probe or DatabaseProbe()
    if look.is_damaged:
        return trouble(
            f"the database in {queue.home} looks damaged",
            "for a second check and the next steps: launcher status",
        )
    if 0 < look.schema < SCHEMA:
        return trouble(
            f"the database was {written_by_development_version(look.schema)}",
            f"{DEVELOPMENT_VERSION_REMEDY[0].lower()}{DEVELOPMENT_VERSION_REMEDY[1:]}",
        )
    if look.schema > KNOWN_SCHEMA:
        return trouble(
            f"a newer launcher wrote the database (schema {look.schema}, this version knows {KNOWN_SCHEMA})",
            "update launcher, or set LAUNCHER_HOME to another folder",
        )
    if queue.exists and queue.probe is None:
        return unknown(
            "the database cannot be read now", "another process may be writing; try again"
        )
    if queue.stopped:
        return warning("stopped: no job starts", "start jobs again: launcher start")
    if queue.grown_log:
        grown, _, advice = queue.grown_log.partition("; ")
        return warning(grown, advice)
    if not queue.exists:
        return ok("no queue yet; `launcher add` or `launcher run` creates it")
    if look.unexplained and queue.scheduler is not None:
        more = len(look.unexplained) - 1
        others = f" (and {pluralize(more, 'other job')})" if more else ""
        return warning(
            f"{look.unexplained[0]}{others}",
            f"see the job with `launcher show`, and the log {queue.home}/scheduler.log",
        )
    verbs = "waits or runs" if look.waiting == 1 else "wait or run"
    return ok(f"{pluralize(look.waiting, 'job')} {verbs}")


def judge_sqlite(sqlite_version: tuple[int, int, int], python: str) -> Finding:
    """Check whether Python has a SQLite version that the queue supports."""
    if sqlite_version < OLDEST_SQLITE:
        summary = f"this Python has SQLite {version_text(sqlite_version)}; {version_text(OLDEST_SQLITE)} or newer is needed"
        return trouble(summary, "use a newer build of Python")
    return ok(f"{version_text(sqlite_version)}, with Python {python}")


# --- processes after a logout or the end of a job


def read_logout_settings(user: str, environ: Mapping[str, str], root: Path = Path("/")) -> Logout:
    """Return the settings of systemd for a user's processes at logout.

    Args:
        user: User.
        environ: Environment, which determines the folder of the user's services.
        root: Root folder of the system's files.
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
    """Return whether logind ends processes at logout, from logind itself or otherwise from its files."""
    if root == Path("/") and shutil.which("busctl"):
        place, name = "/org/freedesktop/login1", "org.freedesktop.login1"
        words = ("busctl", "get-property", name, place, f"{name}.Manager", "KillUserProcesses")
        match read_program_output(words, COMMAND_TIMEOUT_S).split():
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


def judge_logout(logout: Logout) -> Finding:
    """Check whether jobs continue after a logout of their owner."""
    runs_on = "jobs continue when you log out"
    if not logout.systemd:
        return ok(f"{runs_on} (no systemd here)")
    service = "; the scheduler is a service" if logout.service else ""
    if logout.lingers:
        return ok(f"{runs_on} (lingering is enabled){service}")
    advice = "run once: loginctl enable-linger"
    if logout.kills:
        return warning(f"systemd ends your processes when you log out{service}", advice)
    if logout.service:
        return warning("the scheduler is a service and ends when you log out", advice)
    if logout.kills is None:
        return unknown("unknown whether systemd ends processes at logout", advice)
    return ok(runs_on)


def judge_leftovers(hindrance: str, *, service: bool) -> Finding:
    """Check whether a daemon of a job may outlive the job.

    Args:
        hindrance: Why supervisors cannot have control groups, '' if they can.
        service: Whether systemd could provide one to the scheduler as its service.
    """
    if not hindrance:
        return ok("each job has a control group; all of its processes end with it")
    return ok(
        f"daemons of a job may survive if its supervisor is killed: no control groups ({hindrance})",
        "launcher service install (systemd then delegates a control group to the scheduler)"
        if service
        else "mount a writable cgroup2 file system (in a container: with its own cgroup)",
    )
