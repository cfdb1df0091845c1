"""The settings of a benchmark: conditions, attacks, and how images are scored."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from trueface.attacks import registry as attacks
from trueface.corruptions.registry import NONE, described, modules_of
from trueface.data.settings import Corruptions, ScoringSettings
from trueface.runtime.field_types import Count


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) or value is None else value


class BenchmarkSettings(ScoringSettings):
    """A benchmark: conditions in which each image is scored."""

    models: ClassVar[tuple[str, ...]] = ("surrogate",)
    costs: ClassVar[frozenset[str]] = ScoringSettings.costs | {
        "corrupt", "attack", "attack_images", "queries",
    }  # fmt: skip
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
        **ScoringSettings.modules,
        "corrupt": lambda chains: tuple(module for chain in chains for module in modules_of(chain)),
        "attack": lambda each: tuple(
            module for name in each for module in attacks.modules_of(name)
        ),
        "attack_save": modules_of,
    }
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = ScoringSettings.shared

    corrupt: tuple[Corruptions, ...] = Field(
        (NONE,),
        description=f"what happens to the crop before it is scored, each by itself: {described()}; "
        "several in turn: jpeg50+blur1",
    )
    attack: tuple[Annotated[str, AfterValidator(attacks.canonical)], ...] = Field(
        (NONE,),
        description="changes images within a budget in grey levels so that their call turns, each "
        f"beside random signs of its budget: {attacks.described()}",
    )
    surrogate: str = Field(
        "", description="transfer: ID of the model that the attack computes with"
    )
    queries: Count = Field(500, description="square: of each image, at most")
    attack_images: int = Field(
        100,
        ge=0,
        description="images of each class that are attacked, drawn by name, the same for every model; "
        "0: all",
    )
    attack_save: Corruptions = Field(
        NONE, description="corruptions of attacked images when they are saved, such as jpeg95"
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
