"""Purifiers by name, with the range of their number: no torch here.

What `@register_purifier` says in the files of `methods` is read from their text; a file is imported
when an image is purified.
"""

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from trueface.runtime.declarations import Registry
from trueface.runtime.grammar import Numbered

PACKAGE = "trueface.purification.methods"
Model = Literal["", "diffuser", "denoiser"]
Gradient = Literal["exact", "identity"]
_NAME = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class PurifierSpec(Numbered):
    """Declares a purifier, without its code; the function below it purifies a batch, see `steps.Method`.

    Raises:
        ValueError: a name that the grammar cannot hold, or a range without a number.
    """

    _: KW_ONLY
    number: str = ""  # what its number is, with its unit; "": it takes none
    odd: bool = False  # of whole numbers only odd ones are taken
    # the number may be left out: it follows then from the noise in each image
    estimated: bool = False
    reach: float = 1.0  # times the number: the largest step of the diffusion that it asks for
    needs: Model = ""  # the setting that names its model; "": none
    # through which an adaptive attack differentiates: identity where its own gradient does not exist,
    # vanishes, or costs too much (A. Athalye et al., arXiv 1802.00420, 4.1)
    gradient: Gradient = "exact"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r}: a purifier is called by lower-case letters")
        self.refuse_range()

    @property
    def forms(self) -> str:
        """How it is written: `jpeg<1…100>`, and without its number where that may be."""
        return f"{self.name}, {self.example}" if self.estimated else self.example


register_purifier = PurifierSpec
SPECS = Registry(PACKAGE, PurifierSpec, decorator="register_purifier")
