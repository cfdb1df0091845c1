"""Which faces are forged: of a table, or of a folder of aligned faces without any."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from trueface.data.forging.faces import Face, FaceTable, read_table
from trueface.data.image_files import find
from trueface.runtime.errors import DataError

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
