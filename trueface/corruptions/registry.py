"""Corruptions by name, with the range of their strength: no torch here.

What `@register_corruption` says in the files of `kinds` is read from their text; a file is imported
when an image is corrupted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from trueface.runtime.declarations import Registry

PACKAGE = "trueface.corruptions.kinds"
NO_STRENGTH = 0.0  # what a corruption without a number gets
_NAME = re.compile(r"[a-z]+(?:[0-9]+-)?")  # with digits and a dash: h264-, of h264-23

Registered = TypeVar("Registered", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionSpec:
    """A kind of corruption, without its code."""

    name: str
    summary: str
    strength: str  # what the number is, with its unit; "": it takes none
    low: float
    high: float
    whole: bool  # whether the number has no decimals
    draws: bool = False  # whether images of other names come out otherwise
    program: str = ""  # that must be installed; "": none

    @property
    def example(self) -> str:
        """How it is written: `jpeg<1…100>`."""
        return f"{self.name}<{self.low:g}…{self.high:g}>" if self.strength else self.name

    def __call__(self, function: Registered) -> Registered:
        """Leave the decorated function as it is."""
        return function


def register_corruption(
    name: str,
    *,
    summary: str,
    strength: str = "",
    low: float = NO_STRENGTH,
    high: float = NO_STRENGTH,
    whole: bool = False,
    draws: bool = False,
    program: str = "",
) -> CorruptionSpec:
    """Declare a kind of corruption; the function below it changes one image, see `chain.Function`.

    Args:
        name: lower-case letters, which stand before the number; digits and a dash may follow them.
        summary: a few words for lists.
        strength: what the number is, with its unit; left out: there is no number.
        low: the smallest number.
        high: the largest.
        whole: only whole numbers are taken.
        draws: something in it is drawn. A training draws it anew in each epoch, where this is said.
        program: that it starts, by its name; jobs are refused where it is not installed.

    Raises:
        ValueError: a name that the grammar cannot hold, or a range without a strength.
    """
    if not _NAME.fullmatch(name) or name in {"none", "raw"}:
        raise ValueError(f"{name!r}: a corruption is called by lower-case letters, and not none")
    if low > high or (not strength and (low, high) != (NO_STRENGTH, NO_STRENGTH)):
        raise ValueError(f"{name}: {low:g} to {high:g} is the range of no strength")
    return CorruptionSpec(
        name=name, summary=summary, strength=strength, low=low, high=high, whole=whole,
        draws=draws, program=program,
    )  # fmt: skip


SPECS = Registry(PACKAGE, register_corruption)


def function_of(name: str) -> Callable[..., Any]:
    """Import the file of a kind; return its function."""
    return SPECS.load(name)  # type: ignore[no-any-return]  # what a file holds


def module_of(name: str) -> str:
    """Return the module that a kind's name stands for: it is imported by that name."""
    return SPECS.module(name)
