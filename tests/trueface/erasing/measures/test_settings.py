from typing import Any

import pytest
from pydantic import ValidationError

from trueface.erasing.settings import ErasedSettings, ReviseSettings

MODELS = {"diffuser": "classes:all~abo", "teacher": "classes:all", "classifier": "folders:all"}


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
