"""Child processes that are waited for, and killed with everything that they started."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from launcher.system.environment import without_job


def spawn_child(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    folder: str = "/",
) -> "subprocess.Popen[bytes]":
    """Start a child process that leads its own session.

    Args:
        argv: the program, which is looked up in PATH of `environment`, and its arguments.
        environment: all variables of the process.
        stdin: as in `subprocess`.
        stdout: as in `subprocess`.
        stderr: as in `subprocess`.
        folder: its working directory.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        argv,
        env=without_job(environment),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        start_new_session=True,
    )


def has_ended(child: "subprocess.Popen[bytes]") -> bool:
    """Return whether a child process has ended, without reaping it: its group keeps its number until then."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return child.returncode is not None or os.waitid(os.P_PID, child.pid, options) is not None


def kill_child(child: "subprocess.Popen[bytes]") -> None:
    """Kill a child process and the processes of its group. Do nothing if it was reaped."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
