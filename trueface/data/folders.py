"""Lists the images of folders: those below a data root, with an index, and named ones.

A folder below a data root is read again only after it changed. An unchanged folder has the same
inode, mtime and ctime. A second listing of 200,000 images therefore reads the status of a dozen
folders, and no folder. That matters most if the data are on another machine. The index is optional:
a broken index is ignored, and an unwritable index is not an error.

<cache>/index/<SHA-256 of machine and data root>.index     a line with a checksum, then JSON
"""

import codecs
import contextlib
import errno
import json
import logging
import os
import platform
import stat
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trueface.runtime.artifact import CACHE as CACHE
from trueface.runtime.artifact import RACY_NS
from trueface.runtime.artifact import cache_folder as cache_folder
from trueface.runtime.digests import sha256_hex
from trueface.runtime.files import link_target, write_atomic

# endings of `image_files.FORMATS`, a module that imports Pillow
SUFFIXES = frozenset({
    "avif", "bmp", "gif", "heic", "heif", "hif", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp",
})  # fmt: skip
# those that were added to data folders of phones, which may have each image as JPEG, too
PHONE_SUFFIXES = frozenset({"avif", "heic", "heif", "hif"})
# files of landmarks in the folders of videos, next to the frames; see `data.landmarks`
LANDMARKS, CALIBRATED_LANDMARKS = "landmarks.csv", "calibrated_landmarks.csv"
LANDMARK_FILES = frozenset({LANDMARKS, CALIBRATED_LANDMARKS})
READ = f"images end in {', '.join(f'.{ending}' for ending in sorted(SUFFIXES))}"

MOST_LISTED = 3  # names in one message
WORTH = 1_000  # images; to list fewer takes no longer than to read the list
OLD_S = 180 * 86400.0  # age of unused lists that are deleted; remaking one takes seconds

_HEAD = b"trueface index 6 "  # contains the schema number, which grows with each change of `scan`
ALL_LINKS = "/"  # replaces the names if all are links, as after an import; no file has this name
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})

log = logging.getLogger(__name__)


class FolderMark(NamedTuple):
    """A folder's state, to detect changes; a NamedTuple, as JSON has lists."""

    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int  # cannot be set back, unlike the mtime, which programs that copy folders preserve


class ListedFolder(NamedTuple):
    """The content of a folder. A NamedTuple, because there may be thousands."""

    mark: FolderMark
    folders: tuple[str, ...]  # names of folders, hidden ones too, and of links, which may be broken
    images: tuple[str, ...]  # names of image files; both sorted
    others: Mapping[str, int]  # files without the suffix of an image: suffix → number
    links: frozenset[str]  # those of `images` that are links


Names = tuple[tuple[str, ...], tuple[str, ...], Mapping[str, int], frozenset[str]]


def is_image(name: str) -> bool:
    """Return whether a file of this name is an image: not hidden, and with a known suffix."""
    stem, _, ending = name.rpartition(".")
    return ending.lower() in SUFFIXES and stem != "" and not stem.startswith(".")


def phone_twins(names: Sequence[str]) -> frozenset[str]:
    """Return the HEIC and AVIF files among the images of a folder that are there in another format, too."""
    phone = [name for name in names if name[-5:].lower().rpartition(".")[2] in PHONE_SUFFIXES]
    if not phone:
        return frozenset()
    others = {name.rpartition(".")[0] for name in set(names).difference(phone)}
    return frozenset(name for name in phone if name.rpartition(".")[0] in others)


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder or a link to one. A link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def suffix(name: str) -> str:
    """Return the suffix of a file name in lower case, such as ".txt", or "" if there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # there may be 200,000 of them


def describe_suffixes(others: Mapping[str, int]) -> str:
    """Return other files than images in words: "12 .mov, 8 .txt"."""
    return ", ".join(
        f"{count} {ending or 'without a suffix'}" for ending, count in sorted(others.items())
    )


def stem(name: str) -> str:
    """Return what pairs an image with those made of it: its relative name without the suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def describe_names(names: Sequence[str]) -> str:
    """Return the first names of many in words: "a.png, b.png, c.png and 4 more"."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def scan(path: str) -> Names:
    """Read a folder.

    Returns:
        The names of folders and links, the names of image files, both sorted, the number of other
        files by suffix, and the image files that are links. Hidden files and landmarks are not counted.
    """
    folders, images, links, others = [], [], set[str](), Counter[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            # a real folder has any name; where a link leads is not asked, as an import makes 200,000
            if is_image(entry.name) and not entry.is_dir(follow_symlinks=False):
                images.append(entry.name)
                if entry.is_symlink():  # the listing says so; the file is not asked
                    links.add(entry.name)
            # a link to nowhere may lead to a folder later, and this folder will not have changed
            elif entry.is_symlink() or entry.is_dir():
                folders.append(entry.name)
            elif not entry.name.startswith(".") and entry.name not in LANDMARK_FILES:
                others[suffix(entry.name)] += 1
    return tuple(sorted(folders)), tuple(sorted(images)), dict(others), frozenset(links)


class FolderListing:
    """The folders below a data root, as they are now.

    Args:
        root: the data root.
        file: where the listing is kept; None: nowhere.
        look: reads a folder.
        status: asks for the status of a path, links followed.
        clock: the time in ns.
        worth: how many images there must be for the listing to be kept.
    """

    def __init__(
        self,
        root: Path,
        file: Path | None = None,
        *,
        look: Callable[[str], Names] = scan,
        status: Callable[[str], os.stat_result] = os.stat,
        clock: Callable[[], int] = time.time_ns,
        worth: int = WORTH,
    ) -> None:
        self._root, self._file, self._worth = str(root), file, worth
        self._look, self._status, self._clock = look, status, clock
        self._known: dict[str, ListedFolder] | None = None
        self._new: dict[str, ListedFolder] = {}

    def folder(self, subfolder: str) -> ListedFolder | None:
        """Return what a folder holds; None where there is none, or a link leads nowhere.

        Args:
            subfolder: its path below the data root; "" or "." is the root itself.

        Raises:
            OSError: it cannot be looked at.
        """
        path = self._root if subfolder in {"", "."} else f"{self._root}/{subfolder}"
        mark = self._mark(path)
        if mark is None:
            return None
        kept = self._load_cached().get(subfolder)
        if kept is not None and kept.mark == mark:
            return kept
        began = self._clock()
        folder = ListedFolder(mark, *self._look(path))
        # a change within the same tick of its clock as the last time would leave no trace
        if max(mark.mtime_ns, mark.ctime_ns) + RACY_NS <= began:
            self._new[subfolder] = folder
        return folder

    def is_link(self, subfolder: str) -> bool:
        """Return whether a path below the data root is a link itself. False if it does not exist."""
        return os.path.islink(f"{self._root}/{subfolder}")  # noqa: PTH114  # four times as quick

    def save_listing(self) -> None:
        """Save the folders that were read again, if there are any and the cache is writable."""
        if self._file is None or not self._new:
            return
        # another process may have written more since
        entries = _prune_entries(_read(self._file, self._root) | self._new)
        if sum(len(entry.images) for entry in entries.values()) < self._worth:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, _pack_entries(self._root, entries), mode=0o600, durable=False)
            _remove_old_listings(self._file.parent, time.time() - OLD_S)
        except OSError as error:
            log.info("index=%s state=not written reason=%s", self._file, error)
        self._known, self._new = entries, {}

    def _mark(self, path: str) -> FolderMark | None:
        try:
            status = self._status(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        if not stat.S_ISDIR(status.st_mode):
            return None
        return FolderMark(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def _load_cached(self) -> dict[str, ListedFolder]:
        if self._known is None:
            self._known = {} if self._file is None else _read(self._file, self._root)
        return self._known


def open_listing(root: Path) -> FolderListing:
    """Return the listing of a data root that is kept in the user's cache."""
    folder = cache_folder()
    if folder is None:
        return FolderListing(root)
    # inodes and devices mean nothing on another machine that has the same home
    machine_and_root = f"{platform.node()}\n{os.path.realpath(root)}"
    name = sha256_hex(machine_and_root)[:32]
    return FolderListing(root, folder / "index" / f"{name}.index")


def _read(file: Path, root: str) -> dict[str, ListedFolder]:
    """Return what is kept in a file; nothing if it is not there, broken or of another schema."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        if head != _head(body):
            return {}
        content = json.loads(body)
        return {below: _entry(*fields) for below, fields in content["folders"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.info("index=%s root=%s state=ignored reason=%s", file, root, error)
        return {}


def _entry(
    mark: list[int], folders: str, images: str, others: dict[str, int], links: str
) -> ListedFolder:
    names = _split(images)
    linked = frozenset(names if links == ALL_LINKS else _split(links))
    return ListedFolder(FolderMark(*mark), _split(folders), names, dict(others), linked)


def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split("/")) if names else ()


def _pack_entries(root: str, entries: dict[str, ListedFolder]) -> bytes:
    # names in one text with the one character that no name has: read ten times as fast as a list
    fields = {
        below: [
            entry.mark,
            "/".join(entry.folders),
            "/".join(entry.images),
            entry.others,
            ALL_LINKS
            if len(entry.links) == len(entry.images) > 0
            else "/".join(sorted(entry.links)),
        ]
        for below, entry in entries.items()
    }
    body = json.dumps({"root": root, "folders": fields}).encode()
    return _head(body) + b"\n" + body


def _head(body: bytes) -> bytes:
    return _HEAD + f"{zlib.crc32(body):08x}".encode()


def _prune_entries(entries: dict[str, ListedFolder]) -> dict[str, ListedFolder]:
    """Return the entries without those that their parent folder no longer contains."""
    there: dict[str, ListedFolder] = {}
    held: set[str] = set()
    for below in sorted(entries):  # parent folders come first
        # nothing is above the root
        if not below or below.rpartition("/")[0] not in entries or below in held:
            there[below] = entries[below]
            above = f"{below}/" if below else ""
            held.update(above + name for name in entries[below].folders)
    return there


def _remove_old_listings(folder: Path, oldest: float) -> None:
    """Remove listings that were written before then."""
    for file in folder.glob("*.index"):
        with contextlib.suppress(OSError):
            if file.stat().st_mtime < oldest:
                file.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A place that gave no image, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """The image files that paths stand for on this disk."""

    files: tuple[Path, ...]  # as named, folders sorted; each file once
    missing: tuple[Missing, ...]
    passed_over: Mapping[str, int]  # other files in the folders: suffix → how many


def paths_in(content: bytes) -> tuple[Path, ...]:
    """Return the paths in a file: one per line, or NUL-terminated as by `find -print0`."""
    content = content.removeprefix(codecs.BOM_UTF8)  # editors under Windows begin files with it
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return tuple(Path(os.fsdecode(name)) for name in names if name)


def find_images(places: Iterable[Path]) -> FoundImages:
    """Return the named files, and the images of the named folders.

    A named file is accepted with any suffix. Folders are searched through links as well, but never
    in a cycle. Hidden files and folders in them are left out. Files without an image suffix are
    left out and counted. A dangling link is missing.
    """
    files: dict[Path, None] = {}
    missing: list[Missing] = []
    passed_over: Counter[str] = Counter()
    for place in places:
        # os.path, as a Path raises for what may not be looked at
        if os.path.isdir(place):  # noqa: PTH112
            others: Counter[str] = Counter()
            below = list(_walk_images(place, (), missing, others))
            files.update(dict.fromkeys(below))
            passed_over.update(others)
            if not below and all(each.path != place for each in missing):
                instead = f", but {describe_suffixes(others)}" if others else ""
                missing.append(Missing(path=place, reason=f"no image in this folder{instead}"))
        elif os.path.isfile(place):  # noqa: PTH113
            files[place] = None
        else:
            there = os.path.lexists(place)
            reason = "not a readable file" if there else "no such file or folder"
            missing.append(Missing(path=place, reason=reason))
    return FoundImages(files=tuple(files), missing=tuple(missing), passed_over=dict(passed_over))


def _walk_images(
    folder: Path,
    parents: tuple[tuple[int, int], ...],
    missing: list[Missing],
    others: Counter[str],
) -> Iterator[Path]:
    """Yield the images of a folder, then those of the folders in it, by name."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
            holding = {entry.name: is_folder(entry) for entry in seen}
    except OSError as error:
        missing.append(Missing(path=folder, reason=error.strerror or str(error)))
        return
    here = (status.st_dev, status.st_ino)
    if here in parents:  # a link back to a folder above it: its images are there already
        return
    for name in sorted(name for name, holds in holding.items() if not holds):
        path = folder / name
        # os.path, as a Path raises for what may not be looked at
        if not os.path.exists(path):  # noqa: PTH110
            missing.append(Missing(path=path, reason=f"a broken link, to {link_target(path)}"))
        elif is_image(name) and os.path.isfile(path):  # noqa: PTH113
            yield path
        else:
            others[suffix(name)] += 1
    for name in sorted(name for name, holds in holding.items() if holds):
        yield from _walk_images(folder / name, (*parents, here), missing, others)
