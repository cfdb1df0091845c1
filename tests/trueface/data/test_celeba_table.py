"""Tables of attributes: matched by name, their headers needed, their faults named by line."""

from pathlib import Path

import pytest

from trueface.data.attribute_table import find_table, read_attribute_table, table_text
from trueface.runtime.errors import DataError, UnknownName

CELEBA = "2\nMale Young\n000001.jpg -1  1\n000002.jpg  1  1\n"


def a_table(folder: Path, text: str, name: str = "attributes.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rows_are_matched_by_name_and_not_by_line(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, "image,a,b\nx.png,0,1\ny.png,1,0\n"))
    assert table.of(["y.png", "x.jpg"], ["b"]) == [[0], [1]]


def test_the_two_header_lines_of_celeba_are_no_images(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, CELEBA, "list_attr_celeba.txt"))
    assert table.names == ("Male", "Young")
    assert table.of(["000001.png", "000002.png"]) == [[0, 1], [1, 1]]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = {"b.png": (1, 0), "a.png": (0, 0)}
    table = read_attribute_table(a_table(tmp_path, table_text(("one", "two"), rows)))
    assert table.names == ("one", "two")
    assert table.of([*rows]) == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("attributes.csv", "x.png,0,1\ny.png,1,0\n", ":1 is no header"),
        ("attributes.csv", "", ":1 is no header"),
        ("attributes.csv", "image,a,a\nx.png,0,1\n", ":1 names an attribute twice"),
        ("attributes.csv", "image,a\nx.png,0\nx.jpg,1\n", ":3: x.jpg has a row already"),
        ("attributes.csv", "image,a\nx.png,-1\n", ":2: x.png has '-1' where 0 or 1"),
        ("attributes.csv", "image,a,b\nx.png,1\n", ":2: x.png has 1 values, the header 2"),
        ("list_attr_celeba.txt", "000003.jpg -1 1\n000004.jpg 1 1\n", ":1 is not the number"),
        ("list_attr_celeba.txt", "2\n000003.jpg -1 1\n000004.jpg 1 1\n", ":2 does not name"),
        ("list_attr_celeba.txt", "3" + CELEBA[1:], ":1 says 3 images, and 2 rows"),
        ("table.xls", "image,a\n", r"ends in .csv, or in .txt"),
    ],
)
def test_a_broken_table_is_an_error_that_names_the_line(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read_attribute_table(a_table(tmp_path, text, name))


def test_images_without_a_row_are_named(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, "image,a\nx.png,1\n"))
    with pytest.raises(DataError, match=r"no row of p\.png, q\.png, r\.png and 1 more"):
        table.of(["x.png", "p.png", "q.png", "r.png", "s.png"])


def test_an_unknown_attribute_is_named_with_the_nearest(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, CELEBA, "list_attr_celeba.txt"))
    with pytest.raises(UnknownName, match="Male"):
        table.of(["000001.jpg"], ["male"])


def test_a_table_may_lie_in_the_folder_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    with pytest.raises(DataError, match="no table of attributes"):
        find_table(tmp_path / "A")
    beside = a_table(tmp_path, CELEBA, "list_attr_celeba.txt")
    assert find_table(tmp_path / "A") == beside
    inside = a_table(tmp_path / "A", "image,a\n")
    assert find_table(tmp_path / "A") == inside
