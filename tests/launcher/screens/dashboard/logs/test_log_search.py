"""Looking for a text in logs of any size."""

from pathlib import Path

import pytest

from launcher.screens.dashboard import log_page
from launcher.screens.dashboard.log_page import PIECE, LogSearch, pieces


def found(log: Path, text: str, start: int = 0, *, backwards: bool = False) -> int | None:
    search = LogSearch(log, text, start=start, backwards=backwards)
    search.run()
    assert search.over
    assert search.trouble == ""
    return search.hit


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.write_bytes(
        b"Error one\n" + b"." * (2 * PIECE) + b"\nerror two\n" + "ÄRGER über\n".encode()
    )
    return file


def test_capitals_do_not_matter(log: Path) -> None:
    assert found(log, "error") == 0
    assert found(log, "ERROR", 1) == 2 * PIECE + 11
    assert found(log, "ärger ÜBER") == 2 * PIECE + 21
    assert found(log, "Über") == 2 * PIECE + 28
    assert found(log, "three") is None


def test_a_text_that_lies_across_two_pieces_is_found(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for text in ("needle", "nädel"):
        file.write_bytes(b"x" * (PIECE - 3) + text.encode() + b"x" * 100)
        assert found(file, text) == PIECE - 3
        assert found(file, text, PIECE + 50, backwards=True) == PIECE - 3


def test_a_search_goes_on_over_the_end_and_says_so(log: Path) -> None:
    search = LogSearch(log, "one", start=100)
    search.run()
    assert (search.hit, search.wrapped) == (6, True)
    search = LogSearch(log, "two", start=100, backwards=True)
    search.run()
    assert (search.hit, search.wrapped) == (2 * PIECE + 17, True)
    assert found(log, "one", 6) == 6
    assert found(log, "one", 7) == 6, "it is the only one"
    assert found(log, "one", 6, backwards=True) == 6


def test_the_nearest_is_found_in_both_directions(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"ab" * 1000)
    assert found(file, "A", 501) == 502
    assert found(file, "a", 501, backwards=True) == 500
    assert found(file, "a", 500, backwards=True) == 498
    file.write_bytes("äb".encode() * 1000)
    assert found(file, "Ä", 301, backwards=True) == 300


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("start", [0, 1, PIECE, 5 * PIECE])
@pytest.mark.parametrize("backwards", [False, True])
def test_each_byte_is_looked_at_once(size: int, start: int, backwards: bool) -> None:
    parts = [(begin, end) for begin, end, _ in pieces(size, start, backwards=backwards)]
    assert all(0 < end - begin <= PIECE for begin, end in parts)
    ends = [0, *(end for _, end in sorted(parts))]
    assert ends[:-1] == [begin for begin, _ in sorted(parts)]
    assert ends[-1] == size


def test_a_search_that_is_left_ends_at_the_next_piece(log: Path) -> None:
    search = LogSearch(log, "two", start=0)
    search.leave()
    search.run()
    assert (search.hit, search.over, search.share) == (None, True, 0.0)


def test_it_tells_how_far_it_is(log: Path) -> None:
    search = LogSearch(log, "three", start=0)
    search.run()
    assert search.share == 1.0


def test_a_log_that_is_gone_is_told_of(tmp_path: Path) -> None:
    search = LogSearch(tmp_path / "none", "x", start=0)
    search.run()
    assert search.trouble == "the log cannot be read: No such file or directory"


def test_a_piece_is_small_beside_a_log() -> None:
    assert log_page.PIECE <= 1 << 22, "the screen waits for one"
