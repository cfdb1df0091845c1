"""The reader of tables that people write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trueface.data.tables import TableLine, parse_rows, read_csv, read_words
from trueface.runtime.errors import DataError

READERS = (read_csv, read_words)


def test_lines_keep_their_numbers_and_lose_blanks(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes('\ufeffa , b\r\n\r\n , \r\n"x,\n y",1\r\n'.encode())
    assert [*read_csv(file)] == [(1, ["a", "b"]), (5, ["x,\n y", "1"])]
    file.write_bytes("\ufeff2\r\n\r\n a  b\r\n".encode())
    assert [*read_words(file)] == [(1, ["2"]), (3, ["a", "b"])]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"cannot read .*t\.csv: .*No such file"),
        ("", r"cannot read .*t\.csv: .*directory"),
        ("x" * 9, r"t\.csv is larger than 0 MiB\. Split it"),
        ("é", r"t\.csv is not UTF-8: .* iconv -f cp1252 -t utf-8 .*t\.csv"),
    ],
    ids=["missing", "a directory", "too large", "another encoding"],
)
def test_file_that_is_no_table_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], Iterator[TableLine]],
    content: str | None,
    reason: str,
) -> None:
    monkeypatch.setattr("trueface.data.tables.MOST_BYTES", 8)
    file = tmp_path / "t.csv"
    if content:
        file.write_bytes(content.encode("cp1252"))
    elif content is not None:
        file.mkdir()
        monkeypatch.setattr("trueface.data.tables.MOST_BYTES", 1 << 30)
    with pytest.raises(DataError, match=reason):
        [*read(file)]


def test_open_quote_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n"x,1\n')
    with pytest.raises(DataError, match=r"t\.csv:2: unexpected end of data"):
        [*read_csv(tmp_path / "t.csv")]


def test_first_faults_are_named_and_the_others_counted() -> None:
    def parse(_: int, text: str) -> int:
        return int(text)

    assert parse_rows(Path("t"), [(2, "1"), (4, "2")], parse) == [1, 2]
    with pytest.raises(DataError) as caught:
        parse_rows(Path("t"), list(enumerate("1xyz0vw")), parse)
    first = "; line ".join(
        f"{line}: invalid literal for int() with base 10: {text!r}"
        for line, text in ((1, "x"), (2, "y"), (3, "z"))
    )
    assert str(caught.value) == f"t:{first}; and 2 more rows"
