"""A git repository and its commit, read from its files: starting git would take longer than adding a job.

The commit of a broken repository, or with refs in a reftable, is unknown.
"""

import os
from typing import NamedTuple

MOST_BYTES = 64 << 20  # bytes of packed refs; a larger file is not read
MOST_LINKS = 5  # refs that name other refs
_FOLDER_MARK, _REF = b"gitdir: ", b"ref: "


class Repository(NamedTuple):
    """A repository around a working tree."""

    top: str  # the folder of the working tree
    folder: str  # the repository's own git folder
    common: str  # the git folder that the repository's worktrees share


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


def _read(path: str) -> bytes:
    """Return the content of a file; nothing if it cannot be read or is too large."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # several times per command
            content = file.read(MOST_BYTES + 1)
    except OSError:
        return b""
    return content if content is not None and len(content) <= MOST_BYTES else b""
