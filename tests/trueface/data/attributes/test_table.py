from pathlib import Path

import pytest

from trueface.data.attributes.table import read_table
from trueface.runtime.errors import DataError

HEADER = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label"


def written(folder: Path, text: str) -> Path:
    file = folder / "faces.csv"
    file.write_bytes(text.encode())
    return file


def test_marks_line_ends_blank_lines_and_quotes_are_taken_as_they_are_meant(tmp_path: Path) -> None:
    text = '\ufeffIMG_PATH, Age ,\r\n\r\n"a,b.jpg", 26 ,7\r\n,,\r\nc.jpg,,8\r\n'
    table = read_table(written(tmp_path, text))
    assert [(row.line, row.path, dict(row.cells)) for row in table.rows] == [
        (3, "a,b.jpg", {"age": "26"}),
        (5, "c.jpg", {}),
    ]
    assert table.further == ("age",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a.jpg,0,1,-1,1,-1,1\n",
            r"faces.csv:1: has no header row; expected img_path,label,ismale",
        ),
        ("\nfaces/a.jpg\n", r"faces.csv:2: has no header row"),
        ("file,label\na.jpg,0\n", r"faces.csv:1: no column img_path in file,label"),
        (f"{HEADER.replace('iswhite,', '')}\n", r"faces.csv:1: no column iswhite; expected"),
        ("img_path,intersec_label\n", r"no column ismale and iswhite and isblack"),
        ("img_path,age,Age\n", r"faces.csv:1: column age stands in the header twice"),
        ("img_path,age\na.jpg,1\nb.jpg\n", r"faces.csv:3: 1 cells, and the header has 2"),
        ("img_path,age\n,1\n", r"faces.csv:2: no img_path"),
        ("img_path,age\n", r"has a header, and no row below it"),
        ("\n", r"faces.csv is empty"),
        ('img_path,age\n"a.jpg,1\n', r"cannot read attributes from .*faces.csv"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(written(tmp_path, text))


def test_the_first_faults_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    text = "img_path,age\n" + "a.jpg\n" * 7
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, text))
    fault = "1 cells, and the header has 2"
    assert str(caught.value) == (
        f"{tmp_path}/faces.csv:2: {fault}; line 3: {fault}; line 4: {fault}; and 4 more rows"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        read_table(tmp_path / "none.csv")
