"""A child process that answers questions over a pipe, one JSON line each."""

import contextlib
import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from launcher.queue.backends.protocol import EngineError
from launcher.system.child_process import has_ended, kill_child, spawn_child
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds
from launcher.system.waiting import wait_until

_LINES_KEPT = 10  # lines of stderr, for error messages
_SHOWN = 3
_LONGEST = 1 << 16  # bytes of a line of stderr
_END_S = 5.0  # seconds until a process that has closed its output must be gone
_END_POLL_S = 0.01
_MOST_ANSWER = 1 << 28  # bytes


class JsonLineProcess:
    """A child process that responds to requests over a pipe, one JSON line each. The first request starts it.

    If it does not respond in time it is killed, and the next request starts another. Used by one thread at a time.
    """

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
            environment: returns the environment variables of the process.
            name: name of the service that it connects to, for error messages.
            patience_s: timeout of each response.
        """
        self._argv, self._environment = tuple(argv), environment
        self._name, self._patience_s = name, patience_s
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr_reader: threading.Thread | None = None
        self._printed: deque[str] = deque(maxlen=_LINES_KEPT)
        self._number = 0

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Return the response to a request.

        Raises:
            EngineError: it cannot be started, ended, or did not respond in time.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "do": operation, "with": arguments}).encode() + b"\n"
        try:
            child = self._ensure_running()
            return self._parse_answer(child, self._exchange_line(child, line))
        except EngineError:
            self.close()
            raise

    def close(self) -> None:
        """Kill the process; the next question starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        kill_child(child)
        child.wait()
        for end in (child.stdin, child.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def _ensure_running(self) -> "subprocess.Popen[bytes]":
        """Return the process. Start one if there is none or it has ended.

        Raises:
            EngineError: it cannot be started.
        """
        if self._child is not None and not has_ended(self._child):
            return self._child
        self.close()
        self._printed.clear()
        try:
            self._child = child = spawn_child(
                self._argv, self._environment(), stdin=subprocess.PIPE
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(f"{self._name}: cannot run {self._argv[0]}: {why}") from error
        self._stderr_reader = threading.Thread(
            target=self._collect_stderr, args=(child,), daemon=True
        )
        self._stderr_reader.start()
        return child

    def _collect_stderr(self, child: "subprocess.Popen[bytes]") -> None:
        """Keep the last lines that the process prints to stderr."""
        assert child.stderr is not None
        with child.stderr as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                text = sanitize_terminal(line[:_LONGEST].decode(errors="replace").strip())
                if text:
                    self._printed.append(text)

    def _exchange_line(self, child: "subprocess.Popen[bytes]", line: bytes) -> bytes:
        """Return the response line of the process, incomplete if it has ended.

        Raises:
            EngineError: it did not respond in time. It is killed then, which ends the threads that wait for it.
        """
        assert child.stdin is not None
        assert child.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            kill_child(child)

        timer = threading.Timer(self._patience_s, kill)
        timer.daemon = True
        timer.start()
        answer = b""
        with contextlib.suppress(OSError):
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline(_MOST_ANSWER)
        timer.cancel()
        if late.is_set():
            span = format_seconds(self._patience_s)
            raise EngineError(f"{self._name} did not respond within {span}")
        return answer

    def _parse_answer(self, child: "subprocess.Popen[bytes]", line: bytes) -> dict[str, Any]:
        if not line.endswith(b"\n"):
            raise self._ended_error(child)
        try:
            answer = json.loads(line)
            if isinstance(answer, dict) and answer.pop("id") == self._number:
                return answer
        except (ValueError, KeyError, RecursionError):
            pass
        text = sanitize_terminal(line[:200].decode(errors="replace").strip())
        raise EngineError(f"{self._name}: cannot parse its answer {text!r}")

    def _ended_error(self, child: "subprocess.Popen[bytes]") -> EngineError:
        ended = wait_until(partial(has_ended, child), _END_S, _END_POLL_S)
        kill_child(child)  # the child and the processes that it started
        code = child.wait() if ended else 0
        if self._stderr_reader is not None:
            self._stderr_reader.join(_END_S)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        printed = "; ".join(list(self._printed)[-_SHOWN:])
        more = f": {printed}" if printed else ""
        return EngineError(f"{self._name}: {self._argv[0]} ended unexpectedly ({how}){more}")
