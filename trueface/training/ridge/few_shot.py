"""A fitted last layer that shall also see a new source, of which there are a few examples.

The rows that it was fitted on and those of the examples are regressed together, in closed form, with
its own means, deviations and penalty: the old source stays seen as far as the sum of squares lets it.
Examples count more than one each; else ten among thousands would change nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from trueface.data.loaders import Pass
from trueface.training.ridge.rows import Rows, Standard

SHARE = 0.2  # of all rows' weight, that examples of a new source have where nothing is given
MOST = 50.0  # that an example counts at most then


@dataclass(frozen=True)
class Earlier:
    """What a layer was fitted on, and how."""

    training: Pass
    validation: Pass
    standard: Standard
    penalty: float  # of squared weights


def example_weight(old: Rows, new: Rows, share: float = SHARE) -> float:
    """Return what each new row counts so that all of them have a share of the weight, at least 1."""
    wanted = share / (1 - share) * float(old.weight.sum()) / max(len(new), 1)
    return float(np.clip(wanted, 1.0, MOST))


def joined(old: Rows, new: Rows, weight: float | None = None) -> Rows:
    """Return the rows of both; each new one counts `weight`.

    Args:
        old: that a layer was fitted on.
        new: of the examples.
        weight: > 0; None: see `example_weight`.
    """
    counted = example_weight(old, new) if weight is None else weight
    offset = 1 + int(old.images.max(initial=-1))
    return replace(
        old,
        parts=(*old.parts, *new.parts),
        labels=np.concatenate([old.labels, new.labels]),
        images=np.concatenate([old.images, offset + new.images]),
        weight=np.concatenate([old.weight, counted * new.weight]),
    )
