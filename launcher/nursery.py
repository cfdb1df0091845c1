"""A fork server: has third-party modules imported already, and forks a supervisor per attempt.

One lives per interpreter and set of modules, started on demand by the scheduler. It runs no torch
operation and no CUDA call: a child of a process that has run one convolution hangs in its own
first one. The code of a kind is imported in the child, so that an edit counts at once.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.handover import revive
from launcher.paths import Attempt, Home
from launcher.processes import start_apart
from launcher.supervisor import supervise

BYE = b"bye"
MESSAGE_BYTES = 8192  # an attempt's path


@dataclass(frozen=True, slots=True)
class Breed:
    """What makes two jobs share a nursery."""

    interpreter: str
    preload: tuple[str, ...]
    python_path: str


class Nursery:
    """The scheduler's handle on a nursery process."""

    def __init__(self, home: Home, breed: Breed) -> None:
        """Start the process; it imports its modules while the first orders wait in the socket.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [breed.interpreter, "-P", "-m", "launcher.nursery"]
        try:
            self._pid = start_apart(
                [*argv, str(home.folder), str(theirs.fileno()), *breed.preload],
                home.scheduler_log,
                keep=(theirs.fileno(),),
                environment={"PYTHONPATH": breed.python_path},  # never the scheduler's own
            )
        except OSError:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def order(self, attempt: Attempt) -> None:
        """Ask for a supervisor; `born` tells of it, which takes seconds while modules load."""
        with contextlib.suppress(OSError):  # it is dead; `born` says so
            self.socket.sendall(os.fsencode(attempt.folder))

    def born(self) -> int | None:
        """Wait for the supervisor of the oldest unanswered order.

        Returns a descriptor that is readable when the supervisor ends; None: the nursery is dead,
        and nobody has started the attempt.
        """
        try:
            _, descriptors, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1)
        except OSError:
            return None
        return descriptors[0] if descriptors else None

    def answers(self) -> bool:
        """Tell whether `born` would answer at once."""
        return bool(select.select([self.socket.fileno()], [], [], 0)[0])

    def close(self) -> None:
        """Let the process end without restarting the scheduler; its supervisors live on."""
        with contextlib.suppress(OSError):
            self.socket.sendall(BYE)
        self.socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def main(argv: Sequence[str]) -> int:
    """Serve orders from an inherited socket until its other end closes."""
    home, server = Home(Path(argv[0])), socket.socket(fileno=int(argv[1]))
    for module in argv[2:]:
        try:
            importlib.import_module(module)
        except ImportError:
            traceback.print_exc()  # the job's own import will fail, and say so in its log
    gc.collect()
    gc.freeze()  # children must not touch the shared pages of what was imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([server.fileno(), wakeup], [], [])
        if wakeup in ready:
            _reap(wakeup)
        if server.fileno() not in ready:
            continue
        message = server.recv(MESSAGE_BYTES)
        if message == BYE:
            return 0
        if not message:  # the scheduler died without a word
            revive(home)
            return 0
        _fork(home, Attempt(Path(os.fsdecode(message))), server)


def _reap(wakeup: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wakeup, 4096)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(home: Home, attempt: Attempt, server: socket.socket) -> None:
    supervisor = os.fork()
    if supervisor == 0:
        _be_supervisor(home, attempt, server)
    # opened before anyone can reap the child, so it can be no other process
    descriptor = os.pidfd_open(supervisor)
    with contextlib.suppress(OSError):  # a dead scheduler's successor finds the attempt by itself
        socket.send_fds(server, [json.dumps({"pid": supervisor}).encode()], [descriptor])
    os.close(descriptor)


def _be_supervisor(home: Home, attempt: Attempt, server: socket.socket) -> None:
    try:
        os.setsid()
        server.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        supervise(home, attempt)
    except BaseException:  # noqa: BLE001  # the fork's top: the story goes to the scheduler's log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
