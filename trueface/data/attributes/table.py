"""One CSV file of attributes: its header, and its rows with their lines.

Columns are known by the names in the header, never by their places: files of seed 002 (Purdue-M2/
Fairness-Generalization) have six, seven or eight of them, and its README names two in another order.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trueface.data.folder_cache import is_image
from trueface.runtime.errors import DataError, faulty_rows

MOST_BYTES = 1 << 30  # several million rows
PATH = "img_path"
SIGNS = ("ismale", "isasian", "iswhite", "isblack")  # 1 or -1 each
INTERSEC = "intersec_label"
FORGERY = "spe_label"
FORGERY_GROUP = "forgery"  # what that column is called as a grouping; no other column may be
LABEL = "label"
SPLIT = "split"  # in which list an image is: for those who make lists, no group
OWN = frozenset({PATH, LABEL, *SIGNS, INTERSEC, FORGERY, SPLIT})
NEEDED = ("ismale", "iswhite", "isblack")  # where any of SIGNS or INTERSEC is there
EXPECTED = f"{PATH},{LABEL},{','.join(SIGNS)},{INTERSEC}"


@dataclass(frozen=True, slots=True)
class Row:
    """What a line says of one image."""

    line: int
    path: str  # as written
    cells: Mapping[str, str]  # by column; without empty ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file that was read whole."""

    file: Path
    header: tuple[str, ...]  # small letters; "" of columns that count for nothing
    rows: tuple[Row, ...]

    @property
    def has_signs(self) -> bool:
        """Whether it says of each image which group of people it shows."""
        return INTERSEC in self.header or not set(SIGNS).isdisjoint(self.header)

    @property
    def further(self) -> tuple[str, ...]:
        """The columns that are none of the seed's: each is a grouping of its own."""
        return tuple(name for name in self.header if name and name not in (*OWN, FORGERY_GROUP))


def read_table(file: Path) -> Table:
    """Read a file of attributes.

    A byte order mark, Windows line ends, blank lines and quoted commas are taken as they are meant.

    Raises:
        DataError: no such file, no header, a column that is lacking, rows that do not fit the header.
    """
    with _lines(file) as lines:
        header = _header(file, lines)
        rows, faults = [], []
        for number, cells in lines:
            if len(cells) != len(header):
                faults.append((number, f"{len(cells)} cells, and the header has {len(header)}"))
                continue
            named = {name: text.strip() for name, text in zip(header, cells, strict=True) if name}
            path = named.pop(PATH)
            if not path:
                faults.append((number, f"no {PATH}"))
                continue
            rows.append(Row(number, path, {name: text for name, text in named.items() if text}))
    refuse(file, faults)
    if not rows:
        raise DataError(f"{file} has a header, and no row below it")
    return Table(file=file, header=header, rows=tuple(rows))


def read_header(file: Path) -> tuple[str, ...]:
    """Return the names of a file's columns, in small letters.

    Raises:
        DataError: as `read_table`.
    """
    with _lines(file) as lines:
        return _header(file, lines)


def refuse(file: Path, faults: Sequence[tuple[int, str]]) -> None:
    """Raise one error of all faults of a file, each a line and what is wrong with it, if there are any.

    Raises:
        DataError: so it is.
    """
    if faults:
        raise faulty_rows(file, faults)


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """Open a file; give the lines that are not blank, each with its number."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(f"{file} has more than {MOST_BYTES >> 20} MiB; give it in parts")
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            yield ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read attributes from {file}: {error}") from error


def _header(file: Path, lines: Iterator[tuple[int, list[str]]]) -> tuple[str, ...]:
    line, first = next(lines, (0, []))
    if not first:
        raise DataError(f"{file} is empty; expected {EXPECTED},… and a row for each image")
    header = tuple(_column(name) for name in first)
    if PATH not in header:
        if any(_is_number(cell) or is_image(cell.strip()) for cell in first):
            raise DataError(f"{file}:{line}: has no header row; expected {EXPECTED},…")
        raise DataError(
            f"{file}:{line}: no column {PATH} in {','.join(first)}; expected {EXPECTED},… or "
            f"{PATH} and columns of your own"
        )
    twice = [name for at, name in enumerate(header) if name and name in header[:at]]
    if twice:
        raise DataError(f"{file}:{line}: column {twice[0]} stands in the header twice")
    if INTERSEC in header or not set(SIGNS).isdisjoint(header):
        lacking = [name for name in NEEDED if name not in header]
        if lacking:
            raise DataError(
                f"{file}:{line}: no column {' and '.join(lacking)}; expected {EXPECTED} "
                "(isasian may be absent where no group is asian)"
            )
    return header


def _column(name: str) -> str:
    """Return a column's name; "" where it is the row number that pandas writes."""
    small = name.strip().casefold()
    return "" if small.startswith("unnamed:") else small


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
