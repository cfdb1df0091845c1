"""Predictions of samples: wide logits with both labels, stored in files for later measures."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trueface.runtime import npz_files
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic

if TYPE_CHECKING:  # imports torch, which reading files can do without
    from trueface.data.examples import Label

UNKNOWN = -1  # the true label is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePredictions:
    """Logits of samples, one row each, those left out that could not be read."""

    logits: NDArray[np.float32]  # (N, K), K >= 2; of a single logit z the two are 0 and z
    trained: NDArray[np.int64]  # (N,) class that the model was trained to give
    true: NDArray[np.int64]  # (N,) the right one, or UNKNOWN
    ids: tuple[str, ...] = ()  # names of the samples; () if there are none

    def __post_init__(self) -> None:
        counts = {len(self.logits), len(self.trained), len(self.true)}
        if len(counts) != 1 or (self.ids and len(self.ids) not in counts):
            raise ValueError("each prediction needs its labels")

    def __len__(self) -> int:
        return len(self.logits)

    def labels(self, which: "Label") -> NDArray[np.int64]:
        """Return labels of one kind."""
        return self.trained if which == "trained" else self.true

    def accuracy(self, which: "Label") -> float | None:
        """Return the fraction of right predictions, in [0, 1]. None if no label is known."""
        labels = self.labels(which)
        labelled = labels != UNKNOWN
        if not labelled.any():
            return None
        return float(np.mean(self.logits.argmax(1)[labelled] == labels[labelled]))

    def balanced_accuracy(self, which: "Label") -> float:
        """Return the mean over the existing classes of the fraction of right predictions, in [0, 1]."""
        labels = self.labels(which)
        right = self.logits.argmax(1) == labels
        return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))

    def log_probabilities(self) -> NDArray[np.float64]:
        """Return logarithms of the softmax: (N, K)."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logs: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return logs

    def losses(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cross entropy of each prediction with its label: (N,)."""
        values: NDArray[np.float64] = -self.log_probabilities()[np.arange(len(labels)), labels]
        return values

    def loss(self, labels: NDArray[np.int64]) -> float:
        """Return the mean cross entropy with labels (N,)."""
        return float(self.losses(labels).mean())


def write(path: Path, parts: Mapping[str, SamplePredictions]) -> None:
    """Write predictions as one .npz, atomically: `<part>_logits`, `_trained`, `_true`, `_ids`."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_logits"] = part.logits.astype(np.float32)
        arrays[f"{name}_trained"] = part.trained
        arrays[f"{name}_true"] = part.true
        arrays[f"{name}_ids"] = np.array(part.ids, dtype=np.str_)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> dict[str, SamplePredictions]:
    """Return the predictions in a file of `write`, by part; nothing in the file is executed.

    Raises:
        DataError: it cannot be read, or is no such file.
        MachineError: there is not enough memory.
    """
    arrays = npz_files.read(path, "the predictions")
    names = [key.removesuffix("_logits") for key in arrays if key.endswith("_logits")]
    try:
        return {name: _part(arrays, name) for name in names}
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"cannot read the predictions in {path}. Run the job that writes this file again ({error})."
        ) from error


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> SamplePredictions:
    """Return the predictions of one part; reject labels without a column of the logits."""
    logits = _check_array(arrays[f"{name}_logits"], 2, "f")
    columns = logits.shape[1]
    if columns < 2:
        raise ValueError(f"logits of shape {logits.shape} have fewer than two classes")
    labels = {}
    for sort, least in (("trained", 0), ("true", UNKNOWN)):
        labels[sort] = _check_array(arrays[f"{name}_{sort}"], 1, "iu")
        if ((labels[sort] < least) | (labels[sort] >= columns)).any():
            raise ValueError(f"{name}_{sort} contains a label that is not one of {columns} classes")
    ids = _check_array(arrays[f"{name}_ids"], 1, "U")
    return SamplePredictions(
        logits=logits, trained=labels["trained"], true=labels["true"], ids=tuple(map(str, ids))
    )


def _check_array(array: NDArray[Any], dimensions: int, kinds: str) -> NDArray[Any]:
    """Return an array of so many dimensions and of these kinds of numbers; refuse any other."""
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"unexpected array of shape {array.shape} and type {array.dtype}")
    return array
