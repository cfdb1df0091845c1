"""Logs in the dashboard: its page, its search, the tail of a log."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.frontends.screens.dashboard import log_search
from launcher.frontends.screens.dashboard.log_page import LogPage
from launcher.frontends.screens.dashboard.log_search import PIECE, LogSearch, pieces
from launcher.frontends.screens.dashboard.log_tail import MOST_BYTES, LogTail
from launcher.queue.home.paths import Home
from tests.top import User, run_on_queue


def test_search_goes_down_up_and_wraps_around(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    log.write_text("".join(f"epoch {n}{' Warning' * (n % 100 == 7)}\n" for n in range(300)))

    async def story(user: User) -> None:
        def at(number: int) -> Callable[[], object]:
            return lambda: f"epoch {number} Warning" in user.highlighted

        await user.press("L", "/")
        assert user.bottom.startswith("search: ")
        await user.type("warning")
        await user.press("enter")
        await user.until(at(7))
        assert "'warning' from the beginning: n next, N before" in user.text
        await user.press("n")
        await user.until(at(107))
        assert "'warning': n next, N before" in user.text
        await user.press("n")
        await user.until(at(207))
        await user.press("n")
        await user.until(at(7))
        await user.press("N")
        await user.until(at(207))
        assert "'warning' from the end: n next, N before" in user.text
        await user.press("/", *"nowhere", "enter")
        await user.until(lambda: "'nowhere' is not in this log" in user.text)
        await user.press("escape")
        assert "[2 log]" in user.text, "the first Esc takes the search away"
        await user.after("G", "epoch 299")
        await user.after("escape", chosen="train/a")

    run_on_queue(home, story)


def test_match_far_from_the_end_of_a_huge_log_is_shown(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    with log.open("wb") as file:
        file.seek(200 << 20)
        file.write(b"\nhere it failed\n")
        file.truncate(1 << 30)

    async def story(user: User) -> None:
        await user.press("L", "/", *"IT failed", "enter")
        await user.until(lambda: "here it failed" in user.highlighted)
        await user.press("G")
        assert "here" not in user.text

    run_on_queue(home, story)


def test_search_shows_progress_and_can_be_cancelled() -> None:
    waiting: list[Callable[[], None]] = []
    page = LogPage(waiting.append)
    page.draw(80, 20)
    page.search("text")
    assert waiting == [], "there is no log"
    page.log = Path(__file__)
    page.draw(80, 20)
    page.search("text")
    assert page.place == "searching 'text': 0%; Esc leaves"
    assert page.press("escape")
    assert "searching" not in page.place
    (search,) = waiting
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    page.draw(80, 20)
    assert "found" not in page.place


def test_leaving_the_screen_cancels_a_search(jobs: list[int], home: Home) -> None:
    log = home.attempt(jobs[0], 1).log
    with log.open("wb") as file:
        file.truncate(1 << 36)  # it would take minutes

    async def story(user: User) -> None:
        await user.press("L", "/", *"text")
        user.send("enter")  # and do not wait for an idle screen, as the search is at work
        await user.sees(lambda: "searching 'text'" in user.text)
        user.send("ctrl+c")
        await user.sees(lambda: user.top.return_value == 0)

    assert run_on_queue(home, story) == 0


# --- Looking for a text in logs of any size


def found(log: Path, text: str, start: int = 0, *, backwards: bool = False) -> int | None:
    search = LogSearch(log, text, start=start, backwards=backwards)
    search.run()
    assert search.is_finished
    assert search.error == ""
    return search.hit


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.write_bytes(
        b"Error one\n" + b"." * (2 * PIECE) + b"\nerror two\n" + "ÄRGER über\n".encode()
    )
    return file


def test_search_ignores_case(log: Path) -> None:
    assert found(log, "error") == 0
    assert found(log, "ERROR", 1) == 2 * PIECE + 11
    assert found(log, "ärger ÜBER") == 2 * PIECE + 21
    assert found(log, "Über") == 2 * PIECE + 28
    assert found(log, "three") is None


def test_match_across_two_chunks_is_found(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for text in ("needle", "nädel"):
        file.write_bytes(b"x" * (PIECE - 3) + text.encode() + b"x" * 100)
        assert found(file, text) == PIECE - 3
        assert found(file, text, PIECE + 50, backwards=True) == PIECE - 3


def test_search_wraps_around_and_reports_it(log: Path) -> None:
    search = LogSearch(log, "one", start=100)
    search.run()
    assert (search.hit, search.wrapped) == (6, True)
    search = LogSearch(log, "two", start=100, backwards=True)
    search.run()
    assert (search.hit, search.wrapped) == (2 * PIECE + 17, True)
    assert found(log, "one", 6) == 6
    assert found(log, "one", 7) == 6, "it is the only one"
    assert found(log, "one", 6, backwards=True) == 6


def test_nearest_match_is_found_in_both_directions(tmp_path: Path) -> None:
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
def test_each_byte_is_searched_once(size: int, start: int, backwards: bool) -> None:
    parts = [(begin, end) for begin, end, _ in pieces(size, start, backwards=backwards)]
    assert all(0 < end - begin <= PIECE for begin, end in parts)
    ends = [0, *(end for _, end in sorted(parts))]
    assert ends[:-1] == [begin for begin, _ in sorted(parts)]
    assert ends[-1] == size


def test_cancelled_search_ends_at_the_next_chunk(log: Path) -> None:
    search = LogSearch(log, "two", start=0)
    search.cancel()
    search.run()
    assert (search.hit, search.is_finished, search.progress) == (None, True, 0.0)


def test_search_reports_progress(log: Path) -> None:
    search = LogSearch(log, "three", start=0)
    search.run()
    assert search.progress == 1.0


def test_search_in_a_deleted_log_reports_an_error(tmp_path: Path) -> None:
    search = LogSearch(tmp_path / "none", "x", start=0)
    search.run()
    assert search.error == "the log cannot be read: No such file or directory"


def test_chunk_is_small_compared_with_a_log() -> None:
    assert log_search.PIECE <= 1 << 22, "the screen waits for one"


# --- The part of a log that is on the screen


LINE = "line %06d\n"


COUNT = 300_000  # lines: 3.1 MiB


@pytest.fixture(scope="module")
def long_text() -> str:
    return "".join(map(LINE.__mod__, range(COUNT)))


@pytest.fixture
def long_log(long_text: str, tmp_path: Path) -> Path:
    file = tmp_path / "log"
    file.write_text(long_text)
    return file


def test_text_around_an_offset_is_shown(long_log: Path) -> None:
    tail = LogTail()
    place = 12 * 150_000
    tail.anchor = place
    lines = tail.lines(long_log, 80)
    row = tail.row_of_byte(place)
    assert row is not None
    assert lines[row] == "line 150000"
    assert tail.byte_of_row(row) == place
    assert lines[-1].endswith("MiB after this")
    assert len("".join(lines)) < MOST_BYTES
    assert tail.row_of_byte(0) is None
    tail.anchor = None
    lines = tail.lines(long_log, 80)
    assert lines[0].startswith("… ")
    assert lines[0].endswith("MiB before this")
    assert lines[-1] == "line 299999"
    assert tail.has_before
    assert not tail.has_after


def test_offset_in_a_long_line_maps_to_its_wrapped_row(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\r\n" + b"x" * 95 + b"\x1b" + b"here\rlast")
    tail = LogTail()
    lines = tail.lines(log, 40)
    assert lines == ["first", "x" * 40, "x" * 40, "x" * 15 + "\\x1bhere", "last"]
    assert tail.row_of_byte(7 + 96) == 3
    assert tail.row_of_byte(7 + 79) == 2
    assert tail.row_of_byte(7 + 80) == 3
    assert tail.row_of_byte(7 + 101) == 4
    assert tail.byte_of_row(3) == 7


def test_line_is_shown_as_its_backspaces_leave_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"1/2" + b"\b" * 3 + b"\r2/2\n 9%\b\b\b11%\n")
    assert LogTail().lines(log, 40) == ["1/2", "2/2", "11%"]


def test_line_longer_than_a_window_is_shown_at_the_offset(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (5 * MOST_BYTES) + b"here" + b"x" * MOST_BYTES + b"\nlast\n")
    tail = LogTail()
    tail.anchor = 5 * MOST_BYTES
    lines = tail.lines(log, 80)
    row = tail.row_of_byte(5 * MOST_BYTES)
    assert row is not None
    assert "here" in lines[row] + lines[row + 1]


def test_window_stays_while_the_log_grows(long_log: Path) -> None:
    tail = LogTail()
    tail.anchor = 0
    before = tail.lines(long_log, 80)[:-1]
    with long_log.open("a") as file:
        file.write("more\n" * 100_000)
    assert tail.lines(long_log, 80)[:-1] == before


def test_rewritten_log_is_followed(long_log: Path) -> None:
    tail = LogTail()
    tail.anchor = 2_000_000
    tail.lines(long_log, 80)
    long_log.write_text("anew\n")
    assert tail.lines(long_log, 80) == ["anew"]
    long_log.unlink()
    assert tail.lines(long_log, 80) == []
    assert not tail.has_before
