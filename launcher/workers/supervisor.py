"""The parent of attempts' programs: records that one started and how it ended, ends its tree.

Forked by a fork server, in a session of its own, so that it outlives fork server and scheduler. It alone
can learn a program's exit status. It takes one attempt after another from its scheduler; when that
is gone, or when it gets SIGTERM or SIGHUP itself, it sees the one in hand through, and leaves.

`leftovers` says which processes belong to it, `running_time` when a running program is warned, asked to end and
killed; `pause` moves all that.
"""

import contextlib
import mmap
import os
import select
import signal
import socket
import time
from enum import IntEnum
from math import inf
from pathlib import Path

from launcher.states import Done, Failed
from launcher.system import cgroups, memory
from launcher.system.daemon_control import revive, wake
from launcher.system.file_digests import FileDigests, HashingStopped
from launcher.system.files import AWAY_PATIENCE_S, ROOM_PAUSE_S, sync
from launcher.system.paths import Attempt, Home
from launcher.system.process_trees import adopt_orphans, send, terminate
from launcher.system.processes import Identity, boot_id, identity
from launcher.workers import lease
from launcher.workers.attempt_process import close_on_exec
from launcher.workers.exit_outcome import Circumstances, judge, patience_s
from launcher.workers.lease import Burial, lease_of
from launcher.workers.leftovers import Leftovers
from launcher.workers.output_versions import with_versions
from launcher.workers.pause import Pause
from launcher.workers.program_files import finished
from launcher.workers.progress.hashing import HashingReport
from launcher.workers.running_time import KILL_AGAIN_S, RunningTime, Step, TerminationReport
from launcher.workers.start_attempt import Begun, Starter
from launcher.workers.started_file import record_when_there_is_room
from launcher.workers.termination import PILOT, TIME_LIMIT, is_to_be_killed

# look whether the attempt in hand is to be paused, to go on, or to be killed
PAUSES = signal.SIGUSR1
LEFTOVER_GRACE_S = 2.0  # for what a program leaves behind when it ends
MESSAGE_BYTES = 8192  # an attempt's path
LONGEST_REPORT = 8192  # bytes of a message with an outcome; a longer one is read from its record
LONGEST_SLEEP_S = 3600.0  # a poll cannot count the milliseconds of a month
RUN, STOP = b"run ", b"stop "  # followed by the attempt's folder
NEXT = b"next "  # likewise, of an attempt that it will probably get: its order can be read ahead
ENDED = b"ended "  # followed by its outcome
LEASE_LATE_S = 0.001  # a poll may return that much too early


class Progress(IntEnum):
    """How far the attempt is that a supervisor has in hand."""

    NONE = 0
    RUNS = 1
    ASKED = 2  # its program was asked to end: with exit code 0, too, it need not be done
    ENDED_WELL = 3


class InHand:
    """The attempt that a supervisor has in hand: its fork server sees it here where the supervisor is killed."""

    def __init__(self) -> None:
        """Begin with none, before the fork: the memory is shared."""
        self._memory = mmap.mmap(-1, MESSAGE_BYTES + 1)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._memory[0])

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._memory[0] = progress

    def take(self, folder: bytes) -> None:
        """Take an attempt by its folder."""
        self._memory[1 : len(folder) + 2] = folder + b"\0"
        self.progress = Progress.RUNS

    def attempt(self) -> Attempt:
        """Return the one that was taken last."""
        return _attempt_at(self._memory[1:].partition(b"\0")[0])


def serve(home: Home, channel: socket.socket, hand: InHand, *, ahead: bool = False) -> None:
    """Run the attempts that a scheduler sends, one at a time, until it is gone.

    Args:
        home: the queue's.
        channel: to the scheduler.
        hand: shared with the fork server.
        ahead: fork a worker before there is work for it.
    """
    me = _Supervisor(home, channel, hand, ahead=ahead)
    while me.attempt():
        pass


class _Supervisor:
    def __init__(self, home: Home, channel: socket.socket, hand: InHand, *, ahead: bool) -> None:
        self._home, self._channel, self._hand = home, channel, hand
        self._alone = False  # the scheduler is gone
        self._signals = _Signals()
        self._stop = False
        self._at = b""  # the folder of the attempt in hand
        self._lease = lease_of(home)
        self._burial: Burial | None = None  # of the pilot of the attempt in hand; None: it has none
        adopt_orphans()
        close_on_exec()
        me = identity(os.getpid()) or Identity(pid=os.getpid(), start_ticks=0, boot=boot_id())
        self._group = cgroups.join(me)
        self._digests = FileDigests(home.digests, self._on_piece)
        self._report_hashing: HashingReport | None = None  # of the attempt in hand
        self._has_ended = False  # its program has
        self._starter = Starter(me, self._group, self._digests, ahead=ahead)
        self._left = Leftovers(self._group, lambda: self._starter.waiting)

    def attempt(self) -> bool:
        """Wait for an attempt and see it through; False when there will be no other one."""
        message = b""
        while not message.startswith(RUN):
            message = self._next_message()
            if not message:
                self._dismiss()
                return False
        self._stop = False
        self._at = message[len(RUN) :]
        attempt = _attempt_at(self._at)
        self._hand.take(self._at)
        outcome = self._see_through(attempt)
        self._hand.progress = Progress.NONE
        self._report(outcome)
        ordered_to_leave = bool(self._signals.received)
        leaves = self._alone or ordered_to_leave or self._lease.is_over()
        if leaves:
            self._dismiss()
        if self._alone:
            _sync(attempt)
            wake(self._home)
            if not ordered_to_leave:  # a machine that goes down must not start jobs again
                revive(self._home)
        return not leaves

    def _report(self, outcome: bytes) -> None:
        """Tell the scheduler how the attempt in hand has ended; "" where that is not ours to say."""
        if self._alone:
            return
        message = ENDED + outcome
        try:
            self._channel.send(message if len(message) <= LONGEST_REPORT else ENDED)
        except OSError:
            self._alone = True

    def _dismiss(self) -> None:
        """Let the waiting worker go, and leave nothing of ours behind."""
        self._starter.dismiss()
        if self._group is not None:
            cgroups.leave(self._group)
            self._group = None

    def _next_message(self) -> bytes:
        """Wait for what the scheduler sends; b"" when it is gone, or when we are to leave."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._signals.descriptor, select.POLLIN)
        while True:
            poll.poll()
            self._signals.drain()
            if self._signals.received:  # what is not read yet is voided: it has not begun
                return b""
            try:
                return self._channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:  # the scheduler died before it had read our last word
                return b""

    def _see_through(self, attempt: Attempt) -> bytes:
        """Run one attempt from its start to its recorded end; then nothing of it lives.

        Returns its outcome as it is on record; nothing where it was not ours to start, or to end.
        """
        self._burial = Burial(attempt.folder.parent.parent) if self._lease.is_shared else None
        if self._lease.is_over() or self._is_buried(at_once=True):
            return b""
        self._left.attempt = str(attempt.folder)
        self._has_ended, self._report_hashing = False, HashingReport(attempt)
        begun = self._starter.begin(attempt)
        self._report_hashing.end()
        if begun is None:
            return b""
        if not isinstance(begun, Begun):
            return record_when_there_is_room(begun, attempt, self._lease)
        kills = memory.oom_kills()  # not before its start, which would wait for that
        self._starter.prepare()  # the next one, while this one runs
        status, how = self._await_end(begun)
        if status == 0 and self._hand.progress is Progress.RUNS and not how.signalled:
            self._hand.progress = Progress.ENDED_WELL
        if self._lease.is_over():
            self._left.end(0.0)
            return b""
        self._await_folder(attempt)
        if not how.signalled:
            wait_s = patience_s(status, attempt, how, time.monotonic() - begun.at)
            how = how._replace(signalled=self._own_signal(wait_s))
        self._left.end(LEFTOVER_GRACE_S)
        if status and kills is not None:
            how = how._replace(oom_kills=(memory.oom_kills() or kills) - kills)
        outcome = judge(status, attempt, how, time.time())
        if isinstance(outcome, Done):
            outcome = self._with_files(outcome, begun, attempt)
        return record_when_there_is_room(outcome, attempt, self._lease, begun.text)

    def _with_files(self, outcome: Done, begun: Begun, attempt: Attempt) -> Done | Failed:
        """Return the end of an attempt with digests of its files; its time limit does not run any more."""
        self._has_ended, self._report_hashing = True, HashingReport(attempt)
        if begun.order.spec.entry:
            end: Done | Failed = with_versions(outcome, begun.order, attempt, self._digests)
        else:
            end = finished(outcome, begun.order, self._digests, begun.files)
        self._report_hashing.end()
        return end

    def _on_piece(self, path: str, read: int, size: int) -> None:
        """Report how far the digest of a file is.

        Raises:
            HashingStopped: the program has ended, and we are to leave, or the job is not ours any more.
        """
        if self._report_hashing is not None:
            self._report_hashing.report(path, read, size)
        if not self._has_ended:  # what a program reads is hashed before its start
            return
        if not self._alone:
            self._listen()
        if self._signals.received or self._stop or self._lease.is_over() or self._is_buried():
            raise HashingStopped

    def _await_end(self, begun: Begun) -> tuple[int, Circumstances]:
        """Wait for the program's end, ending it when we are asked to or its time is over.

        Returns its wait status, and what else is known of the end.
        """
        program, terms = begun.program, begun.order.spec.terms
        ended = os.pidfd_open(program)
        times = RunningTime.of(terms, begun.at)
        attempt = _attempt_at(self._at)
        pause, report = Pause(attempt, self._left.pids), TerminationReport(attempt)
        try:
            while not self._wait(
                ended, times.next(paused=pause.lasts), pause.again_at, self._signals.look_at
            ):
                now = time.monotonic()
                if self._lease.is_over():  # what runs has been given to others
                    self._left.kill()
                    times.only_kill(now + KILL_AGAIN_S)
                    continue
                self._left.reap(spare=program)
                told, asked = self._signals.pauses(), self._stop or self._is_buried()
                if (told or (asked and not times.ending)) and is_to_be_killed(attempt):
                    times.kill_at_once(now)
                elif (told or pause.due(now)) and not times.ending:
                    times.move(pause.look(now))
                step = times.due(now, asked=asked, paused=pause.lasts)
                if self._burial is not None and self._burial.is_over:
                    times.kill_by(now + terms.grace_s - self._burial.late_s)
                if step in {Step.END, Step.KILL}:
                    self._hand.progress = Progress.ASKED
                match step:
                    case Step.END:
                        terminate(program)
                        pause.end(now)  # it hears of that only when it goes on
                    case Step.WARN:
                        send(program, signal.Signals[terms.warn_signal])
                    case Step.KILL:
                        self._left.kill()
                        pause.end(now)
                if times.ending and step is not None:
                    report.write(times, now, self._cause(times), self._left.pids)
        finally:
            os.close(ended)
        _, status, usage = os.wait4(program, 0)
        self._signals.drain()
        return status, Circumstances(
            stopped=times.stopped,
            signalled=self._signals.received,
            over_limit_s=terms.time_limit_s if times.over else None,
            insisted=times.insisted,
            has_worker=bool(begun.order.spec.entry),
            max_rss=usage.ru_maxrss * 1024,
            ram=begun.order.spec.resources.ram,
        )

    def _cause(self, times: RunningTime) -> str:
        """Return why the program in hand is ended; "" if the scheduler asked."""
        if times.over:
            return TIME_LIMIT
        return self._signals.received or (PILOT if self._is_buried() else "")

    def _wait(self, ended: int, *times: float | None) -> bool:
        """Sleep until the program has ended (True), or something else is to be looked at."""
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(self._signals.descriptor, select.POLLIN)
        if not self._alone:
            poll.register(self._channel, select.POLLIN)
        until = min((at for at in times if at is not None), default=inf)
        left_s = max(0.0, until - time.monotonic())
        if self._burial is not None:
            left_s = min(left_s, self._burial.due_s(alone=self._alone))
        if (lease_s := self._lease.until - lease.now()) > 0:
            left_s = min(left_s, lease_s + LEASE_LATE_S)
        events = {descriptor for descriptor, _ in poll.poll(min(left_s, LONGEST_SLEEP_S) * 1000)}
        self._signals.drain()
        if self._channel.fileno() in events:
            self._listen()
        if self._signals.received:
            self._stop = True
        return ended in events

    def _await_folder(self, attempt: Attempt) -> None:
        """Wait for a while where an attempt's folder is not mounted: it holds what the worker has said."""
        until = time.monotonic() + AWAY_PATIENCE_S
        while attempt.is_away() and time.monotonic() < until:
            if self._lease.is_over() or self._signals.received:
                return
            time.sleep(ROOM_PAUSE_S)

    def _is_buried(self, *, at_once: bool = False) -> bool:
        """Tell whether the scheduler has given up the pilot of the attempt in hand."""
        return self._burial is not None and self._burial.look(alone=self._alone, at_once=at_once)

    def _own_signal(self, patience: float) -> str:
        """Return which signal asked us to leave, given a moment to arrive; "" when none came.

        A reboot or a logout signals all processes one after another, and a program may have ended
        of its signal before we get ours.
        """
        if patience <= 0:
            return self._signals.received
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        deadline = time.monotonic() + patience
        while not self._signals.received and (left_s := deadline - time.monotonic()) > 0:
            poll.poll(left_s * 1000)
            self._signals.drain()
        return self._signals.received

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
            self._is_buried(at_once=True)  # its pilot has it end, too, when it is given up
        elif message.startswith(NEXT):
            self._starter.read_ahead(_attempt_at(message[len(NEXT) :]))


class _Signals:
    """Notices SIGTERM, SIGHUP and ended children, also while we sleep in a poll."""

    def __init__(self) -> None:
        self.received = ""  # name of the signal that asked us to leave
        self.look_at: float | None = (
            None  # when the attempt's folder told something new of its pause
        )
        self.descriptor, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP):  # logind ends a session with both
            signal.signal(number, self._note)
        signal.signal(PAUSES, self._note_pause)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, number: int, _: object) -> None:
        self.received = self.received or signal.Signals(number).name

    def _note_pause(self, *_: object) -> None:
        self.look_at = time.monotonic()

    def pauses(self) -> bool:
        """Tell whether a pause was asked for, or its end, since this was asked last."""
        at, self.look_at = self.look_at, None
        return at is not None

    def drain(self) -> None:
        """Clear the signal's flag; its name is kept."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 64)


def _attempt_at(folder: bytes) -> Attempt:
    return Attempt(Path(os.fsdecode(folder)))


def _sync(attempt: Attempt) -> None:
    """Let an outcome survive a power cut, where no scheduler takes it in at once."""
    with contextlib.suppress(OSError):
        for path in (attempt.started, attempt.folder, attempt.folder.parent):
            sync(path)
