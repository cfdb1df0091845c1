"""What methods declare, and the settings that say it."""

import pytest
from pydantic import ValidationError

from trueface.erasing.registry import METHODS, NAMES, register_erasure
from trueface.erasing.settings import EraseSettings


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_which_options_it_uses_and_can_be_loaded(name: str) -> None:
    assert set(METHODS[name].defaults) <= set(NAMES)
    assert callable(METHODS.load(name))


def test_a_declaration_with_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="'steps' is none of"):
        register_erasure("new", summary="", defaults={"steps": 3})


def test_what_is_not_given_is_the_methods_own_default() -> None:
    settings = EraseSettings(method="esd-x", concept="cross", lr=0.5)
    assert settings.options.lr == 0.5
    assert settings.options.scope == "maps"
    assert EraseSettings(method="esd-u", concept="cross").options.scope == "rest"


def test_an_option_that_the_method_does_not_use_has_no_effect() -> None:
    values = EraseSettings(method="uce", concept="cross", lr=0.5, uce_lambda=1).model_dump()
    assert EraseSettings.without_effect(values) == {"lr": "uce does not use it"}


def test_paths_of_other_trajectories_have_no_effect() -> None:
    given = {"concept": "cross", "paths": 8, "refresh": 2}
    own = EraseSettings(method="esd-x", **given).model_dump()
    assert EraseSettings.without_effect(own) == {"paths": "own paths are as many as batch_size"}
    teachers = EraseSettings(method="abo", **given).model_dump()
    reason = "paths of the teacher are sampled once"
    assert EraseSettings.without_effect(teachers) == {"refresh": reason}


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match=r"did you mean ablate\?"):
        EraseSettings(method="ablat", concept="cross")


def test_the_anchor_is_another_class() -> None:
    with pytest.raises(ValidationError, match="concept and anchor are both 'disc'"):
        EraseSettings(method="abo", concept="disc", anchor="disc")


def test_an_ablation_without_an_anchor_is_refused() -> None:
    with pytest.raises(ValidationError, match="ablate needs an anchor"):
        EraseSettings(method="ablate", concept="disc")
