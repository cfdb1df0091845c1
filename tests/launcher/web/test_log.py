from pathlib import Path
from typing import NamedTuple

import pytest

from launcher.system.files import read_part
from launcher.web.jobs import WINDOW_BYTES
from launcher.web.page import LONGEST_LINE, lines_of


class Window(NamedTuple):
    lines: tuple[str, ...]
    begin: int
    end: int
    size: int


def a_window(
    log: Path, *, begin: int | None = None, end: int | None = None, most_bytes: int = WINDOW_BYTES
) -> Window:
    part = read_part(log, begin=begin, end=end, most_bytes=most_bytes)
    assert part is not None
    return Window(tuple(lines_of(part.data)), part.begin, part.end, part.size)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    return log


def test_a_log_ends_with_its_last_lines(log: Path) -> None:
    window = a_window(log, most_bytes=100)
    assert window.lines[-1] == "line 999"
    assert window.lines[0].startswith("line 9")
    assert window.end == window.size


def test_windows_join_without_a_gap_in_both_directions(log: Path) -> None:
    window = a_window(log, most_bytes=1000)
    lines = list(window.lines)
    while window.begin:
        window = a_window(log, end=window.begin, most_bytes=1000)
        lines = [*window.lines, *lines]
    assert lines == log.read_text().splitlines()
    window = a_window(log, begin=0, most_bytes=1000)
    lines = list(window.lines)
    while window.end < window.size:
        window = a_window(log, begin=window.end, most_bytes=1000)
        lines += window.lines
    assert lines == log.read_text().splitlines()


def test_a_line_without_an_end_is_cut_and_its_length_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000)
    (shown,) = a_window(log, most_bytes=1 << 16).lines
    assert shown == "x" * LONGEST_LINE + f" … {(1 << 16) - LONGEST_LINE:,} more characters"


def test_of_a_long_line_all_windows_go_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1000)
    window = a_window(log, begin=0, most_bytes=100)
    assert window.end == 100
    assert a_window(log, end=500, most_bytes=100).begin == 400


def test_a_huge_log_is_read_from_its_end_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"\nlast\n")
    assert a_window(log).lines[-1] == "last"
    assert a_window(log).size == (1 << 30) + 6


def test_what_steers_a_terminal_or_the_direction_of_text_is_gone_or_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("\x1b[31mred\x1b[0m\x00 \u202etxt\tend\n".encode() + b"\xff\n")
    first, second = a_window(log).lines
    assert first.split() == ["red\\x00", "\\u202etxt", "end"]
    assert second == "\ufffd"


def test_of_a_line_that_is_written_again_and_again_the_last_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b" 10%\r 50%\r100%\r\ndone\r\n 3%\r 4%\r")
    assert a_window(log).lines == ("100%", "done", " 4%")


def test_an_empty_log_has_no_lines_and_an_absent_one_no_window(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert a_window(tmp_path / "log").lines == ()
    assert read_part(tmp_path / "none", most_bytes=1) is None


def test_a_place_beyond_the_end_is_the_end(log: Path) -> None:
    assert a_window(log, begin=10**12).lines == ()
    assert a_window(log, end=10**12).lines[-1] == "line 999"
