"""Additions of searches to the output of `launcher results`."""

import shlex
from collections.abc import Sequence

from launcher.context import program_words
from launcher.screens.search_view import best_of
from launcher.search.definition import read_definition
from launcher.store.queue import Store
from launcher.store.searches import SearchRow
from launcher.system.text import sanitize_terminal


def repeated_names(searches: Sequence[SearchRow]) -> tuple[str, ...]:
    """Return the parameters over which the searches of a run average."""
    repeats = (read_definition(search.body).repeat for search in searches)
    return tuple(dict.fromkeys(repeat.name for repeat in repeats if repeat is not None))


def repeating_command(store: Store, searches: Sequence[SearchRow], metric: str) -> str:
    """Return the command that repeats the best trial of the search for a metric; empty if there is none."""
    for search in searches:
        objectives = read_definition(search.body).objectives
        best = best_of(search)
        if not best or metric not in {each.metric for each in objectives}:
            continue
        signs = {each.metric: 1 if each.lower else -1 for each in objectives}
        values = {str(each.get("job")): each.get("values") for each in best}
        costs = {
            job: signs[metric] * float(value)
            for job, found in values.items()
            if isinstance(found, dict) and isinstance(value := found.get(metric), int | float)
        }
        rows = store.read.jobs_by_id([int(min(costs, key=lambda job: costs[job]))] if costs else [])
        for row in rows:
            spec = row.spec_without_sources
            words = program_words(spec.settings, spec.argv)
            return sanitize_terminal(
                f"to repeat the best trial (job {row.id}): {shlex.join(words)}"
            )
    return ""
