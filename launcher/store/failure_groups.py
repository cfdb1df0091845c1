"""Attempts that were not done, in groups that failed alike."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from launcher.states import ReasonCode
from launcher.system.files import Json

ERROR_LENGTH = 200  # characters of an error that tell it from others
_NUMBER = re.compile(r"(exit code \d+)|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_NAMES: Mapping[ReasonCode, str] = {
    ReasonCode.CANCELLED: "cancelled",
    ReasonCode.FAILED: "failed",
    ReasonCode.GPU_FAULT: "GPU fault",
    ReasonCode.LOST: "lost",
    ReasonCode.NOT_STARTED: "not started",
    ReasonCode.OUT_OF_MEMORY: "out of memory",
    ReasonCode.STOPPED: "stopped",
    ReasonCode.TIME_LIMIT: "time limit",
}
_WHOSE = {"ours": ", its own", "neighbour": ", a neighbour's", "machine": ", the machine's"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempts:
    """Attempts that were not done, and of which the same is on record."""

    code: ReasonCode
    where: str = ""  # which memory was missing: "gpu" or "ram"
    whose: str = ""  # fault that was: "ours", "neighbour" or "machine"; empty: nobody could tell
    fault: str = ""  # of a GPU
    requeued: bool = False  # their jobs were queued again at no cost
    error: str = ""  # or why they were lost
    attempts: int = 1
    seconds: float = 0.0
    job: int  # the newest of them
    at: float  # when that ended


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Attempts that failed alike."""

    code: ReasonCode
    detail: str  # what tells the group from others of its code
    attempts: int
    seconds: float  # that they had run
    job: int  # the newest of them
    at: float

    @property
    def name(self) -> str:
        """What people call such a failure."""
        return _NAMES.get(self.code, self.code.replace("-", " "))

    @property
    def text(self) -> str:
        """What people call it, with what tells it from others."""
        return f"{self.name}: {self.detail}" if self.detail else self.name

    def values(self) -> dict[str, Json]:
        """Return the group for programs."""
        return {
            "cause": self.name,
            "reason_code": self.code,
            "detail": self.detail,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "job": self.job,
        }


def failure_groups(failed: Iterable[FailedAttempts]) -> tuple[FailureGroup, ...]:
    """Return the groups of attempts that failed alike, what cost the most time first."""
    groups: dict[tuple[ReasonCode, str], FailureGroup] = {}
    for attempts in failed:
        group = group_of(attempts)
        key = group.code, group.detail
        groups[key] = _joined(groups[key], group) if key in groups else group
    return tuple(
        sorted(groups.values(), key=lambda group: (-group.seconds, -group.attempts, -group.at))
    )


def group_of(failed: FailedAttempts) -> FailureGroup:
    """Return the group of attempts of which the same is on record."""
    return FailureGroup(
        code=failed.code,
        detail=_detail(failed),
        attempts=failed.attempts,
        seconds=failed.seconds,
        job=failed.job,
        at=failed.at,
    )


def _joined(group: FailureGroup, other: FailureGroup) -> FailureGroup:
    at, job = max((group.at, group.job), (other.at, other.job))
    return replace(
        group,
        attempts=group.attempts + other.attempts,
        seconds=group.seconds + other.seconds,
        at=at,
        job=job,
    )


def _detail(failed: FailedAttempts) -> str:
    """Return what tells attempts from others of the same code; empty: nothing."""
    match failed.code:
        case ReasonCode.OUT_OF_MEMORY:
            memory = "main memory" if failed.where == "ram" else "a GPU's memory"
            return f"{memory}{_WHOSE.get(failed.whose, '')}"
        case ReasonCode.GPU_FAULT:
            return _without_numbers(failed.fault)
        case ReasonCode.FAILED | ReasonCode.LOST:
            return _without_numbers(failed.error)
        case ReasonCode.STOPPED if failed.requeued:
            return "with the queue"
    return ""


def _without_numbers(text: str) -> str:
    """Return an error without what sets it apart from others of its sort; an exit code stays."""
    line = text.partition("\n")[0][:ERROR_LENGTH]
    return _NUMBER.sub(lambda number: number[1] or "#", line).strip()
