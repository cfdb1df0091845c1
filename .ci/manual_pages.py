"""Makes the manual pages of the commands from the commands themselves, without the laboratory's packages.

`python .ci/manual_pages.py FOLDER` writes them; `make docs` and the build of a wheel do so.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from launcher.frontends.cli.main import cli as launcher
from trueface.cli.main import COMMANDS
from trueface.cli.main import cli as trueface

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
        listed = _summaries() if command is trueface else _commands(command, context)
        lines += [".SH COMMANDS", *listed]
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


def _summaries() -> Iterator[str]:
    """List the commands of trueface as its help does: some of them import numpy."""
    for name, summary in COMMANDS.items():
        yield f".TP\n\\fB{_plain(name)}\\fR\n{_line(summary)}"


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


def write(folder: Path) -> list[Path]:
    """Write every page into a folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in made]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
