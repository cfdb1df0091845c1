"""Warnings about files of numbers that several jobs name: `--metrics` and `--tensorboard`."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.queue.jobs.context import JOB_FOLDER, RUN_FOLDER, start_folder
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.params import TEMPLATE
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.file_owners import ON_COMMAND_LINE, own_folder_advice
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal

METRICS, TENSORBOARD = "metrics", "tensorboard"
_NOUNS = {METRICS: "metrics file", TENSORBOARD: "folder of event files"}
MOST_NAMED = 3  # jobs that a warning lists

IN_TASK_FILE, IN_PYTHON = "{}: {!r}", "{}={!r}"  # spellings of an option


class _Place(NamedTuple):
    term: str
    path: str


def shared_files_warnings(
    store: Store | None,
    specs: Iterable[Spec],
    folder: str,
    *,
    spelling: str = ON_COMMAND_LINE,
) -> list[str]:
    """Return warnings about files that several new jobs name, or new jobs and open ones.

    Args:
        store: The queue; None if there is none.
        specs: The new jobs.
        folder: In which they are queued.
        spelling: How the user writes an option.
    """
    named: dict[_Place, list[Spec]] = {}
    for spec in specs:
        for place in _places(spec, folder):
            named.setdefault(place, []).append(spec)
    warnings = []
    for place, jobs in named.items():
        written = str(getattr(jobs[0].terms, place.term))
        others = [] if store is None else _open_jobs(store, place, written)
        number = len(jobs) + len(others)
        if number > 1:
            warnings.append(_warning(place.term, written, number, others, spelling))
    return warnings


def search_files_warnings(
    spec: Spec, varied_names: Collection[str], folder: str, *, spelling: str = ON_COMMAND_LINE
) -> list[str]:
    """Return warnings about files that several trials of a search name.

    Args:
        spec: A job of the search.
        varied_names: Names of the values in which its jobs differ.
        folder: In which the search is added.
        spelling: How the user writes an option.
    """
    template = spec.settings.get(TEMPLATE)
    written = template.get("terms") if isinstance(template, Mapping) else None
    texts = {str(term): str(text) for term, text in (written or {}).items()}
    return [
        _warning(place.term, text, None, (), spelling)
        for place in _places(spec, folder)
        if not all(
            f"{{{name}}}" in (text := texts.get(place.term, getattr(spec.terms, place.term)))
            for name in varied_names
        )
    ]


def _places(spec: Spec, folder: str) -> list[_Place]:
    """Return the files that a job names and that are not in its own folder."""
    start = start_folder(spec, folder)
    places = []
    for term in (METRICS, TENSORBOARD):
        text = str(getattr(spec.terms, term))
        path = os.path.normpath(os.path.join(start, text))  # noqa: PTH118  # texts
        if text and JOB_FOLDER not in path:
            places.append(_Place(term, path.replace(RUN_FOLDER, str(spec.run_folder))))
    return places


def _open_jobs(store: Store, place: _Place, written_path: str) -> list[int]:
    """Return the waiting and running jobs that name the same files."""
    return [
        row.id
        for row in store.read.open_jobs_with(place.term, written_path)
        if place in _places(row.spec_without_sources, store.read.working_folder(row.id))
    ]


def _warning(
    term: str, written_path: str, number: int | None, others: Sequence[int], spelling: str
) -> str:
    who = "the trials name" if number is None else f"{pluralize(number, 'job')} name"
    also = ""
    if others:
        listed = ", ".join(map(str, others[:MOST_NAMED]))
        more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
        also = f", also job{'s' * (len(others) > 1)} {listed}{more} of the queue"
    return sanitize_terminal(
        f"warning: {who} the same {_NOUNS[term]} {written_path}{also}. Its numbers may not count if they run at the same "
        f"time. {own_folder_advice(term, written_path, spelling)}"
    )
