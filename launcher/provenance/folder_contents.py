"""The content of a folder: everything below it, with a stamp and a digest.

Links in it count by their targets and are never followed. Sockets, FIFOs and devices count by their type.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from launcher.system.files import FileStamp

FOLDER_END = "/"  # the last character of a name that means a folder
_FOLDER, _FILE, _LINK, _OTHER, _UNREADABLE = "folder", "file", "link", "other", "unreadable"


class FolderItem(NamedTuple):
    """A file, folder or link below a folder."""

    name: bytes  # path relative to the folder
    type: str
    size: int = 0  # bytes of a regular file
    changed_ns: int = 0  # modification time of a regular file, or of a folder that cannot be read
    inode: int = 0  # inode of a regular file
    target: bytes = b""  # target of a link


def list_folder(path: str) -> list[FolderItem]:
    """Return everything below a folder, sorted by name.

    Raises:
        OSError: The path does not exist, is not a folder, or cannot be read.
    """
    root = os.fsencode(path.rstrip(FOLDER_END))
    found = _list_directory(root, b"")
    todo = [entry for entry in found if entry.type == _FOLDER]
    while todo:  # without recursion: a program may nest thousands of folders
        above = todo.pop()
        place = root + b"/" + above.name
        try:
            below = _list_directory(place, above.name + b"/")
        except FileNotFoundError:  # deleted meanwhile
            continue
        except PermissionError:
            changed_ns = os.lstat(place).st_mtime_ns
            below = [FolderItem(above.name + b"/", _UNREADABLE, changed_ns=changed_ns)]
        found += below
        todo += [entry for entry in below if entry.type == _FOLDER]
    return sorted(found)


def _list_directory(place: bytes, parent: bytes) -> list[FolderItem]:
    """Return what is directly in a folder.

    Raises:
        OSError: The folder cannot be read.
    """
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            name = parent + entry.name
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    found.append(FolderItem(name, _FOLDER))
                elif stat.S_ISREG(status.st_mode):
                    key = status.st_size, status.st_mtime_ns, status.st_ino
                    found.append(FolderItem(name, _FILE, *key))
                elif stat.S_ISLNK(status.st_mode):
                    found.append(FolderItem(name, _LINK, target=os.readlink(entry.path)))  # noqa: PTH115  # bytes
                else:
                    found.append(FolderItem(name, f"{_OTHER} {stat.S_IFMT(status.st_mode)}"))
            except FileNotFoundError:  # deleted meanwhile
                continue
    return found


def stamp_of(entries: Sequence[FolderItem]) -> FileStamp:
    """Return the bytes of all files, and a number that changes with any name, size, time or inode."""
    content = hashlib.sha256()
    for name, kind, size, changed_ns, inode, target in entries:
        content.update(
            b"%b %d %d %d\0%b\0%b\0" % (kind.encode(), size, changed_ns, inode, name, target)
        )
    number = int.from_bytes(content.digest()[:8], "big") >> 1  # 63 bits, as other stored numbers
    return sum(entry.size for entry in entries), number


def folder_stamp(path: str) -> FileStamp | None:
    """Return the stamp of a folder with everything below it; None if there is none, or it cannot be read."""
    try:
        return stamp_of(list_folder(path))
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None


def digest_entries(
    path: str, entries: Sequence[FolderItem], digest_file: Callable[[str], str]
) -> str:
    """Return a digest of the names, types and contents below a folder.

    A file that cannot be read counts by its size and time.

    Args:
        path: The folder.
        entries: Everything below it.
        digest_file: Returns the digest of a file; an OSError means that it cannot be read.
    """
    content, root = hashlib.sha256(), path.rstrip(FOLDER_END)
    for entry in entries:
        mark = entry.target
        if entry.type == _FILE:
            try:
                mark = digest_file(f"{root}/{os.fsdecode(entry.name)}").encode()
            except OSError:
                mark = f"{_UNREADABLE} {entry.size} {entry.changed_ns}".encode()
        elif entry.type == _UNREADABLE:
            mark = str(entry.changed_ns).encode()
        content.update(b"\0".join([entry.type.encode(), entry.name, mark, b""]))
    return content.hexdigest()[:16]


def newest_change_ns(entries: Sequence[FolderItem]) -> int:
    """Return the newest modification time of the files below a folder, in ns; 0 without files."""
    return max((entry.changed_ns for entry in entries), default=0)
