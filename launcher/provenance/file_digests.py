"""Digests of the content of files, each computed once while the file's size, time and inode are unchanged.

A file that was changed within the last seconds may be changed again and keep its time. The digest of such a file is
not cached. Digests of large files are cached across processes; reading a small file is faster than the cache.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Container, Mapping
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from launcher.provenance.folder_contents import (
    FOLDER_END,
    digest_entries,
    folder_stamp,
    list_folder,
    newest_change_ns,
    stamp_of,
)
from launcher.system.files import (
    PLAIN_FOLDER_STAMP,
    FileStamp,
    FileVersion,
    file_stamp,
    read_json,
    write_atomic,
)
from launcher.system.lazy_regex import compile_lazily
from launcher.system.units import format_bytes

MISSING_DIGEST = ""  # the digest of a file that is not there, or cannot be read
CHANGED_DIGEST = "changed"  # instead of the digest of a file that changed while a program ran
ABSENT_DIGEST = (
    "absent"  # recorded for a file that was missing, so that another content differs from it
)
MOST_READ = 64 << 20  # bytes of a file that is not an input
UNSTABLE_S = 2.0  # file systems record times in steps of up to two seconds
LARGE_BYTES = 1 << 20
LARGE_FOLDER = 64  # entries; listing them costs less than reading them
CHUNK_BYTES = 8 << 20  # read at once; a file that is larger reports its progress
MOST_FILES = 2000
SCHEMA = 3  # schema of caches

_FILES = "files"  # the part of a cache with digests of files
# in the place of the digest of a file that was not read
_STAMP_PATTERN = compile_lazily(r"\d+ \d+")

Value = TypeVar("Value")
# called with the path of a file, how many of its bytes were read, and its size
HashProgress = Callable[[str, int, int], None]


class HashingStopped(Exception):
    """Raised by a `HashProgress`: the digest is not wanted any more."""


def progress_text(path: str, read: int, size: int) -> str:
    """Return how far the digest of a file is: `hashing best.pt: 3.2 GiB of 10 GiB`."""
    return f"hashing {os.path.basename(path)}: {format_bytes(read)} of {format_bytes(size)}"  # noqa: PTH119  # a text


class CacheFile:
    """The results of earlier processes, in a file of several parts; the file is read at first use."""

    def __init__(self, path: Path | None, max_entries: Mapping[str, int]) -> None:
        """Begin without having read it.

        Args:
            path: path of the file; None: nothing is kept.
            max_entries: part → how many entries of it are kept.
        """
        self._path, self._max_entries = path, max_entries
        self._added: dict[str, dict[str, Any]] = {name: {} for name in max_entries}

    @cached_property
    def _parts(self) -> dict[str, dict[str, Any]]:
        """The file's content when it was first needed."""
        return self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the file's content; nothing where it is absent, damaged or not ours."""
        record: dict[str, Any] | None = None
        with contextlib.suppress(OSError):
            record = None if self._path is None else read_json(self._path)
        if record is None or record.get("schema") != SCHEMA:
            record = {}
        return {
            name: part if isinstance(part := record.get(name), dict) else {}
            for name in self._max_entries
        }

    def get(self, part: str, key: str, read: Callable[[Any], Value]) -> Value | None:
        """Return the entry of a key; None if it is missing or damaged."""
        try:
            return read(self._parts[part][key])
        except (LookupError, ValueError, TypeError):
            return None

    def add(self, part: str, key: str, value: object) -> None:
        """Add an entry."""
        self._parts[part][key] = value
        self._added[part][key] = value

    def save(self) -> None:
        """Add the new entries to the current content of the file, if it can be written."""
        if self._path is None or not any(self._added.values()):
            return
        newest = {
            name: dict([*part.items(), *self._added[name].items()][-self._max_entries[name] :])
            for name, part in self._read().items()
        }
        text = json.dumps({"schema": SCHEMA, **newest}, separators=(",", ":"), default=dict)
        with contextlib.suppress(OSError):  # a cache: without it the next plan takes longer
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, text, durable=False)
            self._added = {name: {} for name in self._max_entries}


class DigestCache:
    """The digests of files and folders, each used while their stamp is the same.

    Args:
        path: path of a file that stores the digests for later processes. If None, nothing is stored.
        most: number of stored digests.
    """

    def __init__(self, path: Path | None, most: int = MOST_FILES) -> None:
        self._file = CacheFile(path, {_FILES: most})
        self._digests: dict[str, tuple[list[int], str]] = {}  # path → stamp and digest
        self.save = self._file.save

    def find(
        self,
        name: str,
        stamp: list[int],
        compute: Callable[[], str],
        *,
        changed_ns: int,
        is_stored: bool = True,
    ) -> str:
        """Return the digest of a file or folder, computed if its stamp differs from the last one.

        Args:
            name: name of the file.
            stamp: its size, times and inode.
            compute: function that reads the file and returns its digest.
            changed_ns: time of the last change, in nanoseconds since 1970.
            is_stored: whether its digest is kept for later processes.
        """
        known = self._digests.get(name) or self._file.get(_FILES, name, _read_digest_entry)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = compute()
        if time.time() - changed_ns / 1e9 >= UNSTABLE_S:
            self._digests[name] = stamp, digest
            if is_stored:
                self._file.add(_FILES, name, (stamp, digest))
        return digest


class FileDigests:
    """Compute the digests of files.

    Args:
        path: path of a file that stores the digests of large files, if its folder exists. If None, nothing is stored.
        on_progress: called after each piece of a large file; it may raise `HashingStopped`.
    """

    def __init__(self, path: Path | None = None, on_progress: HashProgress | None = None) -> None:
        self._on_progress = on_progress
        is_there = path is not None and path.parent.is_dir()
        self._cache = DigestCache(path if is_there else None)

    def digest_file(self, path: Path | str) -> str:
        """Return a digest of a file; that of a folder is empty, because reading all its images would take too long.

        Raises:
            OSError: the file does not exist, or cannot be read.
        """
        name, path = str(path), Path(path)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return ""

        def read() -> str:
            with path.open("rb", buffering=0) as file:
                return self._hash(file, name, status.st_size)

        return self._cache.find(
            name,
            [status.st_size, status.st_mtime_ns, status.st_ino],
            read,
            changed_ns=status.st_mtime_ns,
            is_stored=status.st_size >= LARGE_BYTES,
        )

    def _digest_folder(self, path: str) -> str:
        """Return a digest of everything below a folder, read only if its stamp differs from the last one.

        Raises:
            OSError: The folder does not exist, or cannot be read.
            HashingStopped: By its `HashProgress`.
        """
        folder = path.rstrip(FOLDER_END)
        name, entries = folder + FOLDER_END, list_folder(folder)
        size, number = stamp_of(entries)
        read = reported = 0

        def digest_next(file: str) -> str:
            nonlocal read, reported
            digest = self.digest_file(file)
            read += os.stat(file).st_size  # noqa: PTH116  # done for every file
            if self._on_progress is not None and read - reported > CHUNK_BYTES:
                self._on_progress(folder, read, size)
                reported = read
            return digest

        return self._cache.find(
            name,
            [size, number, len(entries)],
            lambda: digest_entries(folder, entries, digest_next),
            changed_ns=newest_change_ns(entries),
            is_stored=size >= LARGE_BYTES or len(entries) >= LARGE_FOLDER,
        )

    def _hash(self, file: BinaryIO, name: str, size: int) -> str:
        content, read = hashlib.sha256(), 0
        buffer = memoryview(bytearray(min(size, CHUNK_BYTES - 1) + 1))
        while count := file.readinto(buffer):  # type: ignore[attr-defined]  # an unbuffered file
            content.update(buffer[:count])
            read += count
            if self._on_progress is not None and size > CHUNK_BYTES:
                self._on_progress(name, read, size)
        return content.hexdigest()[:16]

    def save(self) -> None:
        """Store the digests of large files for the next process, if the file can be written."""
        self._cache.save()

    def read_file_version(self, path: str) -> FileVersion | None:
        """Return a file as it is now, or a folder if the path ends with a slash; None if it does not exist.

        Without a digest: a folder without the slash, a file that cannot be read, and one that changed meanwhile.

        Raises:
            HashingStopped: the `HashProgress` has raised it.
        """
        stamp = folder_stamp if path.endswith(FOLDER_END) else file_stamp
        before = stamp(path)
        digest = MISSING_DIGEST if before is None else self.digest_or_missing(path)
        after = stamp(path)
        return (
            None
            if after is None
            else FileVersion(*after, digest if after == before else MISSING_DIGEST)
        )

    def is_unchanged(self, path: str, old_version: FileVersion, now: FileStamp | None) -> bool:
        """Return whether a file is as it was; it is read only if its time alone differs.

        Args:
            path: path of the file.
            old_version: former version of the file.
            now: its stamp; None: it is not there.
        """
        if now == PLAIN_FOLDER_STAMP != old_version.stamp:  # a folder whose content was recorded
            path = path.rstrip(FOLDER_END) + FOLDER_END
            now = folder_stamp(path)
        if now is None or now == old_version.stamp:
            return now is not None
        return (
            bool(old_version.digest)
            and now[0] == old_version.size
            and self.digest_or_missing(path) == old_version.digest
        )

    def digest_or_missing(self, path: str, most_bytes: float = inf) -> str:
        """Return a digest of a file, or of a folder if the path ends with a slash.

        It is `MISSING_DIGEST` where there is none, or it cannot be read.

        Args:
            path: path of the file.
            most_bytes: a larger file is not read, and known by its size and time.
        """
        with contextlib.suppress(OSError, ValueError):  # ValueError: no file can have such a name
            if path.endswith(FOLDER_END):
                return self._digest_folder(path)
            if os.path.isfile(path):  # noqa: PTH113  # done for every word of every program
                size, changed_ns = file_stamp(path) or (0, 0)
                return self.digest_file(path) if size <= most_bytes else f"{size} {changed_ns}"
        return MISSING_DIGEST


def is_stamp(digest: str) -> bool:
    """Return whether a large file was recorded by its size and time, in the place of a digest."""
    return _STAMP_PATTERN.fullmatch(digest) is not None


def current_digests(
    known_digests: Mapping[str, str],
    inputs: Container[object],
    path_of: Callable[[str], str],
    find_digest: Callable[[str, float], str],
) -> dict[str, str]:
    """Return the current digests of a program's files, by their names.

    A large file that is not an input is read only if `known_digests` contains its digest.

    Args:
        known_digests: the digests when the program finished.
        inputs: names of files that are read, however large they are.
        path_of: returns the path of a name.
        find_digest: `FileDigests.digest_or_missing`.
    """
    return {
        name: find_digest(
            path_of(name),
            inf
            if name in inputs or not (is_stamp(digest) or digest in {CHANGED_DIGEST, ABSENT_DIGEST})
            else MOST_READ,
        )
        for name, digest in known_digests.items()
    }


def file_changes(known_digests: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return in a few words each which files are other than they were known, by their names."""
    return {
        name: f"{name} {_change(digest, now[name])}"
        for name, digest in known_digests.items()
        if now[name] != (MISSING_DIGEST if digest == ABSENT_DIGEST else digest)
    }


def _change(digest: str, now: str) -> str:
    if digest == CHANGED_DIGEST:
        return "changed while it ran"
    if digest == ABSENT_DIGEST:
        return "was missing before"
    return "is gone" if now == MISSING_DIGEST else "changed"


def _read_digest_entry(value: Any) -> tuple[list[int], str]:
    key, digest = value
    return [int(number) for number in key], str(digest)
