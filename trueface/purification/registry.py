"""Purifiers by name, with the range of their number: no torch here.

What `@register_purifier` says in the files of `methods` is read from their text; a file is imported
when an image is purified.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from trueface.runtime.declarations import Registry

PACKAGE = "trueface.purification.methods"
Model = Literal["", "diffuser", "denoiser"]
Gradient = Literal["exact", "identity"]
_NAME = re.compile(r"[a-z]+")

Registered = TypeVar("Registered", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class PurifierSpec:
    """A kind of purifier, without its code."""

    name: str
    summary: str
    number: str  # what its number is, with its unit; "": it takes none
    low: float
    high: float
    whole: bool  # whether the number has no decimals
    odd: bool  # whether it is odd
    estimated: bool  # without its number it takes that of the noise in each image
    reach: float  # times the number: the largest step of the diffusion that it asks the network for
    needs: Model  # the setting that names its model; "": none
    draws: bool  # whether images of other names come out otherwise
    gradient: Gradient  # through which an adaptive attack differentiates; identity: BPDA

    @property
    def example(self) -> str:
        """How it is written: `jpeg<1…100>`."""
        if not self.number:
            return self.name
        written = f"{self.name}<{self.low:g}…{self.high:g}>"
        return f"{self.name}, {written}" if self.estimated else written

    def __call__(self, function: Registered) -> Registered:
        """Leave the decorated function as it is."""
        return function


def register_purifier(
    name: str,
    *,
    summary: str,
    number: str = "",
    low: float = 0.0,
    high: float = 0.0,
    whole: bool = False,
    odd: bool = False,
    estimated: bool = False,
    reach: float = 1.0,
    needs: Model = "",
    draws: bool = False,
    gradient: Gradient = "exact",
) -> PurifierSpec:
    """Declare a purifier; the function below it purifies a batch, see `steps.Method`.

    Args:
        name: lower-case letters, which stand before the number.
        summary: a few words for lists.
        number: what the number is, with its unit; left out: there is no number.
        low: the smallest number.
        high: the largest.
        whole: only whole numbers are taken.
        odd: of these only odd ones.
        estimated: the number may be left out; it follows then from the noise in each image.
        reach: see `PurifierSpec`.
        needs: the model that it works with.
        draws: something in it is drawn.
        gradient: identity where its own gradient does not exist, vanishes, or costs too much: an
            adaptive attack takes that of the identity then (A. Athalye et al., arXiv 1802.00420, 4.1).

    Raises:
        ValueError: a name that the grammar cannot hold, or a range without a number.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a purifier is called by lower-case letters")
    if low > high or (not number and (low, high) != (0.0, 0.0)):
        raise ValueError(f"{name}: {low:g} to {high:g} is the range of no number")
    return PurifierSpec(
        name=name, summary=summary, number=number, low=low, high=high, whole=whole,
        odd=odd, estimated=estimated, reach=reach, needs=needs, draws=draws, gradient=gradient,
    )  # fmt: skip


SPECS = Registry(PACKAGE, register_purifier)


def function_of(name: str) -> Callable[..., Any]:
    """Import the file of a purifier; return its function."""
    return SPECS.load(name)  # type: ignore[no-any-return]  # what a file holds


def module_of(name: str) -> str:
    """Return the module that a purifier's name stands for: it is imported by that name."""
    return SPECS.module(name)
