"""The delivery of one message to one target by a separate process, which is killed after a timeout.

Apprise sends messages to services in such a process, `-m launcher.frontends.notify.sending`: a hanging one is killed and delays
nothing else. It reads its request from the standard input, so no process list shows an address.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from launcher.frontends.notify.addresses import read_address, redact_secrets
from launcher.frontends.notify.messages import Message
from launcher.frontends.notify.settings import NotifyTarget
from launcher.system.child_process import has_ended, kill_child, spawn_child
from launcher.system.errors import UsageError
from launcher.system.installation import install_command
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes, format_seconds
from launcher.system.waiting import wait_until

DELIVER_COMMAND = (sys.executable, "-P", "-m", "launcher.frontends.notify.sending")
MOST_OUTPUT = 1 << 14  # bytes of the output that are read
MOST_PRINTED = 64 << 20  # bytes; a command with endless output would fill the disk
MOST_ANSWER = 300  # characters
MOST_SERVICE_ANSWER = 500  # characters
POLL_S = 0.05
MISSING = "apprise is not installed for {python}. To install it: {command}"
UNKNOWN = "apprise does not support this address (see https://appriseit.com/services/)"
_NOTIFYING_PREFIX = "Notifying "  # the number of services follows
_END = "\x1e"  # ends a log record of apprise, which may have several lines


class DeliveryResult(NamedTuple):
    """The result of a delivery."""

    delivered: bool
    text: str = ""  # for users; contains no secret


def deliver(
    target: NotifyTarget,
    message: Message | None,
    environ: Mapping[str, str],
    stop_event: threading.Event | None = None,
) -> DeliveryResult:
    """Send a message and wait for the answer.

    Args:
        target: Target of the message.
        message: Message; None only checks the address of a target that is not a command.
        environ: Environment of the process.
        stop_event: Stops the delivery if it is set.
    """
    with contextlib.ExitStack() as stack:
        try:
            output = stack.enter_context(tempfile.TemporaryFile())
            process = _start_process(target, message, environ, output)
        except UsageError as error:
            return DeliveryResult(delivered=False, text=str(error))
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            return DeliveryResult(
                delivered=False, text=f"cannot be started: {what}{error.strerror or error}"
            )
        try:
            trouble = _await_process(process, target, output, stop_event or threading.Event())
        finally:
            kill_child(process)
            code = process.wait()
        if trouble:
            return DeliveryResult(delivered=False, text=trouble)
        end = output.seek(0, os.SEEK_END)
        output.seek(max(0, end - MOST_OUTPUT))
        text = output.read(MOST_OUTPUT).decode(errors="replace")
    return _result_of_command(code, text) if target.command else _result_of_service(code, text)


def _start_process(
    target: NotifyTarget, message: Message | None, environ: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    environment = {**environ}
    words: tuple[str, ...] = DELIVER_COMMAND
    order = b""
    if target.command:
        words = (os.path.expanduser(target.command[0]), *target.command[1:])  # noqa: PTH111
        environment |= {} if message is None else message_variables(message)
    else:
        record = {"url": read_address(target, environ), "timeout_s": target.timeout_s}
        if message is not None:
            record |= {"title": message.title, "text": message.text}
        environment.pop(target.url_env, None)
        order = json.dumps(record).encode()
    with tempfile.TemporaryFile() as given:  # not a pipe: the writer never blocks
        given.write(order)
        given.seek(0)
        return spawn_child(
            words,
            environment,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT if target.command else subprocess.DEVNULL,
            folder=str(Path.home()) if Path.home().is_dir() else "/",
        )


def _await_process(
    process: subprocess.Popen[bytes],
    target: NotifyTarget,
    output: IO[bytes],
    stop_event: threading.Event,
) -> str:
    """Wait for the end of a process; return why it must be stopped, '' if it has ended."""

    def look() -> str | None:
        if has_ended(process):
            return ""
        if stop_event.is_set():
            return "the sender was stopped"
        if os.fstat(output.fileno()).st_size > MOST_PRINTED:
            return f"it was killed: it printed more than {format_bytes(MOST_PRINTED)}"
        return None

    trouble = wait_until(look, target.timeout_s, POLL_S, sleep=stop_event.wait)
    return f"no answer in {format_seconds(target.timeout_s)}" if trouble is None else trouble


def message_variables(message: Message) -> dict[str, str]:
    """Return a message as environment variables of a command."""
    named = {
        **message.variables,
        "LAUNCHER_MESSAGE": message.id,
        "LAUNCHER_TITLE": message.title,
        "LAUNCHER_TEXT": message.text,
    }
    return {name: text.replace("\0", "") for name, text in named.items()}


def _result_of_command(code: int, text: str) -> DeliveryResult:
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    shown = sanitize_terminal(last.strip())[:MOST_ANSWER]
    if code == 0:
        return DeliveryResult(delivered=True, text=shown)
    how = f"exit code {code}" if code > 0 else f"ended by {_signal_name(-code)}"
    return DeliveryResult(delivered=False, text=f"{how}: {shown}" if shown else how)


def _result_of_service(code: int, text: str) -> DeliveryResult:
    try:
        record = json.loads(text)
        return DeliveryResult(
            delivered=record["delivered"] is True, text=sanitize_terminal(record["answer"])
        )
    except (ValueError, KeyError, TypeError):
        return DeliveryResult(
            delivered=False, text=f"the sending process ended with exit code {code}"
        )


def _signal_name(signal_number: int) -> str:
    try:
        return signal.Signals(signal_number).name
    except ValueError:
        return f"signal {signal_number}"


def _notify_service(request: dict[str, Any]) -> tuple[bool, str]:
    """Send a message, or only check its address; return whether it succeeded, and the answer.

    Args:
        request: `url`, `title` and `text`; without a title no message is sent.
    """
    try:
        import apprise  # apprise is an extra; only this process needs the package
    except ImportError:
        return False, MISSING.format(python=sys.executable, command=install_command("notify"))
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="launcher", app_desc="launcher"))
    delivered = False
    with apprise.LogCapture(level=logging.INFO, fmt=f"%(message)s{_END}") as log:
        is_known = service.add(request["url"])
        if is_known and "title" in request:
            text, title = request["text"], request["title"]
            form = apprise.NotifyFormat.TEXT
            delivered = bool(service.notify(body=text, title=title, body_format=form))
        said = [line for line in log.getvalue().split(f"{_END}\n") if line]
    # a record with an address contains parts of secrets
    lines = [line for line in said if not line.startswith(_NOTIFYING_PREFIX) and "://" not in line]
    if not is_known:
        return False, "; ".join([UNKNOWN, *lines])
    if "title" not in request:
        return True, ""
    return delivered, "; ".join(lines) or ("sent" if delivered else "not sent")


def main() -> int:
    """Read a request, execute it, and print the answer as JSON."""
    order = json.load(sys.stdin)
    signal.alarm(int(order["timeout_s"]) + 1)  # in case the parent process is gone
    delivered, answer = _notify_service(order)
    answer = redact_secrets(" ".join(answer.split()), order["url"])[:MOST_SERVICE_ANSWER]
    sys.stdout.write(json.dumps({"delivered": delivered, "answer": answer}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
