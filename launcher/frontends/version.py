"""The version line of `--version`: the number, and the commit of the code."""

from pathlib import Path

import launcher

COMMIT_FILE = "commit.txt"  # in the package; made when a wheel or a source archive is built
SHOWN_COMMIT = 12  # characters; git needs 7 to 10 of them to find a commit


def version_line(program: str, version: str) -> str:
    """Return what `--version` of a program prints."""
    return with_commit(f"{program}, version {version}", read_commit(Path(launcher.__file__).parent))


def with_commit(version: str, commit: str | None) -> str:
    """Return a version with the commit in brackets. A `*` behind the commit means changed files."""
    if commit is None:
        return version
    changed = "with changes, " if commit.endswith("*") else ""
    return f"{version} ({changed}commit {commit.rstrip('*')[:SHOWN_COMMIT]})"


def read_commit(package: Path) -> str | None:
    """Return the commit of a package's code, with `*` if tracked files differ from it.

    An installed package contains a file with the commit. In a checkout, git knows it. None if there
    is neither, such as in a copy of the sources.
    """
    try:
        return (package / COMMIT_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        pass
    if not (package.parent / ".git").exists():
        return None  # a repository further up is that of another project
    from launcher.provenance.git import worktree  # 3 ms, which the other commands do not need

    tree = worktree(package)
    return None if tree is None else tree.commit + ("*" if tree.changed else "")
