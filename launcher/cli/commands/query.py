"""`launcher query`: a question in SQL to a database of results."""

from pathlib import Path

import click

from launcher.cli.complete import FILES
from launcher.cli.option_types import span
from launcher.cli.tables import chosen_form, form_options, write_table
from launcher.results.database.ask import ask
from launcher.results.database.schema import Cell
from launcher.results.database.write import update
from launcher.screens.format import harmless
from launcher.store.client import open_queue

LIMIT_S = 60.0


@click.command()
@click.argument("sql")
@click.option(
    "--db",
    "database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=FILES,
    help="The database, as `launcher results RUN --db FILE` wrote it; without it, one of all runs of "
    "the queue, brought up to date first.",
)
@click.option(
    "--time-limit",
    "limit_s",
    type=span(bare=True),
    default=LIMIT_S,
    metavar="TIME",
    help="Give up after this time.  [default: 60s]",
)
@form_options
def command(
    sql: str, database: Path | None, limit_s: float, form: str | None, as_json: bool
) -> None:
    """Print the answer to SQL, one SELECT, from a database of results; nothing can be changed.

    Tables: runs, jobs, attempts, settings, metrics, scores, epochs, errors, homes. Views: results (one
    row a model and data set), best (by run, data and metric), failures. Full text of errors and logs:
    errors_fts.

    \b
    Examples:
      launcher query "select model, data, auc from results order by auc desc"
      launcher query --db results.sqlite "select * from best" --format latex
      launcher query "select job, error from failures" --json
    """
    shape = chosen_form(form, as_json=as_json)
    if database is None:
        with open_queue() as (home, store):
            database = update(home, store, _note)
    answer = ask(database, sql, limit_s=limit_s)
    record = {
        "schema": 1,
        "columns": answer.columns,
        "rows": [
            dict(zip(answer.columns, map(_json_cell, row), strict=True)) for row in answer.rows
        ],
    }
    write_table(answer.columns, answer.rows, shape, record)


def _json_cell(cell: Cell) -> Cell:
    return cell.hex() if isinstance(cell, bytes) else cell  # as SQLite's hex() has it


def _note(text: str) -> None:
    click.echo(f"note: {harmless(text)}", err=True)
