"""Commands and background processes of ours in forks of a process that has imported them: a tenth of a start.

A fork has a folder, an environment, descriptors, limits, a session and a command line of its own, and ends as any
process does. It skips only the start of Python before our first line. `LAUNCHER_TESTS_STARTS=anew` or another locale
starts installed commands instead, as `make night` does.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import mmap
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import types
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

from launcher.system import process_start
from launcher.system.process_trees import ATTEMPT_VARIABLE
from tests import shortened

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LAUNCHER = "launcher.frontends.cli.main"
# variables that a program only reads when it starts
AT_START = {
    name: os.environ.get(name)
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8")
}
LONGEST = 1 << 20  # bytes of a request
NVML = "libnvidia-ml.so.1"
BEGIN = "begin_preloaded"  # function of a preloaded library that reads its variables once
DAEMONS = (
    "launcher.scheduler",
    "launcher.queue.scheduler.code_recording",
    "launcher.queue.workers.fork_server",
    "launcher.notify",
)
SEARCH = (
    "launcher.experiments.search",
    "launcher.experiments.search.process",
)  # imported once a search is started
LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
MOST_DESCRIPTORS = 64
TORCH = b'"torch"'  # among the modules that a fork server is to import
HUGE_PAGE = 1 << 21  # bytes
MADV_COLLAPSE = 25  # <linux/mman.h>
PRELOADED = "LD_PRELOAD"  # libraries; each value has a process that forks
_ADDRESSES: dict[
    str, str
] = {}  # addresses of the processes that fork, by that value; a fork knows its own
_IS_FORK = [False]


class Fork:
    """A process that runs a module's `main`; asked and ended as one of `subprocess` is."""

    def __init__(self, pid: int, ends: int) -> None:
        self.pid = pid
        self.returncode: int | None = None  # as soon as somebody has asked after its end
        self.status = 0  # as `waitpid` gives it, from then on
        self._ends = ends  # from which its exit status is read
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, or the negative number of the signal, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, so many seconds at most, and return what `poll` does.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        if self.returncode is None:
            poll = select.poll()  # select() knows no descriptor above 1,023
            poll.register(self._ends, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with self._reading:
                if self.returncode is None:
                    status = os.read(self._ends, 64)
                    assert status, "the process that forks has ended"
                    os.close(self._ends)
                    self.status = int(status)
                    self.returncode = os.waitstatus_to_exitcode(self.status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


Process = Fork | subprocess.Popen[bytes]


def start(
    module: str,
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
) -> Process:
    """Run a module's `main` in a process that leads a session.

    Args:
        module: its name.
        words: the arguments.
        folder: in which it works.
        environment: all of it.
        streams: its standard input, output and error; a terminal as input becomes the session's.
    """
    if _starts_anew(environment):
        argv = [BIN / "launcher"] if module == LAUNCHER else [sys.executable, "-m", module]
        return subprocess.Popen(
            [*argv, *words],
            cwd=folder,
            env=environment,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
    _start_server(environment.get(PRELOADED, ""))
    return _fork(
        {"module": module, "words": list(words), "folder": str(folder)},
        environment,
        dict(enumerate(streams)),
    )


def spawn_detached(
    argv: Sequence[str], log: Path, append: int, environment: Mapping[str, str] | None
) -> int:
    """Start a background process as `launcher.system.process_start` does, if possible as a fork.

    It is a child of the process that forks; `wait_for` reports its end to the process that asked for it.
    """
    whole = {name: text for name, text in os.environ.items() if name != ATTEMPT_VARIABLE}
    whole |= dict(environment or {})
    ours = [*argv[:2]] == [sys.executable, "-P"] and argv[3] in (*DAEMONS, *SEARCH)
    if not ours or _starts_anew(whole):
        return _spawn_detached(argv, log, append, environment)
    if not _IS_FORK[0]:
        _start_server(whole.get(PRELOADED, ""))
    umask = os.umask(0o077)
    os.umask(umask)
    request = {
        "daemon": list(argv),
        "folder": os.getcwd(),  # noqa: PTH109  # of a folder that was deleted, it is an OSError
        "umask": umask,
        "cores": [*os.sched_getaffinity(0)],
        "limits": [resource.getrlimit(limit) for limit in LIMITS],
    }
    inherited = {}
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}:  # noqa: PTH208
        with contextlib.suppress(OSError):
            if os.get_inheritable(descriptor):
                inherited[descriptor] = descriptor
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        out = os.open(log, append, 0o600)
    except OSError:
        os.close(nothing)
        raise
    try:
        fork = _fork(request, whole, {0: nothing, 1: out, 2: out} | inherited)
    except ConnectionError:  # the run of the tests has ended
        return _spawn_detached(argv, log, append, environment)
    finally:
        os.close(nothing)
        os.close(out)
    for each in [*_DAEMONS.values()]:
        each.poll()  # one that has ended holds no descriptor
    _DAEMONS[fork.pid] = fork
    return fork.pid


def wait_for(pid: int, options: int) -> tuple[int, int]:
    """Do what `os.waitpid` does, also for background processes that are forks."""
    fork = _DAEMONS.get(pid)
    if fork is None:
        return _waitpid(pid, options)
    if (fork.poll() if options & os.WNOHANG else fork.wait()) is None:
        return 0, 0
    _DAEMONS.pop(pid, None)
    return pid, fork.status


_DAEMONS: dict[int, Fork] = {}  # processes that this process has requested, by pid
_spawn_detached, _waitpid = process_start._spawn_detached, os.waitpid


def fork_daemons() -> None:
    """Let background processes that this process starts, and those that they start, be forks."""
    process_start._spawn_detached = spawn_detached
    os.waitpid = wait_for
    os.register_at_fork(after_in_child=_DAEMONS.clear)  # they are children of the other process


def _starts_anew(environment: Mapping[str, str]) -> bool:
    """Return whether a process needs a start of Python of its own."""
    other = any(environment.get(name) != value for name, value in AT_START.items())
    other |= _IS_FORK[0] and environment.get(PRELOADED, "") not in _ADDRESSES
    return other or os.environ.get("LAUNCHER_TESTS_STARTS") == "anew"


def _fork(
    request: dict[str, Any], environment: Mapping[str, str], descriptors: Mapping[int, int]
) -> Fork:
    """Ask for a process; its descriptors have the numbers of ours."""
    ours, theirs = os.pipe()
    request |= {"environment": dict(environment), "descriptors": [*descriptors]}
    text = json.dumps(request).encode()  # characters that are not UTF-8 are escaped
    assert len(text) < LONGEST
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
            server.connect(_ADDRESSES[environment.get(PRELOADED, "")])
            socket.send_fds(server, [text], [theirs, *descriptors.values()])
            pid = server.recv(64)
        if not pid:
            raise ConnectionResetError("the process that forks could not")
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Fork(int(pid), ours)


def call_launcher(
    *words: str, folder: Path, environment: Mapping[str, str], timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `launcher` to its end without input, and return its output.

    Raises:
        subprocess.TimeoutExpired: it runs longer, or something holds its output open; it is killed.
    """
    deadline = time.monotonic() + timeout_s
    nothing = os.open(os.devnull, os.O_RDONLY)
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    streams = (nothing, out_end, err_end)
    process = start(LAUNCHER, words, folder=folder, environment=environment, streams=streams)
    for descriptor in streams:
        os.close(descriptor)
    try:
        said, complained = _read_all((out, err), deadline)
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        raise subprocess.TimeoutExpired(words, timeout_s) from None
    finally:
        os.close(out)
        os.close(err)
    return subprocess.CompletedProcess(words, process.wait(), said, complained)


def _read_all(pipes: Sequence[int], deadline: float) -> list[str]:
    """Read pipes until nobody holds their other ends, and return their texts."""
    written = dict.fromkeys(pipes, b"")
    left = set(pipes)
    while left:
        ready = select.select(left, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise subprocess.TimeoutExpired("", 0)
        for pipe in ready:
            more = os.read(pipe, 1 << 16)
            written[pipe] += more
            if not more:
                left.remove(pipe)
    return [io.TextIOWrapper(io.BytesIO(text), "utf-8").read() for text in written.values()]


@cache
def _start_server(preloaded: str) -> subprocess.Popen[bytes]:
    """Start a process that forks; it ends with ours."""
    address = f"\0launcher-tests-{os.getpid()}-{os.urandom(8).hex()}"
    # no variable of a test: a process is taken for one of a home if it has that among them
    environment = {"PATH": os.environ["PATH"], "LANG": os.environ["LANG"], PRELOADED: preloaded}
    environment["OMP_NUM_THREADS"] = "1"  # threads of a library would be missing in a fork
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LONGEST)
        asking.bind(address)
        asking.listen(64)
        words = [sys.executable, "-m", "tests.forked", address[1:], str(asking.fileno())]
        server = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[asking.fileno()],
        )
    _ADDRESSES[preloaded] = address
    return server


def main() -> None:
    """Import what the commands need, and fork for each request until nobody asks any more."""
    _ADDRESSES[os.environ[PRELOADED]], _IS_FORK[0] = f"\0{sys.argv[1]}", True
    fork_daemons()
    _import_commands()
    del sys.path[0]  # the folder from which this one was imported
    os.chdir("/")
    gc.freeze()
    join_pages()
    _serve(socket.socket(fileno=int(sys.argv[2])))


def join_pages() -> None:
    """Put this process's memory into huge pages, if the kernel can: forks then copy small page tables."""
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, access, _, _, inode, *_ = line.split()
        start, end = (int(address, 16) // HUGE_PAGE for address in place.split("-"))
        if access == "rw-p" and inode == "0":
            first, size = (start + 1) * HUGE_PAGE, (end - start - 1) * HUGE_PAGE
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(max(0, size)), MADV_COLLAPSE)


def _import_commands() -> None:
    """Import what commands of ours import, and no torch."""
    for module in pkgutil.walk_packages(
        importlib.import_module("launcher.frontends.cli").__path__, "launcher.frontends.cli."
    ):
        importlib.import_module(module.name)
    for kind in entry_points(group="launcher.kinds"):
        importlib.import_module(kind.module)
    for name in (
        LAUNCHER,
        "tests.nvml.scheduler",
        "launcher.frontends.web.server",
        *map(_program, DAEMONS),
    ):
        with contextlib.suppress(ImportError):  # the extra `web` is not installed
            importlib.import_module(name)


def _program(module: str) -> str:
    """Return the module that `python -m` runs."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    return f"{module}.__main__" if spec.submodule_search_locations else module


def _serve(asking: socket.socket, *, has_torch: bool = False) -> None:
    """Fork for each request, and report the ends."""
    running: dict[int, tuple[int, int]] = {}  # pidfd → pid, where its exit status is to be written
    while True:
        for ready in select.select([0, asking.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, ends = running.pop(ready)
                with contextlib.suppress(BrokenPipeError):
                    os.write(ends, str(_waitpid(pid, 0)[1]).encode())
                os.close(ready)
                os.close(ends)
                continue
            if ready == 0:
                return
            text, descriptors = b"", list[int]()
            if has_torch:
                text, (first, *descriptors), _, _ = socket.recv_fds(
                    asking, LONGEST, MOST_DESCRIPTORS
                )
                connection = socket.socket(fileno=first)
            else:
                connection = asking.accept()[0]
                with contextlib.suppress(ConnectionError):  # who asked was killed meanwhile
                    text, descriptors, _, _ = socket.recv_fds(connection, LONGEST, MOST_DESCRIPTORS)
            if TORCH in text and not has_torch:
                socket.send_fds(_torch_server(), [text], [connection.fileno(), *descriptors])
                for descriptor in descriptors:
                    os.close(descriptor)
            elif text:
                _answer(connection, text, descriptors, running)
            connection.close()


@cache
def _torch_server() -> socket.socket:
    """Fork a process that has imported torch, and forks; other forks stay small. Requests are passed to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end, option in ((ours, socket.SO_SNDBUF), (theirs, socket.SO_RCVBUF)):
        end.setsockopt(socket.SOL_SOCKET, option, LONGEST)
    if os.fork() == 0:
        _place({theirs.fileno(): theirs.fileno()})
        with contextlib.suppress(ImportError):
            for module in importlib.import_module("trueface.jobs.job_kind").PRELOAD:
                if not module.startswith("trueface"):  # it may be another in a test
                    importlib.import_module(module)
        gc.freeze()
        join_pages()
        _serve(theirs, has_torch=True)
        os._exit(0)
    theirs.close()
    return ours


def _answer(
    connection: socket.socket,
    text: bytes,
    descriptors: Sequence[int],
    running: dict[int, tuple[int, int]],
) -> None:
    """Fork for a request, and add the fork to those that run."""
    request = json.loads(text)
    if SEARCH[0] in request.get("daemon", ()):
        with contextlib.suppress(ImportError):  # the extra `search` is not installed
            importlib.import_module(SEARCH[1])
            gc.freeze()
    try:
        pid = os.fork()
    except OSError:  # there is no room for a process: the answer is empty
        pid = None
    if pid == 0:
        connection.detach()  # closed with all that is not its own
        _run(request, descriptors[1:])
    if pid is not None:
        running[os.pidfd_open(pid)] = (pid, os.dup(descriptors[0]))
        with contextlib.suppress(ConnectionError):
            connection.send(str(pid).encode())
    for descriptor in descriptors:
        os.close(descriptor)


def _run(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Become what was asked for, and end with its code."""
    os.setsid()
    _place(dict(zip(request["descriptors"], descriptors, strict=True)))
    _take_terminal()
    _open_streams()
    environment = request["environment"]
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(request["folder"])
    places = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        library = Path(place, NVML)
        if library.is_file():  # the loader reads that variable at its start only
            ctypes.CDLL(str(library))
    for preloaded in filter(None, os.environ.get(PRELOADED, "").split(":")):
        begin = getattr(ctypes.CDLL(preloaded), BEGIN, None)  # it has seen another environment
        if begin is not None:
            begin()
    argv = request.get("daemon")
    try:
        changed = shortened.apply()
        if argv is None:
            sys.path[:] = [str(BIN), *places, *sys.path]
            sys.argv[:] = [str(BIN / "launcher"), *request["words"]]
            sys.exit(importlib.import_module(request["module"]).main())
        os.umask(request["umask"])
        os.sched_setaffinity(0, request["cores"])
        for limit, values in zip(LIMITS, request["limits"], strict=True):
            resource.setrlimit(limit, values)
        sys.path[:] = [*places, *sys.path]
        _show_start(argv, environment)
        if _program(argv[3]) in changed:  # a second copy of its module would not be changed
            sys.argv[1:] = argv[4:]
            sys.exit(importlib.import_module(_program(argv[3])).main(argv[4:]))
        _run_module(argv[3], argv[4:])
        sys.exit()
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            _leave(leaving.code or 0)
        raise


def _place(descriptors: Mapping[int, int]) -> None:
    """Give descriptors their numbers, and close all others."""
    above = max([*descriptors, *descriptors.values()]) + 1
    aside = {
        number: fcntl.fcntl(place, fcntl.F_DUPFD, above) for number, place in descriptors.items()
    }
    os.closerange(3, above)
    for number, place in aside.items():
        os.dup2(place, number)
    os.closerange(above, os.sysconf("SC_OPEN_MAX"))


def _run_module(module: str, words: Sequence[str]) -> None:
    """Run a module as `python -m` does."""
    spec = importlib.util.find_spec(_program(module))
    assert spec is not None
    assert spec.loader is not None
    main = types.ModuleType("__main__")
    main.__dict__.update(
        __file__=spec.origin, __loader__=spec.loader, __package__=spec.parent, __spec__=spec
    )
    sys.modules["__main__"] = main
    sys.argv[:] = [str(spec.origin), *words]
    exec(spec.loader.get_code(spec.name), main.__dict__)  # type: ignore[attr-defined]


class _Memory(ctypes.Structure):
    """`struct prctl_mm_map` of prctl(2)."""

    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in (
                "start_code",
                "end_code",
                "start_data",
                "end_data",
                "start_brk",
                "brk",
                "start_stack",
                "arg_start",
                "arg_end",
                "env_start",
                "env_end",
                "auxv",
            )
        ),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


def _show_start(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let others see this command line and this environment in /proc, as after an exec."""
    words = b"".join(os.fsencode(word) + b"\0" for word in argv)
    variables = b"".join(os.fsencode(f"{name}={text}\0") for name, text in environment.items())
    place = mmap.mmap(-1, len(words) + len(variables), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place[:] = words + variables
    start = ctypes.addressof(ctypes.c_char.from_buffer(place))
    middle, end = start + len(words), start + len(words) + len(variables)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    code, code_end, stack, data, data_end, heap = (
        int(fields[number - 3]) for number in (26, 27, 28, 45, 46, 47)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    memory = _Memory(
        code, code_end, data, data_end, heap, libc.sbrk(0), stack, start, middle, middle, end
    )
    memory.exe_fd = 0xFFFFFFFF  # the program stays
    if libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(memory), ctypes.sizeof(memory), 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_MM)")
    _shown.append(place)


_PR_SET_MM, _PR_SET_MM_MAP = 35, 14  # <linux/prctl.h>
_shown: list[mmap.mmap] = []


def _leave(code: int) -> None:
    """End with a code as Python does, but leave its memory to the kernel.

    The destruction of all imported modules, page by page of a copy, takes six times as long as a small command.
    If output cannot be written, Python exits instead and reports the error.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python itself
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


def _open_streams() -> None:
    """Recreate Python's standard streams, because their buffering depends on their target."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        last = getattr(sys, name)
        mode = "w" if number else "r"
        buffering = 1 if name == "stderr" else -1
        stream = os.fdopen(
            number, mode, buffering, last.encoding, errors=last.errors, closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _take_terminal() -> None:
    """Make the standard input the terminal whose Ctrl-C is ours, if it is one."""
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    main()
