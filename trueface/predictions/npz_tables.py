"""Predictions of any model as npz, several parts in one file.

There are four arrays for each part, such as "forget" and "test". `<part>_logits` is (N, K) float32 with K >= 2.
`<part>_trained` are the labels and `<part>_true` the true ones, -1 if unknown, both (N,) int64. `<part>_ids` are
the names of the samples.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime import npz_files
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic


def write_npz(path: Path, parts: Mapping[str, Predictions]) -> None:
    """Write predictions as one .npz, atomically: `<part>_logits`, `_trained`, `_true`, `_ids`."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_logits"] = part.class_logits.astype(np.float32)
        arrays[f"{name}_trained"] = part.labels.astype(np.int64)
        arrays[f"{name}_true"] = part.true_labels.astype(np.int64)
        arrays[f"{name}_ids"] = np.array(part.ids, dtype=np.str_)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read_npz(path: Path) -> dict[str, Predictions]:
    """Return the predictions in a file of `write_npz`, by part; nothing in the file is executed.

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


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> Predictions:
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
    return Predictions(
        logits=logits,
        labels=labels["trained"].astype(np.int64),
        true_labels=labels["true"].astype(np.int64),
        ids=tuple(map(str, ids)),
    )


def _check_array(array: NDArray[Any], dimensions: int, kinds: str) -> NDArray[Any]:
    """Return an array of so many dimensions and of these kinds of numbers; refuse any other."""
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"unexpected array of shape {array.shape} and type {array.dtype}")
    return array
