"""The files of a working tree that a snapshot copies: those that git tracks, and others that it does not ignore."""

import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from launcher.provenance.code_words import has_code_suffix
from launcher.provenance.git import LIST_TIMEOUT_S, run_git
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily
from launcher.system.snapshot_setting import DEFAULT_FILE_LIMIT
from launcher.system.units import format_bytes

MOST_FILES = 20_000  # files and links of a copy
MOST_BYTES = 200_000_000  # bytes of all copied files
_LIST_FILES = ("ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard")
_UNTRACKED = "?"  # the tag that git prints before a file that it does not track
_UNREADABLE = "could not open directory"  # git's message for a folder that it cannot list
_LEFT_OUT = compile_lazily(r"__pycache__|\.git|\.egg-info")  # in a path of such a file
# files for git alone: a folder without others holds data
_GIT_NAMES = frozenset({".gitignore", ".gitkeep", ".gitattributes", ".keep"})


class ProjectFile(NamedTuple):
    """A file or link of a working tree."""

    mode: int  # permissions
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int
    inode: int
    target: str | None = None  # target of a link; None for a file


def snapshot_error(top: str, why: str) -> UsageError:
    """Return the error for a project of which no snapshot can be taken.

    Args:
        top: Folder of the project.
        why: The reason, and what to do, as sentences without the last full stop.
    """
    return UsageError(f"cannot take a snapshot of {top}: {why}.")


def is_left_out(name: str) -> bool:
    """Return whether a file or folder of this name is not copied."""
    return name in {".git", "__pycache__"} or name.endswith(".egg-info")


def _is_in_left_out(name: str) -> bool:
    return any(map(is_left_out, name.split("/")))


class SourceFiles(NamedTuple):
    """The files of a working tree."""

    copied: dict[str, ProjectFile]  # by their names relative to the top
    left_out: dict[str, int]  # name → bytes, of files that are too large, or too many


def list_source(top: str, queue_folder: str, largest: int = DEFAULT_FILE_LIMIT) -> SourceFiles:
    """Return the files that a snapshot of a working tree copies, and those that it leaves out.

    If all files are too many or too large, data that git does not track is left out first.

    Args:
        top: Folder of the working tree.
        queue_folder: Folder whose files are left out if it is in the tree.
        largest: Bytes of the largest file that is copied.

    Raises:
        UsageError: There are too many, or one of them cannot be copied.
    """
    inside = f"{os.path.relpath(queue_folder, top)}/"
    found = dict[str, ProjectFile]()
    left_out, data = dict[str, int](), list[str]()
    folders = [""]
    for folder in folders:  # grows with the submodules
        for name, is_tracked in _listed_names(top, folder):
            if name.startswith(inside) or (_LEFT_OUT.search(name) and _is_in_left_out(name)):
                continue
            file = _source_file(top, name, folders)
            if file is None:
                continue
            if file.target is None and file.size > largest:
                left_out[name] = file.size
                continue
            if not name.isascii():
                _check_name(top, name)
            found[name] = file
            if not is_tracked and not has_code_suffix(name):
                data.append(name)
    if len(found) > MOST_FILES or _total_bytes(found) > MOST_BYTES:
        left_out |= {name: found.pop(name).size for name in data}
    _refuse_large(top, found)
    return SourceFiles(_without_data_folders(found), left_out)


def _refuse_large(top: str, files: Mapping[str, ProjectFile]) -> None:
    """Refuse a tree with too many files or bytes.

    Raises:
        UsageError: It has.
    """
    if len(files) > MOST_FILES:
        raise snapshot_error(
            top, f"it has more than {MOST_FILES:,} files. Ignore data in .gitignore"
        )
    if (total := _total_bytes(files)) > MOST_BYTES:
        raise snapshot_error(
            top,
            f"its files have {format_bytes(total)}, and the limit is 200 MB. Ignore data in .gitignore",
        )


def _total_bytes(files: Mapping[str, ProjectFile]) -> int:
    return sum(file.size for file in files.values() if file.target is None)


def source_file(path: str) -> ProjectFile | None:
    """Return a file or link as it is now; None if there is neither.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _file_of(path, status)


def _file_of(path: str, status: os.stat_result) -> ProjectFile | None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in {stat.S_IFREG, stat.S_IFLNK}:
        return None
    return ProjectFile(
        stat.S_IMODE(status.st_mode),
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        os.readlink(path) if kind == stat.S_IFLNK else None,  # noqa: PTH115  # the text alone
    )


def folders_of(names: Mapping[str, object]) -> set[str]:
    """Return the folders that contain some files, without the top."""
    folders: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in folders:
            folders.add(name)
    return folders


def _source_file(top: str, name: str, submodules: list[str]) -> ProjectFile | None:
    """Return a file to copy; None if it is gone, or is not a file. A submodule is added to a list.

    Raises:
        UsageError: It cannot be read, or is a link out of the tree.
    """
    path = f"{top}/{name}"
    try:
        status = os.lstat(path)
        file = _file_of(path, status)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise snapshot_error(top, f"{name} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode) and os.path.lexists(f"{path}/.git"):
        submodules.append(name)
    if file is None or file.target is None:
        return file
    above = os.path.dirname(path)  # noqa: PTH120  # a text, thousands of times
    target = os.path.normpath(os.path.join(above, file.target))  # noqa: PTH118  # as above
    real_top = os.path.realpath(top)
    if not _is_below(target, top) or not _is_below(os.path.realpath(path), real_top):
        raise snapshot_error(
            top,
            f"{name} is a link to {file.target}, outside of the repository. "
            "Ignore the link in .gitignore, and remove it from the index: git rm --cached",
        )
    # an absolute target would lead out of the copy
    return file._replace(target=os.path.relpath(target, above))


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _check_name(top: str, name: str) -> None:
    """Refuse a name that cannot be stored.

    Raises:
        UsageError: The name is not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise snapshot_error(
            top, f"the name {shown} is not UTF-8. Rename the file, or ignore it in .gitignore"
        ) from None


def _without_data_folders(files: dict[str, ProjectFile]) -> dict[str, ProjectFile]:
    """Return the files without those for git in folders that have no others."""
    others = {name: 0 for name in files if name.rpartition("/")[2] not in _GIT_NAMES}
    kept = {"", *folders_of(others)}
    return {
        name: file
        for name, file in files.items()
        if name in others or name.rpartition("/")[0] in kept
    }


def _listed_names(top: str, folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the names of files that git does not ignore, and whether it tracks them; some are gone, or submodules.

    Raises:
        UsageError: Git is missing, fails, or cannot read a folder.
    """
    above = f"{folder}/" if folder else ""
    for entry in dict.fromkeys(os.fsdecode(_run_git(top, f"{top}/{folder}")).split("\0")):
        if name := entry[2:]:  # behind the tag
            yield f"{above}{name}", entry[0] != _UNTRACKED


def _run_git(top: str, folder: str) -> bytes:
    """Return the list of files of a repository, without those of submodules."""
    try:
        ended = run_git(folder, *_LIST_FILES, timeout_s=LIST_TIMEOUT_S)
    except FileNotFoundError as error:
        raise snapshot_error(top, "git is not in PATH. Install git") from error
    except OSError as error:
        raise snapshot_error(top, f"git cannot list its files: {error.strerror}") from error
    problem = ended.stderr.decode(errors="replace").strip()
    if ended.returncode or _UNREADABLE in problem:
        why = problem.partition("\n")[0] or f"exit code {ended.returncode}"
        raise snapshot_error(top, f"git cannot list its files: {why}")
    return ended.stdout
