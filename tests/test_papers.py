"""docs/papers.yaml names commands, modules and settings that exist, or says why a part is missing."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import click
import pytest
import yaml

from launcher.experiments.kinds import installed_kinds
from launcher.frontends.cli.main import cli as launcher
from tests.documents import TREE
from trueface.cli.main import cli as trueface

PAPERS = TREE / "docs" / "papers.yaml"
LEAST_WORDS = 4  # words of a reason

Place = str | Mapping[str, Mapping[str, Any]]


def rows() -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of the file, each with its system."""
    systems = yaml.safe_load(PAPERS.read_text(encoding="utf-8"))
    return [(system["system"], row) for system in systems for row in system["rows"]]


def places() -> Iterator[Place]:
    """Give all commands, modules and settings that the file names."""
    for _, row in rows():
        yield from row.get("here", ())


def words(prefixes: tuple[str, ...]) -> list[str]:
    """Return the named texts that start with one of the prefixes."""
    return [place for place in places() if isinstance(place, str) and place.startswith(prefixes)]


SETTINGS = [place for place in places() if not isinstance(place, str)]
COMMANDS = words(("launcher ", "trueface ", "python "))
MODULES = [place for place in places() if isinstance(place, str) and place not in COMMANDS]


def test_every_row_names_a_place_or_a_reason() -> None:
    for system, row in rows():
        assert row.keys() <= {"part", "here", "not_here"}, (system, row)
        assert bool(row.get("here")) != bool(row.get("not_here")), (system, row)
        assert row.get("here") or len(row["not_here"].split()) >= LEAST_WORDS, (system, row)


def test_no_part_is_listed_twice() -> None:
    keys = [(system, row["part"]) for system, row in rows()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("text", COMMANDS)
def test_named_command_and_its_options_exist(text: str) -> None:
    program, *rest = text.split()
    if program == "python":
        assert rest[0] == "-m"
        assert importlib.util.find_spec(rest[1]) is not None
        return
    command: click.Command = {"launcher": launcher, "trueface": trueface}[program]
    while isinstance(command, click.Group) and rest:
        found = command.get_command(click.Context(command), rest.pop(0))
        assert found is not None, text
        command = found
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known
    assert all((TREE / word).is_file() for word in rest if word.startswith("tasks/"))


@pytest.mark.parametrize("module", MODULES)
def test_named_module_exists(module: str) -> None:
    assert module.endswith(".py")
    assert (TREE / module).is_file()


@pytest.mark.parametrize("place", SETTINGS, ids=str)
def test_named_job_type_accepts_the_settings(place: Mapping[str, Mapping[str, Any]]) -> None:
    ((kind, settings),) = place.items()
    schema = installed_kinds((kind,))[kind].settings
    required = {name: "x" for name, field in schema.model_fields.items() if field.is_required()}
    given = schema.model_validate({**required, **settings}).model_dump()
    assert settings.keys() <= given.keys(), settings
