"""The name of a test says on which data and under which condition a model is tested."""

import pytest

from launcher import draft


@pytest.mark.parametrize("condition", ["", "haze=2", "haze=0.5,tilt=a-b"])
def test_data_and_condition_are_read_back_from_a_name(condition: str) -> None:
    name = draft.tested("gan2:pre&real:pre", condition)
    assert draft.data_of_test(name) == "gan2:pre&real:pre"
    assert draft.condition_of_test(name) == condition


def test_settings_at_their_defaults_are_no_condition() -> None:
    assert draft.condition_name([("haze", 0, 0), ("tilt", None, 3)]) == ""


def test_a_condition_names_the_other_settings_in_their_order() -> None:
    assert draft.condition_name([("tilt", True, False), ("haze", 0.5, 0)]) == "tilt=true,haze=0.5"


@pytest.mark.parametrize(
    ("value", "shown"), [("a/b c", "a-b-c"), ("/", "none"), (("x", "y"), "x-y")]
)
def test_what_no_id_may_hold_becomes_a_dash(value: object, shown: str) -> None:
    assert draft.condition_name([("haze", value, "")]) == f"haze={shown}"
