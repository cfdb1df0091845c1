"""`trueface unlearned`: the unlearned models of a run compared with their references."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trueface.cli.text_tables import escape_unprintable
from trueface.evaluation.over_seeds import NO_VALUE, seeds_text
from trueface.runtime.errors import UsageError
from trueface.unlearning.evaluation.columns import ATTACKS, Kind, MeasureColumn, columns
from trueface.unlearning.evaluation.published_figures import CIFAR_10, PublishedFigure
from trueface.unlearning.evaluation.shown_measures import PUBLISHED, SCREEN

if (
    TYPE_CHECKING
):  # scikit-learn takes a second to import; help and wrong names must not wait for it
    from trueface.unlearning.evaluation.leaderboard import (
        UnlearningGroup,
        UnlearningLeaderboard,
        UnlearningRow,
    )


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
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
def unlearned(run: str, *, as_json: bool, published: bool, membership: bool) -> None:
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
    """
    # numpy and scipy take a while to import; help must not wait for them
    from trueface.audit.run_folders import resolve_run_folder
    from trueface.cli.studies import missing_models
    from trueface.unlearning.evaluation.leaderboard import make_unlearning_leaderboard

    folder = resolve_run_folder(run)
    board = make_unlearning_leaderboard(folder, missing_models(folder), svc_attacks=membership)
    if not board.groups and not board.troubles:
        raise UsageError(
            f"no unlearned models in {folder}. No model folder has an unlearning.json."
        )
    for trouble in board.troubles:
        click.echo(f"error: {trouble}", err=True)
    if as_json:
        click.echo(json.dumps(_document(board, published=published)))
    elif sys.stdout.isatty():
        print_leaderboard(board, Console(highlight=False), published=published, attacks=membership)
    else:
        _tabbed(board, published=published, attacks=membership)
    if board.troubles:
        raise click.exceptions.Exit(1)


def print_leaderboard(
    board: "UnlearningLeaderboard",
    console: Console,
    *,
    published: bool = False,
    attacks: bool = False,
) -> None:
    """Draw a table of each base, with alarms and notes below it."""
    for group in board.groups:
        console.print(Text(_heading(group), style="bold"))
        header, *rows = _cells(group)
        _show(console, header, rows, left=2)
        for note in _notes(group):
            console.print(Text(note))
        if attacks:
            header, *rows = _attack_rows(group)
            console.print(Text("Membership attacks"))
            _show(console, header, rows, left=2)
            for note in _attack_notes(group):
                console.print(Text(note))
        if published and group.goal == "class":
            header, *rows = _published_rows(group)
            console.print(
                Text("Published for CIFAR-10 and measured here (one class of ten forgotten)")
            )
            _show(console, header, rows, left=2)
        console.print()


def _show(
    console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int
) -> None:
    """Print a table. If it is too wide, print several tables below each other, so that no number is cut."""
    widths = [max(map(len, column)) + 3 for column in zip(header, *rows, strict=True)]
    names, room = list(range(left)), console.width - sum(widths[:left])
    blocks: list[list[int]] = [[]]
    for at in range(left, len(header)):
        if blocks[-1] and sum(widths[index] for index in (*blocks[-1], at)) > room:
            blocks.append([])
        blocks[-1].append(at)
    for block in blocks:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for at in (*names, *block):
            text = at < left or header[at] in {"our verdict", "alarms"}
            table.add_column(header[at], justify="left" if text else "right", no_wrap=not text)
        for row in rows:
            table.add_row(*(Text(row[at]) for at in (*names, *block)))
        console.print(table)


def _tabbed(board: "UnlearningLeaderboard", *, published: bool, attacks: bool) -> None:
    """Print rows for other programs, with a header only where the columns change."""
    last: tuple[str, ...] = ()
    for group in board.groups:
        header, *rows = _cells(group, tabs=True)
        last = _rows_below(last, header, group, rows)
        for note in _notes(group):
            click.echo(note, err=True)
    for number, group in enumerate(board.groups if attacks else ()):
        if not number:
            click.echo()
            last = ()
        header, *rows = _attack_rows(group, tabs=True)
        last = _rows_below(last, header, group, rows)
        for note in _attack_notes(group):
            click.echo(note, err=True)
    of_class = [group for group in board.groups if published and group.goal == "class"]
    for number, group in enumerate(of_class):
        if not number:
            click.echo()
            last = ()
        header, *rows = _published_rows(group, tabs=True)
        last = _rows_below(last, header, group, rows)


def _rows_below(
    last: tuple[str, ...],
    header: tuple[str, ...],
    group: "UnlearningGroup",
    rows: Sequence[Sequence[str]],
) -> tuple[str, ...]:
    if header != last:
        click.echo("\t".join(("base", *header)))
    for row in rows:
        click.echo("\t".join((escape_unprintable(group.base), *row)))
    return header


def _heading(group: "UnlearningGroup") -> str:
    from trueface.unlearning.evaluation.alarms import class_name

    names = [escape_unprintable(class_name(label, group.class_names)) for label in group.forgotten]
    forget_set = {
        "flips": "flipped labels" if group.rate is None else f"{group.rate:.0%} flipped labels",
        "class": f"class {', '.join(names)}",
        "instances": "some images"
        if group.fraction is None
        else f"{100 * group.fraction:.3g}% of the training images",
    }[group.goal]
    suffix = "" if group.known == 1 else f", {group.known:.0%} of them known"
    return f"{escape_unprintable(group.base)}: forget {forget_set}{suffix}"


def _cells(group: "UnlearningGroup", *, tabs: bool = False) -> list[tuple[str, ...]]:
    """Return the header and the rows of a group.

    Args:
        group: methods and references.
        tabs: with the header and the intervals that programs read.
    """
    shown_columns = columns(group.goal, SCREEN[group.goal])
    titles = (column.header if tabs else column.screen for column in shown_columns)
    header = ("method", "verdict", "n" if tabs else "seeds", *titles, "alarms")
    return [header, *(_row(row, shown_columns, tabs=tabs) for row in group.rows)]


def _row(
    row: "UnlearningRow", shown_columns: Sequence[MeasureColumn], *, tabs: bool
) -> tuple[str, ...]:
    return (
        escape_unprintable(row.name),
        row.verdict,
        seeds_text(len(row.seeds), row.missing),
        *(_cell(row, column, tabs=tabs) for column in shown_columns),
        ", ".join(alarm.alarm_kind for alarm in row.alarms),
    )


def _cell(row: "UnlearningRow", column: MeasureColumn, *, tabs: bool) -> str:
    value = row.values.get(column.name)
    if value is None:
        return NO_VALUE
    text = _format_number(value.mean, value.mean, column.kind)
    low, high = row.values.get(f"{column.name}_low"), row.values.get(f"{column.name}_high")
    if value.sd is not None:
        text += f" ± {_format_number(value.sd, value.mean, column.kind)}"
    elif low is not None and high is not None:
        ends = [_format_number(end.mean, value.mean, column.kind) for end in (low, high)]
        text += f" [{', '.join(ends)}]" if tabs else f" ({' to '.join(ends)})"
    return f"{text} (n={len(value.values)})" if value.seeds_note else text


def _format_number(value: float, beside: float, kind: Kind) -> str:
    """Return a number as the screen has it, with the digits that fit another, such as its mean."""
    match kind:
        case "percent":
            return f"{100 * value:.2f}"
        case "score":
            return f"{value:.3f}"
        case "ratio":
            return f"{value:.3f}" if beside < 10 else f"{value:.1f}"
        case "seconds":
            return (
                f"{value:.3f}" if beside < 1 else f"{value:.1f}" if beside < 100 else f"{value:.0f}"
            )
        case _:
            return f"{value:.0f}"


def _notes(group: "UnlearningGroup") -> list[str]:
    alarms = [
        f"alarm: {escape_unprintable(row.name)}: {escape_unprintable(alarm.text)}"
        for row in group.rows
        for alarm in row.alarms
    ]
    broken = [
        f"{escape_unprintable(row.name)}: {escape_unprintable(row.reasons['answers'])}"
        for row in group.rows
        if "answers" in row.reasons
    ]
    row_notes = [
        f"{escape_unprintable(row.name)}: {escape_unprintable(note)}"
        for row in group.rows
        for note in row.notes
    ]
    return [*alarms, *broken, *row_notes, *group.notes]


def _attack_rows(group: "UnlearningGroup", *, tabs: bool = False) -> list[tuple[str, ...]]:
    """Return the header and the rows of the membership attacks; `tabs` as of `_cells`."""
    header = ("method", "verdict", "n" if tabs else "seeds", *(each.screen for each in ATTACKS))
    return [header, *(_row(row, ATTACKS, tabs=tabs)[:-1] for row in group.rows)]


def _attack_notes(group: "UnlearningGroup") -> list[str]:
    """Return the reasons of attacks without a value, each once."""
    notes: dict[str, list[str]] = {}
    for row in group.rows:
        for column in ATTACKS:
            if column.name in row.reasons:
                reason = f"no {column.screen.removesuffix(' %')}: {row.reasons[column.name]}"
                notes.setdefault(reason, []).append(escape_unprintable(row.name))
    return [f"{', '.join(names)}: {escape_unprintable(note)}" for note, names in notes.items()]


def _published_rows(group: "UnlearningGroup", *, tabs: bool = False) -> list[tuple[str, ...]]:
    """Return the published figures, and what we measured of the same methods; `tabs` as of `_cells`."""
    theirs = columns("class", PUBLISHED)
    titles = [column.header if tabs else column.screen for column in theirs]
    header = ("method", "network", *titles, *(f"our {title}" for title in titles), "our verdict")
    ours = {row.method: row for row in group.rows if not row.swept}
    return [
        header,
        *(
            _figure(
                figure,
                ours.get(figure.method) if _is_alike(group, figure) else None,
                theirs,
                tabs=tabs,
            )
            for figure in CIFAR_10
        ),
    ]


def _is_alike(group: "UnlearningGroup", figure: PublishedFigure) -> bool:
    """Return whether a group's model is of the data and network of a published figure."""
    from trueface.unlearning.evaluation.unlearned_models import parsed_id

    base = parsed_id(group.base)
    return (
        base is not None
        and str(base.last.data).startswith("cifar10:")
        and group.network == figure.network.lower()
    )


def _figure(
    figure: PublishedFigure,
    ours: "UnlearningRow | None",
    theirs: Sequence[MeasureColumn],
    *,
    tabs: bool,
) -> tuple[str, ...]:
    accuracies = (figure.retain, figure.forget, figure.test_retain, figure.test_forget)
    seconds = figure.seconds
    return (
        figure.method,
        figure.network,
        *(f"{value:.2f}" for value in accuracies),
        f"{figure.us:.3f}",
        NO_VALUE if seconds is None else _format_number(seconds, seconds, "seconds"),
        *(NO_VALUE if ours is None else _cell(ours, column, tabs=tabs) for column in theirs),
        "" if ours is None else ours.verdict,
    )


def _document(board: "UnlearningLeaderboard", *, published: bool) -> dict[str, Any]:
    document = {
        "schema": 1,
        "run": board.run,
        "groups": [
            {**group._asdict(), "rows": list(map(_row_json, group.rows))} for group in board.groups
        ],
        "troubles": list(board.troubles),
    }
    return document | ({"published": [each._asdict() for each in CIFAR_10]} if published else {})


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
