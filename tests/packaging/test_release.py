"""`make release`: a tree that is not ready is refused, and builds do not depend on the machine."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import release
import release_checks
from tests.launcher.system.test_git import git

METADATA = (
    b"Name: launcher-trueface\nVersion: 1.0\nLicense-Expression: MIT\nLicense-File: LICENSE\n"
    b"Requires-Python: >=3.11\nDescription-Content-Type: text/markdown\n\n# Title\n"
)
WHEEL = {
    "launcher/commit.txt": b"",
    "launcher/pages/README.md": b"",
    "launcher_trueface-1.0.data/data/share/man/man1/launcher.1": b"",
    "launcher_trueface-1.0.dist-info/METADATA": METADATA,
    "launcher_trueface-1.0.dist-info/licenses/LICENSE": b"",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit, of version 1.0."""
    for package in ("launcher", "trueface"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('__version__ = "1.0"\n')
    (tmp_path / "setup.cfg").write_text("[metadata]\nversion = 1.0\n")
    (tmp_path / "CITATION.cff").write_text("title: x\nversion: 1.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.0\n")
    (tmp_path / ".gitignore").write_text("*.egg-info/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_clean_tree_is_ready_also_with_its_own_tag(tree: Path) -> None:
    git(tree, "tag", "v1.0")
    (tree / "launcher_trueface.egg-info").mkdir()
    (tree / "launcher_trueface.egg-info" / "PKG-INFO").write_text("Name: x\nVersion: 1.0\n")
    assert release.read_version(tree) == "1.0"
    assert release.check_tree(tree, "1.0") == git(tree, "rev-parse", "HEAD")


def test_tree_that_is_not_ready_is_refused_in_one_sentence(tree: Path) -> None:
    def refusal() -> str:
        with pytest.raises(release.ReleaseError) as raised:
            release.check_tree(tree, release.read_version(tree))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    (tree / "new.py").write_text("")
    (tree / "setup.cfg").write_text("[metadata]\nversion = 1.0\n# changed\n")
    assert refusal().startswith("the tree has changes: setup.cfg and 1 more. Commit or remove them")
    git(tree, "tag", "v1.0")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "second")
    assert "the tag v1.0 names commit" in refusal()
    git(tree, "tag", "-d", "v1.0")
    (tree / "old.egg-info").mkdir()
    assert refusal() == "old.egg-info is not of version 1.0. Delete it: rm -r old.egg-info"
    (tree / "CHANGELOG.md").write_text("## 0.9\n")
    (tree / "trueface" / "__init__.py").write_text('__version__ = "0.9"\n')
    assert refusal().startswith("trueface/__init__.py and CHANGELOG.md do not have version 1.0 of")


@pytest.mark.parametrize(
    ("output", "free_bytes", "reason"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'\n", 10**9, "became full. Delete files"),
        ("Error: Command 'ensurepip' returned exit status 1.\n", 4096, "became full. Delete files"),
        ("WARNING: Retrying: NewConnectionError('x')\n", 10**9, "cannot reach the package index"),
        ("error: no manual pages\nother\n", 10**9, "a step of the build failed: error: no manual"),
        ("", 10**9, "a step of the build failed: no output"),
    ],
)
def test_failed_step_is_explained_in_one_line(output: str, free_bytes: int, reason: str) -> None:
    told = release.explain(output, free_bytes)
    assert reason in told
    assert "\n" not in told


def test_repacked_archive_has_sorted_names_one_time_and_no_owner(tmp_path: Path) -> None:
    digests = set()
    for number, (mode, names) in enumerate([(0o600, "ab"), (0o664, "ba")]):
        folder = tmp_path / f"x{number}" / "x-1.0"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(name)
            (folder / name).chmod(mode)
            os.utime(folder / name, (number, number))
        archive = tmp_path / f"{number}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name in names:
                tar.add(folder / name, f"x-1.0/{name}")
        release.repack(archive, 1_700_000_000)
        digests.add(archive.read_bytes())
    assert len(digests) == 1
    with tarfile.open(tmp_path / "1.tar.gz") as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == ["x-1.0/a", "x-1.0/b"]
    assert {(each.mode, each.mtime, each.uid, each.uname) for each in entries} == {
        (0o644, 1_700_000_000, 0, "")
    }


def test_complete_wheel_has_no_faults() -> None:
    assert [*release_checks.wheel_faults(WHEEL, "1.0")] == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tests/data/faces.npz", b"", "the folder tests does not belong into it"),
        ("launcher/commit.txt", None, "the file launcher/commit.txt is missing"),
        (
            "launcher_trueface-1.0.dist-info/METADATA",
            METADATA.replace(b"MIT", b"GPL"),
            "the metadata have License-Expression GPL instead of MIT",
        ),
        (
            "launcher_trueface-1.0.dist-info/METADATA",
            METADATA.replace(b"# Title\n", b""),
            "the metadata have no description",
        ),
    ],
)
def test_fault_of_a_wheel_is_named(name: str, content: bytes | None, fault: str) -> None:
    files = {key: value for key, value in {**WHEEL, name: content}.items() if value is not None}
    assert [*release_checks.wheel_faults(files, "1.0")] == [fault]


def test_files_with_machine_paths_and_large_files_are_found() -> None:
    files = {"a.py": b"x = '/home/kim/clone/a'", "docs/preview.png": b"1" * 200_001, "b": b"/home"}
    assert [*release_checks.path_faults(files, ["/home/kim/clone/"])] == [
        "a.py contains the path /home/kim/clone/ of this machine"
    ]
    large = release_checks.large_files({**files, "c": b"1" * 200_001})
    assert large == {"c": None, "docs/preview.png": "picture of training images"}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_refuses_an_old_or_missing_python() -> None:
    root = Path(__file__).parents[2]
    command = ["make", "--no-print-directory", "PYTHON=nosuch", "release"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("error: 'nosuch' is no Python of 3.11 or newer. Name one: make ")
