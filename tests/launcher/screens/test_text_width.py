"""Names in few columns: what is left out of them is what they share."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.cli.result_tables import draw
from launcher.screens.queue_view import jobs_listed, running, waiting
from launcher.screens.terminal import terminal_width
from launcher.screens.text_table import distinguished, width_of
from launcher.states import State
from tests.launcher.cli.commands.test_results import a_row
from tests.screens import NOW, a_line, an_idle_screen

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
def test_names_fit_and_those_that_fit_by_themselves_stay_whole(names: set[str], width: int) -> None:
    shown = distinguished(sorted(names), width)
    assert shown.keys() == names
    assert all(width_of(one) <= width for one in shown.values())
    assert all(shown[name] == name for name in names if width_of(name) <= width)


@given(
    st.lists(GRAMMAR, min_size=2, max_size=2),
    st.sets(st.integers(0, 99), min_size=2, max_size=9),
    st.integers(16, 60),
)
def test_names_that_differ_in_one_word_stay_different(
    ends: list[str], seeds: set[int], width: int
) -> None:
    names = [f"train/{ends[0]},word={seed}/{ends[1]}" for seed in seeds]
    assert len(set(distinguished(names, width).values())) == len(names)


def test_what_names_share_is_left_out_and_what_differs_stays() -> None:
    shown = distinguished([LONG.format(seed) for seed in (1, 2)], 40)
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
        # what is alike goes before the name of what differs, and that before its value
        (20, "train@optimizer=adam,seed=1 train@optimizer=sgd,seed=1", "t…optimizer=adam,se… tr…optimizer=sgd,se…"),
        (16, "train@learning-rate=0.001 train@learning-rate=0.1", "train…rate=0.001 train@…-rate=0.1"),
        # one name that is too long has nothing to compare with
        (16, "a-long-program@lr=0.01", "a-lo…ram@lr=0.01"),
        (12, "train@lr=0.1 train@lr=0.01", "train@lr=0.1 tr…n@lr=0.01"),
    ],
)  # fmt: skip
def test_the_parameters_that_differ_stay_whole(width: int, names: str, texts: str) -> None:
    assert " ".join(distinguished(names.split(), width).values()) == texts


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
def test_what_tells_two_groups_apart_stays_with_what_tells_their_names_apart(
    names: list[str], width: int
) -> None:
    shown = [*distinguished(names, width).values()]
    assert len(set(shown)) == len(names)
    assert all(width_of(text) <= width for text in shown)
    assert not any("#" in text or text.endswith(")") for text in shown)
    if names is MATRIX and width >= 40:
        assert [text for text in shown if "=1" in text] == shown[:2] + shown[4:6]
        assert [text for text in shown if "elabel" in text] == shown[4:]


def test_names_that_share_nothing_do_not_blur_what_tells_others_apart() -> None:
    other = [f"command/a-long-name-of-a-program-number-{n}-of-two" for n in (1, 2)]
    shown = distinguished([*TWO_ENDS, *other], 28)
    assert [shown[name] for name in TWO_ENDS] == [*distinguished(TWO_ENDS, 28).values()]
    assert [shown[name] for name in other] == [*distinguished(other, 28).values()]


def test_seeds_of_a_model_do_not_look_alike_on_one_screen() -> None:
    note = "needs 18.9 GiB; cuda:0 has 8.6 GiB free, 2 GiB of it promised to job 41"
    # one number: it tells nothing
    lines = [a_line(7, LONG.format(seed), State.QUEUED, note) for seed in range(12)]
    works = tuple(one._replace(state=State.RUNNING, since=NOW) for one in lines[:4])
    ended = tuple(one._replace(since=NOW, state=State.DONE, latest=State.DONE) for one in lines[8:])
    screen = an_idle_screen()._replace(running=works, waiting=tuple(lines[4:8]), recent=ended)
    for width in (80, 100, 160):
        tables = running(screen), waiting(screen), jobs_listed(lines, NOW)
        sections = [table.drawn(width) for table in tables]
        for drawn in sections:
            texts = [one.text for one in drawn if one.job is not None]
            shown = [text for text in texts if not text.startswith("  ")]
            assert len(set(shown)) == len(shown) >= 4


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("everything", [False, True])
def test_results_of_two_seeds_never_look_alike(width: int, everything: bool) -> None:
    model = "gan2:pre&gan3:pre&sd15:pre&sd21:pre&real:pre%50~pgu/real:pre@lr=0.001,seed={}"
    rows = [a_row(model.format(seed), "all:pre&real:pre", pooled=not everything) for seed in (1, 2)]
    drawn = draw(rows, everything=everything, width=width).splitlines()
    first, second = [one for one in drawn if one.startswith("gan2")][:2]
    assert first != second
    assert "seed=1" in first
    assert "seed=2" in second


def test_a_file_gets_whole_names() -> None:
    assert not sys.stdout.isatty()
    rows = [a_row("m" * 300, "gan2:pre", pooled=False)]
    assert "m" * 300 in draw(rows, width=terminal_width())
