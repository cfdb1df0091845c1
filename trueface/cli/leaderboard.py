"""`trueface unlearned`: the unlearned models of a run compared with their references."""

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trueface.cli.studies import (
    STANDARD_OUTPUT,
    csv_option,
    json_option,
    latex_option,
    missing_models,
    table_records,
    write_csv,
)
from trueface.cli.text_tables import escape_unprintable, latex_tables, tab_lines
from trueface.report.study_table import NUMBER_COLUMNS
from trueface.runtime.errors import UsageError
from trueface.unlearning.evaluation.published_figures import CIFAR_10

if (
    TYPE_CHECKING
):  # scikit-learn takes a second to import; help and wrong names must not wait for it
    from trueface.report.study_table import StudyTable
    from trueface.unlearning.evaluation.leaderboard import (
        UnlearningLeaderboard,
        UnlearningRow,
    )

CSV_HEADER = (
    "base", "method", "seeds", *NUMBER_COLUMNS, "verdict", "alarms",
)  # fmt: skip


@click.command()
@click.argument("run", metavar="RUN")
@json_option
@latex_option
@csv_option
@click.option(
    "--published",
    is_flag=True,
    help="Also print published figures of class unlearning on CIFAR-10.",
)
@click.option(
    "--membership",
    is_flag=True,
    help="Also run the attacks of SVC-MIA, and print all membership attacks in a table.",
)
def unlearned(
    run: str,
    *,
    as_json: bool,
    latex: bool,
    csv_out: str | None,
    published: bool,
    membership: bool,
) -> None:
    """Compare unlearned models with their references.

    RUN is the name of a folder in runs/, or a path. Rows are means ± standard deviations over seeds:
    first the model before unlearning and retrained models, then the methods.

    \b
    Columns:
      avg gap        mean distance to the retrained model, in percentage points:
                     retain, forget, test and membership (SVC)
      time           time of the method, without cached features and importances
      cached         time to compute cached features or importances
      test (tuned)   test accuracy at the threshold that is best on validation
      recovery       fraction of the damage that is undone
      MIA (loss)     accuracy of a membership attack by the loss; 50 is a guess
      MIA TPR@1%FPR  forgotten images found at 1 % false positives; 1 is a guess
      US             unlearning score
      verdict        why a model is unusable whatever its scores; such rows come last
      alarms         further remarks on a row

    The table of --membership has one column per attack. An SVC on correctness, confidence, entropy,
    modified entropy or probability gives the fraction of forgotten images classified as non-members.
    The column "members by entropy" is the fraction that a regression classifies as members.

    \b
    Examples:
      trueface unlearned poison_study
      trueface unlearned runs/poison_study --json
      trueface unlearned cifar --published
      trueface unlearned cifar --membership
      trueface unlearned cifar --csv cifar.csv
    """
    # numpy and scipy take a while to import; help must not wait for them
    from trueface.audit.run_folders import resolve_run_folder
    from trueface.report.unlearning_tables import (
        attacks_table,
        methods_table,
        published_table,
        terminal_table,
    )
    from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard

    folder = resolve_run_folder(run)
    board = make_unlearning_leaderboard(folder, missing_models(folder), svc_attacks=membership)
    if not board.groups and not board.troubles:
        raise UsageError(
            f"no unlearned models in {folder}. No model folder has an unlearning.json."
        )
    for trouble in board.troubles:
        click.echo(f"error: {trouble}", err=True)
    kinds = (
        [*map(terminal_table, board.groups)],
        [*map(attacks_table, board.groups if membership else ())],
        [published_table(group) for group in board.groups if published and group.goal == "class"],
    )
    if csv_out is not None:
        tables = (methods_table(group).without_empty() for group in board.groups)
        write_csv(csv_out, CSV_HEADER, tables)
    if as_json:
        document = _document(board, with_published=published)
        click.echo(json.dumps({**document, "tables": table_records(chain(*kinds))}))
    elif latex:
        click.echo(latex_tables(chain(*kinds)))
    elif sys.stdout.isatty() and csv_out != STANDARD_OUTPUT:
        print_leaderboard(
            board, Console(highlight=False), with_published=published, attacks=membership
        )
    elif csv_out != STANDARD_OUTPUT:
        _print_lines(kinds)
    if board.troubles:
        raise click.exceptions.Exit(1)


def print_leaderboard(
    board: "UnlearningLeaderboard",
    console: Console,
    *,
    with_published: bool = False,
    attacks: bool = False,
) -> None:
    """Draw a table of each base, with alarms and notes below it."""
    from trueface.report.unlearning_tables import attacks_table, published_table, terminal_table

    for group in board.groups:
        _print_table(console, terminal_table(group), style="bold")
        if attacks:
            _print_table(console, attacks_table(group))
        if with_published and group.goal == "class":
            _print_table(console, published_table(group))
        console.print()


def _print_table(console: Console, table: "StudyTable", *, style: str = "") -> None:
    """Print a table. If it is too wide, print several tables below each other, so that no number is cut."""
    console.print(Text(escape_unprintable(table.title), style=style))
    header = table.plain_titles
    rows = [[*map(escape_unprintable, row)] for row in table.plain_cells()]
    left = next(at for at in range(len(header)) if at not in table.texts)
    widths = [max(map(len, column)) + 3 for column in zip(header, *rows, strict=True)]
    names, room = list(range(left)), console.width - sum(widths[:left])
    blocks: list[list[int]] = [[]]
    for at in range(left, len(header)):
        if blocks[-1] and sum(widths[index] for index in (*blocks[-1], at)) > room:
            blocks.append([])
        blocks[-1].append(at)
    for block in blocks:
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for at in (*names, *block):
            text = at in table.texts
            drawn.add_column(header[at], justify="left" if text else "right", no_wrap=not text)
        for row in rows:
            drawn.add_row(*(Text(row[at]) for at in (*names, *block)))
        console.print(drawn)
    for note in table.notes:
        console.print(Text(escape_unprintable(note)))


def _print_lines(kinds: "Iterable[Sequence[StudyTable]]") -> None:
    """Print tables for other programs, an empty line between kinds of tables, and their notes to stderr."""
    for number, tables in enumerate(filter(None, kinds)):
        if number:
            click.echo()
        click.echo("\n".join(tab_lines(tables)))
        for table in tables:
            for note in table.notes:
                click.echo(escape_unprintable(note), err=True)


def _document(board: "UnlearningLeaderboard", *, with_published: bool) -> dict[str, Any]:
    document = {
        "schema": 1,
        "run": board.run,
        "groups": [
            {**group._asdict(), "rows": list(map(_row_json, group.rows))} for group in board.groups
        ],
        "troubles": list(board.troubles),
    }
    return document | (
        {"published": [each._asdict() for each in CIFAR_10]} if with_published else {}
    )


def _row_json(row: "UnlearningRow") -> dict[str, Any]:
    return {
        "method": row.method,
        "told": row.swept,
        "verdict": row.verdict,
        "seeds": list(row.seeds),
        "missing": dict(row.missing),
        "values": {
            name: {"mean": value.mean, "std": value.sd, "n": len(value.values)}
            for name, value in row.values.items()
        },
        "reasons": dict(row.reasons),
        "alarms": [{"sort": str(alarm.alarm_kind), "text": alarm.text} for alarm in row.alarms],
        "notes": list(row.notes),
    }
