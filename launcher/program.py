"""An attempt's program: forked ahead, and held until its pid is on record and its order is known."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from launcher import worker
from launcher.orders import read_order
from launcher.paths import Attempt
from launcher.processes import Identity, identity


class Held:
    """A child in a session of its own that waits to be told what it is; its parent is ours."""

    def __init__(self) -> None:
        """Fork it."""
        hold, self._release = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _be_program(hold, self._release)
        os.close(hold)
        # /proc cannot be without it: nobody but us can collect it
        self.who = identity(pid) or Identity(pid=pid, start_ticks=0, boot="")

    def waits(self) -> bool:
        """Tell whether it is still there."""
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.who.pid, peek) is None
        except ChildProcessError:
            return False

    def release(self, attempt: Attempt, order: bytes) -> None:
        """Let it become the program of an attempt."""
        text = os.fsencode(attempt.folder) + b"\0" + order
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._release, "wb") as pipe:
            pipe.write(text)  # it was killed: its end tells

    def dismiss(self) -> None:
        """Let it end without having been anything."""
        os.close(self._release)
        with contextlib.suppress(ChildProcessError):  # somebody killed it, and we have collected it
            os.waitpid(self.who.pid, 0)


def _be_program(hold: int, release: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.close(release)
        _reset_signals()
        folder, _, text = _all_of(hold).partition(b"\0")
        if not text:
            os._exit(1)  # the supervisor died before our pid was on record
        code = _run(Attempt(Path(os.fsdecode(folder))), text)
    except BaseException as error:  # noqa: BLE001  # nothing may escape into the supervisor's code
        os.write(2, f"launcher: cannot start the job: {error}\n".encode(errors="replace"))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(attempt: Attempt, text: bytes) -> int:
    order = read_order(text)  # one that was cut off is refused
    log = os.open(attempt.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, _highest_descriptor() + 1)
    gpu = None if order.device == "cpu" else order.device
    worker.surround(order, attempt, gpu=gpu)
    if not order.spec.entry:
        worker.become(order.spec.argv)
    return worker.work(order, attempt, device="cpu" if gpu is None else "cuda:0")


def _all_of(pipe: int) -> bytes:
    parts = []
    while part := os.read(pipe, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _reset_signals() -> None:
    """Handle every signal as a program expects it at its start."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
