"""Rows of features: those of a set of images, in memory or mapped from shards.

A shard is an immutable file of rows, named by the SHA-256 of its bytes.

    trueface features 1⏎   magic, with the schema
    header                 one line of JSON: the identity in full, rows, width, seconds
    row keys               32 bytes a row
    zeros                  up to a multiple of 4096 bytes
    features               float32, little-endian, (rows, width)

The file is mapped, never parsed by anything that runs code. Whoever opens it makes sure that its
bytes are those of its name. Digests of files are remembered as long as their status stays what it was:
a file that was not written since has the same inode, size, mtime and ctime, so that a second job
asks for the status of 200,000 images and reads none of them. A file whose last change is as young as a
tick of its clock may change again without a trace: its digest is not remembered.

    <folder>/digests-<machine>.bin     a checksum, then one row a file; inodes mean nothing elsewhere
"""

import hashlib
import json
import logging
import os
import platform
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.features.folder import ENDING, TEMPORARY
from trueface.runtime.artifact import FileMark
from trueface.runtime.files import Json, write_atomic

DIGESTS_MAGIC = b"trueface digests 1\n"
MOST_FILES = 1_000_000  # 80 MB; beyond it those that were last asked for on the earliest day go
DAY_S = 86_400
ROW = np.dtype(
    [
        ("device", "<u8"), ("inode", "<u8"), ("size", "<u8"), ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"), ("sha256", "V32"), ("day", "<u4"),
    ]
)  # fmt: skip
CHECKSUM = hashlib.sha256

log = logging.getLogger(__name__)


class Table:
    """Rows of digests, found by a file's status; 80 bytes a file, as there may be a million."""

    def __init__(self, rows: "np.ndarray[tuple[int], np.dtype[np.void]]") -> None:
        order = np.argsort(rows["inode"], kind="stable")
        self.rows = rows[order]
        self._inodes = np.ascontiguousarray(self.rows["inode"])

    def find(self, mark: FileMark) -> tuple[bytes, int] | None:
        """Return the digest of a file and the day on which it was last asked for."""
        # a Python int would have the whole array converted
        at = int(self._inodes.searchsorted(np.uint64(mark.inode)))
        while at < len(self._inodes) and self._inodes[at] == mark.inode:
            row = self.rows[at].item()
            if row[: len(mark)] == mark:
                return row[-2], row[-1]
            at += 1
        return None

    def with_newer(self, entries: Mapping[FileMark, tuple[bytes, int]]) -> "Table":
        """Return these rows and others, which take the place of those of the same files."""
        newer = np.array([(*mark, *kept) for mark, kept in entries.items()], dtype=ROW)
        rows = np.concatenate([newer, self.rows])
        marks = rows[list(FileMark._fields)]
        _, first = np.unique(marks, return_index=True)  # of equal ones the first, which is newer
        rows = rows[first]
        recent = np.argsort(rows["day"], kind="stable")[::-1][:MOST_FILES]
        return Table(rows[recent])


class FileDigests:
    """Digests of files, some of them remembered from earlier processes.

    Args:
        folder: where they are kept; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / f"digests-{_machine()}.bin"
        self._remembered: Table | None = None
        self._new: dict[FileMark, tuple[bytes, int]] = {}
        self._today = int(time.time()) // DAY_S
        self.hashed = 0  # files whose bytes were read

    def of(self, path: str | Path) -> tuple[FileMark, bytes, bool]:
        """Return the status of a file, its SHA-256 (32 bytes), and whether the one tells the other.

        A file that was just written may change again and have the same status.

        Raises:
            OSError: it cannot be read.
        """
        mark = FileMark.of(path)
        is_sure = not mark.is_racy(time.time_ns())  # before the file is read
        if (digest := self._known(mark)) is not None:
            return mark, digest, True
        with open(path, "rb") as file:  # noqa: PTH123  # likewise
            digest = hashlib.file_digest(file, "sha256").digest()
        self.hashed += 1
        if is_sure and FileMark.of(path) == mark:
            self._new[mark] = digest, self._today
            return mark, digest, True
        return mark, digest, False

    def keep(self) -> None:
        """Write what was read anew, or asked for again today, for other processes.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is None or not self._new:
            return
        # another process may have written more since
        self._remembered, self._new = self._read().with_newer(self._new), {}
        rows = self._remembered.rows.tobytes()
        write_atomic(
            self._path, DIGESTS_MAGIC + CHECKSUM(rows).digest() + rows, mode=0o600, durable=False
        )
        for left in self._path.parent.glob(".*.tmp"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > DAY_S:
                left.unlink()

    def _known(self, mark: FileMark) -> bytes | None:
        if (kept := self._new.get(mark)) is not None:
            return kept[0]
        if self._remembered is None:
            self._remembered = self._read()
        if (kept := self._remembered.find(mark)) is None:
            return None
        if kept[1] != self._today:
            self._new[mark] = kept[0], self._today
        return kept[0]

    def _read(self) -> Table:
        nothing = Table(np.zeros(0, dtype=ROW))
        try:
            content = b"" if self._path is None else self._path.read_bytes()
        except OSError:
            return nothing
        head, rows = content[: len(DIGESTS_MAGIC) + 32], content[len(DIGESTS_MAGIC) + 32 :]
        if head != DIGESTS_MAGIC + CHECKSUM(rows).digest() or len(rows) % ROW.itemsize:
            if content:
                log.warning("digests=%s state=ignored reason=damaged", self._path)
            return nothing
        return Table(np.frombuffer(rows, dtype=ROW))


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


MAGIC = b"trueface features 1\n"
PAGE = 4096  # bytes; a map begins at a page
BODY_DIGITS = 16  # of the body's SHA-256, with which the name begins
KEY_BYTES = 32  # of a row key, a SHA-256
MOST_HEADER = 1 << 16  # bytes
FLOAT = np.dtype("<f4")

Features = NDArray[np.float32]  # (N, F)


class Cost(NamedTuple):
    """What the rows of a matrix took."""

    read: int = 0  # rows that lay in the store
    computed: int = 0  # rows that passed through the body now
    seconds: float = 0.0  # of the body, whenever it was
    saved_s: float = 0.0  # of these, what others had spent before

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(
            read=self.read + other.read,
            computed=self.computed + other.computed,
            seconds=self.seconds + other.seconds,
            saved_s=self.saved_s + other.saved_s,
        )


NOTHING = Cost()


@dataclass(frozen=True)
class FeatureMatrix:
    """The features of the images of a set that could be read."""

    parts: tuple[Features, ...]  # (n, F) each; maps of files are read when they are asked for
    part: NDArray[np.int64]  # (N,) which of them holds a row
    row: NDArray[np.int64]  # (N,) and where
    positions: NDArray[np.int64]  # (N,) in the set, rising
    cost: Cost = NOTHING

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of(
        cls, features: Features, positions: NDArray[np.int64], cost: Cost = NOTHING
    ) -> "FeatureMatrix":
        """Return a matrix that lies in memory as a whole."""
        zeros = np.zeros(len(positions), dtype=np.int64)
        return cls((features,), zeros, np.arange(len(positions)), positions, cost)

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of each position."""
        return {position: row for row, position in enumerate(self.positions.tolist())}

    @property
    def is_mapped(self) -> bool:
        """Whether it takes no memory of its own."""
        return all(isinstance(part, np.memmap) for part in self.parts)

    @cached_property
    def features(self) -> Features:
        """All features (N, F); a map of the file where a single shard holds them in this order."""
        if len(self.parts) == 1:
            whole = self.parts[0]
            if len(whole) == len(self.row) and np.array_equal(self.row, np.arange(len(self.row))):
                return whole
        return self.take(range(len(self.positions)))

    def take(self, rows: Sequence[int]) -> Features:
        """Return a copy of some rows (B, F)."""
        chosen = np.asarray(rows, dtype=np.int64)
        part, row = self.part[chosen], self.row[chosen]
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][row])
        taken = np.empty((len(chosen), self.parts[0].shape[1]), dtype=np.float32)
        for number in np.unique(part):
            mask = part == number
            taken[mask] = self.parts[number][row[mask]]
        return taken


class BrokenShardError(Exception):
    """A shard is cut off, altered, or of another schema or identity; says in a few words which."""


class OpenShard(NamedTuple):
    """An open shard, or what shall become one."""

    path: Path | None  # None: it lies in memory
    keys: tuple[bytes, ...]  # one a row
    features: Features  # (N, F), a map of the file where there is one
    seconds: float  # that the body took for all rows


def bytes_of(rows: int, width: int) -> int:
    """Return how many bytes a shard of so many rows takes at most, of features of this width."""
    return rows * (width * FLOAT.itemsize + KEY_BYTES) + 2 * PAGE  # header and padding


def write_shard(
    folder: Path, stem: str, identity: Mapping[str, Json], shard: OpenShard
) -> OpenShard:
    """Write a shard, whole or not at all; return it as a map of its file.

    Args:
        folder: where it lies.
        stem: what its name begins with.
        identity: what all rows depend on.
        shard: what to write.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    rows, width = shard.features.shape
    header = {"identity": identity, "rows": rows, "width": width, "seconds": shard.seconds}
    head = MAGIC + json.dumps(header).encode() + b"\n" + b"".join(shard.keys)
    head += b"\0" * (-len(head) % PAGE)
    values = np.ascontiguousarray(shard.features, dtype=FLOAT)
    digest = hashlib.sha256()
    temporary = folder / f"{stem}-{secrets.token_hex(8)}{TEMPORARY}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in (head, values.reshape(-1).view(np.uint8).data):
                digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path = folder / f"{stem}-{digest.hexdigest()}{ENDING}"
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    mapped = np.memmap(path, FLOAT, "r", len(head), (rows, width))
    return shard._replace(path=path, features=mapped)


def read_shard(path: Path, identity: Mapping[str, Json], digests: FileDigests) -> OpenShard:
    """Map a shard.

    Args:
        path: of the file.
        identity: that it must have.
        digests: remembers that the file was verified.

    Raises:
        BrokenShardError: see there.
        OSError: it cannot be read, or is gone.
    """
    if digests.of(path)[1].hex() != path.name.removesuffix(ENDING).rpartition("-")[2]:
        raise BrokenShardError("its bytes differ from those that were written")
    try:
        return _parsed(path, identity)
    except (ValueError, LookupError, TypeError) as error:
        raise BrokenShardError(f"it cannot be read: {error}") from error


def header_of(path: Path) -> dict[str, Json]:
    """Return what a shard says of itself, unverified; {} where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.readline(len(MAGIC))
            header = json.loads(file.readline(MOST_HEADER))
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _parsed(path: Path, identity: Mapping[str, Json]) -> OpenShard:
    with path.open("rb") as file:
        if file.readline(len(MAGIC)) != MAGIC:
            raise BrokenShardError("it has another schema")
        header = json.loads(file.readline(MOST_HEADER))
        if header["identity"] != identity:
            raise BrokenShardError("its features do not match its name")
        rows, width = int(header["rows"]), int(header["width"])
        joined = file.read(rows * KEY_BYTES)
        offset = file.tell() + -file.tell() % PAGE
    keys = tuple(joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES))
    features = np.memmap(path, FLOAT, "r", offset, (rows, width))
    return OpenShard(path, keys, features, float(header["seconds"]))
