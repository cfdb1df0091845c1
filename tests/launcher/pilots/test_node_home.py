import os
import zipfile
from pathlib import Path

import pytest

from launcher.backends.channel import Leave, PilotFolder
from launcher.backends.node_attempts import (
    PREFIX,
    STALE_S,
    make_node_home,
    remove_node_home,
    unpacked,
)
from launcher.states import Done, Failed
from launcher.system.paths import Home
from launcher.system.processes import live_in
from tests.build import a_context, a_spec, until
from tests.launcher.pilots.conftest import MakeDesk

LABORATORY = """
from pathlib import Path
def run(job):
    return {"data": (Path(__file__).parent / "data.txt").read_text()}
"""


def an_archive(folder: Path, text: str) -> Path:
    archive = folder / "code" / "0123456789abcdef.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("travelling/__init__.py", "")
        file.writestr("travelling/work.py", LABORATORY)
        file.writestr("travelling/data.txt", text)
    return archive


def test_a_laboratorys_code_travels_as_its_archive_with_its_data(
    desk_of: MakeDesk, tmp_path: Path
) -> None:
    archive = an_archive(tmp_path, "forty-two")
    desk = desk_of().start()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{archive}{os.pathsep}/nowhere"}
    spec = a_spec(argv=(), entry="travelling.work:run", kind="toy")
    desk.run(spec=spec, context=a_context(environment=environment))
    outcome = desk.outcome()
    assert isinstance(outcome, Done), outcome
    assert outcome.result == {"data": "forty-two"}


def test_an_archive_is_unpacked_once_and_other_entries_stay(tmp_path: Path) -> None:
    archive = an_archive(tmp_path, "a")
    home = Home(tmp_path / "disk")
    path = unpacked(f"/one{os.pathsep}{archive}", home)
    first, folder = path.split(os.pathsep)
    assert first == "/one"
    (Path(folder) / "mark").touch()
    assert unpacked(str(archive), home) == folder
    assert (Path(folder) / "mark").exists()
    assert unpacked("", home) == ""


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.zip"):
        unpacked(str(tmp_path / "gone.zip"), Home(tmp_path / "disk"))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        unpacked(str(tmp_path / "bad.zip"), Home(tmp_path / "disk"))


def test_what_killed_pilots_left_on_a_node_is_deleted_but_nothing_in_use(tmp_path: Path) -> None:
    old, used, young = (tmp_path / f"{PREFIX}{name}" for name in ("old", "used", "young"))
    for folder in (old, used, young):
        folder.mkdir()
    long_ago = young.stat().st_mtime - 2 * STALE_S
    for folder in (old, used):
        os.utime(folder, (long_ago, long_ago))
    held = live_in(used)
    home = make_node_home(PilotFolder(tmp_path / "pilot"), tmp_path)
    assert [folder.exists() for folder in (old, used, young)] == [False, True, True]
    remove_node_home(home)
    assert not home.folder.exists()
    assert held is not None
    os.close(held)


def test_a_pilot_leaves_nothing_on_its_node(desk_of: MakeDesk, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    desk = desk_of().start({"TMPDIR": str(scratch)})
    desk.run(spec=a_spec("true"))
    desk.ended()
    assert len([*scratch.iterdir()]) == 1
    desk.send(Leave())
    desk.bye()
    desk.exit_code()
    assert [*scratch.iterdir()] == []
    mark = f"LAUNCHER_PILOT={desk.folder.token}".encode()
    until(lambda: not _marked(mark), "its fork servers and supervisors have left")


def test_an_interpreter_that_the_node_lacks_fails_the_job_by_name(desk_of: MakeDesk) -> None:
    desk = desk_of().start()
    spec = a_spec(argv=(), entry="travelling.work:run", kind="toy")
    desk.run(spec=spec, context=a_context(interpreter="/nowhere/python"))
    outcome = desk.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error == "cannot run /nowhere/python: No such file or directory"


def _marked(mark: bytes) -> list[str]:
    marked = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                marked.append(entry.name)
        except OSError:
            continue
    return marked
