"""Small files that must be whole or absent: written to a temporary name, synced, renamed."""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace `path` by `content` so that a reader or a crash sees the old file or the new one.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_json(path: Path, record: Mapping[str, Json], *, mode: int = 0o644) -> None:
    """Write `record` atomically as one JSON object."""
    write_atomic(path, json.dumps(record, ensure_ascii=False) + "\n", mode=mode)


def read_json(path: Path) -> dict[str, Json] | None:
    """Read a record, or return None where there is none (yet) or it was cut off."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
