"""Digests of what is in files, each found once while the file's size, time and inode are as they were.

A file that was changed within the last seconds may be changed again without another time: what is known of such a
one is not kept. Digests of large files are kept from one process to the next: a small file is read sooner than that.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Mapping
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from launcher.system.files import read_json, stamp, write_atomic

GONE = ""  # the digest of a file that is not there, or cannot be read
CHANGED = "changed"  # in the place of the digest of a file that changed while a program ran
MOST_READ = 64 << 20  # bytes of a file that nobody has called an input
UNSTABLE_S = 2.0  # file systems tell times in steps of up to two seconds
LARGE_BYTES = 1 << 20
MOST_FILES = 2000
SCHEMA = 3  # of caches

Value = TypeVar("Value")


class Kept:
    """What earlier processes read, in a file of several parts; it is read when it is first needed."""

    def __init__(self, path: Path | None, most: Mapping[str, int]) -> None:
        """Begin without having read it.

        Args:
            path: of the file; None: nothing is kept.
            most: part → how many entries of it are kept.
        """
        self._path, self._most = path, most
        self._is_new = False

    @cached_property
    def _parts(self) -> dict[str, dict[str, Any]]:
        """The file's content; nothing where it is absent, damaged or not ours."""
        record: dict[str, Any] | None = None
        with contextlib.suppress(OSError):
            record = None if self._path is None else read_json(self._path)
        if record is None or record.get("schema") != SCHEMA:
            record = {}
        return {
            name: part if isinstance(part := record.get(name), dict) else {} for name in self._most
        }

    def get(self, part: str, key: str, read: Callable[[Any], Value]) -> Value | None:
        """Return what is known under a key; None where that is nothing, or damaged."""
        try:
            return read(self._parts[part][key])
        except (LookupError, ValueError, TypeError):
            return None

    def put(self, part: str, key: str, value: object) -> None:
        """Take in what is known now."""
        self._parts[part][key] = value
        self._is_new = True

    def save(self) -> None:
        """Write what is new, where it can be written."""
        if self._path is None or not self._is_new:
            return
        newest = {
            name: dict(list(part.items())[-self._most[name] :])
            for name, part in self._parts.items()
        }
        text = json.dumps({"schema": SCHEMA, **newest}, separators=(",", ":"), default=dict)
        with contextlib.suppress(OSError):  # a cache: without it the next plan takes longer
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, text, durable=False)
            self._is_new = False


class FileDigests:
    """What is in files.

    Args:
        path: of a file that keeps the digests of large ones, where its folder is there; None: nothing is kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        is_there = path is not None and path.parent.is_dir()
        self._kept = Kept(path if is_there else None, {"files": MOST_FILES})
        self._known: dict[str, tuple[list[int], str]] = {}  # path → size, time and inode; digest

    def of(self, path: Path | str) -> str:
        """Return a digest of a file; that of a folder is empty: to read all images would take too long.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        name, path = str(path), Path(path)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return ""
        key = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(name) or self._kept.get("files", name, _known)
        if known is not None and known[0] == key:
            return known[1]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        if time.time() - status.st_mtime >= UNSTABLE_S:
            self._known[name] = key, digest
            if status.st_size >= LARGE_BYTES:
                self._kept.put("files", name, (key, digest))
        return digest

    def save(self) -> None:
        """Keep what is known of large files for the next process, where it can be kept."""
        self._kept.save()

    def found(self, path: str, most_bytes: float = inf) -> str:
        """Return a digest of a file; `GONE` where there is none, or it cannot be read.

        Args:
            path: of the file.
            most_bytes: a larger one is not read, and known by its size and time.
        """
        with contextlib.suppress(OSError, ValueError):  # ValueError: no file can have such a name
            if os.path.isfile(path):  # noqa: PTH113  # done for every word of every program
                size, changed_ns = stamp(path) or (0, 0)
                return self.of(path) if size <= most_bytes else f"{size} {changed_ns}"
        return GONE


def found_now(
    names: Iterable[str],
    inputs: Container[object],
    path_of: Callable[[str], str],
    found: Callable[[str, float], str],
) -> dict[str, str]:
    """Return what is in the files of a program now, by their names; what is large is read where it is an input."""
    return {name: found(path_of(name), inf if name in inputs else MOST_READ) for name in names}


def file_changes(known: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return in a few words each which files are other than they were known, by their names."""
    return {
        name: f"{name} changed while it ran"
        if digest == CHANGED
        else f"{name} {'is gone' if now[name] == GONE else 'changed'}"
        for name, digest in known.items()
        if now[name] != digest
    }


def _known(value: Any) -> tuple[list[int], str]:
    key, digest = value
    return [int(number) for number in key], str(digest)
