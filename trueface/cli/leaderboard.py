"""`trueface unlearned`: the unlearned models of a run beside their references."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launcher.api import parse_model
from trueface.audit.reading.model_folders import found_folder
from trueface.cli.text_tables import shown
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.unlearning.evaluation.leaderboard import CIFAR_10, Figure


def _percent(value: float, _: float) -> str:
    return f"{100 * value:.2f}"


def _number(value: float, _: float) -> str:
    return f"{value:.3f}"


def seconds(value: float, beside: float) -> str:
    """Return seconds with the digits that fit the size of `beside`."""
    return f"{value:.3f}" if beside < 1 else f"{value:.1f}" if beside < 100 else f"{value:.0f}"


def _times(value: float, beside: float) -> str:
    return f"{value:.3f}" if beside < 10 else f"{value:.1f}"


def _count(value: float, _: float) -> str:
    return f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A measure as a column of the table."""

    measure: str
    title: str
    # formats a value with the digits that fit another, as a mean's
    text: Callable[[float, float], str]


RETAIN = Column("retain", "retain %", _percent)
VALIDATION = Column("val", "val %", _percent)
TEST = Column("test", "test %", _percent)
US = Column("us", "US", _number)
GAP = Column("gap", "gap points", _percent)
MIA_LOSS = Column("mia_loss", "MIA (loss) %", _percent)
MIA_TPR = Column("mia_tpr", "MIA TPR@1% %", _percent)
RELEARN = Column("relearn", "relearn", _count)
SECONDS = Column("seconds", "time s", seconds)
CACHED_SECONDS = Column("cached_seconds", "cached s", seconds)
OF_RETRAIN = Column("of_retrain", "× retrain", _times)
SAMPLES = Column("samples", "samples", _count)
# the columns of `leaderboard.Figure`
PUBLISHED = (
    Column("retain", "D_r %", _percent),
    Column("forget", "D_f %", _percent),
    Column("test_retain", "D_tr %", _percent),
    Column("test_forget", "D_tf %", _percent),
    US,
    SECONDS,
)
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "flips": (
        RETAIN,
        Column("forget", "forget (wrong) %", _percent),
        Column("forget_true", "forget (true) %", _percent),
        VALIDATION,
        TEST,
        Column("test_tuned", "tuned %", _percent),
        Column("auc", "AUC", _number),
        Column("ece", "ECE", _number),
        Column("recovery", "recovery", _number),
        GAP,
        MIA_LOSS,
        MIA_TPR,
        SECONDS,
        CACHED_SECONDS,
        OF_RETRAIN,
        SAMPLES,
    ),
    "class": (
        *PUBLISHED,
        OF_RETRAIN,
        CACHED_SECONDS,
        SAMPLES,
        Column("probe", "probe %", _percent),
        RELEARN,
        MIA_LOSS,
        MIA_TPR,
        GAP,
    ),
    "instances": (
        RETAIN,
        Column("forget", "forget %", _percent),
        VALIDATION,
        TEST,
        Column("tow", "ToW", _number),
        GAP,
        Column("mia_svc", "MIA (SVC) %", _percent),
        MIA_LOSS,
        MIA_TPR,
        RELEARN,
        SECONDS,
        OF_RETRAIN,
        SAMPLES,
    ),
}

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from trueface.unlearning.evaluation.leaderboard import Group, Ladder, Row, Spread
EXAMPLES = """\b
Examples:
  trueface unlearned poison_study
  trueface unlearned runs/poison_study --json
  trueface unlearned cifar --published
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option(
    "--published",
    is_flag=True,
    help="Also print published figures of class unlearning on CIFAR-10.",
)
def unlearned(run: str, *, as_json: bool, published: bool) -> None:
    """Compare the unlearned models of RUN, a name below runs/ or a path, with their references.

    Rows are means ± standard deviations over seeds: first the model before unlearning and plain
    trainings, then the methods. gap: mean distance to the retrained model on retain, forget, test and
    membership (SVC), in points. cached s: time to compute cached features or importances; time s is
    without it. tuned: test accuracy at the threshold that is best on validation. recovery: fraction of
    the damage that is undone. MIA (loss): accuracy of telling the forgotten from unseen test images by
    their loss; 50 is ideal. MIA TPR@1%: fraction of the forgotten that is recognised at 1 % false
    positives; 1 is chance. US: unlearning score. verdict: why a model is ruined whatever its scores;
    such rows come last. Alarms are further remarks on a row.
    """
    folder = found_folder(run)
    # scikit-learn takes a second to import; help and wrong names must not wait for it
    from trueface.unlearning.evaluation.leaderboard import ladder

    board = ladder(folder)
    for trouble in board.troubles:
        click.echo(f"error: {trouble}", err=True)
    if as_json:
        click.echo(json.dumps(_document(board, published=published)))
    elif sys.stdout.isatty():
        draw(board, Console(highlight=False), published=published)
    else:
        _tabbed(board, published=published)
    if board.troubles:
        raise click.exceptions.Exit(1)


def draw(board: "Ladder", console: Console, *, published: bool = False) -> None:
    """Draw a table of each base, with alarms and notes below it."""
    for group in board.groups:
        console.print(Text(_heading(group), style="bold"))
        header, *rows = _cells(group)
        _show(console, header, rows, left=2)
        for note in _notes(group):
            console.print(Text(note))
        if published and group.goal == "class":
            header, *rows = _beside(group)
            console.print(Text("Published for CIFAR-10, and ours (one class of ten forgotten)"))
            _show(console, header, rows, left=2)
        console.print()


def _show(
    console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int
) -> None:
    """Draw a table; where it is too wide, as several below each other: no number is cut."""
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


def _tabbed(board: "Ladder", *, published: bool) -> None:
    """Print rows for other programs: a header wherever the columns change, and nowhere else."""
    last: tuple[str, ...] = ()
    for group in board.groups:
        header, *rows = _cells(group)
        last = _rows_below(last, header, group, rows)
        for note in _notes(group):
            click.echo(note, err=True)
    of_class = [group for group in board.groups if published and group.goal == "class"]
    for number, group in enumerate(of_class):
        if not number:
            click.echo()
            last = ()
        header, *rows = _beside(group)
        last = _rows_below(last, header, group, rows)


def _rows_below(
    last: tuple[str, ...], header: tuple[str, ...], group: "Group", rows: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    if header != last:
        click.echo("\t".join(("base", *header)))
    for row in rows:
        click.echo("\t".join((shown(group.base), *row)))
    return header


def _heading(group: "Group") -> str:
    # it imports SciPy, for which help and wrong names must not wait
    from trueface.unlearning.evaluation.sanity_checks import class_name

    names = [shown(class_name(label, group.class_names)) for label in group.forgotten]
    what = {
        "flips": "wrong labels" if group.rate is None else f"{group.rate:.0%} wrong labels",
        "class": f"class {', '.join(names)}",
        "instances": "some images"
        if group.fraction is None
        else f"{100 * group.fraction:.3g}% of the training images",
    }[group.goal]
    suffix = "" if group.known == 1 else f", {group.known:.0%} of them known"
    return f"{shown(group.base)}: {what} to be forgotten{suffix}"


def _cells(group: "Group") -> list[tuple[str, ...]]:
    columns = COLUMNS[group.goal]
    header = ("method", "verdict", "n", *(column.title for column in columns), "alarms")
    return [header, *(_row(row, columns) for row in group.rows)]


def _row(row: "Row", columns: Sequence[Column]) -> tuple[str, ...]:
    return (
        shown(row.name),
        row.verdict,
        str(len(row.seeds)),
        *(_cell(row, column) for column in columns),
        ", ".join(alarm.sort for alarm in row.alarms),
    )


def _cell(row: "Row", column: Column) -> str:
    value = row.values.get(column.measure)
    if value is None:
        return NO_VALUE
    text = column.text(value.mean, value.mean)
    low, high = row.values.get(f"{column.measure}_low"), row.values.get(f"{column.measure}_high")
    if value.std is not None:
        text += f" ± {column.text(value.std, value.mean)}"
    elif low is not None and high is not None:
        ends = (column.text(end.mean, value.mean) for end in (low, high))
        text += f" [{', '.join(ends)}]"
    return text if value.n == len(row.seeds) else f"{text} (n={value.n})"


def _notes(group: "Group") -> list[str]:
    alarms = [
        f"alarm: {shown(row.name)}: {shown(alarm.text)}"
        for row in group.rows
        for alarm in row.alarms
    ]
    broken = [
        f"{shown(row.name)}: {shown(row.reasons['answers'])}"
        for row in group.rows
        if "answers" in row.reasons
    ]
    row_notes = [f"{shown(row.name)}: {shown(note)}" for row in group.rows for note in row.notes]
    return [*alarms, *broken, *row_notes, *group.notes]


def _beside(group: "Group") -> list[tuple[str, ...]]:
    """Return the published figures, and what we measured of the same methods."""
    titles = [column.title for column in PUBLISHED]
    header = ("method", "network", *titles, *(f"our {title}" for title in titles), "our verdict")
    ours = {row.method: row for row in group.rows if not row.swept}
    return [
        header,
        *(
            _figure(figure, ours.get(figure.method) if _is_alike(group, figure) else None)
            for figure in CIFAR_10
        ),
    ]


def _is_alike(group: "Group", figure: Figure) -> bool:
    """Tell whether a group's model is of the data and network of a published figure."""
    base = parse_model(group.base).last
    return str(base.data).startswith("cifar10:") and group.network == figure.network.lower()


def _figure(figure: Figure, ours: "Row | None") -> tuple[str, ...]:
    theirs = (figure.retain, figure.forget, figure.test_retain, figure.test_forget)
    return (
        figure.method,
        figure.network,
        *(f"{value:.2f}" for value in theirs),
        f"{figure.us:.3f}",
        NO_VALUE if figure.seconds is None else seconds(figure.seconds, figure.seconds),
        *(NO_VALUE if ours is None else _cell(ours, column) for column in PUBLISHED),
        "" if ours is None else ours.verdict,
    )


def _document(board: "Ladder", *, published: bool) -> dict[str, Any]:
    groups = [
        {**asdict(group), "rows": [_row_json(row) for row in group.rows]} for group in board.groups
    ]
    document = {
        "schema": 1,
        "run": board.run,
        "groups": groups,
        "troubles": list(board.troubles),
    }
    return document | ({"published": [asdict(figure) for figure in CIFAR_10]} if published else {})


def _row_json(row: "Row") -> dict[str, Any]:
    return {
        "method": row.method,
        "told": row.swept,
        "verdict": row.verdict,
        "seeds": list(row.seeds),
        "values": {name: _spread(value) for name, value in row.values.items()},
        "reasons": dict(row.reasons),
        "alarms": [{"sort": str(alarm.sort), "text": alarm.text} for alarm in row.alarms],
        "notes": list(row.notes),
    }


def _spread(value: "Spread") -> dict[str, float | int | None]:
    return {"mean": value.mean, "std": value.std, "n": value.n}
