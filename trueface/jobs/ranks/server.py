"""The parent of the ranks: imports torch once, and forks a rank whenever its job's process asks.

It runs no torch operation and no CUDA call, since a fork could not use either after that. The job's own
process cannot fork the ranks itself: in a notebook or a test it has computed already. Requests come
through a socket; when its other end closes, the ranks are killed.

request                      answer
{"name": "fork"} + channel   {"name": "forked", "pid"}
{"name": "kill", "pid"}      none
none                         {"name": "ended", "pid", "code"}: as `os.waitstatus_to_exitcode` has it
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NoReturn

import torch
import torch.distributed
import torchvision.transforms.v2

from trueface.jobs import training
from trueface.jobs.ranks import rank_process

IMPORTED = (torch, torch.distributed, torchvision.transforms.v2, training)  # for all ranks at once
MESSAGE_BYTES = 4096
FORK, KILL, FORKED, ENDED = "fork", "kill", "forked", "ended"


def main(argv: Sequence[str]) -> NoReturn:
    """Serve the inherited socket `argv[0]` until its other end closes."""
    # the process group of a job gets these when it is to stop; the channel tells the ranks
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # ranks must not touch the shared pages of what was imported
    _Server(socket.socket(fileno=int(argv[0]))).serve()
    os._exit(0)  # nothing is left to be written, and what was frozen is not to be looked through


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ranks: dict[int, int] = {}  # pidfd → pid of those that nobody has collected
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Answer until the job's own process has gone; then kill what is left."""
        try:
            while True:
                ready = {descriptor for descriptor, _ in self._poll.poll()}
                for rank in ready & self._ranks.keys():
                    self._collect(rank)
                if self._control.fileno() in ready and not self._answer():
                    return
        except (BrokenPipeError, ConnectionResetError):  # nobody is there to be answered
            return
        finally:
            for pid in self._ranks.values():
                os.kill(pid, signal.SIGKILL)

    def _answer(self) -> bool:
        """Do what a request says; False where none will come any more."""
        text, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        if not text:
            return False
        request = json.loads(text)
        if request["name"] == KILL:
            if request["pid"] in self._ranks.values():
                os.kill(request["pid"], signal.SIGKILL)
            return True
        (channel,) = descriptors
        pid = os.fork()
        if pid == 0:
            self._be_rank(channel)
        os.close(channel)
        descriptor = os.pidfd_open(pid)
        self._ranks[descriptor] = pid
        self._poll.register(descriptor, select.POLLIN)
        self._tell(FORKED, pid=pid)
        return True

    def _be_rank(self, channel: int) -> None:
        code = 1
        try:
            self._control.close()
            for descriptor in self._ranks:
                os.close(descriptor)
            rank_process.main(Connection(channel))
            code = 0
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _collect(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        os.close(descriptor)
        pid = self._ranks.pop(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._tell(ENDED, pid=pid, code=code)

    def _tell(self, name: str, **facts: int) -> None:
        self._control.send(json.dumps({"name": name, **facts}).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
