import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from launcher.kind_interface import Settings
from launcher.kinds import COMMAND, installed
from launcher.taskfile.schema.json_schema_types import settings_of
from launcher.taskfile.schema.reference import in_words
from tests.launcher.conftest import Launcher
from tests.launcher.toylab import Toy, laboratory
from tests.terminal import in_a_terminal


def test_every_installed_kind_is_listed(launcher: Launcher) -> None:
    lines = [line.split("\t") for line in launcher("kinds").out.splitlines()]
    assert [line[0] for line in lines] == list(installed())
    assert [
        "command",
        "plain",
        "run any program",
        "launcher",
        "argv,cwd,env,inputs,outputs",
    ] in lines
    train = next(line for line in lines if line[0] == "train")
    assert train[1:4] == ["train", "train a detector, or fine-tune one", "trueface"]
    assert {"lr", "num_epochs", "seed"} <= set(train[4].split(","))


def test_a_named_kind_tells_its_settings(launcher: Launcher) -> None:
    lines = [line.split("\t") for line in launcher("kinds", "train", "command").out.splitlines()]
    assert {len(line) for line in lines} == {6}
    by_name = {(line[0], line[1]): line[2:] for line in lines}
    assert list(installed()["train"].settings.model_fields) == [
        name for kind, name in by_name if kind == "train"
    ]
    assert by_name["train", "num_epochs"] == [
        "a whole number, at least 1",
        "100",
        "passes over the training images",
        "training_epochs",
    ]
    assert by_name["train", "data_root"][1] == "(required)"
    assert by_name["train", "jpeg_qual"][:2] == [
        "a whole number or a list of 2 whole numbers",
        "[75, 75]",
    ]
    assert by_name["command", "argv"][:2] == ["a list of at least 1 texts", "(required)"]


def test_json_has_the_same(launcher: Launcher) -> None:
    whole = json.loads(launcher("kinds", "--json").out)
    assert whole["schema"] == 1
    assert [kind["name"] for kind in whole["kinds"]] == list(installed())
    (command,) = (kind for kind in whole["kinds"] if kind["name"] == "command")
    names = [setting["name"] for setting in command["settings"]]
    assert names == ["argv", "cwd", "env", "inputs", "outputs"]
    (kind,) = json.loads(launcher("kinds", "train", "train", "--json").out)["kinds"]
    assert (kind["role"], kind["package"]) == ("train", "trueface")
    by_name = {setting["name"]: setting for setting in kind["settings"]}
    assert by_name["optimizer"] == {
        "name": "optimizer",
        "type": "adam or adamw or sgd",
        "required": False,
        "default": "adam",
        "description": "update rule",
        "old_names": [],
    }
    assert by_name["split_path"]["required"] is True
    assert by_name["lr"]["old_names"] == ["learning_rate"]


def test_an_unknown_kind_is_an_error_with_a_hint(launcher: Launcher) -> None:
    answer = launcher("kinds", "trian")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: unknown kind 'trian', did you mean train?")


@pytest.mark.parametrize("width", [70, 100])
@pytest.mark.usefixtures("home")
def test_a_terminal_is_not_overrun(width: int) -> None:
    table = in_a_terminal("kinds", columns=width)
    assert table.splitlines()[0].split() == ["KIND", "ROLE", "PACKAGE", "WHAT", "IT", "DOES"]
    page = in_a_terminal("kinds", "train", "poison", columns=width)
    assert max(map(len, (table + page).splitlines())) <= width
    first, second = page.split("\n\n")
    assert first.startswith("train (train, of trueface): train a detector, or fine-tune one\n")
    assert second.splitlines()[1].split() == ["SETTING", "DEFAULT", "WHAT", "IT", "IS"]
    assert "(old name: training_epochs)" in " ".join(first.split())


# --- types in words


class Inner(BaseModel):
    """A model within settings."""

    side: int


class EverySettings(Settings):
    """One setting of each type."""

    whole: int = 1
    bounded: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    flag: bool = False
    text: str = ""
    maybe: int | None = None
    choice: Literal["a", "b", 3] = "a"
    only: Literal["a"] = "a"
    one_or_two: float | tuple[float, float] = 1.0
    mixed: tuple[int, str] = (1, "a")
    bounded_pair: tuple[float, float] = (0.0, 1.0)
    texts: tuple[str, ...] = ()
    some: list[int] = Field(default_factory=list, min_length=2)
    counts: list[bool] = Field(default_factory=list)
    inner: Inner | None = None
    inners: list[Inner] = Field(default_factory=list)
    table: Mapping[str, int] = Field(default_factory=dict)
    anything: Any = None
    path: Path = Path()


WORDS = {
    "whole": "a whole number",
    "bounded": "a whole number from 1 to 9",
    "share": "a number, more than 0 and less than 1",
    "flag": "true or false",
    "text": "a text",
    "maybe": "a whole number or null",
    "choice": "a or b or 3",
    "only": "a",
    "one_or_two": "a number or a list of 2 numbers",
    "mixed": "a list of a whole number, a text",
    "bounded_pair": "a list of 2 numbers",
    "texts": "a list of texts",
    "some": "a list of at least 2 whole numbers",
    "counts": "a list, each true or false",
    "inner": "a mapping or null",
    "inners": "a list, each a mapping",
    "table": "a mapping",
    "anything": "anything",
    "path": "a text",
}


def test_every_type_has_plain_words() -> None:
    kind = laboratory()["train"]
    assert isinstance(kind, Toy)
    every = Toy(name="every", role=kind.role, entry=kind.entry, settings=EverySettings)
    told = {name: in_words(form) for name, form in settings_of(every).items()}
    assert told == WORDS


def test_the_settings_of_every_installed_kind_have_plain_words() -> None:
    for kind in (*installed().values(), *laboratory().values(), COMMAND):
        for name, form in settings_of(kind).items():
            assert in_words(form), f"{kind.name}.{name}"
