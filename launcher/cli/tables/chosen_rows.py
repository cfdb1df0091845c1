"""Results as a person asks for them: means over repetitions, the best ones, in an order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from launcher.cli.output import Cell, long_rows
from launcher.cli.tables.flat_rows import draw_flat, flat_numbers, flat_texts, shown_columns
from launcher.cli.tables.forms import Format, write_table, write_texts
from launcher.errors import UsageError, counted
from launcher.kinds import find_kinds
from launcher.results.columns import RunResults
from launcher.results.directions import lower_is_better
from launcher.results.order import DESCENDING, best, in_order
from launcher.results.over import COUNT, in_step, over
from launcher.screens.format import harmless
from launcher.screens.terminal import terminal_width
from launcher.store.rows import JobRow

_LOW, _HIGH = ":low", ":high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a person asks of the rows; nothing of it: they stay as they are."""

    over: tuple[str, ...] = ()
    best: str = ""
    sort: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.over or self.best or self.sort or self.columns)


def listed(text: str | None) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def chosen(results: RunResults, choice: Choice, jobs: Sequence[JobRow]) -> RunResults:
    """Return the rows that a person asks for, in that order.

    Raises:
        UsageError: a column or a metric that there is not.
    """
    if not results.rows:
        raise UsageError("the run has no results yet; `launcher status` shows how far its jobs are")
    kinds = find_kinds(sorted({job.kind for job in jobs})).kinds
    if choice.over:
        settings: dict[str, str] = {}
        for kind in kinds.values():
            settings |= kind.settings.columns
        joined = over(results, choice.over, settings)
        _say_if_alone(results, joined, choice.over)
        results = joined
    if choice.best:
        metric = choice.best.removesuffix(_LOW).removesuffix(_HIGH)
        low = lower_is_better(metric, kinds.values())
        if choice.best != metric:
            low = choice.best.endswith(_LOW)
        results = best(results, metric, low=low)
        click.echo(
            harmless(f"of each set of data the {'lowest' if low else 'highest'} {metric}"), err=True
        )
    return in_order(results, choice.sort)


def _say_if_alone(before: RunResults, after: RunResults, names: Sequence[str]) -> None:
    """Say so where no two rows were taken together, and which columns keep them apart."""
    if any(row[COUNT] > 1 for row in after.rows):
        return
    also = in_step(before, names)
    hint = f"; these differ with it: --over {','.join([*names, *also])}" if also else ""
    click.echo(
        harmless(
            f"note: no two of {counted(len(after.rows), 'row')} differ in {', '.join(names)} alone{hint}"
        ),
        err=True,
    )


def write_chosen(results: RunResults, choice: Choice, run: str, form: Format) -> None:
    """Write rows that a person has chosen."""
    asked = [choice.best.removesuffix(_LOW).removesuffix(_HIGH)] if choice.best else []
    asked += [name.removeprefix(DESCENDING) for name in choice.sort]
    if choice.columns:
        names = [results.column(name) for name in choice.columns]
        results = _with_columns(results, names)
    else:
        names = shown_columns(results, asked)
    if form is Format.TABLE:
        click.echo(draw_flat(results, names, terminal_width()))
    elif form in {Format.MARKDOWN, Format.LATEX}:
        write_texts(flat_texts(results, names), form, flat_numbers(results, names))
    else:
        if form is Format.TABS:  # what a terminal without an end would show
            results = _with_columns(results, names)
        ordered = [
            {name: row[name] for name in results.names if name in row} for row in results.rows
        ]
        head, *rows = long_rows(ordered) if ordered else [list[Cell](results.names)]
        record = {"schema": 1, "run": run, "rows": ordered}
        write_table([str(name) for name in head], rows, form, record)


def _with_columns(results: RunResults, names: Sequence[str]) -> RunResults:
    return replace(
        results,
        rows=[{name: row.get(name) for name in names} for row in results.rows],
        columns=tuple(name for name in names if name in results.columns),
    )
