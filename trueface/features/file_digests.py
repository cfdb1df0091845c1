"""SHA-256 of files, remembered as long as their status stays what it was.

A file that was not written since has the same inode, size, mtime and ctime, so that a second job
asks for the status of 200,000 images and reads none of them. A file whose last change is as young as a
tick of its clock may change again without a trace: its digest is not remembered.

<folder>/digests-<machine>.bin     a checksum, then one row a file; inodes mean nothing elsewhere
"""

import errno
import hashlib
import logging
import os
import platform
import stat
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.data.folder_cache import RACY_NS
from trueface.runtime.files import write_atomic

MAGIC = b"trueface digests 1\n"
MOST_FILES = 1_000_000  # 80 MB; beyond it those that were asked for longest ago are forgotten
DAY_S = 86_400
ROW = np.dtype(
    [
        ("device", "<u8"), ("inode", "<u8"), ("size", "<u8"), ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"), ("sha256", "V32"), ("day", "<u4"),
    ]
)  # fmt: skip
CHECKSUM = hashlib.sha256

log = logging.getLogger(__name__)


class Mark(NamedTuple):
    """A file's status, to detect changes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int  # cannot be set back, unlike the mtime

    @classmethod
    def of(cls, path: str | Path) -> "Mark":
        """Return the status of a file, links followed.

        Raises:
            OSError: there is none, or it is a pipe or a device.
        """
        status = os.stat(path)  # noqa: PTH116  # of 200,000 files, without a path of each
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @property
    def is_racy(self) -> bool:
        """Whether another change could leave the same status."""
        return max(self.mtime_ns, self.ctime_ns) + RACY_NS > time.time_ns()


class FileDigests:
    """Digests of files, some of them remembered from earlier processes.

    Args:
        folder: where they are kept; None: nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / f"digests-{_machine()}.bin"
        self._remembered: dict[Mark, tuple[bytes, int]] | None = None
        self._new: dict[Mark, tuple[bytes, int]] = {}
        self._today = int(time.time()) // DAY_S
        self.hashed = 0  # files whose bytes were read

    def of(self, path: str | Path) -> tuple[Mark, bytes]:
        """Return the status of a file, and the SHA-256 (32 bytes) that it had with that status.

        Raises:
            OSError: it cannot be read.
        """
        mark = Mark.of(path)
        if self._remembered is None:
            self._remembered = self._read()
        kept = self._new.get(mark) or self._remembered.get(mark)
        if kept is not None:
            return mark, kept[0]
        with open(path, "rb") as file:  # noqa: PTH123  # likewise
            digest = hashlib.file_digest(file, "sha256").digest()
        self.hashed += 1
        if not mark.is_racy and Mark.of(path) == mark:
            self._new[mark] = digest, self._today
        return mark, digest

    def keep(self) -> None:
        """Write what was read anew for other processes.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is None or not self._new:
            return
        entries = self._read() | self._new  # another process may have written more since
        recent = sorted(entries.items(), key=lambda item: -item[1][1])[:MOST_FILES]
        rows = np.array([(*mark, *kept) for mark, kept in recent], dtype=ROW).tobytes()
        write_atomic(self._path, MAGIC + CHECKSUM(rows).digest() + rows, mode=0o600, durable=False)
        self._remembered, self._new = entries, {}
        for left in self._path.parent.glob(".*.tmp"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > DAY_S:
                left.unlink()

    def _read(self) -> dict[Mark, tuple[bytes, int]]:
        try:
            content = b"" if self._path is None else self._path.read_bytes()
        except OSError:
            return {}
        head, rows = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
        if head != MAGIC + CHECKSUM(rows).digest() or len(rows) % ROW.itemsize:
            if content:
                log.warning("digests=%s state=left out of account reason=damaged", self._path)
            return {}
        table = np.frombuffer(rows, dtype=ROW)
        marks = zip(*(table[name].tolist() for name in Mark._fields), strict=True)
        kept = zip(map(bytes, table["sha256"]), table["day"].tolist(), strict=True)
        # plain tuples are found under marks: they are equal
        return dict(zip(marks, kept, strict=True))  # type: ignore[arg-type]


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]
