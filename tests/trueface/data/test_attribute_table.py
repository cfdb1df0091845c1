""" """

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from trueface.data.attribute_table import (
    EIGHT,
    SIX,
    AttributeRow,
    Cells,
    Contradictions,
    named,
    numbered,
    read_table,
)
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


COLUMNS = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label"
WITHOUT_ASIAN = COLUMNS.replace("isasian,", "")


def read(
    folder: Path, rows: list[str], header: str = COLUMNS
) -> tuple[Sequence[AttributeRow], Contradictions | None]:
    file = folder / "faces.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    table = read_table(file)
    return table.rows, table.contradictions


def signs(gender: str, race: str, races: tuple[str, ...]) -> str:
    return ",".join(
        "1" if is_so else "-1" for is_so in (gender == "male", *map(race.__eq__, races))
    )


def test_eight_groups_are_numbered_with_asian(tmp_path: Path) -> None:
    every = product(("male", "nonmale"), ("asian", "white", "black", "others"))
    races = ("asian", "white", "black")
    rows = [f"{at}.jpg,0,{signs(*each, races)},{at}" for at, each in enumerate(every)]
    facts, odd = read(tmp_path, rows)
    assert tuple(fact.values["intersec"] for fact in facts) == EIGHT
    assert odd is None
    assert facts[6].values == {"gender": "nonmale", "race": "black", "intersec": "nonmale-black"}


def test_six_groups_are_numbered_without(tmp_path: Path) -> None:
    every = product(("male", "nonmale"), ("white", "black", "others"))
    rows = [f"{at}.jpg,0,{signs(*each, ('white', 'black'))},{at}" for at, each in enumerate(every)]
    facts, odd = read(tmp_path, rows, WITHOUT_ASIAN)
    assert (tuple(fact.values["intersec"] for fact in facts), odd) == (SIX, None)


def test_six_groups_may_stand_beside_a_column_of_asians_without_any(tmp_path: Path) -> None:
    every = product(("male", "nonmale"), ("white", "black", "others"))
    races = ("asian", "white", "black")
    rows = [f"{at}.jpg,0,{signs(*each, races)},{at}" for at, each in enumerate(every)]
    assert read(tmp_path, rows)[1] is None


def test_where_a_number_contradicts_the_columns_they_count(tmp_path: Path) -> None:
    # the README of seed 002 swaps black and white
    facts, odd = read(
        tmp_path, ["a.jpg,0,1,1,-1,-1,0", "b.jpg,0,1,-1,-1,1,1", "c.jpg,0,1,-1,1,-1,2"]
    )
    assert [fact.values["race"] for fact in facts] == ["asian", "black", "white"]
    assert odd is not None
    assert (odd.count, odd.line) == (2, 3)
    assert odd.what == "intersec_label 1 is male-white, and the columns say male-black"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.jpg,0,2,-1,1,-1,1", r"faces.csv:2: ismale is '2', expected 1 or -1"),
        ("a.jpg,0,0,-1,1,-1,1", r"faces.csv:2: ismale is '0'"),
        ("a.jpg,0,1,-1,,-1,1", r"faces.csv:2: iswhite is '', expected 1 or -1"),
        ("a.jpg,0,1,-1,1,1,1", r"faces.csv:2: iswhite and isblack are both 1"),
        ("a.jpg,0,1,-1,1,-1,8", r"intersec_label is 8, and the scheme of 8 groups .* ends at 7"),
        ("a.jpg,0,1,-1,1,-1,x", r"intersec_label is 'x', expected a whole number"),
        ("a.jpg,2,1,-1,1,-1,1", r"faces.csv:2: label is '2', expected 0 \(real\) or 1 \(fake\)"),
    ],
)
def test_cells_that_cannot_be_are_refused_with_their_line(
    tmp_path: Path, row: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, [row])


def test_a_number_beyond_the_six_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"faces.csv:3: intersec_label is 6.*6 groups .without"):
        read(tmp_path, ["a.jpg,0,1,1,-1,0", "b.jpg,0,1,1,-1,6"], WITHOUT_ASIAN)


def test_forgeries_are_numbers_or_words_and_fit_the_label(tmp_path: Path) -> None:
    header = "img_path,label,spe_label"
    facts, _ = read(tmp_path, ["a.jpg,1,3", "b.jpg,1,soft", "c.jpg,0,", "d.jpg,1,"], header)
    assert [fact.forgery for fact in facts] == [3, 5, 0, None]
    with pytest.raises(DataError, match=r"faces.csv:2: spe_label is 3, and label is 0"):
        read(tmp_path, ["a.jpg,0,3"], header)


def test_swapped_numbers_are_not_taken_for_those_of_six_groups(tmp_path: Path) -> None:
    _, odd = read(tmp_path, ["a.jpg,0,1,-1,-1,1,1", "b.jpg,0,1,-1,1,-1,2"])
    assert odd is not None
    assert odd.count == 2


def test_images_are_counted_by_group_and_class_and_small_groups_are_named() -> None:
    groups = ["b"] * 70 + ["a"] * 35 + [None]
    labels = [0] * 40 + [1] * 30 + [0] * 34 + [1] + [0]
    cells = Cells.of(groups, labels)
    assert list(cells.counts.items()) == [("a", (34, 1)), ("b", (40, 30)), ("unknown", (1, 0))]
    assert list(cells.few) == ["a", "unknown"]


def test_groups_are_numbered_in_their_order_and_those_without_come_last() -> None:
    groups = ["z", None, "a", "z"]
    assert (named(groups), numbered(groups, named(groups))) == (("a", "z", "unknown"), [1, 2, 0, 1])
    assert named(["z", "a"]) == ("a", "z")


def test_rows_of_other_lengths_and_cells_that_cannot_be_are_told_together(tmp_path: Path) -> None:
    text = "img_path,label\na.png\nb.png,real\nc.png,7\n"
    with pytest.raises(DataError, match=r"csv:2: 1 cells, .* has 2; line 4: label is '7'"):
        read_table(written(tmp_path, text))
