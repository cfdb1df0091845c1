"""A fork server: has third-party modules imported already, and forks supervisors.

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
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from launcher import __version__
from launcher.handover import revive
from launcher.paths import Attempt, Home
from launcher.processes import Identity, identity, live_in, recorded, send, start_apart
from launcher.specs import Breed
from launcher.supervisor import RUN, STOP, serve

BYE, FORK = b"bye", b"fork"
BYE_PATIENCE_S = 0.5
MESSAGE_BYTES = 4096
FIXED = 2  # arguments before the modules: home and socket


class News(Enum):
    """What a supervisor's channel tells."""

    ENDED = "its attempt has ended"
    DEAD = "it is dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """The scheduler's handle on a supervisor: it takes one attempt at a time."""

    who: Identity
    version: str  # of the launcher that its interpreter finds
    channel: socket.socket  # readable when an attempt has ended, or the supervisor

    def run(self, attempt: Attempt) -> None:
        """Give it an attempt; that it is dead is seen on the channel."""
        self._tell(RUN, attempt)

    def stop(self, attempt: Attempt) -> None:
        """Have it end an attempt that it runs: SIGTERM, and SIGKILL after the job's grace."""
        self._tell(STOP, attempt)

    def news(self) -> News | None:
        """Take its message that the attempt has ended, or notice its death; None: neither came."""
        try:
            said = self.channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return News.DEAD
        return News.ENDED if said else News.DEAD

    def _tell(self, what: bytes, attempt: Attempt) -> None:
        try:
            self.channel.send(what + os.fsencode(attempt.folder))
        except OSError:  # it is dead, or the kernel has no room: then it must be, too
            with contextlib.suppress(OSError):
                self.channel.shutdown(socket.SHUT_RDWR)


class Nursery:
    """The scheduler's handle on a nursery process."""

    def __init__(self, home: Home, breed: Breed) -> None:
        """Start the process; it imports its modules while the first requests wait in the socket.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [breed.interpreter or sys.executable, "-P", "-m", "launcher.nursery"]
        try:
            self._pid = start_apart(
                [*argv, str(home.folder), str(theirs.fileno()), *breed.preload],
                home.scheduler_log,
                keep=(theirs.fileno(),),
                # a job's own path, never the scheduler's; for programs it makes no difference
                environment={"PYTHONPATH": breed.python_path} if breed.interpreter else {},
            )
        except OSError:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def ask(self) -> None:
        """Ask for a supervisor; `born` tells of it, which takes seconds while modules load."""
        with contextlib.suppress(OSError):  # it is dead; `born` says so
            self.socket.sendall(FORK)

    def born(self) -> Supervisor | None:
        """Wait for the supervisor that was asked for first; None: the nursery is dead."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1)
        except OSError:
            return None
        record = json.loads(text) if text else {}
        who = recorded(record)
        if who is None:  # it died at once
            for descriptor in descriptors:
                os.close(descriptor)
        if who is None or not descriptors:
            return None
        channel = socket.socket(fileno=descriptors[0])
        return Supervisor(who=who, version=str(record.get("version")), channel=channel)

    def answers(self) -> bool:
        """Tell whether `born` would answer at once."""
        return bool(select.select([self.socket.fileno()], [], [], 0)[0])

    def close(self) -> None:
        """End the process without restarting the scheduler; its supervisors live on."""
        with contextlib.suppress(OSError):
            self.socket.sendall(BYE)
        self.socket.close()
        deadline = time.monotonic() + BYE_PATIENCE_S
        with contextlib.suppress(ChildProcessError):
            while not os.waitpid(self._pid, os.WNOHANG)[0]:
                if time.monotonic() > deadline:  # it imports its modules still
                    send(self._pid, signal.SIGKILL)
                time.sleep(0.005)


def main(argv: Sequence[str]) -> int:
    """Serve requests from an inherited socket until its other end closes."""
    home, server = Home(Path(argv[0])), socket.socket(fileno=int(argv[1]))
    live_in(home.folder)  # and so do all supervisors, which are forks of us
    for module in argv[FIXED:]:
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
        try:
            message = server.recv(MESSAGE_BYTES)
        except ConnectionResetError:  # it died before it had read our answers
            message = b""
        if message == BYE:
            return 0
        if not message:  # the scheduler died without a word
            revive(home)
            return 0
        _fork(home, server, ahead=len(argv) > FIXED)


def _reap(wakeup: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wakeup, 4096)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(home: Home, server: socket.socket, *, ahead: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor = os.fork()
    if supervisor == 0:
        ours.close()
        _be_supervisor(home, server, theirs, ahead=ahead)
    theirs.close()
    # read before anyone can reap the child, so it can be no other process
    who = identity(supervisor)
    record = {**who.record(), "version": __version__} if who else {}
    with contextlib.suppress(OSError):  # the scheduler is dead: the supervisor sees its end, too
        socket.send_fds(server, [json.dumps(record).encode()], [ours.fileno()])
    ours.close()


def _be_supervisor(
    home: Home, server: socket.socket, channel: socket.socket, *, ahead: bool
) -> None:
    try:
        os.setsid()
        server.close()
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGINT):  # what is ignored stays so in a program
            signal.signal(one, signal.SIG_DFL)
        serve(home, channel, ahead=ahead)
    except BaseException:  # noqa: BLE001  # the fork's top: the story goes to the scheduler's log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
