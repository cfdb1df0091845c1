"""Peer users of the machine, for tests: a shared folder, and work done as another user."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534
Child = tuple[int, int]  # pid, and the pipe with the result of its work

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder like /dev/shm and /tmp: every user can write, and delete only their own files."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="launcher-test-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def as_user(uid: int, work: Callable[[], object]) -> Child:
    """Start work in a child process as a user; `said_by` returns its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if uid != os.geteuid():
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            said = str(work())
        except BaseException as error:  # noqa: BLE001  # the parent reports the error
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    return child, reading


def said_by(child: Child) -> str:
    """Wait until the work is done; return its result as text, or the error's name and text."""
    pid, reading = child
    with open(reading, encoding="utf-8") as pipe:  # noqa: PTH123  # a descriptor
        said = pipe.read()
    os.waitpid(pid, 0)
    return said
