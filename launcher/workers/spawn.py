"""How an attempt's own process comes to life: a program is spawned, a worker is forked ahead and held."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from launcher.job import CPU
from launcher.system.files import read_all
from launcher.system.paths import Attempt
from launcher.system.processes import Identity, identity
from launcher.workers import worker
from launcher.workers.order import Order, read_order

MOST_DESCRIPTORS = 1 << 16  # one system call closes them all; we open a handful
CANNOT_EXECUTE = 126  # as a shell says it
NOT_FOUND = 127


class CannotStart(Exception):
    """A program cannot be run; `code` is the exit code that a shell would give it."""

    def __init__(self, code: int, why: str, number: int | None = None) -> None:
        super().__init__(why)
        self.code, self.errno = code, number


def spawn(order: Order, attempt: Attempt, log: int) -> int:
    """Start a program in a session of its own and return its pid; no shell is involved.

    Our memory is not copied for it (`vfork`), which makes it three times as quick as a fork. Its
    environment carries the attempt's mark, by which it is found if we die before its pid is on
    record.

    Args:
        order: what to start, and in what surroundings.
        attempt: whose program it is.
        log: descriptor of its standard output and error.

    Raises:
        CannotStart: there is no such program or folder, or it may not be executed.
    """
    context = order.context
    ours = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # cores may have been taken offline since
        if ours != set(context.affinity):
            os.sched_setaffinity(0, context.affinity)
    try:
        program = subprocess.Popen(
            order.spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=context.folder,
            env=worker.environment(order, attempt),
            start_new_session=True,
            umask=context.umask,
        )
    except FileNotFoundError as error:
        missing = error.filename == context.folder
        what = f"there is no folder {context.folder}" if missing else "no such program"
        raise CannotStart(NOT_FOUND, what) from error
    except OSError as error:
        where = f"the folder {context.folder}: " if error.filename == context.folder else ""
        raise CannotStart(CANNOT_EXECUTE, f"{where}{error.strerror}", error.errno) from error
    except ValueError as error:  # a null byte in its arguments
        raise CannotStart(CANNOT_EXECUTE, str(error)) from error
    finally:
        os.sched_setaffinity(0, ours)
    program.returncode = 0  # it is waited for by us, not by the destructor of Popen
    return program.pid


class Held:
    """A worker in a session of its own that waits for its order."""

    def __init__(self) -> None:
        """Fork it."""
        hold, self._release = os.pipe2(os.O_CLOEXEC)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
        except OSError:  # too many processes; the caller tries again
            os.close(hold)
            os.close(self._release)
            raise
        if pid == 0:
            _be_worker(hold, self._release)
        os.close(hold)
        # /proc cannot be without it: no other process can collect it
        self.who = identity(pid) or Identity(pid=pid, start_ticks=0, boot="")

    def waits(self) -> bool:
        """Tell whether it is still there."""
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.who.pid, peek) is None
        except ChildProcessError:
            return False

    def release(self, attempt: Attempt, order: bytes) -> None:
        """Let it do the work of an attempt."""
        text = os.fsencode(attempt.folder) + b"\0" + order
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._release, "wb") as pipe:
            pipe.write(text)  # it was killed: its end tells

    def dismiss(self) -> None:
        """Let it end without having been anything; not after `release`."""
        os.close(self._release)
        with contextlib.suppress(ChildProcessError):  # it was killed, and we have collected it
            os.waitpid(self.who.pid, 0)


def _be_worker(hold: int, release: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.close(release)
        _reset_signals()
        folder, _, text = read_all(hold).partition(b"\0")
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
    os.closerange(3, MOST_DESCRIPTORS)
    worker.surround(order, attempt)
    return worker.work(order, attempt, device="cuda:0" if order.gpus else CPU, gpus=len(order.gpus))


def _reset_signals() -> None:
    """Handle every signal as a program expects it at its start."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
