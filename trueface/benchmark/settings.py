"""The settings of a benchmark: conditions, attacks, and how images are scored."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from trueface.corruptions.grammar import NONE, described, modules_of
from trueface.data.settings import Corruptions, ScoringSettings
from trueface.runtime.field_types import Count

Names = tuple[str, ...]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) or value is None else value


class BenchmarkSettings(ScoringSettings):
    """A benchmark: conditions in which each image is scored."""

    models: ClassVar[frozenset[str]] = frozenset({"surrogate"})
    costs: ClassVar[frozenset[str]] = ScoringSettings.costs | {
        "corrupt", "attack", "attack_images",
    }  # fmt: skip
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **ScoringSettings.modules,
        "corrupt": lambda chains: tuple(module for chain in chains for module in modules_of(chain)),
    }
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = ScoringSettings.shared

    corrupt: tuple[Corruptions, ...] = Field(
        (NONE,),
        description=f"what happens to the crop before it is scored, each by itself: {described()}; "
        "several in turn: jpeg50+blur1",
    )
    attack: Names = Field((NONE,), description="attacks on the images, budgets in grey levels")
    surrogate: str = Field("", description="ID of the model that a transfer attack is computed on")
    attack_images: Count = Field(
        100, description="images of each class that are attacked: the same ones for every model"
    )
    setting: Literal["auto", "white", "grey", "black"] = Field(
        "auto",
        description="what the models must know of the test: white, grey or black; "
        "auto: it is worked out and written down",
    )

    @field_validator("corrupt", "attack", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return _listed(value)
