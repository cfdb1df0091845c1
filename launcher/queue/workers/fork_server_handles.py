"""The scheduler's handles on a fork server and on the supervisors that it forks."""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.states import Outcome
from launcher.queue.workers.attempt_journal import read_outcome_line
from launcher.queue.workers.fork_server import BYE, FORK, IMPORTING, MESSAGE_BYTES, STILL_WORKING
from launcher.queue.workers.supervisor import ENDED, LONGEST_REPORT, NEXT, RUN, STOP
from launcher.system.answering import run_with_timeout
from launcher.system.frozen_processes import why_frozen
from launcher.system.process_start import spawn_daemon
from launcher.system.process_trees import FORK_SERVER_VARIABLE, send_signal
from launcher.system.processes import Identity, identity_from_record
from launcher.system.waiting import wait_until

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 0.5
KILL_TIMEOUT_S = 1.0  # a process that dies of SIGKILL does so at once
_EXTERNAL_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


class CannotFork(Exception):
    """The machine has no room for another process; says why."""


class ForkServerCrash(NamedTuple):
    """How a fork server died by itself before it had imported all."""

    description: str  # in words
    module: str  # module that the fork server imported when it ended; empty: none yet


class SupervisorReport(NamedTuple):
    """A supervisor's news that its attempt has ended."""

    outcome: Outcome | None  # None: unknown, but the attempt's record may contain it


class SupervisorDied:
    """A supervisor's news that it is dead."""


class Supervisor(NamedTuple):
    """The scheduler's handle on a supervisor: it takes one attempt at a time."""

    who: Identity
    version: str  # version of the launcher that its interpreter finds
    channel: socket.socket  # readable when an attempt has ended, or the supervisor

    def run(self, attempt: Attempt) -> None:
        """Give it an attempt; that it is dead is seen on the channel."""
        self._send_or_disconnect(RUN, attempt)

    def read_ahead(self, attempt: Attempt) -> None:
        """Let it read the order of an attempt that it will probably get."""
        # the supervisor is dead, or has stood still for hundreds of orders
        with contextlib.suppress(OSError):
            self._send(NEXT, attempt)

    def stop(self, attempt: Attempt) -> None:
        """Ask it to end its attempt: SIGTERM, and SIGKILL after the job's grace period."""
        self._send_or_disconnect(STOP, attempt)

    def disconnect(self) -> None:
        """Close the channel: the supervisor finishes its attempt without us, and begins no other."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)

    def receive_report(self) -> SupervisorReport | SupervisorDied | None:
        """Receive its message that the attempt has ended, or notice its death; None if neither happened."""
        try:
            message = self.channel.recv(LONGEST_REPORT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return SupervisorDied()
        return (
            SupervisorReport(read_outcome_line(message[len(ENDED) :]))
            if message
            else SupervisorDied()
        )

    def _send(self, command: bytes, attempt: Attempt) -> None:
        """Send a command without waiting, because a supervisor that is stopped reads nothing.

        Raises:
            OSError: it is dead, or its buffer is full.
        """
        self.channel.send(command + os.fsencode(attempt.folder), socket.MSG_DONTWAIT)

    def _send_or_disconnect(self, command: bytes, attempt: Attempt) -> None:
        try:
            self._send(command, attempt)
        except OSError:  # signals and files reach a supervisor that lives, see `AdoptedAttempt`
            self.disconnect()


class ForkServer:
    """The scheduler's handle on a fork server's process."""

    def __init__(self, home: Home, environment: WorkerEnvironment) -> None:
        """Start the process; it imports its modules while the first requests wait in the socket.

        Raises:
            OSError: the interpreter cannot be run.
        """
        self._importing: str | None = (
            None  # the module; "": all is imported; None: not reported yet
        )
        # as `os.waitstatus_to_exitcode` says; None: the fork server lives
        self._status: int | None = None
        interpreter = environment.interpreter or sys.executable
        if (
            interpreter != sys.executable
        ):  # a spawn returns when the program is loaded, from whatever disk
            run_with_timeout(Path(interpreter).parent, partial(os.stat, interpreter))
        argv = [interpreter, "-P", "-m", "launcher.queue.workers.fork_server"]
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = spawn_daemon(
                [*argv, str(home.folder), str(theirs.fileno()), *environment.preload],
                home.scheduler_log,
                inherited_descriptors=(theirs.fileno(),),
                environment=_environment(environment),
            )
        except OSError:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def request_supervisor(self) -> None:
        """Ask for a supervisor; `receive_supervisor` returns it, which takes seconds while modules load."""
        # the fork server is dead; `receive_supervisor` reports that
        with contextlib.suppress(OSError):
            self.socket.sendall(FORK)

    def receive_supervisor(self) -> Supervisor | None:
        """Wait for the supervisor that was requested first; None if the fork server is dead.

        Raises:
            CannotFork: the machine has no room for one.
        """
        text, descriptors = IMPORTING, list[int]()
        while text.startswith(IMPORTING):
            try:
                text, descriptors, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1)
            except OSError:
                return None
            self._record_import(text)
        record = json.loads(text) if text else {}
        if "lacks" in record:
            raise CannotFork(record["lacks"])
        who = identity_from_record(record)
        if who is None:  # the supervisor died at once
            for descriptor in descriptors:
                os.close(descriptor)
        if who is None or not descriptors:
            return None
        channel = socket.socket(fileno=descriptors[0])
        return Supervisor(who=who, version=str(record.get("version")), channel=channel)

    def has_answer(self) -> bool:
        """Return whether `receive_supervisor` would return at once."""
        while True:
            try:
                text = self.socket.recv(MESSAGE_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not text.startswith(IMPORTING):
                return True
            self._record_import(self.socket.recv(MESSAGE_BYTES))

    def why_frozen(self) -> str:
        """Return what has stopped the process, as a sentence; empty if nothing has."""
        why = why_frozen(self._pid)
        return why and f"its fork server (pid {self._pid}) is {why}"

    def close(self) -> bool:
        """End the process without restarting the scheduler; its supervisors continue.

        Return False if it does not end. It stays while its supervisors have work. It also stays if it hangs in the
        kernel despite SIGKILL, as on a disk that does not answer. The caller must call `reap` later.
        """
        text = BYE
        with contextlib.suppress(OSError):  # the fork server is dead, or still imports its modules
            self.socket.settimeout(CLOSE_TIMEOUT_S)
            self.socket.sendall(text)
            while text and text != STILL_WORKING:
                text = self.socket.recv(MESSAGE_BYTES)
        self.socket.close()
        if text == STILL_WORKING:
            return self.reap()
        if self._ends_within(CLOSE_TIMEOUT_S):
            return True
        send_signal(self._pid, signal.SIGKILL)  # the fork server still imports its modules
        if self._ends_within(KILL_TIMEOUT_S):
            return True
        logger.warning(
            "fork server pid=%d does not end after SIGKILL; it hangs in the kernel", self._pid
        )
        return False

    def reap(self) -> bool:
        """Return whether the process has ended; its status is known then."""
        if self._status is None:
            try:
                ended, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # the exit status was collected elsewhere
                self._status = 0
            else:
                self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status is not None

    @property
    def crash(self) -> ForkServerCrash | None:
        """How a closed one died by itself before it had imported all; None if it did not."""
        status = self._status or 0
        if self._importing == "" or status == 0 or -status in _EXTERNAL_SIGNALS:
            return None
        code = f"exit code {status}" if status > 0 else signal.Signals(-status).name
        how = f"died while it imported {self._importing or 'launcher'} ({code})"
        return ForkServerCrash(description=how, module=self._importing or "")

    def _ends_within(self, patience_s: float) -> bool:
        return wait_until(self.reap, patience_s, 0.005)

    def _record_import(self, text: bytes) -> None:
        """Record the module that it imports now."""
        if text.startswith(IMPORTING):
            self._importing = text[len(IMPORTING) :].decode()


def _environment(environment: WorkerEnvironment) -> dict[str, str]:
    """Return the variables that a fork server has in addition to its scheduler's."""
    # distinguishes its forks from those of others
    own = {FORK_SERVER_VARIABLE: os.urandom(8).hex()}
    # a job's own path, never the scheduler's; for programs it makes no difference
    return own | ({"PYTHONPATH": environment.python_path} if environment.interpreter else {})
