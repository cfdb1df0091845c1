"""A snapshot as an attempt uses it: words and import paths that lead to the copy, and what programs write into it."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

from launcher.snapshots.copies import (
    KEPT,
    MANIFEST,
    Manifest,
    Snapshot,
    changed_file,
    foreign_entries,
    link_others,
    read_manifest,
)
from launcher.snapshots.programs import (
    PYTHON_PATH,
    SAFE_PATH,
    code_folders,
    describe_start,
    relative_name,
)
from launcher.snapshots.reference import SnapshotReference
from launcher.system.code_words import has_code_suffix, names_output
from launcher.system.files import FileStamp, file_stamp
from launcher.system.locks import LOCK_POLL_S
from launcher.system.waiting import wait_until

_LOCK_S = 60.0  # so long another attempt may move large files to another disk
_NOTHING = Manifest("", "", "", {}, {})


class CodeCopy:
    """The copy from which the code of an attempt comes."""

    def __init__(self, queue_folder: str, reference: SnapshotReference) -> None:
        """Begin without having read it.

        Args:
            queue_folder: The queue folder, as this machine sees it.
            reference: The snapshot.
        """
        self.key, self.path = reference.key, f"{queue_folder}/{reference.copy}"
        self.top, self._imports = reference.top, reference.imports

    @cached_property
    def _manifest(self) -> Manifest:
        folder = Path(self.path).parent
        return _read_manifest_once(folder, file_stamp(f"{folder}/{MANIFEST}")) or _NOTHING

    def find(self, path: str) -> str:
        """Return the path of a file in the copy; '' if it was not copied."""
        name = relative_name(path, self.top)
        return f"{self.path}/{name}" if name is not None and name in self._manifest else ""

    def original(self, path: str) -> str:
        """Return the original path of a file of the copy; other paths are returned unchanged."""
        return f"{self.top}{path[len(self.path) :]}" if path.startswith(f"{self.path}/") else path

    def in_copy(self, path: str) -> str:
        """Return the path of a folder or file in the copy; '' if it is outside of the tree, or is not there."""
        name = relative_name(path, self.top)
        place = f"{self.path}/{name}".rstrip("/")
        return place if name is not None and os.path.lexists(place) else ""

    def fault(self) -> str:
        """Return why no program can run from the copy, and make it complete again; '' if one can."""
        if self._manifest is _NOTHING:
            return f"its snapshot {self.key} is not in {Path(self.path).parent}"
        if name := self.changed_file():
            return (
                f"{name} of its snapshot {self.key} was changed by a program. "
                "To run the present code: launcher retry --snapshot"
            )
        try:
            link_others(self.path, self.top, self._manifest)
        except OSError as error:
            return f"cannot complete its snapshot {self.path}: {error.strerror}"
        return ""

    def changed_file(self) -> str:
        """Return the name of a file that is not as it was copied; '' if all are."""
        return changed_file(Snapshot(Path(self.path).parent, self._manifest))

    def replaced_words(
        self, argv: Sequence[str], folder: str, outputs: Iterable[str]
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return a command line that names files of the copy, and path → path in the copy of those files.

        Args:
            argv: The command line.
            folder: Folder in which it starts.
            outputs: Names of files and folders that the program makes.
        """
        made = {_absolute_path(folder, name) for name in outputs}
        script = describe_start(argv, {}).script
        words, found = list[str](), dict[str, str]()
        for before, word in pairwise(("", *argv)):
            words.append(word)
            option, equals, value = word.partition("=")
            names = [(word, before if before.startswith("-") else "")]
            names += [(value, option)] if equals else []
            for name, owner in names:
                if word != script and (not has_code_suffix(name) or names_output(owner)):
                    continue
                path = _absolute_path(folder, name)
                if made.isdisjoint((path, *map(str, Path(path).parents))) and (
                    place := self.find(path)
                ):
                    words[-1] = f"{word[: len(word) - len(name)]}{place}"
                    found[path] = place
                    break
        return tuple(words), found

    def variables(
        self, argv: Sequence[str], folder: str, environment: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the variables by which Python finds the modules of the copy.

        Args:
            argv: The command line; empty for a worker.
            folder: Folder in which it starts.
            environment: The environment without these variables.
        """
        start = describe_start(argv, environment)
        own = code_folders(start, argv, folder, self._manifest, self.top)
        names = dict.fromkeys((*own, *self._imports))
        paths = [f"{self.path}/{name}".rstrip("/") for name in names]
        if before := environment.get(PYTHON_PATH):
            paths.append(before)
        return {
            **({PYTHON_PATH: os.pathsep.join(paths)} if paths else {}),
            **({SAFE_PATH: "1"} if start.is_module else {}),
        }

    def import_path(self, path: Iterable[str]) -> list[str]:
        """Return the import path of a running Python with the copy of each folder before it."""
        folders, found = {"", *self._manifest.folders()}, dict[str, None]()
        for entry in path:
            name = relative_name(os.path.abspath(entry), self.top)  # noqa: PTH100  # a text
            if name is not None and name in folders:
                found[f"{self.path}/{name}".rstrip("/")] = None
            found[entry] = None
        # packages that a finder of setuptools finds, which comes after all folders
        found |= dict.fromkeys(f"{self.path}/{name}".rstrip("/") for name in self._imports)
        return [*found]

    def move_written(self, attempt: str) -> Iterator[str]:
        """Move what programs have written into the copy to its original place; yield what is to be reported.

        A file that a process still writes is left to the end of the attempt that does so.

        Args:
            attempt: Name of the attempt that has ended.
        """
        with _locked(Path(self.path).parent):
            yield from self._move_all(attempt)
        if name := self.changed_file():
            yield f"{name} of the snapshot {self.key} was changed. No other job starts from it."

    def _move_all(self, attempt: str) -> Iterator[str]:
        names = [*foreign_entries(self.path, self.top, self._manifest)]
        busy = _open_files(os.path.realpath(self.path)) if names else ()
        kept = f"{Path(self.path).parent}/{KEPT}/{attempt}"
        for name in names:
            inside = f"{os.path.realpath(self.path)}/{name}"
            if not any(path == inside or path.startswith(f"{inside}/") for path in busy):
                yield from self._move(name, kept)
                target = Path(self.top, name)
                if os.path.lexists(target):
                    with contextlib.suppress(OSError):  # it stays here, or another attempt made it
                        Path(self.path, name).symlink_to(target)

    def _move(self, name: str, kept: str) -> Iterator[str]:
        source, target = f"{self.path}/{name}", f"{self.top}/{name}"
        try:
            if _is_folder(source) and os.path.isdir(target):  # noqa: PTH112  # texts
                for entry in sorted(os.listdir(source)):  # noqa: PTH208  # as above
                    yield from self._move(f"{name}/{entry}", kept)
                os.rmdir(source)  # noqa: PTH106  # as above
            elif os.path.lexists(target):
                place = f"{kept}/{name}"
                os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120  # as above
                _rename(source, place)
                yield f"{name} was written into the snapshot, and {target} exists. It is kept as {place}"
            else:
                os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120  # as above
                _rename(source, target)
        except OSError as error:
            yield f"{name} stays in the snapshot {self.path}: {error.strerror or error}"


@lru_cache(maxsize=2)  # an attempt needs it several times, and its supervisor runs many attempts
def _read_manifest_once(folder: Path, _stamp: FileStamp | None) -> Manifest | None:
    return read_manifest(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep the ends of other attempts from moving files of a snapshot at the same time, if the disk has locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # the folder is gone, and nothing is found in it
        yield
        return

    def lock() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return not isinstance(error, BlockingIOError)
        return True

    try:
        wait_until(lock, _LOCK_S, LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _absolute_path(folder: str, name: str) -> str:
    path = os.path.join(folder, os.path.expanduser(name))  # noqa: PTH111, PTH118  # for each word
    return os.path.normpath(path)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114  # texts


def _rename(source: str, target: str) -> None:
    """Move a file or folder, to another file system, too; readers see all of it or nothing."""
    try:
        os.rename(source, target)  # noqa: PTH104  # texts
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, target)


def _copy_over(source: str, target: str) -> None:
    folder, _, name = target.rpartition("/")
    temporary = f"{folder}/.{name[:100]}.{os.urandom(4).hex()}.tmp"
    try:
        if _is_folder(source):
            shutil.copytree(source, temporary, symlinks=True)
        else:
            shutil.copy2(source, temporary, follow_symlinks=False)
        os.rename(temporary, target)  # noqa: PTH104  # as above
    except BaseException:
        _delete(temporary)
        raise
    _delete(source)


def _delete(path: str) -> None:
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108  # a text


def _open_files(folder: str) -> set[str]:
    """Return the paths below a folder that processes of this user have open."""
    found = set[str]()
    for process in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            for descriptor in os.listdir(process):  # noqa: PTH208  # names only
                with contextlib.suppress(OSError):
                    path = os.readlink(process / descriptor)  # noqa: PTH115  # the text alone
                    if path.startswith(f"{folder}/"):
                        found.add(path)
    return found
