"""The process of an attempt in a session of its own: a program, or a worker that is forked before its order arrives."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

from launcher.queue.home.paths import LOG, STDERR, Attempt
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import CPU, SEPARATE
from launcher.queue.workers import worker
from launcher.queue.workers.attempt_spec import AttemptSpec, read_attempt_spec
from launcher.system.executables import interpreter_fault
from launcher.system.files import read_all
from launcher.system.process_limits import LimitChanges, changes_for
from launcher.system.processes import Identity, identity

MOST_DESCRIPTORS = 1 << 16  # descriptors; one system call closes all, and we open a handful
WAITID_FLAGS = os.WEXITED | os.WNOHANG | os.WNOWAIT  # flags of `waitid`: has a process ended?
CANNOT_EXECUTE = 126  # exit code of shells
NOT_FOUND = 127
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
Descriptors = tuple[int, int]  # descriptors of standard output and standard error
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # and by no program


class CannotStart(Exception):
    """A program cannot be run; `code` is the exit code that a shell would give it."""

    def __init__(self, code: int, why: str, error_number: int | None = None) -> None:
        super().__init__(why)
        self.code, self.errno = code, error_number


def spawn(order: AttemptSpec, environment: Mapping[str, str], logs: Descriptors) -> int:
    """Start a program in a session of its own and return its pid; no shell is involved.

    Our memory is not copied for it, which makes it three times as quick as a fork. Only a program whose limits or
    niceness are not ours is forked: a spawn cannot set them, and they must not be ours. It inherits all
    descriptors that are not closed on exec: see `close_on_exec`.

    Args:
        order: the program to start, with its folder, umask, cores, limits and niceness.
        environment: its own, with the attempt's mark, by which it is found if we die before its pid
            is on record.
        logs: logs of the program's standard output and error.

    Raises:
        CannotStart: there is no such program or folder, or it may not be executed.
    """
    argv = order.spec.argv
    try:
        with _enter_context(order.context):
            changes = changes_for(order.context.limits, order.context.niceness)
            start = partial(_start_limited, changes) if changes else _spawn
            candidates = _candidates(argv[0], environment)
            return _start_first(candidates, partial(start, argv, environment, logs))
    except FileNotFoundError as error:
        raise CannotStart(NOT_FOUND, _interpreter_fault(order) or "no such program") from error
    except OSError as error:
        fault = _interpreter_fault(order) if error.errno == errno.ENOEXEC else ""
        why = f"{error.strerror}: {fault}" if fault else f"{error.strerror}"
        raise CannotStart(CANNOT_EXECUTE, why, error.errno) from error
    except ValueError as error:  # a null byte in the arguments
        raise CannotStart(CANNOT_EXECUTE, str(error)) from error


def open_logs(order: AttemptSpec, attempt: Attempt) -> Descriptors:
    """Open the files of a job's standard output and error, which are one file by default.

    Raises:
        OSError: there is no room for them.
    """
    log = os.open(attempt.path_text(LOG), _APPEND, 0o600)
    if order.spec.terms.stderr != SEPARATE:
        return log, log
    try:
        return log, os.open(attempt.path_text(STDERR), _APPEND, 0o600)
    except OSError:
        os.close(log)
        raise


def _interpreter_fault(order: AttemptSpec) -> str:
    """Return why an existing program cannot be started; empty if unknown."""
    program = order.spec.argv[0]
    path = Path(order.context.folder, program)
    return interpreter_fault(path, program) if "/" in program and path.exists() else ""


@contextlib.contextmanager
def _enter_context(context: Context) -> Iterator[None]:
    """Be in the folder of a program, with its umask and on its cores: it inherits them.

    Raises:
        CannotStart: there is no such folder, or it cannot be entered.
    """
    cores, umask = os.sched_getaffinity(0), os.umask(context.umask)
    moved = cores != set(context.affinity)
    try:
        if moved:
            with contextlib.suppress(OSError):  # cores may have been taken offline since
                os.sched_setaffinity(0, context.affinity)
        _change_folder(context.folder)
        yield
    finally:
        os.chdir("/")  # so that the folder can be unmounted without waiting for us
        os.umask(umask)
        if moved:
            os.sched_setaffinity(0, cores)


def _change_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        raise CannotStart(NOT_FOUND, f"the folder {folder} does not exist") from error
    except OSError as error:
        why = f"cannot enter the folder {folder}: {error.strerror}"
        raise CannotStart(CANNOT_EXECUTE, why, error.errno) from error


def _candidates(program: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield where a program may be: where its name says, or in each folder of PATH that has the name."""
    if os.path.dirname(program):  # noqa: PTH120  # done for every attempt; a Path costs 10 µs
        yield program
        return
    for folder in os.get_exec_path(environment):
        path = f"{folder or '.'}/{program}"
        if os.path.lexists(path):
            yield path


def _start_first(candidates: Iterable[str], start: Callable[[str], int]) -> int:
    """Start the first candidate that can be executed; return its pid.

    Raises:
        OSError: none can; says why not the first one that is there.
    """
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in candidates:
        try:
            return start(path)
        except OSError as error:
            if failure.errno in _ABSENT:
                failure = error
    raise failure


def _spawn(
    argv: tuple[str, ...], environment: Mapping[str, str], logs: Descriptors, path: str
) -> int:
    return os.posix_spawn(
        path,
        argv,
        environment,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, logs[0], 1),
            (os.POSIX_SPAWN_DUP2, logs[1], 2),
        ),
        setsid=True,
        setsigdef=_IGNORED_BY_PYTHON,
    )


def _start_limited(
    changes: LimitChanges,
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    logs: Descriptors,
    path: str,
) -> int:
    """Start a program with limits and a niceness that are not ours, which a spawn cannot set; return its pid.

    Raises:
        OSError: it cannot be executed.
        CannotStart: its own limits leave it too little memory.
    """
    failed, tell = os.pipe2(os.O_CLOEXEC)  # closed by the exec
    try:
        pid = os.fork()
        if pid == 0:
            _exec_limited(changes, argv, environment, (*logs, tell), path)
    finally:
        os.close(tell)
        with os.fdopen(failed, "rb") as pipe:
            text = pipe.read()
    if not text:
        return pid
    os.waitpid(pid, 0)
    number = int(text)
    if number == errno.ENOMEM and changes.limits_memory:  # the machine had room for a fork
        raise CannotStart(CANNOT_EXECUTE, "its memory limit (ulimit -v, ulimit -d) is too small")
    raise OSError(number, os.strerror(number), path)


def _exec_limited(
    changes: LimitChanges,
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    descriptors: tuple[int, int, int],
    path: str,
) -> NoReturn:
    """Become a program in a session of its own.

    Args:
        changes: changes of limits and niceness.
        argv: its words.
        environment: environment of the program.
        descriptors: descriptors of the program's standard output and error, and of the pipe that takes the number of an error.
        path: path of the program's file.
    """
    log, errors, tell = descriptors
    try:
        os.setsid()
        _reset_signals()
        os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 0)
        os.dup2(log, 1)
        os.dup2(errors, 2)
        changes.apply()  # last, as the new limits may leave us no memory
        os.execve(path, argv, environment)
    except MemoryError:
        os.write(tell, str(errno.ENOMEM).encode())
    except OSError as error:
        os.write(tell, str(error.errno or errno.EIO).encode())
    except BaseException:  # noqa: BLE001  # nothing may escape into the supervisor's code
        os.write(tell, str(errno.EIO).encode())
    finally:
        os._exit(CANNOT_EXECUTE)


def close_on_exec() -> None:
    """Let no program that we start inherit a descriptor, but standard input, output and error."""
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
        descriptor = int(entry)
        if descriptor > 2:  # standard error
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed again
                os.set_inheritable(descriptor, False)


class StandbyWorker:
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
            _wait_as_worker(hold, self._release)
        os.close(hold)
        # /proc cannot be without it: no other process can collect it
        self.who = identity(pid) or Identity(pid=pid, start_ticks=0, boot="")

    def is_waiting(self) -> bool:
        """Return whether it still waits."""
        try:
            return os.waitid(os.P_PID, self.who.pid, WAITID_FLAGS) is None
        except ChildProcessError:
            return False

    def release(self, attempt: Attempt, order: bytes) -> None:
        """Let it do the work of an attempt."""
        text = os.fsencode(attempt.folder) + b"\0" + order
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._release, "wb") as pipe:
            pipe.write(text)  # the exit of a killed worker is noticed elsewhere

    def dismiss(self) -> None:
        """Let it end without having been anything; not after `release`."""
        os.close(self._release)
        # the worker was killed, and we have collected its exit status
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.who.pid, 0)


def _wait_as_worker(hold: int, release: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.close(release)
        _reset_signals()
        folder, _, text = read_all(hold).partition(b"\0")
        if not text:
            os._exit(1)  # the supervisor died before our pid was on record
        code = _run_worker(Attempt(Path(os.fsdecode(folder))), text)
    except BaseException as error:  # noqa: BLE001  # nothing may escape into the supervisor's code
        os.write(2, f"launcher: cannot start the job: {error}\n".encode(errors="replace"))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_worker(attempt: Attempt, text: bytes) -> int:
    order = read_attempt_spec(text)  # `read_attempt_spec` refuses an order that was cut off
    log, errors = open_logs(order, attempt)
    os.dup2(log, 1)
    os.dup2(errors, 2)
    os.closerange(3, MOST_DESCRIPTORS)
    worker.apply_environment(order, attempt)
    return worker.work(order, attempt, device="cuda:0" if order.gpus else CPU, gpus=len(order.gpus))


def _reset_signals() -> None:
    """Handle every signal as a program expects it at its start."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
