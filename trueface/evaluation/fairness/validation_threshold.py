"""The threshold at which a model calls a given part of all reals fake, by its validation.

At a probability of a half models differ in how often they call anything fake; their gaps are then
those of their calibration as well. At a common false positive rate that is the same for all groups,
what is left is how unevenly these mistakes are spread.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trueface.evaluation.bootstrap import Floats
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError

TARGET = 0.10  # of validation's reals are called fake
FEWEST = 20  # reals of validation: of fewer no image, or a single one, would be a tenth


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationThreshold:
    """A threshold, or why there is none."""

    threshold: float | None  # in logits: what lies above is called fake
    reals: int  # of validation
    reason: str  # "" where there is a threshold


def at_rate(reals: Floats, rate: float = TARGET) -> float:
    """Return the lowest of these logits (N,) above which at most `rate` of them lie."""
    ordered = np.sort(reals)[::-1]
    return float(ordered[int(rate * len(ordered))])


def of_model(folder: Path) -> ValidationThreshold:
    """Return the threshold of a model's folder by validation's answers in its checkpoint."""
    path = paths.checkpoint(folder)
    if not path.is_file():
        return _none(0, "the model's weights, which keep validation's answers, are not there")
    # torch takes a second to import
    from trueface.models import checkpoint

    try:
        reference = checkpoint.load(path).reference
    except CheckpointError as error:
        return _none(0, str(error))
    labels, logits = reference.get("labels"), reference.get("logits")
    if labels is None or logits is None or labels.shape != logits.shape:
        return _none(0, "the checkpoint keeps no answers of validation")
    reals = logits.double().numpy()[labels.numpy() == 0]
    if len(reals) < FEWEST:
        return _none(len(reals), f"{len(reals)} reals in validation, and {FEWEST} are needed")
    return ValidationThreshold(threshold=at_rate(reals), reals=len(reals), reason="")


def _none(reals: int, reason: str) -> ValidationThreshold:
    return ValidationThreshold(threshold=None, reals=reals, reason=reason)
