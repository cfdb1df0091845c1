"""The networks of image classifiers by name: no torch here.

What `@register_classifier` says in the files of `architectures` is read from their text. A file is
imported when a network of it is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from trueface.runtime.declarations import Registry

PACKAGE = "trueface.models.architectures"
LEAST_SIZE = 8  # side of an image that any network of image classifiers takes, in pixels
NOTHING: Mapping[str, int] = MappingProxyType({})

Stem = Literal["small", "large"]
Maker = TypeVar("Maker", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A network of image classifiers, and how it is usually trained from scratch."""

    summary: str
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    least_size: Mapping[str, int]  # side of an image, in pixels, by stem; else `LEAST_SIZE`
    patch: Mapping[str, int]  # of which the side is a multiple, in pixels, by stem; else 1

    def __call__(self, make: Maker) -> Maker:
        """Leave the decorated function, which makes the network, as it is."""
        return make


def register_classifier(
    name: str,  # noqa: ARG001  # the reader's
    *,
    summary: str,
    optimizer: Literal["sgd", "adamw"],
    lr: float,
    weight_decay: float,
    least_size: Mapping[str, int] = NOTHING,
    patch: Mapping[str, int] = NOTHING,
) -> Recipe:
    """Declare a network of image classifiers; the function below it makes one of a `Shape`."""
    return Recipe(
        summary=summary,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        least_size=least_size,
        patch=patch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a network of an image classifier looks like."""

    model: str  # a key of `RECIPES`
    stem: Stem
    size: int  # side of an image, in pixels
    classes: int


RECIPES = Registry(PACKAGE, register_classifier, modules={__name__})


def maker_of_classifier(name: str) -> Callable[[Shape], Any]:
    """Import the file of an image classifier's network; return the function that makes one."""
    return RECIPES.load(name)  # type: ignore[no-any-return]  # what a file holds


def modules_of_classifier(name: str) -> tuple[str, ...]:
    """Return the modules that a classifier's name stands for: they are imported by that name."""
    return (RECIPES.module(name),)
