"""Tables of faces: what is read, and each fault with file and line."""

from pathlib import Path

import PIL.Image
import pytest

from tests.trueface.data.forging.build import HEADER, a_face, a_table, row, written
from trueface.data.attribute_table import EIGHT
from trueface.data.forging.plan import limited, names_of, read_faces, read_table
from trueface.runtime.errors import DataError


def test_groups_are_read_by_the_names_of_the_columns(tmp_path: Path) -> None:
    header = "split,isblack,iswhite,isasian,ismale,img_path"
    table = written(tmp_path, [], header)
    PIL.Image.fromarray(a_face(1)).save(tmp_path / "images/1.png")
    table.write_text(f"{header}\ntrain,1,-1,-1,-1,images/1.png\n")
    (face,) = read_table(table).faces
    assert face.columns == {"gender": "nonmale", "race": "black", "intersec": "nonmale-black"}
    assert (face.split, face.file) == ("train", tmp_path / "images/1.png")


def test_a_number_that_contradicts_its_columns_is_counted_and_the_columns_count(
    tmp_path: Path,
) -> None:
    wrong = row(2, 1, "test").replace(",1,test", ",2,test")
    table = read_table(written(tmp_path, [row(1, 1, "test"), wrong]))
    assert table.contradictions == 1
    assert {face.group for face in table.faces} == {"male-white"}


def test_tables_of_six_groups_are_read_as_attributes_read_them(tmp_path: Path) -> None:
    header = "img_path,label,ismale,iswhite,isblack,intersec_label"
    table = written(
        tmp_path, ["images/001.png,0,1.0,1,-1,0", "images/002.png,0,-1,-1,-1,5"], header
    )
    assert [face.group for face in read_table(table).faces] == ["male-white", "nonmale-others"]
    assert read_table(table).contradictions == 0


def test_the_first_faults_are_said_with_the_number_of_the_others(tmp_path: Path) -> None:
    table = written(tmp_path, [])
    table.write_text(f"{HEADER}\n" + "images/gone.png,0,1,1,-1,-1,0,train\n" * 5)
    with pytest.raises(DataError) as caught:
        read_table(table)
    message = str(caught.value)
    assert message.startswith(f"{table}:2: no file ")
    assert "; line 3: images/gone.png stands in line 2 already; line 4: " in message
    assert message.endswith("; and 2 more rows")


def test_faces_of_another_data_set_are_for_tests(tmp_path: Path) -> None:
    (face,) = read_table(written(tmp_path, [row(1, 0, "cross")])).faces
    assert face.split == "test"


def test_further_columns_are_kept(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, [row(1, 0, "val") + ",31"], HEADER + ",age"))
    assert table.further == ("age",)
    assert table.faces[0].columns["age"] == "31"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "images/001.png,0,1,1,-1,-1,0,train\n",
            ":1: has no header row; expected img_path,label,ismale",
        ),
        ("", " is empty; expected img_path,label,ismale"),
        ("path,label\n", ":1: no column img_path"),
        ("img_path,ismale,isasian\n", ":1: no column iswhite and isblack; expected"),
        ("img_path,label,label\n", ":1: column label stands in the header twice"),
        (f"{HEADER}\n", "has a header, and no row below it"),
        (f"{HEADER}\nimages/001.png,0,1,1,-1,-1,0\n", ":2: 7 cells, and the header has 8"),
        (
            f"{HEADER}\nimages/001.png,1,1,1,-1,-1,0,train\n",
            ":2: the image is a fake, and faces to be forged are real",
        ),
        (f"{HEADER}\nimages/001.png,0,1,1,0,-1,0,train\n", ":2: iswhite is '0', expected 1 or -1"),
        (f"{HEADER}\nimages/001.png,0,1,1,1,-1,0,train\n", ":2: isasian and iswhite are both 1"),
        (
            f"{HEADER}\nimages/001.png,0,1,1,-1,-1,8,train\n",
            ":2: intersec_label is 8, and the scheme of 8 groups",
        ),
        (f"{HEADER}\nimages/001.png,0,1,1,-1,-1,0,tarin\n", ":2: split is 'tarin', expected train"),
        (f"{HEADER}\nimages/gone.png,0,1,1,-1,-1,0,train\n", ":2: no file "),
        (
            f"{HEADER}\n{row(1, 0, 'val')}\n{row(1, 0, 'val')}\n",
            ":3: images/001.png stands in line 2",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    table = written(tmp_path, [row(1, 0, "train")])
    table.write_text(text)
    with pytest.raises(DataError) as caught:
        read_table(table)
    assert str(caught.value).startswith(str(table))
    assert said in str(caught.value)


def test_a_folder_without_a_table_is_divided_by_its_names(tmp_path: Path) -> None:
    for number in range(60):
        PIL.Image.fromarray(a_face(number, 8)).save(tmp_path / f"{number}.png")
    table = read_faces(tmp_path)
    assert not table.has_groups
    lists = {face.path: face.split for face in table.faces}
    assert sum(split == "train" for split in lists.values()) in range(26, 47)
    assert set(lists.values()) == {"train", "val", "test"}
    (tmp_path / "0.png").unlink()
    assert {face.path: face.split for face in read_faces(tmp_path).faces}.items() <= lists.items()


def test_a_folder_without_images_and_a_place_without_anything_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no image in this folder, but 1"):
        read_faces(tmp_path)
    with pytest.raises(DataError, match="name a table of faces, or a folder"):
        read_faces(tmp_path / "nowhere")


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        PIL.Image.fromarray(a_face(1, 8)).save(tmp_path / name)
    faces = read_faces(tmp_path).faces
    assert sorted(names_of(faces).values()) == ["a-1", "b-1"]
    PIL.Image.fromarray(a_face(1, 8)).save(tmp_path / "a/1.jpg")
    with pytest.raises(DataError, match="would both be called a-1"):
        names_of(read_faces(tmp_path).faces)


def test_a_smaller_set_holds_nothing_that_a_larger_one_lacks(tmp_path: Path) -> None:
    faces = read_table(a_table(tmp_path, range(len(EIGHT)), {"train": 5, "test": 2})).faces
    small, large = (limited(faces, {"train": most, "val": 0, "test": 0}, seed=3) for most in (2, 4))
    assert limited(faces[::-1], {"train": 2, "val": 0, "test": 0}, seed=3) == small
    for cell, members in small.items():
        assert members == large[cell][: len(members)]
        assert len(members) == 2
