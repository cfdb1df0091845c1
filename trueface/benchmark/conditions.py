"""The conditions of a benchmark cell: image processing, the model's knowledge of it, and the settings.

A condition is a chain of corruptions (`none`, `jpeg50`, `jpeg50+blur1`) or an attack on clean images
(`pgd1`, `transfer2`). Combinations of corruptions and attacks are not covered. Each attack has a control:
random signs within its budget.

The settings white, grey and black follow B. M. Le et al., "SoK: Systematization and benchmarking of
deepfake detectors in a unified framework", arXiv 2401.04364, which tests detectors on data of known, half
known and unknown origin. Here the setting is derived from the training data and the test data:

    white: The training contained every source of the test and its processing.
    grey: Exactly one item is new: a generator of a known family, a processing, or a set of real images.
    black: Two or more items or a family of generators are new, or the origin of the images, or of the training
        images of a published model, is unknown.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from trueface.attacks import registry as attacks
from trueface.attacks.registry import parse_attack
from trueface.corruptions.registry import NONE, describe_choices, parse_steps, plugin_modules
from trueface.data.clips import ClipsValue, clips_setting
from trueface.data.settings import Corruptions, ScoringSettings
from trueface.runtime import paths
from trueface.runtime.field_types import Count, setting

FOLDER = "benchmark"  # folder in a model folder, and in a run folder
INDEX = "cells.json"  # index of a model's cells on a set of images, written last
FAMILIES = ("gan", "sd", "flux", "diff", "vae", "ar")  # prefixes of the names of generators
UNTOLD = frozenset({"fakeFlat", "realFlat"})  # sets of images of which only the class is known
REAL = "real"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Condition:
    """The condition of a benchmark cell: a chain of corruptions, or an attack."""

    corrupt: str = NONE
    attack: str = NONE

    @property
    def is_clean(self) -> bool:
        """Whether the images are unchanged."""
        return self.corrupt == NONE and self.attack == NONE

    @property
    def is_attack(self) -> bool:
        """Whether the images are attacked."""
        return self.attack != NONE

    @property
    def access(self) -> str:
        """The attacker's knowledge of the detector: none, random, transfer, score or full."""
        attack = parse_attack(self.attack)
        return NONE if attack is None else attack.spec.access

    @property
    def name(self) -> str:
        """The name in tables and of files: "none", "jpeg50+blur1", "attack-pgd1"."""
        return f"attack-{self.attack}" if self.is_attack else self.corrupt

    @property
    def file(self) -> str:
        """The name of the file of the cell's scores, in the folder from `folder_of_cells`."""
        return paths.fit_file_name(self.name, ".npz")


CLEAN = Condition()


def folder_of_cells(model_folder: Path, test: str) -> Path:
    """Return the folder of a model's cells on a dataset."""
    return model_folder / FOLDER / paths.fit_file_name(test, "")


def conditions(corrupt: Sequence[str], attack: Sequence[str]) -> Iterator[Condition]:
    """Yield the conditions of a benchmark, each once: clean images first, attacks last.

    Clean images are always included, because every other condition is compared with them. A control comes
    before its attack.

    Args:
        corrupt: chains of corruptions.
        attack: attacks. `none` is ignored.
    """
    named = [Condition(), *(Condition(corrupt=text) for text in corrupt)]
    for parsed in filter(None, map(parse_attack, attack)):
        named += [Condition(attack=str(parsed.control)), Condition(attack=str(parsed))]
    yield from dict.fromkeys(named)


class Setting(StrEnum):
    """How much of the test images the model knows from its training."""

    WHITE = "white"
    GREY = "grey"
    BLACK = "black"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A setting and the reason for it."""

    setting: Setting
    why: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The origin of images: the words of their data IDs, with unions resolved."""

    parts: frozenset[tuple[str, str]]  # elementary subset and modifier: ("gan1", "pre")
    # corruptions of training copies: "jpeg"
    processing: frozenset[str] = field(default_factory=frozenset)
    is_published: bool = False  # others trained the model, or the one that it continues

    @property
    def sources(self) -> frozenset[str]:
        """The elementary subsets: generators and sets of real images."""
        return frozenset(source for source, _ in self.parts)

    @property
    def modifiers(self) -> frozenset[str]:
        """The modifiers: how the images were shared."""
        return frozenset(modifier for _, modifier in self.parts)

    @property
    def fakes(self) -> frozenset[str]:
        """The generators."""
        return frozenset(name for name in self.sources if not name.startswith(REAL))

    @property
    def reals(self) -> frozenset[str]:
        """The sets of real images."""
        return self.sources - self.fakes


def derive_setting(training_origin: Origin, test_origin: Origin, corrupt: str = NONE) -> Derived:
    """Return the setting of a test with the reason.

    Args:
        training_origin: origin of the training images, with the corruptions of training copies.
        test_origin: origin of the test images.
        corrupt: chain of corruptions that the test adds.
    """
    if training_origin.is_published:
        return UNKNOWN
    if untold := sorted(test_origin.sources & UNTOLD - training_origin.sources):
        return _derive_black_box(f"the origin of the images of {_join_words(untold)} is unknown")
    families = {family_of(name) for name in training_origin.fakes}
    if strange := sorted(name for name in test_origin.fakes if family_of(name) not in families):
        trained_fakes = _join_words(sorted(training_origin.fakes)) or "none"
        return _derive_black_box(
            f"{_join_words(strange)} is not of the same family as the generators in training ({trained_fakes})"
        )
    new = list(_new_things(training_origin, test_origin, corrupt))
    if len(new) > 1:
        return _derive_black_box("; ".join(new))
    if new:
        return Derived(setting=Setting.GREY, why=new[0])
    return Derived(setting=Setting.WHITE, why=_describe_known_sources(test_origin, corrupt))


def family_of(subset: str) -> str:
    """Return the family of a generator: `gan` for `gan2`, or the name of the generator if it has none."""
    return next((family for family in FAMILIES if subset.startswith(family)), subset)


def kinds_of(corrupt: str) -> tuple[str, ...]:
    """Return the kinds of corruption in a chain, without their strengths: jpeg, blur."""
    return tuple(step.name for step in parse_steps(corrupt))


def contradiction(declared_setting: str, derivation: Derived, model: str, test: str) -> str:
    """Return the reason if a setting that a task file declares is wrong, or "" if it is correct."""
    if declared_setting in ("auto", derivation.setting):
        return ""
    return (
        f"setting: {declared_setting} is wrong for model {model} on test {test}, which is {derivation}. "
        "Write setting: auto, or remove this test."
    )


def _new_things(training_origin: Origin, test_origin: Origin, corrupt: str) -> Iterator[str]:
    yield from _describe_each(
        "generator", test_origin.fakes - training_origin.fakes, training_origin.fakes
    )
    yield from _describe_each(
        "set of real images", test_origin.reals - training_origin.reals, training_origin.reals
    )
    yield from _describe_each(
        "modifier", test_origin.modifiers - training_origin.modifiers, training_origin.modifiers
    )
    for source, modifier in sorted(test_origin.parts - training_origin.parts):
        if source in training_origin.sources and modifier in training_origin.modifiers:
            yield f"{source} under {modifier} is not in training"
    for link, kind in zip(corrupt.split("+"), kinds_of(corrupt), strict=False):
        if kind not in training_origin.processing:
            yield f"corruption {link} is not in training"


def _describe_each(
    noun: str, new_words: Collection[str], training_words: Iterable[str]
) -> Iterator[str]:
    trained_names = _join_words(sorted(training_words)) or "none"
    for name in sorted(new_words):
        yield f"{noun} {name} is not in training ({trained_names})"


def _describe_known_sources(test_origin: Origin, corrupt: str) -> str:
    words = f"training contains {_join_words(sorted(test_origin.sources))} under {_join_words(sorted(test_origin.modifiers))}"
    return (
        words
        if corrupt == NONE
        else f"{words}, with {_join_words(dict.fromkeys(kinds_of(corrupt)))}"
    )


def _derive_black_box(why: str) -> Derived:
    return Derived(setting=Setting.BLACK, why=why)


# condition of a model whose weights others published, or that continues from such weights
UNKNOWN = _derive_black_box("the training images of a published model are not known")


def _join_words(names: Iterable[str]) -> str:
    return ", ".join(names)


def _as_sequence(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) or value is None else value


class BenchmarkSettings(ScoringSettings):
    """The settings of a benchmark: the conditions under which images are scored."""

    clips: ClipsValue = clips_setting(cost=True)
    corrupt: tuple[Corruptions, ...] = setting(
        (NONE,),
        cost=True,
        modules=lambda chains: tuple(
            module for chain in chains for module in plugin_modules(chain)
        ),
        description=f"Corruptions of the crop before scoring, each in its own condition ({describe_choices()}). "
        "jpeg50+blur1 applies two in this order.",
    )
    attack: tuple[Annotated[str, AfterValidator(attacks.canonical)], ...] = setting(
        (NONE,),
        cost=True,
        modules=lambda each: tuple(
            module for name in each for module in attacks.plugin_modules(name)
        ),
        description="Attacks that change the predicted class within a budget in grey levels, each compared with random "
        f"signs of the same budget ({attacks.describe_choices()})",
    )
    surrogate: str = setting(
        "", model=True, description="transfer: ID of the surrogate model that computes the attack"
    )
    queries: Count = setting(
        500, cost=True, description="square: Maximum number of queries per image"
    )
    attack_images: int = setting(
        100,
        cost=True,
        ge=0,
        description="Images of each class to attack, chosen by name and the same for all models (0: all)",
    )
    attack_save: Corruptions = setting(
        NONE,
        modules=plugin_modules,
        description="Corruptions for saving attacked images, such as jpeg95",
    )
    setting: Literal["auto", "white", "grey", "black"] = Field(
        "auto",
        description="Tier of the test: white, grey or black, by what the models know of it (auto: derived and recorded)",
    )

    @field_validator("corrupt", "attack", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return _as_sequence(value)
