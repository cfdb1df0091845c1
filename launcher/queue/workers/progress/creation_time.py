"""When a file was created: `os.stat` does not say it on Linux, the system call `statx` does."""

import ctypes
import os
import struct

_AT_FDCWD, _STATX_BTIME = -100, 0x800  # <fcntl.h>, <linux/stat.h>
_STATX_BYTES = 256
_BTIME = struct.Struct("=I76xqI")  # mask and time of creation in the struct statx
_NS = 1e-9  # seconds


def creation_time(path: str) -> float | None:
    """Return when a file was created, in seconds since 1970; None if its file system does not record that."""
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        call = ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):  # an old C library
        return None
    if call(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer) != 0:
        return None
    mask, seconds, nanoseconds = _BTIME.unpack_from(answer)
    return seconds + nanoseconds * _NS if mask & _STATX_BTIME else None
