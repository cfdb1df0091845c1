"""Files that grow are read on, not anew."""

from pathlib import Path

from launcher.system.files import read_end
from launcher.workers.progress import event_files
from launcher.workers.progress.event_files import GrowingFiles


class Lines:
    """Parses whole lines, and notes what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def __call__(self, text: bytes, at: float) -> tuple[list[bytes], int]:
        assert at > 0
        self.got.append(text)
        done = text.rfind(b"\n") + 1
        return text[:done].splitlines(), done


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_each_byte_is_read_once(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = GrowingFiles(parse)
    assert files.items(path, 100) == []
    append(path, b"a\nb\nc")
    assert files.items(path, 100) == [b"a", b"b"]
    assert files.items(path, 100) == [b"a", b"b"]
    append(path, b"d\n")
    assert files.items(path, 100) == [b"a", b"b", b"cd"]
    assert parse.got == [b"a\nb\nc", b"c", b"cd\n"]


def test_of_a_large_file_the_end_is_read(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = GrowingFiles(parse)
    append(path, b"x" * 1000 + b"\na\n")
    assert files.items(path, 10) == [b"x" * 7, b"a"]
    append(path, b"y" * 1000 + b"\nb\n")
    assert files.items(path, 10) == [b"y" * 7, b"b"]
    assert max(map(len, parse.got)) == 10


def test_a_line_that_fills_all_is_left_out(tmp_path: Path) -> None:
    path, parse = tmp_path / "log", Lines()
    files = GrowingFiles(parse)
    append(path, b"z" * 10)
    assert files.items(path, 10) == []
    append(path, b"z" * 5 + b"\na\n")
    assert files.items(path, 10) == [b"zzzzz", b"a"]


def test_a_file_in_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    files = GrowingFiles(Lines())
    append(path, b"a\nb\n")
    assert files.items(path, 100) == [b"a", b"b"]
    path.write_bytes(b"c\n")  # shorter
    assert files.items(path, 100) == [b"c"]
    append(tmp_path / "new", b"d\ne\nf\n")
    (tmp_path / "new").rename(path)
    assert files.items(path, 100) == [b"d", b"e", b"f"]
    path.unlink()
    assert files.items(path, 100) == []
    assert files.items(tmp_path, 100) == [], "a folder is no file"


def test_few_files_are_remembered(tmp_path: Path) -> None:
    parse = Lines()
    files = GrowingFiles(parse)
    paths = [tmp_path / str(number) for number in range(event_files.MOST_REMEMBERED + 1)]
    for path in paths:
        append(path, b"a\n")
        assert files.items(path, 100) == [b"a"]
    parse.got.clear()
    assert files.items(paths[-1], 100) == files.items(paths[0], 100) == [b"a"]
    assert parse.got == [b"a\n"], "only the first had been forgotten"


def test_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_end(path, 10) == (b"", 0.0)
    assert read_end(tmp_path, 10) == (b"", 0.0)
    append(path, b"0123456789abcdef")
    assert read_end(path, 4) == (b"cdef", path.stat().st_mtime)
