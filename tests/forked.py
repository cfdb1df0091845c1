"""Commands of ours in forks of a process that has imported them, which saves nine tenths of a start.

A fork has a folder, an environment, streams and a session of its own, and ends as any process does. It skips only
the start of Python before our first line. `LAUNCHER_TESTS_STARTS=anew` or another locale starts installed commands
instead, as `make night` does.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LAUNCHER = "launcher.cli.main"
# what a program only looks at when it starts
AT_START = {
    name: os.environ.get(name)
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "LD_PRELOAD", "PYTHONIOENCODING", "PYTHONUTF8")
}
LONGEST = 1 << 20  # bytes of a request
NVML = "libnvidia-ml.so.1"


class Fork:
    """A process that runs a module's `main`; asked and ended as one of `subprocess` is."""

    def __init__(self, pid: int, ends: int) -> None:
        self.pid = pid
        self.returncode: int | None = None  # as soon as somebody has asked after its end
        self._ends = ends  # from which its exit status is read

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
            if not select.select([self._ends], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            status = os.read(self._ends, 64)
            assert status, "the process that forks has ended"
            os.close(self._ends)
            self.returncode = os.waitstatus_to_exitcode(int(status))
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
    other = any(environment.get(name) != value for name, value in AT_START.items())
    if other or os.environ.get("LAUNCHER_TESTS_STARTS") == "anew":
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
    ours, theirs = os.pipe()
    request = [module, list(words), str(folder), dict(environment)]
    text = json.dumps(request).encode()  # what is no UTF-8 is escaped
    assert len(text) < LONGEST
    server, _ = _server()
    socket.send_fds(server, [text], [*streams, theirs])
    os.close(theirs)
    return Fork(int(server.recv(64)), ours)


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
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process that forks, and return how it is asked; it ends with ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
    # no variable of a test: a process is taken for one of a home if it has that among them
    environment = {"PATH": os.environ["PATH"], "LANG": os.environ["LANG"]}
    words = [sys.executable, "-m", "tests.forked"]
    server = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdin=theirs.fileno(), start_new_session=True
    )
    theirs.close()
    return ours, server


def main() -> None:
    """Import what the commands need, and fork for each request until nobody asks any more."""
    _import_commands()
    del sys.path[0]  # the folder from which this one was imported
    os.chdir("/")
    gc.freeze()
    _serve(socket.socket(fileno=os.dup(0)))


def _import_commands() -> None:
    """Import what commands of ours import, and no torch."""
    for module in pkgutil.walk_packages(
        importlib.import_module("launcher.cli").__path__, "launcher.cli."
    ):
        importlib.import_module(module.name)
    for kind in entry_points(group="launcher.kinds"):
        importlib.import_module(kind.module)
    for name in (LAUNCHER, "tests.nvml.scheduler", "launcher.web.server"):
        with contextlib.suppress(ImportError):  # the extra `web` is not installed
            importlib.import_module(name)


def _serve(asking: socket.socket) -> None:
    """Fork for each request, and report the ends."""
    running: dict[int, tuple[int, int]] = {}  # pidfd → pid, where its exit status is to be written
    while True:
        for ready in select.select([asking.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, ends = running.pop(ready)
                with contextlib.suppress(BrokenPipeError):
                    os.write(ends, str(os.waitpid(pid, 0)[1]).encode())
                os.close(ready)
                os.close(ends)
                continue
            text, descriptors, _, _ = socket.recv_fds(asking, LONGEST, 4)
            if not text:
                return
            *streams, ends = descriptors
            pid = os.fork()
            if not pid:
                asking.detach()  # closed with all that is not its own
                _run(text, streams)
            for stream in streams:
                os.close(stream)
            running[os.pidfd_open(pid)] = (pid, ends)
            asking.send(str(pid).encode())


def _run(text: bytes, streams: Sequence[int]) -> NoReturn:
    """Become what was asked for, and end with its code."""
    module, words, folder, environment = json.loads(text)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _take_terminal()
    _open_streams()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [str(BIN), *filter(None, places), *sys.path]
    sys.argv[:] = [str(BIN / "launcher"), *words]
    for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        library = Path(place, NVML)
        if library.is_file():  # the loader reads that variable at its start only
            ctypes.CDLL(str(library))
    try:
        sys.exit(importlib.import_module(module).main())
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            _leave(leaving.code or 0)
        raise


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
