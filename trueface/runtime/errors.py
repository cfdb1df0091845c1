"""Errors of the laboratory.

    launcher.api.UsageError      exit code 2
    ├── DeclarationError         2
    └── DataError                2
        ├── BadImageError        1
        ├── CheckpointError      1
        └── RecordError          1
    launcher.api.MachineError    exit code 3
    └── WeightsError             3

    DeclarationError: The file of a plug-in does not declare its type clearly.
    DataError: A data folder, split or data ID gives no images.
    BadImageError: A file cannot be decoded, and the setting is `stop`.
    CheckpointError: A trained model is absent, broken or another one.
    RecordError: A poison record does not match the images.
    WeightsError: Pretrained weights are not available on this machine.

All of them are shown without a traceback.
"""

from collections.abc import Sequence
from pathlib import Path

from launcher.api import Error as Error
from launcher.api import JobError as JobError
from launcher.api import MachineError as MachineError
from launcher.api import UnknownName as UnknownName
from launcher.api import UsageError as UsageError
from launcher.api import install_command as install_command
from launcher.api import nearest as nearest

MOST_ROWS = 3  # rows of a table whose faults are listed


class DeclarationError(UsageError):
    """A plug-in's declaration cannot be read without importing its file, or is made twice."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}:{line}: {reason}")


class DataError(UsageError):
    """A data folder, a split or a data ID gives no images, or cannot be read."""


def refuse_rows(file: Path, faults: Sequence[tuple[int, str]]) -> None:
    """Raise one error of all rows of a table that cannot be: the first three, and how many more.

    Args:
        file: the table.
        faults: line number and fault, in the order of lines. Empty: the file is valid.

    Raises:
        DataError: there is a fault.
    """
    if not faults:
        return
    shown = "; line ".join(f"{line}: {fault}" for line, fault in faults[:MOST_ROWS])
    more = len(faults) - MOST_ROWS
    rest = f"; and {more} more row{'s' if more > 1 else ''}" if more > 0 else ""
    raise DataError(f"{file}:{shown}{rest}")


class BadImageError(DataError):
    """An image file cannot be decoded."""

    exit_code = 1

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"cannot decode {path}: {reason}. Repair or remove the file, or set on_bad_image: skip"
        )


class CheckpointError(DataError):
    """A trained model is absent, cannot be read safely, or is not the requested one."""

    exit_code = 1


class RecordError(DataError):
    """A poison record cannot be read, or belongs to other images."""

    exit_code = 1


class WeightsError(MachineError):
    """Pretrained weights cannot be had: no network, no such file, or not a state dict."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error of a library, or its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
