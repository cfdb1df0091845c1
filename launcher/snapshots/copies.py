"""Copies of the code of projects, in the queue folder: made once for all jobs with equal code, compared, deleted.

A copy is `snapshots/<key>/<name of the project>`, beside `manifest.json`, which lists the copied files. It appears
under its name when it is complete. Other folders and files are links to the originals.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import MachineError
from launcher.snapshots.source_files import (
    MOST_FILES,
    ProjectFile,
    folders_of,
    is_left_out,
    list_source,
    snapshot_error,
    source_file,
)
from launcher.system.file_digests import UNSTABLE_S, CacheFile
from launcher.system.files import open_descriptor, read_all, read_json, sync, write_all, write_json
from launcher.system.locks import mark_in_use

FOLDER = "snapshots"  # in the queue folder
MANIFEST = "manifest.json"  # beside the copy
KEPT = "kept"  # beside the copy: files of programs whose original place was taken
KEY_LENGTH = 12  # hexadecimal digits of a name of a snapshot
_STALE_S = 3600.0  # an unfinished copy is older than any command that still makes it
_TEMPORARY, _GONE = ".tmp", ".gone"  # ends of names of unfinished and of half deleted copies
_READ_ONLY = ~0o222
_SCHEMA = 1


class CopiedFile(NamedTuple):
    """A file of a copy."""

    mode: int  # permissions of the original
    size: int  # bytes
    mtime_ns: int  # the same for original and copy
    digest: str  # SHA-256


class Manifest(NamedTuple):
    """The copied files."""

    digest: str  # digest of all files
    top: str  # folder of the working tree
    project: str  # name of the copy's folder
    files: Mapping[str, CopiedFile]  # by names relative to the top
    links: Mapping[str, str]  # name → target

    @property
    def key(self) -> str:
        """The name by which users see its snapshot."""
        return self.digest[:KEY_LENGTH]

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files.values())

    def __contains__(self, name: object) -> bool:
        return name in self.files or name in self.links

    def folders(self) -> set[str]:
        """Return the folders of the copy, without the top."""
        return folders_of({**self.files, **self.links})


class Source(NamedTuple):
    """The content that a snapshot would have."""

    manifest: Manifest
    files: Mapping[str, ProjectFile]  # as they are now
    cache: CacheFile  # digests of files that have not changed since


class Snapshot(NamedTuple):
    """A copy in the queue folder."""

    folder: Path  # contains the copy and its manifest
    manifest: Manifest

    @property
    def key(self) -> str:
        """The name by which users see it."""
        return self.folder.name

    @property
    def copy(self) -> str:
        """The path of the copy."""
        return f"{self.folder}/{self.manifest.project}"


@contextlib.contextmanager
def keep_snapshots(folder: Path) -> Iterator[None]:
    """Keep `launcher clean` from deleting a snapshot that is not in the queue yet.

    Args:
        folder: Folder of all snapshots.

    Raises:
        MachineError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _write_error(folder, error) from error
    descriptor = mark_in_use(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # others are in it
            folder.rmdir()
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def describe_source(folder: Path, top: str) -> Source:
    """Return the content that a snapshot of a working tree would have.

    Args:
        folder: Folder of all snapshots.
        top: Folder of the working tree.

    Raises:
        UsageError: A file cannot be copied.
    """
    source = list_source(top, str(folder.parent))
    name = hashlib.sha256(os.fsencode(top)).hexdigest()[:KEY_LENGTH]
    cache = CacheFile(folder.with_name(f"digests-{name}.json"), {"files": MOST_FILES})
    files = {
        name: CopiedFile(file.mode, file.size, file.mtime_ns, _digest(cache, top, name, file))
        for name, file in source.items()
        if file.target is None
    }
    links = {name: file.target for name, file in source.items() if file.target is not None}
    parts = [
        top,
        sorted((name, file.mode & 0o111, file.digest) for name, file in files.items()),
        sorted(links.items()),
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    project = top.rpartition("/")[2].replace(os.pathsep, "-") or "project"
    return Source(Manifest(digest, top, project, files, links), source, cache)


def take_snapshot(folder: Path, source: Source) -> Snapshot:
    """Return a snapshot of a working tree: an existing one, or a new one. See `keep_snapshots`.

    Args:
        folder: Folder of all snapshots.
        source: Its content.

    Raises:
        UsageError: A file cannot be copied, or changes meanwhile.
        MachineError: The disk is full, or the folder cannot be written.
    """
    manifest, files, cache = source
    key, number = manifest.key, 1
    while True:
        place = folder / (key if number == 1 else f"{key}.{number}")
        if place.exists():
            found = _known_snapshot(place, manifest)
            if found is not None:
                cache.save()
                return found
            number += 1  # a program has changed it
        elif _make(place, manifest, files):
            cache.save()
            return Snapshot(place, manifest)


def _known_snapshot(place: Path, manifest: Manifest) -> Snapshot | None:
    """Return the snapshot of a folder if it contains the same files, unchanged."""
    found = Snapshot(place, manifest)
    if changed_file(found):  # or the originals have other times now
        known = read_manifest(place)
        if known is None or known.digest != manifest.digest:
            return None
        found = Snapshot(place, known)
        if changed_file(found):
            return None
    return found


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a snapshot; None if it is missing or damaged."""
    try:
        record = read_json(folder / MANIFEST)
    except OSError:
        return None
    match record:
        case {
            "schema": 1,
            "digest": str(digest),
            "top": str(top),
            "project": str(project),
            "files": dict(files),
            "links": dict(links),
        }:
            listed: Mapping[str, Any] = files
            targets = {name: str(target) for name, target in links.items()}
            copied = {name: CopiedFile(*file) for name, file in listed.items()}
            return Manifest(digest, top, project, copied, targets)
    return None


def changed_file(snapshot: Snapshot, *, reads: bool = False) -> str:
    """Return the name of a file that is not as it was copied; '' if all are.

    Args:
        snapshot: The snapshot.
        reads: Compare the contents. Otherwise size, time and permissions are compared.
    """
    copy, manifest = snapshot.copy, snapshot.manifest
    for name, file in manifest.files.items():
        try:
            now = os.lstat(f"{copy}/{name}")
            if now.st_size != file.size or now.st_mtime_ns != file.mtime_ns:
                return name
            if now.st_mode != stat.S_IFREG | _copied_mode(file.mode):
                return name
            if reads and _read_digest(f"{copy}/{name}") != file.digest:
                return name
        except OSError:
            return name
    for name, target in manifest.links.items():
        try:
            if os.readlink(f"{copy}/{name}") != target:  # noqa: PTH115  # the text alone
                return name
        except OSError:
            return name
    return ""


def link_others(copy: str, top: str, manifest: Manifest, most: int | None = None) -> None:
    """Make links in a copy to all files and folders that were not copied and exist now.

    Args:
        copy: Path of the copy.
        top: Folder of the working tree.
        manifest: The copied files.
        most: Number of links; None for no limit.

    Raises:
        UsageError: There are more.
        OSError: A link cannot be made.
    """
    folders, number = manifest.folders(), 0
    for folder in ("", *folders):
        above = f"{folder}/" if folder else ""
        try:
            with os.scandir(f"{top}/{folder}") as entries:
                others = {
                    entry.name
                    for entry in entries
                    if not is_left_out(entry.name)
                    and (name := f"{above}{entry.name}") not in folders
                    and name not in manifest
                }
        except OSError:  # it is gone, and nothing in it can be read
            continue
        number += len(others)
        if most is not None and number > most:
            where = folder or "its folder"
            raise snapshot_error(
                top, f"{where} has more than {most:,} files that git ignores. Move data to a folder"
            )
        with os.scandir(f"{copy}/{folder}") as entries:
            there = {entry.name: entry.path for entry in entries}
        for name in others - there.keys():
            with contextlib.suppress(FileExistsError):  # another attempt has made it
                Path(f"{copy}/{above}{name}").symlink_to(f"{top}/{above}{name}")
        for name in there.keys() - others:
            if is_link_to(there[name], f"{top}/{above}{name}"):
                with contextlib.suppress(OSError):  # so that a program can make it again
                    Path(there[name]).unlink()


def is_link_to(path: str, target: str) -> bool:
    """Return whether a path is a link with this target."""
    try:
        return os.readlink(path) == target  # noqa: PTH115  # the text alone
    except OSError:
        return False


def foreign_entries(copy: str, top: str, manifest: Manifest) -> Iterator[str]:
    """Yield the names of files and folders in a copy that programs have made, the outermost folders only."""
    folders = manifest.folders()
    for folder in ("", *sorted(folders)):
        above = f"{folder}/" if folder else ""
        try:
            with os.scandir(f"{copy}/{folder}") as entries:
                names = sorted(entry.name for entry in entries)
        except OSError:
            continue
        for entry in names:
            name = f"{above}{entry}"
            if is_left_out(entry) or name in folders or name in manifest:
                continue
            if not is_link_to(f"{copy}/{name}", f"{top}/{name}"):
                yield name


def delete_unused(folder: Path, used: Collection[str]) -> tuple[int, list[str]]:
    """Delete the snapshots that no job uses, if they are as they were copied.

    Args:
        folder: Folder of all snapshots.
        used: Keys of those that jobs use. It is asked for while no command can take a snapshot.

    Returns the number of freed bytes, and a sentence about each snapshot that stays.
    """
    freed, kept = 0, list[str]()
    for place in _unused(folder, used):
        if place.name.endswith((_TEMPORARY, _GONE)):
            _delete_tree(place)
            continue
        manifest = read_manifest(place)
        if manifest is None:
            kept.append(f"{place} has no manifest")
            continue
        snapshot = Snapshot(place, manifest)
        foreign = next(foreign_entries(snapshot.copy, manifest.top, manifest), "")
        left = next((KEPT for _ in place.glob(f"{KEPT}/*")), "")
        if name := changed_file(snapshot, reads=True) or foreign or left:
            kept.append(f"{place} contains {name}, which a program wrote")
            continue
        gone = place.with_name(f".{place.name}{_GONE}")
        with contextlib.suppress(OSError):  # another process has deleted it
            place.rename(gone)
            freed += manifest.total_bytes
            _delete_tree(gone)
    return freed, kept


@contextlib.contextmanager
def locked_snapshots(folder: Path) -> Iterator[bool]:
    """Keep commands from taking snapshots for a block; yield False if one does already."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _unused(folder: Path, used: Collection[str]) -> list[Path]:
    """Return the folders of unused snapshots, and the remains of commands that were killed."""
    found = []
    for place in sorted(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if not place.is_dir() or place.is_symlink():
                continue
            is_stale = time.time() - place.stat().st_mtime > _STALE_S
            is_remnant = place.name.endswith(_GONE) or (
                is_stale and place.name.endswith(_TEMPORARY)
            )
            if is_remnant or (not place.name.startswith(".") and place.name not in used):
                found.append(place)
    return found


def _delete_tree(place: Path) -> None:
    """Delete a folder; links are removed, not followed. A later `clean` deletes what is left."""
    shutil.rmtree(place, ignore_errors=True)


def _digest(cache: CacheFile, top: str, name: str, file: ProjectFile) -> str:
    stamp = [file.size, file.mtime_ns, file.ctime_ns, file.inode]
    known = cache.get("files", name, _read_entry)
    if known is not None and known[0] == stamp:
        return known[1]
    try:
        digest = _read_digest(f"{top}/{name}")
    except OSError as error:
        raise snapshot_error(top, f"{name} cannot be read: {error.strerror}") from error
    # a file that was changed just now may be changed again and keep its time
    if time.time_ns() - max(file.mtime_ns, file.ctime_ns) > UNSTABLE_S * 1e9:
        cache.add("files", name, [stamp, digest])
    return digest


def _read_entry(value: Any) -> tuple[list[int], str]:
    stamp, digest = value
    return [int(number) for number in stamp], str(digest)


def _read_digest(path: str) -> str:
    with open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        return hashlib.sha256(read_all(descriptor)).hexdigest()


def _copied_mode(mode: int) -> int:
    return mode & _READ_ONLY | 0o400


def _make(place: Path, manifest: Manifest, source: Mapping[str, ProjectFile]) -> bool:
    """Make a copy; return False if another process has made it first.

    Raises:
        UsageError: A file has changed, or cannot be read.
        MachineError: The copy cannot be written.
    """
    unfinished = place.with_name(f".{os.urandom(8).hex()}{_TEMPORARY}")
    try:
        copy = unfinished / manifest.project
        copy.mkdir(parents=True)
        for folder in sorted(manifest.folders()):
            _make_folder(manifest.top, folder, copy)
        for name in manifest.files:
            _copy_file(manifest, name, copy)
        for name, target in manifest.links.items():
            (copy / name).symlink_to(target)
        link_others(str(copy), manifest.top, manifest, MOST_FILES)
        _refuse_changed(manifest.top, source)
        record = {**manifest._asdict(), "schema": _SCHEMA, "made": time.time()}
        write_json(unfinished / MANIFEST, record)
        try:
            unfinished.rename(place)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
            _delete_tree(unfinished)
            return False
        sync(place.parent)
    except OSError as error:
        _delete_tree(unfinished)
        raise _write_error(place.parent, error) from error
    except BaseException:
        _delete_tree(unfinished)
        raise
    return True


def _make_folder(top: str, folder: str, copy: Path) -> None:
    try:
        mode = os.stat(f"{top}/{folder}").st_mode & 0o777  # noqa: PTH116  # a text
    except OSError as error:
        raise snapshot_error(top, f"{folder} cannot be read: {error.strerror}") from error
    os.mkdir(f"{copy}/{folder}", mode | 0o700)  # noqa: PTH102  # as above


def _copy_file(manifest: Manifest, name: str, copy: Path) -> None:
    file = manifest.files[name]
    try:
        with open_descriptor(f"{manifest.top}/{name}", os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
            content = read_all(descriptor)
    except OSError as error:
        raise snapshot_error(manifest.top, f"{name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != file.digest:
        raise _changed_error(manifest.top, name)
    path = f"{copy}/{name}"
    with open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as descriptor:
        write_all(descriptor, content)
        os.fchmod(descriptor, _copied_mode(file.mode))
        os.utime(descriptor, ns=(file.mtime_ns, file.mtime_ns))


def _refuse_changed(top: str, source: Mapping[str, ProjectFile]) -> None:
    """Refuse a copy of files of several moments.

    Raises:
        UsageError: A file has changed since it was listed.
    """
    for name, file in source.items():
        try:
            now = source_file(f"{top}/{name}")
        except OSError:
            now = None
        # the target is relative in `source`
        if now is None or now[:-1] != file[:-1]:
            raise _changed_error(top, name)


def _changed_error(top: str, name: str) -> Exception:
    return snapshot_error(top, f"{name} changed while it was copied. Run the command again")


def _write_error(folder: Path, error: OSError) -> MachineError:
    return MachineError(
        f"cannot write a snapshot to {folder}: {error.strerror or error}. Nothing was queued."
    )
