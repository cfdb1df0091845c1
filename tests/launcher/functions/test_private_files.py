"""Only what nobody else can have written is read; what is written appears whole."""

import os
from pathlib import Path

import pytest

from launcher.errors import MachineError
from launcher.functions.pickling import make_private_folder, open_private, write_private
from tests.launcher.users import NOBODY


def a_file(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    path = folder / "x"
    with write_private(path) as file:
        file.write(b"content")
    return path


def test_what_is_written_is_read_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    with open_private(path) as file:
        assert file.read() == b"content"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_read(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path / "own")
    path.chmod(mode)
    with pytest.raises(MachineError, match="others may write"), open_private(path):
        pass


def test_a_file_in_a_folder_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    path.parent.chmod(0o777)
    with pytest.raises(MachineError, match=f"others may write {path.parent}"), open_private(path):
        pass
    with pytest.raises(MachineError, match="others may write"):
        make_private_folder(path.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(MachineError, match="belongs to user"), open_private(path):
        pass


def test_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "own")
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)
    with pytest.raises(OSError, match="symbolic links"), open_private(link):
        pass
    with pytest.raises(MachineError, match="is not a file"), open_private(pipe):
        pass


def test_a_file_whose_writing_fails_is_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with write_private(tmp_path / "x") as file:
            file.write(b"half")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert [*tmp_path.iterdir()] == []
