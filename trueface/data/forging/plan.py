"""What a forged set holds: of each real face its list and group, the type of its fake, and what of both is kept.

Faces are those of a table of attributes, or of a folder of aligned faces without any. Groups are read as `data.attributes` reads them: by the names in the header, with six or eight
intersections. Beside them a table of faces may say in which list each face is. A skew that is planted in
the training list says which share of a group's images of a class is kept. No torch here.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from trueface.data.attribute_table import SPLIT, AttributeRow
from trueface.data.attribute_table import read_table as read_rows
from trueface.data.folders import find_images
from trueface.data.forging.registry import (
    SELF,
    SPECS,
    ForgerySpec,
    canonical_types,
    described,
    modules_of,
    parse_types,
)
from trueface.data.settings import PLACES
from trueface.data.splits import LISTS, NAMES
from trueface.runtime.errors import DataError, UnknownName, UsageError, refuse_rows
from trueface.runtime.field_types import Settings

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
    faces, faults, lines = list[Face](), list[tuple[int, str]](), dict[str, int]()
    for row in table.rows:
        first = lines.setdefault(row.path, row.line)
        try:
            if first != row.line:
                raise ValueError(f"{row.path} is already in line {first}")  # noqa: TRY301  # as the others
            faces.append(_face(path, row, lists=SPLIT in table.header))
        except ValueError as error:
            faults.append((row.line, str(error)))
    refuse_rows(path, faults)
    return FaceTable(
        faces=tuple(faces),
        has_groups=table.has_signs,
        further=table.further,
        contradictions=table.contradictions.count if table.contradictions else 0,
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
        raise DataError(
            f"{place} does not exist. Name a table of faces or a folder of aligned faces."
        )
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
    paths: dict[str, str] = {}
    for face in faces:
        parts = [part for part in PurePosixPath(face.path).parts if part not in {"/", "..", "."}]
        name = PurePosixPath(face.path if is_short else "-".join(parts)).stem
        if paths.setdefault(name, face.path) != face.path:
            raise DataError(
                f"{face.place}: {face.path} and {paths[name]} would both get the name {name}. "
                "Keep one of them, or rename it."
            )
    return {path: name for name, path in paths.items()}


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


CLASSES: Mapping[str, int] = {"real": 0, "fake": 1}
OTHERS = "*"  # each group that no other cell names
SHAPE = "NAME: NUMBER or NAME/real: NUMBER or NAME/fake: NUMBER, separated by commas"  # prose: ok, the syntax of the setting


@dataclass(frozen=True, slots=True)
class KeptCell:
    """How much of a group's images is kept."""

    text: str  # for messages
    column: str  # "" where the name is enough
    name: str
    labels: tuple[int, ...]  # classes: one of them, or both
    amount: float  # up to 1 a share of the pairs; above 1 so many

    def kept(self, ordered: Sequence[Face]) -> set[str]:
        """Return the paths of the first of a group's faces, as many as are kept.

        Of a share, as many of each intersection of gender and race.

        Raises:
            UsageError: there are not as many.
        """
        if self.amount > 1:
            if self.amount > len(ordered):
                raise UsageError(
                    f"cells: {self.text!r} requests {self.amount:g} images, but the training list "
                    f"has {len(ordered)}. Request fewer, or raise the limit of the list."
                )
            return {face.path for face in ordered[: int(self.amount)]}
        groups = _by_group(ordered).values()
        return {face.path for group in groups for face in group[: self._share(len(group))]}

    def _share(self, count: int) -> int:
        exact = round(self.amount * count, 6)
        whole = int(exact)
        # halves go to the reals, so that both classes together are never more than all
        is_up = exact - whole == 0.5 and self.labels != (CLASSES["fake"],)
        return whole + (exact - whole > 0.5 or is_up)


def parse_cells(text: str) -> tuple[KeptCell, ...]:
    """Return the cells of a text such as "male/real: .9, male/fake: .1".

    Raises:
        ValueError: it is none, or a number is neither a share nor a count.
    """
    return tuple(_cell(part.strip()) for part in text.split(",") if part.strip())


def _cell(text: str) -> KeptCell:
    named, colon, number = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is not a subgroup with a number: write {SHAPE}")
    name, slash, word = named.rpartition("/") if "/" in named else (named, "", "")
    if slash and word.strip() not in CLASSES:
        raise ValueError(f"{word.strip()!r} in {text!r} is not real or fake")
    column, _, value = name.strip().rpartition("=")
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    if not (0 <= amount <= 1 or (amount > 1 and amount.is_integer())):
        raise ValueError(f"{text!r}: expected a fraction from 0 to 1, or a whole number of images")
    if not value.strip():
        raise ValueError(f"{text!r} does not name a group: write {SHAPE}")
    labels = (CLASSES[word.strip()],) if slash else tuple(CLASSES.values())
    return KeptCell(text, column.strip(), value.strip(), labels, amount)


def kept(
    ordered: Mapping[str, Sequence[Face]], cells: Sequence[KeptCell]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the paths whose real image is kept, and those whose fake is.

    Of reals the first of the order are kept, of fakes the last: where the shares of both add up to
    1 at most, no face comes twice. A cell of both classes keeps whole pairs. Shares are met in each
    intersection of gender and race, so that a skew between men and women is none between races.

    Args:
        ordered: the faces of the training list by group, in the order that is drawn.
        cells: none: all is kept.

    Raises:
        UnknownName: there is no such group.
        UsageError: two cells name the same images, or one more than there are.
    """
    ranked = {
        face.path: ((place, face.path), face)
        for members in ordered.values()
        for place, face in enumerate(members)
    }
    faces = [face for _, face in ranked.values()]
    holding = _named(cells, faces)
    _refuse_overlap(holding)
    keep = {label: set(ranked) for label in CLASSES.values()}
    for cell, parts in holding.items():
        for members in parts:
            from_end = cell.labels == (CLASSES["fake"],)
            in_order = sorted(members, key=lambda face: ranked[face.path][0], reverse=from_end)
            for label in cell.labels:
                keep[label] -= {face.path for face in members} - cell.kept(in_order)
    return frozenset(keep[0]), frozenset(keep[1])


def _named(
    cells: Sequence[KeptCell], faces: Sequence[Face]
) -> dict[KeptCell, Sequence[Sequence[Face]]]:
    """Return the faces that each cell names; `*` names several groups, each for itself."""
    holding: dict[KeptCell, Sequence[Sequence[Face]]] = {}
    for cell in cells:
        if cell.column or cell.name != OTHERS:
            column = _column(cell, faces)
            holding[cell] = [[face for face in faces if face.columns.get(column) == cell.name]]
    named = {face.path for (members,) in holding.values() for face in members}
    others = [*_by_group([face for face in faces if face.path not in named]).values()]
    for cell in cells:
        if not holding.setdefault(cell, others):
            raise UsageError(f"cells: {cell.text}: the other entries already name every group")
    return holding


def _by_group(faces: Iterable[Face]) -> dict[str, list[Face]]:
    groups: dict[str, list[Face]] = defaultdict(list)
    for face in faces:
        groups[face.group].append(face)
    return groups


def _column(cell: KeptCell, faces: Sequence[Face]) -> str:
    values: dict[str, set[str]] = defaultdict(set)
    for face in faces:
        for column, value in face.columns.items():
            values[column].add(value)
    if cell.column and cell.column not in values:
        raise UnknownName("column of groups", cell.column, sorted(values), where="the faces' table")
    looked_in = [cell.column] if cell.column else [*values]
    columns = [column for column in looked_in if cell.name in values[column]]
    if not columns:
        known = sorted(set().union(*(values[column] for column in looked_in)))
        raise UnknownName("group", cell.name, known, where="the training list of the faces' table")
    if len(columns) > 1:
        shown = " or ".join(f"{column}={cell.name}" for column in columns)
        raise UsageError(f"cells: {cell.name} is in {len(columns)} columns. Write {shown}.")
    return columns[0]


def _refuse_overlap(holding: Mapping[KeptCell, Sequence[Sequence[Face]]]) -> None:
    owner: dict[tuple[str, int], KeptCell] = {}
    for cell, parts in holding.items():
        for face, label in product((face for members in parts for face in members), cell.labels):
            first = owner.setdefault((face.path, label), cell)
            if first is not cell:
                raise UsageError(
                    f"cells: {first.text!r} and {cell.text!r} both name images of "
                    f"{face.group or face.path}. Name groups without common images."
                )


MARK = "forged.json"  # in a forged set's data root: what it was made of
TABLE = "faces.csv"  # likewise: all images, in the columns of the seed
STRONGEST = 4.0


def _types(text: str) -> str:
    try:
        return canonical_types(text)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _cells(text: str) -> str:
    return ", ".join(cell.text for cell in parse_cells(text))


def _type_modules(value: Any) -> tuple[str, ...]:
    return modules_of(parse_types(str(value)))


class ForgeSettings(Settings):
    """A set of real faces and blends of them: where, of which faces, how strongly forged."""

    costs: ClassVar[frozenset[str]] = frozenset({"faces", "train", "val", "test"})
    aliases: ClassVar[Mapping[str, str]] = PLACES
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"types": _type_modules}

    data_root: str = Field(description="Folder to write")
    faces: str = Field(
        description="CSV table of real faces "
        "(img_path,label,ismale,isasian,iswhite,isblack,intersec_label,split), or a folder of "
        "aligned faces without groups"
    )
    types: Annotated[str, AfterValidator(_types)] = Field(
        "1-5", description=f"Types of forgery, used in turn: {described()}"
    )
    strength: float = Field(
        1.0,
        gt=0,
        le=STRONGEST,
        description="Strength of shifts, lost detail and changed colours. Higher values are easier to "
        "detect",
    )
    seed: int = Field(42, ge=0, description="Random seed of the images")
    cells: Annotated[str, AfterValidator(_cells)] = Field(
        "",
        description=f"Skew of the training list, {SHAPE}. Values up to 1 are fractions of a group's "
        "images that are kept, larger ones are numbers of images, and * stands for each group "
        "not named",
    )
    train: int = Field(
        0, ge=0, description="Number of real faces of each group for training. 0 takes all"
    )
    val: int = Field(
        0, ge=0, description="Number of real faces of each group for validation. 0 takes all"
    )
    test: int = Field(
        0, ge=0, description="Number of real faces of each group for tests. 0 takes all"
    )

    @property
    def limits(self) -> dict[str, int]:
        """How many faces of each group a list has; 0: all."""
        return {"train": self.train, "val": self.val, "test": self.test}


UNSHARED = "PreSocial"
REAL_FOLDER = "Faces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A real face and its fake; either may be left out of the training list."""

    face: Face
    name: str  # of both files, without suffix
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
        return tuple(
            path.split("/", 2)[2].removesuffix(".jpg") for path, _ in self.images
        )  # below PreSocial/Real/ or PreSocial/Fake/


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


def plan_of(table: FaceTable, settings: ForgeSettings) -> ForgingPlan:
    """Return what a set of these settings holds; no image is looked at.

    The types come in turn in each group of each list, in each from another one on: of few fakes that
    a skew keeps, not all are of the same type.

    Raises:
        DataError: two faces would have the same name, or the training list keeps nothing.
        UsageError: cells name groups that are not there, or more than there is.
    """
    names, types = names_of(table.faces), parse_types(settings.types)
    cells = limited(table.faces, settings.limits, settings.seed)
    training = {group: faces for (split, group), faces in cells.items() if split == "train"}
    skew = parse_cells(settings.cells)
    reals, fakes = kept(training, skew)
    pairs, lenders, lonely = list[Pair](), dict[tuple[str, str], tuple[int, ...]](), 0
    for number, ((split, group), faces) in enumerate(cells.items()):
        lenders[split, group] = tuple(range(len(pairs), len(pairs) + len(faces)))
        for place, face in enumerate(faces):
            spec, is_training = types[(place + number) % len(types)], split == "train"
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
