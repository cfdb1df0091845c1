"""The messages that a pilot has not written yet."""

import logging
from collections.abc import Iterable
from math import inf
from pathlib import Path

from launcher.queue.backends.channel import MessageWriter
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    Heartbeat,
    PilotMessage,
    encode_message,
)

logger = logging.getLogger(__name__)


RETRY_S = 1.0  # seconds before a failed write is retried


class Outbox:
    """Messages that are still to be written, the oldest first. Only the newest heartbeat is kept."""

    def __init__(self, path: Path) -> None:
        """Begin with none, for a file that is there."""
        self._writer = MessageWriter(path)
        self._messages: list[PilotMessage] = []
        self._retry_at = 0.0  # monotonic
        self.error = ""  # why the newest could not be written

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def has_finished_attempts(self) -> bool:
        """Whether an end is among them, which the scheduler must learn."""
        return any(isinstance(news, AttemptFinished) for news in self._messages)

    def add(self, messages: Iterable[PilotMessage]) -> None:
        """Append messages to those that wait."""
        for item in messages:
            if isinstance(item, Heartbeat):
                self._messages = [
                    other for other in self._messages if not isinstance(other, Heartbeat)
                ]
            self._messages.append(item)

    def send(self, now: float) -> None:
        """Write the waiting messages; line by line after an error, so that each line that fits is written once.

        Args:
            now: monotonic seconds.
        """
        if not self._messages or now < self._retry_at:
            return
        try:
            while self._messages:
                count = 1 if self.error else len(self._messages)
                self._writer.append(*map(encode_message, self._messages[:count]))
                del self._messages[:count]
        except OSError as error:
            if self.error != str(error):
                logger.warning("messages cannot be written now: %s", error)
            self.error, self._retry_at = str(error), now + RETRY_S
        else:
            self.error = ""

    def retry_wait_s(self, now: float) -> float:
        """Return the seconds until the next retry. Infinite if no message waits."""
        return max(0.0, self._retry_at - now) if self._messages else inf
