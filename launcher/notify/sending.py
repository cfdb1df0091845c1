"""One message on its way to one target: a process of its own, which is killed when it takes too long."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from launcher.errors import UsageError
from launcher.notify.settings import Target, address_of
from launcher.notify.state import Delivery
from launcher.system.processes import MARK
from launcher.system.text import harmless
from launcher.units import format_bytes, format_seconds

DELIVER = (sys.executable, "-P", "-m", "launcher.notify.deliver")
MOST_OUTPUT = 1 << 14  # bytes that are read of what it printed
MOST_PRINTED = 64 << 20  # bytes; a command that prints without end would fill the disk of the jobs
MOST_ANSWER = 300  # characters
LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a sending ended."""

    sent: bool
    text: str = ""  # for people; holds no secret


class Sending:
    """A process that sends a message."""

    def __init__(
        self, target: Target, delivery: Delivery | None, environ: Mapping[str, str]
    ) -> None:
        """Start it.

        Args:
            target: where to.
            delivery: what; None: its address is only looked at, where it is no command.
            environ: of the process.

        Raises:
            UsageError: the target cannot be used.
            OSError: no process can be started.
        """
        self._target = target
        self._is_command = bool(target.command)
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the end
        try:
            self._process = self._started(target, delivery, environ)
        except BaseException:
            self._output.close()
            raise
        self._deadline = time.monotonic() + target.timeout_s

    def _started(
        self, target: Target, delivery: Delivery | None, environ: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        environment = {name: text for name, text in environ.items() if name != MARK}
        if target.command:
            words = [os.path.expanduser(target.command[0]), *target.command[1:]]  # noqa: PTH111
            environment |= {} if delivery is None else variables(delivery)
            return self._spawn(words, environment, b"")
        order = {"url": address_of(target, environ), "timeout_s": target.timeout_s}
        if delivery is not None:
            order |= {"title": delivery.title, "text": delivery.text}
        if target.url_env:
            environment.pop(target.url_env, None)
        return self._spawn(DELIVER, environment, json.dumps(order).encode())

    def _spawn(
        self, words: tuple[str, ...] | list[str], environment: Mapping[str, str], order: bytes
    ) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as given:  # not a pipe: nobody waits for its reader
            given.write(order)
            given.seek(0)
            return subprocess.Popen(
                words,
                stdin=given,
                stdout=self._output,
                stderr=subprocess.STDOUT if self._is_command else subprocess.DEVNULL,
                env=environment,
                cwd=Path.home() if Path.home().is_dir() else "/",
                start_new_session=True,
            )

    def ended(self) -> Answer | None:
        """Return how it ended, None while it goes on; kill it where it takes too long."""
        code = self._process.poll()
        if code is None:
            trouble = self._trouble()
            if trouble:
                self.kill()
            return Answer(sent=False, text=trouble) if trouble else None
        self._end_rest()
        text = self._printed()
        self._output.close()
        return _of_command(code, text) if self._is_command else _of_service(code, text)

    def _trouble(self) -> str:
        """Return why it may not go on, '' where it may."""
        if time.monotonic() >= self._deadline:
            return f"no answer in {format_seconds(self._target.timeout_s)}"
        if os.fstat(self._output.fileno()).st_size > MOST_PRINTED:
            return f"it was ended: it printed more than {format_bytes(MOST_PRINTED)}"
        return ""

    def kill(self) -> None:
        """End it, and all that it has started."""
        self._end_rest()
        self._process.wait()
        self._output.close()

    def _end_rest(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _printed(self) -> str:
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, end - MOST_OUTPUT))
        return self._output.read(MOST_OUTPUT).decode(errors="replace")


def variables(delivery: Delivery) -> dict[str, str]:
    """Return a message as the variables of a command."""
    named = {
        **delivery.facts,
        "LAUNCHER_MESSAGE": delivery.id,
        "LAUNCHER_TITLE": delivery.title,
        "LAUNCHER_TEXT": delivery.text,
    }
    return {name: text.replace("\0", "") for name, text in named.items()}


def send_now(target: Target, delivery: Delivery | None, environ: Mapping[str, str]) -> Answer:
    """Send a message, or look at an address, and wait for the answer."""
    try:
        sending = Sending(target, delivery, environ)
    except (UsageError, OSError) as error:
        return refused(error)
    try:
        while (answer := sending.ended()) is None:
            time.sleep(LOOK_S)
    except BaseException:
        sending.kill()
        raise
    return answer


def refused(error: UsageError | OSError) -> Answer:
    """Return the answer of a target that cannot be used."""
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        return Answer(sent=False, text=f"cannot be started: {what}{error.strerror or error}")
    return Answer(sent=False, text=str(error))


def _of_command(code: int, text: str) -> Answer:
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    shown = harmless(last.strip())[:MOST_ANSWER]
    if code == 0:
        return Answer(sent=True, text=shown)
    how = f"exit code {code}" if code > 0 else f"ended by {_signal(-code)}"
    return Answer(sent=False, text=f"{how}: {shown}" if shown else how)


def _of_service(code: int, text: str) -> Answer:
    try:
        record = json.loads(text)
        return Answer(sent=record["delivered"] is True, text=harmless(record["answer"]))
    except (ValueError, KeyError, TypeError):
        return Answer(sent=False, text=f"the process that sends it ended with code {code}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
