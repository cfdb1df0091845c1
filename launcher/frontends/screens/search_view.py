"""Searches as lines: how many trials have ended, the best value, and the time left."""

from collections.abc import Iterable, Mapping, Sequence

from launcher.queue.jobs.job import PROGRAM
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import SearchRow, SearchState
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Column, TextSpan, TextStyle, TextTable, line
from launcher.system.units import format_seconds

_STYLES = {SearchState.RUNNING: TextStyle.OURS, SearchState.PAUSED: TextStyle.WARN}


def search_table(
    searches: Sequence[SearchRow], unlisted_rows: Sequence[SearchRow] = ()
) -> TextTable:
    """Return one line per search, and how many have ended besides."""
    columns = (
        Column(
            "SEARCHES",
            least=16,
            cell_of=lambda each: TextSpan(
                search_title(each), _STYLES.get(each.state, TextStyle.DIM)
            ),
        ),
        Column("STATE", cell_of=lambda each: state_text(each)),
        Column("TRIALS", right=True, cell_of=trials_text),
        Column("BEST", least=12, cell_of=best_text),
        Column("LEFT", right=True, drop=1, cell_of=_left_text),
        Column(least=16, fair=0.4, rows=2, cell_of=lambda each: sanitize_terminal(each.reason)),
    )
    notes = [line(_unlisted_text(unlisted_rows), TextStyle.DIM)] if unlisted_rows else []
    return TextTable(columns, searches, notes=notes)


def _unlisted_text(unlisted_rows: Sequence[SearchRow]) -> str:
    failed = sum(each.failed for each in unlisted_rows)
    among = f", {failed:,} of them failed" if failed else ""
    also = ". List failed searches: launcher status --failed" if failed else ""
    what = f"more {'search' if len(unlisted_rows) == 1 else 'searches'} that ended"
    return f"… and {len(unlisted_rows):,} {what}{among}. List all: launcher status --json{also}"


def sort_searches(searches: Iterable[SearchRow]) -> list[SearchRow]:
    """Return searches as lists have them: open ones, failed ones and others, each with the newest first."""
    return sorted(searches, key=lambda each: (not each.is_open, not each.failed, -each.id))


def shown_searches(
    store: Store, jobs: Iterable[int]
) -> tuple[tuple[SearchRow, ...], tuple[SearchRow, ...]]:
    """Return the open searches with those to which some ended jobs belong, and the others."""
    every = sort_searches(store.searches.all())
    if all(each.is_open for each in every):
        return tuple(every), ()
    recent = {each.id for each in store.searches.searches_of_jobs(jobs)}
    shown = tuple(each for each in every if each.is_open or each.id in recent)
    return shown, tuple(each for each in every if not (each.is_open or each.id in recent))


def search_title(search: SearchRow) -> str:
    """Return the name of a search for users: its run, and its jobs if they have a name."""
    name = search.name.removeprefix(f"{PROGRAM}/")
    return sanitize_terminal(f"{search.run} {name}" if name else search.run)


def state_text(search: SearchRow) -> str:
    """Return the state of a search for users."""
    return "failed" if search.failed else str(search.state)


def trials_text(search: SearchRow) -> str:
    """Return how many trials have ended."""
    progress = search.progress
    ended, total = progress.get("ended") or 0, progress.get("total")
    text = f"{ended}/{total}" if total else "0"
    for word in ("pruned", "failed", "incomplete"):
        text += f", {progress[word]} {word}" if progress.get(word) else ""
    return text


def best_text(search: SearchRow) -> str:
    """Return the best values and their job; how many there are if several are best."""
    best = best_of(search)
    if not best:
        return "–"
    values = best[0].get("values")
    numbers = values if isinstance(values, Mapping) else {}
    text = " ".join(f"{name}={value:.4g}" for name, value in numbers.items())
    number = len(best) - 1 + count_more_best(search)
    others = f" and {number:,} more" if number else ""
    return sanitize_terminal(f"{text} (job {best[0].get('job')}){others}")


def best_of(search: SearchRow) -> list[Mapping[str, Json]]:
    """Return the records of the best trials."""
    best = search.progress.get("best")
    listed = best if isinstance(best, list) else []
    return [each for each in listed if isinstance(each, Mapping)]


def count_more_best(search: SearchRow) -> int:
    """Return how many trials are as good as those of `best_of`."""
    more = search.progress.get("more_best")
    return more if isinstance(more, int) else 0


def _left_text(search: SearchRow) -> str:
    left_s = search.progress.get("left_s")
    is_known = isinstance(left_s, int | float) and search.state is SearchState.RUNNING
    return format_seconds(left_s) if is_known else "–"  # type: ignore[arg-type]


def search_record(search: SearchRow) -> dict[str, Json]:
    """Return a search for programs."""
    return {
        "run": sanitize_terminal(search.run),
        "name": sanitize_terminal(search.name),
        "state": search.state,
        "reason": sanitize_terminal(search.reason),
        "has_failed": search.failed,
        **search.progress,
    }
