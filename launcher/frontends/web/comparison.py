"""The results of one run or of several together, with the settings in which their jobs differ."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.results.result_jobs import ResultJob, count_results
from launcher.experiments.results.returned_rows import JOB
from launcher.experiments.results.rows import RowJobIndex, kinds_of, rows_of
from launcher.experiments.results.table import MODEL, ROW_KEY_COLUMNS, AbsentRow, Row, RunResults
from launcher.experiments.search.run_searches import read_searches
from launcher.experiments.search.run_trials import RunSearches
from launcher.frontends.screens.code_notes import different_code_notes
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.text import sanitize_terminal

RUN, NUMBER = "run", "job number"  # columns beside those of a run's results
_OWN_COLUMNS = frozenset({RUN, NUMBER})


class RunComparison(NamedTuple):
    """The results of some runs, and the kinds of their jobs by name."""

    results: RunResults
    kinds: Mapping[str, Kind]
    notes: tuple[str, ...] = ()  # on older results that are shown, and on jobs without a result
    searches: RunSearches = RunSearches()  # searches of a single run


def compare_runs(home: Home, store: Store, runs: Sequence[Sequence[ResultJob]]) -> RunComparison:
    """Return the results of runs with the settings in which any two of their jobs differ.

    Args:
        home: whose runs.
        store: its queue.
        runs: the jobs of each, each name once.

    Raises:
        MachineError: packages with which a plugin package reads its results are not installed.
    """
    kinds = kinds_of(each.job for chosen in runs for each in chosen)
    specs = [each.job.spec_without_sources for chosen in runs for each in chosen]
    rows: list[Row] = []
    absent: list[AbsentRow] = []
    notes: list[str] = []
    programs: dict[str, tuple[Hashable, ...]] = {}
    columns: dict[str, None] = {RUN: None}
    searches = RunSearches()
    for chosen in runs:
        jobs = [each.job for each in chosen]
        now = [each.newest for each in chosen]
        searches = read_searches(store, store.searches.all({jobs[0].run_id}))
        results = rows_of(home, store, jobs, kinds, specs, now, searches.marks)
        results = searches.with_unqueued_seeds(results, [*jobs, *now])
        of = RowJobIndex(jobs, kinds)
        for name, program in results.programs.items():
            programs[name] = (*programs.get(name, ()), program)
        for row in results.rows:
            cells = {_unused_name(name): value for name, value in row.items()}
            rows.append({RUN: jobs[0].run, **cells, NUMBER: _job_of(of, row)})
        absent += [each._replace(row={RUN: jobs[0].run, **each.row}) for each in results.absent]
        columns |= dict.fromkeys(map(_unused_name, results.columns))
        if results.rows:
            named = len(runs) > 1
            notes += _notes(store, chosen, results, are_named=named)
    # columns that identify a row follow the columns in which models differ
    order = sorted(columns, key=lambda name: name in ROW_KEY_COLUMNS and name != MODEL)
    results = RunResults(rows=rows, columns=(*order, NUMBER), absent=absent, programs=programs)
    return RunComparison(
        results=results,
        kinds=kinds,
        notes=tuple(notes),
        searches=searches if len(runs) == 1 else RunSearches(),
    )


def _notes(
    store: Store, selected_jobs: Sequence[ResultJob], results: RunResults, *, are_named: bool
) -> list[str]:
    """Return the notes on the results of a run, with its name if there are several runs."""
    of_tests = JOB not in results.columns
    before = f"run {sanitize_terminal(selected_jobs[0].job.run)}: " if are_named else ""
    notes = count_results(selected_jobs, tests=of_tests).notes()
    notes += different_code_notes(store, [each.job for each in selected_jobs])
    return [f"{before}{note}" for note in notes]


def _job_of(jobs: RowJobIndex, row: Row) -> int | None:
    """Return the job that returned or tested a row, or the one that made its model."""
    number = jobs.named.get(str(row.get(JOB))) or jobs.test(row)
    return jobs.maker(row) if number is None else number


def _unused_name(name: str) -> str:
    """Return the name of a column; it must not hide ours."""
    return f"setting_{name}" if name in _OWN_COLUMNS else name
