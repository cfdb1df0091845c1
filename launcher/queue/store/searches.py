"""Searches in the database, with their trials and the jobs of these."""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from launcher.queue.jobs.context import Context, read_context
from launcher.queue.jobs.states import State
from launcher.queue.store.connection import Connection, known_record, known_state
from launcher.system.files import Json
from launcher.system.stored_fields import parse_record
from launcher.system.text import sanitize_terminal

_COLUMNS = "searches.id, run, runs.name AS run_name, root, searches.name, state, reason, failed, body, progress"
_FROM = "FROM searches JOIN runs ON runs.id = run"
_OUTDATED = "is_outdated"  # stored word in the progress of an ended search: a job of it was retried
_OPTIONS = "options"  # stored word beside the notes of the sampler: options that the owner changed


CANCELLED = "cancelled by its owner"  # stored word: the reason of a search


class SearchState(StrEnum):
    """The state of a search."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


class SearchRow(NamedTuple):
    """A search as the queue knows it."""

    id: int
    run_id: int
    run: str
    root: str
    name: str  # name of the search's jobs before the values; '' if they have numbers
    state: SearchState
    reason: str  # why the search ended, or what its owner should know
    failed: bool  # the search ended because something is wrong
    body: str  # JSON, see launcher/experiments/search/definition.py
    progress: Mapping[str, Json]  # see launcher/experiments/search/standing.py

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state is not SearchState.ENDED


class TrialRow(NamedTuple):
    """A job of a trial."""

    number: int
    repeat: int
    job: int
    chosen: str  # JSON: parameter → value
    attrs: str  # JSON: notes of the sampler
    told: int  # results that were known when the values were chosen
    state: State
    code: str  # code of the reason of the trial's state
    attempts: int
    submitted: float
    ended: float | None

    @property
    def values(self) -> Mapping[str, Json]:
        """Parameter → value."""
        return known_record(self.chosen)

    @property
    def attributes(self) -> Mapping[str, Json]:
        """The notes of the sampler."""
        return {name: note for name, note in known_record(self.attrs).items() if name != _OPTIONS}

    @property
    def settings(self) -> str:
        """The values of a trial, and the options that the owner of the job changed, as text."""
        return f"{self.chosen} {known_record(self.attrs).get(_OPTIONS)}"


class NewTrial(NamedTuple):
    """A job of a trial on its way into the queue."""

    number: int
    repeat: int
    chosen: Mapping[str, Json]
    attrs: Mapping[str, Json]
    told: int


class TrialChanges(NamedTuple):
    """Changes of a job of a trial by its owner."""

    values: Mapping[str, Json]  # parameter → value; those that the search chose count
    options: Mapping[str, Json] | None  # the other options of its program; None: as before


class _ChangedTrial(NamedTuple):
    """A job of a trial with the changes of its owner."""

    search: int
    repeat: int
    chosen: str
    attrs: str
    told: int
    own: Mapping[
        str, Json
    ]  # options that the owner changed, as stored beside the notes of the sampler


class Searches:
    """The searches of a queue."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection

    def active_numbers(self) -> list[int]:
        """Return the numbers of the searches that have not ended, and of those with retried jobs."""
        return self._db.query_numbers(
            f"SELECT id FROM searches WHERE state <> 'ended' OR progress ->> '{_OUTDATED}'"
        )

    def all(self, runs: Iterable[int] | None = None) -> list[SearchRow]:
        """Return the searches, those of some runs only if `runs` is given."""
        chosen = "" if runs is None else " WHERE run IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM}{chosen} ORDER BY searches.id",
            () if runs is None else (json.dumps([*runs]),),
        )
        return [_search(row) for row in rows]

    def read(self, search_number: int) -> SearchRow | None:
        """Return a search, None if it was deleted."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE searches.id = ?", (search_number,)
        )
        row = rows.fetchone()
        return None if row is None else _search(row)

    def find(self, run: int | None, name: str) -> SearchRow | None:
        """Return the search of a run by its name, None if there is none."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE run = ? AND searches.name = ?", (run, name)
        )
        row = rows.fetchone()
        return None if row is None else _search(row)

    def context(self, search_number: int) -> Context:
        """Return the context in which the jobs of a search run.

        Raises:
            Unreadable: a newer launcher wrote it.
        """
        (body,) = self._db.execute(
            "SELECT contexts.body FROM searches JOIN contexts ON contexts.id = context WHERE searches.id = ?",
            (search_number,),
        ).fetchone()
        return read_context(parse_record(body, "the record of its surroundings"))

    def trials(self, search: int) -> list[TrialRow]:
        """Return the jobs of the trials of a search, in order."""
        rows = self._db.execute(
            "SELECT number, repeat, job, chosen, attrs, told, state, reason_code AS code, attempts, submitted, ended"
            " FROM trials JOIN jobs ON jobs.id = job WHERE search = ? ORDER BY number, repeat",
            (search,),
        )
        return [
            TrialRow(
                **{**dict(row), "state": known_state(row["state"])}
            )  # columns have their names
            for row in rows.fetchall()
        ]

    def follow(self, searches: Iterable[int], last_job: int) -> tuple[set[int], list[int]]:
        """Return which of some searches are open, and their jobs behind a number."""
        numbers = json.dumps([*searches])
        among = "IN (SELECT value FROM json_each(?))"
        # first: an ended search has no later jobs
        still = self._db.query_numbers(
            f"SELECT id FROM searches WHERE state <> 'ended' AND id {among}", numbers
        )
        query = f"SELECT job FROM trials WHERE search {among} AND job > ? ORDER BY job"
        return {*still}, self._db.query_numbers(query, numbers, last_job)

    def searches_in_runs(self, pattern: str) -> list[SearchRow]:
        """Return the searches of the runs whose names match a pattern."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE runs.name = ?1 OR runs.name GLOB ?1 ORDER BY searches.id",
            (pattern.replace("[!", "[^"),),
        )
        return [_search(row) for row in rows]

    def searches_of_jobs(self, jobs: Iterable[int]) -> list[SearchRow]:
        """Return the searches to which some jobs belong."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE searches.id IN (SELECT search FROM trials"
            " WHERE job IN (SELECT value FROM json_each(?))) ORDER BY searches.id",
            (json.dumps([*jobs]),),
        )
        return [_search(row) for row in rows]

    def open_searches_in_runs(self, pattern: str) -> list[SearchRow]:
        """Return the open searches of the runs whose names match a pattern."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE state <> 'ended' AND (runs.name = ?1 OR runs.name GLOB ?1)"
            " ORDER BY searches.id",
            (pattern.replace("[!", "[^"),),
        )
        return [_search(row) for row in rows]

    # --- changes

    def add(self, run: int, name: str, body: str, context: int, now: float) -> int:
        """Add a search, or give that of its name another body and let it go on. Inside `writing`."""
        row = self._db.execute(
            "INSERT INTO searches (run, name, state, body, context, created) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, body = excluded.body,"
            " context = excluded.context, reason = '', failed = 0 RETURNING id",
            (run, name, SearchState.RUNNING, body, context, now),
        ).fetchone()
        return int(row[0])

    def add_trials(self, search: int, trials: Mapping[int, NewTrial]) -> None:
        """Record jobs as those of trials. Inside `writing`."""
        self._db.executemany(
            "INSERT INTO trials (search, number, repeat, job, chosen, attrs, told) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(search, new.number, new.repeat, job),
                    *(json.dumps(new.chosen), json.dumps(new.attrs), new.told),
                )
                for job, new in trials.items()
            ],
        )

    def add_result(self, job: int, timestamp: float, result: Mapping[str, Json]) -> None:
        """Record the numbers of a pruned job, which returned none."""
        with self._db.writing():
            self._db.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)",
                (job, timestamp, json.dumps(dict(result))),
            )

    def end(self, search: int, reason: str, *, has_failed: bool) -> bool:
        """End a search; return whether it was open."""
        with self._db.writing():
            ended = self._db.execute(
                "UPDATE searches SET state = 'ended', reason = ?, failed = ? WHERE id = ? AND state <> 'ended'",
                (reason, has_failed, search),
            )
            return ended.rowcount == 1

    def set_state(self, search: int, state: SearchState, *, former_state: SearchState) -> bool:
        """Pause or resume a search; return whether that changed anything."""
        with self._db.writing():
            changed = self._db.execute(
                "UPDATE searches SET state = ? WHERE id = ? AND state = ?",
                (state, search, former_state),
            )
            return changed.rowcount == 1

    def set_note(self, search: int, note: str) -> None:
        """Record what the owner of an open search should know."""
        with self._db.writing():
            self._db.execute(
                "UPDATE searches SET reason = ? WHERE id = ? AND state <> 'ended'", (note, search)
            )

    def set_progress(self, search: int, progress: Mapping[str, Json]) -> None:
        """Record how far a search is."""
        with self._db.writing():
            self._db.execute(
                "UPDATE searches SET progress = ? WHERE id = ?", (json.dumps(progress), search)
            )

    def mark_outdated(self, jobs: Iterable[int]) -> None:
        """Record that the ended searches of some jobs have to count again. Inside `writing`."""
        self._db.execute(
            f"UPDATE searches SET progress = json_set(progress, '$.{_OUTDATED}', 1) WHERE state = 'ended' AND id IN"
            " (SELECT search FROM trials WHERE job IN (SELECT value FROM json_each(?)))",
            (json.dumps([*jobs]),),
        )

    def change_trial(self, job: int, changes: TrialChanges) -> None:
        """Record the changes of a job, if it belongs to a trial. Inside `writing`."""
        if (trial := self._changed_trial(job, changes)) is None:
            return
        attrs = {**known_record(trial.attrs), **trial.own}
        self._db.execute(
            "UPDATE trials SET chosen = ?, attrs = ? WHERE job = ?",
            (trial.chosen, json.dumps(attrs), job),
        )

    def copy_trial(self, original: int, job: int, changes: TrialChanges) -> None:
        """Record a changed copy of a job as that of a trial with its values, if the job is one. Inside `writing`."""
        if (trial := self._changed_trial(original, changes)) is None:
            return
        attrs = json.dumps(trial.own)
        without_seed = self._db.query_numbers(
            "SELECT DISTINCT number FROM trials AS one WHERE search = ? AND chosen = ? AND attrs = ? AND NOT EXISTS"
            " (SELECT 1 FROM trials WHERE search = one.search AND number = one.number AND repeat = ?)",
            *(trial.search, trial.chosen, attrs, trial.repeat),
        )
        (last,) = self._db.query_numbers(
            "SELECT max(number) FROM trials WHERE search = ?", trial.search
        )
        number = without_seed[0] if without_seed else last + 1
        self._db.execute(
            "INSERT INTO trials (search, number, repeat, job, chosen, attrs, told) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (trial.search, number, trial.repeat, job, trial.chosen, attrs, trial.told),
        )
        self.mark_outdated([job])

    def _changed_trial(self, job: int, changes: TrialChanges) -> "_ChangedTrial | None":
        row = self._db.execute(
            "SELECT search, repeat, chosen, attrs, told, body ->> '$.repeat.name' FROM trials"
            " JOIN searches ON searches.id = search WHERE job = ?",
            (job,),
        ).fetchone()
        if row is None:
            return None
        search, repeat, chosen, attrs, told, repeated = row
        values = known_record(chosen)
        notes = {_OPTIONS: known_record(attrs)[_OPTIONS]} if _OPTIONS in known_record(attrs) else {}
        if changes.options is not None:
            of_trial = {*values, repeated}
            notes[_OPTIONS] = {
                name: value
                for name, value in sorted(changes.options.items())
                if name not in of_trial
            }
        known = {name: changes.values.get(name, value) for name, value in values.items()}
        return _ChangedTrial(search, repeat, json.dumps(known), attrs, told, notes)

    def open_jobs(self, searches: Iterable[int]) -> list[int]:
        """Return the jobs of some searches that have not ended."""
        return self._db.query_numbers(
            "SELECT job FROM trials CROSS JOIN jobs ON jobs.id = job WHERE search IN (SELECT value FROM json_each(?))"
            " AND jobs.state IN ('queued', 'held', 'running') ORDER BY job",
            json.dumps([*searches]),
        )

    def jobs_of_trials(self, jobs: Iterable[int]) -> set[int]:
        """Return which jobs belong to trials."""
        query = "SELECT job FROM trials WHERE job IN (SELECT value FROM json_each(?))"
        return {*self._db.query_numbers(query, json.dumps([*jobs]))}

    def kept_jobs(self) -> set[int]:
        """Return the jobs of open searches, which these still need."""
        query = (
            "SELECT job FROM trials JOIN searches ON searches.id = search WHERE state <> 'ended'"
        )
        return {*self._db.query_numbers(query)}


def end_text(search: SearchRow) -> str:
    """Return that a search has ended, and why."""
    word = "failed" if search.failed else "ended"
    return sanitize_terminal(f"the search of run {search.run!r} {word}: {search.reason}")


def _search(row: Sequence[object]) -> SearchRow:
    number, run, run_name, root, name, state, reason, failed, body, progress = row
    return SearchRow(
        id=int(str(number)),
        run_id=int(str(run)),
        run=str(run_name),
        root=str(root),
        name=str(name),
        state=SearchState(str(state)),
        reason=str(reason),
        failed=bool(failed),
        body=str(body),
        progress={
            name: value for name, value in known_record(str(progress)).items() if name != _OUTDATED
        },
    )
