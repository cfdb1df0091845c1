"""`launcher results` prints results of runs or writes a database; `launcher query` runs SQL on it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from launcher.experiments.kind_interface import Kind
from launcher.experiments.results.averages import (
    average_over,
    covarying_columns,
    notes_of_groups,
    notes_of_means,
)
from launcher.experiments.results.best import best_rows, count_equal, rank_trials
from launcher.experiments.results.database_questions import run_query
from launcher.experiments.results.metric import Metric
from launcher.experiments.results.metric_direction import (
    Direction,
    direction_of,
    split_direction,
    unknown_direction,
)
from launcher.experiments.results.model_columns import ModelIndex, named_columns, shown_settings
from launcher.experiments.results.number_notes import (
    left_out_note,
    mixed_unit_notes,
    number_notes,
)
from launcher.experiments.results.pivot import Pivot, ResultMetrics, metrics_of_rows, pivot
from launcher.experiments.results.result_jobs import (
    ResultCounts,
    ResultJob,
    count_results,
    result_jobs,
)
from launcher.experiments.results.returned_rows import (
    ReturnedValues,
    read_returned_values,
    returned_rows,
    silent_jobs,
    trial_mark,
    with_sources,
)
from launcher.experiments.results.rows import kinds_of, results_of, unreadable_results
from launcher.experiments.results.table import (
    COUNT,
    DATA,
    DESCENDING,
    ROW_KEY_COLUMNS,
    VERDICT,
    RunResults,
    sort_rows,
)
from launcher.experiments.results.write import query_all_runs, write_run
from launcher.experiments.search.run_trials import RunSearches
from launcher.frontends.cli.column_tables import (
    answer_table,
    default_columns,
    flat_table,
    pivot_table,
)
from launcher.frontends.cli.complete import offer_files, offer_runs
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.job_selection import optional_patterns, pattern_command, select
from launcher.frontends.cli.option_types import span, whole_number
from launcher.frontends.cli.output import (
    Format,
    choose_format,
    form_options,
    long_rows,
    write,
)
from launcher.frontends.cli.plain_tables import NO_RESULTS, Row, is_plain, plain_tables
from launcher.frontends.cli.result_tables import GUIDE, draw, table_of_tests
from launcher.frontends.cli.search_results import jobs_of_rows, repeated_names, repeating_command
from launcher.frontends.screens.code_notes import different_code_notes
from launcher.frontends.screens.command_output import CommandOutput
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import PROGRAM, PROGRAM_RUN
from launcher.queue.store.client import find_run_jobs, open_queue
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.job_selection import RUN_PREFIX
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import SearchRow, end_text
from launcher.system.errors import UsageError, pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal, shell_line
from launcher.system.text_table import TextTable, line

MOST_NOTES = 5  # notes on means from which values are missing; each row has its own
TIME_LIMIT = "60s"  # time limit of a query
TO_PRINT = (
    ". A program reports results when it prints `launcher: acc=0.91`, or "
    "`launcher: step=3 total=10 loss=0.2` while it runs."
)
_BEST = "--best {}"  # the option in a message


class RowSelection(NamedTuple):
    """The selected means, best rows, order and columns; by default rows are unchanged."""

    over: tuple[str, ...] = ()
    best: str = ""  # as typed: a metric, perhaps with a direction
    sort: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    top: int | None = None

    def metric(self, results: RunResults) -> tuple[str, Direction | None]:
        """Return the metric by which the best rows are chosen, and its direction if one is typed.

        Raises:
            UsageError: there is no such metric.
        """
        names = results.metrics
        if self.best in names and self.best.rpartition(":")[0] not in names:
            return self.best, None  # also if the metric's name ends like a direction
        metric, direction = split_direction(self.best, _BEST)
        return results.metric(metric), direction


@pattern_command(
    heading="Results",
    place=10,
    other_names={"RUN": "export metrics"},
)
@click.argument("run", required=False, shell_complete=offer_runs)
@optional_patterns
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Print one row per model and data set, without pooling.",
)
@click.option(
    "--all-jobs",
    is_flag=True,
    help="Also print jobs that a newer job replaced.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="Print one metric, models × data: auc, balanced_accuracy, eer, …",
)
@click.option(
    "--over",
    metavar="COLUMN",
    help="Average over this column, such as seed: mean ± standard deviation, count, and the 95 % interval "
    "of the mean.",
)
@click.option(
    "--best",
    metavar="METRIC",
    help="Print only the best row per data set. METRIC:min or METRIC:max sets the direction.",
)
@click.option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN sorts highest first.")
@click.option(
    "--top",
    metavar="N",
    type=whole_number(1),
    help="Print only the first N rows of --sort, or the N best rows per data set of --best.",
)
@click.option("--columns", "names", metavar="NAMES", help="Comma-separated list of columns.")
@click.option(
    "--db",
    "database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=offer_files,
    help="Write the run to an SQLite file, new or updated, instead of printing it.",
)
@form_options
def command(
    run: str | None,
    patterns: tuple[str, ...],
    everything: bool,
    all_jobs: bool,
    metric: str | None,
    over: str | None,
    best: str | None,
    sort: str | None,
    top: int | None,
    names: str | None,
    database: Path | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Print the results of a run as a table.

    One row per model, or per program with its parameters and the numbers that it reported last. Without
    RUN, the newest run that tests models, or the newest run if none does. PATTERN selects jobs of the run.
    Each name has one row: its newest job with a result. A note counts older results and jobs without a result.

    Intervals are 95 % confidence intervals. Real images are tested together with each set of fakes of the
    same modifier. CSV, JSON and Parquet contain all columns in full precision: parts of the model, seed, and
    settings that differ. Image folders that jobs made, such as purified ones, have a table of their own.

    \b
    Examples:
      launcher results quickstart
      launcher results quickstart --metric balanced_accuracy --format csv
      launcher results sweep --over seed --sort -auc --format latex
      launcher results sweep --best loss --top 5
      launcher results sweep --best gain:max
      launcher results sweep --db results.sqlite
    """
    choice = RowSelection(
        over=_split_names(over),
        best=best or "",
        sort=_split_names(sort),
        columns=_split_names(names),
        top=top,
    )
    if top is not None and not (choice.best or choice.sort):
        raise UsageError(
            f"--top {top}: no column to sort by. Add --sort -COLUMN (highest first) or --best METRIC."
        )
    shape, chooses = choose_format(form, as_json=as_json), any(choice)
    with open_queue() as (home, store):
        every = _run_of(store, run)
        searches = store.searches.all({row.run_id for row in every})
        if searches and metric is None and not (over or everything or database):
            choice = choice._replace(over=repeated_names(searches))
            chooses = any(choice)
        if database is not None:
            if chooses or metric is not None or form or as_json or patterns or all_jobs:
                raise UsageError(
                    "--db writes the whole run and cannot be combined with other options or a PATTERN. "
                    "To select rows afterwards: launcher query --db FILE SQL"
                )
            written = write_run(
                database, home, store, every[0].run_id, trial_marks=_read_trial_marks
            )
            print_stderr(f"{database}: {pluralize(written, 'new or changed row')}")
            return
        superseded = newest_by_superseded(store.database.execute, every)
        of_run = result_jobs(home, store, every, all_jobs=all_jobs)
        matching = _select_matching(home, store, every, of_run, patterns, all_jobs=all_jobs)
        jobs, kinds = [each.job for each in matching], kinds_of(every)
        now = [each.newest for each in matching]
        models = ModelIndex([each.job.spec_without_sources for each in of_run], kinds)
        results = results_of(jobs, models, now)
        wanted = metric is not None or chooses or not results.rows
        returned = read_returned_values(home, store, jobs, kinds) if wanted else []
        code_notes = different_code_notes(store, jobs)
        missing_trials = [end_text(each) for each in searches if each.failed]
        of_searches = _read_searches(store, searches)
    silent = silent_jobs(returned, [each.job for each in matching if each.has_result])
    counts = count_results(matching, tests=bool(results.rows), silent_count=len(silent))
    found = RunOutcome(every[0].run, results, returned, now, kinds, of_searches)
    missing = [
        *missing_trials,
        *number_notes(returned),
        *mixed_unit_notes(returned),
        *filter(None, [left_out_note(returned)]),
    ]
    try:
        answer, again = _build_output(found, choice, metric, shape, everything=everything)
    except UsageError:  # a metric may be missing for one of these reasons
        _print_notes(missing)
        raise
    if answer is None:
        hint = TO_PRINT if any(job.kind == PROGRAM for job in jobs) and not missing else ""
        print_stderr(f"{NO_RESULTS}{hint}")
        _print_notes(missing)
        return
    write(_with_counts(answer, counts, returned), shape)
    if again:
        print_stderr(again)
    of_tests = not all(map(is_plain, results.rows))
    if metric is None and not chooses and shape is Format.TABLE and of_tests:
        click.echo(f"\n{GUIDE}", err=True)
    inferred = sum(bool(each.read_from) for each in returned)
    if metric is not None and inferred:  # other tables have a column for the notes
        _note(
            f"numbers of {inferred:,} of {pluralize(len(returned), 'job')} were read from the log"
        )
    _print_notes(missing)
    if replaced := 0 if all_jobs or patterns else len(superseded):
        _note(f"newer jobs replaced {pluralize(replaced, 'older job')}. To print all: --all-jobs")
    if of_searches.has_front:
        shown = shell_line([RUN_PREFIX + every[0].run])
        _note(
            "a search has several metrics. To list the trials of which none is better in each: "
            f"launcher show {shown}"
        )
    if results.rows or returned:
        _print_notes((*counts.notes(), *code_notes))


def _read_searches(store: Store, searches: Sequence[SearchRow]) -> RunSearches:
    if not searches:
        return RunSearches()
    # definitions of searches, which most runs lack
    from launcher.experiments.search.run_searches import read_searches

    return read_searches(store, searches)


def _read_trial_marks(store: Store, run: int) -> Mapping[int, str]:
    if not store.searches.all([run]):
        return {}
    # as above
    from launcher.experiments.search.run_searches import read_trial_marks

    return read_trial_marks(store, run)


class RunOutcome(NamedTuple):
    """The results of a run and of its jobs."""

    run: str
    results: RunResults  # results of tests and folders
    returned: Sequence[ReturnedValues]  # values that jobs returned, if these are wanted
    newest_jobs: Sequence[JobRow]  # the newest job of each name as it is
    kinds: Mapping[str, Kind]
    searches: RunSearches


def _build_output(
    outcome: RunOutcome,
    selection: RowSelection,
    metric: str | None,
    shape: Format,
    *,
    everything: bool,
) -> tuple[CommandOutput | None, str]:
    """Return what is asked of the results of a run, None if there is nothing, and the command of the best job."""
    results, run, asked, again = outcome.results, outcome.run, list[str](), ""
    if any(selection):
        results, asked, again = _apply_selection(
            _test_rows_if_any(_flat_results(outcome)), selection, outcome
        )
    hides_verdicts = metric is not None or (selection.columns and VERDICT not in selection.columns)
    of_tests = not all(map(is_plain, results.rows))
    hidden = results.verdicts if hides_verdicts and of_tests else []
    _print_few(hidden, "verdicts of {}. To print all: --columns verdict")
    if metric is not None:
        numbers = [] if any(selection) else _marked_numbers(outcome)
        told = metrics_of_rows(results.rows, results.columns)
        table = pivot(metric, told, numbers, everything=everything)
        return _metric_output(table, run, shape, hidden), again
    if any(selection):
        return _selected_rows_output(results, selection, asked, outcome, shape, hidden), again
    if not results.rows and (flat := _flat_results(outcome)).rows:
        flat = rank_trials(flat, outcome.searches.metric_of(flat))
        return _selected_rows_output(flat, selection, (), outcome, shape), again
    if results.rows or shape is Format.JSON:
        named = named_columns(outcome.kinds.values())
        hidden_parts = [column for column in dict.fromkeys(named) if column in results.columns]
        varying = [column for column in results.varying_columns if column not in ROW_KEY_COLUMNS]
        parts = dict.fromkeys([*varying, *hidden_parts])
        answer = all_rows(
            results.rows, run, everything=everything, parts=[*parts], unnamed_columns=hidden_parts
        )
        return answer, again
    return None, again


def _marked_numbers(outcome: RunOutcome) -> list[ResultMetrics]:
    """Return the numbers that the jobs returned. Those of trials that are not complete come last, with a note."""
    marked = [
        (each.numbers, trial_mark(each.job, outcome.searches.marks)) for each in outcome.returned
    ]
    marked.sort(key=lambda each: each[1] is not None)
    return [
        numbers._replace(
            metrics={name: each._replace(note=mark) for name, each in numbers.metrics.items()}
        )
        if mark is not None
        else numbers
        for numbers, mark in marked
    ]


def _flat_results(outcome: RunOutcome) -> RunResults:
    """Return the results of tests and folders. If there are none, return what the jobs returned, a row each."""
    if outcome.results.rows:
        return outcome.results
    searches = outcome.searches
    rows = returned_rows(outcome.returned, outcome.kinds, (), outcome.newest_jobs, searches.marks)
    jobs = [*(each.job for each in outcome.returned), *outcome.newest_jobs]
    return searches.with_unqueued_seeds(rows, jobs)


def _with_counts(
    answer: CommandOutput, counts: ResultCounts, returned_values: Sequence[ReturnedValues]
) -> CommandOutput:
    """Return output whose JSON contains the number of jobs, of those with an older result or none, and the faults."""
    faults = {each.job.name: [*each.faults] for each in returned_values if each.faults}
    return answer._replace(
        record=lambda: {
            **answer.record(),
            "counts": counts.to_json(),
            **({"number_faults": faults} if faults else {}),
        }
    )


def _split_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _run_of(store: Store, run: str | None) -> list[JobRow]:
    if run is not None:
        return find_run_jobs(store, run.removeprefix(RUN_PREFIX))
    tests = store.read.table_jobs(exclude_kind=PROGRAM_RUN)
    by_run: dict[tuple[str, str], list[JobRow]] = {}
    for job in sorted(tests, key=lambda job: job.submitted, reverse=True):
        by_run.setdefault((job.root, job.run), []).append(job)
    faults = {chosen: unreadable_results(jobs) for chosen, jobs in by_run.items()}
    newest = next((chosen for chosen, fault in faults.items() if not fault), None)
    if newest is None:
        newest = store.read.newest_run(left_out_runs=faults) or store.read.newest_run()
        if newest is None:
            raise UsageError("the queue has no jobs. To queue one: launcher add -- PROGRAM")
        if newest not in faults:
            which = "newest that can be read" if faults else "newest"
            _note(f"these are the results of run {newest[1]}, the {which}")
            for (_, name), fault in [*faults.items()][:1]:
                _note(f"the test results of run {name} cannot be read: {fault}")
    return [*store.read.jobs_of(Path(newest[0]), newest[1]).values()]


def _select_matching(
    home: Home,
    store: Store,
    rows: Sequence[JobRow],
    run_jobs: list[ResultJob],
    patterns: Sequence[str],
    *,
    all_jobs: bool,
) -> list[ResultJob]:
    """Return those of the jobs of a run that match a pattern; all if there is none.

    A superseded job matches if a pattern is its number or its whole name.
    """
    if not patterns:
        return run_jobs
    chosen = {job.id for job in select(store, patterns, current=not all_jobs)}
    matching = [each for each in run_jobs if each.newest.id in chosen]
    others = chosen - {each.newest.id for each in matching}
    named = [job for job in rows if job.id in others]
    matching += result_jobs(home, store, named, all_jobs=True)
    if not matching:
        run = rows[0].run
        raise UsageError(
            f"no job of run {run!r} matches {' '.join(patterns)}. "
            f"List its jobs: launcher status {shell_line([RUN_PREFIX + run])}"
        )
    return matching


def _test_rows_if_any(results: RunResults) -> RunResults:
    """Return the rows of one sort: those of tests, if there are some."""
    tested = [row for row in results.rows if not is_plain(row)]
    return results._replace(rows=tested or results.rows)


def _apply_selection(
    single: RunResults, selection: RowSelection, outcome: RunOutcome
) -> tuple[RunResults, list[str], str]:
    """Return the rows that a person asks for, the metrics that they name, and the command of the best job.

    Raises:
        UsageError: a column or a metric that there is not, or a metric whose direction is unknown.
    """
    results = single
    if not results.rows:
        raise UsageError("the run has no results yet. See its jobs: launcher status")
    if selection.over:
        results = average_over(single, selection.over, shown_settings(outcome.kinds.values()))
        _note_if_nothing_averaged(single, results, selection.over)
        _print_notes_of_groups(results)
        _print_notes(notes_of_means(results))
    asked, again = [name.removeprefix(DESCENDING) for name in selection.sort], ""
    if selection.best:
        metric, typed = selection.metric(results)
        asked = [metric, *asked]
        direction = typed or _direction_of(metric, outcome)
        if direction is None:
            raise unknown_direction(_BEST, [metric], [metric])
        results, again = _choose_best(
            single, results, selection, outcome, metric=metric, direction=direction
        )
    results = sort_rows(results, selection.sort)
    ranking_metric = _ranking_metric(selection, results, outcome.searches)
    if selection.sort or not selection.best:
        results = rank_trials(results, ranking_metric)
    if selection.top is not None and not selection.best:
        results = _cut_rows(results, selection.top, selection.sort, ranking_metric)
    return results, asked, again


def _cut_rows(
    results: RunResults, most: int, sort: Sequence[str], ranking_metric: str
) -> RunResults:
    """Return the first rows, and print how many of the others equal the last of them."""
    columns = [name.removeprefix(DESCENDING) for name in sort]
    if equal := count_equal(results, most, columns, ranking_metric):
        has = "row that is not shown has" if equal == 1 else "rows that are not shown have"
        _note(
            f"{equal:,} {has} the same {', '.join(columns)} as the last row. "
            f"To print all: --top {most + equal}"
        )
    return results._replace(rows=results.rows[:most])


def _ranking_metric(selection: RowSelection, results: RunResults, searches: RunSearches) -> str:
    """Return the metric by which trials are ranked: the one of the sorted rows, otherwise that of the search."""
    by = selection.sort[0].removeprefix(DESCENDING) if selection.sort else ""
    return by if searches.directions and by in results.metrics else searches.metric_of(results)


def _direction_of(metric: str, outcome: RunOutcome) -> Direction | None:
    """Return the better direction of a metric: that of the searches of the run, otherwise that of its name."""
    if metric in outcome.searches.directions:
        return outcome.searches.directions[metric]
    return direction_of(metric, outcome.kinds.values(), is_table_column=bool(outcome.results.rows))


def _choose_best(
    single: RunResults,
    results: RunResults,
    selection: RowSelection,
    outcome: RunOutcome,
    *,
    metric: str,
    direction: Direction,
) -> tuple[RunResults, str]:
    """Return the best rows and the command of the first; print the direction and the rows that are left out."""
    jobs, trials = {each.job.name: each.job for each in outcome.returned}, outcome.searches
    best = best_rows(
        results,
        metric,
        low=direction.is_low,
        most=selection.top or 1,
        are_trials=metric in trials.directions,
    )
    text = f"best: {direction.superlative} {metric}"
    if DATA in results.columns:  # programs have one best row, which contains everything
        rows = "row" if selection.top in {None, 1} else f"{selection.top} rows"
        text = f"best {rows} per data set by {metric} ({direction.superlative})"
    print_stderr(sanitize_terminal(text))
    _print_notes(best.notes(metric))
    names = () if best.best is None else jobs_of_rows(single, results).names_of(best.best)
    job = jobs.get(names[0]) if names and metric in trials.directions else None
    if job is None:
        return best.results, ""
    return best.results, repeating_command(job, is_trial=job.id in trials.trials)


def _note_if_nothing_averaged(
    single_results: RunResults, averaged_results: RunResults, names: Sequence[str]
) -> None:
    """Say so where no two rows were taken together, and which columns keep them apart."""
    if any(row[COUNT] > 1 for row in averaged_results.rows):
        return
    also = covarying_columns(single_results, names)
    hint = f". Average over all: --over {','.join([*names, *also])}" if also else ""
    rows = pluralize(sum(row[COUNT] for row in averaged_results.rows), "row")
    text = (
        f"note: nothing was averaged, as no two of {rows} differ only in {', '.join(names)}{hint}"
    )
    print_stderr(sanitize_terminal(text))


def _print_notes_of_groups(merged_results: RunResults) -> None:
    _print_few(notes_of_groups(merged_results), "values are missing from {}, see count_note")


def _print_few(notes: Sequence[str], more: str) -> None:
    """Print the first notes, and `more` with the number of the other rows."""
    _print_notes(notes[:MOST_NOTES])
    if left := len(notes[MOST_NOTES:]):
        _note(more.format(pluralize(left, "more row")))


# --- answers


def all_rows(
    rows: Sequence[Row],
    run: str,
    *,
    everything: bool = False,
    parts: Sequence[str] = (),
    unnamed_columns: Sequence[str] = (),
) -> CommandOutput:
    """Return the rows of a run as an answer.

    Args:
        rows: rows of tests, and of folders.
        run: its name.
        everything: each model and data set has a row of its own.
        parts: Columns that distinguish models in a terminal: their parts, and the swept settings.
        unnamed_columns: Those that an ID does not contain. The other formats have them, too.
    """
    tested = [row for row in rows if not is_plain(row)]
    plain = [*plain_tables([row for row in rows if is_plain(row)])]

    def tests(*, brackets: bool = False, is_rounded: bool = False) -> list[TextTable]:
        if not tested:
            return []
        return [
            table_of_tests(tested, brackets=brackets, is_rounded=is_rounded, parts=unnamed_columns)
        ]

    return CommandOutput(
        record=lambda: {"run": run, "rows": rows},
        cells=lambda: long_rows(rows),
        tables=lambda: [*tests(), *plain],
        latex=lambda: [*tests(brackets=True, is_rounded=True), *plain],
        rows=lambda: [
            *(row for table in tests(brackets=True) for row in table.cells),
            *(row for table in plain for row in (table.titles, *table.rows)),
        ],
        draw_lines=lambda width: [draw(rows, everything=everything, width=width, parts=parts)],
    )


def _selected_rows_output(
    results: RunResults,
    selection: RowSelection,
    asked_names: Sequence[str],
    outcome: RunOutcome,
    form: Format,
    notes: Sequence[str] = (),
) -> CommandOutput:
    """Return rows that a person has chosen, with the metrics that they asked for first, and notes for LaTeX."""
    run = outcome.run
    names = [results.column(name) for name in selection.columns] or default_columns(
        results, asked_names
    )
    # the columns of a terminal of unlimited width; for rows other than tests all formats
    if selection.columns or form is Format.TABS or len(names) == len(results.names):
        results = results._replace(
            rows=[{name: row.get(name) for name in names} for row in results.rows],
            columns=tuple(name for name in names if name in results.columns),
        )
    order = results.names  # the property looks at every row
    ordered = [{name: row[name] for name in order if name in row} for row in results.rows]

    def cells(*, pads_means: bool = False) -> Sequence[Sequence[object]]:
        return long_rows(ordered, pads_means=pads_means) if ordered else [order]

    return CommandOutput(
        record=lambda: {"run": run, "rows": with_sources(ordered, outcome.returned)},
        cells=cells,
        rows=lambda: cells(pads_means=True),
        tables=lambda: [flat_table(results, names)],
        latex=lambda: [_with_notes(flat_table(results, names, latex=True), notes)],
    )


def _with_notes(table: TextTable, notes: Sequence[str]) -> TextTable:
    return table._replace(notes=[*table.notes, *map(line, notes)])


def _metric_output(table: Pivot, run: str, form: Format, notes: Sequence[str]) -> CommandOutput:
    def note_of(metric: Metric | None) -> str | None:
        return None if metric is None else metric.note

    rows = [*table.rows()]
    noted = [at for at in range(len(table.data)) if any(note_of(row[at]) for _, row in rows)]

    def cells() -> Sequence[Sequence[object]]:
        names = (*table.data, *(f"{table.data[at]}_note" for at in noted))
        values = (
            (
                name,
                *(metric and metric.value for metric in row),
                *(note_of(row[at]) for at in noted),
            )
            for name, row in rows
        )
        return [("" if form is Format.TABS else "model", *names), *values]

    return CommandOutput(
        record=lambda: {"run": run, **table.to_json()},
        cells=cells,
        tables=lambda: [pivot_table(table, "")],
        latex=lambda: [_with_notes(pivot_table(table, "", latex=True), notes)],
        draw_lines=lambda width: pivot_table(table, table.metric).to_lines(width),
    )


# --- a question in SQL


@launcher_command(
    heading="Results",
    place=30,
    summary="Query results with SQL; the database is read-only.",
    other_names={"SQL": "sql sqlite"},
)
@click.argument("sql")
@click.option(
    "--db",
    "database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    shell_complete=offer_files,
    help="Database written by `launcher results RUN --db FILE`.  [default: all runs of this queue]",
)
@click.option(
    "--time-limit",
    "limit_s",
    type=span(),
    default=TIME_LIMIT,
    help=f"Stop the query after this time.  [default: {TIME_LIMIT}]",
)
@form_options
def query(sql: str, database: Path | None, limit_s: float, form: str | None, as_json: bool) -> None:
    """Query results with one SQL SELECT statement.

    The database is read-only. Tables: runs, jobs, attempts, settings, metrics, scores, epochs, errors,
    homes. Views: results (one row per model and data set), best (per run, data set and metric), failures.
    Full-text search of errors and logs: errors_fts.

    \b
    Examples:
      launcher query "select model, data, auc from results order by auc desc"
      launcher query --db results.sqlite "select * from best" --format latex
      launcher query "select job, error from failures" --json
    """
    shape = choose_format(form, as_json=as_json)
    if database is None:
        with open_queue() as (home, store):
            columns, answer = query_all_runs(
                home, store, sql, limit_s=limit_s, print_line=_note, trial_marks=_read_trial_marks
            )
    else:
        columns, answer = run_query(database, sql, limit_s=limit_s)
    cells = [columns, *answer]
    rows = (  # bytes as SQLite's hex() has them
        {
            name: cell.hex() if isinstance(cell, bytes) else cell
            for name, cell in zip(columns, row, strict=True)
        }
        for row in answer
    )
    write(
        CommandOutput(
            record=lambda: {"columns": columns, "rows": [*rows]},
            cells=lambda: cells,
            tables=lambda: [answer_table(cells)],
        ),
        shape,
    )


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        _note(note)


def _note(text: str) -> None:
    print_stderr(f"note: {sanitize_terminal(text)}")
