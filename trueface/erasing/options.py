"""What a method of erasing can be told, with values for all of it. No torch here."""

from dataclasses import dataclass, fields
from typing import Literal

Scope = Literal["all", "maps", "rest"]
Trajectory = Literal["anchor", "concept", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Hyper-parameters of the methods; each method uses some of them, with its own defaults."""

    num_steps: int = 300
    lr: float = 1e-3
    batch_size: int = 64
    scope: Scope = "all"
    trajectory: Trajectory = "anchor"
    paths: int = 256
    refresh: int = 10
    guidance: float = 3.0
    sample_steps: int = 25
    gamma1: float = 1.0
    gamma2: float = 1.0
    penalty: float = 1.0
    mask: float = 0.0
    edit_scale: float = 1.0
    eta: float = 1.0
    ema: float = 0.99
    uce_lambda: float = 0.1
    uce_preserve: float = 1.0

    @property
    def is_whole_edit(self) -> bool:
        """All of an edit is made: none is masked, none is scaled."""
        return self.mask == 0 and self.edit_scale == 1


NAMES = tuple(field.name for field in fields(Options))
