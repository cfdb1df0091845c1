"""The state of the git working tree around a folder: its commit, and the files that were changed since."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

GIT_TIMEOUT_S = 2.0  # a listing does not wait longer for a slow disk
SHORT_COMMIT = 7  # characters of a commit that is shown
_RENAMED = b"2"  # an entry that is followed by the name it had before


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


def _git(folder: Path, *words: str) -> bytes | None:
    """Return git's output; None if it fails, is absent or takes too long."""
    try:
        process = subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout
