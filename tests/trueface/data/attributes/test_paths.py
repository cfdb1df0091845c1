from pathlib import Path

import pytest

from trueface.data.attributes.attributes import Placing, Rows, class_of

ROOT = Path("/lab/data/forged")
IMAGE = "PreSocial/Fake/Forged-self/a.jpg"


def found(
    written: list[str], path: str, label: int | None = None, file: str = "x.csv"
) -> int | None:
    placed = Placing(Path("/lab") / file, ROOT)
    return Rows([placed(each, label) for each in written]).find(path)


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
    rows = Rows([Placing(Path("/lab/x.csv"), ROOT)("images/a.jpg", 0)])
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
