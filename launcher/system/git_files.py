"""A git repository, read from its files: the commit, and which files differ from the index. Git is never started.

Broken repositories, refs in a reftable and split indexes are unknown.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 64 << 20  # bytes of an index or of packed refs; a larger file is not read
MOST_LINKS = 5  # refs that name other refs
_FOLDER_MARK, _REF = b"gitdir: ", b"ref: "
_HEADER, _STATUS = 12, 62  # bytes: of the index; of an entry before its name, with a SHA-1
_SHA256_EXTRA = 12  # bytes by which its digests are longer
_EXTENDED, _NAME_MASK = 0x4000, 0x0FFF  # bits of an entry's flags
_SPLIT = b"link"  # the extension of an index that contains only a part of the entries


class Repository(NamedTuple):
    """A repository around a working tree."""

    top: str  # the folder of the working tree
    folder: str  # its own git folder
    common: str  # the git folder that its worktrees share

    @property
    def index_path(self) -> str:
        """The path of its index."""
        return f"{self.folder}/index"


class IndexEntry(NamedTuple):
    """A file as git's index has it."""

    changed: tuple[int, int]  # time of its last change: seconds, nanoseconds
    size: int  # its lower 32 bits
    digest: bytes


def find_repository(folder: str) -> Repository | None:
    """Return the repository whose working tree contains a folder; None if there is none that can be read."""
    top = folder
    while True:
        found = _repository_at(top)
        if found is not None:
            return found
        above = os.path.dirname(top)  # noqa: PTH120  # a text, several times per command
        if above == top or os.path.lexists(f"{top}/.git"):
            return None
        top = above


def _repository_at(top: str) -> Repository | None:
    place = f"{top}/.git"
    if not os.path.isdir(place):  # noqa: PTH112  # as above
        content = _read(place)
        if not content.startswith(_FOLDER_MARK):
            return None
        named = os.fsdecode(content.removeprefix(_FOLDER_MARK).rstrip(b"\n"))
        place = os.path.normpath(os.path.join(top, named))  # noqa: PTH118  # as above
    if not _read(f"{place}/HEAD"):
        return None
    shared = os.fsdecode(_read(f"{place}/commondir").rstrip(b"\n"))
    common = os.path.normpath(os.path.join(place, shared)) if shared else place  # noqa: PTH118  # as above
    return Repository(top, place, common)


def read_commit(repository: Repository) -> str | None:
    """Return the commit of a working tree; None before the first one, or if it is unknown."""
    content = _read(f"{repository.folder}/HEAD").strip()
    for _ in range(MOST_LINKS):
        if not content.startswith(_REF):
            text = content.decode("ascii", "replace")
            is_commit = len(text) in {40, 64} and all(char in "0123456789abcdef" for char in text)
            return text if is_commit else None
        ref = content.removeprefix(_REF)
        if b".." in ref.split(b"/"):
            return None
        name = os.fsdecode(ref)
        own = _read(f"{repository.folder}/{name}") or _read(f"{repository.common}/{name}")
        content = own.strip() or _packed_commit(repository, ref)
    return None


def _packed_commit(repository: Repository, ref: bytes) -> bytes:
    packed = b"\n" + _read(f"{repository.common}/packed-refs")
    line, found, _ = packed.partition(b" " + ref + b"\n")
    return line.rpartition(b"\n")[2] if found else b""


def read_index(content: bytes) -> dict[bytes, IndexEntry] | None:
    """Return the files of an index of version 2, 3 or 4, by their names; None if it cannot be read.

    Args:
        content: The bytes of the index. Format: gitformat-index(5).
    """
    version, number = (int.from_bytes(content[at : at + 4], "big") for at in (4, 8))
    if content[:4] != b"DIRC" or version not in {2, 3, 4}:
        return None
    for extra in (
        0,
        _SHA256_EXTRA,
    ):  # the index does not name its kind of digest: its checksum does
        checksum = hashlib.sha256 if extra else hashlib.sha1
        size = checksum().digest_size
        # git may leave the checksum out: index.skipHash
        if content[-size:] in {checksum(content[:-size]).digest(), bytes(size)}:
            try:
                return _read_entries(content, version, number, extra, size)
            except (IndexError, ValueError):
                return None
    return None


def _read_entries(
    content: bytes, version: int, number: int, extra: int, checksum: int
) -> dict[bytes, IndexEntry] | None:
    entries: dict[bytes, IndexEntry] = {}
    at, name = _HEADER, b""
    for _ in range(number):
        fields = [int.from_bytes(content[at + n : at + n + 4], "big") for n in (8, 12, 36)]
        digest = content[at + 40 : at + 60 + extra]
        flags = int.from_bytes(content[at + 60 + extra : at + 62 + extra], "big")
        start = at + _STATUS + extra + (2 if flags & _EXTENDED else 0)
        if version == 4:
            dropped, start = _read_offset(content, start)
            end = content.index(b"\0", start)
            name = name[: len(name) - dropped] + content[start:end]
            at = end + 1
        else:
            length = flags & _NAME_MASK
            end = content.index(b"\0", start) if length == _NAME_MASK else start + length
            name = content[start:end]
            at += (end - at + 8) // 8 * 8
        entries[name] = IndexEntry((fields[0], fields[1]), fields[2], digest)
    while at < len(content) - checksum:
        if content[at : at + 4] == _SPLIT:
            return None
        at += 8 + int.from_bytes(content[at + 4 : at + 8], "big")
    return entries


def _read_offset(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable width, and the position after it."""
    value = content[at] & 0x7F
    while content[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (content[at] & 0x7F)
    return value, at + 1


class IndexReader:
    """Compares files with the indexes of their repositories; each repository is read once per change."""

    def __init__(self) -> None:
        """Begin without having read any."""
        self._indexes: dict[str, tuple[tuple[int, int], dict[bytes, IndexEntry] | None]] = {}

    def uncommitted(
        self, paths: Iterable[str], place_of: Callable[[str], str] = str
    ) -> tuple[list[str], bool]:
        """Return which files differ from the index or are not in it, and whether all of them could be compared.

        Files outside of all repositories are left out.

        Args:
            paths: Their paths.
            place_of: Returns the path of a file with the content and the time of a given one.
        """
        found: dict[str, Repository | None] = {}
        changed, is_complete = [], True
        for path in paths:
            folder = os.path.dirname(path)  # noqa: PTH120  # called for each of thousands
            if folder not in found:
                found[folder] = find_repository(folder)
            repository = found[folder]
            if repository is None:
                continue
            entries = self._entries(repository)
            if entries is None:
                is_complete = False
            elif _differs(repository, path, place_of(path), entries):
                changed.append(path)
        return changed, is_complete

    def _entries(self, repository: Repository) -> Mapping[bytes, IndexEntry] | None:
        try:
            status = os.stat(repository.index_path)  # noqa: PTH116  # as above
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size
        known = self._indexes.get(repository.index_path)
        if known is None or known[0] != stamp:
            known = stamp, read_index(_read(repository.index_path))
            self._indexes[repository.index_path] = known
        return known[1]


def _differs(
    repository: Repository, path: str, place: str, entries: Mapping[bytes, IndexEntry]
) -> bool:
    entry = entries.get(os.fsencode(os.path.relpath(path, repository.top)))
    if entry is None:
        return True
    try:
        status = os.stat(place)  # noqa: PTH116  # as above
        index = os.stat(repository.index_path)  # noqa: PTH116  # as above
        # a file that is as old as the index may have changed again: git compares its content, too
        is_older = status.st_mtime_ns < index.st_mtime_ns
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        same_time = entry.changed in {(seconds, nanoseconds), (seconds, 0)}
        if is_older and same_time and entry.size == status.st_size & 0xFFFFFFFF:
            return False
        content = Path(place).read_bytes()
    except OSError:
        return True
    kind = hashlib.sha256 if len(entry.digest) > 20 else hashlib.sha1
    return kind(b"blob %d\0" % len(content) + content).digest() != entry.digest


def _read(path: str) -> bytes:
    """Return the content of a file; nothing if it cannot be read or is too large."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # several times per command
            content = file.read(MOST_BYTES + 1)
    except OSError:
        return b""
    return content if content is not None and len(content) <= MOST_BYTES else b""
