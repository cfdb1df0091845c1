"""Background processes of ours, started apart from the caller; and the limit of open files."""

import contextlib
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.system.environment import without_job

RESERVED_FILES = 24  # for files open for a short time: the database, an engine's reply
_limits_before_raise: list[int] = []  # our limits of open files before we raised them


def open_files_shortage() -> str:
    """Return why no file may be kept open, after raising the limit if possible; empty if there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the kernel returns the lowest free number
    os.close(lowest)
    if soft == resource.RLIM_INFINITY or lowest < soft - RESERVED_FILES:
        return ""
    if hard == resource.RLIM_INFINITY or soft < hard:
        more = 4 * soft if hard == resource.RLIM_INFINITY else min(hard, 4 * soft)
        _limits_before_raise.append(soft)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        return ""
    return f"the scheduler may open only {soft:,} files (ulimit -n); each running job needs one"


def spawn_daemon(
    argv: Sequence[str],
    log: Path,
    *,
    inherited_descriptors: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a background process of ours and return its pid: own session, no terminal.

    Args:
        argv: the program, as an absolute path, and its arguments.
        log: its output is appended here.
        inherited_descriptors: descriptors that it inherits under the same numbers.
        environment: variables added to our own environment.
    """
    # a caller's pipe or lock must not stay open while we live. A descriptor above the limit of open files, which was
    # lowered since, cannot be among the actions of a spawn
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}:  # noqa: PTH208
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed again
            os.set_inheritable(descriptor, descriptor in inherited_descriptors)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # restore the limit that we raised, because a program may close all descriptors up to its limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (min([soft, *_limits_before_raise]), hard))
    try:
        return _spawn_detached(argv, log, append, environment)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _spawn_detached(
    argv: Sequence[str], log: Path, append: int, environment: Mapping[str, str] | None
) -> int:
    return os.posix_spawn(
        argv[0],
        list(argv),
        without_job(os.environ) | dict(environment or {}),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
