"""Where the study of a search is written for Optuna."""

from pathlib import Path

from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow

JOURNAL = "optuna-journal.log"


def study_name(store: Store, search: SearchRow) -> str:
    """Return the name of a study: that of the run, followed by that of the job for a second search of the run."""
    same = [each for each in store.searches.all() if each.run == search.run]
    name = search.name.rpartition("/")[2] or str(search.id)
    return search.run if same[0].id == search.id else f"{search.run}/{name}"


def journal_path(home: Home, store: Store, search: SearchRow) -> Path:
    """Return the file of a study."""
    return home.searches / study_name(store, search) / JOURNAL
