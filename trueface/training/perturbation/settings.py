"""The settings of steps at perturbed weights, and of the optimizer that was published with them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from trueface.runtime.errors import UsageError
from trueface.runtime.field_types import Count, Finite, Settings

BOTH = "sam and awp each move the weights before the second pass of a step; set one of them to 0"


class PerturbationSettings(Settings):
    """What a training has besides: SAM, AWP, SGD's momentum, and the factor of the learning rate."""

    added: ClassVar[frozenset[str]] = frozenset({"sam", "awp", "awp_from", "momentum", "lr_gamma"})

    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    lr_gamma: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.1, description="plateau and step: what lr is multiplied by when it falls"
    )
    sam: Finite = Field(
        0.0,
        ge=0,
        description="sharpness-aware minimization: the gradient of a step is taken at weights that "
        "were moved so far, in total, to where the loss is higher; 0: off",
    )
    awp: Finite = Field(
        0.0,
        ge=0,
        lt=1,
        description="adversarial weight perturbation: likewise, each layer's weights by this share "
        "of their own length; 0: off",
    )
    awp_from: Count = Field(3, description="the first epoch, from 1, with awp")

    @model_validator(mode="after")
    def _one_perturbation(self) -> Self:
        if self.sam and self.awp:
            raise UsageError(BOTH)
        return self


def idle_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return those of these settings that change nothing beside others, each with the reason."""
    idle = {}
    if values["optimizer"] != "sgd":
        idle["momentum"] = "it is of optimizer: sgd"
    if not values["awp"]:
        idle["awp_from"] = "awp is 0"
    if values["schedule"] not in {"plateau", "step"}:
        idle["lr_gamma"] = "it is of schedule: plateau and step"
    return idle
