"""The settings of a forged set. No torch here."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from trueface.data.forging.kept_cells import SHAPE, parse_cells
from trueface.data.forging.registry import (
    canonical_types,
    describe_choices,
    parse_types,
    plugin_modules,
)
from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import Settings, setting

STRONGEST = 4.0


def _types(text: str) -> str:
    try:
        return canonical_types(text)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _cells(text: str) -> str:
    return ", ".join(cell.text for cell in parse_cells(text))


def _type_modules(value: Any) -> tuple[str, ...]:
    return plugin_modules(parse_types(str(value)))


class ForgeSettings(Settings):
    """A set of real faces and blends of them: where, of which faces, how strongly forged."""

    data_root: str = setting(aliases=("dataset_path",), description="Folder to write")
    faces: str = setting(
        cost=True,
        description="CSV table of real faces "
        "(img_path,label,ismale,isasian,iswhite,isblack,intersec_label,split), or a folder of "
        "aligned faces without groups",
    )
    types: Annotated[str, AfterValidator(_types)] = setting(
        "1-5",
        modules=_type_modules,
        description=f"Types of forgery, used in turn: {describe_choices()}",
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
    train: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of real faces of each group for training. 0 takes all",
    )
    val: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of real faces of each group for validation. 0 takes all",
    )
    test: int = setting(
        0, cost=True, ge=0, description="Number of real faces of each group for tests. 0 takes all"
    )

    @property
    def limits(self) -> dict[str, int]:
        """The number of faces of each group in a list. 0 means all."""
        return {"train": self.train, "val": self.val, "test": self.test}
