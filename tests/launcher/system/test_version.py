"""The version line: number and commit."""

from pathlib import Path

import pytest

from launcher import __version__
from launcher.frontends.version import read_commit, version_line, with_commit
from tests.launcher.system.test_git import git

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("commit", "line"),
    [
        (None, "1.0"),
        (COMMIT, "1.0 (commit 0123456789ab)"),
        (f"{COMMIT}*", "1.0 (with changes, commit 0123456789ab)"),
    ],
)
def test_version_names_the_commit_and_changes(commit: str | None, line: str) -> None:
    assert with_commit("1.0", commit) == line


def test_commit_is_that_of_the_built_package_or_of_its_own_checkout(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert read_commit(package) == commit
    (package / "code.py").write_text("1")
    assert read_commit(package) == f"{commit}*"
    inner = package / "environment" / "package"
    inner.mkdir(parents=True)
    assert read_commit(inner) is None, "the repository of another project"
    (inner / "commit.txt").write_text(f"{COMMIT}\n")
    assert read_commit(inner) == COMMIT


def test_line_begins_with_program_and_version() -> None:
    assert version_line("trueface", __version__).startswith(f"trueface, version {__version__}")
