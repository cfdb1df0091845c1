"""The files of a working tree that a snapshot copies: those that git tracks, and new files of code and configuration."""

import os
import re
import select
import signal
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from launcher.errors import UsageError
from launcher.system.code_words import has_code_suffix
from launcher.system.files import read_all
from launcher.system.git_files import find_repository
from launcher.units import format_bytes

MOST_FILES = 20_000  # files and links of a copy
MOST_BYTES = 200_000_000  # bytes of all copied files
LARGE_BYTES = 10_000_000  # bytes of a file; a larger one holds data and is linked
GIT_TIMEOUT_S = 120.0  # for a tree with millions of files that git does not know
_LIST_FILES = ("ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard")
_UNTRACKED = "?"  # the tag that git prints before a file that it does not track
_UNREADABLE = "could not open directory"  # git's message for a folder that it cannot list
_LEFT_OUT = re.compile(r"__pycache__|\.git|\.egg-info")  # in a path of such a file
# files for git alone: a folder without others is data, and is linked as a whole
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


def find_top(folder: str) -> str:
    """Return the folder of the working tree around a folder.

    Raises:
        UsageError: There is none.
    """
    repository = find_repository(folder)
    if repository is None:
        raise snapshot_error(folder, "it is not in a git repository. To make it one: git init")
    return repository.top


def is_left_out(name: str) -> bool:
    """Return whether a file or folder of this name is neither copied nor linked."""
    return name in {".git", "__pycache__"} or name.endswith(".egg-info")


def _is_in_left_out(name: str) -> bool:
    return any(map(is_left_out, name.split("/")))


def list_source(top: str, queue_folder: str) -> dict[str, ProjectFile]:
    """Return the files that a snapshot of a working tree copies, by their names relative to its top.

    Args:
        top: Folder of the working tree.
        queue_folder: Folder whose files are left out if it is in the tree.

    Raises:
        UsageError: There are too many, or one of them cannot be copied.
    """
    inside = f"{os.path.relpath(queue_folder, top)}/"
    found: dict[str, ProjectFile] = {}
    total = 0
    folders = [""]
    for folder in folders:  # grows with the submodules
        for name in _listed_names(top, folder):
            if name.startswith(inside) or (_LEFT_OUT.search(name) and _is_in_left_out(name)):
                continue
            file = _source_file(top, name, folders)
            if file is None:
                continue
            if not name.isascii():
                _check_name(top, name)
            found[name] = file
            total += file.size if file.target is None else 0
            if len(found) > MOST_FILES:
                raise snapshot_error(
                    top, f"it has more than {MOST_FILES:,} files. Ignore data in .gitignore"
                )
    if total > MOST_BYTES:
        raise snapshot_error(
            top,
            f"its files have {format_bytes(total)}, and the limit is 200 MB. Ignore data in .gitignore",
        )
    return _without_data_folders(found)


def source_file(path: str) -> ProjectFile | None:
    """Return a file or link as it is now; None if there is neither.

    Raises:
        OSError: It cannot be looked at.
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
    """Return a file to copy; None if it is gone, is not a file, or is too large. A submodule is added to a list.

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
    if file is None or (file.target is None and file.size > LARGE_BYTES):
        return None
    if file.target is None:
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
        UsageError: It is not UTF-8.
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


def _listed_names(top: str, below: str) -> Iterator[str]:
    """Yield the names of tracked files and of new files of code; some may be gone, and some are submodules.

    Raises:
        UsageError: Git is missing, fails, or cannot read a folder.
    """
    above = f"{below}/" if below else ""
    for entry in dict.fromkeys(os.fsdecode(_run_git(top, f"{top}/{below}")).split("\0")):
        name = entry[2:]  # behind the tag
        if name and (entry[0] != _UNTRACKED or has_code_suffix(name)):
            yield f"{above}{name}"


def _run_git(top: str, folder: str) -> bytes:
    """Return the list of files of a repository, without those of submodules."""
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("GIT_")
    } | {"LC_ALL": "C"}
    options = ("-C", folder, "--no-optional-locks", "-c", "core.fsmonitor=false")
    output, errors = os.memfd_create("output"), os.memfd_create("errors")
    try:
        # the module subprocess takes longer to import than git to run
        pid = os.posix_spawnp(
            "git",
            ["git", *options, *_LIST_FILES],
            environment,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
            ),
        )
        code = _wait_for(pid)
        problem = _read_from_start(errors).decode(errors="replace").strip()
        if code or _UNREADABLE in problem:
            why = problem.partition("\n")[0] or f"exit code {code}"
            raise snapshot_error(top, f"git cannot list its files: {why}")
        return _read_from_start(output)
    except FileNotFoundError as error:
        raise snapshot_error(top, "git is not in PATH. Install git") from error
    except OSError as error:
        raise snapshot_error(top, f"git cannot list its files: {error.strerror}") from error
    finally:
        os.close(output)
        os.close(errors)


def _wait_for(pid: int) -> int:
    """Return the exit code of a child process; it is killed if it takes too long."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(GIT_TIMEOUT_S * 1000):
            os.kill(pid, signal.SIGKILL)
    except BaseException:  # Ctrl-C: git would run on
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _read_from_start(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return read_all(descriptor)
