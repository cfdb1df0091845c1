"""What a machine's GPUs reported over some time, in a file: to look at elsewhere, and for tests."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

from launcher.errors import UsageError
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.system.files import Json

_NUMBER = int | float
_KINDS: dict[str, Any] = {  # what a field of a GPU or a process holds where it is reported
    "uuid": str,
    "index": int,
    "name": str,
    "total": int,
    "used": int,
    "mig": int,
    "fault": str,
    "warnings": list,
    "processes": list,
    "utilisation": _NUMBER,
    "compute_mode": int,
    "power_w": _NUMBER,
    "power_limit_w": _NUMBER,
    "temperature_c": int,
    "ecc_uncorrected": int,
    "driver": str,
    "pid": int,
    "user": str,
    "command": str,
    "sm": _NUMBER,
}
_COUNTS = {name for name, kind in _KINDS.items() if kind in {int, _NUMBER}} - {"temperature_c"}
_TOLD = {"uuid", "index", "name", "total", "fault", "warnings", "driver", "pid"}  # never None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Every GPU of a machine at one moment."""

    at: float  # seconds since 1970
    gpus: tuple[GpuSnapshot, ...]
    trouble: str = ""  # why other users' schedulers and ours cannot know each other's reservations


class Replay:
    """Says again what was recorded, a look at each question; the last one stays."""

    def __init__(self, path: Path) -> None:
        """Read a recording.

        Raises:
            UsageError: there is none, or it is something else.
        """
        self.looks = read_recording(path)
        self._next = 0

    def snapshot(self) -> tuple[GpuSnapshot, ...]:
        """Return the next look's GPUs."""
        look = self.looks[min(self._next, len(self.looks) - 1)]
        self._next += 1
        return look.gpus


def record(path: Path, gpus: Sequence[GpuSnapshot], at: float | None = None) -> None:
    """Add a look to a recording, which is begun where there is none.

    Args:
        path: check with `read_recording` first that it is no other file.
        gpus: the look.
        at: when it was taken, in seconds since 1970; now, where it is left out.
    """
    listed: list[Json] = [gpu_record(gpu) for gpu in gpus]
    line = {"schema": 1, "at": time.time() if at is None else at, "gpus": listed}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())  # whole, or not at all
    finally:
        os.close(descriptor)


_WRITTEN = "name a file that `launcher gpus --record FILE` wrote, or a new one"


def read_recording(path: Path) -> tuple[Look, ...]:
    """Read every look of a recording; there is at least one.

    Raises:
        UsageError: it cannot be read, or a line of it is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a recording: {error}; {_WRITTEN}") from error
    if not lines:
        raise UsageError(
            f"{path}:1: a recording has at least one line, this file has none; {_WRITTEN}"
        )
    looks = []
    for number, line in enumerate(lines, start=1):
        try:
            looks.append(_look(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}:{number}: no look at GPUs: {error}; {_WRITTEN}") from error
    return tuple(looks)


def gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    """Return a GPU for JSON."""
    fields: dict[str, Json] = asdict(gpu)
    return fields


def _look(line: object) -> Look:
    match line:
        case {"schema": 1, "at": int() | float() as at, "gpus": list(gpus), **more}:
            text = more.get("trouble")
            trouble = text if isinstance(text, str) else ""
            return Look(at=float(at), gpus=tuple(map(_gpu, gpus)), trouble=trouble)
        case {"schema": schema} if schema != 1:
            raise ValueError(f"schema {schema!r} is not 1; a newer launcher wrote it")
    raise ValueError("expected an object with schema, at and gpus")


def _gpu(record: object) -> GpuSnapshot:
    values = _checked(record, GpuSnapshot)
    values["warnings"] = tuple(_texts(values.get("warnings", [])))
    processes = values.get("processes")
    try:
        if processes is not None:
            held = (GpuProcess(**_checked(process, GpuProcess)) for process in processes)
            values["processes"] = tuple(held)
        return GpuSnapshot(**values)
    except TypeError as error:  # one that must be there is not
        raise ValueError(str(error)) from None


def _checked(record: object, kind: type[GpuSnapshot | GpuProcess]) -> dict[str, Any]:
    """Return a record's values where each is of its field's kind; unknown ones are left out."""
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, got {record!r}")  # noqa: TRY004  # of a file
    names = {field.name for field in fields(kind)}
    values = {name: value for name, value in record.items() if name in names}
    for name, value in values.items():
        right = isinstance(value, _KINDS[name]) and not isinstance(value, bool)
        if right and name in _COUNTS:
            right = 0 <= value < inf  # and so no NaN, which JSON of Python may hold
        if not right and (value is not None or name in _TOLD):
            raise ValueError(f"{name} cannot be {value!r}")
    return values


def _texts(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"a warning cannot be {value!r}")  # noqa: TRY004  # of a file
        yield value
