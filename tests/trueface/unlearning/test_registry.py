"""What is read from the methods' text is what their files register, and what jobs may set of them."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError
from trueface.unlearning import methods, registry
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import (
    METHODS,
    MODULES,
    TaskProperties,
    explain_unusable,
    load,
    plugin_modules,
    register_method,
)
from trueface.unlearning.settings import KEYS, ForgetSettings, UnlearnSettings, options_among

HEAD = """\
import torch
from pydantic import Field
from trueface.runtime.field_types import Count
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.registry import register_method

class MineOptions(DescentOptions):
    rounds: Count = Field(3, description="of it")

"""


def test_method_names_are_stable_and_each_is_in_the_file_that_decorates_it() -> None:
    names = "corrected exact expand finetune fisher iwu lau ng npo pgu potion relabel restart"
    assert list(METHODS) == [*names.split(), "retrain", "rl", "salun", "scrub", "shrink", "ssd"]
    for name in METHODS:
        (module,) = plugin_modules(name)
        assert load(name).function.__module__ == module
        assert hasattr(import_module(module), load(name).function.__name__)
    assert set(registry._LOADED) == set(METHODS) == set(METHODS.declared)
    folder = Path(str(methods.__file__)).parent
    files = {f"{methods.__name__}.{path.stem}" for path in folder.glob("[!_]*.py")}
    assert files == {plugin_modules(name)[0] for name in METHODS}


def test_additional_file_adds_a_method(tmp_path: Path) -> None:
    text = (
        '@register_method("mine", summary="ours", hyperparameters=MineOptions)\ndef mine(r): ...\n'
    )
    (tmp_path / "mine.py").write_text(HEAD + text)
    read = read_folder(tmp_path, registry.PACKAGE, "register_method", modules=MODULES)
    method = read["mine"].pass_to(register_method)
    assert method.summary == "ours"
    assert method.hyperparameters().model_dump()["rounds"] == 3
    assert set(method.goals) == {"flips", "class", "instances"}
    assert read["mine"].module == "trueface.unlearning.methods.mine"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('"mine", hyperparameters=MineOptions', "missing 1 required keyword-only argument: 'summary'"),
        ('"mine", summary="s", hyperparameters=MineOptions, goal="class"', "keyword argument 'goal'"),
        ('"My-Own", summary="s", hyperparameters=MineOptions', "a name must be a lower-case letter"),
        ('"mine", summary="s", hyperparameters=MineOptions, needs={"money"}', "'money'"),
        ('"mine", summary="s", hyperparameters=MineOptions, goals={"all"}', "'all'"),
    ],
)  # fmt: skip
def test_invalid_method_declaration_is_rejected_with_file_and_line(
    tmp_path: Path, arguments: str, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(f"{HEAD}@register_method({arguments})\ndef mine(r): ...\n")
    read = read_folder(tmp_path, registry.PACKAGE, "register_method", modules=MODULES)
    ((_, declaration),) = read.items()
    with pytest.raises(DeclarationError) as caught:
        declaration.pass_to(register_method)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.py'}:10: ")
    assert reason in str(caught.value)


def test_two_files_with_one_name_are_rejected(tmp_path: Path) -> None:
    text = (
        '@register_method("mine", summary="ours", hyperparameters=MineOptions)\ndef mine(r): ...\n'
    )
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(HEAD + text)
    with pytest.raises(DeclarationError) as caught:
        read_folder(tmp_path, registry.PACKAGE, "register_method", modules=MODULES)
    assert all(str(tmp_path / name) in str(caught.value) for name in ("a.py", "b.py"))


def test_decorator_that_was_not_read_is_rejected() -> None:
    for name in ("mine", "scrub"):  # a new one elsewhere; one declared in another file
        with pytest.raises(ValueError, match=r"was not read\. Use it as a decorator"):

            @register_method(name, summary="ours", hyperparameters=Options)
            def mine(request: object) -> None:
                del request


@pytest.mark.parametrize(
    ("method", "goal", "facts", "reason"),
    [
        ("scrub", "flips", {"rate": 0.2, "known": 0}, "no flipped label is known"),
        ("scrub", "flips", {"rate": 0.5, "known": 0}, "no flipped label is known"),
        ("relabel", "flips", {"rate": 0.5, "known": 0, "finding": True}, "50% of the other labels"),
        ("relabel", "flips", {"rate": 0.5, "known": 0.5, "finding": True}, None),  # a third is left
        ("relabel", "flips", {"rate": 0.2, "known": 0, "finding": True}, None),
        ("lau", "flips", {"classes": 2}, "if there are two classes"),
        ("lau", "class", {"classes": 2}, "of two classes"),
        ("lau", "instances", {"classes": 2}, "of the two classes"),
        ("rl", "class", {"classes": 2}, "forgetting one of two classes leaves one class"),
        ("shrink", "class", {"classes": 2}, "forgetting one of two classes leaves one class"),
        ("retrain", "class", {"classes": 2}, "forgetting one of two classes leaves one class"),
        ("lau", "flips", {}, "only relabel"),
        ("lau", "instances", {}, "forget nothing"),
        ("lau", "class", {"classes": 3}, None),
        ("pgu", "flips", {"rate": 0.2}, "almost no gradient remains"),
        ("pgu", "flips", {"rate": 0.2, "random": False}, None),  # a patch
        ("pgu", "class", {"classes": 10}, None),
        ("relabel", "class", {"classes": 3}, "no label is flipped"),
        ("corrected", "class", {"classes": 3}, "no label is flipped"),
        ("relabel", "flips", {"true": False}, "true labels"),
        *(
            (
                name,
                "class",
                {"classes": 3, "retain": False},
                "needs the images to keep, and they are not available",
            )
            for name, method in METHODS.items()
            if "retain set" in method.needs
        ),
    ],
)
def test_method_states_the_goals_it_cannot_serve(
    method: str, goal: Any, facts: dict[str, Any], reason: str | None
) -> None:
    found = explain_unusable(method, TaskProperties(goal=goal, **facts))
    assert found is None if reason is None else reason in (found or "")


PLACE = {"data_root": "data", "split_path": "splits"}


def test_every_hyperparameter_is_a_setting() -> None:
    fields = set(UnlearnSettings.model_fields)
    for name, method in METHODS.items():
        assert len(KEYS[name]) == len(method.hyperparameters.model_fields)
        assert KEYS[name] <= fields


def test_omitted_values_default_to_those_of_the_method() -> None:
    for name, method in METHODS.items():
        settings = UnlearnSettings.model_validate({**PLACE, "method": name, "lr": 0.5})
        assert settings.options == method.hyperparameters()  # `lr` is that of a training


def test_new_setting_of_a_method_is_in_the_hash_only_if_it_is_set() -> None:
    for kind, place in ((UnlearnSettings, PLACE), (ForgetSettings, {"data_root": "data"})):
        usual = kind.model_validate({**place, "method": "pgu"}).model_dump()
        assert "pgu_rule" in kind.decisive(usual)
        assert "pgu_stop_rule" not in kind.decisive(usual)
        chosen = {**usual, "pgu_stop_rule": "class"}
        assert kind.decisive(chosen) == {**kind.decisive(usual), "pgu_stop_rule": "class"}


def test_common_and_specific_settings_reach_the_method() -> None:
    settings = UnlearnSettings.model_validate(
        {**PLACE, "method": "scrub", "unlearn_epochs": "2", "scrub_alpha": "0.5", "lau_alpha": 1}
    )
    assert settings.options == METHODS["scrub"].hyperparameters.model_validate(
        {"epochs": 2, "alpha": 0.5}
    )


BOTH = {"method": "pgu", "pgu_loss": "max_entropy", "pgu_stop_rule": "class"}


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"method": "pgu", "pgu_loss2": 3}, {"pgu_loss2"}),
        ({"method": "pgu", "pgu_rule": "class"}, set()),
        ({"method": "pgu", "pgu_rule": "instances"}, {"pgu_most_loss"}),
        ({"method": "pgu", "pgu_loss": "relabel"}, {"pgu_offset", "pgu_loss1", "pgu_loss2"}),
        ({"method": "pgu", "pgu_loss": "max_entropy"}, set()),
        ({"method": "pgu", "pgu_loss": "max_entropy", "pgu_loss1": 0}, {"pgu_offset"}),
        ({"method": "pgu", "pgu_loss1": 0}, {"pgu_loss1", "pgu_loss2", "pgu_offset"}),
        (
            {"method": "pgu", "pgu_rule": "class", "pgu_loss1": 0, "pgu_loss2": 0},
            {"pgu_loss1", "pgu_offset"},
        ),
        ({"method": "pgu", "pgu_rule": "class", "pgu_loss1": 0}, {"pgu_offset"}),
        ({"method": "pgu", "pgu_stop_rule": "class"}, {"pgu_loss2"}),
        ({"method": "pgu", "pgu_stop_rule": "instances"}, {"pgu_loss2", "pgu_most_loss"}),
        ({"method": "pgu", "pgu_rule": "class", "pgu_stop_rule": "depoison"}, set()),
        ({**BOTH, "pgu_rule": "instances"}, {"pgu_rule"}),
        ({**BOTH, "pgu_rule": "class"}, set()),  # it protects one more direction
        (
            {**BOTH, "pgu_loss": "relabel", "pgu_rule": "depoison"},
            {"pgu_rule", "pgu_offset", "pgu_loss1", "pgu_loss2"},
        ),
        ({"method": "rl"}, {"rl_redraw"}),
        ({"method": "scrub"}, set()),
    ],
)
def test_settings_without_effect_on_flipped_labels_of_a_detector_are_known(
    given: dict[str, object], idle: set[str]
) -> None:
    settings = UnlearnSettings.model_validate({**PLACE, **given})
    of_methods = frozenset().union(*KEYS.values())
    assert of_methods.intersection(UnlearnSettings.without_effect(settings.model_dump())) == idle


def test_reasons_name_settings_as_task_files_do() -> None:
    settings = UnlearnSettings.model_validate({**PLACE, **BOTH, "pgu_rule": "instances"})
    reasons = UnlearnSettings.without_effect(settings.model_dump())
    assert reasons["pgu_rule"] == "pgu_loss and pgu_stop_rule decide instead of it"


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"method": "pgu"}, set()),
        ({"method": "pgu", "pgu_loss1": 0}, {"pgu_offset"}),
        ({"method": "pgu", "pgu_loss1": 0, "pgu_loss2": 0}, {"pgu_loss1", "pgu_offset"}),
        ({"method": "pgu", "forget_fraction": 0.1}, {"pgu_most_loss"}),
        ({"method": "pgu", "forget_fraction": 0.1, "pgu_stop_rule": "class"}, set()),
        ({"method": "pgu", "pgu_stop_rule": "instances"}, {"pgu_most_loss"}),
        ({**BOTH, "pgu_rule": "class"}, {"pgu_rule"}),
        ({**BOTH, "pgu_rule": "depoison"}, set()),  # it protects one direction less
        ({"method": "rl"}, set()),
    ],
)
def test_settings_without_effect_on_forgetting_are_known_without_the_number_of_classes(
    given: dict[str, object], idle: set[str]
) -> None:
    settings = ForgetSettings.model_validate({"data_root": "data", **given})
    of_methods = frozenset().union(*KEYS.values())
    assert of_methods.intersection(ForgetSettings.without_effect(settings.model_dump())) == idle


@pytest.mark.parametrize(
    "wrong", [{"scrub_alpha": -1}, {"unlearn_epochs": 0}, {"lau_pgd": "most"}, {"scrub_alfa": 1}]
)
def test_wrong_value_or_name_is_rejected_when_the_file_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UnlearnSettings.model_validate({**PLACE, "method": "relabel", **wrong})


def test_value_that_a_method_does_not_accept_is_rejected() -> None:
    with pytest.raises(ValidationError):
        options_among("potion", {"potion_trials": 0})


def test_every_setting_describes_itself_and_its_default() -> None:
    for key in frozenset().union(*KEYS.values()):
        text = UnlearnSettings.model_fields[key].description
        assert text
        assert key.startswith("unlearn_") or text.startswith(f"{key.partition('_')[0]}: ")
