"""Why attempts were not done: those together that failed alike."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from launcher.states import State
from launcher.system.files import Json

MOST_SAID = 200  # characters of an error that count
_NUMBER = re.compile(r"(exit code \d+)|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_EXCUSED = "; queued again"  # how the reason ends after an end that is not the job's fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Badly:
    """Attempts that were not done, and of which the same is on record."""

    ending: str  # as in their record, see `launcher.states`
    where: str = ""  # which memory was missing
    text: str = ""  # the error, or why they were lost
    state: str = ""  # what became of their jobs
    reason: str = ""  # and why
    attempts: int = 1
    seconds: float = 0.0
    job: int  # the newest of them
    at: float  # when that ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why attempts were not done."""

    cause: str
    detail: str
    attempts: int
    seconds: float  # that they had run
    job: int  # the newest of them
    at: float

    def values(self) -> dict[str, Json]:
        """Return the cause for programs."""
        return {
            "cause": self.cause,
            "detail": self.detail,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "job": self.job,
        }


def causes_of(badly: Iterable[Badly]) -> tuple[Cause, ...]:
    """Return why attempts were not done, what cost the most time first."""
    found: dict[tuple[str, str], Cause] = {}
    for one in badly:
        key = cause_of(one)
        before = found.get(key)
        if before is None:
            found[key] = Cause(
                cause=key[0],
                detail=key[1],
                attempts=one.attempts,
                seconds=one.seconds,
                job=one.job,
                at=one.at,
            )
            continue
        newest = max((before.at, before.job), (one.at, one.job))
        found[key] = replace(
            before,
            attempts=before.attempts + one.attempts,
            seconds=before.seconds + one.seconds,
            at=newest[0],
            job=newest[1],
        )
    return tuple(sorted(found.values(), key=lambda one: (-one.seconds, -one.attempts, -one.at)))


def cause_of(one: Badly) -> tuple[str, str]:
    """Return why an attempt was not done: in a few words, and what else tells it from others."""
    if one.state == State.CANCELLED:
        return "cancelled", ""
    if one.ending == "out-of-memory":
        return "out of memory", f"{_memory(one.where)}{_whose(one.reason)}"
    if one.reason.endswith(_EXCUSED) and one.ending in {"failed", "lost", "stopped"}:
        fault = one.reason.removesuffix(_EXCUSED).removeprefix(f"{one.text}: ")
        return "GPU fault", _alike(fault)
    match one.ending:
        case "failed" if one.text.startswith("reached its time limit"):
            return "time limit", ""
        case "failed":
            return "failed", _alike(one.text)
        case "lost":
            return "lost", _alike(one.text)
        case "void":
            return "not started", ""
        case "stopped":
            return "stopped", "with the queue" if one.state == State.QUEUED else ""
    return one.ending or "not told", ""


def _memory(where: str) -> str:
    return "main memory" if where == "ram" else "a GPU's memory"


def _whose(reason: str) -> str:
    """Return whose lack of memory it was, as it was judged then; empty: nobody could tell."""
    for whose in ("its own", "a neighbour's", "the machine's"):
        if reason.startswith(f"out of memory, {whose}"):
            return f", {whose}"
    return ""


def _alike(text: str) -> str:
    """Return an error without what sets it apart from others of its sort."""
    return _NUMBER.sub(lambda found: found[1] or "#", text.partition("\n")[0][:MOST_SAID]).strip()
