"""The end of a search because something is wrong: its jobs end, too."""

import time

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.errors import Error, TaskFileError


def end_failed(home: Home, store: Store, search: int, why: str) -> None:
    """End a search with a reason, and its open jobs. Jobs that were retried after the end of the search continue."""
    if not store.searches.end(search, why, has_failed=True):
        if (row := store.searches.read(search)) is not None:
            store.searches.set_progress(search, row.progress)  # the progress is not counted again
        return
    opened = store.searches.open_jobs([search])
    if opened:
        store.job_control.cancel(opened, time.time(), by_search=True)
        wake(home)


def reason_of_error(error: Exception) -> str:
    """Return an error as a reason, which is one line."""
    if isinstance(error, TaskFileError):
        return "; ".join(dict.fromkeys(problem.message for problem in error.problems))
    text = str(error) if isinstance(error, Error) else repr(error)
    return " ".join(text.split())
