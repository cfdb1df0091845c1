"""Copies of the code of a project: their files and links, projects and programs that are refused, and deletion."""

import os
import sys
from pathlib import Path

import pytest

from launcher.errors import Error
from launcher.snapshots import copies
from launcher.snapshots.attempts import CodeCopy
from launcher.snapshots.copies import (
    Snapshot,
    changed_file,
    delete_unused,
    describe_source,
    keep_snapshots,
    take_snapshot,
)
from launcher.snapshots.programs import (
    StartedProgram,
    code_folders,
    import_paths,
    python_start,
    refuse_hidden_modules,
)
from launcher.snapshots.reference import SnapshotReference
from launcher.snapshots.source_files import LARGE_BYTES, MOST_FILES, ProjectFile, find_top
from tests.launcher.snapshots.projects import commit, git, make_environment, write


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


def copy_of(snapshot: Snapshot) -> CodeCopy:
    home = snapshot.folder.parents[1]
    copy = f"snapshots/{snapshot.key}/project"
    return CodeCopy(str(home), SnapshotReference(copy, snapshot.manifest.top))


def test_copy_has_tracked_files_as_they_are_and_new_files_of_code(project: Path) -> None:
    write(project, {"new.py": "", "new.csv": "", "mypkg/new.yaml": "", "a/b.local.py": ""})
    (project / "train.py").write_text("changed = 1\n")
    (project / "train.py").chmod(0o755)
    os.utime(project / "train.py", (1e9, 1e9))
    write(project, {"mypkg/__pycache__/x.py": "", "p.egg-info/x.py": ""})
    snapshot = take(project)
    assert {*snapshot.manifest.files} == {
        *(".gitignore", "train.py", "mypkg/model.py", "new.py", "mypkg/new.yaml"),
    }
    script = Path(snapshot.copy, "train.py")
    assert script.read_text() == "changed = 1\n"
    assert (script.stat().st_mode & 0o777, script.stat().st_mtime) == (0o555, 1e9)
    links = {path.name for path in Path(snapshot.copy).iterdir() if path.is_symlink()}
    assert links == {"data", "new.csv", "a"}
    assert Path(snapshot.copy, "data/x.csv").read_text() == "1\n"
    assert not Path(snapshot.copy, ".git").exists()


def test_submodules_are_copied_and_large_files_are_links(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, {"sub.py": "x = 1\n"})
    commit(other)
    git(project, "submodule", "--quiet", "add", str(other), "lib")
    (project / "weights.bin").write_bytes(bytes(LARGE_BYTES + 1))
    git(project, "add", "--all")
    snapshot = take(project)
    assert "lib/sub.py" in snapshot.manifest.files
    assert Path(snapshot.copy, "weights.bin").readlink() == project / "weights.bin"


def test_links_in_the_tree_lead_to_the_copy(project: Path) -> None:
    (project / "absolute.py").symlink_to(project / "train.py")
    (project / "mypkg/relative.py").symlink_to("../train.py")
    git(project, "add", "--all")
    snapshot = take(project)
    for name in ("absolute.py", "mypkg/relative.py"):
        assert Path(snapshot.copy, name).resolve() == Path(snapshot.copy, "train.py").resolve()


def test_equal_code_has_one_copy_and_a_changed_copy_is_not_used(project: Path) -> None:
    first = take(project)
    write(project, {"results.csv": "1\n", "data/y.csv": ""})
    (project / "train.py").touch()
    assert take(project).folder == first.folder
    script = Path(first.copy, "train.py")
    script.unlink()
    script.write_text("x")
    assert changed_file(first) == "train.py"
    second = take(project)
    assert second.folder.name == f"{first.folder.name}.2"
    assert changed_file(second) == ""


def test_folder_without_git_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(Error, match="it is not in a git repository"):
        python_start_of(tmp_path / "plain", "python", "x.py")


def python_start_of(project: Path, *words: str) -> object:
    top = find_top(str(project))
    manifest = describe_source(project.parent / "snapshots", top).manifest
    return python_start(StartedProgram(words, str(project), dict(os.environ)), manifest, top)


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
            file.truncate(LARGE_BYTES)
    assert "its files have 200 MiB, and the limit is 200 MB" in refused(project)
    monkeypatch.setattr("launcher.snapshots.source_files.MOST_FILES", 3)
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


def test_module_of_an_import_path_must_not_hide_the_standard_library(project: Path) -> None:
    write(project, {"queue.py": "", "sub/q.py": ""})
    top = str(project)
    with pytest.raises(Error, match=r"queue.py would hide queue of the standard library"):
        refuse_hidden_modules(top, [""], [f"{top}/sub"])
    refuse_hidden_modules(top, [""], [top])
    refuse_hidden_modules(top, ["sub"], [])


def test_import_hooks_and_ignored_import_paths_are_refused(project: Path) -> None:
    python = str(make_environment(project / "data/venv"))
    manifest = take(project).manifest
    assert import_paths(python, [str(project / "mypkg")], manifest, str(project)) == ["mypkg"]
    with pytest.raises(Error, match="git ignores the import path"):
        import_paths(python, [str(project / "data")], manifest, str(project))
    (packages,) = (project / "data/venv/lib").glob("python3*/site-packages")
    (packages / "hook.py").write_text("import sys\nsys.meta_path.append(None)\n")
    (packages / "hook.pth").write_text("import hook\n")
    with pytest.raises(Error, match=r"hook.pth finds modules by an import hook"):
        import_paths(python, [], manifest, str(project))


def test_programs_that_are_no_part_of_the_copy_are_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!{sys.executable}\n")
    tool.chmod(0o755)
    (project / "a.local.py").touch()
    for words, reason in (
        ((str(tool),), "is a console script outside of the repository"),
        ((sys.executable, "a.local.py"), "is ignored by git"),
        ((sys.executable,), "has no script"),
    ):
        with pytest.raises(Error, match=reason):
            python_start_of(project, *words)
    assert python_start_of(project, sys.executable, "-u", "-m", "mypkg")
    monkeypatch.setattr("launcher.snapshots.programs.python_version", lambda _: (3, 10))
    with pytest.raises(Error, match=r"is older than Python 3\.11"):
        python_start_of(project, sys.executable, "-m", "mypkg")


def test_words_lead_to_the_copy_unless_they_are_written(project: Path) -> None:
    write(project, {"configs/a.yaml": "", "made.json": "", "configs/b.yaml": ""})
    copy = copy_of(take(project))
    words = ("python", "train.py", "c=configs/a.yaml", "configs/b.yaml", "--out", "made.json")
    started, found = copy.replaced_words(words, str(project), ["configs/b.yaml"])
    assert started == (
        *("python", f"{copy.path}/train.py", f"c={copy.path}/configs/a.yaml"),
        *("configs/b.yaml", "--out", "made.json"),
    )
    assert [*found] == [f"{project}/train.py", f"{project}/configs/a.yaml"]


def test_import_paths_begin_with_the_code_of_the_program(project: Path) -> None:
    write(project, {"sub/run.py": ""})
    copy = copy_of(take(project))
    before = {"PYTHONPATH": "/x"}
    assert copy.variables(("python", "sub/run.py"), str(project), before) == {
        "PYTHONPATH": f"{copy.path}/sub:/x"
    }
    assert copy.variables(("python", "-m", "mypkg"), str(project), {}) == {
        "PYTHONPATH": copy.path,
        "PYTHONSAFEPATH": "1",
    }
    manifest = take(project).manifest
    assert (
        code_folders(
            python_start(
                StartedProgram((sys.executable, "-P", "sub/run.py"), str(project), {}),
                manifest,
                str(project),
            ),
            (),
            str(project),
            manifest,
            str(project),
        )
        == []
    )


def test_written_file_whose_place_is_taken_is_kept_with_a_message(project: Path) -> None:
    snapshot = take(project)
    copy = copy_of(snapshot)
    write(Path(copy.path), {"out/a.csv": "mine", "mypkg/b.csv": "new"})
    write(project, {"out/a.csv": "taken"})
    (message,) = copy.move_written("3-1")
    kept = snapshot.folder / "kept/3-1/out/a.csv"
    assert message == (
        f"out/a.csv was written into the snapshot, and {project}/out/a.csv exists. It is kept as {kept}"
    )
    assert kept.read_text() == "mine"
    assert (project / "out/a.csv").read_text() == "taken"
    assert (project / "mypkg/b.csv").read_text() == "new"
    assert Path(copy.path, "mypkg/b.csv").readlink() == project / "mypkg/b.csv"


def test_file_that_a_process_still_writes_is_left_to_it(project: Path) -> None:
    copy = copy_of(take(project))
    with Path(copy.path, "open.csv").open("w"):
        assert [*copy.move_written("3-1")] == []
        assert not (project / "open.csv").exists()
    assert [*copy.move_written("4-1")] == []
    assert (project / "open.csv").exists()


def test_copy_is_completed_with_files_that_are_made_later(project: Path) -> None:
    copy = copy_of(take(project))
    write(project, {"mypkg/later.csv": "1"})
    assert copy.fault() == ""
    assert Path(copy.path, "mypkg/later.csv").read_text() == "1"
    (project / "mypkg/later.csv").unlink()
    assert copy.fault() == ""
    assert not Path(copy.path, "mypkg/later.csv").is_symlink()


def test_unused_copy_is_deleted_only_if_it_is_as_it_was_copied(project: Path) -> None:
    snapshot = take(project)
    folder, key = snapshot.folder.parent, snapshot.key
    assert delete_unused(folder, {key}) == (0, [])
    other = Path(snapshot.copy, "written.csv")
    other.touch()
    assert delete_unused(folder, set())[1] == [
        f"{snapshot.folder} contains written.csv, which a program wrote"
    ]
    other.unlink()
    Path(snapshot.copy, "mypkg/__pycache__").mkdir()
    assert delete_unused(folder, set()) == (snapshot.manifest.total_bytes, [])
    assert [*folder.iterdir()] == []
    assert (project / "data/x.csv").exists()
