"""A child process that answers questions over a pipe, a JSON line each; it is started when there is one.

Where it does not answer in time it is killed, and the next question starts another.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.backends.protocol import EngineError
from launcher.system.text import harmless
from launcher.units import format_seconds

_BLOCK = 1 << 16
_LINES_KEPT = 10  # of what it prints for people
_SHOWN = 3
_END_S = 5.0  # for a process that has closed its output to be gone
_MOST_ANSWER = 1 << 28  # bytes


class AskedProcess:
    """The process; used by one thread at a time."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Callable[[], Mapping[str, str]],
        *,
        name: str,
        patience_s: float,
    ) -> None:
        """Begin without a process.

        Args:
            argv: its command.
            environment: of what it is started with.
            name: whom it speaks for, in messages.
            patience_s: for each answer.
        """
        self._argv, self._environment = tuple(argv), environment
        self._name, self._patience_s = name, patience_s
        self._child: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._printed: deque[str] = deque(maxlen=_LINES_KEPT)
        self._rest = b""
        self._number = 0

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a question.

        Raises:
            EngineError: it cannot be started, ended, or did not answer in time.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "do": what, "with": arguments}).encode() + b"\n"
        try:
            child = self._started()
            self._send(child, line)
            return self._answer(child)
        except EngineError:
            self.close()
            raise

    def close(self) -> None:
        """Kill the process; the next question starts another."""
        child, self._child, self._rest = self._child, None, b""
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for end in (child.stdin, child.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        """Return the process; started where there is none, or where it has ended since.

        Raises:
            EngineError: it cannot be started.
        """
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._printed.clear()
        try:
            self._child = child = subprocess.Popen(
                self._argv,
                env=self._environment(),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(f"{self._name}: cannot run {self._argv[0]}: {why}") from error
        assert child.stdin is not None
        assert child.stdout is not None
        os.set_blocking(child.stdin.fileno(), False)
        os.set_blocking(child.stdout.fileno(), False)
        self._listener = threading.Thread(target=self._listen, args=(child,), daemon=True)
        self._listener.start()
        return child

    def _listen(self, child: "subprocess.Popen[bytes]") -> None:
        """Keep the last lines that the process prints for people."""
        assert child.stderr is not None
        with child.stderr as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                text = harmless(line[:_BLOCK].decode(errors="replace").strip())
                if text:
                    self._printed.append(text)

    def _send(self, child: "subprocess.Popen[bytes]", line: bytes) -> None:
        assert child.stdin is not None
        pipe, view, deadline = child.stdin.fileno(), memoryview(line), self._deadline()
        while view:
            self._await(pipe, select.POLLOUT, deadline)
            try:
                view = view[os.write(pipe, view[:_BLOCK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._ended(child) from error

    def _answer(self, child: "subprocess.Popen[bytes]") -> dict[str, Any]:
        assert child.stdout is not None
        pipe, deadline = child.stdout.fileno(), self._deadline()
        while True:
            line, end, rest = self._rest.partition(b"\n")
            if end:
                self._rest = rest
                return self._read(line)
            self._await(pipe, select.POLLIN, deadline)
            block = os.read(pipe, _BLOCK)
            if not block or len(self._rest) > _MOST_ANSWER:
                raise self._ended(child)
            self._rest += block

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.pop("id") == self._number:
                return answer
        except (ValueError, KeyError, RecursionError):
            pass
        text = harmless(line[:200].decode(errors="replace"))
        raise EngineError(f"{self._name}: an answer is not understood: {text}")

    def _await(self, pipe: int, what: int, deadline: float) -> None:
        """Wait until a pipe can be read or written.

        Raises:
            EngineError: it cannot in time.
        """
        poll = select.poll()
        poll.register(pipe, what)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._silent()

    def _deadline(self) -> float:
        return time.monotonic() + self._patience_s

    def _silent(self) -> EngineError:
        return EngineError(f"{self._name} did not answer within {format_seconds(self._patience_s)}")

    def _ended(self, child: "subprocess.Popen[bytes]") -> EngineError:
        try:
            code = child.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = 0
        if self._listener is not None:
            self._listener.join(_END_S)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        printed = "; ".join(list(self._printed)[-_SHOWN:])
        more = f": {printed}" if printed else ""
        return EngineError(f"{self._name}: {self._argv[0]} ended by itself, {how}{more}")
