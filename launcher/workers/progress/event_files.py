"""The event files of TensorBoard that a program writes below a folder, as steps.

Scalars in TensorBoard's event files.

Read here and not by the package `tensorboard`, which takes a second to import, reads a file from
its beginning, and need not be installed where only the queue is.
Sources: TFRecord as `record_writer.cc` of TensorFlow writes it (length, its CRC, data, their CRC);
`event.proto`, `summary.proto` and `tensor.proto`; CRC-32C of RFC 3720, B.4, masked.

Files that grow, of which each byte is read once, however often they are looked at.
"""

import os
import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from launcher.system.files import read_end
from launcher.workers.progress.steps import Step

HEADER_BYTES, FOOTER_BYTES = 12, 4
LARGEST_BYTES = 64 << 10  # of a record with scalars; images and histograms are larger
MOST_TRIES = 4096  # places that are checked for the beginning of a record

_HIGH_BYTES = b"\0\0\0\0"  # of a length below 4 GiB
_FLOAT, _DOUBLE = 1, 2  # DataType of types.proto


class Scalar(NamedTuple):
    """A value of one tag at one step."""

    at: float  # seconds since 1970
    step: int
    tag: str
    value: float


def scalars(data: bytes) -> tuple[list[Scalar], int]:
    """Return the scalars in a piece of an event file, and where a record begins that has no end yet.

    A record that is damaged is left out. The piece may begin within a record.
    """
    values: list[Scalar] = []
    place: int | None = 0
    while place is not None and place + HEADER_BYTES <= len(data):
        length = _length(data, place)
        if length is None:
            place = _next_record(data, place + 1)
            continue
        start = place + HEADER_BYTES
        end = start + length
        if end + FOOTER_BYTES > len(data):
            return values, place  # the rest is not written yet, or lies behind this piece
        (check,) = struct.unpack_from("<I", data, end)
        if length <= LARGEST_BYTES and masked_crc(data[start:end]) == check:
            values += _of_event(data[start:end])
        place = end + FOOTER_BYTES
    return values, len(data) if place is None else place


def _next_record(data: bytes, place: int) -> int | None:
    """Return where the next record begins, None where none is seen."""
    for _ in range(MOST_TRIES):
        high = data.find(_HIGH_BYTES, place + 4)
        if high < 0 or high + 8 > len(data):
            return None
        place = high - 4
        if _length(data, place) is not None:
            return place
        place += 1
    return None


def _length(data: bytes, place: int) -> int | None:
    """Return the length of the record that begins at `place`; None: none does."""
    length, check = struct.unpack_from("<QI", data, place)
    return length if masked_crc(data[place : place + 8]) == check else None


def _of_event(event: bytes) -> list[Scalar]:
    """Return the scalars of an event; none of one that cannot be read."""
    at, step = 0.0, 0
    summaries: list[bytes] = []
    values: list[Scalar] = []
    try:
        for number, value in _fields(event):
            match number, value:
                case 1, bytes() if len(value) == 8:
                    (at,) = struct.unpack("<d", value)
                case 2, int():
                    step = value - (1 << 64) if value >> 63 else value
                case 5, bytes():
                    summaries.append(value)
        for summary in summaries:
            for number, value in _fields(summary):
                scalar = _tagged(value) if number == 1 and isinstance(value, bytes) else None
                if scalar is not None:
                    values.append(Scalar(at, step, *scalar))
    except (ValueError, struct.error):
        return []
    return values


def _tagged(value: bytes) -> tuple[str, float] | None:
    """Return a tag and its value, None where that is no single number."""
    tag, number = "", None
    for key, content in _fields(value):
        match key, content:
            case 1, bytes():
                tag = content.decode(errors="replace")
            case 2, bytes() if len(content) == 4:
                (number,) = struct.unpack("<f", content)
            case 8, bytes():
                number = _single(content)
    return (tag, number) if tag and number is not None else None


def _single(tensor: bytes) -> float | None:
    """Return the number in a tensor of one float or double."""
    dtype, content = 0, b""
    for key, value in _fields(tensor):
        match key, value:
            case 1, int():
                dtype = value
            case 4 | 5 | 6, bytes():  # tensor_content, float_val, double_val
                content = value
    form = {(_FLOAT, 4): "<f", (_DOUBLE, 8): "<d"}.get((dtype, len(content)))
    return None if form is None else float(struct.unpack(form, content)[0])


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give number and value of each field of a message: numbers of fixed size as their bytes.

    Raises:
        ValueError: it is no message.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in {1, 5}:
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(message):
            raise ValueError("a field is cut off")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("a number is cut off")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number is too long")


@cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of data as TFRecords hold it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


MOST_REMEMBERED = 256  # that are remembered, those that were asked for last
MOST_ITEMS = 20_000  # of a file: more than a screen has columns

Item = TypeVar("Item")

# a piece of a file and the time of its last change → what is in it, and how many bytes are done with
Parse = Callable[[bytes, float], tuple[list[Item], int]]


@dataclass(slots=True)
class _Reading(Generic[Item]):
    """What was read of a file so far."""

    number: tuple[int, int]  # device and inode
    begin: int
    offset: int
    items: list[Item] = field(default_factory=list)


class GrowingFiles(Generic[Item]):
    """Reads on where it stopped before; from several threads, too."""

    def __init__(self, parse: Parse[Item]) -> None:
        """Begin with no file; `parse` may get a piece that begins within a line or a record."""
        self._parse = parse
        self._readings: OrderedDict[Path, _Reading[Item]] = OrderedDict()
        self._lock = Lock()

    def items(self, path: Path, most_bytes: int) -> list[Item]:
        """Return what is in the last so many bytes of a file, and what has been added since; [] of none.

        Args:
            path: the file.
            most_bytes: that are read at once. Of a file that has grown by more, the rest is left out.
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
            or reading.number != number
            or not max(begin, reading.begin) <= reading.offset <= status.st_size
        ):
            reading = _Reading(number, begin, begin)
        self._readings[path] = reading
        if len(self._readings) > MOST_REMEMBERED:
            self._readings.popitem(last=False)
        if reading.offset < status.st_size:
            text = os.pread(descriptor, most_bytes, reading.offset)
            items, done = self._parse(text, status.st_mtime)
            reading.items = [*reading.items, *items][-MOST_ITEMS:] if items else reading.items
            # what fills a whole piece and has no end is left out
            reading.offset += len(text) if not done and len(text) >= most_bytes else done
        return reading.items


MARK = "tfevents"  # in the name of each event file
MOST_FOLDERS, MOST_ENTRIES = 200, 5000  # that are looked through below the folder
MOST_FILES = 50  # event files that are read, those that were written last
NEWEST_FILES, NEWEST_BYTES = 4, (2 << 10, 64 << 10)  # for the newest step alone
EARLY_S = 2.0  # clocks of file systems may be behind

_FILES = GrowingFiles[Scalar](lambda text, _: scalars(text))


class _EventFile(NamedTuple):
    path: Path
    run: str  # its folder below the one that was named; '' of that itself
    written: float  # seconds since 1970


def newest_event(folder: Path, since: float, sizes: Sequence[int] = NEWEST_BYTES) -> Step | None:
    """Return the newest step of the event files below a folder with the newest values of its tags, None where there is none.

    Tags may count different things, such as batches and epochs: the step is that of the most frequent one.

    Args:
        folder: any; it need not exist.
        since: seconds since 1970; files that were last written before are another program's.
        sizes: how many bytes are read of the end of a file; each where the one before it has nothing.
    """
    files = _event_files(folder, since)[:NEWEST_FILES]
    # behind an image there may be no scalar for long
    values: list[Scalar] = []
    for size in sizes:
        values = values or _values(files, lambda path: scalars(read_end(path, size)[0])[0])  # noqa: B023  # called at once
    values.sort(key=lambda value: value.at)
    if not values:
        return None
    most = _most_reported(values)
    counted = [value for value in values if value.tag == most]
    newest = counted[-1]
    return Step(
        at=newest.at,
        step=newest.step,
        total=None,
        metrics={newest.tag: newest.value} | {value.tag: value.value for value in values},
        rate=_rates(counted[-2:]).get(newest.step),
    )


def _values(files: Iterable[_EventFile], read: Callable[[Path], list[Scalar]]) -> list[Scalar]:
    """Return the values that are read of event files, those of a run together."""
    runs: dict[str, list[Scalar]] = {}
    for file in files:
        runs.setdefault(file.run, []).extend(read(file.path))
    return [*_named(runs)]


def event_steps(folder: Path, since: float, most_bytes: int) -> list[Step]:
    """Return the steps of the event files below a folder, the lowest first, each with all its values.

    Args:
        folder: any; it need not exist.
        since: seconds since 1970; files that were last written before are another program's.
        most_bytes: that are read from the end of each file.
    """
    files = reversed(_event_files(folder, since))
    read = _values(files, lambda path: _FILES.items(path, most_bytes))
    values = [*_without_repeated(read)]
    if not values:
        return []
    steps: dict[int, list[Scalar]] = defaultdict(list)
    for value in values:
        steps[value.step].append(value)
    most = _most_reported(values)
    rates = _rates([value for value in values if value.tag == most])
    return [
        Step(
            at=max(value.at for value in steps[step]),
            step=step,
            total=None,
            metrics={value.tag: value.value for value in steps[step]},
            rate=rates.get(step),
        )
        for step in sorted(steps)
    ]


def _event_files(folder: Path, since: float) -> list[_EventFile]:
    """Return the event files below a folder that were written since a time, the newest first."""
    files = []
    for path, run in _entries(folder):
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        if written >= since - EARLY_S:
            files.append(_EventFile(path=path, run=run, written=written))
    files.sort(key=lambda file: (file.written, file.path), reverse=True)
    return files[:MOST_FILES]


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the event files below a folder, each with the folder in which it lies; of a very large one a part."""
    entries = 0
    for number, (place, folders, names) in enumerate(os.walk(folder)):
        folders.sort(reverse=True)  # folders are often named by their date
        entries += len(names)
        if number >= MOST_FOLDERS or entries > MOST_ENTRIES:
            return
        run = os.path.relpath(place, folder)
        for name in names:
            if MARK in name:
                yield Path(place, name), "" if run == "." else run


def _named(runs: Mapping[str, Iterable[Scalar]]) -> Iterator[Scalar]:
    """Give the values of all runs; where there are several, a tag has the name of its run before it."""
    for run, values in runs.items():
        if len(runs) == 1 or not run:
            yield from values
        else:
            yield from (value._replace(tag=f"{run}/{value.tag}") for value in values)


def _without_repeated(values: Iterable[Scalar]) -> Iterator[Scalar]:
    """Give values of which each tag's steps rise: one that goes back to an earlier step does those behind it anew."""
    of_tags: dict[str, list[Scalar]] = defaultdict(list)
    for value in values:
        kept = of_tags[value.tag]
        while kept and kept[-1].step >= value.step:
            kept.pop()
        kept.append(value)
    for kept in of_tags.values():
        yield from kept


def _most_reported(values: Iterable[Scalar]) -> str:
    ((tag, _),) = Counter(value.tag for value in values).most_common(1)
    return tag


def _rates(values: list[Scalar]) -> dict[int, float]:
    """Return step → steps a second between the values of one tag."""
    return {
        after.step: (after.step - before.step) / (after.at - before.at)
        for before, after in pairwise(values)
        if after.at > before.at and after.step > before.step
    }
