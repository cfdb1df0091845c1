import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.backends.channel import Reader, Writer

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
