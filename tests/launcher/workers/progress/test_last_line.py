"""What a program printed last, as it may stand in a list."""

import pytest

from launcher.workers.progress.printed_lines import MOST_CHARACTERS, last_line


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (b"", ""),
        (b" \n\r\n\t", ""),
        (b"first\nsecond\n", "second"),
        (b"first\nsecond", "second"),
        (b"10 %\r20 %\r", "20 %"),
        (b"first\r\nsecond\r\n\r\n", "second"),
        (b"\x1b[32mgreen\x1b[0m and \x1b]0;title\x07plain\x1b[K\n", "green and plain"),
        (b"a\tb\x07\n", "a b\\x07"),
        ("über\n".encode(), "über"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
    ],
)
def test_the_last_line_that_is_not_blank_is_shown_without_escape_sequences(
    end: bytes, line: str
) -> None:
    assert last_line(end) == line


def test_a_long_line_is_cut() -> None:
    line = last_line(b"first\n" + b"x" * 100_000 + b"\n")
    assert line == "x" * MOST_CHARACTERS + "…"


def test_of_a_line_that_begins_further_back_the_end_is_shown() -> None:
    line = last_line(b"x" * 100_000 + b"the end")
    assert line.startswith("…x")
    assert line.endswith("the end")
    assert len(line) == MOST_CHARACTERS + 1
