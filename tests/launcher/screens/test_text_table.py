import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.screens.terminal import TWINS, in_ascii
from launcher.screens.text_table import (
    GAP,
    Column,
    Line,
    Span,
    Table,
    Tone,
    columns,
    line,
    of_texts,
    shortened,
    tabbed,
    text_of,
    width_of,
)

TEXTS = st.text(st.sampled_from("ab ●世é"), max_size=12)
COLUMNS = (Column("NAME", least=3), Column(right=True, drop=1), Column("WHY", rows=3))


@given(TEXTS, st.integers(0, 30))
def test_a_cut_line_fits_and_is_a_beginning_of_it(text: str, width: int) -> None:
    cut = line(text).cut(max(1, width)).text
    assert width_of(cut) <= max(1, width)
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))


@given(TEXTS, st.integers(0, 30), st.booleans())
def test_a_shortened_text_fits(text: str, width: int, middle: bool) -> None:
    assert width_of(shortened(text, width, middle=middle)) <= width


def test_the_middle_of_a_long_name_is_left_out() -> None:
    assert shortened("train/gan2:pre@seed=12", 13, middle=True) == "train/…eed=12"


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), st.integers(1, 40))
def test_no_line_of_a_table_is_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    drawn = Table(COLUMNS, rows).drawn(width)
    assert all(width_of(one.text) <= width for one in drawn)
    assert len(drawn) >= len(rows)


def test_columns_line_up_and_empty_ones_are_left_out() -> None:
    drawn = Table(COLUMNS, [("a", "", "x"), ("bbb", "", "yy")], [7, 8]).drawn(40)
    assert [one.text for one in drawn] == ["NAME  WHY", "a     x", "bbb   yy"]
    assert [one.job for one in drawn] == [None, 7, 8]


def test_where_there_is_no_room_a_column_goes_before_another_loses_its_least() -> None:
    drawn = Table(COLUMNS, [("abcdefgh", "12345678", "why")]).drawn(14)
    assert [one.text for one in drawn] == ["NAME      WHY", "abcdefgh  why"]
    narrow = Table(COLUMNS, [("abcdefgh", "12345678", "why")]).drawn(9)
    assert narrow[1].text == "abc…  why"


def test_a_long_reason_runs_over_a_few_lines_below_itself() -> None:
    shapes = (Column("NAME"), Column("WHY", least=8, rows=3))
    drawn = Table(shapes, [("a", "one two three four five six seven eight nine")]).drawn(20)
    assert [one.text for one in drawn] == [
        "NAME  WHY",
        "a     one two three",
        "      four … seven",
        "      eight nine",
    ]


def test_each_line_of_a_long_reason_is_about_its_job() -> None:
    drawn = Table((Column(), Column(least=8, rows=3)), [("a", "one two three four")], [7]).drawn(14)
    assert [one.job for one in drawn] == [7, 7]


@pytest.mark.parametrize("text", ["世界" * 20, "a" * 40, "a " * 20, "e\u0301" * 40])
def test_a_reason_in_any_script_is_broken_and_nothing_of_it_is_lost(text: str) -> None:
    shapes = (Column("NAME"), Column("WHY", least=8, rows=3))
    drawn = [one.text for one in Table(shapes, [("a", text)]).drawn(40)]
    assert len(drawn) <= 1 + 3
    assert all(width_of(one) <= 40 for one in drawn)
    assert "".join(drawn[1:]).replace(" ", "")[1:] == text.replace(" ", "")


def test_a_name_in_a_reason_loses_its_middle_before_the_words_beside_it_go() -> None:
    reason = f"after {'x' * 90} (job 41) and 2 more jobs"
    shapes = (Column("WHY", least=28, rows=3),)
    drawn = [one.text for one in Table(shapes, [(reason,)]).drawn(32)][1:]
    assert len(drawn) <= 3
    assert all(width_of(one) <= 32 for one in drawn)
    told = " ".join(drawn)
    assert told.startswith("after x")
    assert "x…x" in told
    assert told.endswith("(job 41) and 2 more jobs")


def test_a_reason_is_not_broken_where_the_screen_ends_before_it() -> None:
    shapes = (Column("NAME", least=14), Column("WHY", least=20, rows=3))
    drawn = Table(shapes, [("a" * 14, "one two three four five six seven")]).drawn(20)
    assert [one.text for one in drawn] == ["NAME            WHY", "aaaaaaaaaaaaaa  one…"]


def test_a_long_reason_without_a_word_is_one_empty_line() -> None:
    shapes = (Column("NAME"), Column("WHY", least=8, rows=3))
    drawn = Table(shapes, [("a", " " * 99), ("b", "x")]).drawn(40)
    assert [one.text.split() for one in drawn] == [["NAME", "WHY"], ["a"], ["b", "x"]]


@pytest.mark.parametrize(("text", "columns"), [("e\u0301", 1), ("ก\u0e34", 1), ("世", 2), ("é", 1)])
def test_a_mark_over_a_letter_takes_no_column(text: str, columns: int) -> None:
    assert width_of(text) == columns


def test_a_cell_of_pieces_keeps_their_tones() -> None:
    bar = Line((Span("##", Tone.OURS), Span("..", Tone.DIM)))
    (drawn,) = Table((Column(), Column()), [(bar, "x")]).drawn(20)
    assert [span.tone for span in drawn.spans[:2]] == [Tone.OURS, Tone.DIM]


def test_nothing_is_drawn_of_a_table_without_rows() -> None:
    assert Table(COLUMNS, []).drawn(80) == []


def test_rows_may_be_records_of_which_columns_take_what_they_show() -> None:
    shapes = (
        Column("NAME", of=lambda row: row["name"]),
        Column("N", right=True, of=lambda row: Span(str(row["n"]), Tone.DIM)),
        Column("NONE", of=lambda _: ""),
    )
    table = Table(shapes, [{"name": "a\n", "n": 70}, {"name": "b", "n": 8}], [3, 4], [line("more")])
    assert [(one.text, one.job) for one in table.drawn()] == [
        ("NAME   N", None),
        ("a\\n   70", 3),
        ("b      8", 4),
        ("more", None),
    ]
    assert [text_of(cell) for cell in table.cells[0]] == ["a\\n", "70", ""]


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [([], ["A  B"]), ([("x", "")], ["A  B", "x"]), ([("x", 7)], ["A  B", "x  7"])],
)
def test_a_table_of_texts_keeps_its_titles(rows: list[tuple[str, str]], drawn: list[str]) -> None:
    assert [one.text for one in of_texts(("A", "B"), rows, {1}).drawn(2)] == drawn


@pytest.mark.parametrize(
    ("width", "drawn"),
    [
        (40, ["NAME  AUC           LOSS", "a     0.9 [0.8, 1]  0.5"]),
        (20, ["NAME  AUC  LOSS", "a     0.9  0.5"]),
        (10, ["NAME  AUC", "a     0.9", "", "without LOSS"]),
    ],
)
def test_where_it_has_no_room_less_stands_for_a_table_and_names_what_is_left_out(
    width: int, drawn: list[str]
) -> None:
    shapes = (Column("NAME"), Column("AUC", drop=1), Column("LOSS", drop=2))
    less = Table(
        shapes, [("a", "0.9", "0.5")], left_out=lambda titles: f"without {', '.join(titles)}"
    )
    table = Table(shapes, [("a", "0.9 [0.8, 1]", "0.5")], less=lambda: less)
    assert [one.text for one in table.drawn(width)] == drawn


def test_twins_are_one_character_of_ascii_each() -> None:
    assert all(chr(twin).isascii() for twin in TWINS.values())
    assert in_ascii("● 世 é ✓") == "* ?? ? +"


def test_texts_line_up() -> None:
    rows = [("a", "1", "x"), ("bbb", "100", "")]
    assert columns(rows, right={1}) == ["a      1  x", "bbb  100"]
    assert columns([("人", "\x1b[2J", "b"), ("c", "", "d")]) == [
        "人  \\x1b[2J  b",
        "c            d",
    ]
    assert columns([]) == []


@pytest.mark.parametrize("width", [10, 20, 30])
def test_the_last_text_is_broken_and_never_cut(width: int) -> None:
    words = "one two three four five"
    shapes = (Column("KIND"), Column("WHAT", least=12, rows=0))
    lines = [row.text for row in Table(shapes, [("a", words)]).drawn(width)]
    assert " ".join(" ".join(lines).split()) == f"KIND WHAT a {words}"
    assert max(map(len, lines)) <= max(width, len("KIND") + GAP + 12)


def test_a_line_for_a_pipe_holds_each_cell_as_text() -> None:
    assert tabbed([("a\tb\n", None, 1.5, b"xy")]) == "a\\tb\\n\t\t1.5\t2 bytes\n"
    assert tabbed([]) == ""
