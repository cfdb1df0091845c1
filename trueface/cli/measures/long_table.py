"""Long tables as CSV: one number a line."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from launcher.api import write_atomic

STANDARD_OUTPUT = "-"


def write_csv(out: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically to a file, or to the standard output where `out` is "-"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    if out == STANDARD_OUTPUT:
        click.echo(text.getvalue(), nl=False)
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())
    click.echo(path, err=True)
