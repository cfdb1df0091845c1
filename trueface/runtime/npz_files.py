"""Arrays of a .npz file that anybody may have written: nothing is executed, nothing allocated unseen.

A header of a hundred bytes can ask for terabytes, and a deflated member expands a thousandfold. So
what each member says of itself is held against its size, and all sizes against a limit, before any
memory is taken.
"""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from trueface.runtime.errors import DataError, MachineError

MEMBERS = 64  # members of an archive; files of this package have at most sixteen
MOST_BYTES = 1 << 31  # bytes of a file's arrays: 20 million answers to ten classes with their names
FREE_BYTES = 1 << 27  # bytes that any file may hold, however small it is
MOST_EXPANDED = (
    512  # times the file beyond that: answers shrink 50-fold, 400-fold with one long name
)
MOST_OF_NONE = 1 << 16  # the other axes of an array without values, multiplied
PLAIN = frozenset("biufU")  # kinds of NumPy types: truth values, numbers, text

Array = NDArray[np.generic]

# errors that zipfile, zlib and numpy raise for files that are cut off, damaged or none of theirs
_STUMBLES = (
    OSError, ValueError, LookupError, EOFError, SyntaxError, TypeError, NotImplementedError,
    RuntimeError, RecursionError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read(path: Path, noun: str) -> dict[str, Array]:
    """Return the arrays of a .npz file by their names.

    Args:
        path: of the file.
        noun: content of the file, as messages name it: "the answers".

    Raises:
        DataError: it cannot be read, is damaged, too large, or holds more than plain arrays.
        MachineError: there is not enough memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _admit(members, path.stat().st_size)
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except MemoryError as error:
        raise MachineError(f"cannot read {noun} {path}: not enough memory") from error
    except _STUMBLES as error:
        raise DataError(
            f"cannot read {noun} {path}: {error}. Restore the file, or run the job that wrote it again."
        ) from error


def _admit(members: list[zipfile.ZipInfo], file_bytes: int) -> None:
    if len(members) > MEMBERS:
        raise ValueError(f"it has {len(members)} members, more than the limit of {MEMBERS}")
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise ValueError(f"it holds {total:,} bytes, more than the limit of {MOST_BYTES:,}")
    if total > max(FREE_BYTES, MOST_EXPANDED * file_bytes):
        raise ValueError(
            f"its members expand to {total:,} bytes from {file_bytes:,}, more than arrays of trueface do"
        )


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as stream:
        shape, fortran, kind = _header(stream)
        if kind.kind not in PLAIN or not kind.itemsize:  # text of no character has any shape
            raise ValueError(f"{member.filename} has the unsupported type {kind}")
        asked = math.prod(shape) * kind.itemsize
        there = member.file_size - stream.tell()
        if min(shape, default=0) < 0 or asked != there:
            raise ValueError(f"{member.filename} declares {asked:,} bytes and has {there:,}")
        if not asked and math.prod(filter(None, shape)) > MOST_OF_NONE:
            raise ValueError(f"{member.filename} has shape {shape} without values")
        content = stream.read(asked)
    if len(content) != asked:
        raise ValueError(f"{member.filename} is cut off")
    flat = np.frombuffer(bytearray(content), kind) if asked else np.zeros(math.prod(shape), kind)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Return shape, order and type of an array; numpy bounds the header at 10,000 characters."""
    match npy.read_magic(stream):
        case (1, 0):
            shape, fortran, kind = npy.read_array_header_1_0(stream)
        case (2, 0):
            shape, fortran, kind = npy.read_array_header_2_0(stream)
        case version:
            raise ValueError(f"array format {version} is not supported")
    return shape, fortran, kind
