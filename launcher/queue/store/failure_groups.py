"""Attempts that did not succeed, in groups with the same failure."""

import re
from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from launcher.queue.jobs.states import ReasonCode
from launcher.system.lazy_regex import compile_lazily

ERROR_LENGTH = 200  # characters of an error by which groups are distinguished
# numbers that say what an error is stay: of an address, an exit code, errno, HTTP, an error's own
_NUMBER = compile_lazily(
    r"(\w+://\S+|\b(?:exit code|errno|error(?: code)?:?|http(?: error)?|status(?: code)?) \d+\b)"
    r"|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?",
    re.IGNORECASE,
)
_BLAME_TEXTS = {
    "ours": ", own usage",
    "neighbour": ", usage of others",
    "machine": ", whole machine",
}


class AttemptFailures(NamedTuple):
    """Attempts that were not done, and of which the same is on record."""

    code: ReasonCode
    job: int  # the newest of them
    at: float  # when that ended
    memory_kind: str = ""  # memory that was missing: "gpu" or "ram"
    blamed_on: str = ""  # party at fault: "ours", "neighbour" or "machine"; empty: unknown
    fault: str = ""  # fault of a GPU
    requeued: bool = False  # their jobs were queued again at no cost
    error: str = ""  # error, or the reason why the attempts were lost
    attempts: int = 1
    seconds: float = 0.0


class FailureGroup(NamedTuple):
    """Attempts that failed alike."""

    cause: str  # name that people use for such a failure
    reason_code: ReasonCode
    detail: str  # difference between the group and others of its code
    attempts: int
    seconds: float  # run time of all these attempts
    job: int  # the newest of them

    @property
    def text(self) -> str:
        """Display text with the detail that distinguishes the group."""
        return f"{self.cause}: {self.detail}" if self.detail else self.cause


def group_failures(failures: Iterable[AttemptFailures]) -> tuple[FailureGroup, ...]:
    """Return the groups of attempts that failed alike, what cost the most time first."""
    alike: dict[tuple[ReasonCode, str], list[AttemptFailures]] = defaultdict(list)
    for attempts in failures:
        alike[attempts.code, _failure_detail(attempts)].append(attempts)
    groups = []
    for (code, detail), those in alike.items():
        at, job = max((attempts.at, attempts.job) for attempts in those)
        number = sum(attempts.attempts for attempts in those)
        seconds = sum(attempts.seconds for attempts in those)
        cause = "GPU fault" if code is ReasonCode.GPU_FAULT else code.replace("-", " ")
        group = FailureGroup(cause, code, detail, number, seconds, job)
        groups.append(((-seconds, -number, -at), group))
    return tuple(group for _, group in sorted(groups, key=itemgetter(0)))


def _failure_detail(failures: AttemptFailures) -> str:
    """Return the text that distinguishes attempts of the same code, empty if there is none."""
    match failures.code:
        case ReasonCode.OUT_OF_MEMORY:
            memory = "main memory" if failures.memory_kind == "ram" else "GPU memory"
            return f"{memory}{_BLAME_TEXTS.get(failures.blamed_on, '')}"
        case ReasonCode.GPU_FAULT:
            return without_numbers(failures.fault)
        case ReasonCode.FAILED | ReasonCode.LOST:
            return without_numbers(failures.error)
        case ReasonCode.STOPPED if failures.requeued:
            return "when the queue stopped"
    return ""


def without_numbers(text: str) -> str:
    """Return an error without what sets it apart from others of its sort."""
    line = text.partition("\n")[0][:ERROR_LENGTH]
    return _NUMBER.sub(lambda number: number[1] or "#", line).strip()
