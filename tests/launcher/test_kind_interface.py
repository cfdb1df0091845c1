"""Facts of settings in a plugin package: on the fields, or as class variables."""

from typing import ClassVar

import pytest
from pydantic import Field, create_model

from launcher.api import Settings, setting


class Reading(Settings):
    folder: str = setting(folder=True, cost=True, aliases=("place",), word_file="words.yaml")
    threads: int = setting(0, neutral=True, cost=True, ge=0)
    noise: str = setting("none", added=True, condition=True, modules=lambda value: (value,))
    plain: int = 1


class Learning(Reading):
    threads: int = Field(2, ge=1)  # another default
    network: str = setting("small", model=True, column="architecture", shared=str.lower)


class WithOwnSets(Learning):
    neutral: ClassVar[frozenset[str]] = frozenset({"plain"})
    costs = Learning.costs | {"noise"}


class Further(WithOwnSets):
    more: int = setting(0, neutral=True)


class Steps(Settings):
    steps: int = setting(1, neutral=True)


class Both(Steps, Reading):
    pass


def test_class_variables_collect_what_fields_declare() -> None:
    assert Reading.neutral == {"threads"}
    assert Reading.costs == {"folder", "threads"}
    assert Reading.added == {"noise"}
    assert (Reading.conditions, Reading.models, Reading.folders) == (("noise",), (), ("folder",))
    assert (Reading.aliases, Reading.word_files) == ({"place": "folder"}, {"folder": "words.yaml"})
    assert Reading.modules["noise"]("a") == ("a",)


def test_subclass_inherits_facts_also_for_a_field_with_another_default() -> None:
    assert Learning.neutral == Reading.neutral
    assert Learning.costs == Reading.costs
    assert Learning.models == ("network",)
    assert Learning.columns == {"architecture": "network"}
    assert Learning.shared["network"]("A") == "a"
    assert Reading.models == ()


def test_class_variables_that_a_class_sets_replace_what_is_collected() -> None:
    assert WithOwnSets.neutral == {"plain"}
    assert WithOwnSets.costs == {"folder", "threads", "noise"}
    assert WithOwnSets.added == {"noise"}
    assert Further.costs == WithOwnSets.costs
    assert Further.neutral == {"plain", "more"}


def test_class_of_several_bases_has_the_facts_of_all() -> None:
    assert Both.neutral == {"threads", "steps"}
    assert Both.costs == Reading.costs


def test_facts_of_a_field_are_no_part_of_its_schema_and_keep_its_constraints() -> None:
    schema = Reading.model_json_schema()["properties"]
    assert schema["threads"] == {
        "default": 0, "minimum": 0, "title": "Threads", "type": "integer",
    }  # fmt: skip
    assert Reading.model_fields["folder"].is_required()


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # of pydantic
def test_setting_named_as_the_revisions_in_a_hash_is_refused() -> None:
    with pytest.raises(TypeError, match=r"setting 'revisions' of Other: .* Rename the setting"):
        create_model("Other", __base__=Reading, revisions=(int, 3))
