"""One message on its way to one target: a process of its own, which is killed when it takes too long.

A service is told through apprise by such a process, too, `-m launcher.notify.sending`: one that hangs is killed, and
nothing else waits. Its order comes through the standard input, so that no list of processes shows an address.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from launcher.errors import UsageError
from launcher.notify.messages import Message
from launcher.notify.settings import Target, address_of, without_secrets
from launcher.system.processes import MARK
from launcher.system.text import harmless
from launcher.units import format_bytes, format_seconds

DELIVER = (sys.executable, "-P", "-m", "launcher.notify.sending")
MOST_OUTPUT = 1 << 14  # bytes that are read of what it printed
MOST_PRINTED = 64 << 20  # bytes; a command that prints without end would fill the disk of the jobs
MOST_ANSWER = 300  # characters
MOST_SERVICE_ANSWER = 500  # likewise
LOOK_S = 0.05
MISSING = "apprise is not installed for {python}: pip install 'launcher-trueface[notify]'"
UNKNOWN = "apprise knows no service of this address; its forms: https://appriseit.com/services/"
_IDLE_TALK = "Notifying "  # so many services


class Answer(NamedTuple):
    """How a sending ended."""

    sent: bool
    text: str = ""  # for people; holds no secret


class Sending:
    """A process that sends a message."""

    def __init__(self, target: Target, message: Message | None, environ: Mapping[str, str]) -> None:
        """Start it.

        Args:
            target: where to.
            message: what; None: its address is only looked at, where it is no command.
            environ: of the process.

        Raises:
            UsageError: the target cannot be used.
            OSError: no process can be started.
        """
        self._target = target
        self._is_command = bool(target.command)
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the end
        try:
            self._process = self._started(target, message, environ)
        except BaseException:
            self._output.close()
            raise
        self._deadline = time.monotonic() + target.timeout_s

    def _started(
        self, target: Target, message: Message | None, environ: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        environment = {name: text for name, text in environ.items() if name != MARK}
        if target.command:
            words = [os.path.expanduser(target.command[0]), *target.command[1:]]  # noqa: PTH111
            environment |= {} if message is None else variables(message)
            return self._spawn(words, environment, b"")
        order = {"url": address_of(target, environ), "timeout_s": target.timeout_s}
        if message is not None:
            order |= {"title": message.title, "text": message.text}
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


def variables(message: Message) -> dict[str, str]:
    """Return a message as the variables of a command."""
    named = {
        **message.facts,
        "LAUNCHER_MESSAGE": message.id,
        "LAUNCHER_TITLE": message.title,
        "LAUNCHER_TEXT": message.text,
    }
    return {name: text.replace("\0", "") for name, text in named.items()}


def send_now(target: Target, message: Message | None, environ: Mapping[str, str]) -> Answer:
    """Send a message, or look at an address, and wait for the answer."""
    try:
        sending = Sending(target, message, environ)
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


class _LogLines(logging.Handler):
    """Keeps what apprise logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        with contextlib.suppress(Exception):  # a log line is no reason to fail
            line = record.getMessage()
            if not line.startswith(_IDLE_TALK) and "://" not in line:  # it shows parts of secrets
                self.lines.append(line)


def _delivered(order: dict[str, Any]) -> tuple[bool, str]:
    """Send a message, or only see whether its address can be used; return whether, and what was answered.

    Args:
        order: `url`, `title` and `text`; without a title nothing is sent.
    """
    try:
        import apprise  # an extra; only this process needs it
    except ImportError:
        return False, MISSING.format(python=sys.executable)
    logger, log = logging.getLogger("apprise"), _LogLines()
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="launcher", app_desc="launcher"))
    if not service.add(order["url"]):
        return False, "; ".join([UNKNOWN, *log.lines])
    if "title" not in order:
        return True, ""
    text, title = order["text"], order["title"]
    delivered = service.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT)
    return bool(delivered), "; ".join(log.lines) or ("sent" if delivered else "not sent")


def main() -> int:
    """Read an order, carry it out, and print the answer as JSON."""
    order = json.load(sys.stdin)
    signal.alarm(int(order["timeout_s"]) + 1)  # where nobody is left to kill us
    delivered, answer = _delivered(order)
    answer = without_secrets(" ".join(answer.split()), order["url"])[:MOST_SERVICE_ANSWER]
    sys.stdout.write(json.dumps({"delivered": delivered, "answer": answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
