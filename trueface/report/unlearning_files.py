"""What an unlearning's files tell beyond its measures: confidences, and features in the plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import predictions
from trueface.evaluation.predictions import Answered
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.unlearning.evaluation import afterwards
from trueface.unlearning.evaluation.cross_entropy import log_probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """Probabilities (N,) of the label as trained, of what was to be forgotten, over all seeds."""

    name: str
    method: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Features of some samples in the plane, of the first seed."""

    name: str
    anew: bool  # trained from a new start: its axes are not those of the model before
    before: NDArray[np.float64]  # (M, 2)
    after: NDArray[np.float64]  # (M, 2)
    label: NDArray[np.int64]  # (M,)
    forget: NDArray[np.bool_]  # (M,)


def beliefs(name: str, method: str, folders: Sequence[Path]) -> Beliefs | None:
    """Return how sure models were of what they were to forget, over all seeds of a method.

    Raises:
        DataError: answers cannot be read.
    """
    befores, afters = [], []
    for folder in folders:
        before, after = (
            predictions.read(path(folder)).get("forget")
            for path in (paths.answers_before, paths.answers_after)
        )
        if before is not None and after is not None:
            befores.append(belief(before))
            afters.append(belief(after))
    if not sum(map(len, befores)) or not sum(map(len, afters)):
        return None
    return Beliefs(
        name=name, method=method, before=np.concatenate(befores), after=np.concatenate(afters)
    )


def belief(part: Answered) -> NDArray[np.float64]:
    """Return the probability of the label as trained: (N,), broken logits left out."""
    whole = np.isfinite(part.logits).all(1)
    rows = np.flatnonzero(whole)
    logs: NDArray[np.float64] = log_probabilities(part)[rows, part.trained[rows]]
    return np.exp(logs)


def cloud(name: str, folder: Path, *, anew: bool) -> Cloud | None:
    """Return features in the plane, or None where a model has none.

    Raises:
        DataError: there are some that cannot be read, or not one is finite.
    """
    path = paths.plane(folder)
    if not path.is_file():
        return None
    plane = afterwards.read(path)
    whole = np.isfinite(plane.before).all(1) & np.isfinite(plane.after).all(1)
    if not whole.any():
        raise DataError(f"{path} holds no finite features")
    return Cloud(
        name=name,
        anew=anew,
        before=plane.before[whole],
        after=plane.after[whole],
        label=plane.label[whole],
        forget=plane.forget[whole],
    )
