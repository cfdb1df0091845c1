import os
import subprocess
from pathlib import Path

import pytest

import launcher
from launcher.provenance.git import worktree

MODULE = "toymodule_of_a_test"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit and a name that has to be quoted."""
    top = tmp_path / "project"
    (top / "in side").mkdir(parents=True)
    (top / "in side" / "ü.py").write_text("1\n")
    (top / "moved.py").write_text("a file\nthat git knows again\n")
    (top / f"{MODULE}.py").write_text("")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    return top


def git(top: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    said = subprocess.run(
        ["git", *who, *words],
        cwd=top,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return said.stdout.strip()


def test_changed_files_are_named_from_the_top_and_marked(tree: Path) -> None:
    (tree / "in side" / "ü.py").write_text("2\n")
    git(tree, "mv", "moved.py", "there.py")
    found = worktree(tree / "in side")
    assert found is not None
    assert set(found.changed) == {"in side/ü.py", "there.py", "moved.py"}
    assert found.short.endswith("*")


def test_modules_with_changed_files_are_reported(
    tree: Path,
) -> None:
    file = tree / f"{MODULE}.py"
    file.write_text("changed = True\n")
    found = worktree(tree, {MODULE: file, "launcher": Path(launcher.__file__)})
    assert found is not None
    assert found.modules == {MODULE: (f"{MODULE}.py",)}


def test_inspection_writes_nothing(tree: Path) -> None:
    (tree / "moved.py").touch()  # git would like to note the new time in its index
    before = {path: path.stat().st_mtime_ns for path in (tree / ".git").rglob("*")}
    assert worktree(tree) is not None
    assert {path: path.stat().st_mtime_ns for path in (tree / ".git").rglob("*")} == before


def test_no_state_without_repository_commit_or_git(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worktree(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert worktree(tmp_path) is None
    monkeypatch.setitem(os.environ, "PATH", str(tree))
    assert worktree(tree) is None
