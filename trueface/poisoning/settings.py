"""The settings of a poison: which training labels are flipped."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from trueface.data.settings import PlaceSettings


class PoisonSettings(PlaceSettings):
    """A choice of training labels to flip."""

    for_many: ClassVar[bool] = True

    poison_seed: int = Field(
        42, ge=0, description="seed of the draw; by default that of the training"
    )
    poison_per: Literal["all", "class", "subset"] = Field(
        "all", description="the same fraction of each class, or of each method in it"
    )
    poison_unit: Literal["picture", "image"] = Field(
        "picture",
        description="what is drawn: a picture with all its shared copies, or each image by itself, "
        "as the original did",
    )
    poison_list: str = Field(
        "",
        description="file with the images to flip instead of a draw: keys, or an old record (.pkl)",
    )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:
        """Return that the draw follows the training's seed; a list of images is not drawn."""
        return {} if given.get("poison_list") else {"poison_seed": "seed"}
