"""How an attempt ended, in one sentence: from its exit status, its own word and the kernel's."""

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from launcher.states import Done, Failed, Lost, Outcome, OutOfMemory, Shortage, Stopped, read_facts
from launcher.system.files import Json, read_json
from launcher.system.paths import RESULT, Attempt
from launcher.units import format_bytes, format_seconds
from launcher.workers.shortage import TAIL_BYTES, read_shortage

LOG_TAIL_BYTES = 4096
# A reboot signals all processes within milliseconds; a busy machine needs longer to deliver.
SIGNALLED_PATIENCE_S = 1.0  # the program ended of a signal that may be meant for all
FAILED_PATIENCE_S = 0.2  # it may have caught the signal, and ended with a code of its own
PATIENT_SHARE = 0.01  # of its time that a program at most costs more that ended well
SHORT_S = 0.5  # one that ran no longer costs no more at all
NOT_REPORTED = "its process ended with exit code 0 before it reported a result"
_KILLED = 128 + signal.SIGKILL  # how a shell tells that its program was killed
# it was ended from outside: its log does not say why
_SENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# a class as Python prints it, with or without its module
_EXCEPTION = re.compile(
    r"(?<![\w.])(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?=:|$)"
)
# what torch says when the kernel has killed a process that loads data
_CHILD_KILLED = "is killed by signal: Killed"
# whom the kernel kills is killed for what it holds: it asked for nothing large
_KERNELS = Shortage(where="ram", wanted=0)


class Circumstances(NamedTuple):
    """What a supervisor knows beside the exit status."""

    stopped: bool = False  # we were asked to end it
    signalled: str = ""  # name of the signal that ended us, its supervisor
    over_limit_s: float | None = None  # its time limit was reached
    insisted: bool = False  # we killed it, after its grace
    has_worker: bool = False  # its process is a worker, which reports its end; False: a program
    oom_kills: int | None = None  # processes of our cgroup that the kernel killed; None: not known
    max_rss: int | None = None  # bytes, the most that its program or one below that held
    ram: int | None = None  # bytes of main memory that are reserved for it; None: not declared


def judge(status: int, attempt: Attempt, how: Circumstances, now: float) -> Outcome:
    """Return the outcome of a program or worker that ended.

    The exit code 0 of a worker proves nothing: any code in its process may have ended it.

    Args:
        status: as `waitpid` gives it.
        attempt: where the worker put its own word, and the log.
        how: what else is known.
        now: seconds since 1970.
    """
    record = word_of(attempt)
    code = os.waitstatus_to_exitcode(status)
    done = done_of(record, now)
    if done is not None:
        return done
    if how.stopped:
        return Stopped(at=now, by=how.signalled)
    if how.over_limit_s is not None:
        limit = f"reached its time limit of {format_seconds(how.over_limit_s)}"
        how_ended = " and was killed after its grace period" if how.insisted else ""
        return Failed(at=now, error=limit + how_ended, over_limit=True, **_status(code))
    if how.signalled:  # who ends us, too, ends everything: that is no failure of the program
        return Stopped(at=now, by=how.signalled)
    match record:
        case {"ok": False, "error": str(error), "shortage": dict(facts)}:
            return _out_of_memory(now, _End(error, error), read_facts(facts), how, exit_code=code)
        case {"ok": False, "error": str(error), "away": True}:
            return Lost(at=now, why=f"the folder of its attempt was missing: {error}")
        case {"ok": False, "error": str(error)} if how.oom_kills and _CHILD_KILLED in error:
            return _out_of_memory(now, _End(error, error), _KERNELS, how, exit_code=code)
        case {"ok": False, "error": str(error)}:
            return Failed(at=now, error=error, exit_code=code, exception=_exception(error))
    if code == 0:
        return _not_reported(attempt, now) if how.has_worker else Done(at=now)
    shortage = _shortage(code, attempt, how)
    if shortage is not None:
        words = shortage.message
        end = _End(words, words) if words else _end(code, attempt, how)
        return _out_of_memory(now, end, shortage, how, **_status(code))
    end = _end(code, attempt, how)
    exception = _exception(end.last_words)
    return Failed(at=now, error=end.sentence, exception=exception, **_status(code))


def patience_s(status: int, attempt: Attempt, how: Circumstances, ran_s: float) -> float:
    """Return how long a supervisor waits for a signal of its own before it judges an end.

    Args:
        status: as `waitpid` gives it.
        attempt: where the worker put its own word.
        how: what else is known.
        ran_s: how long the program ran.
    """
    if how.stopped or how.over_limit_s is not None:
        return 0.0
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and ran_s <= SHORT_S and not how.has_worker:
        return 0.0
    if -code in _SENT or code - 128 in _SENT:
        return SIGNALLED_PATIENCE_S
    match word_of(attempt):
        case {"ok": False, "signalled": True}:
            return SIGNALLED_PATIENCE_S
        case {"ok": bool()}:  # a worker knows whether it got a signal
            return 0.0
    if code or how.has_worker:
        return FAILED_PATIENCE_S
    return min(FAILED_PATIENCE_S, ran_s * PATIENT_SHARE)


def word_of(attempt: Attempt) -> dict[str, Json] | None:
    """Return what a worker recorded of its own end; None where that cannot be read."""
    try:
        return read_json(attempt.text(RESULT))
    except (OSError, RecursionError):  # a program may leave anything under that name
        return None


def done_of(word: Mapping[str, Json] | None, at: float) -> Done | None:
    """Return the end of a worker whose own word is that its job is done; None where it is another."""
    match word:
        case {"ok": True, "result": dict(result), **more}:
            made = more.get("made")
            return Done(at=at, result=result, made=made if isinstance(made, bool) else None)
    return None


def _not_reported(attempt: Attempt, now: float) -> Failed:
    words = last_line(attempt.log)
    error = f"{NOT_REPORTED}: {words}" if words else NOT_REPORTED
    return Failed(at=now, error=error, exit_code=0)


class _Status(TypedDict, total=False):
    exit_code: int
    signal: int


def _status(code: int) -> _Status:
    return {"signal": -code} if code < 0 else {"exit_code": code}


def _shortage(code: int, attempt: Attempt, how: Circumstances) -> Shortage | None:
    """Return the lack of memory that ended a program; None where it was something else."""
    if how.oom_kills and code in {-signal.SIGKILL, _KILLED}:
        return _KERNELS
    if -code in _SENT or code - 128 in _SENT:
        return None
    end = _tail(attempt.log, TAIL_BYTES)
    if how.oom_kills and _CHILD_KILLED in end:
        return _KERNELS
    return read_shortage(end)


def _out_of_memory(
    now: float, end: "_End", shortage: Shortage, how: Circumstances, **status: Unpack[_Status]
) -> Outcome:
    error, exception = end.sentence, _exception(end.last_words)
    if shortage.where == "ram" and how.max_rss is not None:
        shortage = shortage._replace(held=how.max_rss)
        used = f" ({_used(how.max_rss, how.ram)})"
        error, exception = error + used, exception and exception + used
    shortage = shortage._replace(message="")  # no part of its record
    return OutOfMemory(now, error, shortage, exception=exception, **status)


def _used(held: int, promised: int | None) -> str:
    used = f"used {format_bytes(held)} of main memory"
    return used if promised is None else f"{used}, reserved: {format_bytes(promised)}"


class _End(NamedTuple):
    """How a program ended."""

    sentence: str
    last_words: str = ""  # of the program itself, with which the sentence closes


def _end(code: int, attempt: Attempt, how: Circumstances) -> _End:
    words, before = last_line(attempt.log), ": "
    if code in {-signal.SIGKILL, _KILLED} and how.oom_kills:
        sentence = "killed by the kernel: the machine or its cgroup ran out of memory"
    elif code == -signal.SIGKILL and how.oom_kills is not None:
        sentence, before = "killed by SIGKILL, not for lack of memory", "; last line of its log: "
    elif code < 0:
        sentence = f"ended by {_signal_name(-code)}"
    else:
        sentence = f"ended with exit code {code}"
    if not words and _is_full(attempt):
        sentence += "; the disk of its log is full"
    return _End(f"{sentence}{before}{words}" if words else sentence, words)


def _is_full(attempt: Attempt) -> bool:
    try:
        return os.statvfs(attempt.folder).f_bavail == 0
    except OSError:
        return False


def _exception(words: str) -> str:
    """Return the first line of a program's words where it names an exception, without its module."""
    first = words.partition("\n")[0]
    name = _EXCEPTION.search(first)
    return "" if name is None else first[: name.start()] + first[name.start(1) :]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_line(log: Path) -> str:
    """Return the end of a log's last line that is not empty; '' when there is none."""
    lines = _tail(log, LOG_TAIL_BYTES).split("\n")
    written = [line.strip() for line in lines if line.strip("\0 \t\r")]
    return written[-1][-200:] if written else ""


def _tail(log: Path, amount: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - amount))
            return file.read(amount).decode(errors="replace")
    except OSError:
        return ""
