import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.legacy.original_runs import NUMBERS, OldArray, OldType, numpy_names
from trueface.legacy.safe_pickle import Budget, Named, Refusal, load
from trueface.runtime.errors import DataError

STAND_INS = numpy_names(Budget())
DTYPE: Any = STAND_INS["numpy.dtype"]
RECONSTRUCT: Any = STAND_INS["numpy.core.multiarray._reconstruct"]
SCALAR: Any = STAND_INS["numpy.core.multiarray.scalar"]


def unpickled(path: Path, value: object) -> object:
    path.write_bytes(pickle.dumps(value))
    return load(path, STAND_INS)


@pytest.mark.parametrize("code", sorted(NUMBERS))
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_numbers_is_read_as_it_was(code: str, order: Any, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(code).copy(order=order)
    read = unpickled(tmp_path / "array.pkl", array)
    assert isinstance(read, OldArray)
    assert read.numbers is not None
    assert read.numbers.dtype == array.dtype
    assert np.array_equal(read.numbers, array)


@pytest.mark.parametrize("code", sorted(NUMBERS))
def test_a_number_is_read_as_pythons(code: str, tmp_path: Path) -> None:
    read = unpickled(tmp_path / "number.pkl", np.dtype(code).type(3))
    assert read == 3
    assert type(read) in {int, float}


@given(st.floats(allow_nan=False))
def test_a_number_keeps_every_digit(value: float) -> None:
    assert SCALAR(OldType("f8"), np.float64(value).tobytes()) == value


def test_an_array_of_one_object_keeps_it(tmp_path: Path) -> None:
    array = np.empty((), object)
    array[()] = {"a": 1}
    read = unpickled(tmp_path / "array.pkl", array)
    assert isinstance(read, OldArray)
    assert (read.objects, read.shape) == (({"a": 1},), ())


def test_an_array_of_more_objects_than_any_old_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 2 objects"):
        unpickled(tmp_path / "array.pkl", np.array([{"a": 1}, None], object))


def test_an_array_gets_its_values_once() -> None:
    array, state = OldArray(), (1, (1,), OldType("O8"), False, [None])
    array.build(state)
    with pytest.raises(Refusal, match="twice"):
        array.build(state)


def test_arrays_are_counted_before_they_fill_the_memory() -> None:
    make: Any = numpy_names(Budget(made=1000))["numpy.core.multiarray._reconstruct"]
    kind = Named(name="numpy.ndarray", value=None)
    with pytest.raises(Refusal, match="grows"):
        [make(kind, (0,), b"b") for _ in range(100)]


def test_the_class_of_an_array_cannot_be_called(tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(b"\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.")
    with pytest.raises(DataError, match=r"asks to call numpy\.ndarray"):
        load(path, STAND_INS)


@pytest.mark.parametrize("kind", [None, "numpy.ndarray", Named(name="numpy.dtype", value=DTYPE)])
def test_an_array_of_another_class_is_refused(kind: object) -> None:
    with pytest.raises(Refusal, match="an array of"):
        RECONSTRUCT(kind, (0,), b"b")


@pytest.mark.parametrize("code", ["V8", "U4", "M8[s]", "f4,f4", "O16", "", "f8" * 9, None, 8, {}])
def test_an_array_of_another_type_is_refused(code: object) -> None:
    with pytest.raises(Refusal, match="of type"):
        DTYPE(code, False, True)


@pytest.mark.parametrize(
    "state",
    [
        None,
        (3, ">", None, None, None, -1, -1, 0),
        (3, "<", ("f4", (2,)), None, None, -1, -1, 0),
        (3, "<", None, ("a",), {"a": ()}, 4, 4, 0),
        (3, "<", None, None, None, -1, -1, 0, {"metadata": 1}),
    ],
)
def test_a_type_of_another_kind_is_refused(state: object) -> None:
    with pytest.raises(Refusal, match="compound"):
        OldType("f4").build(state)


F4, OBJECT = OldType("f4"), OldType("O8")


@pytest.mark.parametrize(
    "state",
    [
        None,
        (1, (2,), F4, False, b"1234"),
        (1, (2,), F4, False, b"1" * 12),
        (1, (2,), F4, False, [1.0, 2.0]),
        (1, (2,), OBJECT, False, b"1" * 16),
        (1, (2,), OBJECT, False, [1]),
        (1, (-1,), F4, False, b""),
        (1, (2**62, 2**62), F4, False, b""),
        (1, (True,), F4, False, b"1234"),
        (1, (1.0,), F4, False, b"1234"),
        (1, (1,) * 9, F4, False, b"1234"),
        (1, [1], F4, False, b"1234"),
        (1, (1,), "f4", False, b"1234"),
        (1, (1,), F4, 0, b"1234"),
        (1, (1,), F4, False, "1234"),
        (1, (1,), F4, False, b"1234", None),
    ],
)
def test_a_state_that_does_not_match_its_array_is_refused(state: object) -> None:
    with pytest.raises(Refusal):
        OldArray().build(state)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(F4, b""), (F4, b"12345678"), (OBJECT, b"12345678"), (None, b"1234"), (F4, 4)],
)
def test_a_number_that_does_not_match_its_type_is_refused(kind: object, data: object) -> None:
    with pytest.raises(Refusal):
        SCALAR(kind, data)
