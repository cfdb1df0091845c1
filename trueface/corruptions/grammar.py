"""`jpeg50+blur1`: corruptions as they are written, one after another. No torch here.

chain = "none" | step ("+" step)*
step  = name number?             the number's range is the kind's
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from trueface.corruptions.registry import NO_STRENGTH, SPECS, CorruptionSpec, module_of
from trueface.runtime.errors import UnknownName

NONE = "none"
MOST_STEPS = 8  # of a chain: its text stands in the names of files
_STEP = re.compile(r"([a-z]+)(-?[0-9]+(?:\.[0-9]+)?)?")  # a sign only to be refused
_NAME = re.compile(r"[A-Za-z_]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One corruption of one strength."""

    name: str  # a key of `SPECS`
    strength: float

    def __str__(self) -> str:
        return f"{self.name}{self.strength:g}" if SPECS[self.name].strength else self.name


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a chain in their order; of `none` none.

    Raises:
        ValueError: an unknown kind, with the nearest name; a number that is missing, outside its
            range or superfluous; or no chain at all.
    """
    if text == NONE:
        return ()
    words = text.split("+")
    if len(words) > MOST_STEPS:
        raise ValueError(
            f"{len(words)} corruptions in one chain, and {MOST_STEPS} at most are taken"
        )
    return tuple(_step(word, text) for word in words)


def canonical(text: str) -> str:
    """Return a chain as it is stored and as files are named: `jpeg050` is `jpeg50`.

    Raises:
        ValueError: see `parse_steps`.
    """
    return written(parse_steps(text))


def written(steps: Iterable[Step]) -> str:
    """Return steps as they are written."""
    return "+".join(map(str, steps)) or NONE


def modules_of(text: str) -> tuple[str, ...]:
    """Return the modules of a chain's kinds: they are imported by name."""
    return tuple(dict.fromkeys(module_of(step.name) for step in parse_steps(text)))


def described() -> str:
    """Return how each kind is written, for lists of settings."""
    return ", ".join((NONE, *(spec.example for spec in SPECS.values())))


def _step(word: str, chain: str) -> Step:
    if not word:
        raise ValueError(f"{chain!r} lacks a corruption: write none, or such as jpeg50+blur1")
    match = _STEP.fullmatch(word)
    name = match[1] if match else next(iter(_NAME.findall(word)), word)
    if name == NONE:
        raise ValueError(f"none stands alone, not in a chain such as {chain!r}")
    if name not in SPECS:
        raise ValueError(UnknownName("corruption", name, SPECS))
    spec = SPECS[name]
    if match is None:
        raise ValueError(f"{word!r} is no corruption: write {spec.example}, several joined by +")
    return Step(name, _strength(spec, match[2], word))


def _strength(spec: CorruptionSpec, number: str | None, word: str) -> float:
    if not spec.strength:
        if number is not None:
            raise ValueError(f"{word}: {spec.name} takes no number")
        return NO_STRENGTH
    if number is None:
        raise ValueError(f"{word} lacks its {spec.strength}: write {spec.example}")
    value = float(number)
    if not math.isfinite(value) or not spec.low <= value <= spec.high:
        raise ValueError(f"{word}: {spec.strength} is {spec.low:g} to {spec.high:g}")
    if spec.whole and value != int(value):
        raise ValueError(f"{word}: {spec.strength} is a whole number")
    return float(f"{value:g}")  # as it will be written: six digits
