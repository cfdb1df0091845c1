"""A run as `launcher show` prints it."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from launcher.frontends.cli.shown_searches import search_lines
from launcher.frontends.screens.search_view import search_record
from launcher.queue.jobs.states import State, strip_state_prefix
from launcher.queue.store.job_selection import RUN_PREFIX
from launcher.queue.store.listings import ListingQueries, RunRecord
from launcher.queue.store.queue import Store
from launcher.queue.texts import first_line, iso_time, iso_time_or_none, local_time, tally
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import columns

_MOST_FAILURES = 5  # listed jobs; the others are counted


def run_parts(store: Store, name: str) -> Iterator[Sequence[str]]:
    """Yield the lines about each run of a name, and about its searches, part by part.

    Args:
        store: The queue.
        name: Name of a run, which several projects may have.
    """
    for run in _runs_of(store, name):
        yield from _parts(store, run)
    for search in store.searches.searches_in_runs(name):
        yield [*search_lines(store, search)]


def run_records(store: Store, name: str) -> dict[str, Json]:
    """Return the runs of a name and their searches for programs.

    Args:
        store: The queue.
        name: Name of a run, which several projects may have.
    """
    return {
        "runs": [_record(store, run) for run in _runs_of(store, name)],
        "searches": [*map(search_record, store.searches.searches_in_runs(name))],
    }


def _runs_of(store: Store, name: str) -> list[RunRecord]:
    listing = ListingQueries(store.database)
    return listing.run_records(listing.runs_named(name))


def _tags_of(store: Store, run: RunRecord) -> Counter[str]:
    """Return tag → how many jobs of the run have it."""
    jobs = ListingQueries(store.database).job_numbers(run.id)
    return Counter(tag for tags in store.job_control.tags_of(jobs).values() for tag in tags)


def _record(store: Store, run: RunRecord) -> dict[str, Json]:
    failed = ListingQueries(store.database).job_numbers_in_state(
        run.id, State.FAILED, _MOST_FAILURES
    )
    return {
        "run": run.name,
        "root": run.root,
        "counts": {state.value: number for state, number in run.counts.items()},
        "replaced": run.replaced,
        "share": run.share,
        "tags": dict(_tags_of(store, run)),
        "submitted": iso_time(run.submitted),
        "started": iso_time_or_none(run.started),
        "ended": iso_time_or_none(run.ended),
        "failed": [*failed],
    }


def _parts(store: Store, run: RunRecord) -> Iterator[Sequence[str]]:
    tags = [f"{tag} ({number})" for tag, number in _tags_of(store, run).most_common()]
    replaced = pluralize(run.replaced, "job")
    facts = [
        ("folder", run.root),
        ("queued", local_time(run.submitted)),
        ("share", f"{run.share:g}"),
        *([("tags", ", ".join(tags))] if tags else []),
        *([("replaced", f"{replaced} by newer jobs of the same names")] if run.replaced else []),
    ]
    yield [f"run {sanitize_terminal(run.name)}", tally(run.counts)]
    yield columns([(name, sanitize_terminal(text)) for name, text in facts])
    number = run.counts.get(State.FAILED, 0)
    numbers = ListingQueries(store.database).job_numbers_in_state(
        run.id, State.FAILED, _MOST_FAILURES
    )
    if numbers:
        failed = [
            (
                f"  {job.id}",
                sanitize_terminal(job.name),
                sanitize_terminal(strip_state_prefix(first_line(job.reason))),
            )
            for job in store.read.jobs_by_id(numbers)
        ]
        left = number - len(failed)
        yield ["failed jobs", *columns(failed), *([f"  and {left:,} more"] if left > 0 else [])]
    word = shlex.quote(f"{RUN_PREFIX}{run.name}")
    yield [
        f"its jobs: launcher status {word}",
        f"results: launcher results {word}",
        f"time and failures: launcher history {word}",
    ]
