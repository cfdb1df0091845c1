"""Commits of repositories, read without git and compared with what git says, and changed files."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.provenance.git import find_uncommitted
from launcher.provenance.git_files import find_repository, read_commit

LONG = "a" * 200


def git(top: Path, *words: str) -> str:
    """Run git and return its output."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    ran = subprocess.run(
        ["git", *who, *words],
        cwd=top,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit and files in folders."""
    top = tmp_path / "project"
    (top / "in side").mkdir(parents=True)
    for name in ("a.py", "b.py", "in side/a.py", "in side/ü.py", f"in side/{LONG}.py"):
        (top / name).write_text(f"# {name}\n")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    return top


def commit_of(folder: Path) -> str | None:
    repository = find_repository(str(folder))
    return None if repository is None else read_commit(repository)


def packed(top: Path) -> Path:
    git(top, "pack-refs", "--all")
    return top


def detached(top: Path) -> Path:
    git(top, "checkout", "-q", "--detach")
    return top


def in_a_folder(top: Path) -> Path:
    return top / "in side"


def worktree(top: Path) -> Path:
    git(top, "worktree", "add", "-q", "../other")
    (top.parent / "other" / "a.py").write_text("# of the worktree\n")
    git(top.parent / "other", "commit", "-qam", "second")
    return top.parent / "other"


def submodule(top: Path) -> Path:
    git(top, "submodule", "add", "-q", str(top), "below")
    return top / "below"


@pytest.mark.parametrize(
    "make",
    [Path, packed, detached, in_a_folder, worktree, submodule],
    ids=lambda each: each.__name__,
)
def test_commit_is_the_one_that_git_names(tree: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tree)
    assert commit_of(folder) == git(folder, "rev-parse", "HEAD")
    assert find_uncommitted([str(folder / "a.py")]) == ([], True)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_uncommitted_files_are_those_that_git_names(tree: Path, version: int) -> None:
    if version == 3:  # for a file that is only intended to be added
        (tree / "intended.py").write_text("")
        git(tree, "add", "--intent-to-add", "intended.py")
        (tree / "intended.py").write_text("1\n")
    else:
        git(tree, "update-index", f"--index-version={version}")
    (tree / "b.py").write_text("changed\n")
    (tree / "new.py").write_text("")
    (tree / "a.py").touch()  # another time and the same content
    paths = sorted(str(path) for path in tree.rglob("*.py"))
    changed, is_compared = find_uncommitted(paths)
    listed = git(tree, "status", "--porcelain", "-z").split("\0")
    assert {str(tree / line[2:].lstrip()) for line in listed if line} == {*changed}
    assert is_compared
    content = (tree / ".git" / "index").read_bytes()
    assert int.from_bytes(content[4:8], "big") == version


def test_repository_with_sha256_is_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    assert commit_of(tmp_path) == git(tmp_path, "rev-parse", "HEAD")
    assert find_uncommitted([str(tmp_path / "a.py")]) == ([], True)
    (tmp_path / "a.py").write_text("2\n")
    assert find_uncommitted([str(tmp_path / "a.py")]) == ([str(tmp_path / "a.py")], True)


def break_head(top: Path) -> None:
    (top / ".git" / "HEAD").write_bytes(b"\xff\n")


def break_link(top: Path) -> None:
    (top / ".git").rename(top / "moved")
    (top / ".git").write_text("gitdir: nowhere\n")


def break_ref(top: Path) -> None:
    (top / ".git" / "HEAD").write_text("ref: ../../outside\n")


def loop_ref(top: Path) -> None:
    (top / ".git" / "HEAD").write_text("ref: HEAD\n")


def empty_folder(top: Path) -> None:
    (top / ".git").rename(top / "moved")
    (top / ".git").mkdir()


@pytest.mark.parametrize(
    "damage",
    [break_head, break_link, break_ref, loop_ref, empty_folder],
    ids=lambda each: each.__name__,
)
def test_broken_repository_has_no_commit(tree: Path, damage: Callable[[Path], None]) -> None:
    damage(tree)
    assert commit_of(tree) is None


def test_split_index_is_compared(tree: Path) -> None:
    git(tree, "update-index", "--split-index")
    (tree / "b.py").write_text("changed\n")
    paths = [str(tree / name) for name in ("a.py", "b.py")]
    assert find_uncommitted(paths) == (paths[1:], True)


@pytest.mark.parametrize("damage", ["no git", "index"])
def test_files_are_not_compared_without_git_or_with_a_broken_index(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    if damage == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (tree / ".git" / "index").write_bytes(b"DIRC")
    assert find_uncommitted([str(tree / "a.py"), str(tmp_path / "outside.py")]) == ([], False)
