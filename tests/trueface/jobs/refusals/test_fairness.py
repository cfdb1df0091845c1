"""Trainings for groups that are refused while they are planned."""

from typing import Any

import pytest

from tests.trueface.jobs.test_kinds import a_draft
from trueface.jobs.kinds import TRAIN, UNLEARN


def reasons(**settings: Any) -> tuple[str, ...]:
    draft = a_draft(TRAIN, settings, model="m", data="gan2:pre&real:pre")
    return TRAIN.refusals(draft, ())


@pytest.mark.parametrize("fair", ["reweight", "oversample", "dro", "daw", "mix"])
def test_weighing_groups_needs_attributes(fair: str) -> None:
    (reason,) = reasons(fair=fair)
    assert reason.startswith(f"fair: {fair} needs attributes: the CSV file")
    assert reasons(fair=fair, attributes="faces.csv") == ()


def test_what_sees_no_groups_needs_no_attributes() -> None:
    assert reasons() == ()
    assert reasons(fair="dag") == ()


def test_a_choice_by_the_worst_cell_needs_attributes_and_is_for_trainings() -> None:
    (reason,) = reasons(select="worst-cell")
    assert reason.startswith("select: worst-cell needs attributes")
    settings = {"method": "retrain", "select": "worst-cell"}
    draft = a_draft(UNLEARN, settings, model="m@retrain", data="gan2:pre", base="m")
    assert any(
        "select: worst-cell is for trainings" in text for text in UNLEARN.refusals(draft, ())
    )


def test_a_fit_in_closed_form_weighs_no_groups() -> None:
    (reason,) = reasons(fair="daw", solver="ridge", attributes="faces.csv")
    assert "fitted in closed form" in reason


def test_a_training_has_one_loss() -> None:
    assert reasons(fair="daw", objective="ce", attributes="faces.csv") == ()
    (reason,) = reasons(fair="daw", objective="mix", attributes="faces.csv")
    assert "objective: mix and fair: daw are two losses" in reason


def test_losses_that_are_no_mean_are_not_shared_by_processes() -> None:
    (reason,) = reasons(fair="daw", processes=2, attributes="faces.csv")
    assert "fair: daw is not declared as a mean over images" in reason
    assert reasons(fair="reweight", processes=2, attributes="faces.csv") == ()


@pytest.mark.parametrize(
    ("fair", "remedy"),
    [
        ("dag", "train and unlearn alike"),
        ("dro", "an unlearning reads no demographic, take another"),
    ],
)
def test_an_unlearning_with_another_loss_than_its_models_training_is_refused(
    fair: str, remedy: str
) -> None:
    maker = a_draft(TRAIN, {"fair": fair}, model="m", data="gan2:pre&real:pre")
    draft = a_draft(UNLEARN, {"method": "retrain"}, model="m@x", data="gan2:pre", base="m")
    reason = f"m is trained with fair: {fair}, and this is objective: bce; {remedy}"
    assert any(reason in text for text in UNLEARN.refusals(draft, [maker]))
