"""Commands of ours in forks of a process that has imported them, which saves nine tenths of a start.

A fork has a folder, an environment, streams and a session of its own, and ends as any process does. What it lacks
is what Python does before our first line. LAUNCHER_TESTS_STARTS=anew starts installed commands instead, as `make
night` does.
"""

import contextlib
import ctypes
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
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LAUNCHER = "launcher.cli.main"
LONGEST = 1 << 20  # bytes of a request
NVML = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A process that runs a module's `main`."""

    pid: int
    ends: int  # the descriptor from which its exit status is read

    def wait(self, deadline: float | None = None) -> int:
        """Wait for the end; return the exit code, or the negative number of the signal.

        Raises:
            TimeoutError: it has not ended at `deadline`, a monotonic time.
        """
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([self.ends], [], [], left_s)[0]:
            raise TimeoutError
        text = os.read(self.ends, 64)
        os.close(self.ends)
        assert text, "the process that forks has ended"
        return os.waitstatus_to_exitcode(int(text))

    def kill(self) -> None:
        """Kill it; nothing happens where it has ended."""
        if not select.select([self.ends], [], [], 0)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def fork(
    module: str,
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    out: int,
    err: int,
) -> Fork:
    """Run a module's `main` with these words and without input in a new process."""
    ours, theirs = os.pipe()
    request = [module, list(words), str(folder), dict(environment)]
    text = json.dumps(request).encode("utf-8", "surrogateescape")
    assert len(text) < LONGEST
    server, _ = _server()
    socket.send_fds(server, [text], [out, err, theirs])
    os.close(theirs)
    return Fork(pid=int(server.recv(64)), ends=ours)


def can_stand_for(environment: Mapping[str, str]) -> bool:
    """Tell whether a fork does what an installed command does that is started in this environment."""
    anew = os.environ.get("LAUNCHER_TESTS_STARTS") == "anew"
    return not anew and "LD_PRELOAD" not in environment  # which acts on a program's start only


def call_launcher(
    *words: str, folder: Path, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run `launcher` to its end without input, and return its output.

    Raises:
        subprocess.TimeoutExpired: it runs longer, or something holds its output open; it is killed.
    """
    deadline = time.monotonic() + timeout_s
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    process = fork(
        LAUNCHER, words, folder=folder, environment=environment, out=out_end, err=err_end
    )
    os.close(out_end)
    os.close(err_end)
    try:
        said, complained = _read_all((out, err), deadline)
        code = process.wait(deadline)
    except TimeoutError:
        process.kill()
        raise subprocess.TimeoutExpired(words, timeout_s) from None
    finally:
        os.close(out)
        os.close(err)
    return subprocess.CompletedProcess(words, code, said, complained)


def _read_all(pipes: Sequence[int], deadline: float) -> list[str]:
    """Read pipes until nobody holds their other ends, as text with newlines."""
    written = dict.fromkeys(pipes, b"")
    left = set(pipes)
    while left:
        ready = select.select(left, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise TimeoutError
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
        words, cwd=ROOT, env=environment, stdin=theirs, start_new_session=True
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
    for name in (LAUNCHER, "tests.nvml.scheduler"):
        importlib.import_module(name)


def _serve(asking: socket.socket) -> None:
    """Fork for each request, and report the ends."""
    running: dict[int, tuple[int, int]] = {}  # pidfd → pid, where its exit status is to be written
    while True:
        for ready in select.select([asking, *running], [], [])[0]:
            if ready is not asking:
                pid, ends = running.pop(ready)
                with contextlib.suppress(BrokenPipeError):
                    os.write(ends, str(os.waitpid(pid, 0)[1]).encode())
                os.close(ready)
                os.close(ends)
                continue
            text, descriptors, _, _ = socket.recv_fds(asking, LONGEST, 3)
            if not text:
                return
            out, err, ends = descriptors
            pid = os.fork()
            if not pid:
                asking.detach()  # closed with all that is not its own
                _run(text, out, err)
            os.close(out)
            os.close(err)
            running[os.pidfd_open(pid)] = (pid, ends)
            asking.send(str(pid).encode())


def _run(text: bytes, out: int, err: int) -> NoReturn:
    """Become what was asked for, and end with its code."""
    module, words, folder, environment = json.loads(text)
    os.setsid()
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
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
    sys.exit(importlib.import_module(module).main())


if __name__ == "__main__":
    main()
