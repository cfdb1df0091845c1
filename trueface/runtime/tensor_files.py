"""Files of tensors and plain values: written atomically, read without executing code."""

import errno
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueface.runtime.digests import Part
from trueface.runtime.errors import MachineError, WeightsError, install_command
from trueface.runtime.files import file_sha256, write_atomic

# exceptions of torch's reader for files that are truncated, empty or of another type
_STUMBLES = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, NotImplementedError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

SAFETENSORS = ".safetensors"  # a file that contains only tensors by name
# largest ratio of content to file size: torch does not compress, and weights hardly compress
MOST_EXPANDED = 8

_NUMBERS = "fiubc"  # kinds of NumPy's types whose scalars are read as numbers
_MOST_BYTES = 16  # largest size of a number

_ADVICE = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), " Free disk space and run the command again."
)


class BrokenFileError(Exception):
    """A file contains other data than tensors and plain values, or is incomplete."""


class _ScalarType:
    """The name of a type of NumPy, in the place of `numpy.dtype` in a pickle."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Take the order of bytes, which is the second value of a state."""
        if isinstance(state, tuple) and state[1:2] == (">",):
            self.name = f">{self.name}"


def _number(kind: object, data: object) -> complex:
    """Return a scalar of NumPy in a pickle as a number of Python.

    Raises:
        pickle.UnpicklingError: it is another value than a number.
    """
    name = kind.name if isinstance(kind, _ScalarType) else None
    if not (
        isinstance(name, str)
        and name.lstrip(">")[:1] in _NUMBERS
        and name.lstrip(">")[1:].isdecimal()
    ):
        raise pickle.UnpicklingError(f"{_SCALAR} of another type than a number")
    form = np.dtype(name)
    if not isinstance(data, bytes) or len(data) != form.itemsize or len(data) > _MOST_BYTES:
        raise pickle.UnpicklingError(f"{_SCALAR} of another size than its type")
    return np.frombuffer(data, form)[0].item()  # type: ignore[no-any-return]  # depends on the type


# files of weights contain the best score of a training, too. torch reads scalars of NumPy only by functions that are
# named to it, once per process. These build nothing of NumPy from a file but numbers
_SCALAR = "numpy._core.multiarray.scalar"
torch.serialization.add_safe_globals(
    [
        _ScalarType,
        (_ScalarType, "numpy.dtype"),
        (_number, _SCALAR),
        (_number, "numpy.core.multiarray.scalar"),  # NumPy 1
    ]
)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` atomically. Folders are created as needed.

    Raises:
        MachineError: the file cannot be written. The old file is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        size = buffer.tell() / (1 << 20)
        raise MachineError(
            f"cannot write {path} ({size:.1f} MiB): {error.strerror or error}. An existing file is "
            f"unchanged.{_ADVICE.get(error.errno or 0, '')}"
        ) from error


def load(path: Path) -> Any:
    """Return the content of a file of `save`, `torch.save` or safetensors, with tensors on the CPU.

    Raises:
        FileNotFoundError: the file does not exist.
        MachineError: the disk or the memory fails. The file itself may be valid.
        BrokenFileError: the file cannot be read without executing code. The message replaces torch's,
            which advises to execute it.
    """
    try:
        if path.suffix == SAFETENSORS or _is_safetensors(path):
            return _load_safetensors(path)
        _refuse_changed_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise BrokenFileError("it is a folder") from error
    except pickle.UnpicklingError as error:
        raise BrokenFileError(
            "refused: it contains objects that would run code, or it is damaged"
        ) from error
    except MemoryError as error:
        raise MachineError(f"cannot read {path}: not enough memory") from error
    except _STUMBLES as error:
        # a truncated file causes a seek beyond its end: EINVAL
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise MachineError(f"cannot read {path}: {error.strerror}") from error
        raise BrokenFileError("it is cut off, or not a file of tensors") from error


def refuse_other_digest(path: Path, digest: str, *, advice: str) -> None:
    """Reject a cached file whose content does not match the digest in its name.

    Args:
        path: path of the file.
        digest: first hexadecimal digits of the expected SHA-256, or all of them.
        advice: what to do to get the file again, for the message.

    Raises:
        WeightsError: the digest differs, or the file cannot be read.
    """
    try:
        found = cached_sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if not found.startswith(digest):
        raise WeightsError(
            f"{path} is damaged or another file: its SHA-256 begins with {found[: len(digest)]}, not "
            f"with {digest}. Delete it and {advice}, or give another file (--weights PATH, or "
            "TRUEFACE_WEIGHTS=PATH in the environment)"
        )


def digest_parts(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Part]:
    """Yield the parts of the fingerprint of named tensors: name, shape, type and numbers of each."""
    for name, tensor in tensors:
        raw = tensor.detach().cpu().contiguous()
        yield repr((name, tuple(raw.shape), raw.dtype))
        yield raw.reshape(-1).view(torch.uint8).numpy().data


def cached_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; compute it again only if its size or mtime has changed.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)  # cached because a job calls it several times, and the files are large
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # they are part of the cache's key
    return file_sha256(path)


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as one of safetensors: with the length of a JSON object, and that."""
    with path.open("rb") as file:
        head = file.read(9)
    is_json = head[8:] == b"{" and not head.startswith((b"PK", b"\x80"))
    return is_json and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError  # an extra: few files are of this format
        from safetensors.torch import load_file
    except ImportError as error:
        raise BrokenFileError(
            f"the package safetensors is not installed: {install_command('timm')}"
        ) from error
    if path.stat().st_size == 0:
        raise BrokenFileError("it is empty")
    try:
        return load_file(path)  # type: ignore[no-any-return]  # untyped
    except SafetensorError as error:
        raise BrokenFileError("it is cut off, or not a safetensors file") from error


def _refuse_changed_file(path: Path) -> None:
    """Reject a file that has changed since it was written. torch does not check this."""
    if path.stat().st_size == 0:
        raise BrokenFileError("it is empty")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = sum(member.file_size for member in archive.infolist())
            outside = path.stat().st_size
            if inside > MOST_EXPANDED * outside:
                raise BrokenFileError(
                    f"its members expand to {inside:,} bytes from {outside:,}, more than weights do"
                )
            damaged = archive.testzip()
        if damaged is not None:
            raise BrokenFileError(f"it is damaged: the checksum of {damaged} is wrong")
