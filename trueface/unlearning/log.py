"""One line of a method's log."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was measured after a step of a method."""

    step: int  # 0 is the model as it came
    metrics: Mapping[str, float | None]  # names such as loss, forget_accuracy_trained
