"""How an attempt ended, in one sentence: from its exit status, its own word and the kernel's."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from launcher.paths import Attempt
from launcher.records import Json, read_json
from launcher.states import Done, Failed, Outcome, Stopped
from launcher.units import format_seconds

LOG_TAIL_BYTES = 4096
_KILLED = 128 + signal.SIGKILL  # how a shell tells that its program was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a supervisor knows beside the exit status."""

    stopped: bool = False  # we were asked to end it
    over_limit_s: float | None = None  # its time limit was reached
    insisted: bool = False  # we killed it, after its grace
    oom_kills: int | None = None  # processes of our cgroup that the kernel killed; None: not known


def judge(status: int, attempt: Attempt, how: Circumstances, now: float) -> Outcome:
    """Return the outcome of a program that ended.

    Args:
        status: as `waitpid` gives it.
        attempt: where the worker put its own word, and the log.
        how: what else is known.
        now: seconds since 1970.
    """
    record = word_of(attempt)
    code = os.waitstatus_to_exitcode(status)
    match record:
        case {"ok": True, "result": dict(result)}:
            return Done(at=now, result=result)
    if how.stopped:
        return Stopped(at=now)
    if how.over_limit_s is not None and code != 0:
        limit = f"reached its time limit of {format_seconds(how.over_limit_s)}"
        how_ended = " and was killed after its grace" if how.insisted else ""
        return Failed(at=now, error=limit + how_ended, **_status(code))
    match record:
        case {"ok": False, "error": str(error)}:
            return Failed(at=now, error=error, exit_code=code)
    if code == 0:
        return Done(at=now)
    return Failed(at=now, error=_sentence(code, attempt, how), **_status(code))


def word_of(attempt: Attempt) -> dict[str, Json] | None:
    """Return what a worker said of its own end; None where it said nothing that can be read."""
    try:
        return read_json(attempt.result)
    except (OSError, RecursionError):  # a program may leave anything under that name
        return None


def _status(code: int) -> dict[str, int]:
    return {"signal": -code} if code < 0 else {"exit_code": code}


def _sentence(code: int, attempt: Attempt, how: Circumstances) -> str:
    out_of_memory = "killed by the kernel: the machine or its cgroup ran out of memory"
    if code in {-signal.SIGKILL, _KILLED} and how.oom_kills:
        return out_of_memory + last_line(attempt.log)
    if code == -signal.SIGKILL and how.oom_kills is not None:
        return "killed by SIGKILL, and not for lack of memory" + last_line(attempt.log)
    if code < 0:
        return f"ended by {_signal_name(-code)}" + last_line(attempt.log)
    return f"ended with exit code {code}" + last_line(attempt.log)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_line(log: Path) -> str:
    """Return the last line that was said, after a colon; '' when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip("\0 \t\r")]
    return f": {said[-1][-200:]}" if said else ""
