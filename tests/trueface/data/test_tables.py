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
        (None, r"cannot read .*t\.csv: No such file or directory$"),
        (b"", r"cannot read .*t\.csv: Is a directory$"),
        (b"x" * 30, r"t\.csv is larger than 0 MiB\. Split it"),
        (b"\xe9", r"t\.csv is not UTF-8: .* iconv -f cp1252 -t utf-8 .*t\.csv"),
        (
            "a,é".encode("utf-16"),
            r"t\.csv is UTF-16, not UTF-8\. .* iconv -f utf-16 -t utf-8 .*t\.csv",
        ),
        ("a,é".encode("utf-16-be"), r"t\.csv is UTF-16BE, not .* iconv -f utf-16be -t utf-8 "),
        ("a,é".encode("utf-16-le"), r"t\.csv is UTF-16LE, not .* iconv -f utf-16le -t utf-8 "),
        ("a,é".encode("utf-32"), r"t\.csv is UTF-32, not .* iconv -f utf-32 -t utf-8 "),
        (b"PK\3\4\0", r"t\.csv is not a text file\. Save it as text in UTF-8"),
    ],
    ids=[
        "missing",
        "a directory",
        "too large",
        "latin-1",
        "UTF-16",
        "UTF-16BE",
        "UTF-16LE",
        "UTF-32",
        "a workbook",
    ],
)
def test_file_that_is_no_table_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], Iterator[TableLine]],
    content: bytes | None,
    reason: str,
) -> None:
    monkeypatch.setattr("trueface.data.tables.MOST_BYTES", 29)
    file = tmp_path / "t.csv"
    if content:
        file.write_bytes(content)
    elif content is not None:
        file.mkdir()
        monkeypatch.setattr("trueface.data.tables.MOST_BYTES", 1 << 30)
    with pytest.raises(DataError, match=reason):
        [*read(file)]


def test_open_quote_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n"x,1\ny,2\n')
    with pytest.raises(DataError, match=r"t\.csv:2: unexpected end of data\. Check the quotation"):
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
