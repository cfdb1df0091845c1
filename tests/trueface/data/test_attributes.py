""" """

import logging
from pathlib import Path

import pytest

from trueface.data.attributes import (
    Attributes,
    PathRows,
    Placing,
    attribute_files,
    class_of,
    columns_in,
)
from trueface.runtime.errors import DataError, UnknownName

HEADER = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label"
REAL, FAKE = "PreSocial/Real/Faces", "PreSocial/Fake/Forged-eyes"
WHITE, BLACK = "1,-1,1,-1,1", "-1,-1,-1,1,6"  # a man, a woman
SHARED = Path(__file__).parents[4] / "shared/data/groups"


def table(folder: Path, name: str, *rows: str) -> Path:
    file = folder / name
    file.write_text("\n".join(rows) + "\n")
    return file


def read(folder: Path, *rows: str, header: str = HEADER) -> Attributes:
    return Attributes([table(folder, "faces.csv", header, *rows)], folder)


def test_images_get_their_groups_by_each_column(tmp_path: Path) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}", f"{FAKE}/a.jpg,1,{BLACK}")
    paths = [f"{FAKE}/a.jpg", f"{REAL}/a.jpg"]
    assert known.columns == ("gender", "race", "intersec")
    assert known.values("intersec", paths, missing="stop") == ("nonmale-black", "male-white")
    assert known.values("gender", paths, missing="stop") == ("nonmale", "male")
    with pytest.raises(UnknownName, match="column of groups 'rase', did you mean race"):
        known.values("rase", paths, missing="stop")


def test_an_image_without_a_row_stops_or_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}")
    paths = [f"{REAL}/a.jpg", f"{REAL}/b.jpg", f"{REAL}/c.jpg"]
    message = (
        r"2 of 3 images have no row in .*faces.csv, such as .*b.jpg; .*missing_attributes: skip"
    )
    with pytest.raises(DataError, match=message):
        known.values("race", paths, missing="stop")
    with pytest.raises(DataError, match=message):
        known.check(paths, missing="stop")
    assert known.values("race", paths, missing="skip") == ("white", None, None)
    assert "2 of 3 images" in caplog.text


def test_columns_of_ones_own_are_groupings_and_an_empty_cell_is_named(tmp_path: Path) -> None:
    known = read(tmp_path, "Real/a.jpg,3,20-29", "Real/b.jpg,,30-39", header="img_path,skin,Age")
    assert known.columns == ("skin", "age")
    assert known.values("age", ["Real/b.jpg"], missing="stop") == ("30-39",)
    with pytest.raises(DataError, match=r"1 of 1 images have no skin \(.*faces.csv:3\)"):
        known.values("skin", ["Real/b.jpg"], missing="stop")


def test_a_row_whose_label_contradicts_the_folder_is_refused(tmp_path: Path) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}", f"{FAKE}/b.jpg,0,{WHITE}")
    with pytest.raises(DataError, match=r"faces.csv:3: label is 0, and .*b.jpg lies in .* fake"):
        known.values("race", [f"{FAKE}/b.jpg"], missing="skip")


def test_a_path_twice_is_one_row_or_a_contradiction_with_both_lines(tmp_path: Path) -> None:
    twice = f"{REAL}/a.jpg,0,{WHITE}"
    assert read(tmp_path, twice, twice).values("race", [f"{REAL}/a.jpg"], missing="stop")
    with pytest.raises(
        DataError, match=r"faces.csv:4: .*a.jpg is gender nonmale, and male in .*:2"
    ):
        read(tmp_path, twice, twice, f"./{REAL}/a.jpg,0,{BLACK}")


def test_several_files_are_one_table(tmp_path: Path) -> None:
    real = table(tmp_path, "real.csv", HEADER, f"{REAL}/a.jpg,0,{WHITE}")
    fake = table(tmp_path, "fake.csv", f"{HEADER},spe_label", f"{FAKE}/a.jpg,1,{BLACK},4")
    ages = table(tmp_path, "ages.csv", "img_path,age,race", f"{REAL}/a.jpg,26,0")
    known = Attributes([real, fake, ages], tmp_path)
    paths = [f"{REAL}/a.jpg", f"{FAKE}/a.jpg"]
    assert known.columns == ("gender", "race", "intersec", "forgery", "age")
    assert known.values("forgery", paths, missing="stop") == ("real", "eyes")
    assert known.values("age", paths, missing="skip") == ("26", None)
    assert known.values("race", paths, missing="stop") == ("white", "black")
    assert [remark for remark in known.remarks if "ages.csv: column race is left out" in remark]
    other = table(tmp_path, "other.csv", "img_path,age", f"{REAL}/a.jpg,27")
    with pytest.raises(DataError, match=r"other.csv:2: .* is age 27, and 26 in .*ages.csv:2"):
        Attributes([real, ages, other], tmp_path)


def test_forgeries_of_other_sets_keep_their_numbers(tmp_path: Path) -> None:
    known = read(
        tmp_path, f"Fake/a.jpg,1,{WHITE},4", f"Real/a.jpg,0,{WHITE},", header=f"{HEADER},spe_label"
    )
    assert known.values("forgery", ["Fake/a.jpg", "Real/b.jpg"], missing="stop") == ("4", "0")
    assert known.forgeries == ("0", "1", "2", "3", "4")


def test_contradicting_numbers_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{REAL}/{name}.jpg,0,1,-1,-1,1,1" for name in "abc"]
    with caplog.at_level(logging.WARNING):
        known = read(tmp_path, f"{REAL}/z.jpg,0,{WHITE}", *rows)
    assert len(caplog.records) == 1
    assert known.remarks == (caplog.messages[0],)
    assert (
        "faces.csv:3: intersec_label 1 is male-white, and the columns say male-black" in caplog.text
    )
    assert "3 of 4 rows" in caplog.text


def test_headers_alone_say_which_columns_there_are(tmp_path: Path) -> None:
    faces = table(tmp_path, "faces.csv", f"{HEADER},spe_label,split")
    ages = table(tmp_path, "ages.csv", "img_path,age,race")
    assert columns_in([faces, ages]) == ("gender", "race", "intersec", "forgery", "age")
    assert columns_in([ages]) == ("age", "race")


def test_a_setting_names_one_file_or_several() -> None:
    names = attribute_files("a.csv, b.csv,", Path("/lab").joinpath)
    assert names == (Path("/lab/a.csv"), Path("/lab/b.csv"))
    assert attribute_files("", Path) == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no faces with groups here")
def test_real_faces_have_the_groups_that_their_publishers_say() -> None:
    root = SHARED / "utkface"
    known = Attributes([root / "faces.csv", root / "origin.csv"], root)
    paths = [f"images/{path.name}" for path in sorted((root / "images").iterdir())]
    groups = known.values("intersec", paths, missing="stop")
    assert (len(groups), len(set(groups))) == (2740, 8)
    assert known.values("age", paths[:1], missing="stop") == ("26",)


ROOT = Path("/lab/data/forged")
IMAGE = "PreSocial/Fake/Forged-self/a.jpg"


def found(
    written: list[str], path: str, label: int | None = None, file: str = "x.csv"
) -> int | None:
    placed, rows = Placing(Path("/lab") / file, ROOT), PathRows()
    for each in written:
        rows.add(placed(each, label))
    return rows.find(path)


@pytest.mark.parametrize(
    "written",
    [
        IMAGE,
        f"./{IMAGE}",
        IMAGE.replace("/", "\\"),
        f"/lab/data/forged/{IMAGE}",
        f"forged/{IMAGE}",
        f"data/forged/{IMAGE}",
        f"lab/data/forged/{IMAGE}",
        f"/elsewhere/{IMAGE}",
        "/elsewhere/a.jpg",
        "crops/a.jpg",
    ],
)
def test_a_row_is_found_however_its_path_is_written(written: str) -> None:
    assert found(["crops/b.jpg", written], IMAGE) == 1


def test_a_path_from_the_folder_of_its_table_is_found() -> None:
    written = ["Fake/a.jpg", "Real/a.jpg"]
    assert found(written, "sets/one/Fake/a.jpg", file="data/forged/sets/one/t.csv") == 0


def test_a_path_that_leads_out_of_its_folder_is_followed() -> None:
    assert found(["../forged/Fake/a.jpg"], "Fake/a.jpg", file="data/tables/t.csv") == 0


def test_the_suffix_of_a_file_belongs_to_its_name() -> None:
    assert found(["crops/a.png"], IMAGE) is None


def test_a_name_that_two_rows_have_finds_none_of_them() -> None:
    assert found(["one/a.jpg", "two/a.jpg"], IMAGE) is None


def test_a_real_image_gives_its_fake_of_the_same_name_no_row() -> None:
    rows = PathRows()
    rows.add(Placing(Path("/lab/x.csv"), ROOT)("images/a.jpg", 0))
    assert rows.find("PreSocial/Real/Faces/a.jpg") == 0
    assert rows.find(IMAGE) is None


def test_copies_on_social_networks_have_the_row_of_their_original() -> None:
    written = ["PreSocial/Real/One/a.jpg", "PreSocial/Real/Two/a.jpg"]
    assert found(written, "Facebook/Real/Two/a.jpg") == 1


def test_the_path_as_written_comes_before_other_readings() -> None:
    assert found(["forged/Real/a.jpg", "Real/a.jpg"], "Real/a.jpg") == 1
    assert found(["forged/Real/a.jpg", "Real/a.jpg"], "forged/Real/a.jpg") == 0


def test_folders_say_the_class_of_an_image() -> None:
    assert [class_of(path) for path in (IMAGE, "real/a.jpg", "faces/real.jpg")] == [1, 0, None]
