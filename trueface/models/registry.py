"""The architectures of detectors and of networks of classes by name: no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from trueface.runtime.errors import UnknownName

ARCHITECTURES: Mapping[str, str] = {
    "baseline": "ResNet-50",
    "nodown": "ResNet-50 whose first convolution keeps the resolution",
    "baseline18": "ResNet-18",
    "nodown18": "ResNet-18 whose first convolution keeps the resolution",
    "slim18": "narrow ResNet-18 on a high-pass residual, for CPUs",
    "squeezenet": "SqueezeNet 1.1",
    "mobilenet": "MobileNet v2",
}


def architecture(name: str) -> str:
    """Return the name of an architecture as it is registered; a network's own name is suggested.

    Raises:
        ValueError: there is none of that name.
    """
    if name in ARCHITECTURES:
        return name
    by_network = {_letters(network): ours for ours, network in ARCHITECTURES.items()}
    meant = by_network.get(_letters(name))  # resnet50 is what we call baseline
    raise ValueError(UnknownName("model", name, ARCHITECTURES, suggestion=meant))


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


Stem = Literal["small", "large"]


# What a network's input must have at least, or be a multiple of, in pixels.
LEAST: Mapping[tuple[str, Stem], int] = MappingProxyType(
    {("vgg16", "small"): 32, ("vgg16", "large"): 32, ("vit", "small"): 8, ("vit", "large"): 32}
)


LEAST_OF_OTHERS = 8


PATCH: Mapping[Stem, int] = MappingProxyType({"small": 4, "large": 16})  # of vit


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is usually trained from scratch."""

    summary: str
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float


# He et al., arXiv 1512.03385, section 4.2, for CIFAR-10, with the weight decay of wide ResNets
# (arXiv 1605.07146, section 3); VGG at half their rate; ViT as Touvron et al., arXiv 2012.12877.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "vgg16": Recipe(
            summary="VGG-16 with batch norm", optimizer="sgd", lr=0.05, weight_decay=5e-4
        ),
        "resnet18": Recipe(summary="ResNet-18", optimizer="sgd", lr=0.1, weight_decay=5e-4),
        "resnet50": Recipe(summary="ResNet-50", optimizer="sgd", lr=0.1, weight_decay=5e-4),
        "vit": Recipe(summary="vision transformer", optimizer="adamw", lr=1e-3, weight_decay=0.05),
    }
)
