"""Means over seeds: of the seeds that have a value, and said of how many."""

import math

import pytest

from trueface.evaluation.over_seeds import (
    MissingModels,
    by_method,
    format_seed_summary,
    missing_sentence,
    seeds_text,
    short_names,
    summarize_seeds,
)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 2.0, 3.0), "2.0 ± 1.0"),
        ((2.0,), "2.0"),
        ((1.0, None, 3.0), "2.0 ± 1.4 (2 of 3 seeds)"),
        ((None, 3.0), "3.0 (1 of 2 seeds)"),
        ((None, None), "–"),
        ((), "–"),
    ],
)
def test_mean_is_over_the_seeds_that_have_a_value_and_states_their_number(
    values: tuple[float | None, ...], text: str
) -> None:
    assert format_seed_summary(summarize_seeds(values), 1) == text


def test_non_finite_number_has_no_spread() -> None:
    mean = summarize_seeds([1.0, math.inf])
    assert mean is not None
    assert (mean.mean, math.isnan(mean.sd or 0.0)) == (math.inf, True)


def test_rows_of_one_method_differ_only_in_their_seed() -> None:
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
def test_names_are_short_as_long_as_they_are_unique(methods: list[str], short: list[str]) -> None:
    assert list(short_names(methods).values()) == short


def test_mean_counts_the_seeds_without_a_result_and_gives_the_reason() -> None:
    why = {"a:pre@seed=3": "failed", "a:pre@seed=4": "waiting", "a:pre@seed=5": "waiting"}
    models = MissingModels({**why, "b:pre@seed=3": "failed", "a:pre@seed=1": "failed"})
    missing = models.count_missing_seeds({"a:pre@seed=1", "a:pre@seed=2"})
    assert missing == {"failed": 1, "waiting": 2}
    assert seeds_text(2, missing) == "2 of 5, 1 failed, 2 waiting"
    assert seeds_text(2, {}) == "2"
    assert format_seed_summary(summarize_seeds((1.0, 3.0), missing), 1) == (
        "2.0 ± 1.4 (2 of 5 seeds, 1 failed, 2 waiting)"
    )
    assert missing_sentence(models).startswith("5 models or folders of the run have no result: ")
    assert missing_sentence(MissingModels()) == ""
