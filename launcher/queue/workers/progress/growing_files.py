"""Growing files, of which each byte is read only once, however often they are read."""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

MOST_CACHED_FILES = 256  # files that are remembered, those that were asked for last
MOST_ITEMS = 20_000  # items of a file: more than a screen has columns
Item = TypeVar("Item")
# a piece of a file and the time of its last change → what is in it, and how many bytes are done with
Parse = Callable[[bytes, float], tuple[list[Item], int]]


@dataclass(slots=True)
class _FileCache(Generic[Item]):
    """The part of a file that was read already."""

    file_id: tuple[int, int]  # device and inode
    begin: int
    offset: int
    items: list[Item] = field(default_factory=list)


class IncrementalFileReader(Generic[Item]):
    """Reads on where it stopped before; from several threads, too."""

    def __init__(self, parse: Parse[Item]) -> None:
        """Begin with no file; `parse` may get a piece that begins within a line or a record."""
        self._parse = parse
        self._readings: OrderedDict[Path, _FileCache[Item]] = OrderedDict()
        self._lock = Lock()

    def items(self, path: Path, most_bytes: int) -> list[Item]:
        """Return the items in the last `most_bytes` of a file, and those added since; empty if there is no file.

        Args:
            path: the file.
            most_bytes: number of bytes read in one call. If a file grew by more, the rest is left out.
        """
        with self._lock:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # there is none, or the job was cleaned meanwhile
                self._readings.pop(path, None)
                return []
            try:
                return [*self._read(path, descriptor, most_bytes)]
            except OSError:
                return []
            finally:
                os.close(descriptor)

    def _read(self, path: Path, descriptor: int, most_bytes: int) -> list[Item]:
        status = os.fstat(descriptor)
        number, begin = (status.st_dev, status.st_ino), max(0, status.st_size - most_bytes)
        reading = self._readings.pop(path, None)
        if (
            reading is None
            or reading.file_id != number
            or not max(begin, reading.begin) <= reading.offset <= status.st_size
        ):
            reading = _FileCache(number, begin, begin)
        self._readings[path] = reading
        if len(self._readings) > MOST_CACHED_FILES:
            self._readings.popitem(last=False)
        if reading.offset < status.st_size:
            text = os.pread(descriptor, most_bytes, reading.offset)
            items, done = self._parse(text, status.st_mtime)
            reading.items = [*reading.items, *items][-MOST_ITEMS:] if items else reading.items
            # an unfinished item that fills a whole piece is left out
            reading.offset += len(text) if not done and len(text) >= most_bytes else done
        return reading.items
