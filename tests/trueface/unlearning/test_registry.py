"""What is read from the methods' text is what their files register when they are imported."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError
from trueface.unlearning import methods, registry
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import (
    METHODS,
    MODULES,
    Situation,
    load,
    modules_of,
    register_method,
    unusable,
)

HEAD = """\
import torch
from pydantic import Field
from trueface.runtime.field_types import Count
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.registry import register_method

class MineOptions(DescentOptions):
    rounds: Count = Field(3, description="of it")

"""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_registers_what_was_read_from_its_text(name: str) -> None:
    loaded = load(name)
    own, read = loaded.method.hyperparameters, METHODS[name].hyperparameters
    assert replace(loaded.method, hyperparameters=read) == METHODS[name]
    assert own.model_json_schema() == read.model_json_schema()
    assert own().model_dump() == read().model_dump()
    assert loaded.function.__module__ == own.__module__ or own.__module__.endswith(
        "unlearning.hyperparameters"
    )


def test_every_function_that_a_file_decorates_is_a_method() -> None:
    for name in METHODS:
        load(name)
    assert set(registry._LOADED) == set(METHODS) == set(METHODS.declared)


def test_names_of_methods_stay() -> None:
    names = "corrected exact expand finetune fisher iwu lau ng npo pgu potion relabel restart"
    assert list(METHODS) == [*names.split(), "retrain", "rl", "salun", "scrub", "shrink", "ssd"]


def test_the_module_of_a_method_is_the_file_that_decorates_it() -> None:
    for name in METHODS:
        (module,) = modules_of(name)
        assert module.startswith("trueface.unlearning.methods.")
        assert load(name).function.__module__ == module
        assert hasattr(import_module(module), load(name).function.__name__)


def test_methods_are_known_without_torch() -> None:
    program = (
        "import sys, trueface.jobs.kinds, trueface.jobs.classes.kinds\n"
        "from trueface.unlearning.registry import METHODS\n"
        "assert METHODS['scrub'].hyperparameters().alpha == 0.001\n"
        "print(*(name for name in sys.modules if 'unlearning.methods' in name or name == 'torch'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not ended.stdout.strip()


def test_a_file_more_is_a_method_more(tmp_path: Path) -> None:
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
        ('"My-Own", summary="s", hyperparameters=MineOptions', "take lower-case letters and digits"),
        ('"mine", summary="s", hyperparameters=MineOptions, needs={"money"}', "'money'"),
        ('"mine", summary="s", hyperparameters=MineOptions, goals={"all"}', "'all'"),
    ],
)  # fmt: skip
def test_a_declaration_of_no_method_is_refused_with_file_and_line(
    tmp_path: Path, arguments: str, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(f"{HEAD}@register_method({arguments})\ndef mine(r): ...\n")
    read = read_folder(tmp_path, registry.PACKAGE, "register_method", modules=MODULES)
    ((_, declaration),) = read.items()
    with pytest.raises(DeclarationError) as caught:
        declaration.pass_to(register_method)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.py'}:10: ")
    assert reason in str(caught.value)


def test_two_files_do_not_share_a_name(tmp_path: Path) -> None:
    text = (
        '@register_method("mine", summary="ours", hyperparameters=MineOptions)\ndef mine(r): ...\n'
    )
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(HEAD + text)
    with pytest.raises(DeclarationError) as caught:
        read_folder(tmp_path, registry.PACKAGE, "register_method", modules=MODULES)
    assert all(str(tmp_path / name) in str(caught.value) for name in ("a.py", "b.py"))


def test_a_decorator_that_was_not_read_is_refused() -> None:
    for name in ("mine", "scrub"):  # a new one elsewhere; one that stands in another file
        with pytest.raises(ValueError, match="was not read: write it above a function"):

            @register_method(name, summary="ours", hyperparameters=Options)
            def mine(request: object) -> None:
                del request


def test_each_file_of_the_room_registers_a_method() -> None:
    folder = Path(str(methods.__file__)).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {modules_of(name)[0].split(".")[3] for name in METHODS}


def why_not(method: str, goal: Any = "flips", **facts: Any) -> str:
    return unusable(method, Situation(goal=goal, **facts)) or ""


def test_nothing_known_by_name_leaves_nothing_to_forget() -> None:
    for rate in (0.2, 0.5):
        assert "not one flipped label is known" in why_not("scrub", rate=rate, known=0)


def test_half_of_all_labels_wrong_and_unknown_cannot_be_found() -> None:
    assert "50% of the labels" in why_not("relabel", rate=0.5, known=0, finding=True)
    assert not why_not("relabel", rate=0.5, known=0.5, finding=True)  # a third is left
    assert not why_not("relabel", rate=0.2, known=0, finding=True)


def test_a_layer_attack_on_two_classes_is_refused() -> None:
    for goal in ("flips", "class", "instances"):
        assert "of two classes" in why_not("lau", goal, classes=2)
    for method in ("rl", "shrink", "retrain"):
        assert "of two classes one would be left" in why_not(method, "class", classes=2)
    assert "only relabel" in why_not("lau", "flips")
    assert "forget nothing" in why_not("lau", "instances")
    assert not why_not("lau", "class", classes=3)


def test_projection_against_random_flips_is_refused_and_against_a_patch_is_not() -> None:
    assert "hardly any of its step is left" in why_not("pgu", rate=0.2)
    assert not why_not("pgu", rate=0.2, random=False)
    assert not why_not("pgu", "class", classes=10)


@pytest.mark.parametrize("method", ["relabel", "corrected"])
def test_putting_labels_right_needs_wrong_ones(method: str) -> None:
    assert "no label is flipped" in why_not(method, "class", classes=3)


@pytest.mark.parametrize(
    "method", sorted(name for name, method in METHODS.items() if "retain set" in method.needs)
)
def test_a_method_that_reads_what_is_kept_says_so(method: str) -> None:
    assert "given none" in why_not(method, "class", classes=3, retain=False)


def test_a_method_that_needs_true_labels_says_so() -> None:
    assert "true labels" in why_not("relabel", true=False)


@given(
    st.floats(0.01, 1), st.floats(0, 1), st.sampled_from(sorted(METHODS)),
    st.sampled_from(["flips", "class", "instances"]), st.booleans(), st.integers(2, 100),
)  # fmt: skip
def test_a_share_of_hidden_wrong_labels_stays_a_share(
    rate: float, known: float, method: str, goal: Any, finding: bool, classes: int
) -> None:
    situation = Situation(goal=goal, rate=rate, known=known, finding=finding, classes=classes)
    assert 0 <= situation.hidden <= 1
    reason = unusable(method, situation)
    assert reason is None or (reason and reason == reason.strip() and not reason.endswith("."))
