"""The check of the machine and the queue: from facts to findings."""

from collections.abc import Iterator

from launcher.cli.doctor.backend_checks import check_backend
from launcher.cli.doctor.facts import Disk, Facts, Groups, Logout, Queue
from launcher.cli.doctor.findings import Finding, ok, trouble, unknown, warning
from launcher.cli.doctor.gpu_checks import check_gpus
from launcher.cli.doctor.machine_checks import (
    HOME_BYTES,
    check_clock,
    check_cores,
    check_disk,
    check_open_files,
    check_processes,
    check_results,
    check_shared,
)
from launcher.cli.doctor.notify_checks import check_notify
from launcher.errors import counted

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
