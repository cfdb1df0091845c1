"""Real faces and their groups: of a table of attributes, or of a folder of aligned faces without any.

Groups are read as `data.attributes` reads them: by the names in the header, with six or eight
intersections. Beside them a table of faces may say in which list each face is.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from trueface.data.attributes.table import PEOPLE, SPLIT, Facts, Row, facts_of, refuse
from trueface.data.attributes.table import read_table as read_rows
from trueface.data.image_files import find
from trueface.data.imports.images import LISTS
from trueface.runtime.errors import DataError

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


SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # where no table says; the seed's
SHOWN = 3


def read_faces(place: Path) -> FaceTable:
    """Read the faces of a table or of a folder; each is in one of the three lists.

    Faces without a list get one by a digest of their path, so that it lasts when others come.

    Raises:
        DataError: no such file or folder, no image in it, or a table that cannot be.
    """
    if os.path.isdir(place):  # noqa: PTH112  # a Path raises for what may not be looked at
        table = _of_folder(place)
    elif os.path.isfile(place):  # noqa: PTH113  # likewise
        table = read_table(place)
    else:
        raise DataError(f"no {place}; name a table of faces, or a folder of aligned faces")
    faces = (face if face.split else replace(face, split=_drawn(face)) for face in table.faces)
    return replace(table, faces=tuple(faces))


def names_of(faces: Sequence[Face]) -> dict[str, str]:
    """Return the file name that each face gets, without suffix, by its path.

    It is the face's own where no two are alike, else the path with its folders.

    Raises:
        DataError: two faces would get the same.
    """
    stems = Counter(PurePosixPath(face.path).stem for face in faces)
    is_short = all(count == 1 for count in stems.values())
    named: dict[str, str] = {}
    taken: dict[str, str] = {}
    for face in faces:
        parts = [part for part in PurePosixPath(face.path).parts if part not in {"/", "..", "."}]
        whole = PurePosixPath("-".join(parts)).stem
        name = PurePosixPath(face.path).stem if is_short else whole
        if name in taken:
            raise DataError(
                f"{face.place}: {face.path} and {taken[name]} would both be called {name}; keep one "
                "of them, or rename it"
            )
        taken[name] = face.path
        named[face.path] = name
    return named


def limited(
    faces: Sequence[Face], limits: Mapping[str, int], seed: int
) -> dict[tuple[str, str], list[Face]]:
    """Return the faces of each list and group in an order that the seed draws.

    The order of the table plays no part, and a smaller number takes the first of a larger one.

    Args:
        faces: each in a list.
        limits: by list, how many of each group; 0: all.
        seed: of the order.
    """
    cells: dict[tuple[str, str], list[Face]] = defaultdict(list)
    for face in faces:
        cells[face.split, face.group].append(face)
    return {
        (split, group): sorted(members, key=lambda face: _rank(face, seed))[: limits[split] or None]
        for (split, group), members in sorted(cells.items())
    }


def _of_folder(folder: Path) -> FaceTable:
    there = find((folder,))
    if there.missing:
        first = there.missing[0]
        raise DataError(f"{first.path}: {first.reason}; name a folder of aligned faces")
    faces = tuple(
        Face(
            file=file,
            path=file.relative_to(folder).as_posix(),
            split="",
            columns={},
            place=str(file),
        )
        for file in there.files
    )
    return FaceTable(faces=faces, has_groups=False, further=(), contradictions=0)


def _drawn(face: Face) -> str:
    """Return the list that a face's path draws."""
    draw = int.from_bytes(_digest(f"forge/split/{face.path}")[:8], "big") / (1 << 64)
    for name, share in SHARES.items():
        draw -= share
        if draw < 0:
            return name
    return "test"


def _rank(face: Face, seed: int) -> tuple[bytes, str]:
    return _digest(f"forge/order/{seed}/{face.path}"), face.path


def _digest(words: str) -> bytes:
    return hashlib.sha256(words.encode(errors="surrogateescape")).digest()
