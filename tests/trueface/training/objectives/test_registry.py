import subprocess
import sys

import pytest
from pydantic import ValidationError

from trueface.runtime.errors import UnknownName
from trueface.training.class_settings import ClassifySettings
from trueface.training.objectives.bce import BinaryCrossEntropy
from trueface.training.objectives.registry import (
    make_objective,
    modules_of,
    objectives,
    other_objective,
    register_objective,
)
from trueface.training.settings import TrainSettings

PLACES = {"data_root": "data", "split_path": "splits"}


def test_objectives_are_listed_with_what_their_files_declare() -> None:
    known = objectives()
    assert {"bce", "ce"} <= set(known)
    assert (known["bce"].binary, known["ce"].binary) == (True, False)
    assert known["bce"].summary == "binary cross-entropy"


def test_they_are_listed_without_torch() -> None:
    program = (
        "import sys; from trueface.training.objectives.registry import objectives; objectives();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_name_gives_the_objective_and_its_module() -> None:
    assert isinstance(make_objective("bce"), BinaryCrossEntropy)
    assert modules_of("bce") == (BinaryCrossEntropy.__module__,)
    with pytest.raises(UnknownName, match="unknown objective 'bse'"):
        make_objective("bse")


def test_detectors_and_networks_of_classes_have_defaults_of_their_own() -> None:
    assert TrainSettings.model_validate(PLACES).trainer.objective == "bce"
    assert ClassifySettings(data_root="data").trainer.objective == "ce"
    assert TrainSettings.model_validate({**PLACES, "objective": "ce"}).trainer.objective == "ce"


def test_an_objective_of_one_logit_is_refused_for_networks_of_classes() -> None:
    with pytest.raises(ValidationError, match="bce"):
        ClassifySettings.model_validate({"data_root": "data", "objective": "bce"})
    with pytest.raises(ValidationError, match="focl"):
        TrainSettings.model_validate({**PLACES, "objective": "focl"})


def test_the_default_stays_out_of_a_jobs_hash_and_others_do_not() -> None:
    default = TrainSettings.model_validate(PLACES).model_dump(mode="json")
    other = {**default, "objective": "ce"}
    assert "objective" not in TrainSettings.decisive(default)
    assert TrainSettings.decisive(other)["objective"] == "ce"


def test_a_column_that_no_batch_can_carry_is_refused_where_it_is_declared() -> None:
    register_objective("mine", summary="of groups", columns=("group",))
    with pytest.raises(ValueError, match="columns of mine: 'path' is none of quality, group"):
        register_objective("mine", summary="of paths", columns=("path",))


def test_settings_of_before_there_was_a_choice_mean_the_default() -> None:
    assert other_objective({}, {"objective": "bce"}) == ""
    assert other_objective({"objective": "ce"}, {"objective": "bce"}) == (
        "objective: ce, and this is objective: bce"
    )
