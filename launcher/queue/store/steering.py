"""What owners do to jobs that are in the queue: cancel, hold, pause, change, tag, queue again, forget.

Thousands of jobs are changed in portions, each in a transaction of its own. After an interruption, the command can be
repeated. A change of settings or terms is one transaction, and is written only if nothing happened to the jobs meanwhile.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from launcher.queue.jobs.context import read_context
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.params import (
    filled_options,
    params_of,
    parse_options,
    same_param,
    swept_values,
)
from launcher.queue.jobs.states import (
    ENDED_STATES,
    OPEN_STATES,
    EndCause,
    Reason,
    ReasonCode,
    State,
    termination_reason,
)
from launcher.queue.jobs.stored_specs import SpecWriter
from launcher.queue.store.connection import RESUMED_REASON, Connection, reason_columns
from launcher.queue.store.executor_groups import forget_group, open_jobs_of
from launcher.queue.store.gpu_numbers import lane_with_gpu
from launcher.queue.store.job_names import newest_by_superseded, queued_name
from launcher.queue.store.job_queries import JobQueries
from launcher.queue.store.lanes import PRIORITY_POINT_S, lane_of, rank_of, read_lane
from launcher.queue.store.output_conflicts import find_writer
from launcher.queue.store.queued_code import renew_code
from launcher.queue.store.rows import PILOT_TOKEN_SQL, AttemptRow, JobRow
from launcher.queue.store.searches import Searches, TrialChanges
from launcher.queue.store.transitions import (
    CANCEL,
    CANCELLED_REASON,
    END_OF_SEARCH,
    PRUNE,
    SEARCH_ENDED_REASON,
)
from launcher.system.errors import UsageError
from launcher.system.files import FileVersion
from launcher.system.stored_fields import Unreadable, parse_record

HELD_REASON = Reason(code=ReasonCode.HELD, text="held by its owner")
HELD_AGAIN_REASON = Reason(code=ReasonCode.HELD, text="held by its owner, as before the retry")
RELEASED_REASON = Reason(code=ReasonCode.RELEASED, text="released")
RETRIED_REASON = Reason(code=ReasonCode.RETRIED, text="retried by its owner")
TOUCHED_REASON = Reason(code=ReasonCode.TOUCHED, text="done; its files were accepted as they are")
UNRUN_REASON = Reason(
    code=ReasonCode.TOUCHED, text="not run; its owner accepted its files as they are"
)
_IN_JSON_LIST = "IN (SELECT value FROM json_each(?))"
_UNUSED_ROWS = {  # table → condition of its unused rows
    "contexts": "id NOT IN (SELECT context FROM jobs UNION SELECT context FROM searches)",
    "sources": "id NOT IN (SELECT sources FROM jobs WHERE sources IS NOT NULL)",
    "queued_code": "id NOT IN (SELECT code FROM jobs WHERE code IS NOT NULL)",
    "code_records": "id NOT IN (SELECT value FROM queued_code, json_each(records))",
    "lanes": "NOT EXISTS (SELECT 1 FROM jobs WHERE lane = lanes.id)",
    # a run that has had no job yet is about to get its first one
    "runs": "NOT EXISTS (SELECT 1 FROM jobs WHERE run = runs.id)"
    " AND EXISTS (SELECT 1 FROM counters WHERE run = runs.id)"
    " AND NOT EXISTS (SELECT 1 FROM searches WHERE run = runs.id AND state <> 'ended')",
}
_SET_REASON = "UPDATE jobs SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"


class ConcurrentChange(UsageError):
    """A job has changed since its owner read it."""


class ChangedJob(NamedTuple):
    """A job with the changes of its owner."""

    row: JobRow  # as it was when that was worked out
    spec: Spec
    reason: Reason  # changes that were made
    # new hashes of jobs that read what it makes
    dependent_hashes: tuple[tuple[JobRow, str], ...] = ()


class AcceptedFiles(NamedTuple):
    """An ended program whose files its owner accepts as they are."""

    row: JobRow  # as it was when the files were read
    outputs: Mapping[str, FileVersion]  # by path
    digests: Mapping[str, str]  # digests of the files that the program reads, by name


class JobControl:
    """Changes that a person asks for."""

    def __init__(self, connection: Connection, read: JobQueries) -> None:
        """Work over a store's connection."""
        self._db, self._read, self._searches = connection, read, Searches(connection)

    def cancel(
        self,
        jobs: Sequence[int],
        now: float,
        *,
        at_once: bool = False,
        running: bool = True,
        by_search: bool = False,
    ) -> list[int]:
        """Cancel waiting jobs and request the end of running ones. Return the affected jobs.

        Args:
            jobs: Their numbers.
            now: Seconds since 1970.
            at_once: Running jobs get no grace period, even if their end was requested before.
            running: False to let running jobs continue.
            by_search: Whether their search ends them instead of their owner.
        """
        # the newest first: what needs another of them is cancelled itself, not skipped
        newest_first = sorted(jobs, reverse=True)
        touched: list[int] = []

        def cancel_portion(portion: Sequence[int]) -> None:
            ended: list[int] = []
            touched.extend(
                job
                for job in portion
                if (running and self._request_end(job, now, at_once=at_once, by_search=by_search))
                or self._cancel_waiting(job, now, ended, by_search=by_search)
            )
            # once for all of them: one job may wait for the ends of thousands
            self._db.recount_waits_on(ended)

        self._db.write_in_portions(newest_first, cancel_portion)
        return touched[::-1]

    def prune(self, job: int, step: int, now: float) -> bool:
        """Request the end of a running job whose search has seen enough. Return whether that is new."""
        with self._db.writing():
            changed = self._db.execute(
                "UPDATE jobs SET wish = ? WHERE id = ? AND state = 'running' AND wish = ''",
                (PRUNE, job),
            )
            if changed.rowcount != 1:
                return False
            (row,) = self._read.jobs_by_id([job])
            grace_s = row.spec_without_sources.terms.grace_s
            why = f"pruned by its search at step {step}"
            reason = termination_reason(EndCause.PRUNED, now, grace_s, why)
            self._db.execute(_SET_REASON, (*reason_columns(reason), job))
            self._db.add_event(job, State.RUNNING, reason, now)
            return True

    def hold(self, jobs: Iterable[int], now: float) -> list[int]:
        """Keep queued jobs from starting; return those that are held now."""
        queued = (State.QUEUED,)
        return self._apply_to_jobs(
            jobs,
            lambda job: self._db.move_to_state(
                job, State.HELD, HELD_REASON, now, allowed_states=queued
            ),
        )

    def release(self, jobs: Iterable[int], now: float) -> list[int]:
        """Let held jobs start; return those."""
        held = (State.HELD,)
        return self._apply_to_jobs(
            jobs,
            lambda job: self._db.move_to_state(
                job, State.QUEUED, RELEASED_REASON, now, allowed_states=held
            ),
        )

    def rename_ended(self, job: int, name: str) -> None:
        """Give an ended job another name, so that a new one can have its own. Inside `writing`."""
        self._db.execute(
            "UPDATE jobs SET name = ?1, spec = json_set(spec, '$.name', ?1)"
            " WHERE id = ?2 AND state NOT IN ('queued', 'held', 'running')",
            (name, job),
        )

    def rename(self, job: int, name: str) -> None:
        """Give a job another name in any state; a quote is appended as often as the name is used. Inside `writing`."""
        (run,) = self._db.execute("SELECT run FROM jobs WHERE id = ?", (job,)).fetchone()
        taken = "SELECT 1 FROM jobs WHERE run = ? AND name = ?"
        while self._db.execute(taken, (run, name)).fetchone():
            name += "'"
        self._db.execute(
            "UPDATE jobs SET name = ?1, spec = json_set(spec, '$.name', ?1) WHERE id = ?2",
            (name, job),
        )

    def set_priority(self, jobs: Iterable[int], priority: int) -> list[int]:
        """Set the priority of jobs that wait; return those."""
        update = (
            "UPDATE jobs SET priority = ?1, rank = submitted - ?1 * ?2"
            " WHERE id = ?3 AND state IN ('queued', 'held')"
        )
        return self._apply_to_jobs(
            jobs, lambda job: self._db.execute(update, (priority, PRIORITY_POINT_S, job)).rowcount
        )

    def jobs_to_retry(self, jobs: Collection[int]) -> list[int]:
        """Return which jobs `retry` would queue: these, their dependencies, and dependents that were skipped.

        Open jobs are not included. A dependency that is done stays so. If a newer program replaced a dependency, the
        newer one counts instead.
        """
        return sorted(self._plan_retry(frozenset(jobs)))

    def _plan_retry(self, given_jobs: frozenset[int]) -> dict[int, dict[int, int]]:
        """Return job that `retry` would queue → its replaced dependencies → the newer programs that replaced them."""
        planned: dict[int, dict[int, int]] = {}
        newer: dict[int, int] = {}
        todo = list(given_jobs)
        while todo:
            job = todo.pop()
            state = self._db.state_of(job)
            if job in planned or state in {None, *OPEN_STATES}:
                continue
            if state is State.DONE and job not in given_jobs:
                continue
            rows = self._db.execute(
                "SELECT need, name FROM needs CROSS JOIN jobs ON jobs.id = need WHERE job = ?"
                " AND any_end = 0 AND state IN ('failed', 'cancelled', 'skipped')",
                (job,),
            )
            needs: dict[int, str] = dict(rows.fetchall())
            renamed = {need for need, name in needs.items() if queued_name(name, need) != name}
            self._add_newer_programs(newer, renamed - given_jobs)
            moved = {need: newer[need] for need in renamed & newer.keys()}
            waiting = {job, *self._transitive_waiters(job)} if moved else set[int]()
            planned[job] = moved = {need: new for need, new in moved.items() if new not in waiting}
            todo += [moved.get(need, need) for need in needs]
            todo += self._db.query_numbers(
                "SELECT job FROM needs CROSS JOIN jobs ON jobs.id = job WHERE need = ?"
                " AND any_end = 0 AND state = 'skipped'",
                job,
            )
        return planned

    def _add_newer_programs(self, newer: dict[int, int], jobs: Iterable[int]) -> None:
        """Add job → the newer program that replaced it and writes the same files, for jobs that have one."""
        if not (missing := [job for job in jobs if job not in newer]):
            return
        rows = self._read.jobs_by_id(missing)
        replaced = newest_by_superseded(
            self._db.execute, (row for row in rows if row.kind == PROGRAM)
        )
        outputs = {
            row.id: {*row.spec_without_sources.outputs}
            for row in (*rows, *self._read.jobs_by_id(replaced.values()))
        }
        newer.update({old: new for old, new in replaced.items() if outputs[old] <= outputs[new]})

    def _follow_newer_programs(self, given_jobs: frozenset[int]) -> list[int]:
        """Let jobs that `retry` queues wait for newer programs instead of replaced ones; return these jobs.

        This is repeated until nothing changes, because a change for one job may make that for another one a cycle.
        """
        while any((planned := self._plan_retry(given_jobs)).values()):
            for job, moved in planned.items():
                waiting = self._transitive_waiters(job) if moved else ()
                self._db.executemany(
                    "UPDATE OR REPLACE needs SET need = ? WHERE job = ? AND need = ?",
                    [(new, job, old) for old, new in moved.items() if new not in waiting],
                )
        return sorted(planned)

    def previously_held(self, jobs: Iterable[int]) -> set[int]:
        """Return which ended jobs their owner held before they were cancelled or skipped."""
        last = (
            "SELECT state, reason_code FROM events WHERE job = ?"
            " AND state NOT IN ('cancelled', 'skipped') ORDER BY id DESC LIMIT 1"
        )
        last_events = {job: self._db.execute(last, (job,)).fetchone() for job in jobs}
        return {
            job
            for job, row in last_events.items()
            if row and row[0] == State.HELD and row[1] != ReasonCode.FAILURE_LIMIT
        }

    def retry(
        self, jobs: Collection[int], now: float, changes: Sequence[ChangedJob] = ()
    ) -> list[int]:
        """Queue ended jobs again, those of `jobs_to_retry`, with their counters at zero; return them all.

        Those that `previously_held` names are held again. Some get another spec, which is the reason then.

        Raises:
            ConcurrentChange: One of them has changed since its change was computed. Nothing is changed.
        """
        if changes:
            with self._db.writing():
                self.change_jobs(changes, now)
                return self._retry(jobs, now, {each.row.id: each.reason for each in changes})
        return self._retry(jobs, now, {})

    def _retry(self, jobs: Collection[int], now: float, reasons: Mapping[int, Reason]) -> list[int]:
        with self._db.writing():
            chosen = self._follow_newer_programs(frozenset(jobs))
        left, moved = {*chosen}, list[int]()

        def retry_portion(portion: Sequence[int]) -> None:
            held = self.previously_held(portion)
            first = len(moved)
            for job in portion:
                state, reason = (
                    (State.HELD, HELD_AGAIN_REASON)
                    if job in held
                    else (State.QUEUED, RETRIED_REASON)
                )
                reason = reasons.get(job, reason)
                if self._db.move_to_state(job, state, reason, now, allowed_states=ENDED_STATES):
                    moved.append(job)
            self._reset_counters(moved[first:], now)
            renew_code(self._db, moved[first:], now)
            self._searches.mark_outdated(moved[first:])
            left.difference_update(portion)
            if len(portion) < len(chosen):
                self._skip_after_failures(moved[first:], left, now)

        self._db.write_in_portions(chosen, retry_portion)
        return moved

    def _skip_after_failures(
        self, jobs: Sequence[int], retried_later: Collection[int], now: float
    ) -> None:
        """Skip retried jobs again whose dependencies were retried in an earlier portion and have failed since."""
        needs = self._db.execute(
            "SELECT job, need, state FROM needs CROSS JOIN jobs ON jobs.id = need"
            f" WHERE job {_IN_JSON_LIST} AND any_end = 0"
            " AND state IN ('failed', 'cancelled', 'skipped') ORDER BY job",
            (json.dumps(jobs),),
        )
        for job, need, state in needs.fetchall():
            reason = self._db.failed_dependency_reason(need, State(state))
            if need not in retried_later and self._db.move_to_state(
                job, State.SKIPPED, reason, now
            ):
                self._db.propagate_end(job, State.SKIPPED, now)

    def _reset_counters(self, jobs: Sequence[int], now: float) -> None:
        """Set the counters of retried jobs to zero; of their timers, restore those that their owners set."""
        numbers = json.dumps(jobs)
        self._db.execute(
            f"UPDATE jobs SET failures = 0, lost = 0, excused = 0, wish = '' WHERE id {_IN_JSON_LIST}",
            (numbers,),
        )
        self._db.execute(f"DELETE FROM timers WHERE job {_IN_JSON_LIST}", (numbers,))
        timed = self._db.query_numbers(
            f"SELECT id FROM jobs WHERE id {_IN_JSON_LIST} AND instr(spec, '\"not_before\"') > 0",
            numbers,
        )
        for row in self._read.jobs_by_id(timed):
            at = row.spec_without_sources.terms.not_before
            self._delay_start(row.id, at if at is not None and at > now else None)
        below = self._db.query_numbers(f"SELECT job FROM needs WHERE need {_IN_JSON_LIST}", numbers)
        self._db.recount_waits({*jobs, *below})

    def accept_files(self, jobs: Iterable[AcceptedFiles], now: float) -> None:
        """Let ended programs count as done, with their files as they are.

        Raises:
            ConcurrentChange: One of them has changed since its files were read. Nothing is changed.
            UsageError: A running job writes one of their outputs. Nothing is changed.
        """
        jobs = list(jobs)
        with self._db.writing():
            self.check_no_writer([accepted.row for accepted in jobs])
            numbers = [self._accept(accepted, now) for accepted in jobs]
            below = f"SELECT job FROM needs WHERE need {_IN_JSON_LIST}"
            waiting = self._db.query_numbers(below, json.dumps(numbers))
            self._db.recount_waits({*numbers, *waiting})

    def check_no_writer(self, jobs: Iterable[JobRow]) -> None:
        """Refuse ended programs if a running job writes one of their outputs.

        Raises:
            UsageError: Names the job and the output.
        """
        writer = find_writer(self._db, {row.id: row.spec_without_sources for row in jobs})
        if writer is not None:
            raise UsageError(
                f"job {writer.job} ({writer.name}) is running and writes {writer.path}. "
                f"Nothing was changed. Wait for its end: launcher wait {writer.job}"
            )

    def _accept(self, accepted_files: AcceptedFiles, now: float) -> int:
        """Let a program count as done. Return its number."""
        row, reason = accepted_files.row, TOUCHED_REASON
        was_done = row.state is State.DONE
        if not was_done:
            reason = UNRUN_REASON._replace(data={"was": row.state})
        elif row.is_accepted_unrun:
            reason = row.state_reason
        changed = self._db.execute(
            "UPDATE jobs SET outputs = ?, sources = ?, failures = 0, lost = 0, excused = 0, reason_code = ?,"
            " reason = ?, reason_data = ? WHERE id = ? AND state = ? AND attempts = ? AND spec = ?"
            " AND ended IS ?",
            (
                json.dumps({path: each.to_json() for path, each in accepted_files.outputs.items()}),
                self._db.ensure_sources(accepted_files.digests),
                *reason_columns(reason),
                *(row.id, row.state, row.attempts, row.spec_text, row.ended),
            ),
        )
        if changed.rowcount != 1:
            raise ConcurrentChange(
                f"job {row.id} has just changed, nothing was changed. Check it and try again."
            )
        if was_done:
            self._db.add_event(row.id, State.DONE, reason, now)
        else:
            self._db.move_to_state(row.id, State.DONE, reason, now, allowed_states=(row.state,))
            # numbers of an earlier attempt, which may have had other settings
            self._db.execute("DELETE FROM results WHERE job = ?", (row.id,))
            self._db.execute("DELETE FROM timers WHERE job = ?", (row.id,))
        return row.id

    def skipped_after(self, jobs: Iterable[int]) -> list[JobRow]:
        """Return the skipped jobs that need one of these done."""
        return self._read.jobs_by_id(
            self._db.query_numbers(
                "SELECT DISTINCT job FROM needs CROSS JOIN jobs ON jobs.id = job"
                f" WHERE need {_IN_JSON_LIST} AND any_end = 0 AND state = 'skipped'",
                json.dumps([*jobs]),
            )
        )

    def change_jobs(self, jobs: Iterable[ChangedJob], now: float) -> None:
        """Give jobs that wait or have ended another spec with its name, lane and timer, and the hashes that follow.

        Raises:
            ConcurrentChange: One of them, or a dependent of it, has changed since its change was
                computed. Nothing is changed.
        """
        with self._db.writing():
            for changed in jobs:
                self._change_job(changed, now)

    def pause(
        self, jobs: Iterable[int], reason_of: Callable[[AttemptRow], Reason], now: float
    ) -> list[int]:
        """Let running programs on this machine be paused; return the jobs that are paused now.

        Args:
            jobs: Their numbers.
            reason_of: Returns the reason of a job from its current attempt.
            now: Seconds since 1970.
        """
        update = (
            "UPDATE jobs SET paused = ? WHERE id = ? AND state = 'running' AND paused IS NULL"
            " AND wish = '' AND EXISTS (SELECT 1 FROM attempts WHERE job = jobs.id"
            f" AND number = jobs.attempts AND {PILOT_TOKEN_SQL} IS NULL)"
        )

        def pause_one(job: int) -> bool:
            if self._db.execute(update, (now, job)).rowcount != 1:
                return False
            reason = reason_of(self._read.newest_attempts([job])[job])
            self._db.execute(_SET_REASON, (*reason_columns(reason), job))
            self._db.add_event(job, State.RUNNING, reason, now)
            return True

        return self._apply_to_jobs(jobs, pause_one)

    def resume(self, jobs: Iterable[int], now: float) -> list[int]:
        """Let paused programs go on; return whose do now."""

        def resume_one(job: int) -> bool:
            row = self._db.execute(
                "SELECT paused, attempts, wish FROM jobs WHERE id = ? AND state = 'running'"
                " AND paused IS NOT NULL",
                (job,),
            ).fetchone()
            if row is None:
                return False
            self._db.execute(
                "UPDATE attempts SET paused = paused + ? WHERE job = ? AND number = ?",
                (max(0.0, now - row[0]), job, row[1]),
            )
            self._db.execute("UPDATE jobs SET paused = NULL WHERE id = ?", (job,))
            # a job that is being ended keeps that as its reason
            if not row[2]:
                self._db.restore_start_reason(job)
            self._db.add_event(job, State.RUNNING, RESUMED_REASON, now)
            return True

        return self._apply_to_jobs(jobs, resume_one)

    def change_tags(
        self, jobs: Iterable[int], add: Collection[str], remove: Collection[str]
    ) -> list[int]:
        """Give tags to jobs, and take others from them; return the jobs that are tagged otherwise now."""
        given = "INSERT OR IGNORE INTO tags (job, tag) SELECT id, ?2 FROM jobs WHERE id = ?1"
        taken = "DELETE FROM tags WHERE job = ? AND tag = ?"
        steps = [*((given, tag) for tag in add), *((taken, tag) for tag in remove)]
        return self._apply_to_jobs(
            jobs if steps else (),
            lambda job: sum(self._db.execute(step, (job, tag)).rowcount for step, tag in steps),
        )

    def set_note(self, jobs: Iterable[int], text: str) -> list[int]:
        """Write a note on jobs in the place of the one that is there; return those whose note is another now."""
        update = "UPDATE jobs SET note = ?1 WHERE id = ?2 AND note <> ?1"
        return self._apply_to_jobs(jobs, lambda job: self._db.execute(update, (text, job)).rowcount)

    def _apply_to_jobs(self, jobs: Iterable[int], change: Callable[[int], object]) -> list[int]:
        """Change jobs in portions; return those on which that had an effect."""
        touched: list[int] = []
        self._db.write_in_portions(
            [*jobs], lambda portion: touched.extend(job for job in portion if change(job))
        )
        return touched

    def tags_of(self, jobs: Iterable[int]) -> dict[int, list[str]]:
        """Return job → its tags in the order of their names, of those that have some."""
        rows = self._db.execute(
            "SELECT job, tag FROM tags WHERE job IN (SELECT value FROM json_each(?))"
            " ORDER BY job, tag",
            (json.dumps([*jobs]),),
        )
        tags: dict[int, list[str]] = {}
        for job, tag in rows:
            tags.setdefault(job, []).append(tag)
        return tags

    def all_tags(self) -> dict[str, int]:
        """Return each tag with the number of its jobs."""
        rows = self._db.execute("SELECT tag, count(*) FROM tags GROUP BY tag ORDER BY tag")
        return dict(rows.fetchall())

    def transitive_dependents(self, job: int) -> list[JobRow]:
        """Return all jobs that need one done, directly or not, in any state; each after those that it needs."""
        needs: dict[int, list[int]] = {}
        todo = [job]
        while todo:
            need = todo.pop()
            for below in self._db.query_numbers(
                "SELECT job FROM needs WHERE need = ? AND any_end = 0", need
            ):
                if below not in needs:
                    todo.append(below)
                needs.setdefault(below, []).append(need)
        order = [number for number in TopologicalSorter(needs).static_order() if number != job]
        rows = {row.id: row for row in self._read.jobs_by_id(order)}
        return [rows[number] for number in order]

    def transitive_waiters(self, job: int) -> list[JobRow]:
        """Return all jobs that wait for the end of one, or did, directly or not, done or not."""
        return self._read.jobs_by_id(self._transitive_waiters(job))

    def _transitive_waiters(self, job: int) -> set[int]:
        numbers: set[int] = set()
        todo = [job]
        while todo:
            below = self._db.query_numbers("SELECT job FROM needs WHERE need = ?", todo.pop())
            todo += [number for number in below if number not in numbers]
            numbers.update(below)
        return numbers

    def deletable_jobs(self, jobs: Iterable[int]) -> set[int]:
        """Return which of these `delete_jobs` would delete, were it asked to delete them all.

        One stays that is open, that an open job needs, or that may be run again with a job that
        would not find it done.
        """
        gone = {job for job in jobs if self._db.state_of(job) not in {None, *OPEN_STATES}}
        holds: dict[int, list[int]] = {}  # job → those of `gone` that stay if it stays
        for job in gone:
            for bound in self._jobs_blocked_without(job):
                holds.setdefault(bound, []).append(job)
        staying = holds.keys() - gone
        while staying:
            for job in gone.intersection(holds.get(staying.pop(), ())):
                gone.remove(job)
                staying.add(job)
        return gone

    def delete_jobs(self, jobs: Iterable[int]) -> list[int]:
        """Delete ended jobs with all that the queue knows of them; return those."""
        with self._db.writing():
            gone = sorted(self.deletable_jobs(jobs))
            numbers = (json.dumps(gone),)
            self._db.execute(f"DELETE FROM needs WHERE need {_IN_JSON_LIST}", numbers)
            self._db.execute(f"DELETE FROM jobs WHERE id {_IN_JSON_LIST}", numbers)
        return gone

    def delete_unused_rows(self) -> None:
        """Delete the environments, lanes, runs and digests of which no job is left.

        The row with the highest number stays, so that numbers are never used again: a scheduler remembers rows
        by their numbers. The environment in such a row is deleted all the same.
        """
        for table, unused in _UNUSED_ROWS.items():
            last = f"(SELECT max(id) FROM {table})"
            with self._db.writing():
                self._db.execute(f"DELETE FROM {table} WHERE id < {last} AND {unused}")
        with self._db.writing():
            self._db.execute(
                "DELETE FROM counters WHERE n = 0 AND (NOT EXISTS (SELECT 1 FROM runs WHERE id = run)"
                " OR EXISTS (SELECT 1 FROM jobs WHERE jobs.run = counters.run))"
            )
            self._db.execute(
                "UPDATE contexts SET body = '', digest = 'forgotten ' || id"
                " WHERE body <> '' AND id NOT IN (SELECT context FROM jobs UNION SELECT context FROM searches)"
            )

    def _jobs_blocked_without(self, job: int) -> set[int]:
        """Return the jobs that could not go on without an ended one."""
        waiting = "IN ('queued', 'held', 'running')"
        which = waiting if self._db.state_of(job) is State.DONE else "<> 'done'"
        return set(
            self._db.query_numbers(
                "SELECT job FROM needs CROSS JOIN jobs ON jobs.id = job"
                f" WHERE need = ? AND any_end = 0 AND state {which}",
                job,
            )
        )

    def set_share(self, run: str, share: float) -> None:
        """Give all runs with a name a share of the machine, wherever their results lie."""
        with self._db.writing():
            self._db.execute("UPDATE runs SET share = ? WHERE name = ?", (share, run))

    def set_group_limit(self, group: str, slots: int | None) -> None:
        """Let at most `slots` jobs of a group run at the same time. None for no limit."""
        with self._db.writing():
            if slots is None:
                self._db.execute("DELETE FROM groups WHERE name = ?", (group,))
                return
            self._db.execute(
                "INSERT INTO groups (name, slots) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET slots = excluded.slots",
                (group, slots),
            )

    def end_executor(self, group: str, now: float, *, cancel: bool) -> bool:
        """Forget the group of an executor that is over. Return False while it has open jobs.

        Args:
            group: Name of the group.
            now: Seconds since 1970.
            cancel: Cancel its open jobs.
        """
        with self._db.writing():
            jobs = open_jobs_of(self._db, group)
            if not jobs:
                forget_group(self._db, group)
                return True
        if cancel:
            self.cancel(jobs, now)
        return False

    def pause_group(self, group: str, now: float) -> bool:
        """Let no further job of a group start. Return whether the group was not paused before."""
        with self._db.writing():
            paused = self._db.execute(
                "UPDATE groups SET paused = ? WHERE name = ? AND paused IS NULL", (now, group)
            )
            return paused.rowcount == 1

    def resume_group(self, group: str) -> bool:
        """Let jobs of a paused group start again. Return whether it was paused."""
        with self._db.writing():
            resumed = self._db.execute(
                "UPDATE groups SET paused = NULL WHERE name = ? AND paused IS NOT NULL", (group,)
            )
            return resumed.rowcount == 1

    def _cancel_waiting(
        self, job: int, now: float, ended_jobs: list[int], *, by_search: bool
    ) -> bool:
        """Cancel a job that waits and skip what needs it; add all of these to `ended_jobs`."""
        waiting = (State.QUEUED, State.HELD)
        reason = SEARCH_ENDED_REASON if by_search else CANCELLED_REASON
        if not self._db.move_to_state(job, State.CANCELLED, reason, now, allowed_states=waiting):
            return False
        self._db.execute("DELETE FROM timers WHERE job = ?", (job,))
        self._db.recount_waits([job])
        ended_jobs += [job, *self._db.skip_dependents(job, State.CANCELLED, now)]
        return True

    def _request_end(self, job: int, now: float, *, at_once: bool, by_search: bool) -> bool:
        """Ask for the end of a running job and record that; False if the job does not run."""
        wish = END_OF_SEARCH if by_search else CANCEL
        changed = self._db.execute(
            "UPDATE jobs SET wish = ? WHERE id = ? AND state = 'running' AND (? OR wish <> ?)",
            (wish, job, not by_search, CANCEL),
        )
        if changed.rowcount != 1:
            return False
        (row,) = self._read.jobs_by_id([job])
        if row.state_reason.code is ReasonCode.SETTLING:  # the program of a settling job has ended
            return True
        is_ending = row.state_reason.code is ReasonCode.ENDING
        cause = EndCause.SEARCH_ENDED if by_search else EndCause.CANCELLED
        was_cancelled = is_ending and row.state_reason.data.get("cause") == cause
        if was_cancelled and (row.state_reason.data.get("now") or not at_once):
            return True
        grace_s = 0.0 if at_once else row.spec_without_sources.terms.grace_s
        began = row.state_reason.data.get("since") if is_ending else None
        since = float(began) if isinstance(began, int | float) else now
        reason = termination_reason(cause, since, grace_s)
        if at_once:
            reason = reason._replace(data={**reason.data, "kill_at": now, "now": True})
        self._db.execute(_SET_REASON, (*reason_columns(reason), job))
        self._db.add_event(job, State.RUNNING, reason, now)
        return True

    def _change_job(self, changed_job: ChangedJob, now: float) -> None:
        row, spec = changed_job.row, changed_job.spec
        # else those that `launcher priority` and `launcher note` may have given it meanwhile stay
        priority = None if spec.priority == row.priority else spec.priority
        note = None if spec.terms.note == row.owner_note else spec.terms.note
        number = self._db.execute(
            "UPDATE jobs SET name = ?, spec = ?, sources = ?, hash = ?, priority = coalesce(?, priority),"
            " rank = coalesce(?, rank), note = coalesce(?, note), lane = ?"
            " WHERE id = ? AND state = ? AND attempts = ? AND spec = ? AND hash = ?",
            (
                row.name if spec.name == row.spec.name else spec.name,
                SpecWriter().text(spec),
                self._db.ensure_sources(spec.sources),
                spec.hash,
                priority,
                None if priority is None else rank_of(row.submitted, priority),
                note,
                self._lane_number(row, spec),
                *(row.id, row.state, row.attempts, row.spec_text, row.hash),
            ),
        ).rowcount
        if number != 1:
            state = self._db.state_of(row.id)
            what = "is gone" if state is None else f"is {state} now"
            if state == row.state:
                what = "was changed"
            raise ConcurrentChange(
                f"job {row.id} {what}, nothing was changed. Check it and try again."
            )
        self._searches.change_trial(row.id, trial_changes(row.spec_without_sources, spec))
        if row.state in OPEN_STATES:  # the event of an ended job is that it is queued again
            self._db.add_event(row.id, row.state, changed_job.reason, now)
            self._set_timer(row, spec)
        for dependant, text in changed_job.dependent_hashes:
            followed = self._db.execute(
                "UPDATE jobs SET hash = ? WHERE id = ? AND state = ? AND hash = ?",
                (text, dependant.id, dependant.state, dependant.hash),
            )
            if followed.rowcount != 1:
                raise ConcurrentChange(
                    f"{dependant.name} (job {dependant.id}), which needs job {row.id}, has just changed. "
                    "Nothing was changed, try again."
                )

    def _lane_number(self, row: JobRow, spec: Spec) -> int:
        """Return the number of the job's lane, created if it is new. The measured GPU memory need is kept."""
        number, key, body = self._db.execute(
            "SELECT jobs.lane, lanes.key, contexts.body FROM jobs"
            " JOIN contexts ON contexts.id = jobs.context LEFT JOIN lanes ON lanes.id = jobs.lane"
            " WHERE jobs.id = ?",
            (row.id,),
        ).fetchone()
        try:
            context = read_context(parse_record(body, "the record of its surroundings"))
            before = read_lane(key)
        except (Unreadable, TypeError):
            return int(number)  # the scheduler sets the job aside, and says why
        lane = lane_of(spec, context)._replace(
            least_vram=before.least_vram, made_exclusive=before.made_exclusive
        )
        if spec.resources == row.spec.resources:
            uuid = before.resources.gpu_uuid
            lane = lane._replace(resources=lane.resources._replace(gpu_uuid=uuid))
        return self._db.ensure_lane(lane_with_gpu(lane, self._db.path.parent).key)

    def _set_timer(self, row: JobRow, spec: Spec) -> None:
        """Let the job wait for a start time of its owner. A pause after a failure is kept."""
        at = spec.terms.not_before
        if at != row.spec.terms.not_before:
            self._db.execute("DELETE FROM timers WHERE job = ? AND since IS NULL", (row.id,))
            self._delay_start(row.id, at)

    def _delay_start(self, job: int, start_time: float | None) -> None:
        """Let a job wait for a time, if one is given; of a pause after a failure, the later end counts."""
        if start_time is not None:
            self._db.execute(
                "INSERT INTO timers (job, at) VALUES (?, ?) ON CONFLICT (job)"
                " DO UPDATE SET at = excluded.at, since = NULL WHERE excluded.at > timers.at",
                (job, start_time),
            )
        self._db.recount_waits([job])


def trial_changes(old_spec: Spec, new_spec: Spec) -> TrialChanges:
    """Return what differs between two specifications of a job.

    Options count if others than swept ones, and those that are made of swept values, differ.
    """
    old, new = (
        {**each.settings, **params_of(each.settings, each.argv)} for each in (old_spec, new_spec)
    )
    values = {name: value for name, value in new.items() if not same_param(value, old.get(name))}
    swept = {*swept_values(old_spec.settings), *swept_values(new_spec.settings)}
    made = {*filled_options(old_spec.settings), *filled_options(new_spec.settings)}
    options = parse_options(new_spec.argv)
    names = {*parse_options(old_spec.argv), *options} - swept - made
    is_same = all(same_param(old.get(name), new.get(name)) for name in names)
    return TrialChanges(values, None if is_same else options)
