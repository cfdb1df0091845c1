"""Image sets of others: what an import writes and which images it takes."""

import fcntl
import os
from pathlib import Path

import pytest
import yaml

from tests.trueface.data.imports.conftest import Files
from trueface.data.dataset_file import read_words, video_sources, write_video_sources
from trueface.data.imports.arrangement import arrange
from trueface.data.imports.csv_table import CsvTable
from trueface.data.imports.registry import ImportedImage, LayoutOptions
from trueface.data.imports.writing import (
    ImportRecord,
    compared,
    joined_record,
    opened,
    read_record,
    write_root,
)
from trueface.data.splits import read_lists
from trueface.runtime.errors import DataError, MachineError, UsageError

LISTS = {"train": ("gen/a",), "val": (), "test": ()}


@pytest.fixture
def images(tmp_path: Path) -> list[ImportedImage]:
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "set" / name).write_bytes(b"x")
    return [
        ImportedImage(str(tmp_path / "set" / name), 1, "gen", f"v/{name}", "c23", is_frame=True)
        for name in ("a.png", "b.png")
    ]


def write(root: Path, images: list[ImportedImage], *, copy: bool = False) -> ImportRecord:
    arrangement = arrange(images)
    with opened(root, dry=False):
        before = read_record(root)
        difference = compared(before, arrangement)
        record = joined_record(before, arrangement, difference, ("folders", "set"))
        write_root(root, record, difference.new, split_path=root / "splits", lists=LISTS, copy=copy)
    return record


def test_a_root_holds_links_lists_words_groups_and_videos(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "a${HOME}: b"  # what looks like a variable is none
    record = write(root, images)
    content = yaml.safe_load((root / "dataset.yaml").read_text())
    assert content["defaults"]["data_root"] == str(root).replace("${", "$${")
    link = root / "c23/Fake/gen/v/a.png"
    assert link.readlink() == tmp_path / "set" / "a.png"
    assert read_lists(root / "splits") == {name: list(keys) for name, keys in LISTS.items()}
    assert read_record(root) == record
    assert video_sources(root) == {"gen"}
    words = read_words(root)
    assert (words.subsets, words.modifiers) == ({"gen": ("gen",)}, {"c23": ("c23",)})
    assert set(tmp_path.iterdir()) == {tmp_path / "set", root}


def test_a_second_import_adds_what_is_new_and_keeps_the_rest(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    write(root, images[:1])
    inode = (root / "c23/Fake/gen/v/a.png").lstat().st_ino
    record = write(root, images)
    assert len(record.files) == 2
    assert (root / "c23/Fake/gen/v/a.png").lstat().st_ino == inode
    assert compared(record, arrange(images)).new == {}


def test_what_is_another_thing_or_changed_or_being_written_is_left_alone(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    write(root, images[:1])
    with pytest.raises(UsageError, match="holds other files"):
        write(tmp_path / "set", images)
    with opened(root, dry=False), pytest.raises(UsageError, match="another import"):
        write(root, images)
    other = root / "c23/Fake/gen/v/b.png"
    other.symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="is there already and is no link to"):
        write(root, images)
    other.unlink()
    write(root, images)
    (tmp_path / "set" / "b.png").write_bytes(b"yy")
    with pytest.raises(DataError, match=r"1 images were changed .*set/b\.png"):
        write(root, images)


def test_what_a_killed_import_left_is_taken_up_or_removed(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    root = tmp_path / "root"
    stale = tmp_path / ".root.abcdef.staged"
    stale.mkdir()
    running = tmp_path / ".root.123456.staged"
    running.mkdir()
    held = os.open(running, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write(root, images[:1])
    os.close(held)
    assert (stale.exists(), running.exists()) == (False, True)
    # killed while it added: the link is there, and no list or record names it
    (root / "c23/Fake/gen/v/b.png").symlink_to(images[1].file)
    assert len(write(root, images).files) == 2


def test_copies_are_files_and_an_error_leaves_nothing(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    write(tmp_path / "root", images, copy=True)
    copy = tmp_path / "root/c23/Fake/gen/v/a.png"
    assert copy.is_file()
    assert not copy.is_symlink()
    arrangement = arrange(images)
    difference = compared(ImportRecord(), arrangement)
    (tmp_path / "set" / "b.png").unlink()
    with pytest.raises(MachineError, match="nothing of it is in use"):
        write_root(
            tmp_path / "other",
            joined_record(ImportRecord(), arrangement, difference, ("x", "y")),
            difference.new,
            split_path=tmp_path / "other" / "splits",
            lists=LISTS,
            copy=True,
        )
    assert {path.name for path in tmp_path.iterdir()} == {"set", "root"}


def test_an_image_that_is_named_and_does_not_exist_is_told(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    (tmp_path / "set" / "b.png").unlink()
    (tmp_path / "set" / "b.png").mkdir()
    arrangement = arrange(images)
    difference = compared(ImportRecord(), arrangement)
    assert difference.missing == (images[1].file,)
    (left,) = arrangement.without(difference.missing).images
    assert left.key == "gen/v/a"
    with pytest.raises(DataError, match="none of 2 images exists"):
        arrangement.without(image.file for image in images)


def test_a_record_of_another_version_is_not_guessed(
    tmp_path: Path, images: list[ImportedImage]
) -> None:
    write(tmp_path / "root", images)
    (tmp_path / "root/import.json").write_text('{"schema": 9}')
    with pytest.raises(DataError, match="schema 9 is unknown here; import into a new folder"):
        read_record(tmp_path / "root")


def test_a_data_root_names_the_sources_that_are_videos(tmp_path: Path) -> None:
    assert video_sources(tmp_path) == frozenset()
    write_video_sources(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    write_video_sources(tmp_path, {"FF-DF", "FF-real"})
    assert video_sources(tmp_path) == {"FF-DF", "FF-real"}
    for text in ("{", "[]", '{"sources": "FF-DF"}'):
        (tmp_path / "videos.json").write_text(text)
        with pytest.raises(DataError, match=r"videos\.json"):
            video_sources(tmp_path)


def imported(path: Path) -> list[ImportedImage]:
    return list(CsvTable().images(path, LayoutOptions()))


def test_a_row_is_an_image_with_what_its_columns_say(files: Files) -> None:
    top = files(["x/a.png", "x/b.png"])
    table = top / "t.csv"
    table.write_text(
        "\ufeffFile,Label,generator,group,split,video\n"
        f"x/a.png,fake,sdxl,p1,valid,\n{top}/x/b.png,0,,,,v1\n"
    )
    first, second = imported(top)
    assert first == ImportedImage(
        str(top / "x/a.png"), 1, "sdxl", "x-a.png", "pre", ("group p1",), lists=("val",)
    )
    assert (second.label, second.source, second.is_frame) == (0, "t", True)
    assert second.below.startswith("v1/")
    assert CsvTable().fits(top)
    assert CsvTable().fits(table)


def test_the_first_faulty_rows_are_reported_with_their_lines_and_the_others_counted(
    files: Files,
) -> None:
    top = files(["a.png", "a.txt"])
    table = top / "t.csv"
    table.write_text("path,label,split\na.png,maybe\nb.png,1\na.txt,1\na.png,1,night\n,1\n")
    with pytest.raises(DataError) as caught:
        imported(table)
    message = str(caught.value)
    assert message.startswith(f"{table}:2: label 'maybe'")
    assert "; line 3: no file" in message
    assert "; line 4: a.txt is no image" in message
    assert message.endswith("; and 2 more rows")


def test_a_table_without_the_needed_columns_does_not_fit(files: Files) -> None:
    top = files(["a.png"])
    (top / "t.csv").write_text("name,size\na.png,1\n")
    assert not CsvTable().fits(top)
    with pytest.raises(DataError, match=r"t\.csv:1: no column path and label"):
        imported(top / "t.csv")
