"""Wrong command lines: one line in the form of every other error, with what to do."""

import click
import pytest
from click.testing import CliRunner

from launcher.frontends.screens.usage_errors import usage_message


@click.group()
def tool() -> None:
    """Group of commands."""


@tool.command()
@click.argument("name")
@click.option("--size", "-s", type=int)
@click.option("--state", type=click.Choice(["on", "off"]), required=True)
@click.option("--all", "everything", is_flag=True)
def show(name: str, size: int, state: str, *, everything: bool) -> None:
    """Command with one argument and three options."""


@tool.command()
@click.argument("path", type=click.Path(exists=True))
def read(path: str) -> None:
    """Command that reads a file."""


def message(*words: str) -> str:
    answer = CliRunner().invoke(tool, words, standalone_mode=False)
    assert isinstance(answer.exception, click.ClickException)
    return usage_message(answer.exception, words, tool.commands)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shwo"], "no command 'shwo'. Did you mean 'show'?"),
        (["polish"], "no command 'polish'. See: tool --help"),
        (["show", "--sise", "1"], "no option '--sise'. Did you mean '--size'?"),
        (["show", "--colour"], "no option '--colour'. See: tool show --help"),
        (["show", "x", "--size", "big"], "--size: 'big' is not a valid integer."),
        (["show", "x", "-s", "big"], "--size: 'big' is not a valid integer."),
        (["show", "x", "--state", "of"], "--state: 'of' is not one of 'on', 'off'."),
        (["show", "x"], "missing option --state. Choose from: on, off. See: tool show --help"),
        (["show", "--state", "on"], "missing argument NAME. See: tool show --help"),
        (
            ["show", "x", "y", "--state", "on"],
            "unexpected extra argument (y). See: tool show --help",
        ),
        (["read", "nowhere"], "PATH: path 'nowhere' does not exist."),
    ],
)
def test_usage_error_has_one_line_and_a_hint(words: list[str], said: str) -> None:
    assert message(*words).replace("\n", " ") == said


def test_error_without_context_names_the_command() -> None:
    error = click.UsageError("Option '--size' requires an argument.")
    assert usage_message(error, ["show", "--size"], {"show", "read"}) == (
        "option '--size' requires an argument. See: launcher show --help"
    )
    assert usage_message(error, ["show", "--size"], {"show"}, program="tool") == (
        "option '--size' requires an argument. See: tool show --help"
    )
    assert usage_message(error) == "option '--size' requires an argument."


def test_missing_argument_is_named_by_its_hint() -> None:
    error = click.MissingParameter(param_hint="'PROGRAM', or --from FILE", param_type="argument")
    assert usage_message(error) == "missing argument PROGRAM, or --from FILE."


def test_parameter_hint_is_used_unchanged() -> None:
    assert usage_message(click.BadParameter("Too small", param_hint="'--size'")) == (
        "--size: too small"
    )
    hinted = click.BadParameter("URL is wrong", param_hint=["-s", "--size"])
    assert usage_message(hinted) == "-s / --size: URL is wrong"
