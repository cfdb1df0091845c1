"""What of values and arguments people see."""

import functools

import pytest

from launcher.functions.calls import named_arguments, shown


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1, {"value": 1}),
        (True, {"value": True}),
        (float("nan"), {}),
        (10**30, {}),
        ("short", {"value": "short"}),
        ("x" * 1000, {}),
        (None, {}),
        ([1, 2], {}),
        ({"a": 1, 2: 3, "b": [1], "c": 0.5}, {"a": 1, "c": 0.5}),
        ({str(number): number for number in range(100)}, {}),
    ],
)
def test_numbers_and_short_texts_are_shown(value: object, plain: dict[str, object]) -> None:
    assert shown(value) == plain


def test_arguments_have_the_names_of_the_function_and_what_is_large_is_left_out() -> None:
    def train(lr: float, layers: list[int], *, seed: int = 0) -> None:
        raise NotImplementedError

    assert named_arguments(train, (0.1, [1, 2]), {"seed": 3}) == {"lr": 0.1, "seed": 3}
    assert named_arguments(functools.partial(train, 0.1), ([1],), {}) == {}
    assert named_arguments(train, (), {"epochs": 1}) == {}
    assert named_arguments(min, (1, 2), {}) == {}
