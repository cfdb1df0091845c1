"""`launcher kinds`: the installed kinds of jobs, and the settings of each."""

import json
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import click

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import find_kinds
from launcher.experiments.planning.missing_packages import missing_packages
from launcher.experiments.taskfile.schema.json_schema import task_schema
from launcher.experiments.taskfile.schema.reference import reference
from launcher.experiments.taskfile.schema.value_descriptions import settings
from launcher.frontends.cli.complete import offer_kinds
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.option_types import flag, json_option
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.system.errors import MachineError, UnknownName, UsageError
from launcher.system.files import write_atomic
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextTable, line, text_columns

_LEAST = 24  # columns for the words at a line's end; a narrower terminal breaks the lines itself
_MOST_DEFAULT = 24  # columns


@launcher_command(
    heading="Reference",
    place=20,
)
@click.argument("names", nargs=-1, metavar="[KIND]…", shell_complete=offer_kinds)
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List job types and their settings.

    KIND is the name of a job type, the word `kind:` of a task file. With KIND, each of its settings is
    described. `launcher schema` prints the same for editors.

    In a pipe, tab-separated: name, role, summary, package, settings. With KIND: kind, setting, type,
    default, description, old names.

    \b
    Examples:
      launcher kinds
      launcher kinds train poison --json
    """
    usable = _load_usable_kinds(names)
    for name in names:
        if name not in usable:
            raise UnknownName("kind", name, usable)
    kinds = [usable[name] for name in dict.fromkeys(names)] or list(usable.values())

    def draw_lines(width: int) -> list[TextLine]:
        if not names:
            return _table(kinds).to_lines(width)
        return [row for kind in kinds for row in (line(""), *_page(kind, width))][1:]

    answer = CommandOutput(
        record=lambda: {
            "kinds": [
                {
                    **dict(zip(("name", "role", "summary", "package"), _line(kind), strict=True)),
                    "settings": [setting.to_json() for setting in settings(kind)],
                }
                for kind in kinds
            ]
        },
        rows=lambda: _rows(kinds, whole=bool(names)),
        draw_lines=draw_lines,
    )
    print_output(answer, as_json=as_json)


def _load_usable_kinds(wanted_names: Collection[str] = ()) -> dict[str, Kind]:
    """Return the kinds that can be loaded, and say on stderr which cannot, or cannot work here.

    Raises:
        UsageError: one of the wanted kinds cannot be loaded.
    """
    installed = find_kinds()
    if reasons := [reason for name, reason in installed.unusable.items() if name in wanted_names]:
        raise UsageError("; ".join(reasons))
    shown = [
        kind for name, kind in installed.kinds.items() if not wanted_names or name in wanted_names
    ]
    _warn((*installed.unusable.values(), *missing_packages(shown)))
    return installed.kinds


def _warn(reasons: Iterable[str]) -> None:
    for reason in reasons:
        print_stderr(f"warning: {sanitize_terminal(reason)}")


def _rows(kinds: Iterable[Kind], *, whole: bool) -> Iterator[tuple[str, ...]]:
    """Give the lines for pipes: one for each kind, or one for each of its settings."""
    for kind in kinds:
        if not whole:
            yield (*_line(kind), ",".join(kind.settings.model_fields))
        else:
            yield from ((kind.name, *setting.cells()) for setting in settings(kind))


def _line(kind: Kind) -> tuple[str, str, str, str]:
    module = kind.entry or type(kind).__module__
    return kind.name, kind.role, kind.summary, module.partition(":")[0].partition(".")[0]


def _table(kinds: Sequence[Kind]) -> TextTable:
    rows = []
    for kind in kinds:
        name, role, summary, package = _line(kind)
        rows.append((name, role, package, summary))
        rows.append(("", "", "", f"settings: {', '.join(kind.settings.model_fields)}"))
    return TextTable(text_columns("KIND", "ROLE", "PACKAGE", "DESCRIPTION", least=_LEAST), rows)


def _page(kind: Kind, width: int) -> list[TextLine]:
    """Return all of a kind for a terminal."""
    name, role, summary, package = _line(kind)
    rows = []
    for setting in settings(kind):
        key, takes, default, description, old = setting.cells()
        if len(default) > _MOST_DEFAULT:
            default = f"{default[: _MOST_DEFAULT - 1]}…"
        values = f"{takes}; old name: {old}" if old else takes
        rows.append((key, default, f"{description} ({values})" if description else values))
    table = TextTable(
        text_columns("SETTING", "DEFAULT", "DESCRIPTION", least=_LEAST), rows, whole=True
    )
    head = textwrap.wrap(sanitize_terminal(f"{name} ({role}, {package}): {summary}"), width)
    return [*map(line, head), *table.to_lines(width)]


@launcher_command(
    heading="Reference",
    place=30,
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to FILE instead of standard output.",
)
@flag("--markdown", help="Print a reference in Markdown instead of the schema.")
def schema(out: Path | None, markdown: bool) -> None:
    """Print the JSON Schema of task files.

    Editors with a YAML language server use the schema to complete and check task files. Write the schema
    to the folder of the task files, and begin each task file with this line:

    \b
      # yaml-language-server: $schema=task.schema.json

    \b
    Examples:
      launcher schema --out tasks/task.schema.json
      launcher schema | jq '."$defs"."train.lr"'
      launcher schema --markdown --out reference.md
    """
    installed = find_kinds()
    _warn(installed.unusable.values())
    if markdown:
        text = reference(installed.kinds).rstrip("\n")
    else:
        text = json.dumps(task_schema(installed.kinds), indent=1, ensure_ascii=False)
    if out is None:
        click.echo(text)
        return
    try:
        write_atomic(out, f"{text}\n")
    except OSError as error:
        raise MachineError(
            f"cannot write {out} ({error.strerror}). Name another file with --out."
        ) from error
    print_stderr(f"wrote {out}")
