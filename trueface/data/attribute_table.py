"""Tables of attributes.

Reads one CSV file of groups: its rows with line numbers, the values of an image, and the cells of a
set.

Columns are identified by the names in the header, never by position. Files of seed 002 (Purdue-M2/
Fairness-Generalization) have six, seven or eight of them, and its README names two in another
order.

Columns contain gender, race, their intersection, the forgery, and further groupings. Seed 002
numbers the intersections in two ways. With a column isasian: 0 male-asian, 1 male-white, 2
male-black, 3 male-others, and 4 to 7 the same for nonmale. Without it: 0 male-white, 1 male-black,
2 male-others, and 3 to 5 the same for nonmale. The README of seed 002 swaps black and white against
the header. If a number contradicts the columns, the columns are used, and the contradictions are
counted.

Tables of attributes, such as those of a drawn set, have two values per attribute. Their images are
matched by name without suffix. There are two formats:

    attributes.csv: A header `image,NAME,…`, then one row per image with 0 or 1 for each attribute.
    list_attr_celeba.txt: The number of images, the names of the attributes, then one row per image with
        1 or -1 for each attribute.

The original program splits the lines of CelebA's list like the list of images. Its two header lines
therefore count as images: each image has the labels of the image two lines before it, and only the
first part has a header. Here a table without its header is refused.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from trueface.data.folders import describe_names, is_image, stem
from trueface.data.group_names import is_missing
from trueface.runtime.errors import DataError, UnknownName, refuse_rows

FEW = 30  # images; rates of fewer are hardly known: ±18 points at 30, Wilson's interval
UNKNOWN = "unknown"  # the group of images that have none
CLASSES = ("real", "fake")
GROUPS_BY = "intersec"  # the column of groups, unless another is named


MOST_BYTES = 1 << 30  # several million rows
PATH = "img_path"
SIGNS = ("ismale", "isasian", "iswhite", "isblack")  # 1 or -1 each
INTERSEC = "intersec_label"
FORGERY = "spe_label"
FORGERY_GROUP = "forgery"  # name of that column as a grouping; no other column may have it
LABEL = "label"
SPLIT = "split"  # in which list an image is: for those who make lists, no group
OWN = frozenset({PATH, LABEL, *SIGNS, INTERSEC, FORGERY, SPLIT})
NEEDED = ("ismale", "iswhite", "isblack")  # columns needed with any of SIGNS or INTERSEC
EXPECTED = f"{PATH},{LABEL},{','.join(SIGNS)},{INTERSEC}"
GENDERS = ("male", "nonmale")
RACES = ("asian", "white", "black", "others")
EIGHT = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES))
SIX = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES[1:]))
# columns of groups that the signs give
PEOPLE = ("gender", "race", "intersec")
FORGERIES = ("real", "self", "swap", "mouth", "eyes", "soft")  # the kind `forge` makes these
_SIGN = {"1": True, "+1": True, "1.0": True, "-1": False, "-1.0": False}
_LABELS = {"0": 0, "0.0": 0, "real": 0, "1": 1, "1.0": 1, "fake": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeCounts:
    """The images of a list by group and class."""

    counts: Mapping[str, tuple[int, int]]  # group, sorted → real, fake; `UNKNOWN` at the end

    @classmethod
    def from_groups(cls, groups: Sequence[str | None], labels: Sequence[int]) -> "AttributeCounts":
        """Count images.

        Args:
            groups: of each image; None: it has none.
            labels: 1 fake, 0 real.
        """
        known = (UNKNOWN if group is None else group for group in groups)
        cells = Counter(zip(known, labels, strict=True))
        return cls(
            counts={name: (cells[name, 0], cells[name, 1]) for name in sorted_group_names(groups)}
        )

    @property
    def few(self) -> dict[str, tuple[int, int]]:
        """The groups with fewer than `FEW` images of a class."""
        return {name: counts for name, counts in self.counts.items() if min(counts) < FEW}


def sorted_group_names(groups: Sequence[str | None]) -> tuple[str, ...]:
    """Return the groups of images, sorted. `UNKNOWN` comes last if an image has no group."""
    known = {group for group in groups if group is not None}
    return (*sorted(known), *((UNKNOWN,) if None in groups and UNKNOWN not in known else ()))


def group_indices(groups: Sequence[str | None], names: Sequence[str]) -> list[int]:
    """Return the number of each image's group among the names that `sorted_group_names` gave."""
    places = {name: position for position, name in enumerate(names)}
    return [places[UNKNOWN if group is None else group] for group in groups]


class AttributeRow(NamedTuple):
    """The values of one image in a table. A NamedTuple, because there may be millions."""

    line: int
    path: str  # as written
    cells: Mapping[str, str]  # by column; without empty ones
    label: int | None = None  # 1 fake, 0 real; None: nothing
    forgery: int | None = None  # 0 real, from 1 the kinds of forgeries; None: nothing
    values: Mapping[str, str] = MappingProxyType({})  # the columns of groups
    number: int | None = None  # number of its intersection; None: the table has no such column


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Rows whose number of an intersection is not that of their columns."""

    count: int
    line: int  # line of the first row
    fault: str  # fault of the first row


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesFile:
    """A file that was read whole."""

    file: Path
    header: tuple[str, ...]  # small letters; "" of columns that count for nothing
    rows: tuple[AttributeRow, ...] = ()
    contradictions: Contradictions | None = None

    @property
    def has_signs(self) -> bool:
        """Whether it says of each image which group of people it shows."""
        return INTERSEC in self.header or not set(SIGNS).isdisjoint(self.header)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The columns that Fairness-Generalization's tables do not have. Each is one more grouping."""
        given = {"", *OWN, FORGERY_GROUP, *(PEOPLE if self.has_signs else ())}
        return tuple(name for name in self.header if name not in given)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of groups."""
        people = PEOPLE if self.has_signs else ()
        forgery = (FORGERY_GROUP,) if FORGERY in self.header else ()
        return (*people, *forgery, *self.extra_columns)


def read_table(file: Path) -> AttributesFile:
    """Read a file of attributes.

    A byte order mark, Windows line ends, blank lines and quoted commas are taken as they are meant.

    Raises:
        DataError: no such file, no header, a column that is lacking, rows that do not fit the
        header,
            cells that cannot be, with their lines.
    """
    rows, faults = list[AttributeRow](), list[tuple[int, str]]()
    with _lines(file) as lines:
        table = AttributesFile(file=file, header=_header(file, lines))
        further = table.extra_columns
        for line, cells in lines:
            try:
                rows.append(_row(table, further, line, cells))
            except ValueError as error:
                faults.append((line, str(error)))
    refuse_rows(file, faults)
    if not rows:
        raise DataError(f"{file} has a header but no rows")
    return replace(table, rows=tuple(rows), contradictions=_compared(table, rows))


def _row(
    table: AttributesFile, further: Sequence[str], line: int, texts: Sequence[str]
) -> AttributeRow:
    if len(texts) != len(table.header):
        raise ValueError(f"the row has {len(texts)} cells, but the header has {len(table.header)}")
    named = zip(table.header, map(str.strip, texts), strict=True)
    cells = {name: text for name, text in named if name and text}
    if PATH not in cells:
        raise ValueError(f"the row has no {PATH}")
    path, people = cells.pop(PATH), _people(table, cells)
    number = _whole(cells.get(INTERSEC, ""), INTERSEC) if INTERSEC in table.header else None
    label = _label(cells)
    values = people | {
        name: cells[name] for name in further if name in cells and not is_missing(cells[name])
    }
    return AttributeRow(line, path, cells, label, _forgery(cells, label), values, number)


def read_header(file: Path) -> tuple[str, ...]:
    """Return the names of a file's columns, in small letters.

    Raises:
        DataError: as `read_table`.
    """
    with _lines(file) as lines:
        return _header(file, lines)


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """Open a file; give the lines that are not blank, each with its number."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{file} is larger than {MOST_BYTES >> 20} MiB. Split it into several files."
            )
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            yield ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read attributes from {file}: {error}") from error


def _header(file: Path, lines: Iterator[tuple[int, list[str]]]) -> tuple[str, ...]:
    line, first = next(lines, (0, []))
    if not first:
        raise DataError(f"{file} is empty. Expected a header {EXPECTED},… and one row per image.")
    header = tuple(_column(name) for name in first)
    if PATH not in header:
        if any(_is_number(cell) or is_image(cell.strip()) for cell in first):
            raise DataError(f"{file}:{line}: the header row is missing. Expected {EXPECTED},…")
        raise DataError(
            f"{file}:{line}: column {PATH} is missing in {','.join(first)}. Expected {EXPECTED},… "
            f"or {PATH} and columns of your own."
        )
    twice = [name for at, name in enumerate(header) if name and name in header[:at]]
    if twice:
        raise DataError(f"{file}:{line}: column {twice[0]} is in the header twice")
    if INTERSEC in header or not set(SIGNS).isdisjoint(header):
        lacking = [name for name in NEEDED if name not in header]
        if lacking:
            raise DataError(
                f"{file}:{line}: column {' and '.join(lacking)} is missing. Expected {EXPECTED} "
                "(without isasian if no group is asian)."
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


def _people(table: AttributesFile, cells: Mapping[str, str]) -> dict[str, str]:
    if not table.has_signs:
        return {}
    gender = GENDERS[0] if _sign(cells, "ismale") else GENDERS[1]
    there = [race for race in RACES[:-1] if f"is{race}" in table.header]
    races = [race for race in there if _sign(cells, f"is{race}")]
    if len(races) > 1:
        raise ValueError(f"{' and '.join(f'is{race}' for race in races)} are both 1")
    race = races[0] if races else RACES[-1]
    return {"gender": gender, "race": race, "intersec": f"{gender}-{race}"}


def _sign(cells: Mapping[str, str], column: str) -> bool:
    text = cells.get(column, "")
    if text not in _SIGN:
        raise ValueError(f"{column} is {text!r}, expected 1 or -1")
    return _SIGN[text]


def _label(cells: Mapping[str, str]) -> int | None:
    text = cells.get(LABEL)
    if text is None:
        return None
    if text.casefold() not in _LABELS:
        raise ValueError(f"{LABEL} is {text!r}, expected 0 (real) or 1 (fake)")
    return _LABELS[text.casefold()]


def _forgery(cells: Mapping[str, str], label: int | None) -> int | None:
    """Return the number of a forgery; that of a real image where its row says nothing."""
    text = cells.get(FORGERY, "").casefold()
    if not text:
        return 0 if label == 0 else None
    forgery = FORGERIES.index(text) if text in FORGERIES else _whole(text, FORGERY)
    if label is not None and (forgery > 0) != (label == 1):
        raise ValueError(f"{FORGERY} is {text}, but {LABEL} is {label} (forgery 0 is real)")
    return forgery


def _whole(text: str, column: str) -> int:
    digits = text.removesuffix(".0")
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 3):
        raise ValueError(f"{column} is {text!r}, expected a whole number from 0")
    return int(digits)


def _compared(table: AttributesFile, rows: Sequence[AttributeRow]) -> Contradictions | None:
    """Compare numbers with columns under the scheme of the table.

    Raises:
        DataError: a number that the scheme has not.
    """
    numbers = [
        (each.line, each.number, each.values[GROUPS_BY]) for each in rows if each.number is not None
    ]
    scheme = _scheme(table, numbers)
    columns = "with" if len(scheme) == len(EIGHT) else "without"
    ends = f"the {len(scheme)} groups {columns} isasian end at {len(scheme) - 1}"
    beyond = [
        (line, f"{INTERSEC} is {number}, but {ends}")
        for line, number, _ in numbers
        if number >= len(scheme)
    ]
    refuse_rows(table.file, beyond)
    wrong = [(line, number, name) for line, number, name in numbers if scheme[number] != name]
    if not wrong:
        return None
    line, number, name = wrong[0]
    example = f"{INTERSEC} {number} means {scheme[number]}, but the columns say {name}"
    return Contradictions(len(wrong), line, example)


def _scheme(table: AttributesFile, numbers: Sequence[tuple[int, int, str]]) -> tuple[str, ...]:
    """Return the intersections that the numbers of a table mean.

    A column isasian without any 1 may come with numbers of six groups. Six groups are assumed if
    they explain every row, of at least two races, and eight groups do not.
    """
    if "isasian" not in table.header:
        return SIX
    races = {name.partition("-")[2] for _, _, name in numbers}
    explained = [
        all(number < len(scheme) and scheme[number] == name for _, number, name in numbers)
        for scheme in (SIX, EIGHT)
    ]
    return SIX if explained == [True, False] and len(races) > 1 else EIGHT


def forgery_name(number: int, *, forged: bool) -> str:
    """Return the value of column `forgery`: the word of a forgery type of the job type `forge`, or the number."""
    return FORGERIES[number] if forged and number < len(FORGERIES) else str(number)


CSV, CELEBA = "attributes.csv", "list_attr_celeba.txt"
IMAGE = "image"  # the first column's name
VALUES: Mapping[str, Mapping[str, int]] = {
    ".csv": {"0": 0, "1": 1},
    ".txt": {"-1": 0, "1": 1},
}


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """A table of attributes: 0 or 1 for each image, named without suffix, and each attribute."""

    path: Path
    names: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]

    def rows_for_images(
        self, images: Sequence[str], attributes: Sequence[str] | None = None
    ) -> list[list[int]]:
        """Return one row per image with the requested attributes, or all if None.

        Raises:
            UnknownName: there is no such attribute.
            DataError: images have no row; names the first ones.
        """
        for name in attributes or ():
            if name not in self.names:
                raise UnknownName("attribute", name, self.names, where=str(self.path))
        missing = [image for image in images if stem(image) not in self.rows]
        if missing:
            raise DataError(
                f"{self.path} has no row for {describe_names(missing)}. Add the rows, or remove the images."
            )
        places = [
            self.names.index(name) for name in (self.names if attributes is None else attributes)
        ]
        return [[self.rows[stem(image)][column] for column in places] for image in images]


def find_table(root: Path) -> Path:
    """Return the table of a folder of images: in it, or in its parent folder.

    Raises:
        DataError: there is none.
    """
    for folder in (root, root.parent):
        for name in (CSV, CELEBA):
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"no attribute table found for {root}. Expected {CSV} or {CELEBA} in this folder or its "
        "parent folder."
    )


def read_attribute_table(path: Path) -> AttributeTable:
    """Read a table. The suffix, .csv or .txt, determines its format.

    Raises:
        DataError: it cannot be read, has no header, or rows that contradict it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the attribute table {path}: {error}") from error
    if path.suffix not in VALUES:
        raise DataError(
            f"{path} is not an attribute table. The file name must end in .csv, or in .txt for "
            "the format of CelebA."
        )
    if path.suffix == ".csv":
        body, above, names = [*csv.reader(lines)], 1, _csv_names(path, lines)
    else:
        body, above, names = [line.split() for line in lines], 2, _celeba_names(path, lines)
    if len(set(names)) != len(names) or "" in names:
        raise DataError(f"{path}:{above}: an attribute name is repeated or empty")
    rows = _rows(path, names, body, above)
    if path.suffix == ".txt" and len(rows) != int(lines[0]):
        raise DataError(
            f"{path}:1: the first line announces {lines[0].strip()} images, but {len(rows)} rows "
            "follow. Use the complete list."
        )
    return AttributeTable(path, tuple(names), rows)


def table_text(names: Sequence[str], rows: Mapping[str, Sequence[int]]) -> str:
    """Return the text of an attributes.csv, its images in the order of `rows`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((IMAGE, *names))
    writer.writerows((image, *row) for image, row in rows.items())
    return file.getvalue()


def _csv_names(path: Path, lines: Sequence[str]) -> list[str]:
    """Return the names of line 1."""
    image, *names = map(str.strip, next(csv.reader(lines), [""]) or [""])
    if image != IMAGE or not names:
        raise DataError(
            f"{path}:1: the header is missing. The first line must name the columns, {IMAGE},NAME,…"
        )
    return names


def _celeba_names(path: Path, lines: Sequence[str]) -> list[str]:
    """Return the names of line 2."""
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise DataError(
            f"{path}:1: expected the number of images. The list needs its two header lines."
        )
    names = lines[1].split()
    if not names or any(name.lstrip("-").isdecimal() for name in names):
        raise DataError(
            f"{path}:2: expected the names of the attributes. The list needs its two header lines."
        )
    return names


def _rows(
    path: Path, names: Sequence[str], body: Sequence[Sequence[str]], above: int
) -> dict[str, tuple[int, ...]]:
    values = VALUES[path.suffix]
    rows: dict[str, tuple[int, ...]] = {}
    faults: list[tuple[int, str]] = []
    for line, cells in enumerate(body[above:], start=above + 1):
        if not cells:
            continue
        image, *given = map(str.strip, cells)
        wrong = [cell for cell in given if cell not in values]
        if len(given) != len(names):
            fault = f"{image} has {len(given)} values, but the header has {len(names)}"
        elif wrong:
            fault = f"{image} has the value {wrong[0]!r}, expected {' or '.join(values)}"
        elif stem(image) in rows:
            fault = f"{image} already has a row"
        else:
            rows[stem(image)] = tuple(values[cell] for cell in given)
            continue
        faults.append((line, fault))
    refuse_rows(path, faults)
    return rows
