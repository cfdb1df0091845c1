"""Makes the manual pages of docs/man from the commands themselves.

`python -m tests.packaging.manual_pages` writes them anew.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from launcher.cli.main import cli as launcher
from trueface.cli.main import cli as trueface

FOLDER = Path(__file__).parents[2] / "docs" / "man"
AS_IT_STANDS = "\b"  # click's sign before lines that are not filled


def pages() -> dict[str, str]:
    """Return the text of each manual page by its file's name."""
    made = {}
    for name, group in (("launcher", launcher), ("trueface", trueface)):
        above = click.Context(group, info_name=name, **group.context_settings)
        made[f"{name}.1"] = page(group, above)
    above = click.Context(launcher, info_name="launcher", **launcher.context_settings)
    for verb in launcher.list_commands(above):
        command = launcher.get_command(above, verb)
        assert command is not None, verb
        made[f"launcher-{verb}.1"] = page(command, _below(command, above, verb))
    return made


def page(command: click.Command, context: click.Context) -> str:
    """Return the manual page of a command in the language of man(7)."""
    path = context.command_path
    title = path.replace(" ", "-")
    summary = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        f'.TH "{_plain(title.upper())}" "1" "" "launcher" "launcher and trueface"',
        f".SH NAME\n{_plain(title)} \\- {_plain(summary)}",
        f".SH SYNOPSIS\n\\fB{_plain(path)}\\fR "
        + _plain(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        ".SH OPTIONS",
        *_options(command, context),
    ]
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS", *_commands(command, context)]
    if command.epilog:
        lines += [".SH NOTES", *_paragraphs(command.epilog)]
    others = "launcher(1), trueface(1), launcher-doctor(1)"
    return "\n".join([*lines, f".SH SEE ALSO\n{_plain(others)}", ""])


def _below(command: click.Command, above: click.Context, name: str) -> click.Context:
    return click.Context(command, parent=above, info_name=name, **command.context_settings)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield f".TP\n\\fB{_plain(record[0])}\\fR\n{_line(record[1])}"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = _below(command, context, name)
        usage = " ".join([name, *command.collect_usage_pieces(inner)])
        yield f".TP\n\\fB{_plain(usage)}\\fR\n{_line(command.get_short_help_str(limit=200))}"


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == AS_IT_STANDS:
            yield "\n".join([".nf", *map(_line, lines[1:]), ".fi"])
        else:
            yield "\n".join(_line(line.strip()) for line in lines)


def _line(text: str) -> str:
    """Return text as a line of its own; one that begins as a request of roff does is no request."""
    plain = _plain(text)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def _plain(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped)


def write() -> None:
    """Write every page, and remove those of commands that are no more."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.iterdir():
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
