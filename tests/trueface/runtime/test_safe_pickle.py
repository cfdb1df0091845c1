import copyreg
import io
import os
import pickle
import posix
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trueface.oldfiles import Call
from trueface.runtime.errors import DataError
from trueface.runtime.original import pickle_machine
from trueface.runtime.original.pickle_machine import Budget, Named, Refusal, run
from trueface.runtime.original.pickled_arrays import NUMBERS, OldArray, OldType, numpy_names
from trueface.runtime.original.safe_pickle import load

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner).map(lambda pair: [pair, pair])
    ),
    max_leaves=20,
)
STAND_INS = numpy_names(Budget())
DTYPE: Any = STAND_INS["numpy.dtype"]
RECONSTRUCT: Any = STAND_INS["numpy.core.multiarray._reconstruct"]
SCALAR: Any = STAND_INS["numpy.core.multiarray.scalar"]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a path that a hostile pickle writes when it is run; it must not."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def read(data: bytes, allowed: Mapping[str, object] | None = None) -> object:
    return run(io.BytesIO(data), allowed or {}, Budget())


@given(value=PLAIN, protocol=st.integers(3, 5))
def test_plain_data_round_trips(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_value_used_twice_is_one_object() -> None:
    shared = ["x" * 300]
    pair = read(pickle.dumps([shared, shared]))
    assert isinstance(pair, list)
    assert pair[0] is pair[1]


def test_name_is_resolved_to_value_given_by_caller() -> None:
    data = pickle.dumps([OrderedDict(a=1), OrderedDict])
    made = read(data, {"collections.OrderedDict": dict})
    assert made == [{"a": 1}, Named(name="collections.OrderedDict", value=dict)]


def test_name_of_a_value_is_not_called() -> None:
    data = pickle.dumps(OrderedDict())
    with pytest.raises(Refusal, match=r"asks to call collections\.OrderedDict"):
        read(data, {"collections.OrderedDict": "<f4"})


HOSTILE: Mapping[str, tuple[Callable[[str], object], str]] = {
    "os.system": (lambda line: Call(os.system, line), "posix.system"),
    "posix.system": (lambda line: Call(posix.system, line), "posix.system"),
    "eval": (lambda line: Call(eval, f"__import__('os').system({line!r})"), "builtin.*eval"),
    "exec": (lambda line: Call(exec, f"__import__('os').system({line!r})"), "builtin.*exec"),
    "getattr": (lambda _: Call(getattr, "x", "__class__"), "builtin.*getattr"),
    "nested": (lambda line: [{"a": (1, Call(os.system, line))}], "posix.system"),
    "copyreg": (lambda _: Call(copyreg.add_extension, "os", "system", 240), "copy_?reg"),
    "reconstructor": (lambda _: Call(copyreg._reconstructor, Call, object, None), "copy_?reg"),  # type: ignore[attr-defined]  # it is there
    "import": (lambda _: Call(__import__, "os"), "builtin.*__import__"),
    "class": (lambda _: Path("x"), "pathlib"),
    "exception": (lambda _: ValueError("x"), "(builtins|exceptions).ValueError"),
    "set": (lambda _: {1, 2}, "EMPTY_SET|builtin.*set"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("attack", HOSTILE)
def test_unknown_name_is_rejected_without_execution(
    attack: str, protocol: int, tmp_path: Path, canary: Path
) -> None:
    build, asked = HOSTILE[attack]
    path = tmp_path / "scores.pkl"
    path.write_bytes(pickle.dumps(build(f"touch {canary}"), protocol))
    with pytest.raises(DataError, match=asked) as caught:
        load(path, {"collections.OrderedDict": dict})
    assert str(path) in str(caught.value)
    assert "Nothing in it was executed" in str(caught.value)


def handwritten_pickles(line: str) -> Mapping[str, tuple[bytes, str]]:
    text = b"X" + struct.pack("<I", len(line)) + line.encode()
    system, known = b"cposix\nsystem\n", b"callowed\nmake\n"
    return {
        "text protocol": (b"cposix\nsystem\n(S'%b'\ntR." % line.encode(), "posix.system"),
        "inst": (b"(S'%b'\niposix\nsystem\n." % line.encode(), "MARK|INST posix system|STRING"),
        "inst alone": (b"(" + text + b"iposix\nsystem\n.", "INST posix system"),
        "obj": (b"(" + known + text + b"o.", "OBJ"),
        "newobj": (known + text + b"\x85\x81.", "NEWOBJ"),
        "newobj_ex": (b"\x80\x04" + known + text + b"\x85}\x92.", "NEWOBJ_EX"),
        "extension 1": (b"\x80\x02\x82\xf0" + text + b"\x85R.", "EXT1 240"),
        "extension 2": (b"\x80\x02\x83\xf0\x00" + text + b"\x85R.", "EXT2 240"),
        "extension 4": (b"\x80\x02\x84\xf0\x00\x00\x00" + text + b"\x85R.", "EXT4 240"),
        "persistent text": (b"Pposix.system\n.", "PERSID posix.system"),
        "persistent": (text + b"Q.", "persistent ID"),
        "buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "state of a function": (known + b"}X\x08\0\0\0__code__" + text + b"sb.", "state of allow"),
        "slots of a function": (known + b"N}" + text + text + b"s\x86b.", "state of allowed.make"),
        "state of a dict": (b"}}" + text + text + b"sb.", "state of a dict"),
        "append to a function": (known + text + b"a.", "append to a Named"),
        "items of a list": (b"]" + text + text + b"s.", "items of a list"),
        "call of a text": (text + text + b"\x85R.", "asks to call touch"),
        "call of a made value": (known + b")R" + text + b"\x85R.", "asks to call made"),
        "no arguments": (known + text + b"R.", "calls allowed.make with touch"),
        "wrong arguments": (known + text + b"\x85R.", "damaged"),
        "stack name of numbers": (b"\x80\x04K\x01K\x02\x93.", "asks for 1.2, which is not a name"),
        "stack name of names": (b"\x80\x04" + known + known + b"\x93.", "which is not a name"),
        "dotted name": (b"callowed\nmake.__globals__\n.", "make.__globals__"),
        "dotted known name": (b"\x80\x04X\2\0\0\0doX\5\0\0\0ts.in\x93.", "asks for do.ts.in"),
        "odd name": (b"\x80\x04X\1\0\0\0.X\3\0\0\0\nx\x1b\x93.", r"\.\.\\nx\\x1b"),
        "empty name": (b"\x80\x04X\0\0\0\0X\0\0\0\0\x93.", "asks for ;|asks for \\."),
        "look-alike": (
            b"\x80\x04X\7\0\0\0allowedX\5\0\0\0m\xd0\xb0ke\x93.", r"allowed\.m\\u0430ke",
        ),
        "system alone": (system + b".", "posix.system"),
        "unhashable key": (b"}]K\x01s.", "a dict with a key that is a list"),
        "no such memo": (b"h\x07.", "damaged"),
        "empty stack": (b"R.", "damaged"),
        "empty": (b"", "cut off"),
        "no end": (b"K\x01", "cut off"),
        "unknown instruction": (b"\xff.", "damaged"),
        "long text": (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.", "damaged"),
        "huge number": (b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".", "LONG4 a huge number"),
        "decimal number": (b"L" + b"9" * 5000 + b"L\n.", "damaged"),
        "reduce of a mark": (b"(((t.", "damaged"),
    }  # fmt: skip


@pytest.mark.parametrize("attack", handwritten_pickles(""))
def test_handwritten_pickle_is_rejected_without_execution(
    attack: str, tmp_path: Path, canary: Path
) -> None:
    data, asked = handwritten_pickles(f"touch {canary}")[attack]
    path = tmp_path / "scores.pkl"
    path.write_bytes(data)
    if attack == "reduce of a mark":
        assert load(path, {}) == ()
        return
    with pytest.raises(DataError, match=asked):
        load(path, {"allowed.make": lambda: "made", "do.ts.in": dict})


def test_registered_extension_code_is_rejected(canary: Path) -> None:
    copyreg.add_extension("posix", "system", 240)
    try:
        data = pickle.dumps(Call(os.system, f"touch {canary}"), 2)
        assert b"\x82\xf0" in data
        with pytest.raises(Refusal, match="EXT1 240"):
            read(data, {"posix.system": dict})
    finally:
        copyreg.remove_extension("posix", "system", 240)


def test_requested_name_is_reported_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.pkl"
    path.write_bytes(b"\x80\x04X\x00\x10\x00\x00" + b"\n\x1b[31m!!" * 512 + b"X\1\0\0\0x\x93.")
    with pytest.raises(DataError) as caught:
        load(path, {})
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < len(str(path)) + 300


def test_self_referencing_pickle_is_read_safely() -> None:
    itself = read(b"]q\x00h\x00a.")
    assert isinstance(itself, list)
    assert itself[0] is itself


def test_deep_pickle_is_read_without_recursion() -> None:
    depth = 10 * sys.getrecursionlimit()
    value = read(b"]" * depth + b"a" * (depth - 1) + b".")
    assert isinstance(value, list)


@pytest.mark.parametrize(
    "data",
    [
        b"]" + b"K\x00a" * 600 + b".",
        b"(" + b"K\x00" * 1200 + b"l.",
        b"0" * 1200,
    ],
    ids=["steps", "stack", "nothing"],
)
def test_pickle_with_too_many_instructions_is_stopped(data: bytes) -> None:
    with pytest.raises(Refusal):
        run(io.BytesIO(data), {}, Budget(steps=1000))


def test_file_with_too_many_instructions_is_rejected() -> None:
    with pytest.raises(Refusal, match="more instructions"):
        read(b"N" * (pickle_machine.MAX_STEPS + 1))


def test_dict_with_too_many_entries_is_rejected() -> None:
    data = pickle.dumps({str(number): None for number in range(5000)})
    with pytest.raises(Refusal, match="more than 4096 entries"):
        read(data)


def test_huge_memo_index_allocates_no_memory() -> None:
    assert read(b"K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff.") == 7


def test_pickle_with_trailing_bytes_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "scores.pkl"
    path.write_bytes(pickle.dumps(1) + pickle.dumps(2))
    with pytest.raises(DataError, match=r"5 bytes follow the end.*torch\.save"):
        load(path, {})


def test_file_that_is_too_large_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "scores.pkl"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="more than 67108864 bytes"):
        load(path, {})


def test_path_that_is_not_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("nothing", "pipe", "."):
        with pytest.raises(DataError, match=r"does not exist|is no file"):
            load(tmp_path / name, {})


@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_rejected(data: bytes) -> None:
    try:
        read(data, {"collections.OrderedDict": dict})
    except Refusal as refusal:
        assert str(refusal)  # noqa: PT017  # most are refused, some are values


def test_insufficient_memory_raises_an_error() -> None:
    def greedy() -> object:
        raise MemoryError

    data = b"\x80\x04cone\ngreedy\n)R."
    with pytest.raises(Refusal, match="not enough memory"):
        read(data, {"one.greedy": greedy})


def pickle_round_trip(path: Path, value: object) -> object:
    path.write_bytes(pickle.dumps(value))
    return load(path, STAND_INS)


@pytest.mark.parametrize("code", sorted(NUMBERS))
@pytest.mark.parametrize("order", ["C", "F"])
def test_array_of_numbers_round_trips(code: str, order: Any, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(code).copy(order=order)
    read = pickle_round_trip(tmp_path / "array.pkl", array)
    assert isinstance(read, OldArray)
    assert read.numbers is not None
    assert read.numbers.dtype == array.dtype
    assert np.array_equal(read.numbers, array)


@pytest.mark.parametrize("code", sorted(NUMBERS))
def test_numpy_number_is_read_as_python_number(code: str, tmp_path: Path) -> None:
    read = pickle_round_trip(tmp_path / "number.pkl", np.dtype(code).type(3))
    assert read == 3
    assert type(read) in {int, float}


@given(st.floats(allow_nan=False))
def test_number_keeps_all_digits(value: float) -> None:
    assert SCALAR(OldType("f8"), np.float64(value).tobytes()) == value


def test_array_of_one_object_is_read(tmp_path: Path) -> None:
    array = np.empty((), object)
    array[()] = {"a": 1}
    read = pickle_round_trip(tmp_path / "array.pkl", array)
    assert isinstance(read, OldArray)
    assert (read.objects, read.shape) == (({"a": 1},), ())


def test_array_with_too_many_objects_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 2 objects"):
        pickle_round_trip(tmp_path / "array.pkl", np.array([{"a": 1}, None], object))


def test_array_state_is_set_only_once() -> None:
    array, state = OldArray(), (1, (1,), OldType("O8"), False, [None])
    array.build(state)
    with pytest.raises(Refusal, match="twice"):
        array.build(state)


def test_array_sizes_are_checked_before_allocation() -> None:
    make: Any = numpy_names(Budget(array_bytes=1000))["numpy.core.multiarray._reconstruct"]
    kind = Named(name="numpy.ndarray", value=None)
    with pytest.raises(Refusal, match="expands to more data"):
        [make(kind, (0,), b"b") for _ in range(100)]


def test_array_class_cannot_be_called(tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(b"\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.")
    with pytest.raises(DataError, match=r"asks to call numpy\.ndarray"):
        load(path, STAND_INS)


@pytest.mark.parametrize("kind", [None, "numpy.ndarray", Named(name="numpy.dtype", value=DTYPE)])
def test_array_of_another_class_is_rejected(kind: object) -> None:
    with pytest.raises(Refusal, match="an array of"):
        RECONSTRUCT(kind, (0,), b"b")


@pytest.mark.parametrize("code", ["V8", "U4", "M8[s]", "f4,f4", "O16", "", "f8" * 9, None, 8, {}])
def test_array_of_another_dtype_is_rejected(code: object) -> None:
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
def test_dtype_of_another_kind_is_rejected(state: object) -> None:
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
def test_state_that_does_not_match_its_array_is_rejected(state: object) -> None:
    with pytest.raises(Refusal):
        OldArray().build(state)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(F4, b""), (F4, b"12345678"), (OBJECT, b"12345678"), (None, b"1234"), (F4, 4)],
)
def test_number_that_does_not_match_its_dtype_is_rejected(kind: object, data: object) -> None:
    with pytest.raises(Refusal):
        SCALAR(kind, data)
