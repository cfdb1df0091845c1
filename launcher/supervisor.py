"""The parent of attempts' programs: records that one started and how it ended, ends its tree.

Forked by a nursery, in a session of its own, so that it outlives nursery and scheduler. It alone
can learn a program's exit status. It takes one attempt after another from its scheduler; when that
is gone, it sees the one in hand through, and leaves.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

from launcher import ram
from launcher.handover import revive, wake
from launcher.orders import Order, read_order
from launcher.paths import Attempt, Home
from launcher.processes import Identity, adopt_orphans, descendants, identity, send, terminate
from launcher.program import CannotStart, Held, spawn
from launcher.records import read_bytes, write_json
from launcher.specs import Terms
from launcher.states import Outcome, Void, outcome_record
from launcher.verdict import Circumstances, cannot_start, judge

LEFTOVER_GRACE_S = 2.0  # for what a program leaves behind when it ends
MESSAGE_BYTES = 8192  # an attempt's path
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
RUN, STOP, ENDED = b"run ", b"stop ", b"ended "  # each is followed by the attempt's folder


def serve(home: Home, channel: socket.socket, *, ahead: bool = False) -> None:
    """Run the attempts that a scheduler sends, one at a time, until it is gone.

    Args:
        home: the queue's.
        channel: to the scheduler.
        ahead: fork a worker before there is work for it.
    """
    me = _Supervisor(home, channel, ahead=ahead)
    while me.attempt():
        pass


class _Supervisor:
    def __init__(self, home: Home, channel: socket.socket, *, ahead: bool) -> None:
        self._home, self._channel = home, channel
        self._alone = False  # the scheduler is gone
        self._signals = _Signals()
        self._stop = False
        self._at = b""  # the folder of the attempt in hand
        adopt_orphans()
        self._me = _line(identity(os.getpid()))
        self._held = Held() if ahead else None

    def attempt(self) -> bool:
        """Wait for an attempt and see it through; False when there will be no other one."""
        message = b""
        while not message.startswith(RUN):
            try:
                message = self._channel.recv(MESSAGE_BYTES)
            except ConnectionResetError:  # the scheduler died before it had read our last word
                message = b""
            if not message:
                self._dismiss()
                return False
        self._stop = self._signals.asked_to_stop = False
        self._at = message[len(RUN) :]
        self._see_through(Attempt(Path(os.fsdecode(self._at))))
        if not self._alone:
            try:
                self._channel.send(ENDED + self._at)
            except OSError:
                self._alone = True
        if self._alone:
            self._dismiss()
            wake(self._home)
            revive(self._home)
        return not self._alone

    def _see_through(self, attempt: Attempt) -> None:
        """Run one attempt from its start to its recorded end; then nothing of it lives."""
        kills = ram.oom_kills()
        try:
            record = self._may_start(attempt)
            if record is None:
                return  # voided: another scheduler thinks that we are dead
            text = read_bytes(attempt.spec)
            order = read_order(text)
            log = os.open(attempt.log, _APPEND, 0o600)
            _link_log(order, attempt)
            started = time.monotonic()
            program = self._start(order, attempt, text=text, log=log, record=record)
        except (OSError, ValueError):  # a full disk, a deleted folder; nothing has run
            _record(Void(at=time.time()), attempt)
            return
        if isinstance(program, CannotStart):
            _say(attempt, f"launcher: cannot start {order.spec.argv[0]!r}: {program}")
            _record(cannot_start(order.spec.argv[0], program, time.time()), attempt)
            return
        status, how = self._await_end(program, order.spec.terms, started)
        self._end_tree(LEFTOVER_GRACE_S)
        how = replace(how, oom_kills=ram.oom_kills() - kills) if status else how
        _record(judge(status, attempt, how, time.time()), attempt)

    def _may_start(self, attempt: Attempt) -> int | None:
        """Win the right to start; return the record of it, still open, None where it is lost.

        Exactly one process ever creates this file. Until it is closed it is locked by us and by
        what we spawn, up to the instant when that is the program: who finds it unlocked and us
        dead finds the program, if there is one, by its mark.

        Raises:
            OSError: there is no room for it, or no folder.
        """
        try:
            descriptor = os.open(attempt.started, _CREATE, 0o600)
        except FileExistsError:
            return None  # a scheduler has voided the attempt
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, self._me)
        return descriptor

    def _start(
        self, order: Order, attempt: Attempt, *, text: bytes, log: int, record: int
    ) -> int | CannotStart:
        """Bring the attempt's own process to life, and put it on record; return its pid.

        Raises:
            OSError: the disk is full.
        """
        try:
            if not order.spec.entry:
                program = spawn(order, attempt, log)
                with contextlib.suppress(OSError):  # the mark is left
                    who = identity(program) or Identity(pid=program, start_ticks=0, boot="")
                    os.write(record, _line(who))  # a quick one has ended already
                return program
            held = self._held if self._held and self._held.waits() else Held()
            os.write(record, _line(held.who))
        except CannotStart as error:
            return error
        finally:
            os.close(record)
            os.close(log)
        held.release(attempt, text)
        self._held = Held()  # the next one, while this one runs
        return held.who.pid

    def _await_end(self, program: int, terms: Terms, started: float) -> tuple[int, Circumstances]:
        """Wait for the program's end, ending it when we are asked to or its time is over.

        Returns its wait status, and what else is known of the end.
        """
        ended = os.pidfd_open(program)
        limit = None if terms.time_limit_s is None else started + terms.time_limit_s
        warn = None if limit is None or not terms.warn_s else limit - terms.warn_s
        kill: float | None = None
        stopped = over = insisted = False
        try:
            while True:
                times = [at for at in (warn, limit, kill) if at is not None]
                if self._wait(ended, min(times, default=None)):
                    break
                self._reap(spare=program)
                now = time.monotonic()
                if self._stop and not stopped:
                    stopped, limit, warn = True, None, None
                    kill = now + terms.grace_s
                    terminate(program)
                elif warn is not None and now >= warn:
                    warn = None
                    send(program, signal.Signals[terms.warn_signal])
                elif limit is not None and now >= limit:
                    over, limit = True, None
                    kill = now + terms.grace_s
                    terminate(program)
                elif kill is not None and now >= kill:
                    insisted = True
                    for pid in self._below():
                        send(pid, signal.SIGKILL)
                    kill = now + 1  # what was forked meanwhile gets another round
        finally:
            os.close(ended)
        _, status = os.waitpid(program, 0)
        return status, Circumstances(
            stopped=stopped,
            over_limit_s=terms.time_limit_s if over else None,
            insisted=insisted,
        )

    def _wait(self, ended: int, until: float | None) -> bool:
        """Sleep until the program has ended (True), or something else is to be looked at."""
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(self._signals.descriptor, select.POLLIN)
        if not self._alone:
            poll.register(self._channel, select.POLLIN)
        timeout_ms = None if until is None else max(0.0, until - time.monotonic()) * 1000
        events = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
        self._signals.drain()
        if self._channel.fileno() in events:
            self._listen()
        if self._signals.asked_to_stop:
            self._stop = True
        return ended in events

    def _listen(self) -> None:
        try:
            message = self._channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._alone = True
        elif message == STOP + self._at:
            self._stop = True

    def _below(self) -> list[int]:
        """Return all processes below us, but for the worker that waits for the next attempt."""
        waiting = self._held.who.pid if self._held else 0
        return [pid for pid in descendants(os.getpid()) if pid != waiting]

    def _dismiss(self) -> None:
        if self._held:
            self._held.dismiss()

    def _end_tree(self, grace_s: float) -> None:
        """End what the program left running: politely, then by force."""
        below = self._below()
        for pid in below:
            send(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while below:
            self._reap()
            if time.monotonic() >= deadline:
                for pid in below:
                    send(pid, signal.SIGKILL)
            time.sleep(0.01)
            below = self._below()

    def _reap(self, spare: int = 0) -> None:
        """Collect ended orphans that we adopted, but never the program `spare`."""
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, peek)) and found.si_pid != spare:
                os.waitpid(found.si_pid, 0)


class _Signals:
    """Notices SIGTERM and ended children, also while we sleep in a poll."""

    def __init__(self) -> None:
        self.asked_to_stop = False
        self.descriptor, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, *_: object) -> None:
        self.asked_to_stop = True

    def drain(self) -> None:
        """Forget that there was a signal; what it said is kept."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 64)


def _line(who: Identity | None) -> bytes:
    return (json.dumps(who.record() if who else {}) + "\n").encode()


def _say(attempt: Attempt, text: str) -> None:
    with contextlib.suppress(OSError), attempt.log.open("a", encoding="utf-8") as log:
        log.write(text + "\n")


def _link_log(order: Order, attempt: Attempt) -> None:
    """Let the log also appear in the run's folder; where that fails the log is still here."""
    if order.spec.log_link is None:
        return
    link = Path(order.spec.log_link)
    with contextlib.suppress(OSError):
        ours = os.umask(order.context.umask)  # the run's folders are its owner's, not ours
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(ours)
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(attempt.log)
        except OSError:
            link.symlink_to(attempt.log)  # another file system


def _record(outcome: Outcome, attempt: Attempt) -> None:
    """Write the outcome; wait for room when the disk is full, since only we know it."""
    while True:
        try:
            write_json(attempt.outcome, outcome_record(outcome), mode=0o600)
        except FileNotFoundError:  # the job has deleted it
            if not attempt.folder.parent.exists():
                return  # the whole home is gone
            attempt.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            time.sleep(1)
        else:
            return
