"""Which object is to blame where something cannot be pickled, and how calls are shown."""

import functools
import io
import threading
from typing import Any

import pytest

from launcher.functions.calls import call_text
from launcher.functions.pickling import CannotPickle, dump, name_of

LOCK = threading.Lock()


class Holder:
    """An object that may hold anything."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__ |= parts

    def method(self) -> None:
        """Do nothing."""


def blame(value: object) -> str:
    with pytest.raises(CannotPickle) as caught:
        dump(value, io.BytesIO(), "it", "help")
    return str(caught.value).removeprefix("it cannot be pickled: ").partition(" is of type")[0]


def a_closure() -> object:
    inner = {"deep": Holder(lock=threading.Lock())}

    def function() -> object:
        return inner

    return function


def a_user_of_a_global() -> object:
    def function() -> object:
        return [LOCK for _ in range(2)]

    return function


def one_with_defaults() -> object:
    def function(x: object = LOCK, *, y: object = None) -> object:
        return x, y

    return function


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (a_closure(), "inner['deep'].lock"),
        (a_user_of_a_global(), "LOCK"),
        (one_with_defaults(), "x"),
        (functools.partial(print, 1, [LOCK]), "[1][0]"),
        (functools.partial(print, end=LOCK), "['end']"),
        (Holder(a=1, b=LOCK).method, "__self__.b"),
        ({"x": {LOCK}}, "['x']{…}"),
        (LOCK, "it"),
    ],
)
def test_the_innermost_object_that_cannot_be_pickled_is_named(value: object, path: str) -> None:
    assert blame(value) == path


def test_an_object_that_holds_itself_is_no_endless_search() -> None:
    holder = Holder()
    holder.__dict__ |= {"itself": holder, "lock": LOCK}
    assert blame(holder) == "lock"


def test_an_error_of_the_disk_is_no_fault_of_the_function() -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        dump(1, Full(), "it", "help")


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((0.1, "a", None, True), {"seed": 3}, "train(0.1, 'a', None, True, seed=3)"),
        ((b"x" * 99, [1]), {"name": "y" * 99}, "train(<bytes>, <list>, name=<str>)"),
        ((10**5000,), {}, "train(<int>)"),
    ],
)
def test_a_call_is_shown_as_python_writes_it_without_what_is_long(
    arguments: tuple[object, ...], keywords: dict[str, object], text: str
) -> None:
    assert call_text("train", arguments, keywords) == text


def test_a_call_of_many_arguments_is_cut() -> None:
    assert len(call_text("train", tuple(range(1000)), {})) == 200


def test_a_function_without_a_name_of_its_own_has_one() -> None:
    assert name_of(lambda: None) == "lambda"
    assert name_of(functools.partial(functools.partial(print))) == "print"
    assert name_of(Holder) == "Holder"

    class Model:
        def __call__(self) -> None:
            return None

    assert name_of(Model()) == "Model"
