"""Copies of the code of a project: their files and links, projects and programs that are refused, and deletion."""

import os
import sys
from pathlib import Path

import pytest

from launcher.provenance.snapshots import copies
from launcher.provenance.snapshots.copies import (
    Snapshot,
    changed_file,
    delete_unused,
    describe_source,
    keep_snapshots,
    take_snapshot,
)
from launcher.provenance.snapshots.programs import (
    StartedProgram,
    check_program,
    find_top,
    unheld_script,
)
from launcher.provenance.snapshots.source_files import MOST_FILES, ProjectFile
from launcher.provenance.snapshots.startup.launcher_snapshot.processes import lost_variables
from launcher.system.errors import Error
from launcher.system.snapshot_setting import DEFAULT_FILE_LIMIT
from tests.launcher.snapshots.projects import commit, git, write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a script and a package."""
    folder = tmp_path / "project"
    write(folder, {"train.py": "import mypkg\n", "mypkg/model.py": "x = 1\n", "data/x.csv": "1\n"})
    (folder / ".gitignore").write_text("data/\n*.local.py\n")
    commit(folder)
    return folder


def take(project: Path) -> Snapshot:
    folder = project.parent / "home/snapshots"
    folder.parent.mkdir(exist_ok=True)
    with keep_snapshots(folder):
        return take_snapshot(folder, describe_source(folder, str(project)))


def refused(project: Path) -> str:
    """Return why no snapshot is taken; nothing of it is left."""
    with pytest.raises(Error) as error:
        take(project)
    assert not (project.parent / "home/snapshots").exists()
    return str(error.value)


def test_copy_has_tracked_files_as_they_are_and_others_that_git_does_not_ignore(
    project: Path,
) -> None:
    write(project, {"new.py": "", "new.cu": "", "mypkg/prompt": "", "a/b.local.py": ""})
    (project / "train.py").write_text("changed = 1\n")
    (project / "train.py").chmod(0o755)
    os.utime(project / "train.py", (1e9, 1e9))
    write(project, {"mypkg/__pycache__/x.py": "", "p.egg-info/x.py": ""})
    snapshot = take(project)
    assert {*snapshot.manifest.files} == {
        *(".gitignore", "train.py", "mypkg/model.py", "new.py", "new.cu", "mypkg/prompt"),
    }
    script = Path(snapshot.copy, "train.py")
    assert script.read_text() == "changed = 1\n"
    assert (script.stat().st_mode & 0o777, script.stat().st_mtime) == (0o755, 1e9)
    assert {path.name for path in snapshot.folder.iterdir()} == {
        *("project", "manifest.json", "index"),
    }


def test_submodules_are_copied_and_large_files_are_left_out(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, {"sub.py": "x = 1\n"})
    commit(other)
    git(project, "submodule", "--quiet", "add", str(other), "lib")
    (project / "weights.bin").write_bytes(bytes(1001))
    git(project, "add", "--all")
    write(project, {"other.bin": "x" * 1002})
    source = describe_source(tmp_path / "home/snapshots", str(project), 1000)
    assert "lib/sub.py" in source.manifest.files
    assert source.left_out == {"weights.bin": 1001, "other.bin": 1002}


def test_data_that_is_not_tracked_is_left_out_if_all_files_are_too_many(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.provenance.snapshots.source_files.MOST_FILES", 4)
    write(project, {"new.py": "", "x.csv": "", "y.csv": "12"})
    source = describe_source(project.parent / "home/snapshots", str(project))
    assert source.left_out == {"x.csv": 0, "y.csv": 2}
    assert "new.py" in source.manifest.files


def test_links_in_the_tree_lead_to_the_copy(project: Path) -> None:
    (project / "absolute.py").symlink_to(project / "train.py")
    (project / "mypkg/relative.py").symlink_to("../train.py")
    git(project, "add", "--all")
    snapshot = take(project)
    for name in ("absolute.py", "mypkg/relative.py"):
        assert Path(snapshot.copy, name).resolve() == Path(snapshot.copy, "train.py").resolve()


def test_equal_code_has_one_copy_and_a_changed_copy_is_not_used(project: Path) -> None:
    first = take(project)
    write(project, {"data/y.csv": ""})
    (project / "train.py").touch()
    assert take(project).folder == first.folder
    script = Path(first.copy, "train.py")
    script.unlink()
    script.write_text("x")
    assert changed_file(first) == "train.py"
    second = take(project)
    assert second.folder.name == f"{first.folder.name}.2"
    assert changed_file(second) == ""


def test_copies_share_equal_files(project: Path) -> None:
    first = take(project)
    write(project, {"results.txt": "1\n"})
    second = take(project)
    assert second.folder != first.folder
    inodes = [Path(each.copy, "train.py").stat().st_ino for each in (first, second)]
    assert inodes[0] == inodes[1]
    assert changed_file(second) == ""


def program(folder: Path, *words: str) -> StartedProgram:
    return StartedProgram(words, str(folder), dict(os.environ))


def test_advice_about_a_folder_without_git_fits_the_script(project: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    write(plain, {"x.py": "", "other/y.py": "", "pkg/z.py": ""})
    other = tmp_path / "other"
    write(other, {"a.py": ""})
    commit(other)
    for folder, words, advice in (
        (plain, ("python", "x.py"), "To make it one: git init."),
        (plain, ("python", "-m", "pkg.z"), "To make it one: git init."),
        (plain, ("python", "-m", "nothing"), "Change to the folder of the project."),
        (plain / "other", ("python", "../x.py"), f"make it a repository: cd {plain}."),
        (plain, ("python", f"{project}/train.py"), f"Change to its folder: cd {project}."),
        (plain, (f"{project}/train.py",), f"Change to its folder: cd {project}."),
        (project, ("python", "../other/a.py"), f"Change to its folder: cd {other}."),
    ):
        with pytest.raises(Error) as error:
            find_top(str(folder), [program(folder, *words)])
        assert str(error.value).endswith(advice)
    assert find_top(str(project / "mypkg"), [program(project, "make")]) == str(project)


def test_link_out_of_the_tree_is_refused(project: Path) -> None:
    (project / "etc.conf").symlink_to("/etc/hostname")
    assert "etc.conf is a link to /etc/hostname, outside of the repository" in refused(project)


def test_name_that_is_not_utf8_is_refused(project: Path) -> None:
    Path(os.fsdecode(os.fsencode(project) + b"/\xff.py")).touch()
    assert r"the name \xff.py is not UTF-8" in refused(project)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folder_that_cannot_be_read_is_refused(project: Path) -> None:
    (project / "mypkg").chmod(0)
    try:
        assert "mypkg" in refused(project)
    finally:
        (project / "mypkg").chmod(0o755)


def test_too_large_a_project_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(21):
        with (project / f"{number}.json").open("wb") as file:
            file.truncate(DEFAULT_FILE_LIMIT)
    assert "its files have 210 MiB, and the limit is 200 MB" in refused(project)
    monkeypatch.setattr("launcher.provenance.snapshots.source_files.MOST_FILES", 3)
    assert "it has more than 3 files" in refused(project)
    assert MOST_FILES == 20_000


def test_file_that_changes_while_it_is_copied_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_first(top: str, source: dict[str, ProjectFile]) -> None:
        (project / "train.py").write_text("changed = 2\n")
        refuse(top, source)

    refuse = copies._refuse_changed
    monkeypatch.setattr(copies, "_refuse_changed", write_first)
    assert "train.py changed while it was copied" in refused(project)


def test_full_disk_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "write_all", fail)
    assert "No space left on device. Nothing was queued" in refused(project)


def test_programs_that_cannot_follow_the_copy_are_refused(project: Path, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    write(tmp_path, {"tool": f"#!{sys.executable}\n"})
    tool.chmod(0o755)
    write(project, {"a.local.py": "", "run.sh": "PYTHONPATH=. python train.py\n"})
    manifest = take(project).manifest
    for words, reason in (
        ((sys.executable, "a.local.py"), "is ignored by git"),
        ((sys.executable, "missing.py"), "does not exist"),
        ((sys.executable, "/etc/x.py"), "is outside of the repository"),
        (("env", "-i", sys.executable, "train.py"), "removes the variables of the job"),
        (("env", "PYTHONPATH=x", sys.executable, "train.py"), "PYTHONPATH is set"),
        ((sys.executable, "-uI", "train.py"), "with -I Python does not read the snapshot"),
        ((sys.executable, "-S", "train.py"), "with -S Python does not read the snapshot"),
    ):
        with pytest.raises(Error, match=reason):
            check_program(program(project, *words), manifest, str(project))
    for held, script in (
        ((str(tool),), ""),
        (("make", "all"), ""),
        ((sys.executable, "-um", "mypkg"), ""),
        ((sys.executable, f"{Path(sys.executable).parent}/coverage"), ""),
        ((sys.executable, "{job_folder}/x.py"), ""),
        (("bash", "run.sh"), "run.sh"),
    ):
        started = program(project, *held)
        check_program(started, manifest, str(project))
        assert unheld_script(started, manifest, str(project)) == script
    assert lost_variables((project / "run.sh").read_text())
    assert not lost_variables("export PYTHONPATH=src:$PYTHONPATH # PYTHONPATH=.\n")


def test_unused_copy_is_deleted_only_if_it_is_as_it_was_copied(project: Path) -> None:
    snapshot = take(project)
    folder, key = snapshot.folder.parent, snapshot.key
    assert delete_unused(folder, {key}) == (0, [])
    other = Path(snapshot.copy, "written.csv")
    other.touch()
    assert delete_unused(folder, set())[1] == [
        f"{snapshot.folder} contains project/written.csv, which a program wrote"
    ]
    other.unlink()
    beside = snapshot.folder / "results/model.txt"
    write(snapshot.folder, {"results/model.txt": "three days"})
    (why,) = delete_unused(folder, set())[1]
    assert why == f"{snapshot.folder} contains results/model.txt, which a program wrote"
    beside.unlink()
    beside.parent.rmdir()
    write(Path(snapshot.copy), {"mypkg/__pycache__/model.cpython-311.pyc": ""})
    Path(snapshot.copy, "data").symlink_to(project / "data")  # as earlier versions made it
    (snapshot.folder.parent / "0123.written").touch()
    assert delete_unused(folder, set()) == (snapshot.manifest.total_bytes, [])
    assert [*folder.iterdir()] == []
    assert (project / "data/x.csv").exists()
