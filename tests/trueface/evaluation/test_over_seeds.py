"""Means over seeds: of the seeds that have a value, and said of how many."""

import math

import pytest

from trueface.evaluation.over_seeds import by_method, cell, over_seeds, short_names, shown


@pytest.mark.parametrize(
    ("values", "text", "small"),
    [
        ((1.0, 2.0, 3.0), "2.0 ± 1.0", "2.0<small>± 1.0</small>"),
        ((2.0,), "2.0", "2.0"),
        (
            (1.0, None, 3.0),
            "2.0 ± 1.4 (2 of 3 seeds)",
            "2.0<small>± 1.4</small><small>2 of 3 seeds</small>",
        ),
        ((None, 3.0), "3.0 (1 of 2 seeds)", "3.0<small>1 of 2 seeds</small>"),
        ((None, None), "–", "–"),
        ((), "–", "–"),
    ],
)
def test_a_mean_is_of_the_seeds_that_have_a_value_and_says_of_how_many(
    values: tuple[float | None, ...], text: str, small: str
) -> None:
    mean = over_seeds(values)
    assert (shown(mean, 1), cell(mean, 1)) == (text, small)


def test_a_number_that_is_not_finite_has_no_spread() -> None:
    mean = over_seeds([1.0, math.inf])
    assert mean is not None
    assert (mean.mean, math.isnan(mean.sd or 0.0)) == (math.inf, True)


def test_rows_of_one_method_differ_in_their_seed_alone() -> None:
    rows = [("a:pre@seed=1", "x"), ("b:pre@seed=1", "x"), ("a:pre@seed=2", "x"), ("a:pre", "y")]
    places = by_method(rows, lambda row: row[0], lambda row: row[1])
    assert {
        place: {name: len(of) for name, of in methods.items()} for place, methods in places.items()
    } == {
        "x": {"a:pre": 2, "b:pre": 1},
        "y": {"a:pre": 1},
    }


@pytest.mark.parametrize(
    ("methods", "short"),
    [
        (["a:pre@lr=1", "a:pre@lr=2"], ["lr=1", "lr=2"]),
        (["a:pre@lr=1", "b:pre@lr=2"], ["a:pre@lr=1", "b:pre@lr=2"]),
        (["a:pre", "a:pre@lr=2"], ["a:pre", "a:pre@lr=2"]),
    ],
)
def test_names_are_short_where_they_still_differ(methods: list[str], short: list[str]) -> None:
    assert list(short_names(methods).values()) == short
