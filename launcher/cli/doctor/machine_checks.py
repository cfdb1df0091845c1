"""Checks of the machine: disks, shared memory, clock, cores and limits of processes."""

from datetime import UTC, datetime

from launcher.cli.doctor.facts import Cores, Disk, Facts, Limits
from launcher.cli.doctor.findings import Finding, ok, trouble, unknown, warning
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
