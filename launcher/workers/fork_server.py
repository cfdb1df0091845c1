"""A fork server: has third-party modules imported already, and forks supervisors.

One lives per interpreter and set of modules, started on demand by the scheduler. It runs no torch
operation and no CUDA call: a child of a process that has run one convolution hangs in its own
first one. The code of a kind is imported in the child, so that an edit counts at once.
"""

import contextlib
import faulthandler
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from launcher import __version__
from launcher.system.daemon_control import revive
from launcher.system.paths import Home
from launcher.system.processes import identity, live_in
from launcher.workers.supervisor import serve
from launcher.workers.worker import import_ahead

BYE, FORK = b"bye", b"fork"
IMPORTING = b"importing "  # followed by a module's name; by none when all are imported
MESSAGE_BYTES = 4096
FIXED = 2  # arguments before the modules: home and socket


logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serve requests from an inherited socket until its other end closes."""
    home, server = Home(Path(argv[0])), socket.socket(fileno=int(argv[1]))
    live_in(home.folder)  # and so do all supervisors, which are forks of us
    faulthandler.enable()  # an import that crashes is to be found in the scheduler's log
    # Python 3.12 warns of a fork beside threads: those of OpenBLAS are idle, and it ends them before a fork
    warnings.filterwarnings("ignore", "This process .* multi-threaded", DeprecationWarning)
    import_ahead(argv[FIXED:], partial(_tell_import, server))
    faulthandler.disable()
    gc.collect()
    gc.freeze()  # children must not touch the shared pages of what was imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()  # select() knows no descriptor above 1,023
    poll.register(server, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
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


def _tell_import(server: socket.socket, module: str) -> None:
    with contextlib.suppress(OSError):  # the scheduler is dead; that is seen soon
        server.send(IMPORTING + module.encode())


def _reap(wakeup: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(wakeup, 4096)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(home: Home, server: socket.socket, *, ahead: bool) -> None:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        _refuse(server, error)
        return
    try:
        supervisor = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        _refuse(server, error)
        return
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


def _refuse(server: socket.socket, error: OSError) -> None:
    """Answer that there is no supervisor: it is the machine that has no room for one."""
    with contextlib.suppress(OSError):
        server.sendall(json.dumps({"lacks": error.strerror}).encode())


def _be_supervisor(
    home: Home, server: socket.socket, channel: socket.socket, *, ahead: bool
) -> None:
    try:
        os.setsid()
        server.close()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):  # what is ignored stays so in a program
            signal.signal(number, signal.SIG_DFL)
        serve(home, channel, ahead=ahead)
    except BaseException:  # noqa: BLE001  # the fork's top: the story goes to the scheduler's log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
