"""The processes of a pilot on this machine: how to find them by their marks and how to kill them.

The engine `local` uses it, and the guard of a pilot on Ray.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from launcher.queue.backends.pilot_folder import TOKEN, PilotFolder
from launcher.queue.backends.protocol import EngineError
from launcher.system import cgroups
from launcher.system.files import read_bytes
from launcher.system.process_trees import ATTEMPT_VARIABLE, descendants, is_scheduler, send_signal
from launcher.system.processes import Identity, identity, is_alive
from launcher.system.waiting import wait_until

KILL_TIMEOUT_S = 10.0
PAUSE_S = 0.01


def process_of(folder: PilotFolder) -> Identity | None:
    """Return the process of a pilot by its command, None where none lives."""
    name = os.fsencode(folder.folder)
    for pid in _pids():
        words = _read_words(pid, "cmdline")
        if b"launcher.pilots" in words and name in words:
            return identity(pid)
    return None


def kill_all(folder: PilotFolder, pilot: Identity | None) -> None:
    """Kill a pilot and all that it started, until none of these processes lives.

    Raises:
        EngineError: something does not end.
    """
    groups = set[Path]()

    def kill() -> bool:
        pids = find_pids(folder, pilot)
        for pid in pids:
            here = cgroups.read_group_folder(pid)
            if here is not None and cgroups.base_of(here) != here:
                groups.add(here)
            send_signal(pid, signal.SIGKILL)
        return not pids

    if not wait_until(kill, KILL_TIMEOUT_S, PAUSE_S):
        pids = find_pids(folder, pilot)
        raise EngineError(f"processes of pilot {folder.token} do not end after SIGKILL: {pids}")
    for group in groups:
        cgroups.kill_group(group, is_spared=is_scheduler)


def find_pids(folder: PilotFolder, pilot: Identity | None) -> list[int]:
    """Return the pilot, then its fork servers and supervisors, then programs: who reports ends dies first."""
    own = pilot or process_of(folder)
    first = [own.pid] if own is not None and is_alive(own) else []
    below = descendants(first[0], skip=is_scheduler) if first else []
    token = f"{TOKEN}={folder.token}".encode()
    mark = f"{ATTEMPT_VARIABLE}={folder.attempts_folder}/".encode()
    served, marked = list[int](), list[int]()
    for pid in _pids():
        variables = _read_words(pid, "environ")
        if token in variables:
            served.append(pid)
        elif any(variable.startswith(mark) for variable in variables):
            marked.append(pid)
    pids = dict.fromkeys((*first, *served, *below, *marked))
    return [pid for pid in pids if pid != os.getpid() and identity(pid) is not None]


def _pids() -> Iterable[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read_words(pid: int, file_name: str) -> list[bytes]:
    try:
        return read_bytes(f"/proc/{pid}/{file_name}").split(b"\0")
    except OSError:
        return []
