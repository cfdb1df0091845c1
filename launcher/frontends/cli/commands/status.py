"""`launcher status`: the jobs and their states."""

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter

import click

from launcher.frontends.cli.job_selection import (
    gc_paused,
    names_job,
    optional_patterns,
    pattern_command,
    select,
)
from launcher.frontends.cli.option_types import States, ValueParamType, json_option
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.screens.job_columns import (
    JOB_COLUMNS,
    USUAL_COLUMNS,
    JobColumn,
    Record,
    column_records,
    keys_of,
    parse_columns,
    pipe_cells,
    table_of_columns,
    values_of,
)
from launcher.frontends.screens.job_view import RECENT, WAITING, job_views, limited_groups
from launcher.queue.backends.pilot_status import NO_PILOTS, read_pilot_status
from launcher.queue.home.home_checks import network_warning
from launcher.queue.home.paths import Home, find_home
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, State
from launcher.queue.scheduler.chosen_policy import read_policy
from launcher.queue.scheduler.screen_order import screen_order
from launcher.queue.store.client import open_queue, restart_scheduler_if_dead
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.job_queries import JOBS_PER_BATCH, REPLACEABLE_STATES
from launcher.queue.store.job_selection import RUN_PREFIX
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import end_text
from launcher.queue.texts import iso_time_or_none
from launcher.system.errors import UsageError
from launcher.system.files import Json
from launcher.system.mounts import read_mountinfo
from launcher.system.terminal import print_lines, print_stderr, width
from launcher.system.text_table import tab_separated
from launcher.system.units import parse_seconds

EVERY_S = 2.0  # seconds between two pictures
LEAST_S, MOST_S = 0.2, 3600.0  # likewise

JobSelector = Callable[[], Iterable[JobRow]] | None  # None: the jobs that matter
_WAIT = OPEN_STATES - {State.RUNNING}
_FIRST_IN_PIPE = (State.RUNNING, State.FAILED)  # states that `head` must show


@pattern_command(
    heading="Watch",
    place=10,
    offered_states=(State.RUNNING, State.FAILED),
    other_names={"": "ps ls list queue jobs squeue qstat bjobs -l"},
)
@optional_patterns
@click.option(
    "--watch",
    is_flag=False,
    flag_value="",
    metavar="[=SPAN]",
    help=f"Print again every SPAN until Ctrl-C.  [default: {EVERY_S:g}s]",
)
@click.option("--all", "everything", is_flag=True, help="List every job.")
@click.option(
    "--failed",
    is_flag=True,
    help="List failed jobs only, without those that a newer job replaced.",
)
@click.option(
    "--state",
    "states",
    type=States(),
    help="List jobs in these states only, such as failed,held.",
)
@click.option(
    "--columns",
    type=ValueParamType("columns", parse_columns),
    metavar="NAMES",
    help=f"Show these columns: {', '.join(JOB_COLUMNS)}.",
)
@click.option("--header", is_flag=True, help="In a pipe, print column names first.")
@json_option
@click.option(
    "--exit-status",
    is_flag=True,
    help="Exit with 1 if a listed job failed, unless a newer job of its name replaced it.",
)
def command(
    patterns: tuple[str, ...],
    watch: str | None,
    everything: bool,
    failed: bool,
    states: frozenset[State] | None,
    columns: tuple[JobColumn, ...] | None,
    header: bool,
    as_json: bool,
    exit_status: bool,
) -> int:
    """List jobs and why they wait.

    By default: all running jobs, the first 40 waiting jobs and the last 10 that ended. The others are
    counted, in JSON as "truncated" and "left_out". --all lists every job; PATTERN, --failed and --state
    list all that match. A failed or skipped job that a newer job replaced counts only with --all.

    In a pipe, one tab-separated line per job: id, run, name, state, time of the last change, reason, and
    parameters if a listed job has some. Running jobs come first, then failed jobs, for `launcher status |
    head`. With --watch, one line per change. --columns names other columns, also for --json and --watch.
    Bytes and seconds are numbers in a pipe.

    \b
    Examples:
      launcher status
      launcher status run:quickstart --json
      launcher status --failed
      launcher status --columns id,name,state,note
      launcher status --watch=5s
    """
    every_s, patterns = _parse_watch_option(watch, patterns)
    if every_s is not None and as_json:
        raise UsageError("--json cannot be combined with --watch. Remove one of them.")
    if failed and states is not None:
        raise UsageError("--failed cannot be combined with --state. Add failed to --state.")
    states = frozenset({State.FAILED}) if failed else states
    home = find_home(os.environ)
    if not home.exists():
        if patterns:
            with open_queue():  # `open_queue` reports a missing queue
                return 0
        print_json(_record(home)) if as_json else print_stderr(
            f"no jobs: the queue folder {home.folder} is new"
        )
        return 0
    with open_queue() as (_, store):
        restart_scheduler_if_dead(home, store)
        asked = bool(patterns or states)
        chosen = partial(_select_jobs, store, patterns, states, everything=everything)
        wanted: JobSelector = chosen if asked else None
        if every_s is not None:
            # needs what one picture does not
            live = importlib.import_module("launcher.frontends.screens.watch")
            # in a pipe a line for each change of any job, also of one that is queued later
            shown = None
            if columns is not None:
                shown = partial(_listed_records, home, store, wanted, columns)
            live.watch_queue(home, store, wanted, every_s, shown, columns or ())
        if everything:
            wanted = wanted or store.read.iterate_jobs
        if sys.stdout.isatty() and not as_json:
            failed_jobs = _print_tables(home, store, wanted, columns)
        else:
            with gc_paused():
                failed_jobs = _print_queue(
                    home, store, wanted, columns, header=header, as_json=as_json
                )
        if (patterns or failed) and not as_json:
            _print_searches(store, patterns, only_failed=failed)
        if exit_status and failed_jobs:
            return 1 if _any_current(store, failed_jobs, patterns) else 0
    return 0


def _select_jobs(
    store: Store,
    patterns: Sequence[str],
    states: frozenset[State] | None,
    *,
    everything: bool,
) -> list[JobRow]:
    """Return the jobs that match a pattern, or all jobs, limited to some states, in the order of their numbers.

    Failures and skips that a newer job replaced are in no state, unless everything is listed or a pattern names them.
    """
    if not patterns:
        read = partial(store.read.jobs_in_state, current=not everything)
        return sorted((job for state in states or () for job in read(state)), key=attrgetter("id"))
    jobs = select(store, patterns)
    if not states:
        return jobs
    jobs = [job for job in jobs if job.state in states]
    replaced = newest_by_superseded(
        store.database.execute, (job for job in jobs if job.state in REPLACEABLE_STATES)
    )
    return [job for job in jobs if job.id not in replaced or _is_named(patterns, job)]


def _parse_watch_option(
    watch: str | None, patterns: tuple[str, ...]
) -> tuple[float | None, tuple[str, ...]]:
    """Return the seconds between two pictures, None for one only; and the patterns.

    `--watch PATTERN` leaves the time out, which the command line's grammar cannot know.
    """
    if watch is None:
        return None, patterns
    if not watch:
        every_s = EVERY_S
    elif watch[0].isdecimal() or watch[0] in "-.":
        try:
            every_s = parse_seconds(watch)
        except UsageError as error:
            raise UsageError(f"--watch: {error}") from error
    else:
        return EVERY_S, (watch, *patterns)
    if not LEAST_S <= every_s <= MOST_S:
        raise UsageError(f"--watch: expected {LEAST_S:g}s to {MOST_S / 3600:g}h, got {watch}")
    return every_s, patterns


def _print_queue(
    home: Home,
    store: Store,
    select_rows: JobSelector,
    columns: Sequence[JobColumn] | None,
    *,
    header: bool,
    as_json: bool,
) -> list[int]:
    """Print the queue for programs; return the listed jobs that failed.

    Args:
        home: folder of the queue.
        store: its database.
        select_rows: returns the jobs that are listed.
        columns: the printed columns; None for the usual ones.
        header: print the names of the columns first.
        as_json: print an object.
    """
    record: dict[str, Json] = {}
    lines_by_state: dict[State | None, list[str]] = {state: [] for state in (*_FIRST_IN_PIPE, None)}
    failed: list[int] = []
    shown = USUAL_COLUMNS if columns is None else columns
    told_params, keys = columns is not None, keys_of(shown)
    # in one transaction, or a job that ends meanwhile would be listed twice
    with store.database.reading():
        jobs, waiting, ended = _jobs_to_list(home, store, select_rows)
        if as_json:
            details = importlib.import_module(
                "launcher.frontends.screens.job_records"
            )  # a late import, as for `watch`
            jobs = [*jobs]
            failed = [job.id for job in jobs if job.state is State.FAILED]
            records = details.job_records(home, store, jobs)
            if columns is not None:
                records = [values_of(record, columns) for record in records]
            record = _record(home, store, records, waiting_count=waiting, ended_count=ended)
        else:
            for job in _records(home, store, jobs, shown):
                state = job["state"] if job["state"] in _FIRST_IN_PIPE else None
                lines_by_state[state].append(tab_separated([pipe_cells(job, keys)]))
                failed += [job["id"]] if state is State.FAILED else []
                told_params |= bool(job["params"])
        all_failed = store.read.current_counts().get(State.FAILED, 0) if ended else 0
    lines = [tab_separated([[column.name for column in shown]])] * header
    lines += (line for part in lines_by_state.values() for line in part)
    if as_json:
        print_json(record)
    elif len(lines) > header:
        if not told_params:  # without parameters the column is left out
            lines = [line.rpartition("\t")[0] + "\n" for line in lines]
        click.echo("".join(lines), nl=False)
    unlisted = all_failed - len(failed)
    ended_text = f"that ended, {unlisted:,} of them failed" if unlisted > 0 else "that ended"
    left = {"that waits" if waiting == 1 else "that wait": waiting, ended_text: ended}
    told = [f"{number:,} more {what}" for what, number in left.items() if number]
    if told and not as_json:
        others = ". List failed jobs: launcher status --failed" if unlisted > 0 else ""
        print_stderr(f"… and {' and '.join(told)}. List all jobs: launcher status --all{others}")
    return failed


def _records(
    home: Home, store: Store, jobs: Iterable[JobRow], columns: Sequence[JobColumn]
) -> Iterator[Record]:
    """Yield jobs as they are shown, without keeping them in memory."""
    left = iter(jobs)
    while part := [*islice(left, JOBS_PER_BATCH)]:
        yield from column_records(home, store, part, columns)


def _listed_records(
    home: Home, store: Store, select_rows: JobSelector, columns: Sequence[JobColumn]
) -> list[Record]:
    """Return the records of the jobs that are listed."""
    with store.database.reading():
        jobs, _, _ = _jobs_to_list(home, store, select_rows)
        return [*_records(home, store, jobs, columns)]


def _jobs_to_list(
    home: Home, store: Store, select_rows: JobSelector
) -> tuple[Iterable[JobRow], int, int]:
    """Return the jobs that are listed, and how many that wait and that have ended are not."""
    if select_rows:
        return select_rows(), 0, 0
    counts = store.read.current_counts()
    ended = store.read.recently_ended(RECENT, current=True)
    order = screen_order(store, time.time(), read_policy(home))
    waiting = store.read.waiting_jobs(WAITING, order)
    jobs = [*ended, *store.read.jobs_in_state(State.RUNNING), *waiting]
    more = [sum(counts.get(state, 0) for state in states) for states in (_WAIT, ENDED_STATES)]
    return jobs, more[0] - len(waiting), more[1] - len(ended)


def _record(
    home: Home,
    store: Store | None = None,
    jobs: Sequence[dict[str, Json]] = (),
    *,
    waiting_count: int = 0,
    ended_count: int = 0,
) -> dict[str, Json]:
    """Return the queue for JSON.

    Args:
        home: folder of the queue.
        store: database of the queue; None: there is none yet.
        jobs: the records of those that are listed.
        waiting_count: number of waiting jobs that are not listed.
        ended_count: number of ended jobs that are not listed.
    """
    # modules about the machine and its pilots, which a listing does not show
    from launcher.frontends.screens.host_reader import HostReader
    from launcher.frontends.screens.pilot_table import pilots_record
    from launcher.frontends.screens.search_view import search_record, sort_searches
    from launcher.frontends.screens.snapshots import read_scheduler_status
    from launcher.queue.gpu.reservations import quiet_board

    counts = {} if store is None else store.read.current_counts()
    running = [] if store is None else store.read.jobs_in_state(State.RUNNING)
    claims = [] if store is None else store.claims.open_claims()
    here = [claim for claim in claims if not claim.pilot]
    foreign = quiet_board(home.folder).foreign_reservations()
    host = HostReader(home.folder).read(here, foreign=foreign)
    scheduler = read_scheduler_status(home)
    return {
        "home": str(home.folder),
        "warning": network_warning(home.folder, read_mountinfo()),
        "scheduler": scheduler._asdict() | {"since": iso_time_or_none(scheduler.since)},
        "counts": {state: counts.get(state, 0) for state in State},
        "groups": []
        if store is None
        else [group.to_json() for group in limited_groups(store, running)],
        "searches": []
        if store is None
        else [search_record(each) for each in sort_searches(store.searches.all())],
        "host": host.to_json(),
        **pilots_record(NO_PILOTS if store is None else read_pilot_status(home)),
        "truncated": bool(waiting_count or ended_count),
        "left_out": {"waiting": waiting_count, "ended": ended_count},
        "jobs": [*jobs],
    }


def _print_tables(
    home: Home, store: Store, select_rows: JobSelector, columns: Sequence[JobColumn] | None
) -> list[int]:
    """Draw the queue, or the jobs that were asked for; return the listed jobs that failed."""
    if columns is not None:
        records = _listed_records(home, store, select_rows, columns)
        print_lines(table_of_columns(records, columns).to_lines(width()))
        return [record["id"] for record in records if record["state"] is State.FAILED]
    # half of the imports of a command on a terminal; not needed in a pipe
    from launcher.frontends.screens.job_view import with_numbers
    from launcher.frontends.screens.queue_view import job_table, snapshot_lines
    from launcher.frontends.screens.snapshots import QueueSnapshotReader

    if select_rows:
        with store.database.reading():
            rows = [*select_rows()]
            jobs = with_numbers(home, store, rows, job_views(home, store, rows))
        print_lines(job_table(jobs, time.time()).to_lines(width()))
        return [job.id for job in jobs if job.state is State.FAILED]
    screen = QueueSnapshotReader(home, store).read_snapshot()
    print_lines(snapshot_lines(screen, width()))
    return [ending.id for ending in screen.recent if ending.latest is State.FAILED]


def _print_searches(store: Store, patterns: Sequence[str], *, only_failed: bool) -> None:
    """Print the searches of the runs that patterns name; in a pipe only why they failed, on standard error."""
    runs = [each.removeprefix(RUN_PREFIX) for each in patterns if each.startswith(RUN_PREFIX)]
    found = [
        each
        for run in runs or ["*"] * (not patterns)
        for each in store.searches.searches_in_runs(run)
    ]
    searches = [each for each in found if each.failed or not only_failed]
    if not searches:
        return
    if sys.stdout.isatty():
        # the tables of a terminal, which a pipe does not need
        from launcher.frontends.screens.search_view import search_table, sort_searches

        click.echo()
        print_lines(search_table(sort_searches(searches)).to_lines(width()))
        return
    for search in searches:
        if search.failed:
            print_stderr(end_text(search))


def _any_current(store: Store, jobs: Sequence[int], patterns: Sequence[str]) -> bool:
    """Whether one of some jobs is not superseded, or is named by a pattern itself."""
    rows = store.read.jobs_by_id(jobs)
    superseded = newest_by_superseded(store.database.execute, rows)
    return any(job.id not in superseded or _is_named(patterns, job) for job in rows)


def _is_named(patterns: Sequence[str], job: JobRow) -> bool:
    return any(names_job(pattern, job) for pattern in patterns)
