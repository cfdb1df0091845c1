"""Files of the original system: score files, poison records, results of unlearning.

    runs/<name>/<id>/scores/<id>_vs_<data>.pkl   {y_true, y_pred, score_array}, tensors (N, 1)
    runs/poison_info/poison_<rate>.pkl           {poisoned_indices, poison_rate, …}, plain values
    runs/unlearning/<…>/results.npy              {clean_train: [(loss, accuracy %), …], …}

They are pickles, so they are read by `trueface.runtime.original.safe_pickle`: without torch, and nothing is executed.
The NumPy arrays in them are built from their bytes: no dtype and no array is unpickled. Tensors are read
in the same way, whatever their device. A pickled tensor is a call of `torch._utils._rebuild_tensor_v2`
on a storage. A storage is a call of `torch.storage._load_from_bytes` on the bytes of a file of torch.save.
Such a file has five pickles (a number, a version, facts of the machine, the storage's description, its
key) and the raw values.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.errors import DataError, RecordError
from trueface.runtime.original.pickle_machine import Budget
from trueface.runtime.original.pickled_arrays import MOST, OldArray, numpy_names
from trueface.runtime.original.pickled_tensors import tensor_names
from trueface.runtime.original.safe_pickle import decode, load, read

SCORES = ("y_true", "y_pred", "score_array")
RESULTS = ("clean_train", "poison_train", "test", "val")
MAX_PATH = 4096  # Linux's PATH_MAX
MAX_ROWS = 2_000_000  # ten times the images of the largest set; each takes 200 bytes as a row
NEAR_ZERO = 1e-6  # a logit this small may round to either class: its sigmoid is 0.5 in float32
NPY = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '\|O', 'fortran_order': (?:False|True), 'shape': \(\), \} *\n",
    re.DOTALL,
)

History = list[tuple[float, float]]


class OldPoison(NamedTuple):
    """A poison record of the original, unchanged. The split is not recorded."""

    indices: tuple[int, ...]
    rate: float  # in (0, 1]
    total: int  # images of the split
    samples: tuple[tuple[str, int], ...]  # path and flipped label of each, in the order of indices


class OldScores(NamedTuple):
    """A score file of the original: which images its rows are of, it does not say."""

    labels: NDArray[np.int8]  # (N,) 1 fake, 0 real
    logits: NDArray[np.float64]  # (N,)


def read_scores(path: Path) -> OldScores:
    """Return an old score file.

    Raises:
        DataError: the file cannot be read, is truncated or rejected, or is not a score file.
    """
    budget = Budget()
    names = {**tensor_names(budget), **numpy_names(budget)}
    content = _fields(path, load(path, names, budget=budget), SCORES, "score file")
    truth, called, logits = (_column(path, name, content[name]) for name in SCORES)
    if not len(truth) == len(called) == len(logits) > 0:
        raise DataError(
            f"{path} is not a score file: {len(truth)} labels, {len(called)} answers, "
            f"{len(logits)} logits"
        )
    if not np.isin(truth, (0, 1)).all() or not np.isin(called, (0, 1)).all():
        raise DataError(f"{path} is not a score file: it has labels other than 0 and 1")
    if bad := int((~np.isfinite(logits)).sum()):
        raise DataError(
            f"{path}: {bad} of {len(logits)} logits are not finite. Test the model again."
        )
    unlike = (logits > 0) != (called == 1)
    if bad := int((unlike & (np.abs(logits) > NEAR_ZERO)).sum()):
        raise DataError(
            f"{path}: {bad} of {len(logits)} answers contradict their logit; were probabilities "
            "stored in place of logits?"
        )
    return OldScores(labels=truth.astype(np.int8), logits=logits)


def read_poison(path: Path) -> OldPoison:
    """Return an old poison record.

    Raises:
        RecordError: it cannot be read, is cut off or refused, or contradicts itself.
    """
    try:
        return _poison(path)
    except DataError as error:
        raise RecordError(str(error)) from error


def read_results(path: Path) -> Mapping[str, History]:
    """Return (loss, accuracy in percent) of each epoch of an old unlearning, by image set.

    Raises:
        DataError: it cannot be read, is cut off or refused, or holds no results.
    """
    data = read(path)
    header = NPY.match(data)
    if header is None or int.from_bytes(header["length"], "little") != header.end() - 10:
        raise DataError(f"{path} is not a results.npy: expected an array of one object")
    budget = Budget()
    array = decode(path, data, numpy_names(budget), start=header.end(), budget=budget)
    if not isinstance(array, OldArray) or array.shape or not array.objects:
        raise DataError(f"{path} is not a results.npy: it does not contain an array of one object")
    content = _fields(path, array.objects[0], RESULTS, "results.npy")
    return {name: _history(path, name, content[name]) for name in RESULTS}


def _poison(path: Path) -> OldPoison:
    names = ("poisoned_indices", "poison_rate", "total_samples", "poisoned_samples")
    content = _fields(path, load(path, {}), names, "poison record")
    indices, rate, total, samples = (content[name] for name in names)
    if type(total) is not int or not 0 < total < MOST:
        raise DataError(f"{path} is not a poison record: total_samples is not a count")
    if not isinstance(rate, float) or not 0 < rate <= 1:
        raise DataError(f"{path} is not a poison record: poison_rate is not a fraction")
    if not isinstance(indices, list) or not isinstance(samples, list):
        raise DataError(f"{path} is not a poison record: indices or samples are not lists")
    if not indices:
        raise DataError(f"{path} is not a poison record: it lists no images")
    if len(indices) != len(samples):
        raise DataError(f"{path} has {len(indices)} indices and {len(samples)} samples")
    if not all(type(index) is int and 0 <= index < total for index in indices):
        raise DataError(f"{path} has indices beyond its {total} images")
    if len(set(indices)) < len(indices):
        raise DataError(f"{path} has an index twice")
    return OldPoison(
        indices=tuple(indices),
        rate=rate,
        total=total,
        samples=tuple(_sample(path, sample) for sample in samples),
    )


def _sample(path: Path, sample: object) -> tuple[str, int]:
    match sample:
        case (str(name), float() | int() as label) if label in {0, 1} and len(name) < MAX_PATH:
            return name, int(label)
        case _:
            raise DataError(
                f"{path} is not a poison record: a sample is not a pair (path, flipped label)"
            )


def _fields(path: Path, content: object, names: tuple[str, ...], noun: str) -> dict[str, object]:
    if not isinstance(content, dict) or any(name not in content for name in names):
        raise DataError(f"{path} is not a {noun}: expected a dict with {', '.join(names)}")
    return content


def _column(path: Path, name: str, value: object) -> NDArray[np.float64]:
    """Return (N,) of an array (N, 1) or (N,)."""
    if isinstance(value, OldArray) and value.numbers is not None:
        value = value.numbers
    if not isinstance(value, np.ndarray) or value.ndim == 0 or value.size != len(value):
        raise DataError(f"{path} is not a score file: {name} is not a column of numbers")
    if len(value) > MAX_ROWS:  # before they are widened: a file may hold 64 million bytes of them
        raise DataError(f"{path} is not a score file: {name} has more than {MAX_ROWS} rows")
    return value.reshape(-1).astype(np.float64)


def _history(path: Path, name: str, value: object) -> History:
    if not isinstance(value, list):
        raise DataError(f"{path} is not a results.npy: {name} is not a list")
    epochs: History = []
    for epoch in value:
        match epoch:
            # a loss of the original may be infinite or no number: it is kept as it is
            case (float() | int() as loss, float() | int() as accuracy) if (
                0 <= accuracy <= 100 and (isinstance(loss, float) or abs(loss) < MOST)
            ):
                epochs.append((float(loss), float(accuracy)))
            case _:
                raise DataError(
                    f"{path} is not a results.npy: {name} has an epoch without (loss, accuracy %)"
                )
    return epochs
