"""Wake-up when another scheduler replaces or removes its file in the folder of reservations (inotify).

Some network file systems send no events, and a user may have no inotify watch left. Then there is no descriptor, and the
folder is read once per second.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Collection
from pathlib import Path

from launcher.queue.gpu.reservation_files import is_claims_file

_MOVED_TO, _DELETE, _OVERFLOW, _IGNORED = 0x80, 0x200, 0x4000, 0x8000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, bytes of the name that follows
_BYTES = 1 << 16
NOT_WATCHED = -1


class ReservationWatch:
    """A descriptor that is readable when something has changed in the folder of reservations."""

    def __init__(self, folder: Path | None) -> None:
        """Begin to watch. If that is impossible or no folder is given, `descriptor` is NOT_WATCHED."""
        self.descriptor = NOT_WATCHED
        if folder is not None:
            with contextlib.suppress(OSError, AttributeError):
                self.descriptor = _open_watch(folder)

    def poll_peer_changes(self, own_names: Collection[str]) -> bool:
        """Read the events. Return whether a file of another scheduler has changed.

        Args:
            own_names: Current and former names of our own file.
        """
        if self.descriptor == NOT_WATCHED:
            return False
        changed = False
        while True:
            try:
                events = os.read(self.descriptor, _BYTES)
            except BlockingIOError:
                return changed
            except OSError:  # the folder cannot be watched any more
                self.close()
                return True
            changed = _has_peer_event(events, own_names) or changed
            if _combined_mask(events) & _IGNORED:  # the folder was deleted
                self.close()
                return True

    def close(self) -> None:
        """Watch no more."""
        if self.descriptor != NOT_WATCHED:
            os.close(self.descriptor)
            self.descriptor = NOT_WATCHED


def _open_watch(folder: Path) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    path = os.fsencode(folder)
    if library.inotify_add_watch(descriptor, path, ctypes.c_uint32(_MOVED_TO | _DELETE)) < 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(number, "inotify_add_watch")
    return descriptor


def _has_peer_event(events: bytes, own_names: Collection[str]) -> bool:
    at = 0
    while at + _EVENT.size <= len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        name = os.fsdecode(events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
        at += _EVENT.size + length
        if mask & _OVERFLOW or (is_claims_file(name) and name not in own_names):
            return True
    return False


def _combined_mask(events: bytes) -> int:
    """Return the bits of all events together."""
    at, mask = 0, 0
    while at + _EVENT.size <= len(events):
        _, bits, _, length = _EVENT.unpack_from(events, at)
        mask |= bits
        at += _EVENT.size + length
    return mask
