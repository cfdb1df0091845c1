"""The web page reads slow values in a thread and keeps them until the queue changes."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from launcher.frontends.web.access import new_credentials, refusal
from launcher.frontends.web.logs import WINDOW_BYTES
from launcher.frontends.web.page import LONGEST_LINE, Address, lines_of
from launcher.frontends.web.view import LONGEST_PAUSE_S, MOST_KEPT, SHARE, BackgroundCache
from launcher.system.errors import MachineError
from launcher.system.log_files import read_file_part
from tests.build import DEADLINE_S, until


class Reads:
    """Reads runs when it is let, and notes which."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.let = threading.Event()
        self.let.set()
        self.now = 0.0
        self.takes_s = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(self, run: int) -> str:
        assert self.let.wait(DEADLINE_S)
        self.calls.append(run)
        self.now += self.takes_s
        return f"read {len(self.calls)} times"


@contextmanager
def reader(reads: Reads, patience_s: float = DEADLINE_S) -> Iterator[BackgroundCache[int, str]]:
    made = BackgroundCache(reads, patience_s=patience_s, clock=reads.clock, cost=reads.clock)
    try:
        yield made
    finally:
        reads.let.set()
        made.close()


def text(runs: BackgroundCache[int, str], mark: str, run: int = 1) -> str:
    return runs.get(run, mark).value or ""


def test_quick_result_is_returned_at_once_and_cached() -> None:
    reads = Reads()
    with reader(reads) as runs:
        assert text(runs, "a") == text(runs, "a") == "read 1 times"
        assert not runs.get(1, "a").pending


def test_result_that_is_there_before_the_caller_looks_is_not_pending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads, pause = Reads(), threading.Event()
    start = threading.Thread.start

    def start_and_lose_the_processor(thread: threading.Thread) -> None:
        start(thread)
        until(lambda: reads.calls, "the run is read")
        pause.wait(0.1)

    def measure() -> float:
        if reads.calls:  # the result is there, and the thread has not ended
            pause.wait(0.3)
        return 0.0

    monkeypatch.setattr(threading.Thread, "start", start_and_lose_the_processor)
    cache = BackgroundCache(reads, patience_s=DEADLINE_S, clock=reads.clock, cost=measure)
    assert cache.get(1, "a") == ("read 1 times", "", False)
    cache.close()


def test_slow_result_is_pending_until_it_is_read() -> None:
    reads = Reads()
    reads.let.clear()
    with reader(reads, patience_s=0.0) as runs:
        look = runs.get(1, "a")
        assert (look.value, look.pending) == (None, True)
        assert runs.get(1, "b").value is None
        reads.let.set()
        until(lambda: text(runs, "b"), "the run is read")
        assert reads.calls[0] == 1


def test_changed_queue_is_read_again_while_the_old_result_is_shown() -> None:
    reads = Reads()
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        reads.let.clear()
        look = runs.get(1, "b")
        assert look.pending
        assert look.value == "read 1 times"
        reads.let.set()
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_expensive_result_is_read_again_rarely() -> None:
    reads = Reads()
    reads.takes_s = 2.0
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        look = runs.get(1, "b")
        assert not look.pending
        reads.now += 2.0 / SHARE
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_unused_runs_are_dropped_from_the_cache() -> None:
    reads = Reads()
    with reader(reads) as runs:
        for run in range(MOST_KEPT + 1):
            text(runs, "a", run)
        text(runs, "a", 1)
        assert reads.calls.count(1) == 1
        text(runs, "a", 0)
        assert reads.calls.count(0) == 2


def test_pause_after_a_very_slow_read_is_limited() -> None:
    reads = Reads()
    reads.takes_s = 1000.0
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        reads.now += LONGEST_PAUSE_S
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_read_error_is_returned_and_the_read_is_retried() -> None:
    broken = True

    def read(run: int) -> str:
        if broken:
            raise MachineError(f"cannot read {run}")
        return "sound"

    runs = BackgroundCache(read, patience_s=DEADLINE_S)
    try:
        look = runs.get(1, "a")
        assert (look.value, look.error) == (None, "cannot read 1")
        broken = False
        until(lambda: runs.get(1, "b").value == "sound", "it is read again")
        assert runs.get(1, "b").error == ""
    finally:
        runs.close()


def test_close_does_not_wait_for_an_endless_read() -> None:
    let, reading = threading.Event(), threading.Event()

    def read(run: int) -> str:
        reading.set()
        let.wait()
        return "late"

    runs = BackgroundCache(read, patience_s=0.0)
    try:
        assert runs.get(1, "a").pending
        assert reading.wait(DEADLINE_S)
        runs.close()
        assert runs.get(1, "a").value is None
    finally:
        let.set()


class Window(NamedTuple):
    lines: tuple[str, ...]
    begin: int
    end: int
    size: int


def a_window(
    log: Path, *, begin: int | None = None, end: int | None = None, most_bytes: int = WINDOW_BYTES
) -> Window:
    part = read_file_part(log, begin=begin, end=end, most_bytes=most_bytes)
    assert part is not None
    return Window(tuple(lines_of(part.data)), part.begin_offset, part.end_offset, part.size)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    return log


def test_log_windows_join_without_gaps_in_both_directions(log: Path) -> None:
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


def test_long_line_is_cut_and_its_length_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000)
    (shown,) = a_window(log, most_bytes=1 << 16).lines
    assert shown == "x" * LONGEST_LINE + f" … {(1 << 16) - LONGEST_LINE:,} more characters"


def test_line_is_shown_as_its_backspaces_leave_it() -> None:
    assert [*lines_of(b"1/2" + b"\b" * 3 + b"\r2/2\n 9%\b\b\b11%\n")] == ["2/2", "11%"]


def test_long_line_continues_in_all_windows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1000)
    window = a_window(log, begin=0, most_bytes=100)
    assert window.end == 100
    assert a_window(log, end=500, most_bytes=100).begin == 400


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"\nlast\n")
    assert a_window(log).lines[-1] == "last"
    assert a_window(log).size == (1 << 30) + 6


def test_control_and_direction_characters_are_removed_or_visible(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("\x1b[31mred\x1b[0m\x00 \u202etxt\tend\n".encode() + b"\xff\n")
    first, second = a_window(log).lines
    assert first.split() == ["red\\x00", "\\u202etxt", "end"]
    assert second == "\ufffd"


def test_last_version_of_an_overwritten_line_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b" 10%\r 50%\r100%\r\ndone\r\n 3%\r 4%\r")
    assert a_window(log).lines == ("100%", "done", " 4%")


def test_empty_log_has_no_lines_and_missing_log_no_window(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert a_window(tmp_path / "log").lines == ()
    assert read_file_part(tmp_path / "none", most_bytes=1) is None


def test_offset_beyond_the_end_is_the_end(log: Path) -> None:
    assert a_window(log, begin=10**12).lines == ()
    assert a_window(log, end=10**12).lines[-1] == "line 999"


HERE = Path("/home/ada/queue")


OURS = ("127.0.0.1:8000", "localhost:8000", "LOCALHOST:9", "127.0.0.1", "[::1]:8000")
NOT_OURS = ("", "evil.example", "evil.example:8000", "127.0.0.1.evil.example")
FOREIGN = ("http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8000", "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(({"host": host}, None) for host in OURS),
        *(({"host": host}, 421) for host in (*NOT_OURS, "localhost:8000:1", "127.0.0.2")),
        *(({"host": "127.0.0.1:8000", "origin": origin}, 403) for origin in FOREIGN),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, None),
    ],
)
def test_loopback_names_are_accepted_as_host(headers: dict[str, str], status: int | None) -> None:
    refused = refusal(headers)
    assert (refused and refused[0]) == status


def test_only_its_own_token_and_cookie_are_accepted() -> None:
    access, other = new_credentials(HERE, 8000), new_credentials(HERE, 8000)
    assert access.is_token(access.token)
    assert not access.is_token("")
    assert not access.is_token(other.token)
    assert not access.is_token(access.cookie)
    assert access.has_cookie(f"theme=dark; {access.name}={access.cookie}")
    assert not access.has_cookie("")
    assert not access.has_cookie(f"{access.name}={other.cookie}")
    assert not access.has_cookie(f"{access.name}={access.token}")
    assert not access.has_cookie("no;cookie=\x00")


@pytest.mark.parametrize("foreign", ["foo", "=foo", 'x={"a":1}', "x=\xfc", "a/b=1", "a,b=1", ""])
def test_cookies_of_other_servers_are_ignored(foreign: str) -> None:
    access = new_credentials(HERE, 8000)
    ours = f"{access.name}={access.cookie}"
    assert access.has_cookie(f"{ours}; {foreign}")
    assert access.has_cookie(f"{foreign}; {ours}")
    assert access.has_cookie(f"{access.name}=another's; {ours}")


def test_cookie_depends_on_queue_folder_and_port() -> None:
    names = {
        new_credentials(home, port).name
        for home in (HERE, Path("/home/bob/queue"))
        for port in (1, 2)
    }
    assert len(names) == 4
    assert all(re.fullmatch(r"launcher-[0-9a-f]{12}-[12]", name) for name in names), names


def test_cookie_is_limited_to_the_server_path_and_hidden_from_scripts() -> None:
    access = new_credentials(HERE, 8000)
    assert access.folder not in new_credentials(HERE, 8000).set_cookie
    assert access.set_cookie.startswith(f"{access.name}={access.cookie}; ")
    assert access.set_cookie.endswith(f"; Path=/{access.folder}/; HttpOnly; SameSite=Strict")


def test_link_keeps_unchanged_query_values() -> None:
    address = Address(path="jobs", query=(("q", "a&b"), ("state", "done"), ("before", "7")))
    assert address.with_query(state="failed", before=None) == "?q=a%26b&state=failed"
    assert Address(path="jobs").with_query(state=None) == "?"


def test_invalid_number_is_none() -> None:
    query = (("a", "12"), ("b", "-1"), ("c", "٣"), ("d", "9" * 30), ("e", ""))
    address = Address(path="", query=query)
    assert [address.integer(name) for name in "abcdef"] == [12, None, None, None, None, None]
    several = Address(path="", query=(*query, ("a", "12"), ("a", "x"), ("a", "3")))
    assert several.integers("a") == [12, 3]
