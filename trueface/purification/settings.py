"""The settings of purifications and of the denoiser's training: no torch here."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from trueface.purification.registry import canonical, described, modules_of, parse_purifier
from trueface.runtime.field_types import Count, Finite, Positive, Settings

MODELS = ("diffuser", "denoiser")  # settings that hold the ID of a model


class PurifySettings(Settings):
    """A purification: of which images, how, with which models."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    costs: ClassVar[frozenset[str]] = frozenset({"purifier", "limit"})
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"purifier": modules_of}
    models: ClassVar[tuple[str, ...]] = MODELS
    folders: ClassVar[tuple[str, ...]] = ("source",)

    source: str = Field(description="folder of the images: a path, or the name of another job")
    purifier: Annotated[str, AfterValidator(canonical)] = Field(
        description=f"how: {described()}; several joined by +, x2 for twice"
    )
    diffuser: str = Field("", description="model ID of a diffuser, where the purifier needs one")
    denoiser: str = Field("", description="model ID of a denoiser, where the purifier needs one")
    seed: int = Field(42, ge=0, description="of the noise, which each image draws by its name")
    limit: int = Field(0, ge=0, description="images, evenly spread over the names; 0: all")
    batch_size: Count = Field(32, description="images at once; decides memory, not the result")

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that are part of a job's hash: models only where they are used."""
        needed = parse_purifier(values["purifier"]).needs
        unused = [model for model in MODELS if model not in needed]
        return {key: value for key, value in super().decisive(values).items() if key not in unused}


class DenoiserSettings(Settings):
    """A denoiser's training: of which images, how large, how long."""

    costs: ClassVar[frozenset[str]] = frozenset(
        {"size", "channels", "width", "depth", "num_steps", "batch_size"}
    )

    data_root: str = Field(description="folder of the images")
    size: Annotated[int, Field(ge=8)] = Field(32, description="side of the images in pixels")
    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey")
    width: Count = Field(24, description="channels of the hidden layers")
    depth: Annotated[int, Field(ge=2, le=32)] = Field(4, description="convolutions")
    noise: Positive = Field(
        (0.02, 0.08),
        description="standard deviation of the noise, images in [-1, 1]; of two, any between",
    )
    num_steps: Count = Field(600, description="batches to learn from")
    batch_size: Count = Field(32, description="images in a batch")
    lr: Annotated[Finite, Field(gt=0)] = Field(
        0.003, description="learning rate of Adam; falls to nothing along a cosine"
    )
    flip: bool = Field(True, description="mirror half of the images")
    seed: int = Field(42, ge=0, description="of the weights, the batches and the noise")
    save_every: Count = Field(
        200, description="steps after which the state is written, from which a stopped job goes on"
    )
    neutral: ClassVar[frozenset[str]] = frozenset({"save_every"})
