"""Attributes of images: tables of groups, the table of CelebA, and their values."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from trueface.data.attribute_table import (
    EIGHT,
    SIX,
    AttributeCounts,
    AttributeRow,
    find_table,
    group_indices,
    read_attribute_table,
    read_table,
    sorted_group_names,
    table_text,
)
from trueface.data.attributes import (
    Attributes,
    PathRows,
    RowPathResolver,
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


def test_images_get_groups_of_each_column(tmp_path: Path) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}", f"{FAKE}/a.jpg,1,{BLACK}")
    paths = [f"{FAKE}/a.jpg", f"{REAL}/a.jpg"]
    assert known.columns == ("gender", "race", "intersec")
    assert known.values("intersec", paths, missing="stop") == ("nonmale-black", "male-white")
    assert known.values("gender", paths, missing="stop") == ("nonmale", "male")
    with pytest.raises(UnknownName, match="Did you mean 'race'"):
        known.values("rase", paths, missing="stop")


def test_image_without_row_is_an_error_or_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}")
    paths = [f"{REAL}/a.jpg", f"{REAL}/b.jpg", f"{REAL}/c.jpg"]
    message = (
        r"2 of 3 images have no row in .*faces.csv, such as .*b.jpg\. .*missing_attributes: skip"
    )
    with pytest.raises(DataError, match=message):
        known.values("race", paths, missing="stop")
    with pytest.raises(DataError, match=message):
        known.check(paths, missing="stop")
    assert known.values("race", paths, missing="skip") == ("white", None, None)
    assert "2 of 3 images" in caplog.text


def test_custom_columns_are_groupings_and_empty_cell_is_reported(tmp_path: Path) -> None:
    known = read(tmp_path, "Real/a.jpg,3,20-29", "Real/b.jpg,,30-39", header="img_path,skin,Age")
    assert known.columns == ("skin", "age")
    assert known.values("age", ["Real/b.jpg"], missing="stop") == ("30-39",)
    with pytest.raises(DataError, match=r"1 of 1 images have no skin \(.*faces.csv:3\)"):
        known.values("skin", ["Real/b.jpg"], missing="stop")


@pytest.mark.parametrize("cell", ["nan", "NaN", "NA", "n/a", "<NA>", "None", "NULL", " nan ", ""])
def test_cell_without_group_name_is_missing(
    tmp_path: Path, cell: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (f"{REAL}/a.jpg,young", f"{REAL}/b.jpg,{cell}")
    known = read(tmp_path, *rows, header="img_path,age")
    paths = [f"{REAL}/a.jpg", f"{REAL}/b.jpg"]
    assert known.values("age", paths, missing="skip") == ("young", None)
    said = "1 of 2 images have no age"
    assert said in caplog.text
    assert ("column age: 1 rows have" in caplog.text) is bool(cell)
    with pytest.raises(DataError, match=said):
        known.values("age", paths, missing="stop")


@pytest.mark.parametrize("name", ["none", "Na", "nA", "NONE"])
def test_group_named_similar_to_missing_value_is_a_group(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (f"{REAL}/a.jpg,heavy", f"{REAL}/b.jpg,{name}")
    known = read(tmp_path, *rows, header="img_path,makeup")
    paths = [f"{REAL}/a.jpg", f"{REAL}/b.jpg"]
    assert known.values("makeup", paths, missing="stop") == ("heavy", name)
    assert not caplog.text


def test_column_without_groups_is_missing_in_all_rows(tmp_path: Path) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,nan", header="img_path,age")
    assert known.values("age", [f"{REAL}/a.jpg"], missing="skip") == (None,)


def test_equal_numbers_are_one_group_across_tables(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = table(
        tmp_path, "a.csv", "img_path,age", "a.jpg,1", "b.jpg,1.0", "c.jpg,01", "d.jpg,2.0"
    )
    second = table(tmp_path, "b.csv", "img_path,age", "a.jpg,1.00", "e.jpg,-1", "f.jpg,1.5")
    known = Attributes([first, second], tmp_path)
    groups = known.values("age", [f"{name}.jpg" for name in "abcdef"], missing="stop")
    assert groups == ("1", "1", "1", "2.0", "-1", "1.5")
    assert "column age: equal numbers are treated as one group: 01, 1, 1.0 and 1.00" in caplog.text


def test_groups_that_differ_in_case_and_too_many_groups_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{n}.jpg,{name},id{n}" for n, name in enumerate(["male", "Male", "MALE", "x"] * 15)]
    known = read(tmp_path, *rows, header="img_path,sex,person")
    for _ in range(2):
        known.values("sex", ["0.jpg"], missing="stop")
        known.values("person", ["0.jpg"], missing="stop")
    assert caplog.messages == [
        "column sex: MALE, Male and male differ only in upper and lower case, and are 3 groups",
        "column person: 60 groups, more than 50",
    ]


def test_row_whose_label_contradicts_folder_is_refused(tmp_path: Path) -> None:
    known = read(tmp_path, f"{REAL}/a.jpg,0,{WHITE}", f"{FAKE}/b.jpg,0,{WHITE}")
    with pytest.raises(DataError, match=r"faces.csv:3: label is 0, but .*b.jpg is in .* fake"):
        known.values("race", [f"{FAKE}/b.jpg"], missing="skip")


def test_repeated_path_is_one_row_or_a_contradiction_with_both_lines(tmp_path: Path) -> None:
    twice = f"{REAL}/a.jpg,0,{WHITE}"
    assert read(tmp_path, twice, twice).values("race", [f"{REAL}/a.jpg"], missing="stop")
    with pytest.raises(
        DataError, match=r"faces.csv:4: .*a.jpg has gender nonmale, but male in .*:2"
    ):
        read(tmp_path, twice, twice, f"./{REAL}/a.jpg,0,{BLACK}")


def test_several_files_form_one_table(tmp_path: Path) -> None:
    real = table(tmp_path, "real.csv", HEADER, f"{REAL}/a.jpg,0,{WHITE}")
    fake = table(tmp_path, "fake.csv", f"{HEADER},spe_label", f"{FAKE}/a.jpg,1,{BLACK},4")
    ages = table(tmp_path, "ages.csv", "img_path,age,race", f"{REAL}/a.jpg,26,0")
    known = Attributes([real, fake, ages], tmp_path)
    paths = [f"{REAL}/a.jpg", f"{FAKE}/a.jpg"]
    assert known.columns == ("gender", "race", "intersec", "forgery", "age")
    assert known.values("forgery", paths, missing="stop") == ("real", "eyes")
    assert known.values("age", paths, missing="skip") == ("26", None)
    assert known.values("race", paths, missing="stop") == ("white", "black")
    assert [remark for remark in known.remarks if "ages.csv: column race is ignored" in remark]
    other = table(tmp_path, "other.csv", "img_path,age", f"{REAL}/a.jpg,27")
    with pytest.raises(DataError, match=r"other.csv:2: .* has age 27, but 26 in .*ages.csv:2"):
        Attributes([real, ages, other], tmp_path)


def test_forgery_numbers_of_other_sets_are_kept(tmp_path: Path) -> None:
    known = read(
        tmp_path, f"Fake/a.jpg,1,{WHITE},4", f"Real/a.jpg,0,{WHITE},", header=f"{HEADER},spe_label"
    )
    assert known.values("forgery", ["Fake/a.jpg", "Real/b.jpg"], missing="stop") == ("4", "0")
    assert known.forgeries == ("0", "1", "2", "3", "4")


def test_words_of_two_sets_are_those_of_the_row(tmp_path: Path) -> None:
    header = "img_path,spe_label,label"
    sets = {
        "Fake/NeuralTextures/x.jpg": ("4", "4"),
        f"{FAKE}/y.jpg": ("4", "eyes"),
        "Fake/Other/z.jpg": ("Eyes", "eyes"),
        "Fake/Deepfakes/w.jpg": ("1.0", "1"),
    }
    files = [
        table(tmp_path, f"{at}.csv", header, f"{path},{text},1")
        for at, (path, (text, _)) in enumerate(sets.items())
    ]
    words = tuple(word for _, word in sets.values())
    together = Attributes(files, tmp_path)
    assert together.values("forgery", [*sets], missing="stop") == words
    alone = [Attributes([file], tmp_path) for file in files]
    asked = [
        read.values("forgery", [path], missing="stop")
        for read, path in zip(alone, sets, strict=True)
    ]
    assert tuple(word for (word,) in asked) == words
    assert together.forgeries == ("real", "1", "self", "swap", "mouth", "4", "eyes")
    assert together.values("forgery", ["Real/a.jpg"], missing="stop") == ("real",)


def test_unused_column_is_not_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # another number than the columns say, one that no numbering has, a word, and nothing
    rows = [f"{REAL}/{n}.jpg,0,1,-1,-1,1,{text}" for n, text in enumerate(("1", "99", "x", ""))]
    known = read(tmp_path, *rows)
    paths = [f"{REAL}/{n}.jpg" for n in range(4)]
    assert known.values("intersec", paths, missing="stop") == ("male-black",) * 4
    assert not caplog.text


def test_columns_are_read_from_headers_alone(tmp_path: Path) -> None:
    faces = table(tmp_path, "faces.csv", f"{HEADER},spe_label,split")
    ages = table(tmp_path, "ages.csv", "img_path,age,race")
    assert columns_in([faces, ages]) == ("gender", "race", "intersec", "forgery", "age")
    assert columns_in([ages]) == ("age", "race")


def test_setting_accepts_one_file_or_several() -> None:
    names = attribute_files("a.csv, b.csv,", Path("/lab").joinpath)
    assert names == (Path("/lab/a.csv"), Path("/lab/b.csv"))
    assert attribute_files("", Path) == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no faces with groups here")
def test_real_faces_have_published_groups() -> None:
    root = SHARED / "utkface"
    known = Attributes([root / "faces.csv", root / "origin.csv"], root)
    paths = [f"images/{path.name}" for path in sorted((root / "images").iterdir())]
    groups = known.values("intersec", paths, missing="stop")
    assert (len(groups), len(set(groups))) == (2740, 8)
    assert known.values("age", paths[:1], missing="stop") == ("26",)


ROOT = Path("/lab/data/forged")


IMAGE = "PreSocial/Fake/Forged-self/a.jpg"


def find_row(
    written: list[str], path: str, label: int | None = None, file: str = "x.csv"
) -> int | None:
    placed, rows = RowPathResolver(Path("/lab") / file, ROOT), PathRows()
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
def test_row_is_found_for_each_spelling_of_path(written: str) -> None:
    assert find_row(["crops/b.jpg", written], IMAGE) == 1


@pytest.mark.parametrize(
    ("written", "path", "file", "row"),
    [
        (["Fake/a.jpg", "Real/a.jpg"], "sets/one/Fake/a.jpg", "data/forged/sets/one/t.csv", 0),
        (["../forged/Fake/a.jpg"], "Fake/a.jpg", "data/tables/t.csv", 0),
        (["crops/a.png"], IMAGE, "x.csv", None),
        (["one/a.jpg", "two/a.jpg"], IMAGE, "x.csv", None),
        (
            ["PreSocial/Real/One/a.jpg", "PreSocial/Real/Two/a.jpg"],
            "Facebook/Real/Two/a.jpg", "x.csv", 1,
        ),
        (["forged/Real/a.jpg", "Real/a.jpg"], "Real/a.jpg", "x.csv", 1),
        (["forged/Real/a.jpg", "Real/a.jpg"], "forged/Real/a.jpg", "x.csv", 0),
    ],
    ids=[
        "from the folder of its table", "out of its folder", "another suffix", "two of one name",
        "a copy on a social network", "as written before other readings", "as written",
    ],
)  # fmt: skip
def test_row_lookup_by_path_returns_row_or_none(
    written: list[str], path: str, file: str, row: int | None
) -> None:
    assert find_row(written, path, file=file) == row


def test_real_image_does_not_match_row_of_fake_with_same_name() -> None:
    rows = PathRows()
    rows.add(RowPathResolver(Path("/lab/x.csv"), ROOT)("images/a.jpg", 0))
    assert rows.find("PreSocial/Real/Faces/a.jpg") == 0
    assert rows.find(IMAGE) is None


def test_folder_gives_class_of_image() -> None:
    assert [class_of(path) for path in (IMAGE, "real/a.jpg", "faces/real.jpg")] == [1, 0, None]


WITHOUT_ASIAN = HEADER.replace("isasian,", "")


def write_table(folder: Path, text: str, name: str = "faces.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode())
    return file


def table_read(folder: Path, rows: list[str], header: str = HEADER) -> Sequence[AttributeRow]:
    return read_table(table(folder, "faces.csv", header, *rows)).rows


def test_byte_order_mark_line_ends_blank_lines_and_quotes_are_parsed(tmp_path: Path) -> None:
    text = '\ufeffIMG_PATH, Age ,\r\n\r\n"a,b.jpg", 26 ,7\r\n,,\r\nc.jpg,,8\r\n'
    table = read_table(write_table(tmp_path, text))
    assert [(row.line, row.path, dict(row.cells)) for row in table.rows] == [
        (3, "a,b.jpg", {"age": "26"}),
        (5, "c.jpg", {}),
    ]
    assert table.extra_columns == ("age",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a.jpg,0,1,-1,1,-1,1\n",
            r"faces.csv:1: the header row is missing. Expected img_path,label,ismale",
        ),
        ("\nfaces/a.jpg\n", r"faces.csv:2: the header row is missing"),
        ("file,label\na.jpg,0\n", r"faces.csv:1: column img_path is missing in file,label"),
        (
            f"{HEADER.replace('iswhite,', '')}\n",
            r"faces.csv:1: column iswhite is missing\. Expected",
        ),
        ("img_path,intersec_label\n", r"column ismale and iswhite and isblack is missing"),
        ("img_path,age,Age\n", r"faces.csv:1: column age is in the header twice"),
        (
            "img_path,age\na.jpg,1\nb.jpg\n",
            r"faces.csv:3: the row has 1 cells, but the header has 2",
        ),
        ("img_path,age\n,1\n", r"faces.csv:2: the row has no img_path"),
        ("img_path,age\n", r"has a header but no rows"),
        ("\n", r"faces.csv is empty"),
        ('img_path,age\n"a.jpg,1\n', r"faces.csv:2: unexpected end of data"),
        (f"{HEADER}\na.jpg,0,2,-1,1,-1,1\n", r"faces.csv:2: ismale is '2', expected 1 or -1"),
        (f"{HEADER}\na.jpg,0,0,-1,1,-1,1\n", r"faces.csv:2: ismale is '0'"),
        (f"{HEADER}\na.jpg,0,1,-1,,-1,1\n", r"faces.csv:2: iswhite is '', expected 1 or -1"),
        (f"{HEADER}\na.jpg,0,1,-1,1,1,1\n", r"faces.csv:2: iswhite and isblack are both 1"),
        (
            f"{HEADER}\na.jpg,2,1,-1,1,-1,1\n",
            r"faces.csv:2: label is '2', expected 0 \(real\) or 1 \(fake\)",
        ),
        (
            "img_path,label,spe_label\na.jpg,0,3\n",
            r"faces.csv:2: spe_label is 3, but label is 0",
        ),
        (
            "img_path,label\na.png\nb.png,real\nc.png,7\n",
            r"csv:2: the row has 1 cells, .* has 2; line 4: label is '7'",
        ),
    ],
)
def test_table_error_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(write_table(tmp_path, text))


def test_first_faults_of_file_are_reported_together(tmp_path: Path) -> None:
    text = "img_path,age\n" + "a.jpg\n" * 7
    with pytest.raises(DataError) as caught:
        read_table(write_table(tmp_path, text))
    fault = "the row has 1 cells, but the header has 2"
    assert str(caught.value) == (
        f"{tmp_path}/faces.csv:2: {fault}; line 3: {fault}; line 4: {fault}; and 4 more rows"
    )


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        read_table(tmp_path / "none.csv")


def signs(gender: str, race: str, races: tuple[str, ...]) -> str:
    return ",".join(
        "1" if is_so else "-1" for is_so in (gender == "male", *map(race.__eq__, races))
    )


ASIAN = ("asian", "white", "black")


@pytest.mark.parametrize(
    ("groups", "columns", "header", "names"),
    [
        ((*ASIAN, "others"), ASIAN, HEADER, EIGHT),
        ((*ASIAN[1:], "others"), ASIAN[1:], WITHOUT_ASIAN, SIX),
        # six groups may come with a column isasian without any 1
        ((*ASIAN[1:], "others"), ASIAN, HEADER, SIX),
    ],
)
def test_groups_are_numbered_with_or_without_asian_column(
    tmp_path: Path, groups: Sequence[str], columns: tuple[str, ...], header: str,
    names: Sequence[str],
) -> None:  # fmt: skip
    every = product(("male", "nonmale"), groups)
    rows = [f"{at}.jpg,0,{signs(*each, columns)},{at}" for at, each in enumerate(every)]
    facts = table_read(tmp_path, rows, header)
    assert [fact.values["intersec"] for fact in facts] == list(names)
    assert facts[-2].values == {"gender": "nonmale", "race": "black", "intersec": "nonmale-black"}


def test_forgeries_are_numbers_or_words(tmp_path: Path) -> None:
    rows = ["a.jpg,1,3", "b.jpg,1,soft", "c.jpg,0,", "d.jpg,1,", "e.jpg,nan,2.0", "f.jpg,0,NaN"]
    facts = table_read(tmp_path, rows, "img_path,label,spe_label")
    assert [fact.forgery for fact in facts] == [3, 5, 0, None, 2, 0]


def test_images_are_counted_by_group_and_class_and_small_groups_are_named() -> None:
    groups = ["b"] * 70 + ["a"] * 35 + [None]
    labels = [0] * 40 + [1] * 30 + [0] * 34 + [1] + [0]
    cells = AttributeCounts.from_groups(groups, labels)
    assert list(cells.counts.items()) == [("a", (34, 1)), ("b", (40, 30)), ("unknown", (1, 0))]
    assert list(cells.small_groups) == ["a", "unknown"]


def test_groups_are_numbered_in_order_and_missing_ones_come_last() -> None:
    groups = ["z", None, "a", "z"]
    assert (sorted_group_names(groups), group_indices(groups, sorted_group_names(groups))) == (
        ("a", "z", "unknown"),
        [1, 2, 0, 1],
    )
    assert sorted_group_names(["z", "a"]) == ("a", "z")


CELEBA = "2\nMale Young\n000001.jpg -1  1\n000002.jpg  1  1\n"


def test_rows_are_matched_by_name_not_by_line(tmp_path: Path) -> None:
    text = table_text(("a", "b"), {"y.png": (1, 0), "x.png": (0, 1)})
    table = read_attribute_table(a_table(tmp_path, text))
    assert table.names == ("a", "b")
    assert table.rows_for_images(["y.png", "x.jpg"], ["b"]) == [[0], [1]]


def test_two_header_lines_of_celeba_are_skipped(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, CELEBA, "list_attr_celeba.txt"))
    assert table.names == ("Male", "Young")
    assert table.rows_for_images(["000001.png", "000002.png"]) == [[0, 1], [1, 1]]


def a_table(folder: Path, text: str, name: str = "attributes.csv") -> Path:
    return write_table(folder, text, name)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("attributes.csv", "x.png,0,1\ny.png,1,0\n", ":1: the header is missing"),
        ("attributes.csv", "", ":1: the header is missing"),
        ("attributes.csv", "image,a,a\nx.png,0,1\n", ":1: an attribute name is repeated"),
        ("attributes.csv", "image,a\nx.png,0\nx.jpg,1\n", ":3: x.jpg already has a row"),
        ("attributes.csv", "image,a\nx.png,-1\n", ":2: x.png has the value '-1', expected 0 or 1"),
        ("attributes.csv", "image,a,b\nx.png,1\n", ":2: x.png has 1 values, but the header has 2"),
        ("list_attr_celeba.txt", "000003.jpg -1 1\n000004.jpg 1 1\n", ":1: expected the number"),
        ("list_attr_celeba.txt", "2\n000003.jpg -1 1\n000004.jpg 1 1\n", ":2: expected the names"),
        (
            "list_attr_celeba.txt",
            "3" + CELEBA[1:],
            ":1: the first line announces 3 images, but 2 rows",
        ),
        ("table.xls", "image,a\n", r"end in .csv, or in .txt"),
    ],
)
def test_broken_table_error_names_the_line(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read_attribute_table(a_table(tmp_path, text, name))


def test_images_without_row_are_named(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, "image,a\nx.png,1\n"))
    with pytest.raises(DataError, match=r"no row for p\.png, q\.png, r\.png and 1 more"):
        table.rows_for_images(["x.png", "p.png", "q.png", "r.png", "s.png"])


def test_unknown_attribute_is_reported_with_nearest_name(tmp_path: Path) -> None:
    table = read_attribute_table(a_table(tmp_path, CELEBA, "list_attr_celeba.txt"))
    with pytest.raises(UnknownName, match="Male"):
        table.rows_for_images(["000001.jpg"], ["male"])


def test_table_is_found_in_image_folder_or_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    with pytest.raises(DataError, match="no attribute table found"):
        find_table(tmp_path / "A")
    beside = a_table(tmp_path, CELEBA, "list_attr_celeba.txt")
    assert find_table(tmp_path / "A") == beside
    inside = a_table(tmp_path / "A", "image,a\n")
    assert find_table(tmp_path / "A") == inside
