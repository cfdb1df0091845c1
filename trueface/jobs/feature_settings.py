"""The settings of a job that computes features for others."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trueface.corruptions.registry import NONE
from trueface.data.settings import Corruptions, DataSettings, Precision
from trueface.models.registry import model_name
from trueface.runtime.field_types import Count, setting

ListName = Literal["train", "val", "test"]


class FeaturePart(BaseModel):
    """The images of one list, as they are tested or as they are learned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split_list: ListName
    images: str  # data ID, real ones included
    views: Count = 1
    augmentation: dict[str, Any] = Field(default_factory=dict)  # settings; empty: as tested
    corrupt: Corruptions = NONE  # corruptions of test images


class FeatureSettings(DataSettings):
    """The features to compute: their network, its weights, and the images."""

    # fields of every job that reads images, which change no feature
    neutral: ClassVar[frozenset[str]] = DataSettings.neutral | {
        "batch_size", "on_bad_image", "attributes", "missing_attributes",
    }  # fmt: skip

    model: Annotated[str, AfterValidator(model_name)] = setting(
        "nodown", cost=True, description="Network"
    )
    weights: str = Field(
        "default",
        description="Pretrained weights: default (ImageNet), none, or the path of a state dict",
    )
    normalization: Literal["model", "imagenet", "half"] = Field(
        "model", description="Normalization of pixels"
    )
    nodown: bool = setting(
        False,
        added=True,
        cost=True,
        description="Use stride 1 instead of 2 in the first convolution",
    )
    channels_last: bool = Field(True, description="Use the memory format channels_last")
    seed: int = Field(42, ge=0, description="Seed of the weights with weights: none")
    resize_size: Count = setting(256, cost=True, description="Side of the centre crop, in pixels")
    patch_size: int = setting(
        -1, cost=True, description="Side of the patches, in pixels; 0 or less for none"
    )
    test_crops: int = setting(
        0, cost=True, ge=0, description="Fixed patches per image; 0 for the centre crop"
    )
    precision: Precision = setting("fp32", cost=True)
    parts: tuple[FeaturePart, ...] = Field(
        min_length=1, description="Lists of images, with the number of views of each"
    )
