"""The job's own process and the server of its ranks: one is started, kept, and asked for ranks."""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

from trueface.jobs.ranks.messages import Channel
from trueface.runtime.errors import MachineError

MODULE = "trueface.jobs.ranks.server"
MESSAGE_BYTES = 4096


class Server:
    """A server of ranks; see the module `server`, which imports torch and is not imported here."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                # ranks find the modules that this process finds
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
                pass_fds=[theirs.fileno()],
            )
        self.kept: list[dict[str, Any]] = []  # ends that were read while a rank was asked for
        atexit.register(self.close)

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def fork(self) -> tuple[int, Channel]:
        """Return the pid of a new rank, and the channel to it.

        Raises:
            MachineError: the server has ended; its output says why.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self.control, [b'{"name": "fork"}'], [theirs.fileno()])
        channel = Channel(Connection(ours.detach()))
        while (answer := self.receive()) is not None:
            if answer["name"] == "forked":
                return int(answer["pid"]), channel
            self.kept.append(answer)
        raise MachineError(
            "the process that starts the ranks of this training has ended "
            f"(exit code {self._process.wait()}); its output stands above"
        )

    def ended(self) -> list[dict[str, Any]] | None:
        """Return which ranks have ended: those kept, or the next one that is told; None: the server has."""
        if self.kept:
            ended, self.kept = self.kept, []
            return ended
        answer = self.receive()
        return None if answer is None else [answer]

    def kill(self, pid: int) -> None:
        """Kill a rank, if it lives."""
        with contextlib.suppress(OSError):
            self.control.send(json.dumps({"name": "kill", "pid": pid}).encode())

    def close(self) -> None:
        """Let it end, with all its ranks."""
        self.control.close()
        self._process.wait()

    def receive(self) -> dict[str, Any] | None:
        """Wait for its next message; None where there will be none."""
        try:
            text = self.control.recv(MESSAGE_BYTES)
        except ConnectionResetError:
            return None
        message: dict[str, Any] | None = json.loads(text) if text else None
        return message


def server() -> Server:
    """Return the server of this process; one that has ended is replaced."""
    if not _of(os.getpid()).lives:
        _of.cache_clear()
    return _of(os.getpid())


@lru_cache(maxsize=1)  # a fork must not ask its parent's
def _of(_: int) -> Server:
    return Server()
