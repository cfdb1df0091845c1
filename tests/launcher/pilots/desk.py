"""The scheduler side of one pilot, for tests: writes commands, reads messages and runs the pilot as a real process."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from launcher import __version__
from launcher.queue.backends.channel import MessageReader, MessageWriter
from launcher.queue.backends.pilot_folder import (
    PilotFolder,
    PilotSpec,
    attempt_name,
    make_pilot_folder,
)
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    Deregistered,
    Drain,
    PilotCommand,
    PilotMessage,
    Registered,
    StartAttempt,
    decode_message,
    encode_command,
)
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import Outcome
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from tests.build import an_attempt, until

Kind = TypeVar("Kind", bound=PilotMessage)


def a_pilot(token: str = "pilot", **changes: Any) -> PilotSpec:
    """Return the specification of a pilot with two cores and a unique token that exits only on command."""
    token = f"{token}-{secrets.token_hex(6)}"
    values: dict[str, Any] = {"backend": "local", "version": __version__, "cpus": 2, "beat_s": 0.1}
    return PilotSpec(token=token, **values | {"idle_s": 600.0} | changes)


@dataclass(slots=True)
class Desk:
    """One pilot from the view of its scheduler."""

    folder: PilotFolder
    process: subprocess.Popen[bytes] | None = None
    news: list[PilotMessage] = field(default_factory=list)
    _reader: MessageReader | None = None

    @classmethod
    def of(cls, root: Path, spec: PilotSpec | None = None) -> "Desk":
        """Create the folder of a pilot."""
        spec = spec or a_pilot()
        desk = cls(PilotFolder(root / spec.token))
        make_pilot_folder(desk.folder, spec)
        return desk

    def start(
        self,
        environment: Mapping[str, str] | None = None,
        code: str = "",
        folder: PilotFolder | None = None,
    ) -> "Desk":
        """Start the pilot as a backend does.

        Args:
            environment: what is added to our own.
            code: is run in the pilot's process before it begins.
            folder: as the node sees it, where it does not see it as we do.
        """
        begin = ["-m", "launcher.pilots"]
        if code:
            begin = [
                "-c",
                f"import sys\n{code}\nfrom launcher.queue.backends.node_start import main\nsys.exit(main(sys.argv[1:]))",
            ]
        with self.folder.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *begin, str((folder or self.folder).folder)],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def send(self, *orders: PilotCommand) -> None:
        """Append commands."""
        MessageWriter(self.folder.commands_file).append(*map(encode_command, orders))

    def run(
        self,
        *argv: str,
        job: int = 1,
        number: int = 1,
        spec: Spec,
        context: Context | None = None,
        **order: Any,
    ) -> Attempt:
        """Write the specification of an attempt and send it to the pilot."""
        attempt = an_attempt(self.home, spec, job=job, number=number, context=context, **order)
        self.send(StartAttempt(attempt=attempt_name(job, number)))
        return attempt

    @property
    def home(self) -> Home:
        """The folder of the pilot as a home with attempts."""
        return Home(self.folder.folder)

    def read(self) -> list[PilotMessage]:
        """Read new messages and return all messages."""
        if self._reader is None:
            self._reader = MessageReader(self.folder.messages_file)
        self.news += filter(None, map(decode_message, self._reader.lines()))
        return self.news

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """Return all messages of a kind."""
        return [item for item in self.read() if isinstance(item, kind)]

    def hello(self) -> Registered:
        """Wait for the registration of the pilot."""
        until(lambda: self.of_kind(Registered), f"the pilot says hello; {self.log}")
        return self.of_kind(Registered)[0]

    def leave(self) -> str:
        """Drain the pilot and return the reason of its exit."""
        self.send(Drain())
        return self.bye()

    def bye(self) -> str:
        """Wait for deregistration and exit of the pilot and return the reason."""
        until(lambda: self.of_kind(Deregistered), "the pilot says bye")
        self.exit_code()
        return self.of_kind(Deregistered)[0].why

    def ended(self, job: int = 1, number: int = 1) -> AttemptFinished:
        """Wait for the message that an attempt has ended."""
        name = attempt_name(job, number)

        def ends() -> list[AttemptFinished]:
            return [news for news in self.of_kind(AttemptFinished) if news.attempt == name]

        until(ends, f"attempt {name} ends")
        return ends()[0]

    def outcome(self, job: int = 1, number: int = 1) -> Outcome | None:
        """Wait for the end of an attempt and return its outcome."""
        return self.ended(job, number).outcome or read_recorded_outcome(
            self.folder.attempt(attempt_name(job, number))
        )

    @property
    def pid(self) -> int:
        """PID of the pilot."""
        assert self.process is not None
        return self.process.pid

    def exit_code(self) -> int:
        """Wait for the end of the pilot and return its exit code."""
        assert self.process is not None
        return self.process.wait(20)

    def kill(self) -> int:
        """Kill only the pilot process, wait for its end and return its exit code."""
        self.signal(signal.SIGKILL)
        return self.exit_code()

    @property
    def log(self) -> str:
        """Output of the pilot."""
        return self.folder.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send the pilot a signal."""
        assert self.process is not None
        self.process.send_signal(number)
