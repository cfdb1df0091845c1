"""The settings of a disruption. This module does not import torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from trueface.generators.purification.registry import (
    MODELS,
    canonical,
    parse_purifier,
    plugin_modules,
)
from trueface.generators.translation.settings import STEPPED, Target
from trueface.models.registry import model_name, modules_of_model
from trueface.runtime.field_types import Count, Settings, setting

LEVELS = 127.5  # grey levels per unit of [-1, 1]
_ROUND_UP = (
    5e-6  # added before a number is rounded to five decimals, so that it is not rounded down
)
_SLACK = 1e-6  # levels; 8 * 2/255 is slightly below 8 levels in binary


def eps_to_levels(eps: float) -> int:
    """Return the number of whole grey levels of a change of at most `eps`.

    Args:
        eps: maximum change in units of [-1, 1].

    Raises:
        ValueError: eps is not in 0 … 1, or is less than one level.
    """
    if not 0 < eps <= 1:
        raise ValueError(
            f"eps {eps:g} is not above 0 and at most 1. For images in [-1, 1], 8/255 of [0, 1] is 0.063."
        )
    levels = int(eps * LEVELS + _SLACK)
    if not levels:
        raise ValueError(
            f"eps {eps:g} is less than one grey level, the smallest change in an image file. Use at "
            f"least {1 / LEVELS + _ROUND_UP:.5f}."
        )
    return levels


def largest_stored_change(eps: float) -> float:
    """Return the largest change of whole grey levels within `eps`, in units of [-1, 1].

    Raises:
        ValueError: see `eps_to_levels`.
    """
    return eps_to_levels(eps) / LEVELS


Attack = Literal["random", "fgsm", "bim", "pgd"]
Over = Literal["own", "flipped", "all"]


def _purifier(text: str) -> str:
    return canonical(text) if text else text


def _purifier_modules(value: Any) -> tuple[str, ...]:
    return plugin_modules(str(value)) if value else ()


def required_model_settings(purifier: str) -> tuple[str, ...]:
    """Return the settings that name the models of a purifier, or none for ''."""
    return parse_purifier(purifier).needs if purifier else ()


class DisruptSettings(Settings):
    """The settings of a perturbation of each image in a folder.

    There are three differences from the original program (seclab-yonsei/Anti-disrupt). Its target "black" is a zero
    tensor, which is mid grey; the name here is "grey". Its FGSM takes a step of 0.01, so that the change is at most
    0.011 for an eps of 0.05; here the step is eps. It does not round perturbations to the grey levels of a file.
    """

    source: str = setting(
        folder=True, description="Folder of the images: a path, or the name of a job that makes one"
    )
    translator: str = setting(model=True, description="Model ID of the generator that is disrupted")
    attack: Attack = setting(
        "pgd",
        cost=True,
        description="Attack: random (random signs, for comparison), fgsm (one step of eps), bim (steps "
        "from the image) or pgd (steps from a random start)",
    )
    target: Target = Field(
        "grey",
        description="Target of the output: grey (0), black (-1) or away (as different as possible from "
        "the output of the clean image)",
    )
    over: Over = setting(
        "own",
        cost=True,
        description="Labels of the disrupted outputs: own (those of the image), flipped or all. The "
        "gradient is the mean over them",
    )
    eps: float = Field(
        0.05,
        description="Largest change of a pixel, for images in [-1, 1]. 8/255 of [0, 1] is 0.063",
    )
    steps: Count = setting(10, cost=True, description="Number of steps of bim and pgd")
    step_size: float = Field(
        0.01, gt=0, le=2, description="Step size of bim and pgd, for images in [-1, 1]"
    )
    purifier: Annotated[str, AfterValidator(_purifier)] = setting(
        "",
        cost=True,
        modules=_purifier_modules,
        description="Purifier through which an adaptive attack computes its gradient. Empty for an "
        "attack without a purifier",
    )
    eot: Count = setting(
        2,
        cost=True,
        description="Number of random draws of the purifier, over which the gradient of an adaptive "
        "attack is averaged",
    )
    diffuser: str = setting(
        "", model=True, description="Model ID of the diffuser, if the purifier needs one"
    )
    denoiser: str = setting(
        "", model=True, description="Model ID of the denoiser, if the purifier needs one"
    )
    seed: int = Field(
        42,
        ge=0,
        description="Random seed. The random values of an image depend on the seed and its file name",
    )
    limit: int = setting(
        0,
        cost=True,
        ge=0,
        description="Number of images, evenly spread over the sorted names. 0 takes all",
    )
    batch_size: Count = setting(
        32,
        neutral=True,
        description="Images per batch. Another number changes rounding, and with it single pixels",
    )

    @field_validator("eps")
    @classmethod
    def _check_eps(cls, eps: float) -> float:
        eps_to_levels(eps)
        return eps

    @property
    def needs(self) -> tuple[str, ...]:
        """The settings that name the models of the purifier. None without an adaptive attack."""
        return required_model_settings(self.purifier)

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that are part of a job's hash: models only if they are used."""
        unused = set(MODELS) - set(required_model_settings(values["purifier"]))
        return {key: value for key, value in super().decisive(values).items() if key not in unused}

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return settings that have no effect with the other values, each with the reason."""
        attack = values.get("attack", "pgd")
        idle: dict[str, str] = {}
        if attack not in STEPPED:
            idle |= dict.fromkeys(("steps", "step_size"), f"{attack} does not use it")
        if attack == "random":
            names = ("target", "over", "purifier", "eot", "diffuser", "denoiser")
            idle |= dict.fromkeys(names, "attack: random does not use a gradient")
        elif not values.get("purifier"):
            idle |= dict.fromkeys(("eot", "diffuser", "denoiser"), "no purifier is set")
        return idle


RANDOM = "random"  # features of an untrained network


def _features(name: str) -> str:
    return name if name == RANDOM else model_name(name)


def _feature_modules(value: Any) -> tuple[str, ...]:
    return () if value == RANDOM else modules_of_model(str(value))


class RestoredSettings(Settings):
    """The settings of a measurement of a generator's output for purified images."""

    source: str = setting(
        folder=True,
        description="Folder of purified images: a path, or the name of a job that makes one",
    )
    translator: str = setting(
        model=True, description="Model ID of the generator whose outputs are compared"
    )
    reference: str = setting(
        "",
        added=True,
        cost=True,
        model=True,
        description="Model ID of the undefended generator, if translator itself is the defence. Empty if "
        "a purifier is",
    )
    features: Annotated[str, AfterValidator(_features)] = setting(
        RANDOM,
        cost=True,
        modules=_feature_modules,
        description="Network for the Fréchet distance: random (needs no file) or the name of a network, "
        "such as squeezenet",
    )
    feature_weights: str = Field(
        "", description="Weights file of the network in features. random needs none"
    )
    batch_size: Count = setting(
        32, neutral=True, description="Images per batch. It does not change the result"
    )
