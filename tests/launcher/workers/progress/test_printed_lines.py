"""`launcher: step=3 total=10 loss=.2`, wherever it stands in a log."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.workers.progress.printed_lines import (
    LONGEST_BYTES,
    newest_printed,
    pairs_of,
    printed_steps,
)
from launcher.workers.progress.steps import Step


def steps(text: bytes) -> list[Step]:
    return printed_steps(text, 5.0)[0]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"launcher: step=3 total=10 loss=.2\n", "3/10 loss=0.2"),
        (b"launcher: step=3/10 loss=2e-1\n", "3/10 loss=0.2"),
        (b"launcher: step=3\r", "3"),
        (b"30%|###   |\rlauncher: step=3 loss=1.\r", "3 loss=1"),
        (
            b"INFO:root:launcher: step=3, val/acc=.5, phase=warm-up;\n",
            "3 val/acc=0.5 phase=warm-up",
        ),
        (b"2026-11-22 10:00:00 [train] launcher: step=3 lr=+1E-4\r\n", "3 lr=0.0001"),
        (b"launcher: step=3 total=0 loss=-inf done\n", "3 loss=-inf"),
        (b"launcher: step=3 total=many\n", "3"),
    ],
)
def test_a_line_tells_step_total_and_numbers_by_name(line: bytes, shown: str) -> None:
    (step,) = steps(b"something else\n" + line)
    assert str(step) == shown
    assert step.at == 5.0


@pytest.mark.parametrize(
    "line",
    [
        b"launcher: the disk is full\n",
        b"launcher: step=three\n",
        b"launcher: step=1,000\n",
        b"launcher: step=-1\n",
        b"launcher: step=1e3\n",
        b"launcher:step=3\n",
        b"mylauncher: step=3\n",
        b"./launcher: step=3\n",
        b"launcher: step=3 total=1",  # what follows is not written yet
        b"launcher: step=3 " + b"x" * LONGEST_BYTES + b"\n",
    ],
)
def test_other_lines_tell_nothing(line: bytes) -> None:
    assert steps(line) == []
    assert newest_printed(line, 0.0) is None


def test_the_newest_step_has_what_all_its_lines_tell() -> None:
    text = (
        b"launcher: step=1 total=9 loss=.9\nlauncher: step=2 total=9 loss=.5\nsaved\n"
        b"launcher: step=2 val_loss=.6\nlauncher: step=3 los"
    )
    assert str(newest_printed(text, 0.0)) == "2/9 loss=0.5 val_loss=0.6"


def test_a_name_that_is_a_number_of_another_form_stays_a_word() -> None:
    assert pairs_of("a=1_000 b=0x1f c=nan d=3% e=٣ f=" + "y" * 99) == {
        "a": "1_000",
        "b": "0x1f",
        "c": pytest.approx(math.nan, nan_ok=True),
        "d": "3%",
        "e": "٣",
        "f": "y" * 64,
    }


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.binary(max_size=20))
def test_a_log_that_is_read_in_pieces_tells_the_same(cuts: list[int], between: bytes) -> None:
    line = b"launcher: step=%d total=99 loss=0.5\n"
    text = b"".join(line % number + between.replace(b"launcher", b"") for number in range(20))
    whole = steps(text)
    pieces: list[Step] = []
    begin, end = 0, 0
    for cut in [*cuts, len(text)]:
        end = min(len(text), end + cut) if cut != len(text) else len(text)
        read, done = printed_steps(text[begin:end], 5.0)
        pieces += read
        begin += done
    assert pieces == whole


def test_a_line_without_an_end_is_searched_for_its_end_once() -> None:
    flood = b"launcher: step=1 " * 4000  # 64 KiB without a newline
    assert newest_printed(flood, 0.0) is None
    assert steps(flood) == []
