import pytest

from launcher.web.run_filter import canonical, matches, read_filter, unknown_settings

SETTINGS = {"lr": {"0.1"}, "method": {"pgu", "npo"}, "seed": {"1", "2"}, "amp": {"true"}}


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("", True),
        ("lr=0.1", True),
        ("lr=1e-1 seed=2", True),
        ("lr=.10 method=PGU amp=True", True),
        ("lr=0.2", False),
        ("lr=0.1 seed=3", False),
        ("method=p*", True),
        ("night", True),
        ("nig* lr=0.1", True),
        ("nig", True),
        ("?ight?", True),
        ("day", False),
        ("n[a-z]ght1", True),
        ("depth=3", False),
        ("lr=", False),
        ("=3", False),
    ],
)
def test_a_run_has_all_that_a_filter_says(text: str, listed: bool) -> None:
    assert matches(read_filter(text), "night1", SETTINGS) is listed


def test_a_value_may_hold_an_equals_sign() -> None:
    assert read_filter("a=b=c").settings == (("a", "b=c"),)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.1, "0.1", "1e-1", ".10"), "0.1"),
        ((3, 3.0, "3"), "3"),
        ((True, "True", "true"), "true"),
        ((None,), "none"),
        (("PGU", "pgu"), "pgu"),
        (([1, "a"],), '[1, "a"]'),
        ((float("nan"), "nan"), "nan"),
    ],
)
def test_equal_values_are_the_same_text(values: tuple[object, ...], text: str) -> None:
    assert {canonical(value) for value in values} == {text}


def test_an_integer_of_many_digits_is_a_value_too() -> None:
    assert canonical(10**400) == str(10**400)


def test_a_setting_that_no_job_has_names_the_nearest() -> None:
    (line,) = unknown_settings(read_filter("metod=pgu lr=1"), SETTINGS)
    assert "no job has a setting 'metod', did you mean 'method'?" in line
