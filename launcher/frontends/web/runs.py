"""The pages of runs: a list of all runs, one run with its results and pictures, and a comparison of several."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from launcher.frontends.screens.job_view import job_views
from launcher.frontends.screens.queue_view import job_table
from launcher.frontends.web.curves import is_log_axis, scale_values, smoothing_of
from launcher.frontends.web.page import Address, PageContent
from launcher.frontends.web.results import result_table
from launcher.frontends.web.run_curves import BANDS, RANGE, CurveChoice, RunCurves
from launcher.frontends.web.run_data import RunData
from launcher.frontends.web.run_filter import (
    LONGEST,
    Settings,
    matches,
    read_filter,
    unknown_settings,
)
from launcher.frontends.web.search_charts import search_charts
from launcher.frontends.web.view import CacheResult, NotFound, QueueView
from launcher.queue.jobs.states import State
from launcher.queue.store.listings import ListingQueries, RunRecord
from launcher.queue.texts import ORDER
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal

ROWS = 50
_NOT_ASKED: CacheResult[Mapping[int, Settings]] = CacheResult(value={})
# the state of a run as a whole is that of the job that matters most
_MATTERS = (State.RUNNING, State.QUEUED, State.HELD, State.FAILED, State.CANCELLED, State.SKIPPED)
CURVES_POLL_INTERVAL_S = 3.0  # seconds for files in which running jobs report
LISTED = 10  # jobs that run, and jobs that have failed
MOST_RUNS = 12
FILES_POLL_INTERVAL_S = (
    60.0  # for files deeper in a run's folder, whose changes are not noticed otherwise
)


def runs_context(view: QueueView, address: Address) -> PageContent:
    """Return a page of the list, filtered by names and by any setting of the runs' jobs."""
    listing, chosen = ListingQueries(view.store.database), read_filter(address.text("q"))
    look = view.settings.get(None, view.queue.version) if chosen.settings else _NOT_ASKED
    settings, among = look.value or {}, None
    if chosen.text:
        names = listing.run_names().items()
        among = [run for run, name in names if matches(chosen, name, settings.get(run, {}))]
    with view.store.database.reading():
        page = listing.runs(
            ROWS,
            older_than=address.integer("before"),
            newer_than=address.integer("after"),
            numbers=among,
        )
        runs = listing.run_records(page.numbers)
    notes = [look.error] if look.error else []
    if not notes and look.value is not None:
        known = {name for values in settings.values() for name in values}
        notes = unknown_settings(chosen, known)
    return PageContent(
        title="runs",
        values={
            "rows": [(run, state_of(run), took_s(run, view.now)) for run in runs],
            "filter": chosen,
            "notes": notes,
            "reading": look.value is None,
            "matching": "" if among is None else pluralize(len(among), "run"),
            "shares": any(run.share != 1 for run in runs),
            **address.page_links(page),
        },
        pending=look.pending,
    )


def state_of(run: RunRecord) -> State:
    """Return the state of a run as a whole."""
    return next((state for state in _MATTERS if run.counts.get(state)), State.DONE)


def took_s(run: RunRecord, now: float) -> float | None:
    """Return the seconds since the first attempt of a run, up to its end; None if none has started."""
    if run.started is None:
        return None
    until = now if run.open or run.ended is None else run.ended
    return max(0.0, until - run.started)


def run_context(view: QueueView, address: Address) -> PageContent:
    """Return the page of a run: its progress, results and pictures."""
    listing = ListingQueries(view.store.database)
    with view.store.database.reading():
        records = listing.run_records([address.number])
        if not records:
            raise NotFound(
                f"run {address.number} does not exist. It may have been deleted by `launcher clean`."
            )
        listed = {
            state: listing.job_numbers_in_state(address.number, state, LISTED)
            for state in (State.RUNNING, State.FAILED)
        }
        rows = view.store.read.jobs_by_id(job for jobs in listed.values() for job in jobs)
        lines = {line.id: line for line in job_views(view.home, view.store, rows)}
    run = records[0]
    look, choice = _read_run_data(view, records), curve_choice(address)
    drawn = view.curves.get((run.id, choice), curves_fingerprint(run, view.now))
    return PageContent(
        title=f"run {sanitize_terminal(run.name)}",
        values={
            "run": run,
            "states": [state for state in ORDER if run.counts.get(state)],
            "took_s": took_s(run, view.now),
            "listed": [
                (state, job_table([lines[job] for job in jobs if job in lines], view.now))
                for state, jobs in listed.items()
            ],
            "data": look.value or RunData(),
            "searches": search_charts(view.store, run.id),
            "choice": choice,
            "bands": BANDS,
            "curves": drawn.value or RunCurves(),
            "curves_reading": drawn.value is None and not drawn.error,
            "curves_error": drawn.error,
            **scale_values(address),
            **_results(look, address),
        },
        files=view.progress_of(row for row in rows if row.state is State.RUNNING),
        pending=look.pending or drawn.pending,
    )


def curve_choice(address: Address) -> CurveChoice:
    """Return what an address requests of the curves of a run; an unknown band is the default."""
    band = address.text("band")
    return CurveChoice(
        group=address.text("group"),
        filter=address.text("filter").strip()[:LONGEST],
        band=band if band in BANDS else RANGE,
        log=is_log_axis(address),
        smoothing=smoothing_of(address),
        everything=address.text("metrics") == "all",
    )


def curves_fingerprint(run: RunRecord, now: float) -> Hashable:
    """Return a value that changes when the curves of a run may have changed.

    Args:
        run: the run.
        now: in seconds since 1970; while jobs run, the value changes every CURVES_POLL_INTERVAL_S.
    """
    every_s = CURVES_POLL_INTERVAL_S if run.counts.get(State.RUNNING) else FILES_POLL_INTERVAL_S
    return runs_fingerprint([run], now), now // every_s


def comparison_context(view: QueueView, address: Address) -> PageContent:
    """Return the results of the runs that the address names, with the settings in which they differ."""
    numbers = address.integers("run")
    runs = ListingQueries(view.store.database).run_records(numbers[:MOST_RUNS])
    look = _read_run_data(view, runs) if runs else CacheResult()
    return PageContent(
        title=f"comparison of {len(runs)} runs" if runs else "comparison",
        values={
            "runs": runs,
            "most": MOST_RUNS,
            "left_out": max(0, len(numbers) - MOST_RUNS),
            **_results(look, address),
        },
        pending=look.pending,
    )


def _read_run_data(view: QueueView, runs: Sequence[RunRecord]) -> CacheResult[RunData]:
    """Return the results of runs, possibly from the cache."""
    return view.runs.get(tuple(run.id for run in runs), runs_fingerprint(runs, view.now))


def runs_fingerprint(runs: Sequence[RunRecord], now: float) -> Hashable:
    """Return a value that changes when results of runs or files in their folders may have changed.

    Args:
        runs: the runs.
        now: in seconds since 1970; the value changes every FILES_POLL_INTERVAL_S for deeper folders.
    """
    ends = tuple((run.id, tuple(sorted(run.counts.items())), run.ended) for run in runs)
    folders = tuple(_changed_at(Path(run.root, "runs", run.name)) for run in runs)
    return ends, folders, now // FILES_POLL_INTERVAL_S


def _changed_at(folder: Path) -> int | None:
    """Return when a file in a folder was last created or deleted; None if the folder does not exist."""
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):  # ValueError: no folder can have such a name
        return None


def _results(cached_result: CacheResult[RunData], address: Address) -> dict[str, object]:
    """Return the values of a template's part with results."""
    table = None
    if cached_result.value is not None:
        table = result_table(
            cached_result.value.comparison,
            sort=address.text("sort"),
            everything=address.text("columns") == "all",
            single=address.text("rows") == "sets",
            means=address.text("means") == "seed",
        )
    return {
        "reading": cached_result.value is None,
        "trouble": cached_result.error
        or ("" if cached_result.value is None else cached_result.value.error),
        "table": table,
    }
