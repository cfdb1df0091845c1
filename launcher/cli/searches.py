"""Searches on the command line: `launcher add --search`, and those of task files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from launcher.cli.await_jobs import await_search
from launcher.context import Context
from launcher.functions.programs import SubmitRequest
from launcher.planning.plan import Plan
from launcher.screens.terminal import print_stderr
from launcher.search.definition import check_extra
from launcher.search.space import text_of
from launcher.search.submission import (
    SearchRequest,
    commit_search,
    describe,
    same_search,
    with_request,
)
from launcher.store.client import ensure_scheduler_with_note, note_if_stopped
from launcher.store.queue import Store
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from launcher.system.text import sanitize_terminal


def planned_searches(plan: Plan, file: str, settings: Sequence[str]) -> list[SearchRequest]:
    """Return the searches of a task file.

    Args:
        plan: The plan of the file without them.
        file: Path of the file.
        settings: `key=value` each, stronger than the file.

    Raises:
        UsageError: one of them is wrong, or an extra is missing.
        TaskFileError: an entry is wrong.
    """
    if not plan.searches:
        return []
    # the planner of trials, which few files need
    from launcher.search.planned import planned_search

    check_extra()
    text = Path(file).read_text(encoding="utf-8-sig")
    definitions = [
        planned_search(file, text, settings, number, entry)
        for number, entry in enumerate(plan.searches)
    ]
    return [
        SearchRequest(definition.spec.name if definition.spec else "", definition)
        for definition in definitions
    ]


def commit_searches(store: Store, context: Context, searches: Sequence[SearchRequest]) -> list[int]:
    """Add the searches of a task file, or continue those that have further trials. Return their numbers.

    Raises:
        UsageError: one of them has the name of another one.
    """
    numbers = []
    for search in searches:
        if (same := same_search(store, search)) is not None:
            how = "already running" if same.is_open else "done before"
            print_stderr(sanitize_terminal(f"{describe(same, search.definition)}: {how}"))
            numbers += [same.id] if same.is_open else []
            continue
        row, continued = commit_search(store, context, search)
        text = describe(row, search.definition)
        print_stderr(sanitize_terminal(f"continued: {text}" if continued else text))
        numbers.append(row.id)
    return numbers


def print_planned_searches(searches: Sequence[SearchRequest]) -> None:
    """Print the first values of the searches of a task file."""
    if not searches:
        return
    # Optuna takes a second
    from launcher.search.preview import first_values

    for search in searches:
        click.echo(
            f"search of {sanitize_terminal(search.name)}, {search.definition.trials} trials, first values:"
        )
        for values in first_values(search.definition):
            click.echo(
                "  "
                + sanitize_terminal(
                    " ".join(f"{name}={text_of(value)}" for name, value in values.items())
                )
            )


@contextmanager
def snapshot_if(store: Store, request: SubmitRequest, search: SearchRequest) -> Iterator[Context]:
    """Yield the context of the trials, whose code comes from a snapshot of now if the command asks for one.

    Raises:
        UsageError: the code cannot be copied.
    """
    spec = search.definition.spec
    if not request.snapshot or spec is None:
        yield request.context
        return
    # few commands need it
    from launcher.functions.code_snapshots import snapshot_taken

    with snapshot_taken(store, request.context, [spec]) as context:
        yield context


def add_search(
    home: Home,
    store: Store,
    request: SubmitRequest,
    search: SearchRequest,
    *,
    dry_run: bool,
    wait: bool,
) -> int:
    """Add a search, or print what it would try first. Return the exit code.

    Raises:
        UsageError: it is refused.
    """
    search = with_request(search, store, request)
    if dry_run:
        # Optuna takes a second
        from launcher.search.preview import print_preview

        print_preview(store, search.definition)
        return 0
    with snapshot_if(store, request, search) as context:
        row, continued = commit_search(store, context, search, request.share)
    wake(home)
    text = describe(row, search.definition)
    click.echo(sanitize_terminal(f"continued: {text}" if continued else text))
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    return await_search(home, store, row.id) if wait else 0
