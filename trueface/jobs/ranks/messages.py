"""What the ranks of a job and its own process tell each other: JSON, one object a message."""

import json
import threading
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# from a rank
PROGRESS, LOG, MEMORY, DONE, FAILED = "progress", "log", "memory", "done", "failed"
# to a rank; the task comes first
TASK, STOP, LIMIT = "task", "stop", "limit"


class Message(NamedTuple):
    """One message: its name, one of those above, and what it says."""

    name: str
    content: Any


class Channel:
    """One end of the connection between a rank and its job's own process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()  # several threads may log

    def send(self, name: str, content: Any = None) -> None:
        """Send a message.

        Raises:
            OSError: the other process has ended.
        """
        with self._lock:
            self.connection.send_bytes(json.dumps([name, content]).encode())

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            EOFError, OSError: the other process has ended.
        """
        return Message(*json.loads(self.connection.recv_bytes()))
