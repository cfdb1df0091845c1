"""A block of a page is compared with the output line by line."""

import pytest

from tests.printed_output import Difference, first_difference, screen_lines, with_folders

SHOWN = ["job  acc", "fit  0.91", "…", "note: 2 of 4 jobs ran in 3.1 s"]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("fit 0.91", "fit   0.92"),  # one in the last digit, and columns of another width
        ("fit 1,234.5", "fit 1,234.4"),
        ("since 2026-11-27 09:01:51", "since 2026-12-01 18:30:02"),
        ("after 2 m 5 s, pid 41", "after 380 ms, pid 9041"),
        ("60.5 GiB of 252 GiB free", "1 GiB of 2 TiB free"),
        ("http://127.0.0.1:46625/?token=FHf", "http://127.0.0.1:80/?token=a_b-c"),
        ("held after 3 failures (pyth…", "held after 3 failures (python: can't open file"),
        ("acc  …", "acc  loss  lr"),
        ("1.0.0rc1 (commit 0123456789ab)", "0.3.0.dev1 (with changes, commit ab9876543210)"),
        ("", ""),
    ],
)
def test_lines_agree_that_differ_by_a_pattern_or_the_last_digit(shown: str, printed: str) -> None:
    assert first_difference([shown], [printed]) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("fit 0.91", "fit 0.93"),
        ("fit 0.91", "fit 0.910"),
        ("fit 0.91", "fit 0.91 0.5"),
        ("3 of 4 jobs", "3 of 5 jobs"),
        ("job 14 is done", "job 14 is held"),
        ("needs 2 GiB", "needs 3 GiB"),
        ("held after 3 …", "held after 4 failures"),
    ],
)
def test_lines_differ_in_words_whole_numbers_and_decimals(shown: str, printed: str) -> None:
    assert first_difference([shown], [printed]) == Difference(0, shown, printed)


@pytest.mark.parametrize(
    ("printed", "agrees"),
    [
        ("0.95 (0.88 to 0.98)", True),
        ("0.91 (0.90 to 0.98)", True),
        ("0.91 (0.90 to 0.97)", True),  # by one in the last digit
        ("0.91 (0.90 to 0.96)", False),
        ("0.91 ± 0.02 (0.88 to 0.98)", False),
        ("0.99 (0.88 to 0.98)", False),
    ],
)
def test_in_the_lab_a_number_may_differ_by_its_interval(printed: str, agrees: bool) -> None:
    shown = ["acc 0.91 (0.88 to 0.98)"]
    found = first_difference(shown, [f"acc {printed}"], within_intervals=True)
    assert (found is None) is agrees


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (["job acc", "fit 0.91", "a", "b", "note: 2 of 4 jobs ran in 7 s"], None),
        (["job acc", "fit 0.91", "note: 2 of 4 jobs ran in 7 s"], None),
        (["job acc", "fit 0.91", "a"], Difference(3, SHOWN[3], "nothing more")),
        (["job acc", "fit 0.85", "a"], Difference(1, SHOWN[1], "fit 0.85")),
    ],
)
def test_omitted_lines_may_be_any(printed: list[str], expected: Difference | None) -> None:
    assert first_difference(SHOWN, printed) == expected


@pytest.mark.parametrize(
    ("shown", "printed", "message"),
    [
        (["a", "…"], "abcdef", "1 of 6 lines"),
        (["…"], "a", "0 of 1 lines"),
        (["a", "b", "c", "…"], "abcdefghijkl", None),
        (["a", "b", "…"], "abc", None),
    ],
)
def test_a_block_keeps_three_lines_or_two_thirds(
    shown: list[str], printed: str, message: str | None
) -> None:
    found = first_difference(shown, [*printed])
    assert (found and found.expected) == message


def test_a_line_too_many_is_a_difference() -> None:
    assert first_difference(["a"], ["a", "b"]) == Difference(1, "nothing more", "b")


def test_a_screen_has_the_lines_that_remain() -> None:
    drawn = "1 of 2\r2 of 2\r\n\x1b[1m done\x1b[0m\ta\nold\x1b[1A\r\x1b[Knew\n"
    assert [*screen_lines(drawn)][:3] == ["2 of 2", "new", "old"]
    assert with_folders("in /tmp/abcd/x", {"/tmp/abcd": "/home/ada"}) == "in /home/ada/x"
