"""Forged faces: tables of faces, donors, blending, and skews of the training list."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.data.forging.build import HEADER, a_face, people, row, written
from trueface.data.forging.blending import (
    NEAREST,
    Floats,
    forge_face,
    mask,
    match_colours,
    nearest_faces,
    thumbnail,
)
from trueface.data.forging.faces import Face, read_table
from trueface.data.forging.kept_cells import parse_cells, select_kept_images
from trueface.data.forging.plan import names_of, read_faces
from trueface.data.forging.registry import SPECS, FacePart, canonical_types, parse_types
from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.rng import numpy_rng


def test_groups_are_read_by_column_name_and_extra_columns_are_kept(
    tmp_path: Path,
) -> None:
    header = "split,isblack,iswhite,isasian,ismale,img_path,age"
    table = written(tmp_path, [], header)
    PIL.Image.fromarray(a_face(1)).save(tmp_path / "images/1.png")
    table.write_text(f"{header}\ncross,1,-1,-1,-1,images/1.png,31\n")
    read = read_table(table)
    (face,) = read.faces
    assert face.columns == {
        "gender": "nonmale", "race": "black", "intersec": "nonmale-black", "age": "31",
    }  # fmt: skip
    # faces of another data set are for tests
    assert (face.split, face.file) == ("test", tmp_path / "images/1.png")
    assert read.further == ("age",)


def test_number_of_the_intersection_is_not_read(tmp_path: Path) -> None:
    texts = ("1", "2", "8", "x", "")
    rows = [row(n, 1, "test").replace(",1,test", f",{text},test") for n, text in enumerate(texts)]
    table = read_table(written(tmp_path, rows))
    assert [face.group for face in table.faces] == ["male-white"] * 5


def test_first_faults_are_listed_with_number_of_remaining_ones(tmp_path: Path) -> None:
    table = written(tmp_path, [])
    table.write_text(f"{HEADER}\n" + "images/gone.png,0,1,1,-1,-1,0,train\n" * 5)
    with pytest.raises(DataError) as caught:
        read_table(table)
    message = str(caught.value)
    assert message.startswith(f"{table}:2: file ")
    assert "; line 3: images/gone.png is already in line 2; line 4: " in message
    assert message.endswith("; and 2 more rows")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "images/001.png,0,1,1,-1,-1,0,train\n",
            ":1: the header row is missing. Expected img_path,label,ismale",
        ),
        ("", " is empty. Expected a header img_path,label,ismale"),
        ("path,label\n", ":1: column img_path is missing"),
        ("img_path,ismale,isasian\n", ":1: column iswhite and isblack is missing. Expected"),
        ("img_path,label,label\n", ":1: column label is in the header twice"),
        (f"{HEADER}\n", "has a header but no rows"),
        (
            f"{HEADER}\nimages/001.png,0,1,1,-1,-1,0\n",
            ":2: the row has 7 cells, but the header has 8",
        ),
        (
            f"{HEADER}\nimages/001.png,1,1,1,-1,-1,0,train\n",
            ":2: the image is a fake, but only real faces (label 0) can be forged",
        ),
        (f"{HEADER}\nimages/001.png,0,1,1,0,-1,0,train\n", ":2: iswhite is '0', expected 1 or -1"),
        (f"{HEADER}\nimages/001.png,0,1,1,1,-1,0,train\n", ":2: isasian and iswhite are both 1"),
        (f"{HEADER}\nimages/001.png,0,1,1,-1,-1,0,tarin\n", ":2: split is 'tarin', expected train"),
        (f"{HEADER}\nimages/gone.png,0,1,1,-1,-1,0,train\n", "/images/gone.png does not exist"),
        (
            f"{HEADER}\n{row(1, 0, 'val')}\n{row(1, 0, 'val')}\n",
            ":3: images/001.png is already in line 2",
        ),
    ],
)
def test_fault_is_reported_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    table = written(tmp_path, [row(1, 0, "train")])
    table.write_text(text)
    with pytest.raises(DataError) as caught:
        read_table(table)
    assert str(caught.value).startswith(str(table))
    assert said in str(caught.value)


def test_folder_without_images_and_missing_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="no image in this folder, but 1"):
        read_faces(tmp_path)
    with pytest.raises(DataError, match="Name a table of faces or a folder"):
        read_faces(tmp_path / "nowhere")


def test_files_of_same_name_are_distinguished_by_folder(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        PIL.Image.fromarray(a_face(1, 8)).save(tmp_path / name)
    faces = read_faces(tmp_path).faces
    assert sorted(names_of(faces).values()) == ["a-1", "b-1"]
    PIL.Image.fromarray(a_face(1, 8)).save(tmp_path / "a/1.jpg")
    with pytest.raises(DataError, match="would both get the name a-1"):
        names_of(read_faces(tmp_path).faces)


FACE, DONOR = a_face(1, 64), a_face(2, 64)


@pytest.mark.parametrize("name", SPECS)
def test_forgery_type_changes_centre_by_its_stream_and_keeps_corners(name: str) -> None:
    before, seen = FACE.copy(), set()
    for word in (*range(5), 0):
        made = forge_face(FACE, DONOR, SPECS[name], numpy_rng(str(word)))
        seen.add(made.tobytes())
        assert made.shape == FACE.shape
        assert made.dtype == np.uint8
        for rows in (slice(0, 4), slice(-4, None)):
            for columns in (slice(0, 4), slice(-4, None)):
                assert np.array_equal(made[rows, columns], FACE[rows, columns])
        assert not np.array_equal(made[16:56, 16:48], FACE[16:56, 16:48])
    assert len(seen) == 5
    assert np.array_equal(FACE, before)


def test_forgery_type_without_required_donor_is_an_error() -> None:
    with pytest.raises(ValueError, match="swap needs a donor"):
        forge_face(FACE, None, SPECS["swap"], numpy_rng("1"))
    with pytest.raises(ValueError, match="eyes needs a donor of shape"):
        forge_face(FACE, a_face(2, 32), SPECS["eyes"], numpy_rng("1"))


@pytest.mark.parametrize(("part", "full", "empty"), [("mouth", 0.75, 0.45), ("eyes", 0.4, 0.75)])
def test_mask_covers_its_part_of_face(part: FacePart, full: float, empty: float) -> None:
    shares = mask(part, 100, 80, numpy_rng("3"))
    assert shares.shape == (100, 80)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares[int(100 * full), 40] == 1
    assert shares[int(100 * empty), 40] == 0
    assert len(np.unique(shares)) > 20  # a soft edge


def test_matched_source_has_colours_of_target_face() -> None:
    face, donor = (each.astype(np.float32) for each in (FACE, DONOR))
    weight: Floats = np.ones(FACE.shape[:2], np.float32)
    before, after = (
        np.abs(each.mean((0, 1)) - face.mean((0, 1))).max()
        for each in (donor, match_colours(donor, face, weight, numpy_rng("1"), 0.0))
    )
    assert after < before / 4


def test_forgery_types_have_several_spellings() -> None:
    assert [spec.name for spec in parse_types("1-5")] == ["self", "swap", "mouth", "eyes", "soft"]
    assert canonical_types("soft, 1,swap,2") == "1,2,5"
    assert canonical_types("2,3,1") == "1-3"
    with pytest.raises(UnknownName, match="mouth"):
        parse_types("moth")
    with pytest.raises(UnknownName, match="6"):
        parse_types("1-6")
    with pytest.raises(ValueError, match="count down from 3 to 1"):
        parse_types("3-1")


EVERYBODY = people(male_white=20, male_asian=10, nonmale_white=10, nonmale_others=10)


def counts(text: str, ordered: dict[str, list[Face]] = EVERYBODY) -> dict[str, tuple[int, int]]:
    """Return how many reals and fakes are kept of each group."""
    reals, fakes = select_kept_images(ordered, parse_cells(text))
    return {
        group: (
            sum(face.path in reals for face in faces),
            sum(face.path in fakes for face in faces),
        )
        for group, faces in ordered.items()
    }


def test_label_skew_keeps_each_face_in_one_class() -> None:
    text = "male/real: .9, male/fake: .1, nonmale/real: .1, nonmale/fake: .9"
    assert counts(text) == {
        "male-white": (18, 2),
        "male-asian": (9, 1),
        "nonmale-white": (1, 9),
        "nonmale-others": (1, 9),
    }
    reals, fakes = select_kept_images(EVERYBODY, parse_cells(text))
    assert not reals & fakes


def test_share_skew_keeps_whole_pairs() -> None:
    assert counts("male-white: 15, *: 2") == {
        "male-white": (15, 15),
        "male-asian": (2, 2),
        "nonmale-white": (2, 2),
        "nonmale-others": (2, 2),
    }
    reals, fakes = select_kept_images(EVERYBODY, parse_cells("male-white: 15, *: 2"))
    assert reals == fakes


def test_all_faces_are_kept_without_cells_and_for_unnamed_groups() -> None:
    assert counts("") == {group: (len(faces),) * 2 for group, faces in EVERYBODY.items()}
    assert counts("male-asian/fake: 0")["male-asian"] == (10, 0)
    assert counts("male-asian/fake: 0")["male-white"] == (20, 20)
    assert counts("gender=male/real: .5")["male-white"] == (10, 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("male", "'male' is not a subgroup with a number: write NAME: NUMBER"),
        ("male: many", "expected a fraction from 0 to 1, or a whole number"),
        ("male: -0.1", "expected a fraction"),
        ("male: 1.5", "expected a fraction"),
        ("male/both: .5", "'both' in 'male/both: .5' is not real or fake"),
        (": .5", "does not name a group"),
    ],
)
def test_invalid_cell_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cells(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("male-withe: .5", "Did you mean 'male-white'"),
        ("gendre=male: .5", "column of groups"),
        ("male: .5, white: .5", r"'male: \.5' and 'white: \.5' both name images of male-wh"),
        ("male-asian: 11", "requests 11 images, but the training list has 10"),
        ("male: .5, nonmale: .5, *: 2", "already name every group"),
    ],
)
def test_cells_of_unknown_groups_are_refused(text: str, said: str) -> None:
    with pytest.raises((UnknownName, UsageError), match=said):
        counts(text)


def test_most_similar_face_comes_first_and_face_is_never_its_own_donor() -> None:
    faces = [a_face(number) for number in range(8)]
    faces.append(np.clip(faces[3].astype(int) + 9, 0, 255).astype(np.uint8))  # brighter: alike
    near = nearest_faces(np.stack([thumbnail(face) for face in faces]))
    assert near.shape == (9, NEAREST)
    assert near[3, 0] == 8
    assert near[8, 0] == 3
    assert all(place not in others for place, others in enumerate(near.tolist()))
    assert nearest_faces(thumbnail(a_face(1))[None]).shape == (1, 0)
