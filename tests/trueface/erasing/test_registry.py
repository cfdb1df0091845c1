"""What methods declare, and the settings that say it."""

from typing import Any

import pytest
from pydantic import ValidationError

from trueface.erasing.registry import (
    METHODS,
    NAMES,
    ErasedSettings,
    EraseSettings,
    ReviseSettings,
    register_erasure,
)

MODELS = {"diffuser": "classes:all~abo", "teacher": "classes:all", "classifier": "folders:all"}


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


def an_erased(**changed: Any) -> ErasedSettings:
    return ErasedSettings.model_validate(
        {**MODELS, "data_root": "data", "concept": "cross", **changed}
    )


def test_one_number_stands_for_a_list_of_one() -> None:
    assert an_erased(recover_images=5).recover_images == (5,)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"anchor": "cross"}, "cannot stand in its own place"),
        ({"recover_steps": [50, 10]}, "50, 10 does not rise"),
        ({"recover_images": []}, "give one number"),
        ({"samples": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(
    changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        an_erased(**changed)


def test_an_inversion_by_a_teacher_needs_one() -> None:
    with pytest.raises(ValidationError, match="needs the setting teacher"):
        ReviseSettings(source="d", diffuser="m", drawn_as="cross", inverted_by="teacher")
