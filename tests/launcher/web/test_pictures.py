import os
from pathlib import Path

import pytest

from launcher.web.run_data import (
    MOST_BYTES,
    MOST_OF_A_FOLDER,
    MOST_OF_A_JOB,
    find_pictures,
    opened,
    parts_of,
    type_of,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "net").mkdir(parents=True)
    return folder


def found(**folders: Path) -> list[str]:
    return [f"{each.folder}/{each.path}" for each in find_pictures(folders).pictures]


def test_pictures_are_found_near_the_top_first_and_nothing_else(folder: Path) -> None:
    for name in ("net/preview.png", "z.JPG", "a.svg", "notes.txt", "net/.hidden.png", "page.html"):
        (folder / name).write_bytes(b"x")
    assert found(run=folder) == ["run/a.svg", "run/z.JPG", "run/net/preview.png"]


def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    assert found(run=folder) == []
    for path in ("link.png", "out/secret.png"):
        with pytest.raises(OSError, match=r"symbolic|directory"), opened(folder, path):
            pass


@pytest.mark.parametrize(
    "path", ["../secret.png", "net/../../secret.png", "/etc/passwd", "net//a.png", "", ".", "a\0b"]
)
def test_a_path_that_leads_out_is_none(path: str) -> None:
    with pytest.raises(ValueError, match="no path below"):
        parts_of(path)


def test_a_file_below_a_folder_is_opened(folder: Path) -> None:
    (folder / "net" / "preview.png").write_bytes(b"content")
    with opened(folder, "net/preview.png") as (file, status):
        assert (file.read(), status.st_size) == (b"content", 7)


def test_what_is_no_plain_file_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert found(run=folder) == []
    for path in ("pipe.png", "net", "none.png"):
        with pytest.raises(OSError, match=r"plain file|No such"), opened(folder, path):
            pass


def test_an_output_that_is_a_picture_stands_for_itself_alone(folder: Path) -> None:
    for name in ("plot.png", "other.png"):
        (folder / name).write_bytes(b"x")
    output = folder / "plot.png"
    assert found(**{"output-3-0": output}) == ["output-3-0/plot.png"]
    with opened(output, "plot.png") as (file, _):
        assert file.read() == b"x"
    with pytest.raises(OSError, match="directory"), opened(output, "other.png"):
        pass


def test_a_data_set_does_not_fill_the_page(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(b"x")
        (data / f"{number:02}.png").write_bytes(b"x")
    gallery = find_pictures({"run": folder, "output-1-0": data})
    by_folder = [picture.folder for picture in gallery.pictures]
    assert by_folder.count("run") == MOST_OF_A_FOLDER
    assert by_folder.count("output-1-0") == MOST_OF_A_JOB
    assert gallery.left_out == 80 - MOST_OF_A_FOLDER - MOST_OF_A_JOB
    assert gallery.pictures[0].job is None
    assert gallery.pictures[-1].job == 1


def test_a_large_picture_is_listed_as_too_large(folder: Path) -> None:
    with (folder / "sheet.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (picture,) = find_pictures({"run": folder}).pictures
    assert picture.too_large


def test_a_folder_that_is_not_there_has_no_pictures(tmp_path: Path) -> None:
    assert found(run=tmp_path / "none") == []


def test_names_that_no_address_can_hold_are_left_out(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"x")
    (folder / "a\nb.png").write_bytes(b"x")
    assert found(run=folder) == []


def test_only_pictures_have_a_type() -> None:
    assert type_of("a/B.PNG") == "image/png"
    assert [type_of(name) for name in ("page.html", "png", "a.png.py", "passwd")] == [""] * 4
