"""`name<number>+…`: what plug-ins with a number are called, one after another; no torch here."""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass

from trueface.runtime.declarations import Declared


@dataclass(frozen=True, slots=True)
class Numbered(Declared, ABC):
    """A plug-in that may take a number within a range, without its code."""

    name: str  # lower-case letters, which stand before the number
    _: KW_ONLY
    summary: str  # a few words for lists
    low: float = 0.0  # the smallest number
    high: float = 0.0  # the largest
    whole: bool = False  # whether the number has no decimals
    draws: bool = False  # whether images of other names come out otherwise

    @property
    @abstractmethod
    def number(self) -> str:
        """What the number is, with its unit; "": it takes none."""

    def refuse_range(self) -> None:
        """Refuse a range that makes no sense.

        Raises:
            ValueError: it falls, or there is no number that it could be of.
        """
        if self.low > self.high or (not self.number and (self.low, self.high) != (0.0, 0.0)):
            raise ValueError(
                f"{self.name}: {self.low:g} to {self.high:g} is the range of no number"
            )

    @property
    def example(self) -> str:
        """How it is written: `jpeg<1…100>`."""
        return f"{self.name}<{self.low:g}…{self.high:g}>" if self.number else self.name

    def value(self, number: str | None, word: str) -> float | None:
        """Return the number that stands behind the name; None where it takes none.

        Args:
            number: as it is written; None: there is none.
            word: the whole, for messages.

        Raises:
            ValueError: it is missing, superfluous, outside its range, or has decimals that it must not.
        """
        if not self.number:
            if number is not None:
                raise ValueError(f"{word}: {self.name} takes no number")
            return None
        if number is None:
            raise ValueError(f"{word} lacks its {self.number}: write {self.example}")
        value = float(number)
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(f"{word}: {self.number} is {self.low:g} to {self.high:g}")
        if self.whole and value != int(value):
            raise ValueError(f"{word}: {self.number} is a whole number")
        return float(f"{value:g}")  # as it will be written: six digits


def words_of(text: str, most: int, too_many: str) -> list[str]:
    """Return the words between the signs +.

    Raises:
        ValueError: more than `most`; `too_many` says so, with {count} and {most}.
    """
    words = text.split("+")
    if len(words) > most:
        raise ValueError(too_many.format(count=len(words), most=most))
    return words
