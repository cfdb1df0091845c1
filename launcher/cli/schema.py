"""`launcher schema`: the language of task files, for an editor or a reader."""

import json
from pathlib import Path

import click

from launcher.cli.reference import reference
from launcher.errors import MachineError
from launcher.kinds import installed
from launcher.records import write_atomic
from launcher.schema import task_schema


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there instead."
)
@click.option("--markdown", is_flag=True, help="The reference of all words, for a reader.")
def command(out: Path | None, markdown: bool) -> None:
    """Print a JSON Schema of task files, made from the installed kinds.

    With it an editor that has a YAML language server completes and checks task files as they are
    typed. The schema lies beside them, and the first line of each file is:

    \b
      # yaml-language-server: $schema=task.schema.json

    \b
    Examples:
      launcher schema --out tasks/task.schema.json
      launcher schema | jq '."$defs"."train.lr"'
      launcher schema --markdown --out reference.md
    """
    if markdown:
        text = reference(installed()).rstrip("\n")
    else:
        text = json.dumps(task_schema(installed()), indent=1, ensure_ascii=False)
    if out is None:
        click.echo(text)
        return
    try:
        write_atomic(out, f"{text}\n")
    except OSError as error:
        raise MachineError(f"cannot write {out}: {error.strerror}; name another --out") from error
    click.echo(f"wrote {out}", err=True)
