"""The settings of a forged set: no torch here."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from trueface.data.forging.cells import SHAPE, parse_cells
from trueface.data.forging.registry import canonical_types, described, modules_of, parse_types
from trueface.data.settings import PLACES
from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import Settings

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
