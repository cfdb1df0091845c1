"""The changes that owners make to jobs which are in the queue already: pauses, other terms, tags and notes.

A change of settings or terms is written only if nothing happened to the job meanwhile.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from launcher.context import read_context
from launcher.errors import UsageError
from launcher.job import Spec, SpecWriter
from launcher.states import OPEN, Reason, ReasonCode, State
from launcher.store.connection import Connection, reason_columns
from launcher.store.job_queries import JobQueries
from launcher.store.rows import JobRow, lane_of, read_lane
from launcher.store.user_actions import UserActions, rank_of
from launcher.system.stored_fields import Unreadable, parsed
from launcher.system.text import is_utf8

RESUMED = Reason(code=ReasonCode.RESUMED, text="goes on after a pause")
# why the newest attempt started where it did
_STARTED = (
    "SELECT reason_code, reason, reason_data FROM events WHERE job = ? AND state = 'running'"
    " AND reason_code NOT IN ('paused', 'resumed') ORDER BY id DESC LIMIT 1"
)
_SET_REASON = "UPDATE jobs SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"


def pause(connection: Connection, reasons: Iterable[tuple[int, Reason]], now: float) -> list[int]:
    """Record that running jobs are to be paused; return those that are now. Inside `writing`.

    Args:
        connection: to the queue.
        reasons: of each job, what is to be said of its pause.
        now: seconds since 1970.
    """
    paused = []
    for job, reason in reasons:
        changed = connection.execute(
            "UPDATE jobs SET paused = ? WHERE id = ? AND state = 'running' AND paused IS NULL"
            " AND wish = ''",
            (now, job),
        )
        if changed.rowcount == 1:
            connection.execute(_SET_REASON, (*reason_columns(reason), job))
            connection.event(job, State.RUNNING, reason, now)
            paused.append(job)
    return paused


def resume(connection: Connection, jobs: Iterable[int], now: float) -> list[int]:
    """Record that paused jobs go on; return those that do now. Inside `writing`."""
    resumed = []
    for job in jobs:
        row = connection.execute(
            "SELECT paused, attempts FROM jobs WHERE id = ? AND state = 'running'"
            " AND paused IS NOT NULL",
            (job,),
        ).fetchone()
        if row is None:
            continue
        connection.execute(
            "UPDATE attempts SET paused = paused + ? WHERE job = ? AND number = ?",
            (max(0.0, now - row[0]), job, row[1]),
        )
        connection.execute("UPDATE jobs SET paused = NULL WHERE id = ?", (job,))
        if (started := connection.execute(_STARTED, (job,)).fetchone()) is not None:
            connection.execute(_SET_REASON, (*started, job))
        connection.event(job, State.RUNNING, RESUMED, now)
        resumed.append(job)
    return resumed


def paused_jobs(connection: Connection) -> frozenset[int]:
    """Return the running jobs whose programs are to be paused."""
    query = "SELECT id FROM jobs WHERE state = 'running' AND paused IS NOT NULL"
    return frozenset(connection.numbers(query))


class Meanwhile(UsageError):
    """A job has changed since its owner looked at it."""


class ChangedJob(NamedTuple):
    """A job as its owner wants it."""

    row: JobRow  # as it was when that was worked out
    spec: Spec
    reason: Reason  # what was changed
    hashes: tuple[tuple[JobRow, str], ...] = ()  # the new ones of jobs that read what it makes


def write_change(connection: Connection, changed: ChangedJob, now: float) -> None:
    """Write a job's new spec, its lane, its timer, and the hashes that follow. Inside `writing`.

    Raises:
        Meanwhile: it, or a job that needs it, is not any more as it was.
    """
    row, spec = changed.row, changed.spec
    # else the one that `launcher priority` may have given it meanwhile stays
    priority = None if spec.priority == row.priority else spec.priority
    number = connection.execute(
        "UPDATE jobs SET spec = ?, sources = ?, hash = ?, priority = coalesce(?, priority),"
        " rank = coalesce(?, rank), lane = ?"
        " WHERE id = ? AND state = ? AND attempts = ? AND spec = ? AND hash = ?",
        (
            SpecWriter().text(spec, sources=False),
            connection.sources_number(spec.sources),
            spec.hash,
            priority,
            None if priority is None else rank_of(row.submitted, priority),
            _lane(connection, row, spec),
            *(row.id, row.state, row.attempts, row.spec_text, row.hash),
        ),
    ).rowcount
    if number != 1:
        state = connection.state_of(row.id)
        what = "is gone" if state is None else f"is {state} now"
        if state == row.state:
            what = "was changed"
        raise Meanwhile(f"job {row.id} {what}: nothing was changed; look at it, and try again")
    if row.state in OPEN:  # of one that has ended, the event is that it is queued again
        connection.event(row.id, row.state, changed.reason, now)
        _set_timer(connection, row, spec)
    for dependant, text in changed.hashes:
        followed = connection.execute(
            "UPDATE jobs SET hash = ? WHERE id = ? AND state = ? AND hash = ?",
            (text, dependant.id, dependant.state, dependant.hash),
        )
        if followed.rowcount != 1:
            raise Meanwhile(
                f"{dependant.name} (job {dependant.id}) changed meanwhile, and needs job {row.id}: "
                "nothing was changed; try again"
            )


def _lane(connection: Connection, row: JobRow, spec: Spec) -> int:
    """Return the number of the job's lane, made if it is new; what it turned out to need of a GPU stays."""
    number, key, body = connection.execute(
        "SELECT jobs.lane, lanes.key, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context LEFT JOIN lanes ON lanes.id = jobs.lane"
        " WHERE jobs.id = ?",
        (row.id,),
    ).fetchone()
    try:
        context = read_context(parsed(body, "the record of its surroundings"))
        before = read_lane(key)
    except (Unreadable, TypeError):
        return int(number)  # the scheduler sets the job aside, and says why
    after = lane_of(spec, context)._replace(least=before.least).key
    connection.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (after,))
    (lane,) = connection.execute("SELECT id FROM lanes WHERE key = ?", (after,)).fetchone()
    return int(lane)


def _set_timer(connection: Connection, row: JobRow, spec: Spec) -> None:
    """Let the job wait for the time that its owner names; a pause after a failure stays."""
    at = spec.terms.not_before
    if at == row.spec.terms.not_before:
        return
    connection.execute("DELETE FROM timers WHERE job = ? AND since IS NULL", (row.id,))
    start_at(connection, row.id, at)


def start_at(connection: Connection, job: int, at: float | None) -> None:
    """Let a job wait for a time, if one is given. Inside `writing`."""
    if at is not None:
        connection.execute("INSERT OR IGNORE INTO timers (job, at) VALUES (?, ?)", (job, at))
    connection.count_waits([job])


LONGEST_TAG, LONGEST_NOTE = 64, 10_000  # characters
TAG_RULE = f"one word of at most {LONGEST_TAG} letters, digits and _.@/=-"
_TAG = re.compile(r"\w[\w.@/=-]*")
_AMONG = "SELECT value FROM json_each(?)"


def is_tag(text: str) -> bool:
    """Tell whether a text can be a tag: see TAG_RULE."""
    return bool(_TAG.fullmatch(text)) and len(text) <= LONGEST_TAG


def check_note(text: str) -> None:
    """Refuse what cannot be a note.

    Raises:
        UsageError: it is too long, or no UTF-8.
    """
    if len(text) > LONGEST_NOTE:
        raise UsageError(
            f"a note has at most {LONGEST_NOTE:,} characters; this one has {len(text):,}"
        )
    if not is_utf8(text):
        raise UsageError("the note is no UTF-8 text")


def change_tags(
    connection: Connection, jobs: Iterable[int], add: Collection[str], remove: Collection[str]
) -> list[int]:
    """Give tags to jobs, and take others from them; return the jobs that are tagged otherwise now. Inside `writing`."""
    changed = []
    for job in jobs:
        rows = [(job, tag) for tag in add]
        given = "INSERT OR IGNORE INTO tags (job, tag) SELECT id, ?2 FROM jobs WHERE id = ?1"
        number = sum(connection.execute(given, row).rowcount for row in rows)
        taken = "DELETE FROM tags WHERE job = ? AND tag = ?"
        number += sum(connection.execute(taken, (job, tag)).rowcount for tag in remove)
        changed += [job] if number else []
    return changed


def set_note(connection: Connection, jobs: Iterable[int], text: str) -> list[int]:
    """Write a note on jobs in the place of the one that is there; return those whose note is another now. Inside `writing`."""
    update = "UPDATE jobs SET note = ?1 WHERE id = ?2 AND note <> ?1"
    return [job for job in jobs if connection.execute(update, (text, job)).rowcount]


def tags_of(connection: Connection, jobs: Iterable[int]) -> dict[int, list[str]]:
    """Return job → its tags in the order of their names, of those that have some."""
    rows = connection.execute(
        f"SELECT job, tag FROM tags WHERE job IN ({_AMONG}) ORDER BY job, tag",
        (json.dumps([*jobs]),),
    )
    tags: dict[int, list[str]] = {}
    for job, tag in rows:
        tags.setdefault(job, []).append(tag)
    return tags


def all_tags(connection: Connection) -> dict[str, int]:
    """Return each tag with the number of its jobs."""
    rows = connection.execute("SELECT tag, count(*) FROM tags GROUP BY tag ORDER BY tag")
    return dict(rows.fetchall())


class Steering:
    """Each change is one transaction over all jobs named: all of it happens or nothing."""

    def __init__(self, connection: Connection, read: JobQueries, owning: UserActions) -> None:
        """Work over a store's connection."""
        self._db, self._read, self._owning = connection, read, owning

    def dependants(self, job: int) -> list[JobRow]:
        """Return all jobs that need one done, directly or not, in any state; each after those that it needs."""
        needs: dict[int, list[int]] = {}
        todo = [job]
        while todo:
            need = todo.pop()
            for below in self._db.numbers(
                "SELECT job FROM needs WHERE need = ? AND any_end = 0", need
            ):
                if below not in needs:
                    todo.append(below)
                needs.setdefault(below, []).append(need)
        order = [number for number in TopologicalSorter(needs).static_order() if number != job]
        rows = {row.id: row for row in self._read.jobs_by_id(order)}
        return [rows[number] for number in order]

    def behind(self, job: int) -> list[JobRow]:
        """Return all jobs that wait for the end of one, or did, directly or not, done or not."""
        numbers: set[int] = set()
        todo = [job]
        while todo:
            below = self._db.numbers("SELECT job FROM needs WHERE need = ?", todo.pop())
            todo += [number for number in below if number not in numbers]
            numbers.update(below)
        return self._read.jobs_by_id(numbers)

    def keep_place(self, job: int, submitted: float, rank: float) -> None:
        """Give a job the place in the queue of when it was submitted first. Inside `writing`."""
        self._db.execute(
            "UPDATE jobs SET submitted = ?, rank = ? WHERE id = ?", (submitted, rank, job)
        )

    def change(self, jobs: Sequence[ChangedJob], now: float) -> None:
        """Give jobs that wait or have ended another spec.

        Raises:
            Meanwhile: one of them is not any more as it was when its change was worked out; nothing was changed.
        """
        with self._db.writing():
            for changed in jobs:
                write_change(self._db, changed, now)

    def retry(self, jobs: Collection[int], changes: Sequence[ChangedJob], now: float) -> list[int]:
        """Queue ended jobs again, some of them with another spec; see `UserActions.retry`.

        Raises:
            Meanwhile: one of them is not any more as it was when its change was worked out; nothing was changed.
        """
        with self._db.writing():
            self.change(changes, now)
            reasons = {changed.row.id: changed.reason for changed in changes}
            queued = self._owning.retry(jobs, now, reasons)
            for changed in changes:
                if changed.spec.terms.not_before != changed.row.spec.terms.not_before:
                    start_at(self._db, changed.row.id, changed.spec.terms.not_before)
        return queued

    def pause(self, reasons: Mapping[int, Reason], now: float) -> list[int]:
        """Let running programs be paused; return whose are now. What is said of each is its reason."""
        with self._db.writing():
            return pause(self._db, reasons.items(), now)

    def resume(self, jobs: Sequence[int], now: float) -> list[int]:
        """Let paused programs go on; return whose do now."""
        with self._db.writing():
            return resume(self._db, jobs, now)

    def change_tags(
        self, jobs: Iterable[int], add: Collection[str], remove: Collection[str]
    ) -> list[int]:
        """Give tags to jobs, and take others from them; return the jobs that are tagged otherwise now."""
        with self._db.writing():
            return change_tags(self._db, jobs, add, remove)

    def set_note(self, jobs: Iterable[int], text: str) -> list[int]:
        """Write a note on jobs; return those whose note is another now."""
        with self._db.writing():
            return set_note(self._db, jobs, text)

    def tags_of(self, jobs: Iterable[int]) -> dict[int, list[str]]:
        """Return job → its tags in the order of their names, of those that have some."""
        return tags_of(self._db, jobs)

    def all_tags(self) -> dict[str, int]:
        """Return each tag with the number of its jobs."""
        return all_tags(self._db)
