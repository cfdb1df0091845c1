import pytest
from pydantic import ValidationError

from trueface.unlearning.registry import METHODS
from trueface.unlearning.settings import KEYS, UnlearnSettings, options_among

SCRUB = METHODS["scrub"].hyperparameters
PLACE = {"data_root": "data", "split_path": "splits"}


def test_every_hyper_parameter_is_a_setting() -> None:
    fields = set(UnlearnSettings.model_fields)
    for name, method in METHODS.items():
        assert len(KEYS[name]) == len(method.hyperparameters.model_fields)
        assert KEYS[name] <= fields


def test_what_is_left_out_is_the_methods_own() -> None:
    for name, method in METHODS.items():
        settings = UnlearnSettings.model_validate({**PLACE, "method": name})
        assert settings.options == method.hyperparameters()


def test_common_and_own_ones_reach_the_method() -> None:
    settings = UnlearnSettings.model_validate(
        {**PLACE, "method": "scrub", "unlearn_epochs": "2", "scrub_alpha": "0.5", "lau_alpha": 1}
    )
    assert settings.options == SCRUB.model_validate({"epochs": 2, "alpha": 0.5})


def test_a_training_keeps_its_own_learning_rate() -> None:
    settings = UnlearnSettings.model_validate({**PLACE, "method": "scrub", "lr": 0.5})
    assert settings.options == SCRUB()


@pytest.mark.parametrize(
    "wrong", [{"scrub_alpha": -1}, {"unlearn_epochs": 0}, {"lau_pgd": "most"}, {"scrub_alfa": 1}]
)
def test_a_wrong_value_or_name_is_refused_when_the_file_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UnlearnSettings.model_validate({**PLACE, "method": "relabel", **wrong})


def test_a_value_that_a_method_does_not_take_is_refused() -> None:
    with pytest.raises(ValidationError):
        options_among("potion", {"potion_growth": 0.5})


def test_every_setting_says_what_it_is_and_what_it_is_without() -> None:
    for key in frozenset().union(*KEYS.values()):
        text = UnlearnSettings.model_fields[key].description
        assert text
        assert key.startswith("unlearn_") or text.startswith(f"{key.partition('_')[0]}: ")
