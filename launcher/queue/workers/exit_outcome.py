"""How an attempt ended, in one sentence: from its exit status, its own word and the kernel's."""

import os
import re
import signal
from collections.abc import Mapping
from typing import NamedTuple, TypedDict, Unpack

from launcher.queue.home.paths import RESULT, Attempt
from launcher.queue.jobs.states import (
    Done,
    Failed,
    Lost,
    OomReport,
    Outcome,
    OutOfMemory,
    Stopped,
    read_oom_report,
)
from launcher.queue.workers.progress.attempt_progress import end_named_files, read_last_metrics
from launcher.queue.workers.progress.printed_lines import last_line
from launcher.queue.workers.shortage import TAIL_BYTES, find_oom_in_log
from launcher.system.files import Json, read_file_end, read_json
from launcher.system.units import format_bytes, format_seconds

# A reboot signals all processes within milliseconds. A machine with more than one ready process per core needs longer.
SIGNALLED_WAIT_S = 1.0  # the program ended of a signal that may be meant for all
FAILED_WAIT_S = 0.2  # seconds; a program may catch a signal, and end with a code of its own
MOST_BUSY = 10.0  # the largest factor of these times
LONGEST_WAIT_FRACTION = 0.01  # part of the run time by which a good end is delayed at most
SHORT_S = 0.5  # a program that ran no longer is not delayed at all
LOG_END_BYTES = 1 << 16  # the summary that torchrun prints of many ranks is some kilobytes long
NOT_REPORTED = "its process ended with exit code 0 before it reported a result"
_KILLED = 128 + signal.SIGKILL  # the exit status of a shell whose program was killed
# it was ended from outside: its log does not say why
_EXTERNAL_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# a class as Python prints it, with or without its module
_EXCEPTION = re.compile(
    r"(?<![\w.])(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?=:|$)"
)
# torch's message when the kernel has killed a process that loads data
_CHILD_KILLED = "is killed by signal: Killed"
# the kernel kills a process for its memory usage; the process requested nothing large
_KERNEL_OOM = OomReport(where="ram", wanted=0)


class ExitContext(NamedTuple):
    """The facts that a supervisor has in addition to the exit status."""

    stopped: bool = False  # the scheduler asked us to end the program
    signalled: str = ""  # name of the signal that ended us, the supervisor
    over_limit_s: float | None = None  # the program's time limit was reached
    was_killed: bool = False  # we killed the program, after its grace
    has_worker: bool = False  # the process is a worker, which reports its end; False: a program
    oom_kills: int | None = None  # processes of our cgroup that the kernel killed; None: not known
    max_rss: int | None = None  # bytes, the most that the program or a process below it held
    # bytes of main memory that are reserved for the program; None: not declared
    ram: int | None = None
    is_log_disk_full: bool = False  # when the program ended


def judge_exit(status: int, attempt: Attempt, context: ExitContext, now: float) -> Outcome:
    """Return the outcome of a program or worker that ended.

    The exit code 0 of a worker proves nothing: any code in its process may have ended it.

    Args:
        status: status as `waitpid` gives it.
        attempt: where the worker put its own word, and the log.
        context: what else is known.
        now: seconds since 1970.
    """
    record = read_worker_result(attempt)
    code = os.waitstatus_to_exitcode(status)
    done = done_from_result(record, now)
    # now, because another program may write the same files
    end_named_files(attempt, may_be_cut=code != 0 and done is None)
    if done is not None:
        return done
    if context.stopped:
        return Stopped(at=now, by=context.signalled)
    if context.over_limit_s is not None:
        was_killed = context.was_killed
        ended = time_limit_outcome(context.over_limit_s, now, was_killed=was_killed, code=code)
        awaited = (record or {}).get("awaited")  # by a function that has returned
        return ended._replace(error=f"{ended.error}: {awaited}") if awaited else ended
    # the sender of the signal ends everything; this is not a failure of the program
    if context.signalled:
        return Stopped(at=now, by=context.signalled)
    match record:
        case {"ok": False, "error": str(error), "shortage": dict(facts)}:
            return _out_of_memory(
                now, _EndText(error, error), read_oom_report(facts), context, exit_code=code
            )
        case {"ok": False, "error": str(error), "away": True}:
            return Lost(at=now, why=f"the folder of its attempt was missing: {error}")
        case {"ok": False, "error": str(error)} if context.oom_kills and _CHILD_KILLED in error:
            return _out_of_memory(now, _EndText(error, error), _KERNEL_OOM, context, exit_code=code)
        case {"ok": False, "error": str(error)}:
            return Failed(at=now, error=error, exit_code=code, exception=_exception_line(error))
    if code == 0:
        if context.has_worker:
            return _missing_report(attempt, now)
        return Done(at=now, result=read_last_metrics(attempt))
    shortage = _find_oom(code, attempt, context)
    if shortage is not None:
        words = shortage.message
        end = _EndText(words, words) if words else _describe_end(code, attempt, context)
        return _out_of_memory(now, end, shortage, context, **_status(code))
    end = _describe_end(code, attempt, context)
    exception = _exception_line(end.last_words)
    return Failed(
        at=now,
        error=end.sentence,
        exception=exception,
        disk_full=end.on_full_disk,
        **_status(code),
    )


def time_limit_outcome(limit_s: float, now: float, *, was_killed: bool, code: int) -> Failed:
    """Return the outcome of an attempt that was ended at its time limit.

    Args:
        limit_s: the limit.
        now: seconds since 1970.
        was_killed: it did not end within its grace period.
        code: exit code of the program, or the negative number of its signal.
    """
    limit = f"reached its time limit of {format_seconds(limit_s)}"
    how_ended = " and was killed after its grace period" if was_killed else ""
    return Failed(at=now, error=limit + how_ended, over_limit=True, **_status(code))


def failed_wait_s() -> float:
    """Return how long to wait for a signal after a program's own exit code, on a machine as busy as this one is now."""
    return FAILED_WAIT_S * _busy_factor()


def _busy_factor() -> float:
    """Return the ready processes per core over the last minute, at least 1 and at most MOST_BUSY."""
    try:
        load = os.getloadavg()[0]
    except OSError:  # no /proc/loadavg, as in some containers
        load = 0.0
    return min(MOST_BUSY, max(1.0, load / (os.cpu_count() or 1)))


def signal_wait_s(status: int, attempt: Attempt, context: ExitContext, ran_s: float) -> float:
    """Return how long a supervisor waits for a signal of its own before it judges an end.

    Args:
        status: status as `waitpid` gives it.
        attempt: where the worker put its own word.
        context: what else is known.
        ran_s: how long the program ran.
    """
    if context.stopped or context.over_limit_s is not None:
        return 0.0
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and ran_s <= SHORT_S and not context.has_worker:
        return 0.0
    if -code in _EXTERNAL_SIGNALS or code - 128 in _EXTERNAL_SIGNALS:
        return SIGNALLED_WAIT_S * _busy_factor()
    match read_worker_result(attempt):
        case {"ok": False, "signalled": True}:
            return SIGNALLED_WAIT_S * _busy_factor()
        case {"ok": bool()}:  # a worker reports whether it got a signal
            return 0.0
    if code or context.has_worker:
        return failed_wait_s()
    return min(failed_wait_s(), ran_s * LONGEST_WAIT_FRACTION)


def read_worker_result(attempt: Attempt) -> dict[str, Json] | None:
    """Return a worker's record of its own end; None if it cannot be read."""
    try:
        return read_json(attempt.path_text(RESULT))
    except (OSError, RecursionError):  # a program may leave anything under that name
        return None


def done_from_result(record: Mapping[str, Json] | None, timestamp: float) -> Done | None:
    """Return the end of a worker whose own word is that its job is done; None if its word is another."""
    match record:
        case {"ok": True, "result": dict(result), **more}:
            made = more.get("made")
            return Done(
                at=timestamp, result=result, has_results=made if isinstance(made, bool) else None
            )
    return None


def _missing_report(attempt: Attempt, now: float) -> Failed:
    words = _last_words(attempt)
    error = f"{NOT_REPORTED}: {words}" if words else NOT_REPORTED
    return Failed(at=now, error=error, exit_code=0)


class _Status(TypedDict, total=False):
    exit_code: int
    signal: int


def _status(code: int) -> _Status:
    return {"signal": -code} if code < 0 else {"exit_code": code}


def _find_oom(code: int, attempt: Attempt, context: ExitContext) -> OomReport | None:
    """Return the lack of memory that ended a program; None if it was something else."""
    if context.oom_kills and code in {-signal.SIGKILL, _KILLED}:
        return _KERNEL_OOM
    if -code in _EXTERNAL_SIGNALS or code - 128 in _EXTERNAL_SIGNALS:
        return None
    end = read_file_end(attempt.error_log, TAIL_BYTES)[0].decode(errors="replace")
    if context.oom_kills and _CHILD_KILLED in end:
        return _KERNEL_OOM
    return find_oom_in_log(end)


def _out_of_memory(
    now: float, end: "_EndText", report: OomReport, context: ExitContext, **status: Unpack[_Status]
) -> Outcome:
    error, exception = end.sentence, _exception_line(end.last_words)
    if report.where == "ram" and context.max_rss is not None:
        report = report._replace(held=context.max_rss)
        used = f" ({_describe_usage(context.max_rss, context.ram)})"
        error, exception = error + used, exception and exception + used
    report = report._replace(message="")  # the record does not contain the message
    return OutOfMemory(now, error, report, exception=exception, **status)


def _describe_usage(used_bytes: int, reserved_bytes: int | None) -> str:
    used = f"used {format_bytes(used_bytes)} of main memory"
    return used if reserved_bytes is None else f"{used}, reserved: {format_bytes(reserved_bytes)}"


class _EndText(NamedTuple):
    """How a program ended."""

    sentence: str
    last_words: str = ""  # words of the program itself, with which the sentence closes
    on_full_disk: bool = False  # no signal ended it, and its log could not be written


def _describe_end(code: int, attempt: Attempt, context: ExitContext) -> _EndText:
    was_killed = -code in _EXTERNAL_SIGNALS or code - 128 in _EXTERNAL_SIGNALS
    words, before = _last_words(attempt, was_killed=was_killed), ": "
    if code in {-signal.SIGKILL, _KILLED} and context.oom_kills:
        sentence = "killed by the kernel: the machine or its cgroup ran out of memory"
    elif code == -signal.SIGKILL and context.oom_kills is not None:
        sentence, before = "killed by SIGKILL, not for lack of memory", "; last line of its log: "
    elif code < 0:
        sentence = f"ended by {_signal_name(-code)}"
    else:
        sentence = f"ended with exit code {code}"
    on_full_disk = code > 0 and context.is_log_disk_full
    if on_full_disk:
        sentence, before = f"{sentence}; the disk of its log is full", "; last line of its log: "
    return _EndText(f"{sentence}{before}{words}" if words else sentence, words, on_full_disk)


def _exception_line(words: str) -> str:
    """Return the first line of a program's words where it names an exception, without its module."""
    first = words.partition("\n")[0]
    name = _EXCEPTION.search(first)
    return "" if name is None else first[: name.start()] + first[name.start(1) :]


def _signal_name(signal_number: int) -> str:
    try:
        return signal.Signals(signal_number).name
    except ValueError:
        return f"signal {signal_number}"


def _last_words(attempt: Attempt, *, was_killed: bool = False) -> str:
    """Return the line that names the error of a program, or else the last one; empty if there is none."""
    logs = dict.fromkeys((attempt.error_log, attempt.log))
    ends = [read_file_end(log, LOG_END_BYTES)[0] for log in logs]
    try:
        # a supervisor of a program that does not fail does not import the forms of errors
        from launcher.queue.workers.failure_words import find_failure_words
    except ImportError:  # the environment was deleted or replaced while the program ran
        found = ""
    else:
        words = (
            find_failure_words(end, is_cut=len(end) == LOG_END_BYTES, was_killed=was_killed)
            for end in ends
        )
        found = next(filter(None, words), "")
    return found or last_line(ends[0].replace(b"\0", b""))
