"""The settings of a disruption: no torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from trueface.disruption.bounds import levels_of
from trueface.runtime.field_types import Count, Settings

Attack = Literal["random", "fgsm", "bim", "pgd"]
Target = Literal["grey", "black", "away"]
Over = Literal["own", "flipped", "all"]
STEPPED = ("bim", "pgd")


class DisruptSettings(Settings):
    """A perturbation of each image: of which folder, against which generator, how large.

    Differences from the original of seed 003 (seclab-yonsei/Anti-disrupt): its target "black" is a zero tensor,
    which is mid grey, and is called so here; its FGSM takes a step of .01, and moves by .011 of eps .05
    at most, where ours takes one of eps; its perturbations are never rounded to the levels of a file.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    costs: ClassVar[frozenset[str]] = frozenset(
        {"attack", "steps", "purifier", "eot", "over", "limit"}
    )
    models: ClassVar[tuple[str, ...]] = ("translator", "diffuser", "denoiser")
    folders: ClassVar[tuple[str, ...]] = ("source",)

    source: str = Field(
        description="folder of images: a path, or the name of an entry that makes one"
    )
    translator: str = Field(description="ID of the generator that is disrupted")
    attack: Attack = Field(
        "pgd",
        description="random: signs by chance, the control; fgsm: one step of eps; bim: steps from the "
        "image; pgd: steps from a point by chance",
    )
    target: Target = Field(
        "grey",
        description="what the output is driven to: grey (0), black (-1), or away from the output of "
        "the image itself",
    )
    over: Over = Field(
        "own",
        description="labels under which the generator is disrupted: the image's own, the flipped ones, "
        "or all; the gradient is the mean over them",
    )
    eps: float = Field(
        0.05, description="largest change of a pixel, in units of [-1, 1]; 8/255 of [0, 1] is 0.063"
    )
    steps: Count = Field(10, description="bim and pgd: number of steps")
    step_size: float = Field(0.01, gt=0, le=2, description="bim and pgd: in units of [-1, 1]")
    purifier: str = Field(
        "", description="adaptive attack: the purifier through which it goes; empty: none"
    )
    eot: Count = Field(
        2,
        description="adaptive attack: draws of a random purifier, over which a gradient is averaged",
    )
    diffuser: str = Field("", description="ID of the diffuser, where the purifier needs one")
    denoiser: str = Field("", description="ID of the denoiser, where the purifier needs one")
    seed: int = Field(1, ge=0, description="seed of all that is drawn, by the image's name")
    limit: int = Field(0, ge=0, description="images at most, evenly spread over the names; 0: all")
    batch_size: Count = Field(32, description="images at once; changes no result")

    @field_validator("eps")
    @classmethod
    def _within(cls, eps: float) -> float:
        levels_of(eps)
        return eps

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that change nothing beside the other values, each with the reason."""
        attack = values.get("attack", "pgd")
        idle: dict[str, str] = {}
        if attack not in STEPPED:
            idle |= dict.fromkeys(("steps", "step_size"), f"{attack} takes no steps of that size")
        if attack == "random":
            names = ("target", "over", "purifier", "eot", "diffuser", "denoiser")
            idle |= dict.fromkeys(names, "random signs follow no gradient")
        elif not values.get("purifier"):
            idle |= dict.fromkeys(
                ("eot", "diffuser", "denoiser"), "the attack goes through no purifier"
            )
        return idle
