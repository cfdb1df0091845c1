"""NumPy arrays in old pickles: stand-ins for the names that such a pickle uses."""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.original.pickle_machine import Budget, Named, Refusal, shorten_for_message

OBJECTS = frozenset({"O", "O8"})
NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
MAX_DIMENSIONS = 8
MOST = 1 << 40  # largest number of anything that is counted
MOST_OBJECTS = 1  # items of an array of objects; results.npy is one of one
ARRAY_BYTES = 256  # bytes of an array in memory besides its values
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
        self.objects: tuple[object, ...] | None = None  # items of an array of objects
        self.numbers: NDArray[np.generic] | None = None  # items of any other array

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
    """Return the stand-ins for the names that a pickle of arrays uses; see `safe_pickle.load`."""
    return {
        "numpy.ndarray": None,  # named, never called
        "numpy.dtype": _dtype,
        **{f"{module}._reconstruct": partial(_reconstruct, budget) for module in _MODULES},
        **{f"{module}.scalar": _scalar for module in _MODULES},
    }


def _reconstruct(budget: Budget, kind: object, shape: object, code: object) -> OldArray:
    if not isinstance(kind, Named) or kind.name != "numpy.ndarray":
        raise Refusal(f"it asks for an array of {shorten_for_message(kind)}")
    del shape, code
    budget.count_bytes(ARRAY_BYTES)
    return OldArray()


def _dtype(code: object, align: object = False, copy: object = True) -> OldType:
    del align, copy
    if not isinstance(code, str) or code not in OBJECTS | NUMBERS:
        raise Refusal(f"it asks for an array of type {shorten_for_message(code)}")
    return OldType(code)


def _scalar(kind: object, data: object) -> float | int:
    if not isinstance(kind, OldType) or not isinstance(data, bytes):
        raise Refusal("it has a number in an unknown format")
    if len(data) != kind.numeric.itemsize:
        raise Refusal("a number in it is cut off")
    number: float | int = np.frombuffer(data, kind.numeric)[0].item()
    return number
