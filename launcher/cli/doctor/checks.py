"""The check of the machine and the queue, from facts to findings: disks, clock, cores, limits, and targets of messages."""

from collections.abc import Iterator
from datetime import UTC, datetime

from launcher.cli.doctor.backend_checks import check_backend
from launcher.cli.doctor.facts import (
    Cores,
    Disk,
    Facts,
    Finding,
    Groups,
    Limits,
    Logout,
    NotifyTarget,
    Queue,
    ok,
    trouble,
    unknown,
    warning,
)
from launcher.cli.doctor.gpu_checks import check_gpus
from launcher.errors import counted
from launcher.screens.format import moment
from launcher.system.home_checks import is_remote
from launcher.units import format_bytes, format_seconds

RESULTS = "results' disk"
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


def check_results(disk: Disk | None) -> Finding:
    """Check the disk of the shell's folder, where results are written."""
    if disk is None:
        return warning(
            RESULTS, "this shell's folder was deleted", "go to a folder that is there: cd"
        )
    if not disk.writable:
        return warning(RESULTS, f"{disk.path} cannot be written", "go to a folder of your own")
    return check_disk(RESULTS, disk, RESULTS_BYTES)


def check_disk(name: str, disk: Disk, least: tuple[int, int]) -> Finding:
    """Check the free space of a disk and, where the file system has a limit, its free files."""
    if disk.free is None or disk.total is None:
        return unknown(name, f"the free space in {disk.path} is unknown")
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    advice = "`launcher clean` deletes what ended attempts left; then see `du -sh *`"
    if disk.free < least[0]:
        return trouble(name, summary, advice)
    if disk.free < least[1]:
        return warning(name, summary, advice)
    if disk.files is not None and disk.files < FEW_FILES:
        return warning(name, f"{summary}, but room for {disk.files:,} more files only", advice)
    if is_remote(disk.kind):
        return ok(name, f"{summary} ({disk.kind}, over the network)")
    return ok(name, summary)


def check_shared(disk: Disk | None) -> Finding:
    """Check the size of /dev/shm."""
    name = "shared memory"
    if disk is None or disk.free is None or disk.total is None:
        return warning(
            name,
            "there is no /dev/shm, through which loaders pass images to a training",
            "train with num_threads: 0, or have /dev/shm mounted",
        )
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    if disk.free >= SHARED_BYTES:
        return ok(name, summary)
    if disk.total < SHARED_BYTES:
        advice = "start the container with more (docker run --shm-size 8g), or use few loaders"
    else:
        advice = f"see who fills it: ls -l {disk.path}"
    return warning(name, f"{summary}: loaders of images may die there", advice)


def check_clock(facts: Facts) -> Finding:
    """Check that the clock is plausible and was not set back."""
    name, year = "clock", datetime.fromtimestamp(facts.now, UTC).year
    summary = moment(facts.now)
    if not _OLDEST_YEAR <= year <= _LAST_YEAR:
        return trouble(name, f"it is not {summary}", "set the clock: timedatectl set-ntp true")
    ahead_s = (facts.queue.newest or 0.0) - facts.now
    if ahead_s > _SKEW_S:
        return warning(
            name,
            f"{summary}; the queue saw something {format_seconds(ahead_s)} later: it was set back",
            "check it (timedatectl); times of jobs and pauses are wrong until then",
        )
    return ok(name, summary)


def check_cores(cores: Cores) -> Finding:
    """Check how many cores jobs can use, and that no variable of the shell limits their threads."""
    name = "cores"
    summary = f"{cores.usable} of {cores.machine} can be used"
    why = []
    if cores.allowed < cores.machine:
        why.append(f"this shell may use {cores.allowed} (taskset, or a cgroup)")
    if cores.usable < cores.allowed:
        why.append("the cgroup limits their time")
    if why:
        summary += f": {', '.join(why)}"
    limits = {key: value for key, value in cores.threads.items() if value.strip()}
    if limits:
        limited = ", ".join(f"{key}={value}" for key, value in sorted(limits.items()))
        return warning(
            name,
            f"{summary}; {limited} is set in this shell and holds for its jobs, whatever cores they get",
            f"unset {' '.join(sorted(limits))}: each job gets its number of cores in these variables",
        )
    if cores.usable < 2:
        return warning(
            name,
            f"{summary}: a training and whatever loads its images share it",
            "leave num_threads at 0, or get more cores (in a container: docker run --cpus)",
        )
    return ok(name, summary)


def check_open_files(limits: Limits) -> Finding:
    """Check how many files a process can open."""
    name, soft, hard = "open files", limits.open_files, limits.open_files_most
    if soft is None or soft >= FEW_OPEN_FILES:
        return ok(name, "no limit" if soft is None else f"at most {soft:,} for each process")
    more = "any number" if hard is None else f"{hard:,}"
    most = f" (can be raised to {more})" if hard is None or hard > soft else ""
    wanted = FEW_OPEN_FILES * 4 if hard is None else min(hard, FEW_OPEN_FILES * 4)
    advice = f"ulimit -n {wanted} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_OPEN_FILES:
        advice = "have an administrator raise nofile in /etc/security/limits.conf"
    return warning(name, f"at most {soft:,} for each process{most}: loaders need more", advice)


def check_processes(limits: Limits) -> Finding:
    """Check how many processes the user can start."""
    name = "processes"
    soft, hard = limits.processes, limits.processes_most
    if soft is None:
        return ok(name, "no limit")
    summary = f"at most {soft:,} of one user, threads among them"
    if soft >= FEW_PROCESSES:
        return ok(name, summary)
    advice = f"ulimit -u {hard or 'unlimited'} in this shell, before jobs are queued"
    if hard is not None and hard < FEW_PROCESSES:
        advice = "have an administrator raise nproc in /etc/security/limits.conf"
    return warning(name, f"{summary}: a training has hundreds", advice)


def check_notify(facts: Facts) -> Iterator[Finding]:
    """Check each target, and whether messages were given up."""
    yield from map(_target, facts.targets)
    if facts.unsent:
        yield warning(
            "messages",
            f"{counted(len(facts.unsent), 'message')} not sent, the last: {facts.unsent[-1]}",
            "`launcher notify` lists them; `launcher notify --test` tries every target now",
        )


def _target(target: NotifyTarget) -> Finding:
    name = f"notify {target.name}"
    table = f"[notify.{target.name}]"
    if target.problem:
        return trouble(name, target.problem, f"mend {table} of config.toml, or what it names")
    if target.exposed:
        return warning(
            name,
            "other users may read config.toml, where its address stands",
            f"chmod 600 the file, or name a file of mode 600 with url_file in {table}",
        )
    return ok(name, "can be used; `launcher notify --test` sends a message")


_NO_HOME = "the home is not to be used, see above"


def check(facts: Facts) -> tuple[Finding, ...]:
    """Return everything that was looked at, in an order that tells causes before effects."""
    return tuple(_all(facts))


def _all(facts: Facts) -> Iterator[Finding]:
    yield from check_gpus(facts)
    yield _configuration(facts)
    yield _home(facts.queue, facts.home)
    if facts.home is not None:
        yield check_disk("home's disk", facts.home, HOME_BYTES)
    yield check_results(facts.results)
    yield check_shared(facts.shared)
    yield from map(check_backend, facts.engines)
    yield from check_notify(facts)
    yield _claims(facts)
    yield check_clock(facts)
    if facts.cores is not None:
        yield check_cores(facts.cores)
    if facts.limits is not None:
        yield check_open_files(facts.limits)
        yield check_processes(facts.limits)
    yield _logout(facts.logout)
    if facts.groups is not None:
        yield _groups(facts.groups)
    yield _scheduler(facts.queue, facts.launcher)
    yield _queue(facts.queue)
    yield _sqlite(facts)
    yield _terminal(facts)


def _configuration(facts: Facts) -> Finding:
    name = "configuration"
    if facts.faults:
        advice = "mend the file: verbs that read it refuse to run; then see `launcher config`"
        return trouble(name, facts.faults, advice)
    return ok(name, facts.configuration or "no file; every default holds")


def _home(queue: Queue, disk: Disk | None) -> Finding:
    name = "home"
    if queue.problem:
        return trouble(name, queue.problem, "mend that, or set LAUNCHER_HOME to another folder")
    if queue.network:
        return warning(
            name,
            queue.network.partition(":")[0],
            "use it from this machine only, or set LAUNCHER_HOME to a folder on a local disk",
        )
    if disk is not None and not disk.writable:
        return trouble(
            name,
            f"{queue.home} cannot be written",
            "mend its rights, or set LAUNCHER_HOME to a folder that you can write",
        )
    kind = f" ({disk.kind})" if disk is not None and disk.kind else ""
    if not queue.exists:
        return ok(name, f"no queue yet; it will be in {queue.home}{kind}")
    return ok(name, f"{queue.home}, on a local file system{kind}")


def _claims(facts: Facts) -> Finding:
    name = "promises"
    if facts.claims_trouble:
        return warning(
            name,
            f"other launchers cannot know ours: {facts.claims_trouble}",
            f"have {facts.claims or 'the folder'} mended, or set LAUNCHER_CLAIMS for all users",
        )
    return ok(name, f"schedulers tell each other in {facts.claims} what they promised")


def _logout(logout: Logout) -> Finding:
    name = "logout"
    if not logout.systemd:
        return ok(name, "jobs run on when you log out (no systemd here)")
    service = "; the scheduler is a service" if logout.service else ""
    if logout.lingers:
        return ok(name, f"jobs run on when you log out (you linger){service}")
    advice = "loginctl enable-linger, once"
    if logout.kills:
        return warning(name, f"systemd ends your processes when you log out{service}", advice)
    if logout.service:
        return warning(name, "the scheduler is a service, and ends when you log out", advice)
    if logout.kills is None:
        return unknown(name, "systemd does not tell whether it ends processes at logout", advice)
    return ok(name, "jobs run on when you log out")


def _groups(groups: Groups) -> Finding:
    name = "leftovers"
    if not groups.hindrance:
        return ok(
            name, "each supervisor has a control group: nothing that a job starts outlives it"
        )
    summary = "a daemon of a job may outlive it where its supervisor is killed: no control groups"
    advice = (
        "`launcher service install`: systemd lets the scheduler divide the group of its service"
    )
    if not groups.service:
        advice = (
            "have a writable cgroup2 file system mounted (for a container: with its own cgroup)"
        )
    return ok(name, f"{summary} ({groups.hindrance})", advice)


def _scheduler(queue: Queue, version: str) -> Finding:
    name = "scheduler"
    if queue.problem:
        return unknown(name, f"not looked for: {_NO_HOME}")
    if queue.restarts:
        return warning(
            name,
            f"it died and was restarted {counted(queue.restarts, 'time')} in the last minutes",
            f"its log says why: {queue.home}/scheduler.log",
        )
    if queue.scheduler is None:
        if queue.waiting and not queue.stopped and not queue.damaged:
            summary = f"none lives, and {counted(queue.waiting, 'job')} wait or should run"
            return warning(name, summary, "`launcher start` starts one")
        return ok(name, "none lives, and none is needed")
    if queue.version is not None and queue.version != version:
        return warning(
            name,
            f"pid {queue.scheduler} is version {queue.version}, this command {version}",
            "the next `launcher run` or `launcher add` replaces it; jobs run on meanwhile",
        )
    return ok(name, f"lives, pid {queue.scheduler}, version {queue.version or version}")


def _queue(queue: Queue) -> Finding:
    name = "queue"
    if queue.problem:
        return unknown(name, f"not looked at: {_NO_HOME}")
    if queue.damaged:
        return trouble(
            name,
            "its database was found damaged and is kept aside",
            "`launcher status` says how to go on",
        )
    if queue.looks_damaged:
        return trouble(
            name,
            f"its database in {queue.home} looks damaged",
            "`launcher status` looks again, and says how to go on",
        )
    if queue.schema is not None and queue.schema > queue.known_schema:
        return trouble(
            name,
            f"a newer launcher wrote it (shape {queue.schema}, this one knows {queue.known_schema})",
            "update launcher, or set LAUNCHER_HOME to another folder",
        )
    if queue.exists and queue.schema is None:
        return unknown(name, "its database cannot be read now", "try again; another may be writing")
    if queue.stopped:
        return warning(
            name,
            "it is stopped: nothing starts",
            "`launcher run`, `launcher add` or `launcher retry` goes on",
        )
    if not queue.exists:
        return ok(name, "there is none yet; `launcher run TASKFILE` or `launcher add` begins one")
    if queue.unexplained and queue.scheduler is not None:
        more = len(queue.unexplained) - 1
        others = f" (and {counted(more, 'other job')} likewise)" if more else ""
        return warning(
            name,
            f"{queue.unexplained[0]}{others}",
            f"`launcher show` says more; what the scheduler saw is in {queue.home}/scheduler.log",
        )
    summary = counted(queue.waiting, "job")
    return ok(name, f"{summary} {'waits or runs' if queue.waiting == 1 else 'wait or run'}")


def _sqlite(facts: Facts) -> Finding:
    have, least = (".".join(map(str, version)) for version in (facts.sqlite, facts.oldest_sqlite))
    if facts.sqlite < facts.oldest_sqlite:
        return trouble(
            "SQLite", f"this Python has {have}, {least} is needed", "use a newer build of Python"
        )
    return ok("SQLite", f"{have}, with Python {facts.python}")


def _terminal(facts: Facts) -> Finding:
    kind = facts.terminal or "not told"
    if kind == "dumb":
        return warning(
            "terminal",
            "TERM is dumb: screens are drawn with plain characters, and top not at all",
            "export TERM=xterm-256color, unless the terminal cannot do more",
        )
    if facts.unicode:
        return ok("terminal", f"TERM is {kind}; screens are drawn in Unicode")
    return warning(
        "terminal",
        f"TERM is {kind}, the locale knows ASCII only: screens are drawn with plain characters",
        "export LC_ALL=C.UTF-8, unless the terminal cannot do more",
    )
