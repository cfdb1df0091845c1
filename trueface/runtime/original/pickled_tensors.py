"""Tensors in old pickles: stand-ins for the names that such a pickle uses."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.original.pickle_machine import (
    Budget,
    Named,
    Refusal,
    run,
    shorten_for_message,
)
from trueface.runtime.original.pickled_arrays import sides

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
    """Facts of a storage in the stream. Not a tuple, which a pickle might confuse with one of its own."""

    values: np.dtype[np.generic]
    key: str
    count: int


def tensor_names(budget: Budget) -> Mapping[str, Callable[..., object]]:
    """Return the stand-ins for the names that a pickle of tensors uses; see `safe_pickle.load`."""
    return {
        "torch._utils._rebuild_tensor_v2": partial(rebuild, budget),
        "torch.storage._load_from_bytes": partial(storage, budget),
        "collections.OrderedDict": _make_empty,
    }


def rebuild(
    budget: Budget, values: object, offset: object, size: object, stride: object, *_: object
) -> Array:
    """Return a tensor's values as an array of its own; gradients and hooks are left out.

    Raises:
        Refusal: it would reach beyond its storage.
    """
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise Refusal(f"a tensor's storage is {shorten_for_message(values)}")
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
    budget.count_bytes(count * width)
    view = np.lib.stride_tricks.as_strided(
        values[first:], shape, tuple(step * width for step in steps), writeable=False
    )
    return np.array(view)


def storage(budget: Budget, data: object) -> Array:
    """Return the values of a storage in the bytes of a file of torch.save, (N,), read-only.

    Raises:
        Refusal: the stream is truncated, has the zip format, or requests more than a storage type.
    """
    if not isinstance(data, bytes):
        raise Refusal(f"a storage is {shorten_for_message(data)}, not bytes")
    if data.startswith(b"PK"):
        raise Refusal("it has a storage that is a zip archive, which pickled tensors never contain")
    budget.count_stream()
    stream = io.BytesIO(data)
    if run(stream, {}, budget) != MAGIC or run(stream, {}, budget) != VERSION:
        raise Refusal("it has a storage that torch.save did not write")
    facts = run(stream, {}, budget)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise Refusal("a storage in it is not little-endian")
    described = run(stream, STORAGES, budget, persistent=_parse_persistent_id)
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


def _parse_persistent_id(persistent_id: object) -> _Described:
    """Return what the persistent ID of a storage says; its location, "cuda:0", is of no account."""
    match persistent_id:
        case ("storage", Named(value=str(code)), str(key), str(), int(count), None) if (
            count is not True and count is not False
        ):
            return _Described(values=np.dtype(code), key=key, count=count)
        case _:
            raise Refusal("it has a storage in an unknown format")


def _make_empty() -> dict[str, object]:
    return {}
