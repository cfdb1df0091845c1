"""Corruptions by name, with the range of their strength: no torch here.

What `@register_corruption` says in the files of `kinds` is read from their text; a file is imported
when an image is corrupted.
"""

import re
from dataclasses import KW_ONLY, dataclass

from trueface.runtime.declarations import Registry
from trueface.runtime.grammar import Numbered

PACKAGE = "trueface.corruptions.kinds"
NO_STRENGTH = 0.0  # what a corruption without a number gets
_NAME = re.compile(r"[a-z]+(?:[0-9]+-)?")  # with digits and a dash: h264-, of h264-23


@dataclass(frozen=True, slots=True)
class CorruptionSpec(Numbered):
    """Declares a kind of corruption, without its code; the function below it changes one image, see `chain.Function`.

    Its name is of lower-case letters; digits and a dash may follow them. A training draws what is drawn in
    it anew in each epoch, where `draws` is said.

    Raises:
        ValueError: a name that the grammar cannot hold, or a range without a strength.
    """

    _: KW_ONLY
    strength: str = ""  # what the number is, with its unit; "": it takes none
    program: str = ""  # that must be installed, or jobs are refused; "": none

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in {"none", "raw"}:
            raise ValueError(
                f"{self.name!r}: a corruption is called by lower-case letters, and not none"
            )
        self.refuse_range()

    @property
    def number(self) -> str:
        """What the strength is."""
        return self.strength


register_corruption = CorruptionSpec
SPECS = Registry(PACKAGE, CorruptionSpec, decorator="register_corruption")
