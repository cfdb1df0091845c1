"""Where pilots' folders lie, and that they are one queue's."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.backends.channel import PilotFolder, PilotSpec, make_pilot_folder
from launcher.backends.pilot_records import (
    FolderTaken,
    backend_folder,
    clear_folder,
    clear_leftovers,
    take_folder,
)
from launcher.backends.settings import BackendSettings
from launcher.system.paths import Home

LOCAL = "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
NETWORK = "2 1 0:40 / /home rw - nfs4 server:/home rw\n"


def settings(kind: str = "slurm", folder: Path | None = None) -> BackendSettings:
    return BackendSettings(name="lab", kind=kind, folder=folder)


def test_pilots_lie_where_the_nodes_see_them() -> None:
    user = Path("/home/ann")
    here, there = Home(Path("/var/tmp/launcher-1")), Home(Path("/home/ann/queue"))
    own = here.folder / "pilots"
    assert backend_folder(settings(), here, user, LOCAL) == own
    assert backend_folder(settings(), here, user, LOCAL + NETWORK).is_relative_to(user)
    assert backend_folder(settings("local"), here, user, LOCAL + NETWORK) == own
    assert backend_folder(settings(), there, user, LOCAL + NETWORK) == there.folder / "pilots"
    chosen = Path("/scratch/pilots")
    assert backend_folder(settings(folder=chosen), here, user, LOCAL + NETWORK) == chosen


def test_two_homes_have_two_folders_in_one_home_directory() -> None:
    user = Path("/home/ann")
    folders = {
        backend_folder(settings(), Home(Path(f"/var/tmp/{name}")), user, LOCAL + NETWORK)
        for name in ("a", "b")
    }
    assert len(folders) == 2


def test_a_folder_stays_its_queues_own(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "pilots"
    take_folder(folder, Home(tmp_path / "first"))
    take_folder(folder, Home(tmp_path / "first"))
    with pytest.raises(FolderTaken, match="first of host"):
        take_folder(folder, Home(tmp_path / "second"))


def test_a_folder_of_another_host_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    take_folder(tmp_path, home)
    owner = json.loads((tmp_path / "owner.json").read_text())
    (tmp_path / "owner.json").write_text(json.dumps(owner | {"machine": "x", "host": "login2"}))
    with pytest.raises(FolderTaken, match="login2"):
        take_folder(tmp_path, home)


def test_a_damaged_record_of_the_owner_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text("{")
    with pytest.raises(FolderTaken, match="cannot be understood"):
        take_folder(tmp_path, Home(tmp_path / "home"))
    assert (tmp_path / "owner.json").read_text() == "{"


def test_of_two_queues_that_take_a_folder_at_once_one_has_it(tmp_path: Path) -> None:
    def take(name: int) -> bool:
        try:
            take_folder(tmp_path / "pilots", Home(tmp_path / str(name)))
        except FolderTaken:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1
    assert [path.name for path in (tmp_path / "pilots").iterdir()] == ["owner.json"]


def test_a_pilots_folder_is_deleted_when_no_attempt_is_kept_there(tmp_path: Path) -> None:
    folder = PilotFolder(tmp_path / "launcher-0")
    spec = PilotSpec(token="launcher-0", backend="lab", version="1", cpus=1)
    make_pilot_folder(folder, spec)
    (folder.attempts / "1-1").mkdir()
    assert not clear_folder(folder)
    assert folder.log.exists()
    (folder.attempts / "1-1").rmdir()
    assert clear_folder(folder)
    assert not folder.folder.exists()
    assert clear_folder(folder)


def test_folders_are_deleted_after_their_last_attempt_was(tmp_path: Path) -> None:
    names = [f"launcher-{number:020x}" for number in range(3)]
    for name in names:
        spec = PilotSpec(token=name, backend="lab", version="1", cpus=1)
        make_pilot_folder(PilotFolder(tmp_path / name), spec)
        (tmp_path / name / "process.json").touch()
    (tmp_path / names[0] / "attempts" / "1-1").mkdir()
    (tmp_path / "other").mkdir()
    home, other = Home(tmp_path / "home"), Home(tmp_path / "another")
    take_folder(tmp_path, other)
    clear_leftovers(tmp_path, home, [].__contains__)
    assert {*names} < {path.name for path in tmp_path.iterdir()}, "they are another queue's"
    clear_leftovers(tmp_path, other, [names[1]].__contains__)
    assert {path.name for path in tmp_path.iterdir()} == {*names[:2], "other", "owner.json"}
    clear_leftovers(tmp_path / "nowhere", other, [].__contains__)
