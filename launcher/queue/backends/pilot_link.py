"""The link of the scheduler to one pilot: the commands that it has sent, and the messages that it has read."""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from launcher.queue.backends.channel import MessageReader, MessageWriter
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    Deregistered,
    Drain,
    Draining,
    Heartbeat,
    KillAttempt,
    PilotCommand,
    PilotMessage,
    Registered,
    RenewLease,
    StartAttempt,
    StopAttempt,
    decode_command,
    decode_message,
    encode_command,
)
from launcher.system.answering import run_with_timeout

logger = logging.getLogger(__name__)


BLOCK_BYTES = 1 << 19  # bytes of messages in one read; then more may follow
# registration of a pilot whose first messages cannot be decoded
OTHER_VERSION = Registered(
    version="",
    python="",
    host="",
    pid=0,
    boot="",
    cpus=0,
    ram=0,
    troubles=("it sends messages of another version of launcher",),
)


class PilotLink:
    """One pilot, as the scheduler sees it.

    All that is known here is in its two files. A new scheduler reads both from their start.
    """

    def __init__(self, folder: PilotFolder, spec: PilotSpec) -> None:
        """Begin without having read anything.

        Args:
            folder: the pilot's folder, which exists already.
            spec: the pilot's specification.
        """
        self.folder, self.spec = folder, spec
        self.registration: Registered | None = None
        self.heartbeat: Heartbeat | None = None  # the newest
        self.exit_reason: str | None = None  # why the pilot leaves
        self.error = ""  # why the pilot cannot be read or sent anything now
        self.last_message_at = -math.inf  # when something new was read last, monotonic
        self.sent_at = -math.inf  # when the pilot was sent attempts last, monotonic
        # the pilot accepts no more attempts: the scheduler sent `Drain`, or the pilot reported it
        self.is_draining = False
        self.ends_at: float | None = None  # seconds since 1970, as the pilot's engine reported last
        # manner of the pilot's end, as its engine reported last; '': not reported
        self.end_reason = ""
        self.signal = ""  # signal that the pilot's engine sent to have it end
        self._lines = deque[bytes]()  # lines that were read and not applied
        self._reader, self._writer = (
            MessageReader(folder.messages_file),
            MessageWriter(folder.commands_file),
        )
        # attempts that the pilot was sent; None: not read yet
        self._sent_attempts: set[str] | None = None
        self.unsent: list[PilotCommand] = []  # unwritten commands; `send()` retries them
        self.open_attempts: set[str] = set()  # attempts whose ends are not recorded
        self.finished_attempts: dict[str, AttemptFinished] = {}  # by attempt, as the pilot reported
        self.stopping: set[str] = set()  # attempts that we have ordered to end
        self.killing: set[str] = set()  # attempts that we have ordered to be killed

    @property
    def token(self) -> str:
        """The name of the pilot."""
        return self.folder.token

    @property
    def root(self) -> Path:
        """The folder that contains the folders of all pilots of the backend."""
        return self.folder.folder.parent

    @property
    def is_serving(self) -> bool:
        """Whether it may be sent work: it is up, sees all that it needs, and does not leave."""
        up = self.registration is not None and not self.registration.troubles
        return up and self.exit_reason is None and not self.is_draining

    @property
    def end_time(self) -> float | None:
        """When its engine ends it, in seconds since 1970. None if never or unknown."""
        if self.ends_at is not None or self.registration is None:
            return self.ends_at
        return self.registration.until

    def silent_s(self, now: float) -> float:
        """Return the seconds since its last message. Infinite if it has never sent one.

        Args:
            now: monotonic.
        """
        return now - self.last_message_at

    def read(self, now: float) -> list[PilotMessage]:
        """Read new messages. Ends of attempts that nobody expects are omitted.

        Args:
            now: monotonic.
        """
        self.fetch()
        return self.apply_fetched(now)

    def fetch(self) -> None:
        """Read new messages for `apply_fetched`. It may return long after its timeout."""
        try:
            while True:
                before = self._reader.offset
                self._lines.extend(self._reader.lines())
                if self._reader.offset - before < BLOCK_BYTES:
                    break
            self.error = ""
        except OSError as error:
            self.set_error(f"{self.folder.messages_file}: {error.strerror or error}")

    def apply_fetched(self, now: float) -> list[PilotMessage]:
        """Apply the messages that were read; see `read`."""
        news: list[PilotMessage] = []
        sent_anything = bool(self._lines)
        while self._lines:
            news += filter(None, [decode_message(self._lines.popleft())])
        if sent_anything:  # the pilot lives, even if none of its messages can be decoded
            self.last_message_at = now
            self._apply_messages(news)
            if self.registration is None:  # each pilot registers first
                self.registration = OTHER_VERSION
            if (
                self.spec.lease_s is not None
                and self.heartbeat is not None
                and self.exit_reason is None
            ):
                self.send(RenewLease(beat=self.heartbeat.number))  # extends the lease
        return news

    def _apply_messages(self, messages: Iterable[PilotMessage]) -> None:
        for item in messages:
            match item:
                case Registered():
                    self.registration = item
                case Heartbeat():
                    self.heartbeat = item
                case AttemptFinished(attempt=attempt) if attempt in self.open_attempts:
                    self.finished_attempts[attempt] = item
                case Draining(signal=signal):
                    self.is_draining, self.signal = True, signal
                case Deregistered(why=why):
                    self.exit_reason = why

    def send(self, *orders: PilotCommand) -> bool:
        """Send commands; those that cannot be written now go with the next ones. Return whether they were written."""
        self.unsent += orders
        self.is_draining = self.is_draining or any(isinstance(order, Drain) for order in orders)
        if not self.unsent:
            return True
        try:
            sent = run_with_timeout(
                self.root, partial(self._write, [*map(encode_command, self.unsent)])
            )
        except OSError as error:
            self.set_error(f"{self.folder.commands_file}: {error.strerror or error}")
            return False
        sent.update(order.attempt for order in self.unsent if isinstance(order, StartAttempt))
        self.unsent.clear()
        return True

    def _write(self, lines: Iterable[bytes]) -> set[str]:
        """Append commands. Return the attempts that were sent before. After a timeout, commands may be sent twice."""
        sent = self._read_sent_names()
        self._writer.append(*lines)
        return sent

    # --- attempts

    def track_attempt(self, attempt: str) -> None:
        """Keep the end of an attempt when it arrives. Call this before it can be read."""
        self.open_attempts.add(attempt)

    def start(self, attempts: Iterable[str]) -> bool:
        """Send attempts to the pilot, those that it was not sent before."""
        self.sent_at = time.monotonic()
        sent = self._sent_attempts or set()  # a pilot that gets an order twice recognizes the order
        return self.send(*(StartAttempt(attempt=name) for name in attempts if name not in sent))

    def stop(self, attempt: str) -> None:
        """Have an attempt end."""
        if attempt not in self.stopping:
            self.stopping.add(attempt)
            self.send(StopAttempt(attempt=attempt))

    def kill(self, attempt: str) -> None:
        """Have an attempt killed without a grace period."""
        if attempt not in self.killing:
            self.killing.add(attempt)
            self.send(KillAttempt(attempt=attempt))

    def untrack_attempt(self, attempt: str) -> None:
        """Record that an attempt's end was processed."""
        self.open_attempts.discard(attempt)
        self.killing.discard(attempt)
        self.stopping.discard(attempt)
        self.finished_attempts.pop(attempt, None)
        if self._sent_attempts is not None:
            self._sent_attempts.discard(attempt)

    @property
    def has_stopped_all(self) -> bool:
        """Whether all attempts that may run there were ordered to end."""
        return bool(self.open_attempts) and self.open_attempts <= self.stopping

    def read_sent_attempts(self) -> set[str]:
        """Return the attempts that the pilot was sent, by whichever scheduler.

        They are read once; a line that an earlier scheduler could not finish is closed then.

        Raises:
            OSError: that cannot be read now.
        """
        return (
            self._sent_attempts
            if self._sent_attempts is not None
            else run_with_timeout(self.root, self._read_sent_names)
        )

    def _read_sent_names(self) -> set[str]:
        if self._sent_attempts is not None:
            return self._sent_attempts
        orders = MessageReader(self.folder.commands_file)
        sent: set[str] = set()
        while True:
            before = orders.offset
            for order in map(decode_command, orders.lines()):
                match order:
                    case StartAttempt(attempt=attempt):
                        sent.add(attempt)
                    case Drain():
                        self.is_draining = True
            if orders.offset == before:
                break
        if os.stat(self.folder.commands_file).st_size > orders.offset:  # noqa: PTH116
            self._writer.append(b"\n")
        self._sent_attempts = sent
        return sent

    def set_error(self, error: str) -> None:
        """Record why it cannot be read or sent anything now."""
        if error != self.error:
            logger.warning("pilot=%s trouble=%r", self.token, error)
        self.error = error
