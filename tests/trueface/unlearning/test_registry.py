"""What is read from the methods' text is what their files register when they are imported."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from trueface.runtime.declarations import read_folder
from trueface.runtime.errors import DeclarationError
from trueface.unlearning import methods, registry
from trueface.unlearning.hyperparameters import Options
from trueface.unlearning.registry import METHODS, MODULES, load, modules_of, register_method

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
    assert set(registry._LOADED) == set(METHODS) == set(registry._DECLARATIONS)


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
    method = read["mine"].pass_to(register_method).method
    assert method.summary == "ours"
    assert method.hyperparameters().model_dump()["rounds"] == 3
    assert method.goals == {"flips", "class", "instances"}
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
    assert files == {modules_of(name)[0].split(".")[3] for name in METHODS} - {"pgu"}
