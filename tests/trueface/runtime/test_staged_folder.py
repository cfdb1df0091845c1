import fcntl
import os
from pathlib import Path

import pytest

from trueface.runtime.staged_folder import put_in_place, staged


def fill(folder: Path, text: str) -> None:
    (folder / "a.txt").write_text(text)


def test_a_folder_takes_the_place_of_another_and_nothing_is_left_beside(tmp_path: Path) -> None:
    place = tmp_path / "m"
    for text in ("first", "second"):
        with staged(place) as new:
            fill(new, text)
            put_in_place(new, place)
        assert (place / "a.txt").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_after_an_error_what_was_there_is_there(tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    fill(place, "first")
    with pytest.raises(ZeroDivisionError), staged(place) as new:
        fill(new, str(1 / 0))
    assert (place / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_fills_stays(
    tmp_path: Path,
) -> None:
    left, held = (tmp_path / f".m.{name}.staged" for name in ("left", "held"))
    for folder in (left, held):
        folder.mkdir()
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with staged(tmp_path / "m"):
        assert (left.exists(), held.exists()) == (False, True)
    os.close(descriptor)
