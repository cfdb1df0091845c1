"""What runs of the original system left: score files, poison records, results of unlearning.

    runs/<name>/<id>/scores/<id>_vs_<data>.pkl   {y_true, y_pred, score_array}, tensors (N, 1)
    runs/poison_info/poison_<rate>.pkl           {poisoned_indices, poison_rate, …}, plain values
    runs/unlearning/<…>/results.npy              {clean_train: [(loss, accuracy %), …], …}

They are pickles, so they are read by `trueface.runtime.safe_pickle`: without torch, and nothing is executed.
The arrays of NumPy in them are made from their bytes: no dtype and no array is unpickled. So are
tensors, whichever device they were on: a pickled tensor is a call of `torch._utils._rebuild_tensor_v2`
on a storage, and a storage is a call of `torch.storage._load_from_bytes` on the bytes of a file of
torch.save: five pickles (a number, a version, facts of the machine, the storage's description, its key)
and the raw values.
"""

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.errors import DataError, RecordError
from trueface.runtime.safe_pickle import Budget, Named, Refusal, decode, load, read, run, shown

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
    """A poison record of the original, as it stands there: of which split, it does not say."""

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
        DataError: it cannot be read, is cut off or refused, or is no score file.
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


def _fields(path: Path, content: object, names: tuple[str, ...], what: str) -> dict[str, object]:
    if not isinstance(content, dict) or any(name not in content for name in names):
        raise DataError(f"{path} is not a {what}: expected a dict with {', '.join(names)}")
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


OBJECTS = frozenset({"O", "O8"})
NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
MAX_DIMENSIONS = 8
MOST = 1 << 40  # of anything that is counted
MOST_OBJECTS = 1  # of an array of objects; results.npy is one of one
ARRAY_BYTES = 256  # that an array takes in memory beside its values

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # NumPy 1, and from 2 on


class OldType:
    """A dtype of one number, or of any object."""

    def __init__(self, code: str) -> None:
        self.code = code

    def build(self, state: object) -> None:
        """Take the byte order, of which only the usual is read."""
        match state:
            case (int(), "<" | "|" | "=", None, None, None, int(), int(), int()):
                return
            case _:
                raise Refusal("an array in it is big-endian or of a compound type")

    @property
    def numeric(self) -> np.dtype[np.generic]:
        """The NumPy type; for numbers only."""
        if self.code in OBJECTS:
            raise Refusal("it has an array of objects instead of numbers")
        return np.dtype(f"<{self.code}")


class OldArray:
    """An array that is described first, and gets its values afterwards."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None  # until it has its values
        self.objects: tuple[object, ...] | None = None  # of an array of objects
        self.numbers: NDArray[np.generic] | None = None  # of any other

    def build(self, state: object) -> None:
        """Take shape, type and values, once: each time costs memory, though but a byte of a file."""
        if self.shape is not None:
            raise Refusal("it sets the values of an array twice")
        match state:
            case (int(), tuple(shape), OldType() as kind, bool(fortran), list() | bytes() as data):
                self.shape = sides(shape)
                count = math.prod(self.shape)
            case _:
                raise Refusal("it has an array in an unknown format")
        if isinstance(data, list):
            if kind.code not in OBJECTS or len(data) != count:
                raise Refusal("an array of objects in it does not match its shape")
            if count > MOST_OBJECTS:
                raise Refusal(f"it has an array of {count} objects, which old files do not have")
            self.objects = tuple(data)
            return
        if len(data) != count * kind.numeric.itemsize:
            raise Refusal("an array in it does not match its shape: it is cut off")
        flat = np.frombuffer(data, kind.numeric)
        self.numbers = flat.reshape(shape, order="F" if fortran else "C")


def sides(value: object) -> tuple[int, ...]:
    """Return a shape, a stride, or other counts of an array as such.

    Raises:
        Refusal: it is none.
    """
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise Refusal("it has an array with an invalid shape")
    if all(type(length) is int and 0 <= length < MOST for length in value):
        return value
    raise Refusal("it has an array with an invalid shape, stride or offset")


def numpy_names(budget: Budget) -> Mapping[str, object]:
    """Return what stands for the names that a pickle of arrays uses; see `safe_pickle.load`."""
    return {
        "numpy.ndarray": None,  # named, never called
        "numpy.dtype": _dtype,
        **{f"{module}._reconstruct": partial(_reconstruct, budget) for module in _MODULES},
        **{f"{module}.scalar": _scalar for module in _MODULES},
    }


def _reconstruct(budget: Budget, kind: object, shape: object, code: object) -> OldArray:
    if not isinstance(kind, Named) or kind.name != "numpy.ndarray":
        raise Refusal(f"it asks for an array of {shown(kind)}")
    del shape, code
    budget.make(ARRAY_BYTES)
    return OldArray()


def _dtype(code: object, align: object = False, copy: object = True) -> OldType:
    del align, copy
    if not isinstance(code, str) or code not in OBJECTS | NUMBERS:
        raise Refusal(f"it asks for an array of type {shown(code)}")
    return OldType(code)


def _scalar(kind: object, data: object) -> float | int:
    if not isinstance(kind, OldType) or not isinstance(data, bytes):
        raise Refusal("it has a number in an unknown format")
    if len(data) != kind.numeric.itemsize:
        raise Refusal("a number in it is cut off")
    number: float | int = np.frombuffer(data, kind.numeric)[0].item()
    return number


MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: MAGIC_NUMBER
VERSION = 1001  # torch/serialization.py: PROTOCOL_VERSION

STORAGES: Mapping[str, str] = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
}

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """What the stream says of its storage; no tuple, which a pickle might take for one of its own."""

    values: np.dtype[np.generic]
    key: str
    count: int


def tensor_names(budget: Budget) -> Mapping[str, Callable[..., object]]:
    """Return what stands for the names that a pickle of tensors uses; see `safe_pickle.load`."""
    return {
        "torch._utils._rebuild_tensor_v2": partial(rebuild, budget),
        "torch.storage._load_from_bytes": partial(storage, budget),
        "collections.OrderedDict": _empty,
    }


def rebuild(
    budget: Budget, values: object, offset: object, size: object, stride: object, *_: object
) -> Array:
    """Return a tensor's values as an array of its own; gradients and hooks are left out.

    Raises:
        Refusal: it would reach beyond its storage.
    """
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise Refusal(f"a tensor's storage is {shown(values)}")
    shape, steps, first = sides(size), sides(stride), sides((offset,))[0]
    if len(shape) != len(steps):
        raise Refusal("a tensor's size and stride do not match")
    count = 1
    for length in shape:
        count *= length
    if count == 0:
        return np.empty(0, values.dtype)
    last = first + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    if last >= len(values) or count > len(values):
        raise Refusal(f"a tensor reaches beyond its storage of {len(values)} values")
    width = values.itemsize
    budget.make(count * width)
    view = np.lib.stride_tricks.as_strided(
        values[first:], shape, tuple(step * width for step in steps), writeable=False
    )
    return np.array(view)


def storage(budget: Budget, data: object) -> Array:
    """Return the values of a storage in the bytes of a file of torch.save, (N,), read-only.

    Raises:
        Refusal: it is cut off, of the zip format, or asks for more than a kind of storage.
    """
    if not isinstance(data, bytes):
        raise Refusal(f"a storage is {shown(data)}, not bytes")
    if data.startswith(b"PK"):
        raise Refusal("it has a storage that is a zip archive, which pickled tensors never contain")
    budget.open()
    stream = io.BytesIO(data)
    if run(stream, {}, budget) != MAGIC or run(stream, {}, budget) != VERSION:
        raise Refusal("it has a storage that torch.save did not write")
    facts = run(stream, {}, budget)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise Refusal("a storage in it is not little-endian")
    described = run(stream, STORAGES, budget, persistent=_described)
    keys = run(stream, {}, budget)
    if not isinstance(described, _Described) or not isinstance(keys, list):
        raise Refusal("a storage in it has no description")
    if len(keys) != 1 or not isinstance(keys[0], str) or keys[0] != described.key:
        raise Refusal("it has a storage with unexpected keys")
    count = int.from_bytes(stream.read(8), "little")
    left = len(data) - stream.tell()
    if count != described.count or left != count * described.values.itemsize:
        raise Refusal(f"a storage of {described.count} values holds {left} bytes: it is cut off")
    return np.frombuffer(data, described.values, count, stream.tell())


def _described(asked: object) -> _Described:
    """Return what the persistent ID of a storage says; its location, "cuda:0", is of no account."""
    match asked:
        case ("storage", Named(value=str(code)), str(key), str(), int(count), None) if (
            count is not True and count is not False
        ):
            return _Described(values=np.dtype(code), key=key, count=count)
        case _:
            raise Refusal("it has a storage in an unknown format")


def _empty() -> dict[str, object]:
    return {}
