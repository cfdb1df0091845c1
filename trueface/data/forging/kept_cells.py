"""The share of images that is kept of each group and class."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from trueface.data.forging.faces import Face
from trueface.runtime.errors import UnknownName, UsageError

CLASSES: Mapping[str, int] = {"real": 0, "fake": 1}
OTHERS = "*"  # each group that no other cell names
SHAPE = "NAME: NUMBER or NAME/real: NUMBER or NAME/fake: NUMBER, separated by commas"  # prose: ok, the syntax of the setting


@dataclass(frozen=True, slots=True)
class SubgroupAmount:
    """How much of a group's images is kept."""

    text: str  # for messages
    column: str  # "" where the name is enough
    name: str
    labels: tuple[int, ...]  # classes: one of them, or both
    amount: float  # up to 1 a share of the pairs; above 1 so many

    def select_paths(self, sorted_faces: Sequence[Face]) -> set[str]:
        """Return the paths of the first faces of a group, as many as are kept.

        A share is met in each intersection of gender and race.

        Raises:
            UsageError: there are fewer faces than that.
        """
        if self.amount > 1:
            if self.amount > len(sorted_faces):
                raise UsageError(
                    f"cells: {self.text!r} requests {self.amount:g} images, but the training list "
                    f"has {len(sorted_faces)}. Request fewer, or raise the limit of the list."
                )
            return {face.path for face in sorted_faces[: int(self.amount)]}
        groups = _faces_by_group(sorted_faces).values()
        return {face.path for group in groups for face in group[: self._share(len(group))]}

    def _share(self, count: int) -> int:
        exact = round(self.amount * count, 6)
        whole = int(exact)
        # halves go to the reals, so that both classes together are never more than all
        is_up = exact - whole == 0.5 and self.labels != (CLASSES["fake"],)
        return whole + (exact - whole > 0.5 or is_up)


def parse_cells(text: str) -> tuple[SubgroupAmount, ...]:
    """Return the cells in a text such as `male/real: .9, male/fake: .1`.

    Raises:
        ValueError: the text is invalid, or a number is neither a share nor a count.
    """
    return tuple(_cell(part.strip()) for part in text.split(",") if part.strip())


def _cell(text: str) -> SubgroupAmount:
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
    return SubgroupAmount(text, column.strip(), value.strip(), labels, amount)


def select_kept_images(
    sorted_faces: Mapping[str, Sequence[Face]], cells: Sequence[SubgroupAmount]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the paths whose real image is kept, and those whose fake is kept.

    The first reals of the order and the last fakes are kept. If the shares of both add up to at
    most 1, no face occurs twice. A cell of both classes keeps whole pairs. Shares are met in each
    intersection of gender and race, so that a skew between men and women does not cause one between
    races.

    Args:
        sorted_faces: the faces of the training split by group, in the order of the draw.
        cells: if empty, everything is kept.

    Raises:
        UnknownName: there is no such group.
        UsageError: two cells name the same images, or a cell names more images than there are.
    """
    ranked = {
        face.path: ((position, face.path), face)
        for members in sorted_faces.values()
        for position, face in enumerate(members)
    }
    faces = [face for _, face in ranked.values()]
    holding = _faces_of_cells(cells, faces)
    _refuse_overlap(holding)
    keep = {label: set(ranked) for label in CLASSES.values()}
    for cell, parts in holding.items():
        for members in parts:
            from_end = cell.labels == (CLASSES["fake"],)
            in_order = sorted(members, key=lambda face: ranked[face.path][0], reverse=from_end)
            for label in cell.labels:
                keep[label] -= {face.path for face in members} - cell.select_paths(in_order)
    return frozenset(keep[0]), frozenset(keep[1])


def _faces_of_cells(
    cells: Sequence[SubgroupAmount], faces: Sequence[Face]
) -> dict[SubgroupAmount, Sequence[Sequence[Face]]]:
    """Return the faces that each cell names; `*` names several groups, each for itself."""
    holding: dict[SubgroupAmount, Sequence[Sequence[Face]]] = {}
    for cell in cells:
        if cell.column or cell.name != OTHERS:
            column = _column(cell, faces)
            holding[cell] = [[face for face in faces if face.columns.get(column) == cell.name]]
    named = {face.path for (members,) in holding.values() for face in members}
    others = [*_faces_by_group([face for face in faces if face.path not in named]).values()]
    for cell in cells:
        if not holding.setdefault(cell, others):
            raise UsageError(f"cells: {cell.text}: the other entries already name every group")
    return holding


def _faces_by_group(faces: Iterable[Face]) -> dict[str, list[Face]]:
    groups: dict[str, list[Face]] = defaultdict(list)
    for face in faces:
        groups[face.group].append(face)
    return groups


def _column(cell: SubgroupAmount, faces: Sequence[Face]) -> str:
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


def _refuse_overlap(holding: Mapping[SubgroupAmount, Sequence[Sequence[Face]]]) -> None:
    owner: dict[tuple[str, int], SubgroupAmount] = {}
    for cell, parts in holding.items():
        for face, label in product((face for members in parts for face in members), cell.labels):
            first = owner.setdefault((face.path, label), cell)
            if first is not cell:
                raise UsageError(
                    f"cells: {first.text!r} and {cell.text!r} both name images of "
                    f"{face.group or face.path}. Name groups without common images."
                )
