"""What plans know of the parts of trainings, and which of them do not go together."""

from pathlib import Path
from typing import Any

import pytest

from trueface.data.augmentations.registry import ALLOWED
from trueface.runtime.declarations import Registry
from trueface.runtime.errors import DeclarationError
from trueface.runtime.field_types import Settings
from trueface.training.parts import registry
from trueface.training.parts.registry import PartSpec, conflicts
from trueface.training.settings import TrainSettings

PLACES = {"data_root": "", "split_path": ""}
PART = """
from pydantic import Field
from trueface.runtime.field_types import Settings
from trueface.training.parts.registry import register_part
import torch

class Own(Settings):
    {field}

@register_part("third", settings=Own, conflicts={{"qualities": "no {{third}} of {{model}}"}})
class Third:
    pass
"""


def settings(**changed: Any) -> dict[str, Any]:
    return TrainSettings.model_validate({**PLACES, **changed}).model_dump(mode="json")


@pytest.mark.parametrize(
    ("changed", "others", "said"),
    [
        ({}, ("ridge", "poison", "shards"), ["m is fitted in closed form, by one process"]),
        ({}, ("poison",), []),
        ({"sbi": 0.5}, ("poison",), ["sbi does not go with poison"]),
        ({"sbi": 0.5}, (), []),
        ({"shots": 3}, ("poison",), ["shots does not go with poison"]),
        ({"qualities": "raw"}, ("ridge",), ["qualities: m is fitted in closed form"]),
        ({"qualities": "raw,jpeg40"}, ("shards",), []),
        ({"qualities": "raw,jpeg40", "collab": 0.1}, ("shards",), ["collab measures"]),
        ({"qualities": "raw,jpeg40", "collab": 0.1, "compile": True}, (), ["collab reads"]),
    ],
)
def test_pairs_that_do_not_go_together(
    changed: dict[str, Any], others: tuple[str, ...], said: list[str]
) -> None:
    answers = list(conflicts(settings(**changed), others, "m"))
    assert len(answers) == len(said)
    assert all(answer.startswith(start) for answer, start in zip(answers, said, strict=True))


class Base(Settings):
    """Settings of every training."""


def declare(folder: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """Let a part with one setting be the only one."""
    package = folder / "its_own_parts"
    package.mkdir()
    (package / "third.py").write_text(PART.format(field=field))
    monkeypatch.syspath_prepend(folder)
    allowed = (*ALLOWED, registry.__name__)
    parts = Registry(package.name, PartSpec, decorator="register_part", modules=allowed)
    monkeypatch.setattr(registry, "PARTS", parts)


def test_a_part_with_settings_of_its_own_is_had_where_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, monkeypatch, "third: int = 4")
    made = registry.with_parts(Base)
    assert "third" in made.model_fields
    assert made.added == {"third"}
    assert [*made.modules["third"](4), *made.modules["third"](5)] == ["its_own_parts.third"]
    given = {"qualities": "raw"}
    assert list(conflicts({**given, "third": 4}, (), "m")) == []
    assert list(conflicts({**given, "third": 5}, (), "m")) == ["no 5 of m"]


def test_a_setting_of_a_part_needs_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, monkeypatch, "third: int")
    with pytest.raises(DeclarationError, match="setting third needs a default"):
        registry.with_parts(Base)
