"""How a rank failed, as it tells it; and which of several failures ended the training."""

import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from launcher.api import Error, JobError, MachineError, UsageError

Sort = Literal["told", "gpu memory", "memory", "other"]
# what gloo, NCCL and torch say where another process has gone
_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "remote process exited",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rank did not come to its end."""

    at: float  # of the clock that all processes of a machine share, in seconds
    sort: Sort
    text: str
    exit_code: int = 1
    lost: bool = False  # it missed another rank: that one's failure came first

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Return the failure that an exception is; one that nobody expected is printed."""
        now = time.monotonic()
        if isinstance(error, Error):
            return cls(at=now, sort="told", text=str(error), exit_code=error.exit_code)
        text = f"{type(error).__name__}: {error}"
        lost = any(words in text.casefold() for words in _LOST)
        if isinstance(error, torch.OutOfMemoryError):
            return cls(at=now, sort="gpu memory", text=str(error))
        if isinstance(error, MemoryError):
            return cls(at=now, sort="memory", text=str(error))
        if not lost:
            traceback.print_exception(error)
        return cls(at=now, sort="other", text=text, lost=lost)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Failure":
        """Return the failure that `record()` gave."""
        return cls(**record)

    @classmethod
    def ended(cls, code: int, at: float) -> "Failure":
        """Return the failure of a process that ended without a word.

        Args:
            code: as `Process.exitcode` has it: negative where a signal ended it.
            at: when that was seen.
        """
        if code < 0:
            # in the words that a launcher takes for the kernel's, where memory was short
            return cls(
                at=at,
                sort="other",
                text=f"its process is killed by signal: {signal.strsignal(-code)}",
            )
        return cls(at=at, sort="other", text=f"its process ended with exit code {code}")

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def cause_of(failures: Mapping[str, Failure]) -> tuple[str, Failure]:
    """Return whose failure ended the training: the first one that is not the loss of another rank.

    Args:
        failures: by the name of the rank, one at least.
    """
    return min(failures.items(), key=lambda item: (item[1].lost, item[1].at))


def error_of(name: str, failure: Failure) -> Exception:
    """Return a failure as the error that the job's own process raises for it.

    Lack of memory stays what it was, so that whoever judges the job's end sees it.
    """
    text = f"{name}: {failure.text}"
    if failure.sort == "gpu memory":
        return torch.OutOfMemoryError(text)
    if failure.sort == "memory":
        return MemoryError(text)
    if failure.sort == "told":
        kinds = {UsageError.exit_code: UsageError, MachineError.exit_code: MachineError}
        return kinds.get(failure.exit_code, JobError)(failure.text)
    return JobError(text)
