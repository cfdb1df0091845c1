"""Real faces and their groups, as a table in the columns of seed 002 lists them.

Source: Purdue-M2/Fairness-Generalization. Columns count by the names in the header: its README
exchanges black and white. Where the number of the intersection contradicts them it is counted, and
the columns are believed.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.data.imports.images import LISTS
from trueface.runtime.errors import DataError

PATH, LABEL, SPLIT = "img_path", "label", "split"
FLAGS = ("ismale", "isasian", "iswhite", "isblack")
INTERSECTION, TYPE = "intersec_label", "spe_label"
EXPECTED = ",".join((PATH, LABEL, *FLAGS, INTERSECTION, SPLIT))
OWN = frozenset({PATH, LABEL, SPLIT, *FLAGS, INTERSECTION, TYPE})
GENDERS, RACES = ("male", "nonmale"), ("asian", "white", "black", "others")
GENDER, RACE, GROUP = "gender", "race", "intersec"
GROUPS = tuple(f"{gender}-{race}" for gender in GENDERS for race in RACES)  # by their number
MOST_BYTES = 1 << 29
MOST_FAULTS = 5  # shown at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One real face."""

    file: Path
    path: str  # as the table has it, or below the folder
    split: str  # train, val or test; "" where nothing says
    columns: Mapping[str, str]  # gender, race, intersec and further columns, by name
    place: str  # file and line, for messages

    @property
    def group(self) -> str:
        """Its intersection of gender and race; "" where there are no groups."""
        return self.columns.get(GROUP, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceTable:
    """Real faces, and what their table has of them."""

    faces: tuple[Face, ...]
    has_groups: bool
    further: tuple[str, ...]  # columns beside the seed's, in their order
    contradictions: int  # rows whose intersec_label is another than their columns say


def read_table(path: Path) -> FaceTable:
    """Read a table of real faces.

    Raises:
        DataError: it cannot be read, has no header, lacks a column, or has rows that cannot be; says
            file and line of the first ones.
    """
    rows = _rows(path)
    header = next(rows, (0, []))[1]
    places = _places(path, header)
    further = tuple(name for name in places if name not in OWN)
    faces, faults, lines = list[Face](), list[str](), dict[str, int]()
    contradictions = 0
    for line, row in rows:
        try:
            face, contradicts = _face(path, line, _cells(row, places), further)
        except ValueError as error:
            faults.append(f"{path}:{line}: {error}")
            continue
        first = lines.setdefault(face.path, line)
        if first != line:
            faults.append(f"{path}:{line}: {face.path} stands in line {first} already")
        faces.append(face)
        contradictions += contradicts
    if faults:
        more = f"\n       … {len(faults)} rows in all" if len(faults) > MOST_FAULTS else ""
        raise DataError("\n       ".join(faults[:MOST_FAULTS]) + more)
    if not faces:
        raise DataError(f"{path} has no row below its header; list the faces, one a line")
    return FaceTable(
        faces=tuple(faces),
        has_groups=INTERSECTION in places or FLAGS[0] in places,
        further=further,
        contradictions=contradictions,
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with its line."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path} has more than {MOST_BYTES >> 20} MiB; forge it in parts")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; name a table of faces, in UTF-8") from error


def _places(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return where each column stands, by its name."""
    names = [name.strip() for name in header]
    if PATH not in names:
        if any(_is_number(name) for name in names) or not names:
            raise DataError(f"{path}:1: the table has no header row; expected {EXPECTED}")
        raise DataError(f"{path}:1: no column {PATH}; expected {EXPECTED}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: column {twice[0]} stands there twice; leave one of them out")
    flags = [name for name in FLAGS if name in names]
    lacking = [name for name in FLAGS if name not in names]
    if flags and lacking:
        raise DataError(f"{path}:1: no column {' and '.join(lacking)}, beside {', '.join(flags)}")
    return {name: at for at, name in enumerate(names)}


def _cells(row: Sequence[str], places: Mapping[str, int]) -> dict[str, str]:
    """Return the cells of a row by column.

    Raises:
        ValueError: there are more or fewer of them.
    """
    if len(row) != len(places):
        raise ValueError(f"{len(row)} cells under {len(places)} columns")
    return {name: row[at].strip() for name, at in places.items()}


def _face(
    table: Path, line: int, cells: Mapping[str, str], further: Sequence[str]
) -> tuple[Face, bool]:
    """Return the face of a row, and whether its number of the intersection contradicts it.

    Raises:
        ValueError: says what is wrong with the row.
    """
    if not cells[PATH]:
        raise ValueError(f"no {PATH}")
    if cells.get(LABEL, "0") != "0":
        raise ValueError(f"label {cells[LABEL]!r}: faces to be forged are real, label 0")
    file = table.parent / cells[PATH]
    if not file.is_file():
        raise ValueError(f"no file {file}")
    split = cells.get(SPLIT, "").casefold()
    if SPLIT in cells and split not in LISTS:
        expected = ", ".join(dict.fromkeys(LISTS.values()))
        raise ValueError(f"{SPLIT} {cells[SPLIT]!r}: expected {expected}")
    group, contradicts = _group(cells)
    known = {} if group is None else {GENDER: group[0], RACE: group[1], GROUP: "-".join(group)}
    face = Face(
        file=file,
        path=cells[PATH],
        split=LISTS.get(split, ""),
        columns={**{name: cells[name] for name in further}, **known},
        place=f"{table}:{line}",
    )
    return face, contradicts


def _group(cells: Mapping[str, str]) -> tuple[tuple[str, str] | None, bool]:
    """Return gender and race, and whether the number of the intersection says otherwise."""
    number = cells.get(INTERSECTION)
    if number is not None and not (number.isdecimal() and int(number) < len(GROUPS)):
        raise ValueError(
            f"{INTERSECTION} {number!r}: expected 0 to {len(GROUPS) - 1}, {', '.join(GROUPS)}"
        )
    if FLAGS[0] not in cells:
        if number is None:
            return None, False
        place = int(number)
        return (GENDERS[place // len(RACES)], RACES[place % len(RACES)]), False
    flags = [_flag(name, cells[name]) for name in FLAGS]
    races = [race for race, is_so in zip(RACES, flags[1:], strict=False) if is_so]
    if len(races) > 1:
        raise ValueError(f"is {' and '.join(races)}: expected one of them, or none for others")
    gender, race = GENDERS[not flags[0]], (*races, RACES[-1])[0]
    contradicts = number is not None and GROUPS[int(number)] != f"{gender}-{race}"
    return (gender, race), contradicts


def _flag(name: str, text: str) -> bool:
    if text not in {"1", "+1", "-1"}:
        raise ValueError(f"{name} {text!r}: expected 1 or -1")
    return text != "-1"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
