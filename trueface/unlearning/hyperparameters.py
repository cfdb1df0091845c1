"""Base classes and field types of the methods' hyperparameters: no torch here.

The class of a method is in its file. Names that methods have in common (`COMMON`) mean the same
everywhere; task files call them `unlearn_<name>`, and a method's own `<method>_<name>`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from trueface.runtime.field_types import Count, Finite

if TYPE_CHECKING:  # it imports this module
    from trueface.unlearning.registry import Goal

Positive = Annotated[Finite, Field(gt=0)]
NotNegative = Annotated[Finite, Field(ge=0)]
Statistics = Literal["eval", "train"]
# types of methods that dampen weights
MostLoss = Annotated[Finite, Field(description="Largest loss of validation accuracy, 0 to 1")]
GradientBatch = Annotated[Count, Field(description="Images per gradient, for both sets")]


class Options(BaseModel):
    """Base of a method's hyperparameters: unknown names and infinite numbers are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,  # a plan reads the fields of all methods, and validates few or none
    )

    def without_effect(self, goal: "Goal", classes: int | None) -> dict[str, str]:  # noqa: ARG002  # for others
        """Return the hyperparameters that change nothing here, each with the reason.

        Args:
            goal: what shall be forgotten.
            classes: number of classes of the model, or None if it is not known yet.
        """
        return {}

    def conflicts(self, goal: "Goal", classes: int | None) -> dict[str, str]:  # noqa: ARG002  # for others
        """Return the hyperparameters whose value makes no sense here, each with the reason and the remedy.

        Args:
            goal: what shall be forgotten.
            classes: as above.
        """
        return {}


class TrainingOptions(Options):
    """Methods that train as the model was trained, where no other values are given."""

    epochs: Count | None = Field(None, description="Epochs of unlearning")
    lr: Positive | None = Field(None, description="Learning rate")


class DescentOptions(Options):
    """Methods that go down (or up) a gradient in steps of their own."""

    epochs: Count = Field(5, description="Passes over the forget set")
    lr: Positive = Field(1e-3, description="Learning rate")
    batch_size: Count = Field(64, description="Images per step")
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD")
    weight_decay: NotNegative = Field(0.0, description="Weight decay")
    clip: NotNegative = Field(1.0, description="Maximum gradient norm; 0: no clipping")
    bn: Statistics = Field(
        "eval",
        description="Mode of batch normalization: eval keeps the running statistics, train updates them",
    )


class AnnealedOptions(DescentOptions):
    """Methods whose learning rate falls to a last one, epoch by epoch."""

    lr_end: Positive = Field(1e-4, description="Learning rate at the end")


# The settings that methods have in common, `unlearn_<name>`; a training has some of them.
COMMON: Mapping[str, FieldInfo] = MappingProxyType(
    {**AnnealedOptions.model_fields, **TrainingOptions.model_fields}
)
