"""Copies of the code of projects, in the queue folder: made once for all jobs with equal code, compared, deleted.

A copy is `snapshots/<key>/<name of the project>`, beside `manifest.json`, which lists the copied files, and an index
for the Python processes of jobs. It appears under its name when it is complete.
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

from launcher.provenance.file_digests import DigestCache
from launcher.provenance.snapshots.source_files import (
    MOST_FILES,
    ProjectFile,
    folders_of,
    list_source,
    snapshot_error,
    source_file,
)
from launcher.provenance.snapshots.startup.launcher_snapshot.held_files import INDEX, write_index
from launcher.provenance.snapshots.startup.launcher_snapshot.notes import append_text, coarse_now
from launcher.system.errors import MachineError
from launcher.system.files import open_descriptor, read_all, read_json, sync, write_all, write_json
from launcher.system.locks import mark_in_use
from launcher.system.snapshot_setting import DEFAULT_FILE_LIMIT

FOLDER = "snapshots"  # in the queue folder
MANIFEST = "manifest.json"  # name of the file beside the copy
KEY_LENGTH = 12  # hexadecimal digits of a name of a snapshot
_STALE_S = 3600.0  # an unfinished copy is older than any command that still makes it
_TEMPORARY, _GONE = ".tmp", ".gone"  # ends of names of unfinished and of half deleted copies
_MOST_EARLIER = 8  # snapshots among which an earlier one of a project is looked for
_WRITABLE = 0o222  # permissions to write, which copies of earlier versions do not have
_WRITTEN = ".written"  # end of the names of lists of files that jobs of a project have written
_CACHES = "__pycache__"  # folders of compiled modules
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
    left_out: Mapping[str, int]  # name → bytes, of files that are too large
    files: Mapping[str, ProjectFile]  # present files of the project
    cache: DigestCache  # digests of files that have not changed since


class Snapshot(NamedTuple):
    """A copy in the queue folder."""

    folder: Path  # contains the copy and the snapshot's manifest
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
        MachineError: The folder cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _write_error(folder, error) from error
    descriptor = mark_in_use(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # other snapshots are in the folder
            folder.rmdir()
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def describe_source(folder: Path, top: str, largest: int = DEFAULT_FILE_LIMIT) -> Source:
    """Return the content that a snapshot of a working tree would have.

    Args:
        folder: Folder of all snapshots.
        top: Folder of the working tree.
        largest: Bytes of the largest file that is copied.

    Raises:
        UsageError: A file cannot be copied.
    """
    source, left_out = list_source(top, str(folder.parent), largest)
    cache = DigestCache(folder.with_name(f"digests-{_name_of(top)}.json"), MOST_FILES)
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
    return Source(Manifest(digest, top, project, files, links), left_out, source, cache)


def note_queueing(folder: Path, top: str) -> int:
    """Return the present time; jobs of the project that write a file later note it again.

    Args:
        folder: Folder of all snapshots.
        top: Folder of the working tree.
    """
    now, listed = coarse_now(), folder / f"{_name_of(top)}{_WRITTEN}"
    if listed.exists():  # without a list nothing is noted yet
        append_text(str(listed), f"{now}\t\n")
    return now


def take_snapshot(folder: Path, source: Source) -> Snapshot:
    """Return a snapshot of a working tree: an existing one, or a new one. See `keep_snapshots`.

    Args:
        folder: Folder of all snapshots.
        source: Its content.

    Raises:
        UsageError: A file cannot be copied, or changes meanwhile.
        MachineError: The disk is full, or the folder cannot be written.
    """
    manifest, _, files, cache = source
    key, number = manifest.key, 1
    while True:
        place = folder / (key if number == 1 else f"{key}.{number}")
        if place.exists():
            found = _known_snapshot(place, manifest)
            if found is not None:
                cache.save()
                return found
            number += 1  # a program has changed the copy
        elif _make_copy(place, manifest, files):
            cache.save()
            return Snapshot(place, manifest)


def _known_snapshot(place: Path, manifest: Manifest) -> Snapshot | None:
    """Return the snapshot of a folder if it contains the same files, unchanged."""
    found = Snapshot(place, manifest)
    if changed_file(found):  # the copy differs, or the originals have other times now
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
            if (now.st_mode ^ (stat.S_IFREG | file.mode | stat.S_IRUSR)) & ~_WRITABLE:
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


def is_link_to(path: str, target: str) -> bool:
    """Return whether a path is a link with this target."""
    try:
        return os.readlink(path) == target  # noqa: PTH115  # the text alone
    except OSError:
        return False


def foreign_entry(snapshot: Snapshot) -> str:
    """Return the name of something in the folder of a snapshot that the snapshot has not made; '' if there is nothing."""
    manifest, project = snapshot.manifest, snapshot.manifest.project
    own = {MANIFEST, INDEX, *(f"{project}/{name}" for name in (*manifest.files, *manifest.links))}
    folders = {project, *(f"{project}/{name}" for name in manifest.folders())}
    for place, inner, files in os.walk(snapshot.folder):
        above = place[len(str(snapshot.folder)) + 1 :]
        for name in sorted((*inner, *files)):
            path = f"{above}/{name}" if above else name
            if path in own or path in folders:
                continue
            if name in inner and not os.path.islink(f"{place}/{name}"):  # noqa: PTH114  # a text
                if name != _CACHES and not os.listdir(f"{place}/{name}"):  # noqa: PTH208  # as above
                    return path
            elif not _is_own(snapshot, path):
                return path
    return ""


def _is_own(snapshot: Snapshot, path: str) -> bool:
    """Return whether a file is a compiled module, or a link of an earlier version to an original."""
    project = snapshot.manifest.project
    if path.rpartition("/")[0].rpartition("/")[2] == _CACHES and ".pyc" in path:
        return True
    return path.startswith(f"{project}/") and is_link_to(
        f"{snapshot.folder}/{path}", f"{snapshot.manifest.top}{path[len(project) :]}"
    )


def delete_unused(folder: Path, used_names: Collection[str]) -> tuple[int, list[str]]:
    """Delete the snapshots that no job uses, if they are as they were copied.

    Args:
        folder: Folder of all snapshots.
        used_names: Keys of those that jobs use. It is asked for while no command can take a snapshot.

    Returns the number of freed bytes, and a sentence about each snapshot that stays.
    """
    freed, kept = 0, list[str]()
    for place in _find_unused(folder, used_names):
        if place.name.endswith((_TEMPORARY, _GONE)):
            _delete_tree(place)
            continue
        manifest = read_manifest(place)
        if manifest is None:
            kept.append(f"{place} has no manifest")
            continue
        snapshot = Snapshot(place, manifest)
        if name := changed_file(snapshot, reads=True) or foreign_entry(snapshot):
            kept.append(f"{place} contains {name}, which a program wrote")
            continue
        gone = place.with_name(f".{place.name}{_GONE}")
        with contextlib.suppress(OSError):  # another process has deleted the copy
            place.rename(gone)
            freed += manifest.total_bytes
            _delete_tree(gone)
    if not any(place.is_dir() for place in folder.iterdir()):
        for listed in folder.glob(f"*{_WRITTEN}"):
            listed.unlink(missing_ok=True)
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


def _find_unused(folder: Path, used_names: Collection[str]) -> list[Path]:
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
            if is_remnant or (not place.name.startswith(".") and place.name not in used_names):
                found.append(place)
    return found


def _delete_tree(place: Path) -> None:
    """Delete a folder; links are removed, not followed. A later `clean` deletes what is left."""
    shutil.rmtree(place, ignore_errors=True)


def _digest(cache: DigestCache, top: str, name: str, file: ProjectFile) -> str:
    try:
        return cache.find(
            name,
            [file.size, file.mtime_ns, file.ctime_ns, file.inode],
            lambda: _read_digest(f"{top}/{name}"),
            changed_ns=max(file.mtime_ns, file.ctime_ns),
        )
    except OSError as error:
        raise snapshot_error(top, f"{name} cannot be read: {error.strerror}") from error


def _name_of(top: str) -> str:
    """Return the name of a project in the names of files."""
    return hashlib.sha256(os.fsencode(top)).hexdigest()[:KEY_LENGTH]


def _read_digest(path: str) -> str:
    with open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        return hashlib.sha256(read_all(descriptor)).hexdigest()


def _make_copy(place: Path, manifest: Manifest, source: Mapping[str, ProjectFile]) -> bool:
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
        earlier = _earlier_snapshot(place.parent, manifest.top)
        for name in manifest.files:
            if earlier is None or not _link_file(manifest, name, copy, earlier):
                _copy_file(manifest, name, copy)
        for name, target in manifest.links.items():
            (copy / name).symlink_to(target)
        made = coarse_now()  # before the check: a later change is one after the queueing
        _refuse_changed(manifest.top, source)
        write_json(unfinished / MANIFEST, {**manifest._asdict(), "schema": _SCHEMA})
        header = manifest.top, manifest.project, str(made), f"{_name_of(manifest.top)}{_WRITTEN}"
        write_index(str(unfinished), header, manifest.files, manifest.links)
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


def _earlier_snapshot(folder: Path, top: str) -> Snapshot | None:
    """Return the newest snapshot of a project; None if the newest ones are of other projects."""
    places = [place for place in folder.iterdir() if place.is_dir() and place.name[0] != "."]
    places.sort(key=lambda place: place.stat().st_mtime, reverse=True)
    for place in places[:_MOST_EARLIER]:
        manifest = read_manifest(place)
        if manifest is not None and manifest.top == top:
            return Snapshot(place, manifest)
    return None


def _link_file(manifest: Manifest, name: str, copy: Path, earlier: Snapshot) -> bool:
    """Share an equal file with an earlier snapshot; return False if that is not possible."""
    file, shared = manifest.files[name], f"{earlier.copy}/{name}"
    if earlier.manifest.files.get(name) != file:
        return False
    try:
        now = os.lstat(shared)
        if (now.st_size, now.st_mtime_ns, now.st_mode) != (
            file.size,
            file.mtime_ns,
            stat.S_IFREG | file.mode | stat.S_IRUSR,
        ):
            return False
        os.link(shared, f"{copy}/{name}")
    except OSError:  # a file system without hard links, or an earlier snapshot that is deleted
        return False
    return True


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
        os.fchmod(descriptor, file.mode | stat.S_IRUSR)
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
