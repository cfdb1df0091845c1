"""The settings of `translate`: no torch here."""

import re
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from trueface.runtime.field_types import Count, Probability, Settings

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


class TranslateSettings(Settings):
    """A data root for detectors: translated images as fakes, and the real images of the same names."""

    costs: ClassVar[frozenset[str]] = frozenset({"source", "limit", "batch_size"})
    models: ClassVar[tuple[str, ...]] = ("translator",)
    folders: ClassVar[tuple[str, ...]] = ("source", "real")

    source: str = Field(
        description="folder of the images to translate: clean, disrupted or purified"
    )
    translator: str = Field(description="ID of the translator")
    real: str = Field(
        "",
        description="folder of the real images, which have the same names; '': the images that source was "
        "made of",
    )
    attribute: str = Field("", description="the one that is flipped; '': one drawn for each image")
    fakes: str = Field("Translated", description="folder of the translated images, below Fake/")
    reals: str = Field("Originals", description="folder of the real ones, below Real/")
    train: Probability = Field(0.7, description="share of the training list")
    val: Probability = Field(0.15, description="share of the validation list; the rest is tested")
    seed: int = Field(42, ge=0, description="of the attributes and of the lists, by image name")
    limit: int = Field(0, ge=0, description="images, evenly spread over the sorted names; 0: all")
    batch_size: Count = Field(32, description="images at once")

    @field_validator("fakes", "reals")
    @classmethod
    def _folder(cls, name: str) -> str:
        if _FOLDER.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of one folder, such as Translated")
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.fakes == self.reals:
            raise ValueError(
                f"fakes and reals are both {self.fakes!r}: a list would not tell one from the other"
            )
        if self.train + self.val > 1:
            raise ValueError(f"train {self.train:g} and val {self.val:g} are more than all")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The share of each list."""
        rest = max(0.0, 1 - self.train - self.val)
        return {"train": self.train, "val": self.val, "test": rest}
