"""One test of a model: on which images, and what was done to them."""

from dataclasses import dataclass

from trueface.corruptions.grammar import NONE
from trueface.runtime.ids import tested


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTest:
    """A test as a plan has it."""

    data: str  # data ID
    condition: str = ""  # as in an ID: "corrupt=jpeg50"; "" of a plain test
    corrupt: str = NONE  # chain of corruptions
    attack: str = NONE

    @property
    def name(self) -> str:
        """Its name among the tests of its model."""
        return tested(self.data, self.condition)

    @property
    def treatment(self) -> str:
        """What was done to its images, in words."""
        steps = [
            *([self.corrupt] if self.corrupt != NONE else []),
            *([f"attack {self.attack}"] if self.attack != NONE else []),
        ]
        return " and ".join(steps) or "as they are"
