"""Searches on the command line: `launcher add --search`, and those of task files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from launcher.experiments.functions.programs import SubmitRequest
from launcher.experiments.functions.shared_files import IN_TASK_FILE
from launcher.experiments.planning.plan import Plan
from launcher.experiments.search.definition import check_extra
from launcher.experiments.search.submission import (
    SearchRequest,
    commit_search,
    count_asked,
    describe,
    find_continued,
    find_same,
    search_warnings,
    with_request,
)
from launcher.experiments.taskfile.domains import text_of
from launcher.frontends.cli.await_jobs import await_search
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home, find_home
from launcher.queue.jobs.context import Context
from launcher.queue.store.client import (
    ensure_scheduler_with_note,
    note_if_stopped,
    open_queue_readonly,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow
from launcher.queue.workers.progress.file_owners import ON_COMMAND_LINE
from launcher.system.errors import pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal


def planned_searches(plan: Plan, file: str, settings: Sequence[str]) -> list[SearchRequest]:
    """Return the searches of a task file.

    Args:
        plan: The plan of the file without them.
        file: Path of the file.
        settings: `key=value` each, stronger than the file.

    Raises:
        UsageError: a search is invalid, or an extra is missing.
        TaskFileError: an entry is wrong.
    """
    if not plan.searches:
        return []
    # the planner of trials, which few files need
    from launcher.experiments.search.trial_plans import planned_search

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


def check_searches(store: Store, searches: Iterable[SearchRequest]) -> None:
    """Refuse the searches of a task file before anything is queued.

    Raises:
        UsageError: two searches have the same name.
    """
    for search in searches:
        if find_same(store, search) is None:
            find_continued(store, search)


def commit_searches(store: Store, context: Context, searches: Sequence[SearchRequest]) -> list[int]:
    """Add the searches of a task file, or continue those that have further trials. Return their numbers.

    Raises:
        UsageError: two searches have the same name.
    """
    numbers = []
    for search in searches:
        if (same := find_same(store, search)) is not None:
            print_stderr(_standing_text(same, search))
            numbers += [same.id] if same.is_open else []
            continue
        row, continued = commit_search(store, context, search)
        _print_warnings(search, context.folder, IN_TASK_FILE)
        text = describe(row, search.definition)
        print_stderr(sanitize_terminal(f"continued: {text}" if continued else text))
        numbers.append(row.id)
    return numbers


def print_planned_searches(searches: Sequence[SearchRequest]) -> None:
    """Print what the searches of a task file would try.

    Raises:
        UsageError: a search would be refused.
    """
    if not searches:
        return
    home = find_home(os.environ)
    with open_queue_readonly(home) if home.exists() else nullcontext((home, None)) as (_, store):
        for search in searches:
            same = None if store is None else find_same(store, search)
            if same is None:
                _print_trials(store, search)
            else:
                click.echo(_standing_text(same, search))


def _print_trials(store: Store | None, search: SearchRequest) -> None:
    """Print the first values of a search, or how many trials it would add."""
    _print_warnings(search, str(Path.cwd()), IN_TASK_FILE)
    earlier = None if store is None else find_continued(store, search)
    if store is not None and earlier is not None and (asked := count_asked(store, earlier)):
        further = pluralize(search.definition.trials - asked, "further trial")
        click.echo(
            sanitize_terminal(f"search of {search.name}, {further}, by the results of {asked}")
        )
        return
    # Optuna takes a second
    from launcher.experiments.search.preview import first_values

    click.echo(
        f"search of {sanitize_terminal(search.name)}, {search.definition.trials} trials, first values:"
    )
    for values in first_values(search.definition):
        line = " ".join(f"{name}={text_of(value)}" for name, value in values.items())
        click.echo(f"  {sanitize_terminal(line)}")


def _standing_text(earlier_search: SearchRow, search: SearchRequest) -> str:
    standing = "already running" if earlier_search.is_open else "done before"
    return sanitize_terminal(f"{describe(earlier_search, search.definition)}: {standing}")


def _print_warnings(search: SearchRequest, folder: str, spelling: str) -> None:
    for warning in search_warnings(search.definition, folder, spelling):
        print_stderr(warning)


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
    from launcher.experiments.functions.job_snapshots import snapshot_taken

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
    _print_warnings(search, request.context.folder, ON_COMMAND_LINE)
    if dry_run:
        # Optuna takes a second
        from launcher.experiments.search.preview import print_preview

        print_preview(store, search)
        return 0
    with snapshot_if(store, request, search) as context:
        row, continued = commit_search(store, context, search, request.share)
    wake(home)
    text = describe(row, search.definition)
    click.echo(sanitize_terminal(f"continued: {text}" if continued else text))
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    return await_search(home, store, row.id) if wait else 0
