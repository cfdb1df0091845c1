"""The settings of the erasing of a concept: no torch here.

A hyper-parameter that is left out is the method's own default: see `registry.METHODS`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, model_validator

from trueface.erasing.registry import (
    METHODS,
    NAMES,
    ErasureOptions,
    Scope,
    Trajectory,
    described,
    modules_of,
)
from trueface.runtime.errors import UnknownName
from trueface.runtime.field_types import Count, Finite, Settings

SAME = (
    "concept and anchor are both {name!r}: the anchor is what is drawn instead, name another class"
)


def _method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(UnknownName("method of erasing", name, METHODS))
    return name


class EraseSettings(Settings):
    """An erasing: the concept, what is drawn instead, and the method's hyper-parameters."""

    costs: ClassVar[frozenset[str]] = frozenset(
        {"method", "num_steps", "batch_size", "sample_steps", "paths", "refresh", "trajectory"}
    )
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {"method": modules_of}

    data_root: str = Field(
        "",
        description="folder of the teacher's training images, for retrain; default: the teacher's",
    )
    method: Annotated[str, AfterValidator(_method)] = Field(description=described())
    concept: str = Field(min_length=1, description="the class that shall not be drawn any more")
    anchor: str = Field(
        "", description="the class that is drawn instead; empty: none, for methods that need none"
    )
    num_steps: Count | None = Field(None, description="gradient steps")
    lr: Annotated[Finite, Field(gt=0)] | None = Field(None, description="learning rate of Adam")
    batch_size: Count | None = Field(None, description="noisy images a step")
    scope: Scope | None = Field(
        None,
        description="parameters that change; maps: the linear maps that take the class embedding, "
        "rest: all but these, all: both; the embeddings themselves never change",
    )
    trajectory: Trajectory | None = Field(
        None,
        description="whose sampling paths the noisy images are from; anchor, concept: the teacher's "
        "under that class; own: of the model that is being changed, under the concept",
    )
    paths: Count | None = Field(None, description="sampling paths, or samples, of the teacher")
    refresh: Count | None = Field(
        None, description="steps after which own paths are sampled anew; the papers: 1"
    )
    guidance: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="classifier-free guidance of these paths"
    )
    sample_steps: Count | None = Field(None, description="DDIM steps of these paths")
    gamma1: Finite | None = Field(None, description="abo: scale of the teacher's guidance")
    gamma2: Finite | None = Field(None, description="abo: scale of the student's guidance")
    penalty: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="abo: weight (lambda) of what keeps the null token's score"
    )
    mask: Annotated[Finite, Field(ge=0, lt=1)] | None = Field(
        None,
        description="abo: quantile of SEGA's mask, 0.9 edits the strongest tenth; 0: no mask",
    )
    edit_scale: Finite | None = Field(None, description="abo: scale of the masked edit")
    eta: Finite | None = Field(None, description="esd-x, esd-u: negative guidance")
    ema: Annotated[Finite, Field(ge=0, lt=1)] | None = Field(
        None, description="sdd: share of the averaged model that stays at each step"
    )
    uce_lambda: Annotated[Finite, Field(gt=0)] | None = Field(
        None, description="uce: weight of what keeps the maps as they were"
    )
    uce_preserve: Annotated[Finite, Field(ge=0)] | None = Field(
        None, description="uce: weight of the other classes and the null token"
    )
    seed: int = Field(42, ge=0, description="seed of all that is drawn")

    @model_validator(mode="after")
    def _another_class(self) -> "EraseSettings":
        if self.concept == self.anchor:
            raise ValueError(SAME.format(name=self.concept))
        if not self.anchor and "anchor" in METHODS[self.method].needs:
            raise ValueError(f"{self.method} needs an anchor: the class that is drawn instead")
        return self

    @property
    def options(self) -> ErasureOptions:
        """The method's hyper-parameters, its defaults filled in."""
        return METHODS[self.method].options(self.model_dump())

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the hyper-parameters that a method does not use, or not beside the others."""
        method = METHODS[values["method"]]
        reasons = dict.fromkeys(NAMES, f"{method.name} does not use it")
        options = method.options(values)
        own = "trajectory" in method.defaults and options.trajectory == "own"
        for name in method.defaults:
            if name == "paths" and own:
                reasons[name] = "own paths are as many as batch_size"
            elif name == "refresh" and not own:
                reasons[name] = "paths of the teacher are sampled once"
            else:
                del reasons[name]
        return {name: reason for name, reason in reasons.items() if values.get(name) is not None}
