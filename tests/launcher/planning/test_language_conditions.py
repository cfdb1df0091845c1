"""A model is tested on the same data under several conditions: each is a test of its own name."""

import pytest

from tests.launcher.language import a_plan, job, marked, names, notes, refusal
from tests.launcher.toylab import TestSettings

TRAINED = "train: [{data: dot:pre}]\n"


def test_a_list_of_a_condition_is_a_test_of_each_value() -> None:
    made = a_plan(
        TRAINED + "test: [{model: dot:pre, data: real:pre, haze: [none, fog2, fog2+rain]}]\n"
    )
    assert names(made, "test") == [
        "test/dot:pre/real:pre",
        "test/dot:pre/real:pre@haze=fog2",
        "test/dot:pre/real:pre@haze=fog2+rain",
    ]
    assert job(made, "test/dot:pre/real:pre@haze=fog2").settings["haze"] == "fog2"
    assert job(made, "test/dot:pre/real:pre@haze=fog2").data == "real:pre"
    assert not notes(made)


@pytest.mark.parametrize(
    "where",
    ["defaults: {haze: [none, fog]}\n", "defaults: {test: {haze: [none, fog]}}\n"],
)
def test_every_test_of_the_file_takes_the_conditions_of_its_defaults(where: str) -> None:
    made = a_plan(where + TRAINED + "autotest: [real:pre, dot:pre]\n")
    assert set(names(made, "test")) == {
        f"test/dot:pre/{data}{condition}"
        for data in ("real:pre", "dot:pre")
        for condition in ("", "@haze=fog")
    }


def test_two_conditions_make_a_product_in_the_order_in_which_the_kind_declares_them() -> None:
    made = a_plan(
        TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: [0, 9], haze: [none, fog]}]\n"
    )
    assert names(made, "test") == [
        "test/dot:pre/real:pre",
        "test/dot:pre/real:pre@tilt=9",
        "test/dot:pre/real:pre@haze=fog",
        "test/dot:pre/real:pre@haze=fog,tilt=9",
    ]


def test_one_value_stands_in_the_name_too_and_beside_the_plain_test() -> None:
    made = a_plan(
        TRAINED
        + "test: [{model: dot:pre, data: real:pre}, {model: dot:pre, data: real:pre, tilt: 3}]\n"
    )
    assert names(made, "test") == ["test/dot:pre/real:pre", "test/dot:pre/real:pre@tilt=3"]


def test_a_plain_test_is_the_job_that_it_was_before_there_were_conditions() -> None:
    plain = {"data_root": "d", "split_path": "s", "threads": 1, "crops": 1}
    more = {**plain, "haze": "none", "tilt": 0}
    assert TestSettings.decisive(more) == TestSettings.decisive(plain)
    assert TestSettings.condition(more) == TestSettings.condition(plain) == ""
    assert TestSettings.decisive({**more, "tilt": 1})["tilt"] == 1


def test_each_condition_has_a_hash_of_its_own() -> None:
    made = a_plan(TRAINED + "test: [{model: dot:pre, data: real:pre, haze: [none, fog, rain]}]\n")
    assert len({job(made, name).hash for name in names(made, "test")}) == 3


def test_a_value_that_is_wrong_is_blamed_at_its_place_in_the_list() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: [0, -3]}]\n")
    assert problem.message == "tilt: expected at least 0, got -3"
    assert marked(problem)[2] == "-3"


def test_an_empty_list_of_conditions_is_refused() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, tilt: []}]\n")
    assert "write at least one value" in str(problem)


def test_a_setting_that_is_no_condition_takes_no_list() -> None:
    problem = refusal(TRAINED + "test: [{model: dot:pre, data: real:pre, crops: [1, 2]}]\n")
    assert "crops: expected a whole number, got a list" in str(problem)
