"""Tables of attributes.

Reads one CSV file of groups: its rows with line numbers, the values of an image, and the cells of a
set.

Columns are identified by the names in the header, never by position. Files of seed 002 (Purdue-M2/
Fairness-Generalization) have six, seven or eight of them, and its README names two in another
order.

Columns contain gender, race, their intersection, the forgery, and further groupings. The number of
the intersection in `intersec_label` is not read, because the columns of gender and race say the same.
Seed 002 has two numberings of it, and its README swaps black and white against the header.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from trueface.data.folders import describe_names, is_image, stem
from trueface.data.group_names import is_missing
from trueface.data.tables import LABEL_WORDS, TableLine, parse_rows, read_csv, read_words
from trueface.runtime.errors import DataError, UnknownName

FEW = 30  # images; rates of fewer are hardly known: ±18 points at 30, Wilson's interval
UNKNOWN = "unknown"  # the group of images that have none
CLASSES = ("real", "fake")
GROUPS_BY = "intersec"  # the column of groups, unless another is named

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
# the numbering of intersec_label with a column isasian, and without it
EIGHT = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES))
SIX = tuple(f"{gender}-{race}" for gender, race in product(GENDERS, RACES[1:]))
# columns of groups that the signs give
PEOPLE = ("gender", "race", "intersec")
FORGERIES = ("real", "self", "swap", "mouth", "eyes", "soft")  # the kind `forge` makes these
_SIGN = {"1": True, "+1": True, "1.0": True, "-1": False, "-1.0": False}


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
    def small_groups(self) -> dict[str, tuple[int, int]]:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesFile:
    """A file that was read whole."""

    file: Path
    header: tuple[str, ...]  # small letters; "" of columns that count for nothing
    rows: tuple[AttributeRow, ...] = ()

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

    Raises:
        DataError: no such file, no header, a column that is lacking, rows that do not fit the header, cells
            that cannot be, with their lines.
    """
    lines = read_csv(file)
    table = AttributesFile(file=file, header=_header(file, lines))
    # most rows repeat the cells of another image, and share what these mean
    describe = lru_cache(maxsize=4096)(lambda cells: _describe(table, cells))
    at, width = table.header.index(PATH), len(table.header)

    def parse(line: int, cells: list[str]) -> AttributeRow:
        if len(cells) != width:
            raise ValueError(f"the row has {len(cells)} cells, but the header has {width}")
        if not cells[at]:
            raise ValueError(f"the row has no {PATH}")
        return AttributeRow(line, cells[at], *describe((*cells[:at], "", *cells[at + 1 :])))

    rows = parse_rows(file, lines, parse)
    if not rows:
        raise DataError(f"{file} has a header but no rows")
    return replace(table, rows=tuple(rows))


def _describe(
    table: AttributesFile, texts: tuple[str, ...]
) -> tuple[Mapping[str, str], int | None, int | None, Mapping[str, str]]:
    """Return the fields of a row after its path."""
    cells = {name: text for name, text in zip(table.header, texts, strict=True) if name and text}
    people, label = _people(table, cells), _label(cells)
    values = people | {
        name: cells[name]
        for name in table.extra_columns
        if name in cells and not is_missing(cells[name])
    }
    return cells, label, _forgery(cells, label), values


def read_header(file: Path) -> tuple[str, ...]:
    """Return the names of a file's columns, in small letters.

    Raises:
        DataError: as `read_table`.
    """
    return _header(file, read_csv(file))


def _header(file: Path, lines: Iterator[TableLine]) -> tuple[str, ...]:
    line, first = next(lines, (0, []))
    if not first:
        raise DataError(f"{file} is empty. Expected a header {EXPECTED},… and one row per image.")
    header = tuple(_column(name) for name in first)
    if PATH not in header:
        if any(_is_number(cell) or is_image(cell) for cell in first):
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
    small = name.casefold()
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
    text = cells.get(LABEL, "")
    if is_missing(text):
        return None
    if text.casefold() not in LABEL_WORDS:
        raise ValueError(f"{LABEL} is {text!r}, expected 0 (real) or 1 (fake)")
    return LABEL_WORDS[text.casefold()]


def _forgery(cells: Mapping[str, str], label: int | None) -> int | None:
    """Return the number of a forgery; that of a real image where its row says nothing."""
    text = cells.get(FORGERY, "")
    if is_missing(text):
        return 0 if label == 0 else None
    text = text.casefold()
    forgery = FORGERIES.index(text) if text in FORGERIES else _parse_whole_number(text)
    if label is not None and (forgery > 0) != (label == 1):
        raise ValueError(f"{FORGERY} is {text}, but {LABEL} is {label} (forgery 0 is real)")
    return forgery


def _parse_whole_number(text: str) -> int:
    digits = text.removesuffix(".0")
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 3):
        raise ValueError(f"{FORGERY} is {text!r}, expected a whole number from 0")
    return int(digits)


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
    if path.suffix not in VALUES:
        raise DataError(
            f"{path} is not an attribute table. The file name must end in .csv, or in .txt for "
            "the format of CelebA."
        )
    if path.suffix == ".csv":
        lines, announced = read_csv(path), None
        above, names = _csv_names(path, lines)
    else:
        lines = read_words(path)
        announced, (above, names) = _read_image_count(path, lines), _celeba_names(path, lines)
    if len(set(names)) != len(names) or "" in names:
        raise DataError(f"{path}:{above}: an attribute name is repeated or empty")
    rows = _rows(path, names, lines)
    if announced is not None and len(rows) != announced:
        raise DataError(
            f"{path}:1: the first line announces {announced} images, but {len(rows)} rows "
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


def _csv_names(path: Path, lines: Iterator[TableLine]) -> TableLine:
    """Return the names in the header, with its line."""
    line, (image, *names) = next(lines, TableLine(1, [""]))
    if image != IMAGE or not names:
        raise DataError(
            f"{path}:{line}: the header is missing. The first line must name the columns, {IMAGE},NAME,…"
        )
    return TableLine(line, names)


def _read_image_count(path: Path, lines: Iterator[TableLine]) -> int:
    """Return the number of images in line 1 of a list of CelebA."""
    line, words = next(lines, TableLine(1, [""]))
    if len(words) != 1 or not words[0].isdecimal():
        raise DataError(
            f"{path}:{line}: expected the number of images. The list needs its two header lines."
        )
    return int(words[0])


def _celeba_names(path: Path, lines: Iterator[TableLine]) -> TableLine:
    """Return the names in line 2 of a list of CelebA, with the line."""
    line, names = next(lines, TableLine(2, []))
    if not names or any(name.lstrip("-").isdecimal() for name in names):
        raise DataError(
            f"{path}:{line}: expected the names of the attributes. The list needs its two header lines."
        )
    return TableLine(line, names)


def _rows(
    path: Path, names: Sequence[str], lines: Iterable[TableLine]
) -> dict[str, tuple[int, ...]]:
    values = VALUES[path.suffix]
    rows: dict[str, tuple[int, ...]] = {}

    def parse(_: int, cells: list[str]) -> None:
        image, *given = cells
        wrong = [cell for cell in given if cell not in values]
        if len(given) != len(names):
            raise ValueError(f"{image} has {len(given)} values, but the header has {len(names)}")
        if wrong:
            raise ValueError(f"{image} has the value {wrong[0]!r}, expected {' or '.join(values)}")
        if stem(image) in rows:
            raise ValueError(f"{image} already has a row")
        rows[stem(image)] = tuple(values[cell] for cell in given)

    parse_rows(path, lines, parse)
    return rows
