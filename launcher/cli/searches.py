"""Searches on the command line: `launcher add --search`."""

import click

from launcher.cli.await_jobs import await_search
from launcher.functions.programs import SubmitRequest
from launcher.search.submission import SearchRequest, commit_search, describe, with_request
from launcher.store.client import ensure_scheduler_with_note, note_if_stopped
from launcher.store.queue import Store
from launcher.system.daemon_control import wake
from launcher.system.paths import Home
from launcher.system.text import sanitize_terminal


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
    row, continued = commit_search(store, request, search)
    wake(home)
    text = describe(row, search.definition)
    click.echo(sanitize_terminal(f"continued: {text}" if continued else text))
    if not note_if_stopped(home):
        ensure_scheduler_with_note(home)
    return await_search(home, store, row.id) if wait else 0
