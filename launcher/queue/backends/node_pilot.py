"""A pilot on its node: registers, runs the attempts that it is sent, reports their outcomes, and deregisters.

Its process is `python -P -m launcher.pilots FOLDER`, as an engine starts it there.

It decides nothing. While commands arrive, it polls 50 times per second. Without commands, the poll interval grows. On a
full disk its messages wait for space, and no outcome is lost.
"""

import contextlib
import errno
import logging
import signal
import time
from collections.abc import Iterable
from math import inf

from launcher.queue.backends.channel import MessageReader
from launcher.queue.backends.node_attempts import NodeAttempts
from launcher.queue.backends.node_facts import NodeFacts
from launcher.queue.backends.node_gpus import NodeGpus
from launcher.queue.backends.outbox import Outbox
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_messages import (
    AttemptFinished,
    Deregistered,
    Drain,
    Draining,
    Heartbeat,
    KillAttempt,
    PilotMessage,
    RenewLease,
    StartAttempt,
    StopAttempt,
    decode_command,
)
from launcher.queue.home.paths import Home
from launcher.queue.workers import lease
from launcher.system import memory
from launcher.system.units import format_seconds
from launcher.system.wakeup_pipe import WakeupPipe

# between two polls for commands: while they arrive, and after a while without
QUICK_POLL_S, SLOW_POLL_S = 0.02, 0.5
POLL_BACKOFF_FACTOR = 1.25  # times longer after each poll without a command
GPU_HEARTBEAT_S = 1.0  # seconds between two heartbeats while the used memory of a GPU changes
HEARTBEATS_PER_LEASE = 4  # heartbeats in the time of a lease, at least
MOST_UNANSWERED_HEARTBEATS = 4096  # heartbeats whose lease renewals can still arrive
FOLDER_TIMEOUT_S = 60.0  # seconds after which a pilot without its folder leaves
STOP_TIMEOUT_S = 5.0  # seconds for supervisors to end their attempts when the lease has expired
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
_FOLDER_GONE_ERRORS = {errno.ENOENT, errno.ESTALE}

logger = logging.getLogger(__name__)


class NodePilot:
    """One pilot, from its registration to its deregistration."""

    def __init__(self, folder: PilotFolder, spec: PilotSpec, home: Home, facts: NodeFacts) -> None:
        """Begin without attempts.

        Args:
            folder: folder of the pilot.
            spec: its specification.
            home: the node's, for fork servers.
            facts: the facts about the node.
        """
        hello, now = facts.registration, time.monotonic()
        self._spec, self._folder = spec, folder
        self._commands, self._outbox = (
            MessageReader(folder.commands_file),
            Outbox(folder.messages_file),
        )
        self._lease_s = inf if spec.lease_s is None else spec.lease_s
        self._lease = lease.make_lease(home)
        self._lease.run_until(lease.now() + self._lease_s)
        self._heartbeat_s = min(spec.beat_s, self._lease_s / HEARTBEATS_PER_LEASE)
        # number → when it was sent, by the lease's clock
        self._sent_heartbeats: dict[int, float] = {}
        self._heartbeat_number = 0
        self._heartbeat_at = now
        self._sleeper = WakeupPipe()
        self._attempts = NodeAttempts(home, folder, hello.cpus)
        snapshot = facts.probe.snapshot if facts.probe else tuple
        self._gpus = NodeGpus(hello.gpus, snapshot, self._sleeper.wake_up)
        self._pause_s, self._poll_at = QUICK_POLL_S, now
        self._busy_at = now
        self._error = ""  # why commands could not be read
        self._folder_gone_since: float | None = (
            None  # since when our folder is missing; None: the folder is there
        )
        self._signal = ""
        self._is_abandoned = False
        self._drain_reason = ""  # why we accept no more attempts; "": we do
        self._outbox.add([hello])

    def serve(self) -> str:
        """Serve until it is time to leave; return why."""
        self._listen_to_signals()
        readable: set[int] = set()
        while True:
            if self._lease.is_over():
                return self._abort("its lease expired: the scheduler was silent for too long")
            now = time.monotonic()
            self._poll_commands(now)
            self._handle_signal()
            self._queue_messages(self._attempts.advance(readable), now)
            self._send_heartbeat(now)
            self._outbox.send(now)
            if (
                self._folder_gone_since is not None
                and now > self._folder_gone_since + FOLDER_TIMEOUT_S
            ):
                return self._abort("its folder was deleted")
            if not self._attempts and not self._outbox.has_finished_attempts:
                if not self._drain_reason and now > self._busy_at + self._spec.idle_s:
                    self._start_draining(f"without work for {format_seconds(self._spec.idle_s)}")
                if self._drain_reason and not self._poll_last_commands():
                    return self._deregister(self._drain_reason)
            readable = self._sleep()

    def close_fork_servers(self) -> None:
        """End fork servers."""
        self._attempts.close()

    # --- commands

    def _poll_commands(self, now: float) -> bool:
        """Execute the commands that arrived since the last poll. Return whether there were any."""
        if now < self._poll_at:
            return False
        came = False
        try:
            for line in self._commands.lines():
                came = True
                self._execute(line, now)
            self._folder_gone_since = None
        except OSError as error:
            if error.errno in _FOLDER_GONE_ERRORS:
                self._folder_gone_since = self._folder_gone_since or now
            elif str(error) != self._error:
                self._error = str(error)
                logger.warning("messages of the scheduler cannot be read: %s", error)
        self._pause_s = (
            QUICK_POLL_S if came else min(POLL_BACKOFF_FACTOR * self._pause_s, SLOW_POLL_S)
        )
        self._poll_at = now + self._pause_s
        return came

    def _execute(self, line: bytes, now: float) -> None:
        match decode_command(line):
            case StartAttempt(attempt=name):
                if self._drain_reason:
                    self._queue_messages(
                        self._attempts.refuse(name, f"its pilot is ending: {self._drain_reason}"),
                        now,
                    )
                else:
                    self._attempts.run(name)
                self._busy_at = now
            case StopAttempt(attempt=name):
                self._queue_messages(self._attempts.stop(name), now)
            case KillAttempt(attempt=name):
                self._queue_messages(self._attempts.kill_one(name), now)
            case RenewLease(beat=number):
                self._renew_lease(number)
            case Drain(now=at_once):
                self._start_draining("the scheduler requested it")
                if at_once:
                    self._queue_messages(self._attempts.stop_all(), now)

    def _renew_lease(self, heartbeat_number: int) -> None:
        """Start the lease at the time of the acknowledged heartbeat, not now, as the message may be old."""
        sent = self._sent_heartbeats.get(heartbeat_number)
        if sent is not None:
            self._lease.run_until(sent + self._lease_s)
            self._sent_heartbeats = {
                beat: at for beat, at in self._sent_heartbeats.items() if beat > heartbeat_number
            }

    def _poll_last_commands(self) -> bool:
        """Poll once more before deregistering. Return whether there is still something to run or report."""
        self._poll_at = 0.0
        self._poll_commands(time.monotonic())
        return bool(self._attempts) or self._outbox.has_finished_attempts

    def _start_draining(self, why: str, signal: str = "") -> None:
        """Accept no more attempts. This is reported at once, as the scheduler would otherwise send refused attempts here again."""
        if not self._drain_reason:
            self._drain_reason = why
            self._outbox.add([Draining(why=why, signal=signal)])

    def _handle_signal(self) -> None:
        if self._signal:
            why = f"the engine is about to end it ({self._signal})"
            name, self._signal = self._signal, ""
            logger.info("received %s; the jobs get SIGTERM", name)
            self._start_draining(why, name)
            self._queue_messages(self._attempts.stop_all(), time.monotonic())

    # --- messages

    def _queue_messages(self, messages: Iterable[PilotMessage], now: float) -> None:
        for item in messages:
            if isinstance(item, AttemptFinished):  # the next commands come soon
                self._pause_s, self._busy_at = QUICK_POLL_S, now
                self._poll_at = min(self._poll_at, now + QUICK_POLL_S)
            self._outbox.add([item])

    def _send_heartbeat(self, now: float) -> None:
        heads = self._attempts.gpu_supervisors
        due_at = self._heartbeat_at
        if heads or now >= due_at:
            self._gpus.refresh(heads)
        if heads and self._gpus.has_changed:
            due_at = min(due_at, self._heartbeat_at - self._heartbeat_s + GPU_HEARTBEAT_S)
        if now < due_at:
            return
        self._drain_if_abandoned(now)
        self._heartbeat_number += 1
        # the time before the heartbeat is sent
        self._sent_heartbeats[self._heartbeat_number] = lease.now()
        self._sent_heartbeats.pop(self._heartbeat_number - MOST_UNANSWERED_HEARTBEATS, None)
        self._outbox.add(
            [
                Heartbeat(
                    number=self._heartbeat_number,
                    ram_free=memory.available_bytes(),
                    gpus=self._gpus.gpus,
                    used=self._gpus.take_peaks(),
                )
            ]
        )
        self._heartbeat_at = now + self._heartbeat_s

    def _drain_if_abandoned(self, now: float) -> None:
        """End all attempts if the scheduler has abandoned this pilot. It waits for the records of these ends."""
        if self._is_abandoned:
            return
        with contextlib.suppress(OSError):
            self._is_abandoned = lease.is_abandoned(self._folder.folder)
        if self._is_abandoned:
            self._start_draining("the scheduler has abandoned it")
            self._queue_messages(self._attempts.stop_all(), now)

    def _deregister(self, why: str) -> str:
        self._outbox.add([Deregistered(why=why)])
        self._outbox.send(inf)
        return why

    def _abort(self, why: str) -> str:
        """End all that runs, without outcomes: no attempt counts any more."""
        logger.warning("%s; the jobs are ended", why)
        self._lease.end()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for _ in self._attempts.stop_all():
            pass  # waiting attempts never begin; supervisors wake, see the lease, and end theirs
        while self._attempts and time.monotonic() < deadline:
            for _ in self._attempts.advance(self._sleep(0.1)):
                pass
        self._attempts.kill()
        return self._deregister(why)

    # --- waiting

    def _sleep(self, most_s: float = inf) -> set[int]:
        """Sleep until there is something to do. Return the file descriptors that can be read."""
        now = time.monotonic()
        heads = self._gpus and self._attempts.gpu_supervisors
        times = [
            most_s,
            self._poll_at - now,
            self._heartbeat_at - now,
            GPU_HEARTBEAT_S if heads else inf,
            self._lease.end_time - lease.now(),
            self._outbox.retry_wait_s(now),
            self._attempts.next_check_s(now),
        ]
        self._sleeper.poll_until(self._attempts.descriptors(), max(0.0, min(times)))
        return self._sleeper.ready_descriptors or set()

    def _listen_to_signals(self) -> None:
        self._sleeper.wake_on_signals()
        for number in STOP_SIGNALS:
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number).name
