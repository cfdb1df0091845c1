"""The message of a wrong command line: one line, in the form of every other error."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

import click

from launcher.frontends.screens.option_answers import other_command, other_spelling, swapped_words
from launcher.system.errors import nearest
from launcher.system.lazy_regex import compile_lazily

_PAIR = compile_lazily(r"[A-Za-z_][\w.-]*=[^ ]+")


def usage_message(
    error: click.ClickException,
    words: Sequence[str] = (),
    commands: Collection[str] = (),
    *,
    program: str = "launcher",
    other_names: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the message for a wrong command line, without `error: ` in front.

    Args:
        error: error as click raised it.
        words: the command line without the name of the program.
        commands: names of all commands; the first of them in `words` is named in the advice of an error
            that click raised without a context.
        program: the name of the program, for the same advice.
        other_names: command or option of another tool → command lines that do the same.
    """
    if isinstance(error, click.exceptions.NoSuchCommand):
        return _no_command(error, words, other_names or {})
    if isinstance(error, click.NoSuchOption):
        return _describe_unknown_option(error, words, other_names or {})
    if isinstance(error, click.MissingParameter):
        return _describe_missing(error)
    if isinstance(error, click.BadParameter):
        swapped = swapped_words(words, error)
        return f"{_parameter(error)}{_lowercase_first(error.message)}{swapped and f'. {swapped}'}"
    message = _lowercase_first(error.format_message().removeprefix("Got "))
    if not isinstance(error, click.UsageError):
        return message
    if error.ctx and (hint := set_hint(message.rpartition("(")[2].removesuffix(")"), error.ctx)):
        return f"{_end_sentence(message)} {hint}"
    command = next((word for word in words if word in commands), None)
    if error.ctx is None and command:
        return f"{_end_sentence(message)} See: {program} {command} --help"
    return f"{_end_sentence(message)} {_help_hint(error.ctx)}" if error.ctx else message


def set_hint(word: str, context: click.Context | None) -> str:
    """Return how `KEY=VALUE` is written for a command that has the option --set; '' for another word or command."""
    options = context.command.params if context else []
    if not _PAIR.fullmatch(word) or not any("--set" in option.opts for option in options):
        return ""
    return f"To set a value: --set {shlex.quote(word)}"


def _no_command(
    error: click.exceptions.NoSuchCommand,
    words: Sequence[str],
    other_names: Mapping[str, Sequence[str]],
) -> str:
    group = error.ctx.command if error.ctx else None
    names = group.list_commands(error.ctx) if error.ctx and isinstance(group, click.Group) else []
    suggestion = _suggest_name(error.command_name, names) or _help_hint(error.ctx)
    advice = _other_command(error.command_name, error.ctx, words, other_names) or suggestion
    return f"no command {error.command_name!r}. {advice}"


def _other_command(
    name: str,
    context: click.Context | None,
    words: Sequence[str],
    other_names: Mapping[str, Sequence[str]],
) -> str:
    is_command_of_program = context is not None and context.parent is None
    return other_command(name, words, other_names) if is_command_of_program else ""


def _describe_unknown_option(
    error: click.NoSuchOption, words: Sequence[str], other_names: Mapping[str, Sequence[str]]
) -> str:
    options = error.ctx.command.get_params(error.ctx) if error.ctx else []
    by_word = {word.lstrip("-"): word for option in options for word in option.opts}
    # all names begin with dashes, which would make them alike
    close = nearest(error.option_name.lstrip("-"), by_word)
    suggestion = f"Did you mean {by_word[close]!r}?" if close else _help_hint(error.ctx)
    answer = _other_command(error.option_name, error.ctx, words, other_names)
    advice = answer or other_spelling(error.option_name, error.ctx) or suggestion
    return f"no option {error.option_name!r}. {advice}"


def _describe_missing(error: click.MissingParameter) -> str:
    parameter = error.param
    if parameter is None:
        return f"missing argument {_parameter_hint(error)}. {_help_hint(error.ctx)}".rstrip()
    what = "option" if isinstance(parameter, click.Option) else "argument"
    choices = parameter.type.get_missing_message(param=parameter, ctx=error.ctx)
    choice = f" {' '.join(choices.split())}." if choices else ""
    return f"missing {what} {_name(parameter)}.{choice} {_help_hint(error.ctx)}"


def _suggest_name(name: str, names: Iterable[str]) -> str:
    close = nearest(name, names)
    return f"Did you mean {close!r}?" if close else ""


def _help_hint(context: click.Context | None) -> str:
    return f"See: {context.command_path} --help" if context else ""


def _parameter(error: click.BadParameter) -> str:
    name = _parameter_hint(error) or (_name(error.param) if error.param else "")
    return f"{name}: " if name else ""


def _parameter_hint(error: click.BadParameter) -> str:
    """Return the name of the parameter that whoever raised the error gave it; '' if none."""
    hint = error.param_hint or ""
    return (hint if isinstance(hint, str) else " / ".join(hint)).replace("'", "")


def _name(parameter: click.Parameter) -> str:
    """Return an option's longest spelling, or an argument's name as help prints it."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name.removesuffix("…")


def _lowercase_first(message: str) -> str:
    """Return a message that follows a colon: its first letter is small, unless it begins an abbreviation."""
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _end_sentence(message: str) -> str:
    return message if message.endswith((".", "?", "!")) else f"{message}."
