"""Checks of `launcher doctor` for the machine: clock, cores, limits, terminal.

Checks change nothing and have short timeouts. Checks of GPUs and disks are in separate modules.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from launcher.frontends.cli.findings import Finding, Findings, ok, trouble, warning
from launcher.queue.texts import short_local_time
from launcher.queue.workers.preloads import THREADS
from launcher.system.inherited_attributes import Attributes, describe_losses, read_attributes
from launcher.system.process_limits import Limit, limit_of, min_limit, niceness_of
from launcher.system.units import format_bytes, format_seconds

FEW_OPEN_FILES = 4096  # data loaders open one per passed tensor
FEW_PROCESSES = 1024  # threads also count: a training has hundreds
_OLDEST_YEAR, _LAST_YEAR = 2025, 2100
_SKEW_S = 60.0  # seconds; tolerated difference between clocks
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


# --- clock, cores and limits


def judge_clock(now: float, newest: float | None) -> Finding:
    """Check the time for plausibility and against the queue.

    Args:
        now: Seconds since 1970.
        newest: Time of the newest event in the queue.
    """
    summary = short_local_time(now)
    if not _OLDEST_YEAR <= datetime.fromtimestamp(now, UTC).year <= _LAST_YEAR:
        return trouble(f"the clock is wrong: {summary}", "set the clock: timedatectl set-ntp true")
    ahead_s = (newest or 0.0) - now
    if ahead_s > _SKEW_S:
        return warning(
            f"{summary}; the clock was set back, as the queue has an event {format_seconds(ahead_s)} later",
            "check the clock (timedatectl); times of jobs and pauses are wrong until then",
        )
    return ok(summary)


def judge_cores(
    machine: int, allowed_cores: int, usable: int, environ: Mapping[str, str]
) -> Finding:
    """Check how many CPU cores jobs can use.

    Args:
        machine: Number of cores of the machine.
        allowed_cores: Number of cores in the affinity of this process.
        usable: Number of cores by the CPU quota of the cgroup.
        environ: Environment, which may limit libraries.
    """
    why = []
    if allowed_cores < machine:
        why.append(f"taskset or a cgroup allows {allowed_cores}")
    if usable < allowed_cores:
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
            "use more cores (in a container: docker run --cpus)",
        )
    return ok(summary)


class ProcessLimits(NamedTuple):
    """Limits of a process and its niceness."""

    limits: Mapping[str, Limit]  # known limits by name, such as NOFILE
    niceness: int
    attributes: Attributes = Attributes()


def read_limits(pid: int) -> ProcessLimits | None:
    """Return the limits of a process, 0 for this one; None if they are unknown."""
    niceness = niceness_of(pid)
    if niceness is None:
        return None
    known = {name: limit for name in _TITLES if (limit := limit_of(name, pid)) is not None}
    return ProcessLimits(known, niceness, read_attributes(pid))


def read_scheduler_limits(pid: int | None) -> ProcessLimits | None:
    """Return the limits of a scheduler; None if none is running, or they are unknown."""
    return read_limits(pid) if pid else None


def judge_job_limits(shell: ProcessLimits | None, scheduler: ProcessLimits | None) -> Findings:
    """Check the limits of jobs: those of this shell within the limits of the running scheduler.

    Args:
        shell: Limits of this process; None if they are unknown.
        scheduler: Limits of the running scheduler; None if a new one would have the limits of this shell.
    """
    if shell is None:
        return {}
    findings: dict[str, Finding | None] = {}
    for name, judge in (("NOFILE", judge_open_files), ("NPROC", judge_processes)):
        limit = shell.limits[name]
        if name in _limits_lowered_by_scheduler(shell, scheduler) and scheduler is not None:
            hard = scheduler.limits[name].hard
            findings[_TITLES[name]] = judge(min_limit(limit.soft, hard), hard, advice=_RESTART)
        else:
            findings[_TITLES[name]] = judge(*limit)
    findings["scheduler limits"] = _judge_scheduler_limits(shell, scheduler)
    return findings


def _limits_lowered_by_scheduler(
    shell: ProcessLimits, scheduler: ProcessLimits | None
) -> list[str]:
    """Return the limits that are lower in the scheduler than in this shell."""
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
    if lowered := _limits_lowered_by_scheduler(shell, scheduler):
        titles = ", ".join(_TITLES[name] for name in lowered)
        return warning(f"{summary}; lower than in this shell ({titles})", _RESTART)
    if scheduler.niceness > shell.niceness:
        return warning(
            f"{summary}; jobs run at this niceness, higher than that of this shell", _RESTART
        )
    if losses := describe_losses(scheduler.attributes, shell.attributes):
        return warning(f"{summary}; jobs inherit from it: {', '.join(losses)}", _RESTART)
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
    """Check the limit of open files of jobs from this shell.

    Args:
        soft: the limit; None: unlimited.
        hard: the number to which the limit can be raised, or None for any number.
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
    """Check the limit of processes of jobs from this shell.

    Args:
        soft: the limit; None: unlimited.
        hard: the number to which the limit can be raised, or None for any number.
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
    """Check the capabilities of the terminal for screens."""
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
