"""The base class of settings, and the types of their numbers: counts, fractions, ranges of one number or two."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from launcher.api import Settings as Settings
from launcher.api import setting as setting


def _pair(value: Any) -> Any:  # values come from YAML or argv and may have any type
    if isinstance(value, int | float | str):
        return (value, value)
    if isinstance(value, list | tuple) and len(value) == 1:
        return (value[0], value[0])
    return value


def _require_rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range falls from {value[0]} to {value[1]}")
    return value


def _above_zero(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError(f"{value[0]} is not greater than zero")
    return value


def _quality(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] < 1 or value[1] > 100:
        raise ValueError(f"JPEG quality {value[0]} to {value[1]} is not between 1 and 100")
    return value


Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
FloatRange = Annotated[
    tuple[Finite, Finite],
    BeforeValidator(_pair),
    AfterValidator(_require_rising),
    PlainSerializer(list, return_type=list[float]),
]
IntRange = Annotated[
    tuple[int, int],
    BeforeValidator(_pair),
    AfterValidator(_require_rising),
    PlainSerializer(list, return_type=list[int]),
]
Positive = Annotated[FloatRange, AfterValidator(_above_zero)]
Quality = Annotated[IntRange, AfterValidator(_quality)]
Count = Annotated[int, Field(ge=1)]
# `accelerate`: "graph" is named in results and hashes, so other values need other names
Accelerate = Annotated[
    Literal["off", "graph"],
    Field(
        description="Launch of the training steps: off (kernel by kernel) or graph (a whole step as a CUDA graph "
        "on a GPU). Not measured on a GPU"
    ),
]
# `accumulate`: more batches than this have no use, and typing errors are found
Accumulate = Annotated[
    int,
    Field(
        ge=1,
        le=1024,
        description="Number of batches per step of the optimizer. Their gradients are averaged over all images, so a "
        "step sees batch_size * accumulate images in the memory of batch_size",
    ),
]
# `num_threads`: a number, or "auto" for as many as there are free cores
LoadingProcesses = Literal["auto"] | Annotated[int, Field(ge=0)]
