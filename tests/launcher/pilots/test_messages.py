"""What a scheduler and a pilot say to each other, and the files in which it lies."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backends.channel import (
    LONGEST_LINE,
    Beat,
    Began,
    Bye,
    Ended,
    Hello,
    Lease,
    Leave,
    Leaving,
    News,
    Order,
    Reader,
    Run,
    Stop,
    Writer,
    news_line,
    order_line,
    read_news,
    read_order,
)
from launcher.states import Done, Failed, Stopped, Void
from tests.build import GIB, a_gpu

ORDERS = (Run(attempt="63-2"), Stop(attempt="63-2"), Lease(beat=7), Leave(), Leave(now=True))
GPU = a_gpu(
    1, used=3, utilisation=0.5, power_w=71.5, temperature_c=40, driver="550", warnings=("a",)
)
HELLO = Hello(
    version="1", python="/p", host="h", node="n1", pid=7, boot="b", cpus=8, ram=GIB, gpus=(GPU,)
)
NEWS = (
    HELLO,
    Beat(number=3, ram_free=5, gpus=(GPU,), used={"63-2": {GPU.uuid: 5}}),
    Began(attempt="63-2"),
    Ended(attempt="63-2"),
    Ended(attempt="63-2", outcome=Done(at=3.0, result={"loss": 0.5})),
    Ended(attempt="63-2", outcome=Failed(at=3.0, error="no", exit_code=3)),
    Ended(attempt="63-2", outcome=Stopped(at=3.0)),
    Ended(attempt="63-2", outcome=Void(at=3.0, why="x", whose="job")),
    Leaving(why="idle"),
    Bye(why="idle"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    line = order_line(order)
    assert line.endswith(b"\n")
    assert read_order(line) == order


@pytest.mark.parametrize("news", NEWS, ids=lambda news: type(news).__name__)
def test_news_are_read_as_they_were_written(news: News) -> None:
    line = news_line(news)
    assert line.count(b"\n") == 1
    assert read_news(line) == news


def test_a_result_that_is_no_number_keeps_its_end() -> None:
    ended = Ended(attempt="1-1", outcome=Done(at=3.0, result={"loss": float("nan")}))
    read = read_news(news_line(ended))
    assert isinstance(read, Ended)
    assert isinstance(read.outcome, Done)


def test_an_outcome_that_is_too_long_for_a_line_is_left_to_the_folder() -> None:
    line = news_line(Ended(attempt="1-1", outcome=Failed(at=3.0, error="x" * LONGEST_LINE)))
    assert len(line) < LONGEST_LINE
    assert read_news(line) == Ended(attempt="1-1")


@given(line=st.binary(max_size=60))
def test_a_line_that_is_no_message_is_none(line: bytes) -> None:
    assert read_news(line) is None
    assert read_order(line) is None


@given(
    news=st.sampled_from(NEWS),
    place=st.integers(0, 20),
    value=JSON,
)
def test_no_value_in_a_message_makes_more_of_it_than_news(
    news: News, place: int, value: object
) -> None:
    record = json.loads(news_line(news))
    keys = [key for key in record if key != "say"]
    record[keys[place % len(keys)]] = value
    read = read_news(json.dumps(record).encode())
    assert read is None or isinstance(read, type(news))
    if isinstance(read, Beat):
        assert 0 <= read.number < 1 << 60
    if isinstance(read, Hello):
        assert 0 <= read.cpus < 1 << 60
        assert read.until is None or 0 <= read.until < 1 << 60


@pytest.mark.parametrize(
    "name", ["index", "total", "used", "utilisation", "power_w", "temperature_c"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -(10**30), 10**30], ids=str)
def test_a_gpu_with_an_impossible_number_is_left_out(name: str, value: Any) -> None:
    for news in (HELLO, NEWS[1]):
        record = json.loads(news_line(news))
        record["gpus"] += [{**record["gpus"][0], name: value}, 3]
        assert read_news(json.dumps(record).encode()) == news


# --- channel


LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda text: text.replace(b"\n", b".")))


@given(lines=LINES, cuts=st.lists(st.integers(0, 60), max_size=20))
def test_each_line_is_read_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int]
) -> None:
    file = tmp_path_factory.mktemp("channel") / "to"
    file.touch()
    data, reader, read = b"".join(line + b"\n" for line in lines), Reader(file), list[bytes]()
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        with file.open("ab") as opened:
            opened.write(piece)
        read += reader.lines()
    assert read == lines


def test_a_reader_goes_on_where_it_was_left(tmp_path: Path) -> None:
    file = tmp_path / "to"
    file.write_bytes(b"one\ntwo\n")
    first = Reader(file)
    assert [*first.lines()] == [b"one", b"two"]
    file.write_bytes(b"one\ntwo\nthree\n")
    assert [*Reader(file, first.offset).lines()] == [b"three"]


def test_a_line_longer_than_any_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "to"
    file.write_bytes(b"x" * (3 << 20) + b"\nafter\n")
    reader = Reader(file)
    assert b"after" in [line for _ in range(5) for line in reader.lines()]


def test_what_was_written_in_part_is_closed_by_the_next_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "from"
    file.touch()
    writer, write = Writer(file), os.write
    full = [4, 0]

    def write_until_full(descriptor: int, data: bytes) -> int:
        if not full:
            return write(descriptor, data)
        room = full.pop(0)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data[:room]))

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(OSError, match="No space"):
        writer.append(b'{"say":"first"}\n')
    writer.append(b'{"say":"first"}\n')
    assert [*Reader(file).lines()] == [b'{"sa', b'{"say":"first"}']
