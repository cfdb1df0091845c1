"""Tables that people write: CSV files of groups, splits, imports and forging, and CelebA's lists.

A byte order mark, Windows line ends, blank lines, and blanks around a cell are skipped. The faults of all rows are
reported together: the first ones with their lines, and how many more there are. `group_names` says which cells name no
group, and which numbers are equal.
"""

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO, TypeVar

from trueface.runtime.errors import DataError, refuse_rows

MOST_BYTES = 1 << 30  # ten million rows with a path and groups
_FIRST_BYTES = 1 << 12  # enough to see whether a file is text
# the longer marks first: that of UTF-16 begins that of UTF-32
_WIDE_MARKS: Mapping[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# the labels of images, in small letters
LABEL_WORDS: Mapping[str, int] = {
    **dict.fromkeys(("0", "0.0", "false", "real"), 0),
    **dict.fromkeys(("1", "1.0", "true", "fake"), 1),
}
Row = TypeVar("Row")
Parsed = TypeVar("Parsed")


class TableLine(NamedTuple):
    """A line that is not blank. A NamedTuple, because there may be millions."""

    number: int
    cells: list[str]  # without blanks around them


def read_csv(
    file: Path, choose_separator: Callable[[TextIO], str] = lambda _: ","
) -> Iterator[TableLine]:
    """Yield the lines of a CSV file, the header among them.

    Args:
        file: to read.
        choose_separator: finds the separator in the open file.

    Raises:
        DataError: it cannot be read, is too large, or is no CSV file in UTF-8.
    """
    with open_table(file) as text:
        separator = choose_separator(text)
        text.seek(0)
        reader, first = csv.reader(text, delimiter=separator, strict=True), 1
        try:
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield TableLine(reader.line_num, cells)
                first = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{file}:{first}: {error}. Check the quotation marks from this line on."
            ) from error


def read_words(file: Path) -> Iterator[TableLine]:
    """Yield the lines of a list whose words are separated by blanks.

    Raises:
        DataError: as `read_csv`.
    """
    with open_table(file) as text:
        for number, line in enumerate(text, start=1):
            if cells := line.split():
                yield TableLine(number, cells)


def parse_rows(
    file: Path, lines: Iterable[tuple[int, Row]], parse: Callable[[int, Row], Parsed]
) -> list[Parsed]:
    """Return what the lines of a table mean.

    Args:
        file: the table.
        lines: each with its number.
        parse: returns the meaning of a line. It raises ValueError to say what is wrong with the line.

    Raises:
        DataError: lines are wrong. It names the first ones, and says how many more there are.
    """
    parsed, faults = list[Parsed](), list[tuple[int, str]]()
    for number, line in lines:
        try:
            parsed.append(parse(number, line))
        except ValueError as error:
            faults.append((number, str(error)))
    refuse_rows(file, faults)
    return parsed


@contextmanager
def open_table(file: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8 that somebody wrote.

    Raises:
        DataError: it cannot be read, is too large, or is not text in UTF-8. Also while it is read.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{file} is larger than {MOST_BYTES >> 20} MiB. Split it into several files."
            )
        _refuse_wide_text(file)
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise _other_encoding(file, f"not UTF-8: {error}", "cp1252") from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _refuse_wide_text(file: Path) -> None:
    """Refuse a file in UTF-16 or UTF-32, and one that is not text.

    Raises:
        DataError, OSError: see above.
    """
    with file.open("rb") as binary:
        start = binary.read(_FIRST_BYTES)
    name = next((name for mark, name in _WIDE_MARKS.items() if start.startswith(mark)), "")
    if not name and b"\0" in start[:2]:  # letters of English without a mark
        name = "utf-16be" if start.startswith(b"\0") else "utf-16le"
    if name:
        raise _other_encoding(file, f"{name.upper()}, not UTF-8", name)
    if b"\0" in start:
        raise DataError(f"{file} is not a text file. Save it as text in UTF-8.")


def _other_encoding(file: Path, fault: str, encoding: str) -> DataError:
    return DataError(
        f"{file} is {fault}. Save it as UTF-8, for example with: iconv -f {encoding} -t utf-8 "
        f"{file} > new{file.suffix}"
    )
