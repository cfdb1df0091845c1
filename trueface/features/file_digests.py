"""Digests of files, cached for later processes by the status of each file.

A digest is valid while the status of its file is unchanged. A file that was not written since has
the same inode, size, mtime and ctime. A second job therefore reads the status of 200,000 images and
none of the images. A file whose last change is more recent than one tick of its clock may change
again undetected: its digest is not cached.

    <folder>/digests-<machine>.bin     A checksum, then one row per file. Inodes have no meaning elsewhere.
"""

import logging
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trueface.runtime.artifact import FileMark
from trueface.runtime.digests import file_digest, sha256_digest, sha256_hex
from trueface.runtime.files import write_atomic

DIGESTS_MAGIC = b"trueface digests 1\n"
MOST_FILES = 1_000_000  # 80 MB; beyond it those that were last asked for on the earliest day go
DAY_S = 86_400
ROW = np.dtype(
    [
        ("device", "<u8"), ("inode", "<u8"), ("size", "<u8"), ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"), ("sha256", "V32"), ("day", "<u4"),
    ]
)  # fmt: skip
log = logging.getLogger(__name__)


class Table:
    """Rows of digests, found by a file's status. A row has 80 bytes, as there may be a million files."""

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
        _, first = np.unique(marks, return_index=True)  # the first of equal ones is newer
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

    def digest_file(self, path: str | Path) -> tuple[FileMark, bytes, bool]:
        """Return status and SHA-256 (32 bytes) of a file, and whether the status identifies it.

        A file that was just written may change again and keep the same status.

        Raises:
            OSError: it cannot be read.
        """
        mark = FileMark.from_path(path)
        is_sure = not mark.is_racy(time.time_ns())  # before the file is read
        if (digest := self._remembered_digest(mark)) is not None:
            return mark, digest, True
        digest = file_digest(path)
        self.hashed += 1
        if is_sure and FileMark.from_path(path) == mark:
            self._new[mark] = digest, self._today
            return mark, digest, True
        return mark, digest, False

    def save_digests(self) -> None:
        """Save digests that were computed, or first used today, for other processes.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is None or not self._new:
            return
        # another process may have written more since
        self._remembered, self._new = self._read().with_newer(self._new), {}
        rows = self._remembered.rows.tobytes()
        write_atomic(
            self._path, DIGESTS_MAGIC + sha256_digest([rows]) + rows, mode=0o600, durable=False
        )
        for left in self._path.parent.glob(".*.tmp"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > DAY_S:
                left.unlink()

    def _remembered_digest(self, mark: FileMark) -> bytes | None:
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
        if head != DIGESTS_MAGIC + sha256_digest([rows]) or len(rows) % ROW.itemsize:
            if content:
                log.warning("digests=%s state=ignored reason=damaged", self._path)
            return nothing
        return Table(np.frombuffer(rows, dtype=ROW))


def _machine() -> str:
    return sha256_hex(platform.node())[:12]
