"""What git says of working trees: the commit, and the files that differ from it or from the index."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.provenance.git_files import Repository, find_repository

GIT_TIMEOUT_S = 2.0  # a listing does not wait longer for a slow disk
LIST_TIMEOUT_S = 120.0  # seconds for a tree with millions of files that git does not know
MOST_NAMES = 100  # files that git is asked for; it compares each with the whole index
SHORT_COMMIT = 7  # characters of a commit that is shown
_RENAMED = b"2"  # an entry that is followed by the name it had before
# each file of the index, and again if it has changed
_LIST_INDEX = ("--literal-pathspecs", "ls-files", "-z", "-t", "--cached", "--modified", "--")
# a copy has other inodes, and times of its own at which they changed
_OF_COPIES = ("-c", "core.trustctime=false", "-c", "core.checkStat=minimal")
_CHANGED_TAGS = frozenset("CM")  # changed, and unmerged


class WorkTree(NamedTuple):
    """A working tree as git sees it; files that git does not track are not part of it."""

    commit: str
    changed: tuple[str, ...] = ()  # files that are not as the commit has them, from its top
    modules: Mapping[str, tuple[str, ...]] = {}  # module → those in it

    @property
    def short(self) -> str:
        """The commit as it is shown, with a * when the tree is not as it has it."""
        return self.commit[:SHORT_COMMIT] + ("*" if self.changed else "")


def worktree(folder: Path, modules: Mapping[str, Path] = {}) -> WorkTree | None:
    """Return the working tree around a folder; None without git, repository or commit.

    Nothing is written, not even git's own index. No folder is searched for new files, because it
    may contain data sets.

    Args:
        folder: where the search for a repository begins.
        modules: modules and their files; those with changed files are returned.
    """
    output = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no")
    if output is None:
        return None
    commit, names = _read(output)
    if commit is None:
        return None
    top = _git(folder, "rev-parse", "--show-toplevel") if names else None
    inside = {} if top is None else _changed_by_module(Path(os.fsdecode(top[:-1])), names, modules)
    return WorkTree(commit=commit, changed=tuple(names), modules=inside)


def _changed_by_module(
    top: Path, names: Iterable[str], modules: Mapping[str, Path]
) -> dict[str, tuple[str, ...]]:
    """Return the changed files of each module that has some."""
    changed = {top / name: name for name in names}
    files = {module: file.resolve() for module, file in modules.items()}
    return {module: (changed[file],) for module, file in files.items() if file in changed}


def _read(output: bytes) -> tuple[str | None, list[str]]:
    """Return the commit, None before the first one, and the names of changed files."""
    commit, names = None, []
    fields = iter(output.split(b"\0"))
    for entry in fields:
        if entry.startswith(b"# branch.oid "):
            oid = entry.split(b" ", 2)[2].decode("ascii")
            commit = oid if oid != "(initial)" else None
        elif entry[:2] in {b"1 ", b"2 ", b"u "}:
            # before the name: type, XY, submodule, modes, hashes, for a moved file a score
            before = {b"1": 8, b"2": 9, b"u": 10}[entry[:1]]
            names.append(os.fsdecode(entry.split(b" ", before)[before]))
            if entry[:1] == _RENAMED:
                names.append(os.fsdecode(next(fields)))
    return commit, names


def find_uncommitted(
    paths: Sequence[str], place_of: Callable[[str], str] = str
) -> tuple[list[str], bool]:
    """Return which files differ from the indexes of their repositories, and whether all of them could be compared.

    A file that is not in the index differs. Files outside of all repositories are left out.

    Args:
        paths: Their paths.
        place_of: Returns the path of a copy of a folder whose files have the same times.
    """
    found: dict[str, Repository | None] = {}
    names: dict[Repository, dict[str, str]] = {}  # path → name in its repository
    for path in paths:
        folder = os.path.dirname(path)  # noqa: PTH120  # called for each of thousands
        if folder not in found:
            found[folder] = find_repository(folder)
        if (repository := found[folder]) is not None:
            names.setdefault(repository, {})[path] = os.path.relpath(path, repository.top)
    changed, is_complete = set[str](), True
    for repository, inside in names.items():
        unchanged = _find_unchanged(repository, place_of(repository.top), [*inside.values()])
        if unchanged is None:
            is_complete = False
        else:
            changed |= {path for path, name in inside.items() if name not in unchanged}
    return [path for path in paths if path in changed], is_complete


def _find_unchanged(repository: Repository, tree: str, names: Sequence[str]) -> set[str] | None:
    """Return the names of files in a working tree that are as the index has them; None if git fails.

    If the names are few, no other file is looked at.
    """
    output = _git(
        tree,
        *(() if tree == repository.top else _OF_COPIES),
        f"--git-dir={repository.folder}",
        f"--work-tree={tree}",
        *_LIST_INDEX,
        *(names if len(names) <= MOST_NAMES else ()),
        timeout_s=LIST_TIMEOUT_S,
    )
    if output is None:
        return None
    entries = os.fsdecode(output).split("\0")
    changed = {entry[2:] for entry in entries if entry[:1] in _CHANGED_TAGS}
    return {entry[2:] for entry in entries} - changed


def run_git(
    folder: Path | str, *words: str, timeout_s: float = GIT_TIMEOUT_S
) -> "subprocess.CompletedProcess[bytes]":
    """Run git for the repository around a folder, with messages in English; git's index is not written.

    Raises:
        OSError: git cannot be started, or takes too long. `FileNotFoundError`: it is not in PATH.
    """
    around = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false"]
    try:
        return subprocess.run(
            [*command, *words],
            env={**around, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(errno.ETIMEDOUT, f"git takes longer than {timeout_s:g} s") from error


def _git(folder: Path | str, *words: str, timeout_s: float = GIT_TIMEOUT_S) -> bytes | None:
    """Return git's output; None if it fails, is absent or takes too long."""
    try:
        ended = run_git(folder, *words, timeout_s=timeout_s)
    except OSError:
        return None
    return None if ended.returncode else ended.stdout
