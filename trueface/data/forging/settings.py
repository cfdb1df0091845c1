"""The settings of a forged set, and the skews that are planted in its training list: no torch here.

A skew says which share of a group's images of a class is kept.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from trueface.data.forging.faces import GROUP, Face
from trueface.data.forging.registry import canonical_types, described, modules_of, parse_types
from trueface.data.settings import PLACES
from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.field_types import Settings

CLASSES: Mapping[str, int] = {"real": 0, "fake": 1}
OTHERS = "*"  # each group that no other cell names
SHAPE = "NAME: NUMBER or NAME/real: NUMBER or NAME/fake: NUMBER, with commas between"


@dataclass(frozen=True, slots=True)
class Cell:
    """How much of a group's images is kept."""

    text: str  # for messages
    column: str  # "" where the name is enough
    name: str
    label: int | None  # None: of both classes
    amount: float  # up to 1 a share of the pairs; above 1 so many


def parse_cells(text: str) -> tuple[Cell, ...]:
    """Return the cells of a text such as "male/real: .9, male/fake: .1".

    Raises:
        ValueError: it is none, or a number is neither a share nor a count.
    """
    return tuple(_cell(part.strip()) for part in text.split(",") if part.strip())


def _cell(text: str) -> Cell:
    name, colon, number = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is no cell: write {SHAPE}")
    name, slash, word = name.strip().rpartition("/") if "/" in name else (name.strip(), "", "")
    if slash and word.strip() not in CLASSES:
        raise ValueError(f"{text!r}: {word.strip()!r} is no class; write real or fake")
    column, _, value = name.strip().rpartition("=")
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    if not (0 <= amount <= 1 or (amount > 1 and amount.is_integer())):
        raise ValueError(f"{text!r}: expected a share from 0 to 1, or a whole number of images")
    if not value.strip():
        raise ValueError(f"{text!r} names no group: write {SHAPE}")
    return Cell(text, column.strip(), value.strip(), CLASSES.get(word.strip()), amount)


def kept(
    ordered: Mapping[str, Sequence[Face]], cells: Sequence[Cell]
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
    faces = [face for members in ordered.values() for face in members]
    rank = {face.path: place for members in ordered.values() for place, face in enumerate(members)}
    holding = {cell: _members(cell, cells, faces) for cell in cells}
    _refuse_overlap(holding)
    keep: dict[int, set[str]] = {label: {face.path for face in faces} for label in (0, 1)}
    for cell, parts in holding.items():
        for members in parts:
            for label in (0, 1) if cell.label is None else (cell.label,):
                keep[label] -= {face.path for face in members}
                from_end = cell.label == CLASSES["fake"]
                keep[label] |= _taken(cell, members, rank, from_end=from_end)
    return frozenset(keep[0]), frozenset(keep[1])


def _members(cell: Cell, cells: Sequence[Cell], faces: Sequence[Face]) -> list[list[Face]]:
    """Return the faces that a cell names; `*` names several groups, each for itself."""
    if cell.name == OTHERS and not cell.column:
        named = {path for other in cells if other.name != OTHERS for path in _paths(other, faces)}
        groups: dict[str, list[Face]] = defaultdict(list)
        for face in faces:
            if face.path not in named:
                groups[face.group].append(face)
        if not groups:
            raise UsageError(f"cells: {cell.text}: other cells name every group already")
        return list(groups.values())
    column = _column(cell, faces)
    return [[face for face in faces if face.columns.get(column) == cell.name]]


def _paths(cell: Cell, faces: Sequence[Face]) -> set[str]:
    return {face.path for members in _members(cell, (), faces) for face in members}


def _column(cell: Cell, faces: Sequence[Face]) -> str:
    values: dict[str, set[str]] = defaultdict(set)
    for face in faces:
        for column, value in face.columns.items():
            values[column].add(value)
    if cell.column and cell.column not in values:
        raise UnknownName("column of groups", cell.column, sorted(values), where="the faces' table")
    columns = [
        column
        for column, held in values.items()
        if cell.name in held and cell.column in {"", column}
    ]
    if not columns:
        known = sorted(values[cell.column]) if cell.column else _named(values.values())
        raise UnknownName("group", cell.name, known, where="the training list of the faces' table")
    if len(columns) > 1:
        shown = " or ".join(f"{column}={cell.name}" for column in columns)
        raise UsageError(f"cells: {cell.name} stands in {len(columns)} columns; write {shown}")
    return columns[0]


def _named(values: Iterable[set[str]]) -> list[str]:
    return sorted(set().union(*values))


def _refuse_overlap(holding: Mapping[Cell, Sequence[Sequence[Face]]]) -> None:
    owner: dict[tuple[str, int], Cell] = {}
    for cell, parts in holding.items():
        for face in (face for members in parts for face in members):
            for label in (0, 1) if cell.label is None else (cell.label,):
                first = owner.setdefault((face.path, label), cell)
                if first is not cell:
                    raise UsageError(
                        f"cells: {first.text!r} and {cell.text!r} both name images of "
                        f"{face.group or face.path}; name groups that share none"
                    )


def _taken(
    cell: Cell, members: Sequence[Face], rank: Mapping[str, int], *, from_end: bool
) -> set[str]:
    ordered = sorted(members, key=lambda face: (rank[face.path], face.path), reverse=from_end)
    if cell.amount > 1:
        if cell.amount > len(members):
            raise UsageError(
                f"cells: {cell.text!r} asks for {cell.amount:g} of {len(members)} images of the "
                "training list; name fewer, or raise the limit of the list"
            )
        return {face.path for face in ordered[: int(cell.amount)]}
    room = Counter(face.columns.get(GROUP, "") for face in members)
    # halves go to the reals, so that both classes together are never more than all
    left = {group: _share(cell.amount, count, up=not from_end) for group, count in room.items()}
    chosen: set[str] = set()
    for face in ordered:
        if left[face.group] > 0:
            left[face.group] -= 1
            chosen.add(face.path)
    return chosen


def _share(amount: float, count: int, *, up: bool) -> int:
    exact = round(amount * count, 6)
    whole = int(exact)
    rest = exact - whole
    return whole + (rest > 0.5 or (rest == 0.5 and up))


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

    data_root: str = Field(description="folder to write")
    faces: str = Field(
        description="table of real faces (img_path,label,ismale,isasian,iswhite,isblack,"
        "intersec_label,split), or a folder of aligned faces without groups"
    )
    types: Annotated[str, AfterValidator(_types)] = Field(
        "1-5", description=f"of forgery, in turn: {described()}"
    )
    strength: float = Field(
        1.0,
        gt=0,
        le=STRONGEST,
        description="of movements, lost detail and changed colours; the knob of the difficulty",
    )
    seed: int = Field(42, ge=0, description="seed of all that is drawn")
    cells: Annotated[str, AfterValidator(_cells)] = Field(
        "",
        description=f"skew of the training list, {SHAPE}: the share, or the number, of a group's "
        "images that is kept; * is each group not named",
    )
    train: int = Field(0, ge=0, description="real faces of each group for training; 0: all")
    val: int = Field(0, ge=0, description="real faces of each group for validation; 0: all")
    test: int = Field(0, ge=0, description="real faces of each group for tests; 0: all")

    @property
    def limits(self) -> dict[str, int]:
        """How many faces of each group a list has; 0: all."""
        return {"train": self.train, "val": self.val, "test": self.test}
