"""Real faces, and the table that names their lists and groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trueface.data.attribute_table import SPLIT, AttributeRow
from trueface.data.attribute_table import read_table as read_rows
from trueface.data.splits.split_files import LISTS
from trueface.data.tables import parse_rows

# cross: images of another data set than that of the training, for tests alone
SPLITS: Mapping[str, str] = {**LISTS, "cross": "test"}
GROUP = "intersec"  # the column of the groups that lend each other parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One real face."""

    file: Path
    path: str  # as the table has it, or below the folder
    split: str  # train, val or test; "" where nothing says
    columns: Mapping[str, str]  # gender, race, intersec and further columns, by name
    named_in: str  # file and line, for messages

    @property
    def group(self) -> str:
        """Its intersection of gender and race; "" where there are no groups."""
        return self.columns.get(GROUP, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceTable:
    """Real faces, and what their table has of them."""

    faces: tuple[Face, ...]
    has_groups: bool  # whether the table has groups of people
    further: tuple[str, ...]  # columns in addition to those of seed 002, in their order


def read_table(path: Path) -> FaceTable:
    """Read a table of real faces.

    Raises:
        DataError: it cannot be read, has no header, lacks a column, or has rows that cannot be;
        says
            file and line of the first ones.
    """
    table = read_rows(path)
    lines = dict[str, int]()

    def parse(line: int, row: AttributeRow) -> Face:
        first = lines.setdefault(row.path, line)
        if first != line:
            raise ValueError(f"{row.path} is already in line {first}")
        return _face(path, row, lists=SPLIT in table.header)

    faces = parse_rows(path, ((row.line, row) for row in table.rows), parse)
    return FaceTable(
        faces=tuple(faces),
        has_groups=table.has_signs,
        further=table.extra_columns,
    )


def _face(table: Path, row: AttributeRow, *, lists: bool) -> Face:
    """Return the face of a row.

    Raises:
        ValueError: says what is wrong with the row.
    """
    if row.label or row.forgery:
        raise ValueError("the image is a fake, but only real faces (label 0) can be forged")
    file = table.parent / row.path
    if not file.is_file():
        raise ValueError(f"file {file} does not exist")
    split = row.cells.get(SPLIT, "")
    if lists and split.casefold() not in SPLITS:
        expected = ", ".join(dict.fromkeys((*LISTS.values(), "cross")))
        raise ValueError(f"{SPLIT} is {split!r}, expected {expected}")
    return Face(
        file=file,
        path=row.path,
        split=SPLITS.get(split.casefold(), ""),
        columns=row.values,
        named_in=f"{table}:{row.line}",
    )
