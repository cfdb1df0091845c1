"""One connection to the queue's database, and what every change of a job has in common."""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from launcher.queue.jobs.states import (
    LEGAL_TRANSITIONS,
    OPEN_STATES,
    SKIPPED_PREFIX,
    Reason,
    ReasonCode,
    State,
)
from launcher.queue.store.recovery import queue_database_error
from launcher.system.stored_fields import Unreadable, parse_record

_STATES = frozenset(map(str, State))
_CODES = frozenset(map(str, ReasonCode))

# SQLite keeps the order of tables in a CROSS JOIN. With JOIN it may read all jobs of a state first, once per job:
# without statistics it takes `state = ?` for rare. So the statements of this package that go from a job to its needs
# or dependants in some states use CROSS JOIN. How many states SQLite takes for rare depends on its version. Statements
# that select no states by an index use JOIN.

# condition on a row of `needs` joined to the job that is needed, here called `needed`
UNMET_DEPENDENCY = (
    "needed.state <> 'done'"
    " AND (needs.any_end = 0 OR needed.state IN ('queued', 'held', 'running'))"
)
_COUNT_WAITS = (
    "UPDATE jobs SET waits = (SELECT count(*) FROM needs JOIN jobs AS needed"
    f" ON needed.id = needs.need WHERE needs.job = jobs.id AND {UNMET_DEPENDENCY})"
    " + (SELECT count(*) FROM timers WHERE timers.job = jobs.id) WHERE id = ?"
)
# an end that is not done lowers the count: a job may wait for thousands of ends, which are not counted again each time
_COUNT_DOWN = (
    "UPDATE jobs SET waits = waits - 1 WHERE waits > 0"
    " AND id IN (SELECT job FROM needs WHERE need = ? AND any_end = 1)"
)
NEW_EVENT = (  # time, job, state, and the columns of the reason
    "INSERT INTO events (at, job, state, reason_code, reason, reason_data)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
# codes of events in state 'running' that do not begin an attempt
NOT_STARTS = "('paused', 'resumed', 'ending', 'settling', 'frozen')"
# why the newest attempt started where it did
_LAST_START_REASON = (
    "SELECT reason_code, reason, reason_data FROM events WHERE job = ? AND state = 'running'"
    f" AND reason_code NOT IN {NOT_STARTS} ORDER BY id DESC LIMIT 1"
)
RESUMED_REASON = Reason(code=ReasonCode.RESUMED, text="resumed")
PORTION = 5000  # jobs that are changed in one transaction, which takes less than a second
# seconds between two portions; another process that waits tries again every 0.1 s
PORTION_PAUSE_S = 0.12
LOCK_TRIES = 6  # for a transaction; each waits as long as the database was opened for
NORMAL = 1  # `PRAGMA synchronous`: a commit is synced with a later one
_SOURCE_STATES = {
    state: tuple(source for source in State if state in LEGAL_TRANSITIONS[source])
    for state in State
}  # states from which a job may change to `state`


Item = TypeVar("Item")


class Connection(sqlite3.Connection):
    """A queue's database, with what every change of a job needs; use it from one thread."""

    def __init__(self, path: Path, address: str, timeout_s: float) -> None:
        """Connect to a database.

        Args:
            path: Its file, which is named in errors.
            address: URI for SQLite.
            timeout_s: How long to wait for another process that writes.
        """
        super().__init__(address, uri=True, timeout=timeout_s, isolation_level=None)
        self.row_factory = sqlite3.Row
        self.path = path
        self._caches: list[dict[Any, Any]] = []
        # sync modes of commits: as the database was opened, as the next one is to be, as it is now;
        # None until `unsynced` is called
        self._default_sync: int | None = None
        self._next_sync: int | None = None
        self._current_sync: int | None = None

    @contextlib.contextmanager
    def delay_sync(self) -> Iterator[None]:
        """Let what is committed inside be synced with the next commit outside: a power cut may undo it."""
        if self._default_sync is None:
            (self._default_sync,) = self.execute("PRAGMA synchronous").fetchone()
            self._current_sync = self._default_sync
        self._next_sync = NORMAL
        try:
            yield
        finally:
            self._next_sync = self._default_sync

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Make everything inside one transaction: all changes happen or none.

        Inside another one it is a part of that.

        Raises:
            StoreError: another process holds the database for too long, the disk is full, or the
                database was found to be damaged.
        """
        if self.in_transaction:
            yield
            return
        try:
            if self._current_sync != self._next_sync:
                self.execute(f"PRAGMA synchronous = {self._next_sync}")
                self._current_sync = self._next_sync
            self._begin()
            yield
            self.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise queue_database_error(self.path, error) from error
        except BaseException:
            self._rollback()
            raise

    def _begin(self) -> None:
        """Begin to write. Between two tries, this process handles signals such as that of Ctrl-C."""
        for left in reversed(range(LOCK_TRIES)):
            try:
                self.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not left or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return

    def write_in_portions(
        self,
        items: Sequence[Item],
        change: Callable[[Sequence[Item]], object],
        size: int | None = None,
    ) -> None:
        """Change a few thousand jobs at a time, each time in a transaction; others write in between.

        Inside another transaction, all is a part of that.

        Args:
            items: the jobs, or what stands for them.
            change: is called with each portion. After an interruption, it must be possible to repeat the whole.
            size: the largest number of items in a portion; None for `PORTION`.
        """
        size = size or PORTION
        for start in range(0, len(items), size):
            if start and not self.in_transaction:
                time.sleep(PORTION_PAUSE_S)
            with self.writing():
                change(items[start : start + size])

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Run all queries of the block on one state of the queue with one lock. Nothing is written."""
        inside = self.in_transaction
        if not inside:
            self.execute("BEGIN")
        try:
            yield
        finally:
            if not inside and self.in_transaction:  # some errors end the transaction
                self.execute("COMMIT")

    def _rollback(self) -> None:
        if self.in_transaction:
            # a full disk; closing the connection rolls back
            with contextlib.suppress(sqlite3.Error):
                self.execute("ROLLBACK")

    def new_cache(self) -> dict[Any, Any]:
        """Return an empty cache of stored values. `invalidate_caches` clears it."""
        cache: dict[Any, Any] = {}
        self._caches.append(cache)
        return cache

    def invalidate_caches(self) -> None:
        """Clear all caches after a rolled back transaction, or because others may have changed the queue."""
        for cache in self._caches:
            cache.clear()

    # --- inside a transaction

    def move_to_state(
        self,
        job: int,
        state: State,
        reason: Reason,
        now: float,
        *,
        allowed_states: Collection[State] | None = None,
    ) -> bool:
        """Bring a job into a state and say why; False when it is not where that is possible."""
        sources = _SOURCE_STATES[state] if allowed_states is None else allowed_states
        marks = ",".join("?" * len(sources))
        moved = self.execute(
            "UPDATE jobs SET state = ?, reason_code = ?, reason = ?, reason_data = ?, ended = ?,"
            f" wish = '', paused = NULL WHERE id = ? AND state IN ({marks})",
            (state, *reason_columns(reason), None if state in OPEN_STATES else now, job, *sources),
        )
        if moved.rowcount != 1:
            return False
        self.add_event(job, state, reason, now)
        return True

    def add_event(self, job: int, state: State, reason: Reason, now: float) -> None:
        """Put down what happened to a job."""
        self.execute(NEW_EVENT, (now, job, state, *reason_columns(reason)))

    def restore_start_reason(self, job: int) -> None:
        """Let the reason of a running job be that of its start again."""
        started = self.execute(_LAST_START_REASON, (job,)).fetchone()
        if started:
            set_reason = "UPDATE jobs SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"
            self.execute(set_reason, (*started, job))

    def ensure_sources(self, sources: Mapping[str, str]) -> int | None:
        """Return the number of the digests of modules, stored if they are new. None if there are none."""
        if not sources:
            return None
        body = json.dumps(dict(sources))
        digest = hashlib.sha256(body.encode()).hexdigest()
        row = self.execute("SELECT id FROM sources WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            insert = "INSERT INTO sources (digest, body) VALUES (?, ?) RETURNING id"
            row = self.execute(insert, (digest, body)).fetchone()
        return int(row[0])

    def ensure_lane(self, key: str) -> int:
        """Return the number of a lane, made if it is new."""
        self.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (key,))
        (number,) = self.execute("SELECT id FROM lanes WHERE key = ?", (key,)).fetchone()
        return int(number)

    def recount_waits(self, jobs: Iterable[int]) -> None:
        """Count again what these jobs wait for: needs that are not met, and a timer."""
        self.executemany(_COUNT_WAITS, [(job,) for job in jobs])

    def state_of(self, job: int) -> State | None:
        """Return a job's state, None when it was forgotten."""
        row = self.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
        return known_state(row[0]) if row else None

    def query_numbers(self, query: str, *values: Any) -> list[int]:
        """Return the first column of a query's result."""
        return [int(row[0]) for row in self.execute(query, values)]

    def propagate_end(self, job: int, state: State, now: float) -> None:
        """Apply the consequences of a job that ended as `state` and is not done.

        Its direct and indirect dependents are skipped. A job that only waits for its end, or for
        that of a skipped job, waits for one job less.
        """
        ended = [job, *self.skip_dependents(job, state, now)]
        self.executemany(_COUNT_DOWN, [(each,) for each in ended])

    def skip_dependents(self, job: int, state: State, now: float) -> list[int]:
        """Skip what needs a job that ended as `state`, directly or not; return the skipped jobs."""
        reason = self.failed_dependency_reason(job, state)
        return [
            below
            for below in self.dependents([job])
            if self.move_to_state(below, State.SKIPPED, reason, now)
        ]

    def recount_waits_on(self, ended_jobs: Collection[int]) -> None:
        """Count again the dependencies of jobs that wait for the end of these jobs, done or not."""
        awaiting = "SELECT job FROM needs WHERE need = ? AND any_end = 1"
        self.recount_waits({row for job in ended_jobs for row in self.query_numbers(awaiting, job)})

    def failed_dependency_reason(self, need: int, state: State) -> Reason:
        """Return why a job is skipped that needs one which ended as `state`."""
        (name,) = self.execute("SELECT name FROM jobs WHERE id = ?", (need,)).fetchone()
        return Reason(
            code=ReasonCode.NEED_FAILED,
            text=f"{SKIPPED_PREFIX}job {need} {name} {_end_phrase(state)}",
            data={"need": need, "state": state},
        )

    def dependents(self, jobs: Collection[int]) -> list[int]:
        """Return all jobs that wait for one of `jobs` to be done, directly or not, the oldest first."""
        seen = set(jobs)
        todo = list(jobs)
        while todo:
            below = self.query_numbers(
                "SELECT job FROM needs CROSS JOIN jobs ON jobs.id = needs.job"
                " WHERE need = ? AND any_end = 0 AND state IN ('queued', 'held')",
                todo.pop(),
            )
            todo += [job for job in below if job not in seen]
            seen.update(below)
        return sorted(seen.difference(jobs))


def read_sources(execute: Callable[..., sqlite3.Cursor], sources_number: int | None) -> str | None:
    """Return the digests of shared modules as JSON, None if a job has none there.

    Args:
        execute: Method of a database.
        sources_number: Number of the row.
    """
    if sources_number is None:
        return None
    row = execute("SELECT body FROM sources WHERE id = ?", (sources_number,)).fetchone()
    return str(row[0]) if row else "null"  # a job with unreadable sources is set aside


def reason_columns(reason: Reason) -> tuple[str, str, str | None]:
    """Return a reason's code, text and data as their columns hold them; no data is NULL."""
    data = {
        key: _storable_text(value) if isinstance(value, str) else value
        for key, value in reason.data.items()
    }
    return reason.code, _storable_text(reason.text), json.dumps(data) if data else None


def _storable_text(text: str) -> str:
    """Return a text without what SQLite takes for no text: a program's last words may hold anything."""
    return text.encode(errors="backslashreplace").decode()


def _end_phrase(state: State) -> str:
    """Return how a job that will not be done came to its end, as part of a sentence."""
    return {State.CANCELLED: "was cancelled", State.SKIPPED: "was skipped"}.get(state, "failed")


def known_state(text: str) -> State:
    """Return a state. A state of a newer version counts as one in which nothing happens."""
    return State(text) if text in _STATES else State.FAILED


def known_code(text: str) -> ReasonCode:
    """Return a reason's code; UNKNOWN for one that only a newer version knows."""
    return ReasonCode(text) if text in _CODES else ReasonCode.UNKNOWN


def reason_of(code: str, text: str, data: str | None) -> Reason:
    """Return the reason that the columns hold which `reason_columns` made."""
    return Reason(code=known_code(code), text=text, data=known_record(data) if data else {})


def known_record(text: str | None) -> dict[str, Any]:
    """Return what a record holds, nothing where it cannot be read."""
    try:
        return parse_record(text or "{}", "")
    except Unreadable:
        return {}
