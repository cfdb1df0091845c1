"""Answers to commands and options of other tools: how the launcher writes the same, or which command does it."""

import re
import shlex
from collections.abc import Mapping, Sequence

import click

_FORMATS = {
    "tex": "latex",
    "md": "markdown",
    "tsv": "tabs",
    "txt": "table",
}  # other names of formats
_COLUMNS = frozenset({"cols", "column", "fields", "output", "o"})  # other names of --columns
_HOST = frozenset({"host", "bind", "address", "ip", "listen"})
_ALL_JOBS = "'run:*'"  # the pattern of all jobs
# words of an answer that the user's own words replace
_REPLACED = frozenset({"FILE", "JOB", "PROGRAM", "RUN", "SQL", "TOPIC", "WORD"})


def other_command(
    typed_text: str, words: Sequence[str], other_names: Mapping[str, Sequence[str]]
) -> str:
    """Return the sentence that answers a command, or an option for one, of another tool; '' if it is of none.

    Args:
        typed_text: Command or option as typed.
        words: Command line without the name of the program.
        other_names: Name in another tool → command lines that do the same, without the name of the program.
    """
    lines = other_names.get(typed_text)
    if not lines:
        return ""
    given = [*words[words.index(typed_text) + 1 :]] if typed_text in words else []
    if any(word.startswith("-") for word in given):  # options of the other tool
        given = []

    def fill(line: str) -> str:
        placeholders = re.findall("[A-Z]{2,}", line)
        if not given or len(placeholders) != 1 or placeholders[0] not in _REPLACED:
            return line
        return line.replace(placeholders[0], shlex.join(given))

    return f"In launcher: {' or '.join(f'launcher {fill(line)}' for line in lines)}"


def other_spelling(typed_text: str, context: click.Context | None) -> str:
    """Return the sentence that answers an option which a command does not have; '' if there is none.

    Args:
        typed_text: Option as typed, with its dashes.
        context: Context of the command.
    """
    if context is None:
        return ""
    word, path = typed_text.lstrip("-"), context.command_path
    options = {name: option for option in context.command.params for name in option.opts}
    if (formats := options.get("--format")) and isinstance(formats.type, click.Choice):
        name = _FORMATS.get(word, word)
        if name in formats.type.choices:
            return f"Write --format {name}."
    if word in _COLUMNS and "--columns" in options:
        return "Write --columns NAMES, such as --columns id,name."
    arguments = {option.name for option in context.command.params} & {"patterns", "words"}
    if word == "all" and arguments:
        return f"To name all jobs: {path} {_ALL_JOBS}"
    if word in _HOST and path.endswith(" web"):
        return (
            "The page is served on this machine only. To use it from another machine, run the ssh command there "
            "that launcher web prints."
        )
    if word == "since" and path.endswith(" status"):
        return "To count past jobs: launcher history --since 1h. To list ended jobs: launcher status --all"
    return ""


def swapped_words(words: Sequence[str], error: click.BadParameter) -> str:
    """Return the command line with the number in front, if jobs were written before it; '' otherwise.

    Args:
        words: Command line without the name of the program.
        error: Fault of the argument NUMBER.
    """
    numbers = [word for word in words if re.fullmatch(r"-?\d+", word)]
    is_number = isinstance(error.param, click.Argument) and error.param.name == "number"
    if not is_number or len(numbers) != 1 or error.ctx is None or words[-1] != numbers[0]:
        return ""
    first, *more = (word for word in words[1:] if word != numbers[0])
    if error.ctx.command.name != "priority" or not first[:1].isalpha():
        return ""
    return f"Write the number first: launcher priority {shlex.join([*numbers, first, *more])}"


def columns_hint(word: str, context: click.Context | None) -> str:
    """Return how several columns are written, if the word behind --columns may be one; '' otherwise."""
    options = context.command.params if context is not None else []
    option = next((each for each in options if "--columns" in each.opts), None)
    given = context.params.get(option.name or "") if context is not None and option else None
    if not given or not word.isidentifier():
        return ""
    if isinstance(given, str):  # any column of a run
        return f"For several columns: --columns {shlex.quote(f'{given},{word}')}"
    # the columns of the command that has these
    from launcher.frontends.screens.job_columns import JOB_COLUMNS

    names = [column.name for column in given]
    if word not in JOB_COLUMNS or word in names:
        return ""
    return f"Write columns with commas: --columns {','.join([*names, word])}"
