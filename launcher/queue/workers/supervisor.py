"""The parent of attempts' programs: records that one started and how it ended, ends its tree.

It is forked by a fork server, in a session of its own, so that it outlives fork server and scheduler. Only it
can read a program's exit status. It runs one attempt after another for its scheduler. When the scheduler
is gone, or when it gets SIGTERM or SIGHUP itself, it finishes its current attempt and exits.

`leftovers` lists the processes that belong to it. `running_time` decides when a running program is warned, asked to end
and killed. A pause (`pause`) postpones the warning and the time limit.
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
from typing import TYPE_CHECKING

from launcher.provenance.file_digests import FileDigests, HashingStopped
from launcher.queue.home.daemon_control import restart_scheduler, wake
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import Done, Failed, Lost, NeverStarted, Stopped
from launcher.queue.workers import lease
from launcher.queue.workers.attempt_journal import record_outcome_when_possible
from launcher.queue.workers.attempt_process import close_on_exec
from launcher.queue.workers.exit_outcome import ExitContext, judge_exit, signal_wait_s
from launcher.queue.workers.lease import AbandonWatch, lease_of
from launcher.queue.workers.leftovers import AttemptProcesses
from launcher.queue.workers.log_limit import LogLimits
from launcher.queue.workers.output_versions import with_output_versions
from launcher.queue.workers.pause import Pause
from launcher.queue.workers.program_files import with_file_digests
from launcher.queue.workers.progress.hashing import HashingReport
from launcher.queue.workers.running_time import (
    KILL_RETRY_S,
    Deadlines,
    TerminationReport,
    TerminationStep,
)
from launcher.queue.workers.start_attempt import AttemptStarter, StartedAttempt, note_changes
from launcher.queue.workers.termination import PILOT_ABANDONED, TIME_LIMIT, is_to_be_killed
from launcher.system import cgroups, memory
from launcher.system.files import AWAY_TIMEOUT_S, DISK_FULL_PAUSE_S, is_disk_full, sync
from launcher.system.process_trees import adopt_orphans, send_signal, terminate
from launcher.system.processes import Identity, boot_id, children_cpu_s, identity

if TYPE_CHECKING:
    from launcher.queue.workers.progress.named_files import NamedFilesWatch

# check whether the current attempt is to be paused, resumed or killed
CONTROL_SIGNAL = signal.SIGUSR1
LEFTOVER_GRACE_S = 2.0  # seconds for the processes that a program leaves behind when it ends
MESSAGE_BYTES = 8192  # an attempt's path
LONGEST_REPORT = 8192  # bytes of a message with an outcome; a longer one is read from its record
LONGEST_SLEEP_S = 3600.0  # a poll cannot count the milliseconds of a month
RUN, STOP = b"run ", b"stop "  # followed by the attempt's folder
# names the folder of the attempt that will probably follow: its order can be read ahead
NEXT = b"next "
ENDED = b"ended "  # an outcome follows
LEASE_POLL_MARGIN_S = 0.001  # a poll may return that much too early


LEAST_SHIFT_S = (
    0.5  # a clock that is slowed down or sped up differs by less than that in most attempts
)


class AttemptPhase(IntEnum):
    """The phase of a supervisor's current attempt."""

    NONE = 0
    RUNS = 1
    ASKED = 2  # the program was asked to end: even with exit code 0 the job need not be done
    ENDED_WELL = 3


class CurrentAttempt:
    """A supervisor's current attempt; its fork server reads it here if the supervisor is killed."""

    def __init__(self) -> None:
        """Begin with none, before the fork: the memory is shared."""
        self._memory = mmap.mmap(-1, MESSAGE_BYTES + 1)

    @property
    def phase(self) -> AttemptPhase:
        """How far it is."""
        return AttemptPhase(self._memory[0])

    @phase.setter
    def phase(self, progress: AttemptPhase) -> None:
        self._memory[0] = progress

    def set_attempt(self, folder: bytes) -> None:
        """Take an attempt by its folder."""
        self._memory[1 : len(folder) + 2] = folder + b"\0"
        self.phase = AttemptPhase.RUNS

    def read_attempt(self) -> Attempt:
        """Return the one that was taken last."""
        return _attempt_at(self._memory[1:].partition(b"\0")[0])


def serve(
    home: Home, channel: socket.socket, current: CurrentAttempt, *, is_ahead: bool = False
) -> None:
    """Run the attempts that a scheduler sends, one at a time, until it is gone.

    Args:
        home: the queue's.
        channel: channel to the scheduler.
        current: shared with the fork server.
        is_ahead: fork a worker before there is work for it.
    """
    me = _Supervisor(home, channel, current, is_ahead=is_ahead)
    while me.serve_attempt():
        pass


class _Supervisor:
    def __init__(
        self, home: Home, channel: socket.socket, current: CurrentAttempt, *, is_ahead: bool
    ) -> None:
        self._home, self._channel, self._current = home, channel, current
        self._scheduler_gone = False  # the scheduler is gone
        self._signals = _Signals()
        self._stop_requested = False
        self._attempt_folder = b""  # the folder of the current attempt
        self._lease = lease_of(home)
        self._abandon_watch: AbandonWatch | None = (
            None  # watch of the current attempt's pilot; None if the supervisor has none
        )
        adopt_orphans()
        close_on_exec()
        me = identity(os.getpid()) or Identity(pid=os.getpid(), start_ticks=0, boot=boot_id())
        self._group = cgroups.join_own_group(me)
        self._digests = FileDigests(home.digests, self._on_hashing_progress)
        self._report_hashing: HashingReport | None = None  # report of the current attempt
        self._starter = AttemptStarter(
            me, self._group, self._digests, is_ahead=is_ahead, check=self._check_request
        )
        self._processes = AttemptProcesses(self._group, lambda: self._starter.standby_pid)

    def serve_attempt(self) -> bool:
        """Wait for an attempt and run it to its end; False if none will follow."""
        message = b""
        while not message.startswith(RUN):
            message = self._next_message()
            if not message:
                self._dismiss()
                return False
        self._stop_requested = False
        self._attempt_folder = message[len(RUN) :]
        attempt = _attempt_at(self._attempt_folder)
        self._current.set_attempt(self._attempt_folder)
        outcome = self._run_attempt(attempt)
        self._current.phase = AttemptPhase.NONE
        self._report(outcome)
        ordered_to_leave = bool(self._signals.received)
        leaves = self._scheduler_gone or ordered_to_leave or self._lease.is_over()
        if leaves:
            self._dismiss()
        if self._scheduler_gone:
            _sync(attempt)
            wake(self._home)
            if not ordered_to_leave:  # a machine that goes down must not start jobs again
                restart_scheduler(self._home)
        return not leaves

    def _report(self, outcome: bytes) -> None:
        """Send the scheduler the outcome of the current attempt; empty if another process must find it."""
        if self._scheduler_gone:
            return
        message = ENDED + outcome
        try:
            self._channel.send(message if len(message) <= LONGEST_REPORT else ENDED)
        except OSError:
            self._scheduler_gone = True

    def _dismiss(self) -> None:
        """Dismiss the waiting worker, and remove our control group."""
        self._starter.dismiss_standby()
        if self._group is not None:
            cgroups.leave_group(self._group)
            self._group = None

    def _next_message(self) -> bytes:
        """Wait for the scheduler's next message; empty when the scheduler is gone, or when we are to exit."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._signals.descriptor, select.POLLIN)
        while True:
            poll.poll()
            self._signals.drain()
            # an unread message is voided: the attempt of the message has not begun
            if self._signals.received:
                return b""
            try:
                return self._channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:  # the scheduler died before it had read our last word
                return b""

    def _run_attempt(self, attempt: Attempt) -> bytes:
        """Run one attempt from its start to its recorded end; then none of its processes lives.

        Returns its outcome as it is on record; nothing where it was not ours to start, or to end.
        """
        self._abandon_watch = (
            AbandonWatch(attempt.folder.parent.parent) if self._lease.is_shared else None
        )
        if self._lease.is_over() or self._is_pilot_abandoned(at_once=True):
            return b""
        self._processes.attempt = str(attempt.folder)
        self._report_hashing = HashingReport(attempt)
        cpu_before_s, clock_before = children_cpu_s(), _clock_offset()
        begun = self._start(attempt)
        self._report_hashing.end()
        if begun is None:
            return b""
        if not isinstance(begun, StartedAttempt):
            return record_outcome_when_possible(begun, attempt, self._lease)
        self._starter.fork_standby()  # the next worker, while this one runs
        log_limit = LogLimits(attempt, begun.attempt_spec, begun.started_at)
        status, how = self._await_end(begun, log_limit, self._watch_files(begun, attempt))
        if status == 0 and self._current.phase is AttemptPhase.RUNS and not how.signalled:
            self._current.phase = AttemptPhase.ENDED_WELL
        if self._lease.is_over():
            self._processes.end(0.0)
            return b""
        self._await_folder(attempt)
        if status:  # before the waits below, in which a disk can get room
            how = how._replace(is_log_disk_full=is_disk_full(attempt.log))
        if not how.signalled:
            wait_s = signal_wait_s(status, attempt, how, time.monotonic() - begun.started_at)
            how = how._replace(signalled=self._await_own_signal(wait_s))
        self._processes.end(LEFTOVER_GRACE_S)
        note_changes(begun.attempt_spec, attempt)
        log_limit.finish()
        if status and begun.oom_kills is not None:
            kills = memory.count_oom_kills() or begun.oom_kills
            how = how._replace(oom_kills=kills - begun.oom_kills)
        outcome = judge_exit(status, attempt, how, time.time())
        log_limit.free_reserve()
        if isinstance(outcome, Done):
            outcome = self._with_file_digests(outcome, begun, attempt)
        if not isinstance(outcome, Lost | NeverStarted):
            shift_s = round(_clock_offset() - clock_before, 3)
            outcome = outcome._replace(
                cpu_s=round(children_cpu_s() - cpu_before_s, 3),
                clock_shift_s=shift_s if abs(shift_s) >= LEAST_SHIFT_S else None,
            )
        return record_outcome_when_possible(outcome, attempt, self._lease, begun.spec_text)

    def _start(self, attempt: Attempt) -> StartedAttempt | Failed | NeverStarted | Stopped | None:
        """Start the program of an attempt, unless its end is requested while its files are hashed or it is missing."""
        try:
            return self._starter.start_attempt(attempt)
        except HashingStopped:
            return Stopped(at=time.time(), by=self._signals.received)

    def _with_file_digests(
        self, outcome: Done, started_attempt: StartedAttempt, attempt: Attempt
    ) -> Done | Failed:
        """Return the end of an attempt with digests of its files; its time limit does not run any more."""
        self._report_hashing = HashingReport(attempt)
        if started_attempt.attempt_spec.spec.entry:
            end: Done | Failed = with_output_versions(
                outcome, started_attempt.attempt_spec, attempt, self._digests
            )
        else:
            end = with_file_digests(
                outcome,
                started_attempt.attempt_spec,
                attempt,
                self._digests,
                started_attempt.file_digests,
            )
        self._report_hashing.end()
        return end

    def _on_hashing_progress(self, path: str, read: int, size: int) -> None:
        """Report how far the digest of a file is.

        Raises:
            HashingStopped: we are to leave or to end the attempt, or the job is not ours any more.
        """
        if self._report_hashing is not None:
            self._report_hashing.report(path, read, size)
        self._check_request()

    def _check_request(self) -> None:
        """Look at signals and messages while no program runs.

        Raises:
            HashingStopped: we are to leave or to end the attempt, or the job is not ours any more.
        """
        if not self._scheduler_gone:
            self._read_message()
        if (
            self._signals.received
            or self._stop_requested
            or self._lease.is_over()
            or self._is_pilot_abandoned()
            # left for `_await_end`, because a pause is requested by the same signal
            or (
                self._signals.control_at is not None
                and is_to_be_killed(_attempt_at(self._attempt_folder))
            )
        ):
            raise HashingStopped

    def _watch_files(
        self, started_attempt: StartedAttempt, attempt: Attempt
    ) -> "NamedFilesWatch | None":
        """Return the watch of the files of numbers that the job names and others may write; None if there are none."""
        terms = started_attempt.attempt_spec.spec.terms
        if not (terms.metrics or terms.tensorboard):
            return None
        # 30 ms of modules that few jobs need
        from launcher.queue.workers.progress.named_files import watch_named_files

        return watch_named_files(attempt, self._processes.pids, started_attempt.started_at)

    def _await_end(
        self,
        started_attempt: StartedAttempt,
        log_limit: LogLimits,
        files: "NamedFilesWatch | None" = None,
    ) -> tuple[int, ExitContext]:
        """Wait for the program's end, ending it when we are asked to or its time is over.

        Returns its wait status, and further facts about the end.
        """
        program, terms = started_attempt.program, started_attempt.attempt_spec.spec.terms
        ended = os.pidfd_open(program)
        times = Deadlines.from_terms(terms, started_attempt.started_at)
        attempt = _attempt_at(self._attempt_folder)
        pause, report = Pause(attempt, self._processes.pids), TerminationReport(attempt)
        try:
            while not self._wait_for_event(
                ended,
                times.next_deadline(is_paused=pause.is_paused),
                pause.retry_at,
                self._signals.control_at,
                log_limit.check_at,
                None if files is None else files.check_at,
            ):
                now = time.monotonic()
                log_limit.check(now)
                if files is not None:
                    files.check(now)
                if self._lease.is_over():  # other pilots have got the attempts
                    self._processes.kill()
                    times.schedule_only_kill(now + KILL_RETRY_S)
                    continue
                self._processes.reap(spare=program)
                told, asked = (
                    self._signals.take_control_request(),
                    self._stop_requested or self._is_pilot_abandoned(),
                )
                if (told or (asked and not times.is_ending)) and is_to_be_killed(attempt):
                    times.kill_at_once(now)
                elif (told or pause.is_due(now)) and not times.is_ending:
                    times.postpone(pause.apply_request(now))
                step = times.take_due_step(now, stop_requested=asked, is_paused=pause.is_paused)
                if self._abandon_watch is not None and self._abandon_watch.is_abandoned:
                    times.kill_by(now + terms.grace_s - self._abandon_watch.since_clear_s)
                if step in {TerminationStep.END, TerminationStep.KILL}:
                    self._current.phase = AttemptPhase.ASKED
                match step:
                    case TerminationStep.END:
                        terminate(program)
                        # a paused program receives the signal only when it is continued
                        pause.resume(now)
                    case TerminationStep.WARN:
                        send_signal(program, signal.Signals[terms.warn_signal])
                    case TerminationStep.KILL:
                        self._processes.kill()
                        pause.resume(now)
                if times.is_ending and step is not None:
                    report.write(times, now, self._cause(times), self._processes.pids)
        finally:
            os.close(ended)
        _, status, usage = os.wait4(program, 0)
        self._signals.drain()
        return status, ExitContext(
            stopped=times.stop_requested,
            signalled=self._signals.received,
            over_limit_s=terms.time_limit_s if times.limit_reached else None,
            was_killed=times.was_killed,
            has_worker=bool(started_attempt.attempt_spec.spec.entry),
            max_rss=usage.ru_maxrss * 1024,
            ram=started_attempt.attempt_spec.spec.resources.ram,
        )

    def _cause(self, times: Deadlines) -> str:
        """Return why the running program is ended; empty if the scheduler requested it."""
        if times.limit_reached:
            return TIME_LIMIT
        return self._signals.received or (PILOT_ABANDONED if self._is_pilot_abandoned() else "")

    def _wait_for_event(self, ended_fd: int, *times: float | None) -> bool:
        """Sleep until the program has ended (True), or another event needs handling."""
        poll = select.poll()
        poll.register(ended_fd, select.POLLIN)
        poll.register(self._signals.descriptor, select.POLLIN)
        if not self._scheduler_gone:
            poll.register(self._channel, select.POLLIN)
        until = min((at for at in times if at is not None), default=inf)
        left_s = max(0.0, until - time.monotonic())
        if self._abandon_watch is not None:
            left_s = min(left_s, self._abandon_watch.next_poll_s(pilot_dead=self._scheduler_gone))
        if (lease_s := self._lease.end_time - lease.now()) > 0:
            left_s = min(left_s, lease_s + LEASE_POLL_MARGIN_S)
        events = {descriptor for descriptor, _ in poll.poll(min(left_s, LONGEST_SLEEP_S) * 1000)}
        self._signals.drain()
        if self._channel.fileno() in events:
            self._read_message()
        if self._signals.received:
            self._stop_requested = True
        return ended_fd in events

    def _await_folder(self, attempt: Attempt) -> None:
        """Wait for a while if an attempt's folder is not mounted, because it contains the worker's report."""
        until = time.monotonic() + AWAY_TIMEOUT_S
        while attempt.is_away() and time.monotonic() < until:
            if self._lease.is_over() or self._signals.received:
                return
            time.sleep(DISK_FULL_PAUSE_S)

    def _is_pilot_abandoned(self, *, at_once: bool = False) -> bool:
        """Return whether the scheduler has abandoned the pilot of the current attempt."""
        return self._abandon_watch is not None and self._abandon_watch.poll(
            pilot_dead=self._scheduler_gone, at_once=at_once
        )

    def _await_own_signal(self, timeout_s: float) -> str:
        """Return which signal asked us to leave, given a moment to arrive; "" when none came.

        A reboot or a logout signals all processes one after another, and a program may have ended
        of its signal before we get ours.
        """
        if timeout_s <= 0:
            return self._signals.received
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while not self._signals.received and (left_s := deadline - time.monotonic()) > 0:
            poll.poll(left_s * 1000)
            self._signals.drain()
        return self._signals.received

    def _read_message(self) -> None:
        try:
            message = self._channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._scheduler_gone = True
        elif message == STOP + self._attempt_folder:
            self._stop_requested = True
            # its pilot also makes it end when the pilot is abandoned
            self._is_pilot_abandoned(at_once=True)
        elif message.startswith(NEXT):
            self._starter.read_ahead(_attempt_at(message[len(NEXT) :]))


class _Signals:
    """Notices SIGTERM, SIGHUP and ended children, also while we sleep in a poll."""

    def __init__(self) -> None:
        self.received = ""  # name of the signal that asked us to leave
        self.control_at: float | None = (
            None  # when the last control signal arrived; None: no signal is unhandled
        )
        self.descriptor, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP):  # logind ends a session with both
            signal.signal(number, self._note)
        signal.signal(CONTROL_SIGNAL, self._note_control)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, signal_number: int, _: object) -> None:
        self.received = self.received or signal.Signals(signal_number).name

    def _note_control(self, *_: object) -> None:
        self.control_at = time.monotonic()

    def take_control_request(self) -> bool:
        """Return whether a pause, its end, or a kill was requested since the last call."""
        at, self.control_at = self.control_at, None
        return at is not None

    def drain(self) -> None:
        """Clear the signal's flag; its name is kept."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 64)


def _clock_offset() -> float:
    """Return the difference between the clock and one that is never set, in seconds."""
    return time.time() - time.monotonic()


def _attempt_at(folder: bytes) -> Attempt:
    return Attempt(Path(os.fsdecode(folder)))


def _sync(attempt: Attempt) -> None:
    """Let an outcome survive a power cut, where no scheduler takes it in at once."""
    with contextlib.suppress(OSError):
        for path in (attempt.started, attempt.folder, attempt.folder.parent):
            sync(path)
