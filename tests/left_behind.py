"""Kills what a run of the tests has left behind once it is over, however it ended, and deletes its folders.

Started by conftest.py: python left_behind.py CLAIMS FOLDER…. Processes of the tests have a LAUNCHER_CLAIMS in
CLAIMS, and disks that they mount have CLAIMS as their source. A killed run leaves schedulers that start each other
again, in queue folders that no test opens, and disks because of which pytest cannot delete its old folders.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

LOOK_S, QUIET_LOOKS, MOST_LOOKS = 0.1, 10, 600


def watch(claims: str, *folders: str) -> None:
    """Start a process that waits for the end of this one."""
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), claims, *folders]
    os.posix_spawn(command[0], command, os.environ, setsid=True)


def started_with(claims: str) -> Iterator[int]:
    """Give the processes that were started with a folder of claims."""
    begins = f"LAUNCHER_CLAIMS={claims}/".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if int(folder.name) != os.getpid() and any(
            variable.startswith(begins) for variable in environment.split(b"\0")
        ):
            yield int(folder.name)


def kill_all(claims: str) -> None:
    """Kill them: all are stopped first, since schedulers and their helpers start each other again."""
    known: set[int] = set()
    quiet = (
        0  # searches without a new process; a process that is just starting shows no variables yet
    )
    for _ in range(MOST_LOOKS):
        new = {*started_with(claims)} - known
        _send(new, signal.SIGSTOP)
        known |= new
        quiet = 0 if new else quiet + 1
        if quiet == QUIET_LOOKS:
            break
        time.sleep(LOOK_S)
    _send(known, signal.SIGKILL)


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def unmount_all(claims: str) -> None:
    """Unmount the disks that were mounted with a folder of claims as their source."""
    for mount in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        source, place, *_ = mount.split(" ")
        if source == claims:
            subprocess.run(["umount", "--lazy", place], check=False)


def main(run: int, *folders: str) -> None:
    """Wait for the end of a process, then clean up."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(run)], [], [])
    kill_all(folders[0])
    unmount_all(folders[0])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
