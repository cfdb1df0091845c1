"""Text on a screen: tables, widths, formats, charts."""

import json
import math
import re
import sys
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.frontends.cli.result_tables import draw
from launcher.frontends.screens.chart import chart
from launcher.frontends.screens.job_columns import (
    JOB_COLUMNS,
    QUICK_KEYS,
    USUAL_COLUMNS,
    column_records,
    keys_of,
    parse_columns,
    pipe_cells,
    table_of_columns,
)
from launcher.frontends.screens.job_view import job_view
from launcher.frontends.screens.queue_view import job_table, running_table, waiting_table
from launcher.frontends.screens.table_formats import latex_text, markdown_text
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Failed, State
from launcher.queue.store.queue import Store
from launcher.queue.texts import (
    GLYPHS,
    ORDER,
    PAUSED,
    format_job_names,
    iso_time,
    short_local_time,
    tally,
    why,
)
from launcher.queue.workers.progress.steps import AttemptProgress, ProgressReport
from launcher.system.terminal import TWINS, in_ascii, terminal_width
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import (
    GAP,
    Column,
    TextLine,
    TextSpan,
    TextStyle,
    TextTable,
    columns,
    distinguish_names,
    line,
    shorten,
    tab_separated,
    table_of_texts,
    text_of,
    width_of,
)
from tests.build import a_reason, a_spec, claimed, enqueue, finished, job_row
from tests.launcher.cli.commands.test_results import a_row
from tests.screens import NOW, a_line, an_idle_screen, texts_of

TEXTS = st.text(st.sampled_from("ab ●世é"), max_size=12)


COLUMNS = (Column("NAME", least=3), Column(right=True, drop=1), Column("WHY", rows=3))


@given(TEXTS, st.integers(0, 30))
def test_truncated_line_fits_and_is_a_prefix(text: str, width: int) -> None:
    cut = line(text).truncate(max(1, width)).text
    assert width_of(cut) <= max(1, width)
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))


@given(TEXTS, st.integers(0, 30), st.booleans())
def test_a_shortened_text_fits(text: str, width: int, middle: bool) -> None:
    assert width_of(shorten(text, width, middle=middle)) <= width


def test_long_name_loses_its_middle() -> None:
    assert shorten("train/gan2:pre@seed=12", 13, middle=True) == "train/…eed=12"


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), st.integers(1, 40))
def test_no_table_line_exceeds_the_width(rows: list[tuple[str, ...]], width: int) -> None:
    drawn = TextTable(COLUMNS, rows).to_lines(width)
    assert all(width_of(one.text) <= width for one in drawn)
    assert len(drawn) >= len(rows)


REASON = "one two three four five six seven eight nine"
NARROW = ("abcdefgh", "12345678", "why")


@pytest.mark.parametrize(
    ("columns", "rows", "width", "wanted"),
    [
        # columns line up, and empty ones are left out
        (COLUMNS, [("a", "", "x"), ("bbb", "", "yy")], 40, ["NAME  WHY", "a     x", "bbb   yy"]),
        # a column goes before another loses its least
        (COLUMNS, [NARROW], 14, ["NAME      WHY", "abcdefgh  why"]),
        (COLUMNS, [NARROW], 9, ["NAME  WHY", "abc…  why"]),
        (  # a long reason runs over a few lines below itself
            (Column("NAME"), Column("WHY", least=8, rows=3)),
            [("a", REASON)],
            *(20, ["NAME  WHY", "a     one two three", "      four … seven", "      eight nine"]),
        ),
        (  # but not where the screen ends before it
            (Column("NAME", least=14), Column("WHY", least=20, rows=3)),
            [("a" * 14, REASON)],
            *(20, ["NAME            WHY", "aaaaaaaaaaaaaa  one…"]),
        ),
    ],
)
def test_cells_without_room_are_left_out_cut_or_wrapped(
    columns: Sequence[Column], rows: list[tuple[str, ...]], width: int, wanted: list[str]
) -> None:
    drawn = TextTable(columns, rows, [7, 8][: len(rows)]).to_lines(width)
    assert texts_of(drawn) == wanted
    assert [one.job for one in drawn] == [None, *[7] * (len(wanted) - len(rows)), 8][: len(drawn)]


@pytest.mark.parametrize("text", ["世界" * 20, "a" * 40, "a " * 20, "e\u0301" * 40])
def test_reason_in_any_script_is_wrapped_without_loss(text: str) -> None:
    shapes = (Column("NAME"), Column("WHY", least=8, rows=3))
    drawn = texts_of(TextTable(shapes, [("a", text)]).to_lines(40))
    assert len(drawn) <= 1 + 3
    assert all(width_of(one) <= 40 for one in drawn)
    assert "".join(drawn[1:]).replace(" ", "")[1:] == text.replace(" ", "")


def test_name_in_a_reason_is_shortened_before_other_words() -> None:
    reason = f"waiting for {'x' * 90} (job 41) and 2 more jobs"
    shapes = (Column("WHY", least=28, rows=3),)
    drawn = texts_of(TextTable(shapes, [(reason,)]).to_lines(32))[1:]
    assert len(drawn) <= 3
    assert all(width_of(one) <= 32 for one in drawn)
    told = " ".join(drawn)
    assert told.startswith("waiting for x")
    assert "x…x" in told
    assert told.endswith("(job 41) and 2 more jobs")


def test_long_reason_without_words_is_one_empty_line() -> None:
    shapes = (Column("NAME"), Column("WHY", least=8, rows=3))
    drawn = TextTable(shapes, [("a", " " * 99), ("b", "x")]).to_lines(40)
    assert [one.text.split() for one in drawn] == [["NAME", "WHY"], ["a"], ["b", "x"]]


@pytest.mark.parametrize(("text", "columns"), [("e\u0301", 1), ("ก\u0e34", 1), ("世", 2), ("é", 1)])
def test_combining_character_has_no_width(text: str, columns: int) -> None:
    assert width_of(text) == columns


def test_cell_of_spans_keeps_their_styles() -> None:
    bar = TextLine((TextSpan("##", TextStyle.OURS), TextSpan("..", TextStyle.DIM)))
    (drawn,) = TextTable((Column(), Column()), [(bar, "x")]).to_lines(20)
    assert [span.style for span in drawn.spans[:2]] == [TextStyle.OURS, TextStyle.DIM]


def test_table_without_rows_has_no_lines() -> None:
    assert TextTable(COLUMNS, []).to_lines(80) == []


def test_rows_can_be_records_with_cell_functions() -> None:
    shapes = (
        Column("NAME", cell_of=lambda row: row["name"]),
        Column("N", right=True, cell_of=lambda row: TextSpan(str(row["n"]), TextStyle.DIM)),
        Column("NONE", cell_of=lambda _: ""),
    )
    table = TextTable(
        shapes, [{"name": "a\n", "n": 70}, {"name": "b", "n": 8}], [3, 4], [line("more")]
    )
    assert [(one.text, one.job) for one in table.to_lines()] == [
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
def test_table_of_texts_keeps_its_titles(rows: list[tuple[str, str]], drawn: list[str]) -> None:
    assert texts_of(table_of_texts(("A", "B"), rows, {1}).to_lines(2)) == drawn


@pytest.mark.parametrize(
    ("width", "drawn"),
    [
        (40, ["NAME  AUC           LOSS", "a     0.9 [0.8, 1]  0.5"]),
        (20, ["NAME  AUC  LOSS", "a     0.9  0.5"]),
        (10, ["NAME  AUC", "a     0.9", "", "without LOSS"]),
    ],
)
def test_narrow_table_replaces_the_table_and_names_left_out_columns(
    width: int, drawn: list[str]
) -> None:
    shapes = (Column("NAME"), Column("AUC", drop=1), Column("LOSS", drop=2))
    less = TextTable(
        shapes, [("a", "0.9", "0.5")], left_out=lambda titles: f"without {', '.join(titles)}"
    )
    table = TextTable(shapes, [("a", "0.9 [0.8, 1]", "0.5")], narrower=lambda: less)
    assert texts_of(table.to_lines(width)) == drawn


def test_ascii_replacements_have_one_character() -> None:
    assert all(chr(twin).isascii() for twin in TWINS.values())
    assert in_ascii("● 世 é ✓") == "* ?? ? +"


def test_one_table_has_the_form_of_each_reader() -> None:
    table = table_of_texts(("name", "n"), [("a_b", 1), ("c", 20)], {1})
    assert texts_of(table.to_lines()) == ["name   n", "a_b    1", "c     20"]
    assert tab_separated(table.cells) == "a_b\t1\nc\t20\n"
    assert markdown_text(table) == "| name | n |\n| --- | --: |\n| a\\_b | 1 |\n| c | 20 |"
    assert latex_text(table).splitlines()[3:7] == [
        "name & n \\\\",
        "\\midrule",
        "a\\_b & 1 \\\\",
        "c & 20 \\\\",
    ]


def test_text_columns_are_aligned() -> None:
    rows = [("a", "1", "x"), ("bbb", "100", "")]
    assert columns(rows, right={1}) == ["a      1  x", "bbb  100"]
    assert columns([("人", "\x1b[2J", "b"), ("c", "", "d")]) == [
        "人  \\x1b[2J  b",
        "c            d",
    ]
    assert columns([]) == []


@pytest.mark.parametrize("width", [10, 20, 30])
def test_last_text_column_is_wrapped_not_cut(width: int) -> None:
    words = "one two three four five"
    shapes = (Column("KIND"), Column("WHAT", least=12, rows=0))
    lines = texts_of(TextTable(shapes, [("a", words)]).to_lines(width))
    assert " ".join(" ".join(lines).split()) == f"KIND WHAT a {words}"
    assert max(map(len, lines)) <= max(width, len("KIND") + GAP + 12)


def test_pipe_line_contains_each_cell_as_text() -> None:
    assert tab_separated([("a\tb\n", None, 1.5, b"xy")]) == "a\\tb\\n\t\t1.5\t2 bytes\n"
    assert tab_separated([]) == ""


LONG = "test/gan2:pre&gan3:pre&sd15:pre&sd21:pre%50~pgu@lr=0.001,seed={}/gan2:pre&gan3:pre&real:pre"


PARTS = st.sampled_from(
    ["gan2", "sdXL", "real:", "pre", "fb", "%50", "~pgu", "&", "/", "@seed=1", "@seed=12"]
)


GRAMMAR = st.lists(PARTS, min_size=1, max_size=40).map("".join)


ANYTHING = st.text(st.characters(codec="utf-8"), max_size=200)


SETS = st.sets(st.one_of(GRAMMAR, ANYTHING), min_size=1, max_size=12)


@given(SETS, st.integers(8, 200))
@example({LONG.format(seed) for seed in range(9)}, 24)
@example({"a" * 300 + "b" * n for n in range(9)}, 60)
def test_shortened_names_fit_and_short_names_are_unchanged(names: set[str], width: int) -> None:
    shown = distinguish_names(sorted(names), width)
    assert shown.keys() == names
    assert all(width_of(one) <= width for one in shown.values())
    assert all(shown[name] == name for name in names if width_of(name) <= width)


@given(
    st.lists(GRAMMAR, min_size=2, max_size=2),
    st.sets(st.integers(0, 99), min_size=2, max_size=9),
    st.integers(16, 60),
)
def test_names_differing_in_one_word_stay_different(
    ends: list[str], seeds: set[int], width: int
) -> None:
    names = [f"train/{ends[0]},word={seed}/{ends[1]}" for seed in seeds]
    assert len(set(distinguish_names(names, width).values())) == len(names)


def test_swept_values_stay_whole_next_to_names_that_fit() -> None:
    rows = [(lr, seed, model) for lr in ("0.1", "1") for seed in (0, 1) for model in ("lin", "vit")]
    names = {row: "lr={} seed={} model={}".format(*row) for row in rows}
    shown = distinguish_names(names.values(), 22)  # fits those with lr=1
    for (lr, seed, model), name in names.items():
        assert re.fullmatch(rf"\S+={lr} \S+={seed} \S+={model}", shown[name]), shown[name]


def test_common_parts_of_names_are_left_out() -> None:
    shown = distinguish_names([LONG.format(seed) for seed in (1, 2)], 40)
    assert [*shown.values()] == [
        "test/gan2…001,seed=1/gan2:pre&…&real:pre",
        "test/gan2…001,seed=2/gan2:pre&…&real:pre",
    ]


@pytest.mark.parametrize(
    ("width", "names", "texts"),
    [
        (11, "train@lr=0.1 train@lr=0.01", "tr…n@lr=0.1 tra…lr=0.01"),
        (8, "train@lr=0.1 train@lr=0.01", "t…lr=0.1 …lr=0.01"),
        (20, "train@lr=0.01,hidden=4 train@lr=0.1,hidden=8", "tra…lr=0.01,hidden=4 tr…n@lr=0.1,hidden=8"),
        # equal parts go before the name of a different one, and that before its value
        (20, "train@optimizer=adam,seed=1 train@optimizer=sgd,seed=1", "t…optimizer=adam,se… tr…optimizer=sgd,se…"),
        (16, "train@learning-rate=0.001 train@learning-rate=0.1", "train…rate=0.001 train@…-rate=0.1"),
        # one name that is too long has nothing to compare with
        (16, "a-long-program@lr=0.01", "a-lo…ram@lr=0.01"),
        (12, "train@lr=0.1 train@lr=0.01", "train@lr=0.1 tr…n@lr=0.01"),
    ],
)  # fmt: skip
def test_differing_parameters_are_not_cut(width: int, names: str, texts: str) -> None:
    assert " ".join(distinguish_names(names.split(), width).values()) == texts


TWO_ENDS = [
    f"test/gan2:pre%{percent}@seed={seed}/{data}:pre"
    for percent in (20, 40)
    for seed in (1, 2)
    for data in ("gan2", "real")
]


MATRIX = [
    f"gan2:pre&real:pre%40{unlearn}@seed={seed},weight_decay=0.000{decay},patch_size=32"
    for unlearn in ("", "~relabel")
    for seed in (1, 2)
    for decay in (1, 2)
]


@pytest.mark.parametrize("width", [24, 28, 40, 60])
@pytest.mark.parametrize("names", [TWO_ENDS, MATRIX])
def test_groups_and_names_both_stay_distinguishable(names: list[str], width: int) -> None:
    shown = [*distinguish_names(names, width).values()]
    assert len(set(shown)) == len(names)
    assert all(width_of(text) <= width for text in shown)
    assert not any("#" in text or text.endswith(")") for text in shown)
    if names is MATRIX and width >= 40:
        assert [text for text in shown if "=1" in text] == shown[:2] + shown[4:6]
        assert [text for text in shown if "elabel" in text] == shown[4:]


def test_unrelated_names_do_not_affect_similar_names() -> None:
    other = [f"command/a-long-name-of-a-program-number-{n}-of-two" for n in (1, 2)]
    shown = distinguish_names([*TWO_ENDS, *other], 28)
    assert [shown[name] for name in TWO_ENDS] == [*distinguish_names(TWO_ENDS, 28).values()]
    assert [shown[name] for name in other] == [*distinguish_names(other, 28).values()]


def test_seeds_of_a_model_stay_distinguishable() -> None:
    note = "waiting for 18.9 GiB of GPU memory: cuda:0 has 8.6 GiB free, of which 2 GiB is reserved for job 41"
    # one number gives no information
    lines = [a_line(7, LONG.format(seed), State.QUEUED, note) for seed in range(12)]
    works = tuple(one._replace(state=State.RUNNING, since=NOW) for one in lines[:4])
    ended = tuple(one._replace(since=NOW, state=State.DONE, latest=State.DONE) for one in lines[8:])
    screen = an_idle_screen()._replace(running=works, waiting=tuple(lines[4:8]), recent=ended)
    for width in (80, 100, 160):
        tables = running_table(screen), waiting_table(screen), job_table(lines, NOW)
        sections = [table.to_lines(width) for table in tables]
        for drawn in sections:
            texts = [one.text for one in drawn if one.job is not None]
            shown = [text for text in texts if not text.startswith("  ")]
            assert len(set(shown)) == len(shown) >= 4


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("everything", [False, True])
def test_results_of_two_seeds_stay_distinguishable(width: int, everything: bool) -> None:
    model = "gan2:pre&gan3:pre&sd15:pre&sd21:pre&real:pre%50~pgu/real:pre@lr=0.001,seed={}"
    rows = [a_row(model.format(seed), "all:pre&real:pre", pooled=not everything) for seed in (1, 2)]
    drawn = draw(rows, everything=everything, width=width).splitlines()
    first, second = [one for one in drawn if one.startswith("gan2")][:2]
    assert first != second
    assert "seed=1" in first
    assert "seed=2" in second


def test_file_output_has_full_names() -> None:
    assert not sys.stdout.isatty()
    rows = [a_row("m" * 300, "gan2:pre", pooled=False)]
    assert "m" * 300 in draw(rows, width=terminal_width())


# --- format


STEERING = "\x1b]0;title\x07\x1b[2J\r\n\t\x9b31m\u202e\x00"


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_text_cannot_control_a_terminal(text: str) -> None:
    assert sanitize_terminal(text).isprintable()


@settings(max_examples=50, deadline=None)
@given(st.text().filter(str.isprintable))
def test_plain_text_is_unchanged(text: str) -> None:
    assert sanitize_terminal(text) == text


def test_control_characters_become_visible() -> None:
    assert sanitize_terminal("\x1b[31mred\udcff\n") == "\\x1b[31mred\\udcff\\n"


def test_every_state_has_an_order_and_a_glyph() -> None:
    assert set(GLYPHS) == set(ORDER) == set(State)
    assert len({in_ascii(glyph) for glyph in (*GLYPHS.values(), PAUSED)}) == len(State) + 1


def test_tally_contains_only_present_states() -> None:
    assert tally({}) == "no jobs"
    assert tally({State.QUEUED: 3, State.RUNNING: 1, State.DONE: 0}) == "1 running · 3 queued"


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec=None, categories=["C", "Zs", "Zl", "Zp", "L"])))
def test_each_character_is_shown_separately(text: str) -> None:
    assert sanitize_terminal(text) == "".join(map(sanitize_terminal, text))


def test_the_first_few_jobs_are_named(store: Store) -> None:
    jobs = enqueue(store, *(f"train/{letter}\x1b" for letter in "abcd"))
    rows = [job_row(store, job) for job in jobs]
    assert format_job_names(rows[:1]) == "train/a\\x1b"
    assert format_job_names(rows, 2) == "train/a\\x1b, train/b\\x1b and 2 more"


def test_short_time_has_seconds_only_if_not_zero() -> None:
    noon = datetime(2026, 11, 20, 12, 0).timestamp()  # noqa: DTZ001  # local on purpose
    assert short_local_time(noon) == "2026-11-20 12:00"
    assert short_local_time(noon + 5) == "2026-11-20 12:00:05"


def test_iso_times_are_utc() -> None:
    assert iso_time(0.0) == "1970-01-01T00:00:00Z"


def test_pipe_has_one_record_per_line_for_any_job_name(store: Store) -> None:
    (job,) = enqueue(store, f"command/{STEERING}")
    row = job_row(store, job)
    (record,) = column_records(store.home, store, [row], USUAL_COLUMNS)
    text = tab_separated([pipe_cells(record, keys_of(USUAL_COLUMNS))])
    assert text.count("\n") == 1
    assert text.count("\t") == 6
    assert text.replace("\t", "").removesuffix("\n").isprintable()
    assert json.loads(json.dumps(job_view(row).to_json()))["id"] == job


def test_every_column_has_a_value_for_a_pipe_and_for_people(store: Store) -> None:
    waiting, ended = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    finished(store, ended)
    store.job_control.set_note([ended], "the best")
    columns = parse_columns(",".join(JOB_COLUMNS))
    rows = store.read.jobs_by_id([waiting, ended])
    records = [*column_records(store.home, store, rows, columns)]
    assert {len(pipe_cells(record, keys_of(columns))) for record in records} == {len(columns)}
    assert "the best" in table_of_columns(records, columns).to_lines()[-1].text


def test_quick_columns_are_those_of_a_view(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    view = job_view(job_row(store, job)).to_json()
    assert {*view, "owner_note"} - {"note_code"} == QUICK_KEYS


def test_running_job_shows_its_progress(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    step = ProgressReport(at=1.0, step=3, total=9, metrics={"note": STEERING})
    assert job_view(job_row(store, job), AttemptProgress(step)).reason.startswith("3/9 note=\\x1b")
    assert job_view(job_row(store, job)).reason == "fits"


def test_running_job_shows_its_start_time(store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    claimed(store, job)
    assert job_view(job_row(store, job), start_time=77.0).since == 77.0


def test_waiting_job_shows_the_number_of_dependencies(store: Store) -> None:
    names = ["command/a", "command/b", "command/c"]
    a, _, c = enqueue(store, *names, needs={names[2]: names[:2]})
    assert why(job_row(store, c)) == "waiting for 2 more jobs"
    finished(store, a)
    assert why(job_row(store, c)) == "waiting for 1 more job"


def test_waiting_job_shows_its_earliest_start(store: Store) -> None:
    at = datetime(2036, 11, 20, 18, 30).timestamp()  # noqa: DTZ001  # local on purpose
    terms = Terms(not_before=at)
    a, b = enqueue(
        store,
        a_spec(name="command/a", terms=terms),
        a_spec(name="command/b", terms=terms),
        needs={"command/b": ["command/a"]},
    )
    assert why(job_row(store, a)) == "waiting for 2036-11-20 18:30"
    assert why(job_row(store, b)) == "waiting for 1 more job and until 2036-11-20 18:30"


def test_waiting_job_shows_the_missing_resource(store: Store) -> None:
    a, b, c = enqueue(
        store,
        a_spec(name="command/a", cpus=4),
        a_spec(name="command/b", cpus=4),
        a_spec(name="command/c", cpus=4),
        needs={"command/b": ["command/a"]},
    )
    (first, _) = store.ready_jobs.read_ready(2)
    store.ready_jobs.record_lane_reasons(
        {first.lane_id: a_reason("waiting for 4 CPU cores: 1 of 8 free")}
    )
    assert (
        why(job_row(store, a)) == why(job_row(store, c)) == "waiting for 4 CPU cores: 1 of 8 free"
    )
    assert why(job_row(store, b)) == "waiting for 1 more job"
    store.job_control.hold([c], 2.0)
    assert why(job_row(store, c)) == "held by its owner"


def test_failed_job_shows_its_retry(store: Store) -> None:
    (job,) = enqueue(store, a_spec(terms=Terms(retries=2)))
    failed = Failed(at=2.0, error="no network\nat all")
    finished(store, job, failed)
    assert why(job_row(store, job)) == "waiting for retry 1 of 2 after 10 s: no network"


# --- Curves of numbers as text


FALLING = [(float(step), math.exp(-step / 20)) for step in range(1, 101)]


def texts(points: list[tuple[float, float]], width: int, height: int) -> list[str]:
    return texts_of(chart(points, width, height))


def test_curve_has_numbers_on_both_axes() -> None:
    assert texts([(0, 0), (1, 1), (2, 2), (3, 3)], 14, 6) == [
        "3┤           █",
        " │       ▆▆▆▆█",
        " │    ▃▃▃█████",
        "0┤▁▁▁▁████████",
        " └────────────",
        "  0          3",
    ]


def test_high_chart_has_a_number_in_the_middle() -> None:
    drawn = texts(FALLING, 60, 12)
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == [
        "0.9512",
        "0.4265",
        "0.006738",
    ]
    assert drawn[-1].split() == ["1", "100"]


@given(
    st.lists(st.floats(), max_size=50),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_curve_stays_within_its_frame(values: list[float], width: int, height: int) -> None:
    drawn = texts([(float(step), value) for step, value in enumerate(values)], width, height)
    assert 1 <= len(drawn) <= max(1, height)
    assert all(width_of(one) <= width for one in drawn)


def test_non_finite_numbers_are_left_out() -> None:
    drawn = texts([(1, math.nan), (2, math.inf), (3, 7.5)], 30, 6)
    assert drawn[0].startswith("7.537┤")
    assert texts([(1, math.nan)], 30, 6) == ["no numbers yet"]


def test_latest_value_is_shown_if_there_is_no_room() -> None:
    assert texts(FALLING, 60, 2) == ["0.006738"]
    assert texts(FALLING, 8, 20) == ["0.006738"]


@pytest.mark.parametrize("height", [4, 9, 20])
def test_chart_has_ascii_replacements(height: int) -> None:
    assert "?" not in in_ascii("\n".join(texts(FALLING, 70, height)))


def test_nearly_constant_values_are_drawn_flat() -> None:
    drawn = texts([(step, 1 + step * 1e-6) for step in range(50)], 40, 8)
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == ["1.005", "0.995"]
    assert len({one.split("┤")[-1].split("│")[-1] for one in drawn[:-2]}) <= 3


def test_axis_can_begin_at_zero() -> None:
    drawn = texts_of(chart([(1, 4.0), (2, 5.0)], 30, 6, floor=0))
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == ["5", "0"]
