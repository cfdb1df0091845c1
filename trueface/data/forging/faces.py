"""Real faces and their groups, as a table of attributes lists them.

Groups are read as `data.attributes` reads them: by the names in the header, with six or eight
intersections. Beside them a table of faces may say in which list each face is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trueface.data.attributes.schemes import PEOPLE, Facts, facts_of
from trueface.data.attributes.table import SPLIT, Row, refuse
from trueface.data.attributes.table import read_table as read_rows
from trueface.data.imports.images import LISTS

# of images of another data set than that of the training, which are for tests alone
SPLITS: Mapping[str, str] = {**LISTS, "cross": "test"}
GROUP = "intersec"  # the column of the groups that lend each other parts


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
    has_groups: bool  # of people
    further: tuple[str, ...]  # columns beside the seed's, in their order
    contradictions: int  # rows whose intersec_label is another than their columns say


def read_table(path: Path) -> FaceTable:
    """Read a table of real faces.

    Raises:
        DataError: it cannot be read, has no header, lacks a column, or has rows that cannot be; says
            file and line of the first ones.
    """
    table = read_rows(path)
    facts, odd = facts_of(table)
    faces, faults, lines = list[Face](), list[tuple[int, str]](), dict[str, int]()
    for row, known in zip(table.rows, facts, strict=True):
        first = lines.setdefault(row.path, row.line)
        try:
            if first != row.line:
                raise ValueError(f"{row.path} stands in line {first} already")  # noqa: TRY301  # as the others
            faces.append(_face(path, row, known, lists=SPLIT in table.header))
        except ValueError as error:
            faults.append((row.line, str(error)))
    refuse(path, faults)
    return FaceTable(
        faces=tuple(faces),
        has_groups=table.has_signs,
        further=tuple(name for name in table.further if not (table.has_signs and name in PEOPLE)),
        contradictions=0 if odd is None else odd.count,
    )


def _face(table: Path, row: Row, known: Facts, *, lists: bool) -> Face:
    """Return the face of a row.

    Raises:
        ValueError: says what is wrong with the row.
    """
    if known.label or known.forgery:
        raise ValueError("the image is a fake, and faces to be forged are real, label 0")
    file = table.parent / row.path
    if not file.is_file():
        raise ValueError(f"no file {file}")
    split = row.cells.get(SPLIT, "")
    if lists and split.casefold() not in SPLITS:
        expected = ", ".join(dict.fromkeys((*LISTS.values(), "cross")))
        raise ValueError(f"{SPLIT} is {split!r}, expected {expected}")
    return Face(
        file=file,
        path=row.path,
        split=SPLITS.get(split.casefold(), ""),
        columns=known.values,
        place=f"{table}:{row.line}",
    )
