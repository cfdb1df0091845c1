"""Event files as TensorBoard writes them, byte by byte: tests of the queue need no TensorBoard."""

import struct
from pathlib import Path

from launcher.queue.workers.progress.event_scalars import masked_crc


def record(data: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    checks = (struct.pack("<I", masked_crc(text)) for text in (length, data))
    return length + next(checks) + data + next(checks)


def part(number: int, content: bytes) -> bytes:
    """A field of a message that holds another one, or a text."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    text = b""
    while value > 127:
        text += bytes([value & 127 | 128])
        value >>= 7
    return text + bytes([value])


def simple(number: float) -> bytes:
    """The value of a scalar as PyTorch writes it."""
    return varint(2 << 3 | 5) + struct.pack("<f", number)


def tensor(number: float) -> bytes:
    """The value of a scalar as TensorFlow 2 writes it."""
    return part(8, b"\x08\x01" + part(4, struct.pack("<f", number)))


def event(tag: str, step: int, value: bytes, at: float = 1000.0) -> bytes:
    """An event with one value, as a record."""
    value = part(1, part(1, tag.encode()) + value)
    return record(b"\x09" + struct.pack("<d", at) + b"\x10" + varint(step) + part(5, value))


def write_events(path: Path, *events: bytes) -> Path:
    """An event file; its first record is its version, as in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    version = record(b"\x09" + struct.pack("<d", 999.0) + part(3, b"brain.Event:2"))
    path.write_bytes(version + b"".join(events))
    return path
