"""Checks of `launcher doctor` for disks and shared memory."""

import os
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.cli.findings import Finding, ok, trouble, unknown, warning
from launcher.queue.home.home_checks import resolve_links
from launcher.system.mounts import file_system, is_remote
from launcher.system.units import format_bytes

GIB = 1 << 30
RESULTS_BYTES = (1 * GIB, 10 * GIB)  # a checkpoint of a large model has gigabytes
FEW_FILES = 10_000  # an experiment creates thousands
SHARED_BYTES = 1 * GIB  # data loaders pass batches through shared memory; a container has 64 MiB


class FilesystemInfo(NamedTuple):
    """The file system of a folder that exists or will be created."""

    path: str
    kind: str | None = None  # type of the file system
    total: int | None = None  # bytes; None: unknown
    free: int | None = None  # bytes available to this user
    files: int | None = None  # files that can still be created; None: no limit
    writable: bool = True


def read_results_disk(mountinfo: str) -> FilesystemInfo | None:
    """Return the file system of the current folder, None if it was deleted."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    return read_disk(here, mountinfo)


def read_disk(path: Path, mountinfo: str) -> FilesystemInfo:
    """Return the file system of a folder that exists or will be created."""
    real = resolve_links(path)
    there = next((folder for folder in (real, *real.parents) if os.access(folder, os.F_OK)), real)
    disk = FilesystemInfo(path=str(path), kind=file_system(mountinfo, there))
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


def judge_results(disk: FilesystemInfo | None) -> Finding:
    """Check the disk of the current folder, where results are written; None means that the folder was deleted."""
    if disk is None:
        return warning("the current folder was deleted", "change to an existing folder: cd")
    if not disk.writable:
        return warning(
            f"the current folder {disk.path} cannot be written", "change to a folder of your own"
        )
    return judge_room(disk, RESULTS_BYTES)


def judge_room(disk: FilesystemInfo, least: tuple[int, int]) -> Finding:
    """Check the free space of a disk and, where the file system has a limit, its free files."""
    if disk.free is None or disk.total is None:
        return unknown(f"the free space in {disk.path} is unknown")
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    advice = "delete logs of old jobs (launcher clean --older 30d), then large files (du -sh *)"
    if disk.files is not None and disk.files < FEW_FILES:
        verdict = trouble if not disk.files or disk.free < least[0] else warning
        inodes = f"{disk.files:,}" if disk.files else "no"
        return verdict(
            f"{inodes} inodes free in {disk.path}, each file needs one ({format_bytes(disk.free)} free)",
            "delete old jobs (launcher clean --older 30d), then folders of many files (du --inodes -d 1)",
        )
    if disk.free < least[1]:
        return (trouble if disk.free < least[0] else warning)(summary, advice)
    return ok(f"{summary} ({disk.kind}, network)" if is_remote(disk.kind) else summary)


def judge_shared(disk: FilesystemInfo | None) -> Finding:
    """Check the shared memory of processes, None if there is none."""
    if disk is None or disk.free is None or disk.total is None:
        return warning(
            "/dev/shm is missing, through which data loaders pass images to a training",
            "train with num_threads: 0, or mount /dev/shm",
        )
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free in {disk.path}"
    if disk.free >= SHARED_BYTES:
        return ok(summary)
    advice = (
        "start the container with more (docker run --shm-size 8g), or use fewer loaders"
        if disk.total < SHARED_BYTES
        else f"see what fills it: ls -l {disk.path}"
    )
    return warning(f"{summary}: data loaders may crash", advice)
