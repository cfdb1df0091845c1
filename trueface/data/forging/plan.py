"""What a forged set holds: of each face its place, the type of its fake, and what of both is kept."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trueface.data.forging.faces import Face, FaceTable, limited, names_of
from trueface.data.forging.registry import SELF, SPECS, ForgerySpec, parse_types
from trueface.data.forging.settings import ForgeSettings, kept, parse_cells
from trueface.data.splits.splits import NAMES
from trueface.runtime.errors import DataError

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
        raise DataError(f"cells keep no {missing} image of the training list: keep some")
    return ForgingPlan(table=table, pairs=tuple(pairs), lenders=lenders, lonely=lonely)
