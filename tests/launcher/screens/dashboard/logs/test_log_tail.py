"""The part of a log that is on the screen."""

from pathlib import Path

import pytest

from launcher.screens.dashboard.log_page import MOST_BYTES, LogTail

LINE = "line %06d\n"
COUNT = 300_000  # lines: 3.1 MiB


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.write_text("".join(LINE % number for number in range(COUNT)))
    return file


def test_a_long_log_is_shown_from_its_end_and_says_how_much_is_before(log: Path) -> None:
    tail = LogTail()
    lines = tail.lines(log, 80)
    assert lines[-1] == "line 299999"
    assert lines[0].startswith("… ")
    assert lines[0].endswith("MiB before this")
    assert tail.has_before
    assert not tail.has_after


def test_what_lies_around_a_byte_is_shown(log: Path) -> None:
    tail = LogTail()
    place = 12 * 150_000
    tail.anchor = place
    lines = tail.lines(log, 80)
    row = tail.row_of(place)
    assert row is not None
    assert lines[row] == "line 150000"
    assert tail.place_of(row) == place
    assert lines[-1].endswith("MiB after this")
    assert len("".join(lines)) < MOST_BYTES
    assert tail.row_of(0) is None
    tail.anchor = None
    assert tail.lines(log, 80)[-1] == "line 299999"


def test_a_line_of_the_screen_is_found_again_in_the_log(log: Path) -> None:
    tail = LogTail()
    for place in (0, 12 * COUNT - 12, 12 * 99_999):
        tail.anchor = place
        lines = tail.lines(log, 80)
        row = tail.row_of(place)
        assert row is not None
        assert lines[row] == (LINE % (place // 12)).rstrip()


def test_a_place_in_a_long_line_is_on_the_piece_that_holds_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\r\n" + b"x" * 95 + b"\x1b" + b"here\rlast")
    tail = LogTail()
    lines = tail.lines(log, 40)
    assert lines == ["first", "x" * 40, "x" * 40, "x" * 15 + "\\x1bhere", "last"]
    assert tail.row_of(7 + 96) == 3
    assert tail.row_of(7 + 79) == 2
    assert tail.row_of(7 + 80) == 3
    assert tail.row_of(7 + 101) == 4
    assert tail.place_of(3) == 7


def test_a_line_longer_than_a_part_is_shown_where_it_is_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (5 * MOST_BYTES) + b"here" + b"x" * MOST_BYTES + b"\nlast\n")
    tail = LogTail()
    tail.anchor = 5 * MOST_BYTES
    lines = tail.lines(log, 80)
    row = tail.row_of(5 * MOST_BYTES)
    assert row is not None
    assert "here" in lines[row] + lines[row + 1]


def test_a_part_stays_while_the_log_grows(log: Path) -> None:
    tail = LogTail()
    tail.anchor = 0
    before = tail.lines(log, 80)[:-1]
    with log.open("a") as file:
        file.write("more\n" * 100_000)
    assert tail.lines(log, 80)[:-1] == before


def test_a_log_that_was_written_anew_is_followed(log: Path) -> None:
    tail = LogTail()
    tail.anchor = 2_000_000
    tail.lines(log, 80)
    log.write_text("anew\n")
    assert tail.lines(log, 80) == ["anew"]
    log.unlink()
    assert tail.lines(log, 80) == []
    assert not tail.has_before
