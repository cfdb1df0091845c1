"""`trueface audit`: find what went wrong in an experiment."""

import json
from pathlib import Path

import click

from trueface.audit import finding
from trueface.audit.check import judge
from trueface.audit.reading import Reader


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the images.  [default: from the run]",
)
@click.option(
    "--split-path",
    type=click.Path(path_type=Path, exists=True),
    help="Folder or file of the split.  [default: from the run]",
)
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    help="Time limit for comparing image files, in seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit(
    run: str, *, data_root: Path | None, split_path: Path | None, seconds: float, as_json: bool
) -> None:
    """Find mistakes in an experiment.

    RUN is the name of a folder in runs/, or the path of a run or a model. Runs of the original system
    are read too. The exit code is 1 if there is a fault; warnings do not count.

    \b
    Examples:
      trueface audit study
      trueface audit runs/study --data-root data --seconds 120
    """
    reader = Reader(data_root=data_root, split_path=split_path, seconds=seconds)
    audited = judge(reader.run(run))
    if as_json:
        click.echo(json.dumps(audited.as_json(), indent=1, ensure_ascii=False))
    else:
        for line in finding.lines(audited):
            click.echo(line)
    if audited.faults:
        raise click.exceptions.Exit(1)
