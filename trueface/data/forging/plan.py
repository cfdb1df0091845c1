"""What a forged set holds: of each real face its list and group, the type of its fake, and what of both is kept.

Faces are those of a table of attributes, or of a folder of aligned faces without any. Groups are
read as `data.attributes` reads them: by the names in the header, with six or eight intersections.
Beside them a table of faces may say in which list each face is. A skew that is planted in the
training list says which share of a group's images of a class is kept. No torch here.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from trueface.data.folders import find_images
from trueface.data.forging.faces import Face, FaceTable, read_table
from trueface.data.forging.kept_cells import parse_cells, select_kept_images
from trueface.data.forging.registry import (
    SELF,
    SPECS,
    ForgerySpec,
    parse_types,
)
from trueface.data.forging.settings import ForgeSettings
from trueface.data.splits.split_files import NAMES
from trueface.runtime.digests import sha256_digest
from trueface.runtime.errors import DataError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # fractions of the faces, if no table names lists
SHOWN = 3
UNSHARED = "PreSocial"
REAL_FOLDER = "Faces"


def read_faces(path: Path) -> FaceTable:
    """Read the faces of a table or of a folder; each is in one of the three lists.

    Faces without a list get one by a digest of their path, so that it lasts when others come.

    Raises:
        DataError: no such file or folder, no image in it, or a table that cannot be.
    """
    if os.path.isdir(path):  # noqa: PTH112  # a Path raises for what may not be looked at
        table = _list_folder(path)
    elif os.path.isfile(path):  # noqa: PTH113  # likewise
        table = read_table(path)
    else:
        raise DataError(
            f"{path} does not exist. Name a table of faces or a folder of aligned faces."
        )
    faces = (face if face.split else replace(face, split=_draw_list(face)) for face in table.faces)
    return replace(table, faces=tuple(faces))


def names_of(faces: Sequence[Face]) -> dict[str, str]:
    """Return the new file name of each face, without suffix, by its path.

    It is the name of the face's file if all names differ, otherwise the path with its folders.

    Raises:
        DataError: two faces would get the same name.
    """
    stems = Counter(PurePosixPath(face.path).stem for face in faces)
    is_short = all(count == 1 for count in stems.values())
    paths: dict[str, str] = {}
    for face in faces:
        parts = [part for part in PurePosixPath(face.path).parts if part not in {"/", "..", "."}]
        name = PurePosixPath(face.path if is_short else "-".join(parts)).stem
        if paths.setdefault(name, face.path) != face.path:
            raise DataError(
                f"{face.named_in}: {face.path} and {paths[name]} would both get the name {name}. "
                "Keep one of them, or rename it."
            )
    return {path: name for name, path in paths.items()}


def limit_faces(
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


def _list_folder(folder: Path) -> FaceTable:
    there = find_images((folder,))
    if there.missing:
        first, more = there.missing[0], len(there.missing) - 1
        others = f", and {more} more" if more else ""
        raise DataError(f"{first.path}: {first.reason}{others}. Name a folder of aligned faces.")
    faces = tuple(
        Face(
            file=file,
            path=file.relative_to(folder).as_posix(),
            split="",
            columns={},
            named_in=str(file),
        )
        for file in there.files
    )
    return FaceTable(faces=faces, has_groups=False, further=())


def _draw_list(face: Face) -> str:
    """Return the list that a face's path draws."""
    draw = int.from_bytes(sha256_digest([f"forge/split/{face.path}"])[:8], "big") / (1 << 64)
    for name, share in SHARES.items():
        draw -= share
        if draw < 0:
            return name
    return "test"


def _rank(face: Face, seed: int) -> tuple[bytes, str]:
    return sha256_digest([f"forge/order/{seed}/{face.path}"]), face.path


MARK = "forged.json"  # marker file in the data root of a forged set: faces and settings
TABLE = "faces.csv"  # in the same folder: all images, in the columns of seed 002


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A real face and its fake; either may be left out of the training list."""

    face: Face
    name: str  # name of both files, without suffix
    spec: ForgerySpec
    keeps_real: bool
    keeps_fake: bool

    @property
    def images(self) -> tuple[tuple[str, int], ...]:
        """What is kept: file below the data root, and number of the type, 0 for real."""
        real = (f"{UNSHARED}/Real/{REAL_FOLDER}/{self.name}.jpg", 0)
        fake = (f"{UNSHARED}/Fake/{self.spec.folder}/{self.name}.jpg", self.spec.number)
        return (*((real,) if self.keeps_real else ()), *((fake,) if self.keeps_fake else ()))

    @property
    def keys(self) -> tuple[str, ...]:
        """Their names in a split."""
        # below PreSocial/Real/ or PreSocial/Fake/
        return tuple(path.split("/", 2)[2].removesuffix(".jpg") for path, _ in self.images)


@dataclass(frozen=True, kw_only=True)
class ForgingPlan:
    """All pairs of a set, and those whose faces may lend each other parts."""

    table: FaceTable
    pairs: tuple[Pair, ...]
    lenders: Mapping[tuple[str, str], tuple[int, ...]]  # list and group → places of pairs
    lonely: int  # fakes that would need a donor and have none: self-blended

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """The keys of each list, sorted."""
        return {
            name: sorted(key for pair in self.pairs if pair.face.split == name for key in pair.keys)
            for name in NAMES
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each type, and real ones."""
        of_type = Counter(number for pair in self.pairs for _, number in pair.images)
        names = {0: "real", **{spec.number: name for name, spec in SPECS.items()}}
        return {name: of_type[number] for number, name in names.items() if of_type[number]}


def make_plan(table: FaceTable, settings: ForgeSettings) -> ForgingPlan:
    """Return the content of a set with these settings. No image is read.

    The types alternate in each group of each split, and each group starts with another type. If a
    skew keeps only few fakes, they therefore have several types.

    Raises:
        DataError: two faces would have the same name, or the training split is empty.
        UsageError: cells name groups that do not exist, or more images than there are.
    """
    names, types = names_of(table.faces), parse_types(settings.types)
    cells = limit_faces(table.faces, settings.limits, settings.seed)
    training = {group: faces for (split, group), faces in cells.items() if split == "train"}
    skew = parse_cells(settings.cells)
    reals, fakes = select_kept_images(training, skew)
    pairs, lenders, lonely = list[Pair](), dict[tuple[str, str], tuple[int, ...]](), 0
    for number, ((split, group), faces) in enumerate(cells.items()):
        lenders[split, group] = tuple(range(len(pairs), len(pairs) + len(faces)))
        for position, face in enumerate(faces):
            spec, is_training = types[(position + number) % len(types)], split == "train"
            if spec.needs_donor and len(faces) == 1:
                spec, lonely = SPECS[SELF], lonely + 1
            pair = Pair(
                face=face,
                name=names[face.path],
                spec=spec,
                keeps_real=not is_training or face.path in reals,
                keeps_fake=not is_training or face.path in fakes,
            )
            pairs.append(pair)
    if skew and not (reals and fakes):
        missing = "fake" if reals else "real"
        raise DataError(f"cells keep no {missing} images in the training list. Keep some of them.")
    return ForgingPlan(table=table, pairs=tuple(pairs), lenders=lenders, lonely=lonely)
