"""The parent of an attempt's program: records that it started and how it ended, ends its tree.

Forked by a nursery, in a session of its own, so that it outlives nursery and scheduler. It alone
can learn the program's exit status.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from launcher import worker
from launcher.handover import revive, wake
from launcher.orders import Order, read_order
from launcher.paths import Attempt, Home
from launcher.processes import adopt_orphans, boot_id, descendants, identity, lock, send, terminate
from launcher.records import read_json, write_json
from launcher.states import Done, Failed, Outcome, Stopped, outcome_record

LEFTOVER_GRACE_S = 2.0  # for what a program leaves behind when it ends
LOG_TAIL_BYTES = 4096


def supervise(home: Home, attempt: Attempt) -> None:
    """Run one attempt from its start to its recorded end; returns when nothing of it lives."""
    signals = _Signals()  # first: whoever asks a started attempt to stop must find it listening
    held = lock(attempt.lock)
    if held is None or not _may_start(attempt):
        return
    adopt_orphans()
    order = read_order(attempt.spec)
    program = _start(order, attempt)
    status, stopped = _await_end(program, order, signals)
    _end_tree(os.getpid(), LEFTOVER_GRACE_S)
    _record(_judge(status, attempt, stopped=stopped), attempt)
    wake(home)
    os.close(held)
    revive(home)


def _may_start(attempt: Attempt) -> bool:
    """Win the right to start: exactly one process ever creates this file."""
    me = identity(os.getpid())
    try:
        descriptor = os.open(attempt.started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False  # a scheduler has voided the attempt
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f'{{"pid": {os.getpid()}, "start_ticks": {me.start_ticks if me else 0},')
        file.write(f' "boot": "{boot_id()}"}}\n')
    return True


class _Signals:
    """Notices SIGTERM and ended children, also while we sleep in a poll."""

    def __init__(self) -> None:
        self.asked_to_stop = False
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, *_: object) -> None:
        self.asked_to_stop = True

    def wait(self, descriptor: int, timeout_s: float | None) -> bool:
        """Wait until `descriptor` is readable (True), or a signal or the timeout came (False)."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._read, select.POLLIN)
        events = poll.poll(None if timeout_s is None else max(0, timeout_s * 1000))
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 64)
        return any(found == descriptor for found, _ in events)


def _start(order: Order, attempt: Attempt) -> int:
    """Fork the program; it runs its first instruction only after its pid is on record."""
    log = os.open(attempt.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _link_log(order, attempt)
    hold, release = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    # a SIGTERM that comes before the child has its own handlers waits until it has
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    program = os.fork()
    if program == 0:
        _child(order, attempt, log=log, hold=hold, release=release)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.close(hold)
    os.close(log)
    who = identity(program)
    record = who.record() if who else {"pid": program}
    # whole or absent for any reader, but not synced: after a power cut nothing of it lives anyway
    temporary = attempt.process.with_suffix(".tmp")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(attempt.process)
    os.write(release, b"!")
    os.close(release)
    return program


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


def _child(order: Order, attempt: Attempt, *, log: int, hold: int, release: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.close(release)
        _reset_signals()
        if os.read(hold, 1) != b"!":
            os._exit(1)  # the supervisor died before our pid was on record
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, _highest_descriptor() + 1)
        gpu = None if order.device == "cpu" else order.device
        worker.surround(order.context, gpu=gpu, cpus=order.cpus)
        if not order.spec.entry:
            worker.become(order.spec.argv)
        code = worker.work(
            order.spec,
            attempt,
            number=order.number,
            folder=order.context.folder,
            device="cpu" if gpu is None else "cuda:0",
            cpus=order.cpus,
        )
    except BaseException as error:  # noqa: BLE001  # nothing may escape into the supervisor's code
        os.write(2, f"launcher: cannot start the job: {error}\n".encode(errors="replace"))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reset_signals() -> None:
    """Handle every signal as a program expects it at its start."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def _await_end(program: int, order: Order, signals: _Signals) -> tuple[int, bool]:
    """Wait for the program's end, ending it when we are asked to.

    Returns its wait status, and whether it was told to stop before it ended.
    """
    ended = os.pidfd_open(program)
    deadline: float | None = None
    try:
        while not signals.wait(ended, None if deadline is None else deadline - time.monotonic()):
            _reap(spare=program)
            if signals.asked_to_stop and deadline is None:
                deadline = time.monotonic() + order.grace_s
                terminate(program)
            elif deadline is not None and time.monotonic() >= deadline:
                for pid in descendants(os.getpid()):
                    send(pid, signal.SIGKILL)
                deadline = time.monotonic() + 1  # what was forked meanwhile gets another round
    finally:
        os.close(ended)
    _, status = os.waitpid(program, 0)
    return status, deadline is not None


def _end_tree(root: int, grace_s: float) -> None:
    """End what the program left running below `root`: politely, then by force."""
    below = descendants(root)
    for pid in below:
        send(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while below:
        _reap()
        if time.monotonic() >= deadline:
            for pid in below:
                send(pid, signal.SIGKILL)
        time.sleep(0.01)
        below = descendants(root)


def _reap(spare: int = 0) -> None:
    """Collect ended orphans that we adopted, but never the program `spare`."""
    peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, peek)) and found.si_pid != spare:
            os.waitpid(found.si_pid, 0)


def _judge(status: int, attempt: Attempt, *, stopped: bool) -> Outcome:
    now = time.time()
    record = read_json(attempt.result)
    match record:
        case {"ok": True, "result": dict(result)}:
            return Done(at=now, result=result)
        case _ if stopped:
            return Stopped(at=now)
        case {"ok": False, "error": str(error)}:
            return Failed(at=now, error=error, exit_code=os.waitstatus_to_exitcode(status))
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return Done(at=now)
    if code < 0:
        return Failed(at=now, error=f"ended by {_signal_name(-code)}", signal=-code)
    return Failed(at=now, error=f"ended with exit code {code}{_last_line(attempt)}", exit_code=code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(attempt: Attempt) -> str:
    try:
        with attempt.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1][:200]}" if said else ""


def _record(outcome: Outcome, attempt: Attempt) -> None:
    """Write the outcome; wait for room when the disk is full, since only we know it."""
    while True:
        try:
            write_json(attempt.outcome, outcome_record(outcome), mode=0o600)
        except FileNotFoundError:
            return  # the attempt's folder was deleted under us; the scheduler will call it lost
        except OSError:
            time.sleep(1)
        else:
            return
