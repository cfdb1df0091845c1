"""The settings of a drawn set: no torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trueface.data.settings import PLACES
from trueface.runtime.field_types import Settings

MARK = "drawn.json"  # in a drawn set's data root: what it was made of
LEAST_SIZE: Mapping[str, int] = {"portraits": 32, "shapes": 8, "resized": 8}
PARTS: Mapping[str, float] = {"A": 0.7, "B": 0.2, "C": 0.1}
CLASSES = ("bar", "cross", "disc", "ring", "square", "triangle")  # of shapes, sorted
TRAIN_SHARE = 0.8  # of each class of shapes


class DrawSettings(Settings):
    """A set of images that generators learn from: what it shows, how many, how large."""

    costs: ClassVar[frozenset[str]] = frozenset({"content", "images", "size"})
    aliases: ClassVar[Mapping[str, str]] = PLACES

    data_root: str = Field(description="folder to write")
    content: Literal["portraits", "shapes", "resized"] = Field(
        "portraits",
        description="portraits: drawn faces with known attributes, in the parts A, B and C; shapes: "
        "train/<class>/ and test/<class>/; resized: photographs of `source`, cropped, made smaller and "
        "divided like portraits",
    )
    images: int = Field(
        1200,
        ge=0,
        description="how many; of `resized`: evenly spread over the sorted names, 0: all",
    )
    size: int = Field(32, ge=8, le=1024, description="width and height of an image, in pixels")
    channels: Literal[1, 3] = Field(3, description="3: colour, 1: grey")
    seed: int = Field(42, ge=0, description="seed of all that is drawn, and of the parts")
    source: str = Field("", description="folder of photographs, for `resized`")
    attributes: str = Field(
        "",
        description="table of the photographs' attributes: attributes.csv (image,NAME,… with 0 or 1) or "
        "list_attr_celeba.txt; '': none",
    )
    crop: int = Field(
        178,
        ge=0,
        description="side of the centre crop of `resized`, in pixels, before it is made smaller; "
        "0: the largest square",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        least = LEAST_SIZE[self.content]
        if self.size < least:
            raise ValueError(f"{self.content} need {least} pixels a side, and size is {self.size}")
        if self.content == "resized":
            if not self.source:
                raise ValueError("content: resized needs source, a folder of photographs")
        elif self.source or self.attributes:
            raise ValueError(
                f"source and attributes are read with content: resized, not with {self.content}"
            )
        elif self.images < 1:
            raise ValueError(f"images is 0; {self.content} are drawn, say how many")
        return self

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that change nothing beside the other values, each with the reason."""
        if values.get("content") != "resized":
            return {"crop": "only `content: resized` crops"}
        return {}
