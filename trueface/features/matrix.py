"""Rows of features: those of a set of images, in memory or mapped from shards.

A shard is an immutable file of rows, named by the SHA-256 of its bytes.

    trueface features 1⏎   The magic, with the schema.
    header: One line of JSON with the complete identity, rows, width and seconds.
    keys: The row keys, 32 bytes per row.
    zeros: Padding up to a multiple of 4096 bytes.
    features: float32, little-endian, (rows, width).

The file is memory-mapped, never unpickled. The reader checks that the SHA-256 of its bytes is that
of its name (see `file_digests`).
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.features.file_digests import FileDigests
from trueface.features.folder import ENDING, TEMPORARY
from trueface.runtime.digests import sha256_hex
from trueface.runtime.files import Json

MAGIC = b"trueface features 1\n"
PAGE = 4096  # bytes; a map begins at a page
BODY_DIGITS = 16  # digits of the body's SHA-256, with which the name begins
KEY_BYTES = 32  # bytes of a row key, a SHA-256
MOST_HEADER = 1 << 16  # bytes
FLOAT = np.dtype("<f4")

Features = NDArray[np.float32]  # (N, F)


class Cost(NamedTuple):
    """The cost of the rows of a matrix."""

    read: int = 0  # rows that were in the store
    computed: int = 0  # rows that passed through the body now
    seconds: float = 0.0  # time of the body, whenever it was
    saved_s: float = 0.0  # time that others had spent on these rows

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(
            read=self.read + other.read,
            computed=self.computed + other.computed,
            seconds=self.seconds + other.seconds,
            saved_s=self.saved_s + other.saved_s,
        )


NO_COST = Cost()


@dataclass(frozen=True)
class FeatureMatrix:
    """The features of the images of a set that could be read."""

    parts: tuple[Features, ...]  # (n, F) each; maps of files are read when they are asked for
    part: NDArray[np.int64]  # (N,) which of them holds a row
    row: NDArray[np.int64]  # (N,) and where
    positions: NDArray[np.int64]  # (N,) in the set, rising
    cost: Cost = NO_COST

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def from_features(
        cls, features: Features, positions: NDArray[np.int64], cost: Cost = NO_COST
    ) -> "FeatureMatrix":
        """Return a matrix that is completely in memory."""
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

    path: Path | None  # None: in memory
    keys: tuple[bytes, ...]  # one a row
    features: Features  # (N, F), a map of the file where there is one
    seconds: float  # time of the body for all rows


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
    pieces = head, values.reshape(-1).view(np.uint8).data
    temporary = folder / f"{stem}-{secrets.token_hex(8)}{TEMPORARY}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path = folder / f"{stem}-{sha256_hex(*pieces)}{ENDING}"
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
    if digests.digest_file(path)[1].hex() != path.name.removesuffix(ENDING).rpartition("-")[2]:
        raise BrokenShardError("its bytes differ from those that were written")
    try:
        return _parse_shard(path, identity)
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


def _parse_shard(path: Path, identity: Mapping[str, Json]) -> OpenShard:
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
