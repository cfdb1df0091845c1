from typing import Any

import pytest
from pydantic import ValidationError

from trueface.training.config import needs_groups
from trueface.training.schedules import RULES
from trueface.training.settings import TrainSettings


def settings(**given: Any) -> TrainSettings:
    return TrainSettings.model_validate({"data_root": "data", "split_path": "splits", **given})


def test_fair_names_an_objective_which_takes_the_place_of_the_usual_one() -> None:
    chosen = settings(fair="dro", dro_step=0.05)
    assert (chosen.trainer.objective, chosen.trainer.options.dro_step) == ("dro", 0.05)
    assert chosen.columns_read == ("demographic",)
    assert chosen.draws_cells_equally
    assert not settings(fair="daw").draws_cells_equally


def test_oversampling_keeps_the_objective_and_reads_groups() -> None:
    chosen = settings(fair="oversample", objective="ce")
    assert chosen.trainer.objective == "ce"
    assert chosen.columns_read == ("demographic",)
    assert chosen.draws_cells_equally


def test_a_training_that_is_not_fair_reads_no_groups_and_stays_out_of_the_hash() -> None:
    plain = settings()
    assert (plain.trainer.objective, plain.columns_read) == ("bce", ())
    decisive = TrainSettings.decisive(plain.model_dump(mode="json"))
    assert not {"fair", "fair_min", "fair_alpha_in", "dro_step"} & set(decisive)
    assert TrainSettings.decisive(settings(fair="dag").model_dump(mode="json"))["fair"] == "dag"


def test_an_unknown_name_is_refused_and_a_share_is_a_share() -> None:
    with pytest.raises(ValidationError, match="did you mean daw"):
        settings(fair="dwa")
    for alpha in (0, 1.1):
        with pytest.raises(ValidationError, match="fair_alpha_in"):
            settings(fair="daw", fair_alpha_in=alpha)


def test_options_that_the_chosen_way_does_not_read_have_no_effect() -> None:
    reasons = TrainSettings.without_effect(settings(fair="dag").model_dump())
    assert reasons["fair_alpha_in"] == "fair: dag does not read it"
    assert "fair_alpha_out" not in reasons
    assert "dro_step" not in TrainSettings.without_effect(settings(fair="dro").model_dump())


def test_without_a_table_the_column_of_groups_has_no_effect() -> None:
    values = settings(groups_by="gender").model_dump()
    assert TrainSettings.without_effect(values)["groups_by"] == "attributes names no table"
    values = settings(groups_by="gender", attributes="faces.csv").model_dump()
    assert "groups_by" not in TrainSettings.without_effect(values)


def test_which_trainings_need_groups() -> None:
    ways = {"none": "", "dag": "", "oversample": "fair: oversample", "mix": "fair: mix"}
    assert {way: needs_groups({"fair": way}) for way in ways} == ways
    assert needs_groups({"fair": "none", "select": "worst-cell"}) == "select: worst-cell"


@pytest.mark.parametrize("schedule", sorted(RULES))
def test_the_rate_rises_to_its_highest_and_falls_to_nothing(schedule: str) -> None:
    rate = RULES[schedule]
    fractions = [rate(step, 100) for step in range(100)]
    top = fractions.index(max(fractions))
    assert max(fractions) == pytest.approx(1)
    assert fractions[: top + 1] == sorted(fractions[: top + 1])
    assert fractions[top:] == sorted(fractions[top:], reverse=True)
    assert 0 < fractions[0] < 0.5
    assert 0 < fractions[-1] < 0.001
    assert all(0 < rate(0, total) <= 1 for total in (1, 2, 3))
