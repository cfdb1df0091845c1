"""Scalars in the records of TensorBoard's event files.

The package `tensorboard` is not used: it takes a second to import and reads a file from
its beginning. It also need not be installed on machines that only have the queue.

Sources:

- TFRecord as `record_writer.cc` of TensorFlow writes it (length, its CRC, data, their CRC)
- `event.proto`, `summary.proto` and `tensor.proto`
- CRC-32C of RFC 3720, B.4, masked
"""

import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

HEADER_BYTES, FOOTER_BYTES = 12, 4
LARGEST_BYTES = 64 << 10  # bytes of a record with scalars; images and histograms are larger
MOST_TRIES = 4096  # places that are checked for the beginning of a record
_HIGH_BYTES = b"\0\0\0\0"  # high bytes of a length below 4 GiB
_FLOAT, _DOUBLE = 1, 2  # DataType of types.proto


class ScalarEvent(NamedTuple):
    """A value of one tag at one step."""

    at: float  # seconds since 1970
    step: int
    tag: str
    value: float


def parse_scalars(data: bytes) -> tuple[list[ScalarEvent], int]:
    """Return the scalars in a piece of an event file, and where a record begins that has no end yet.

    A record that is damaged is left out. The piece may begin within a record.
    """
    values: list[ScalarEvent] = []
    place: int | None = 0
    while place is not None and place + HEADER_BYTES <= len(data):
        length = _length(data, place)
        if length is None:
            place = _next_record(data, place + 1)
            continue
        start = place + HEADER_BYTES
        end = start + length
        if end + FOOTER_BYTES > len(data):
            return values, place  # the rest is not written yet, or is behind this piece
        (check,) = struct.unpack_from("<I", data, end)
        if length <= LARGEST_BYTES and masked_crc(data[start:end]) == check:
            values += _parse_event(data[start:end])
        place = end + FOOTER_BYTES
    return values, len(data) if place is None else place


def _next_record(data: bytes, place: int) -> int | None:
    """Return where the next record begins; None if there is none."""
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
    """Return the length of the record that begins at `place`; None if no record begins there."""
    length, check = struct.unpack_from("<QI", data, place)
    return length if masked_crc(data[place : place + 8]) == check else None


def _parse_event(event: bytes) -> list[ScalarEvent]:
    """Return the scalars of an event; none of one that cannot be read."""
    at, step = 0.0, 0
    summaries: list[bytes] = []
    values: list[ScalarEvent] = []
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
                scalar = _parse_value(value) if number == 1 and isinstance(value, bytes) else None
                if scalar is not None:
                    values.append(ScalarEvent(at, step, *scalar))
    except (ValueError, struct.error):
        return []
    return values


def _parse_value(value: bytes) -> tuple[str, float] | None:
    """Return a tag and its value; None if the value is not a single number."""
    tag, number = "", None
    for key, content in _fields(value):
        match key, content:
            case 1, bytes():
                tag = content.decode(errors="replace")
            case 2, bytes() if len(content) == 4:
                (number,) = struct.unpack("<f", content)
            case 8, bytes():
                number = _parse_tensor(content)
    return (tag, number) if tag and number is not None else None


def _parse_tensor(tensor: bytes) -> float | None:
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
    """Yield the number and value of each field of a message; numbers of fixed size as their bytes.

    Raises:
        ValueError: it is not a message.
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
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of data as TFRecords hold it."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
