"""A fork server: has modules imported already, and forks supervisors.

One lives per interpreter and set of modules, started on demand by the scheduler. It runs no torch
operation and no CUDA call: a child of a process that has run one convolution hangs in its own
first one. A plugin package may let its own modules be imported, too. If one of its files has changed since, the
child imports them again, so that an edit counts at once (see `preloads`).

If a supervisor is killed, its program becomes our child, and we record its end if it is successful. So we stay until
no supervisor of ours has work, even if our scheduler closes us.
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
import time
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from launcher import __version__
from launcher.queue.home.daemon_control import restart_scheduler
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.workers.attempt_journal import (
    SUCCESS_LINE,
    read_program,
    read_recorded_outcome,
    record_outcome,
)
from launcher.queue.workers.attempt_process import WAITID_FLAGS
from launcher.queue.workers.exit_outcome import failed_wait_s
from launcher.queue.workers.preloads import import_ahead
from launcher.queue.workers.supervisor import AttemptPhase, CurrentAttempt, serve
from launcher.system.lazy_regex import compile_all
from launcher.system.locks import mark_in_use
from launcher.system.process_trees import adopt_orphans
from launcher.system.processes import identity, parent_of

BYE, FORK = b"bye", b"fork"
STILL_WORKING = b"stays"  # we were let go, and a supervisor of ours has work
IMPORTING = b"importing "  # followed by a module's name; by none when all are imported
MESSAGE_BYTES = 4096
FIXED_ARGUMENTS = 2  # arguments before the modules: home and socket


logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serve requests from an inherited socket until its other end closes."""
    home, server = Home(Path(argv[0])), socket.socket(fileno=int(argv[1]))
    mark_in_use(home.folder)  # supervisors hold the mark, too, as forks of us
    adopt_orphans()
    faulthandler.enable()  # an import that crashes is to be found in the scheduler's log
    # Python 3.12 warns of a fork beside threads: those of OpenBLAS are idle, and it ends them before a fork
    warnings.filterwarnings("ignore", "This process .* multi-threaded", DeprecationWarning)
    gc.disable()  # garbage collection during imports takes an eighth of their time
    import_ahead(argv[FIXED_ARGUMENTS:], partial(_report_import, server))
    faulthandler.disable()
    compile_all()
    gc.collect()
    gc.freeze()  # children must not touch the shared pages of the imported modules
    gc.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()  # select() knows no descriptor above 1,023
    poll.register(server, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    children, let_go = _Children(), False
    while not let_go or children.has_work:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            children.reap()
        if let_go or server.fileno() not in ready:
            continue
        try:
            message = server.recv(MESSAGE_BYTES)
        except ConnectionResetError:  # the scheduler died before it had read our answers
            message = b""
        if message == FORK:
            _fork_supervisor(home, server, children, is_ahead=len(argv) > FIXED_ARGUMENTS)
            continue
        if message != BYE:  # the scheduler died without a word
            restart_scheduler(home)
        elif children.has_work:
            with contextlib.suppress(OSError):
                server.send(STILL_WORKING)
        let_go = True
        poll.unregister(server)
        server.close()
    return 0


def _report_import(server: socket.socket, module: str) -> None:
    with contextlib.suppress(OSError):  # the scheduler is dead; that is seen soon
        server.send(IMPORTING + module.encode())


class _Children:
    """The supervisors that were forked, and the programs of those that were killed."""

    def __init__(self) -> None:
        self.supervisors: dict[int, CurrentAttempt] = {}  # by pid
        self._orphans: dict[int, Attempt] = {}  # pid of a program → its attempt

    @property
    def has_work(self) -> bool:
        """Whether there is an attempt whose program is, or may become, our child."""
        return bool(self._orphans) or any(hand.phase for hand in self.supervisors.values())

    def reap(self) -> None:
        """Reap ended children; an attempt is judged only after its supervisor and its program are reaped."""
        dead = self._dead_supervisors()
        if self._orphans or any(self.supervisors[pid].phase for pid in dead):
            # a machine that goes down ends us, too, and a program that it asks to end may do so with 0
            time.sleep(failed_wait_s())
        with contextlib.suppress(ChildProcessError):
            while child := os.waitid(os.P_ALL, 0, WAITID_FLAGS):
                # a supervisor before its program, which is known by that
                for pid in self._dead_supervisors() or [child.si_pid]:
                    if pid in self.supervisors:
                        self._adopt_program(self.supervisors.pop(pid))
                    attempt = self._orphans.pop(pid, None)
                    if attempt and (child.si_code, child.si_status) == (os.CLD_EXITED, 0):
                        _record_success(attempt)
                    os.waitpid(pid, 0)

    def _dead_supervisors(self) -> list[int]:
        """Return the supervisors that have ended and are not collected."""
        return [pid for pid in self.supervisors if os.waitid(os.P_PID, pid, WAITID_FLAGS)]

    def _adopt_program(self, current: CurrentAttempt) -> None:
        """Take over the attempt of a dead supervisor, if its program is our child now."""
        attempt = current.read_attempt()
        if current.phase is AttemptPhase.ENDED_WELL:
            _record_success(attempt)
        elif current.phase is AttemptPhase.RUNS:
            with contextlib.suppress(OSError, ValueError):
                program = read_program(attempt)
                if program is not None and parent_of(program) == os.getpid():
                    self._orphans[program.pid] = attempt


def _record_success(attempt: Attempt) -> None:
    """Record that a program has ended successfully; if that fails, the attempt is lost."""
    with contextlib.suppress(OSError, ValueError):
        if read_recorded_outcome(attempt) is None:
            record_outcome(attempt, SUCCESS_LINE)


def _fork_supervisor(
    home: Home, server: socket.socket, children: _Children, *, is_ahead: bool
) -> None:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        _report_fork_failure(server, error)
        return
    hand = CurrentAttempt()
    try:
        supervisor = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        _report_fork_failure(server, error)
        return
    if supervisor == 0:
        ours.close()
        _be_supervisor(home, server, theirs, hand, is_ahead=is_ahead)
    theirs.close()
    children.supervisors[supervisor] = hand
    # read before the child can be reaped, so it cannot be another process
    who = identity(supervisor)
    record = {**who.to_json(), "version": __version__} if who else {}
    with contextlib.suppress(OSError):  # the scheduler is dead: the supervisor sees its end, too
        socket.send_fds(server, [json.dumps(record).encode()], [ours.fileno()])
    ours.close()


def _report_fork_failure(server: socket.socket, error: OSError) -> None:
    """Answer that there is no supervisor: it is the machine that has no room for one."""
    with contextlib.suppress(OSError):
        server.sendall(json.dumps({"lacks": error.strerror}).encode())


def _be_supervisor(
    home: Home,
    server: socket.socket,
    channel: socket.socket,
    current: CurrentAttempt,
    *,
    is_ahead: bool,
) -> None:
    try:
        os.setsid()
        server.close()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):  # ignored signals stay so in a program
            signal.signal(number, signal.SIG_DFL)
        serve(home, channel, current, is_ahead=is_ahead)
    except BaseException:  # noqa: BLE001  # the fork's top: the story goes to the scheduler's log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
