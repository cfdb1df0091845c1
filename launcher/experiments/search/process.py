"""Runs one search: takes in the ends of its trials, chooses the values of the next ones, and queues them.

The queue is the truth. A trial and its job are written in one transaction, and everything in memory is rebuilt from
there after a kill.
"""

import logging
import os
import select
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.experiments.search.definition import SearchDefinition, close_metric, read_definition
from launcher.experiments.search.endings import end_failed, reason_of_error
from launcher.experiments.search.files import journal_path, study_name
from launcher.experiments.search.room import Room
from launcher.experiments.search.standing import standing_of, standing_record
from launcher.experiments.search.study import (
    Exhausted,
    JournalWriter,
    SearchStudy,
    TrialEnd,
    TrialRecord,
)
from launcher.experiments.search.trial_jobs import TrialJobs
from launcher.experiments.search.trials import (
    MOST_EQUAL,
    MOST_FAILED,
    MOST_KILLED,
    EndedTrial,
    TrialOutcome,
    end_of,
    group_by_number,
    has_ended,
    has_lost_its_machine,
    missing_repeats,
    results_for_study,
    was_killed,
)
from launcher.experiments.taskfile.domains import values_in
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import NewTrial, SearchRow, SearchState, TrialRow
from launcher.system.errors import Error, MachineError, StoreError, pluralize
from launcher.system.files import Json
from launcher.system.locks import lock_file
from launcher.system.stored_fields import Unreadable

LOCK_S = 5.0  # seconds for which the process of an earlier scheduler is waited for
FASTEST_POLL_S, SLOWEST_POLL_S = 0.005, 0.2
POLLS_PER_TRIAL = 200  # so a trial waits half a per cent of its time for the next values
STEPS_S = 0.25  # seconds between two looks at the steps of running trials
ROOM_S = 2.0  # seconds after which room is looked for although the queue has not changed
STANDING_S = 0.5  # seconds between two records for the screens
LONGEST_S = 3600.0  # seconds between two looks at an unchanged queue
RETRY_S = 2.0  # seconds after a full disk
IMPORTANCE_S = 60.0  # seconds between two computations of the importance of parameters
RECENT_TRIALS = 10  # the mean time of so many trials is the expected time of a trial
LEAST_FOR_IMPORTANCE = 10  # complete trials

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run a search until it ends or the scheduler leaves."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    home, number, pipe = Home(Path(argv[0])), int(argv[1]), int(argv[2])
    os.set_inheritable(pipe, False)
    home.searches.mkdir(mode=0o700, exist_ok=True)
    if lock_file(home.searches / f"{number}.lock", LOCK_S) is None:
        return 0
    store = Store(home)
    try:
        SearchProcess(home, store, number).run(pipe)
    except (sqlite3.Error, StoreError, MachineError) as error:  # the scheduler starts another
        logger.warning("search=%d trouble=%r", number, str(error))
        time.sleep(RETRY_S)
        return 1
    except (Error, Unreadable) as error:  # a trial cannot be queued, now or later
        end_failed(home, store, number, reason_of_error(error))
    finally:
        store.close()
    return 0


class SearchProcess:
    """The work on one search."""

    def __init__(self, home: Home, store: Store, search_number: int) -> None:
        """Begin without having read anything."""
        self._home, self._store, self._number = home, store, search_number
        self._body = ""
        self._ends: dict[int, EndedTrial] = {}  # trials whose ends the study knows
        self._asked = 0  # trials of the study
        self._is_exhausted = False
        self._durations: list[float] = []  # seconds of the last trials
        self._next_look_at = 0.0  # monotonic
        self._next_standing_at = 0.0  # monotonic
        self._next_importance_at = time.monotonic()
        self._definition: SearchDefinition
        self._study: SearchStudy
        self._writer: JournalWriter | None = None
        self._jobs: TrialJobs
        self._room: Room

    def run(self, pipe: int) -> None:
        """Work until the search has ended or the pipe is closed."""
        poll = select.poll()
        poll.register(pipe, 0)  # only the end of the pipe ends the sleep
        version = -1
        while True:
            before, version = version, self._store.read.data_version()
            now = time.monotonic()
            due = version != before or now >= self._next_look_at
            if due and not self._turn():
                return
            if poll.poll(self._poll_s * 1000):
                return

    @property
    def _poll_s(self) -> float:
        recent = self._durations[-RECENT_TRIALS:]
        mean_s = sum(recent) / len(recent) if recent else 0.0
        return min(max(mean_s / POLLS_PER_TRIAL, FASTEST_POLL_S), SLOWEST_POLL_S)

    def _turn(self) -> bool:
        """Bring the search up to date with the queue. Return whether it continues."""
        row = self._store.searches.read(self._number)
        if row is None:
            return False
        rows: Sequence[TrialRow] = self._store.searches.trials(self._number)
        if row.body != self._body or self._has_changed(rows):
            self._rebuild(row, rows)
        self._next_look_at = time.monotonic() + LONGEST_S
        if not row.is_open:
            self._record_ended(rows)
            if any(each.state in OPEN_STATES for each in rows):
                return True  # the jobs are being cancelled, or were retried
            self._record_standing(row, last=True)
            return self._flush(row)
        rows = self._retry_killed(rows)
        self._record_ended(rows)
        if why := self._reason_to_stop():
            self._end(row, why, has_failed=True)
            self._schedule_next_look(0.0)
            return True
        trials = group_by_number(rows)
        if self._definition.prunes:
            self._prune(trials)
        if row.state is SearchState.RUNNING:
            rows = self._queue_trials(row, rows)
            if self._is_over(group_by_number(rows)):
                is_useless = not any(end.results for end in self._ends.values())
                self._end(row, self._summary(), has_failed=is_useless)
                return self._flush(row)
        wait_s = self._next_standing_at - time.monotonic()
        if wait_s > 0:
            self._schedule_next_look(wait_s)
            return True
        self._note(row)
        self._record_standing(row)
        if self._writer is not None:
            self._writer.write()
        return True

    def _has_changed(self, rows: Sequence[TrialRow]) -> bool:
        """Whether a trial is new, or one whose end is known has another one now: its owner retried or deleted a job."""
        trials = group_by_number(rows)
        return len(self._list_numbers(trials)) > self._asked or any(
            number not in trials or not has_ended(trials[number], self._definition)
            for number in self._ends
        )

    def _rebuild(self, row: SearchRow, rows: Sequence[TrialRow]) -> None:
        """Read the definition, and make the study of the trials in the queue."""
        self._body, self._definition = row.body, read_definition(row.body)
        self._jobs = TrialJobs(self._home, self._store, row, self._definition)
        self._room = Room(self._home, self._store)
        if self._definition.plan is not None:  # paths of the plan are relative to this folder
            os.chdir(self._jobs.context.folder)
        self._is_exhausted = False
        self._make_study(row, rows)

    def _make_study(self, row: SearchRow, rows: Sequence[TrialRow]) -> None:
        self._stop_writing()
        self._ends = {}
        self._durations = [each.ended - each.submitted for each in rows if each.ended is not None]
        self._study = SearchStudy(self._definition, study_name(self._store, row))
        trials = group_by_number(rows)
        for number, group in trials.items():
            if has_ended(group, self._definition):
                self._ends[number] = end_of(group, self._jobs.results(group))
        self._asked = len(self._list_numbers(trials))
        for number in range(self._asked):
            self._study.add(self._record(number, trials.get(number, [])))
        self._writer = JournalWriter(
            self._study.journal, journal_path(self._home, self._store, row)
        )

    def _record(self, trial_number: int, rows: Sequence[TrialRow]) -> TrialRecord:
        """Return a trial as the study has it; a deleted one has failed."""
        if not rows:
            return TrialRecord(trial_number, {}, {}, 0.0, TrialEnd.FAILED)
        first = rows[0]
        record = TrialRecord(
            trial_number,
            values_in(self._definition.space, first.values),
            first.attributes,
            first.submitted,
        )
        if self._definition.prunes:
            record = record._replace(steps=self._jobs.steps(first))
        end = self._ends.get(trial_number)
        if end is None:
            return record
        kind, results = self._study_result(end)
        return record._replace(end=kind, ended=end.ended, results=results)

    def _study_result(self, end: EndedTrial) -> tuple[TrialEnd, tuple[float, ...]]:
        """Return how a trial ended as the study has it."""
        results = results_for_study(end, self._ends.values(), self._definition.objectives)
        if end.outcome is TrialOutcome.PRUNED:
            return TrialEnd.PRUNED, results
        return TrialEnd.COMPLETE if results else TrialEnd.FAILED, results

    def _retry_killed(self, rows: Sequence[TrialRow]) -> Sequence[TrialRow]:
        """Queue jobs again that were killed from outside or lost. Return the rows as they are then."""
        failed = [
            row
            for row in rows
            if row.state is State.FAILED
            and row.number not in self._ends
            and row.attempts < MOST_KILLED
        ]
        last = {each.job: each for each in self._store.read.attempts([row.job for row in failed])}
        may_repeat = self._jobs.template().terms.rerun != "never"
        lost = {row.job for row in failed if may_repeat and has_lost_its_machine(row)}
        killed = [job for job, each in last.items() if was_killed(each.outcome) or job in lost]
        if not killed:
            return rows
        self._store.job_control.retry(killed, time.time())
        wake(self._home)
        return self._store.searches.trials(self._number)

    def _record_ended(self, rows: Sequence[TrialRow]) -> None:
        """Let the study learn which trials have ended."""
        new = [
            group
            for number, group in group_by_number(rows).items()
            if number not in self._ends and has_ended(group, self._definition)
        ]
        for group in new:
            end = end_of(group, self._jobs.results(group))
            self._ends[end.number] = end
        for (
            group
        ) in new:  # the worst result until a trial's end may be that of another one of these
            number = group[0].number
            if self._definition.prunes:
                self._study.report(number, self._jobs.steps(group[0]))
            self._study.tell(number, *self._study_result(self._ends[number]))
            self._durations += [(row.ended or row.submitted) - row.submitted for row in group]

    def _ended_in_order(self) -> list[EndedTrial]:
        return [self._ends[number] for number in sorted(self._ends)]

    def _reason_to_stop(self) -> str:
        """Return why the search cannot go on, empty if it can."""
        first = self._ended_in_order()[:MOST_FAILED]
        if self._ends and not any(end.results for end in self._ends.values()):
            missing = next((end.missing for end in first if end.missing), "")
            if missing:
                return close_metric(missing, self._jobs.printed, self._jobs.empty)
            if len(first) == MOST_FAILED:
                all_failed = all(end.outcome is TrialOutcome.FAILED for end in first)
                what = "failed" if all_failed else "have no result"
                return f"the first {MOST_FAILED} trials {what}{self._first_failure()}"
        later = self._definition.continued_at
        new = [end for end in self._ended_in_order() if later and end.number >= later]
        if len(new) >= MOST_FAILED and not any(
            end.results or end.outcome is TrialOutcome.PRUNED for end in new[:MOST_FAILED]
        ):
            what = f"the first {MOST_FAILED} trials after it was continued failed"
            return f"{what}{self._first_failure(later)}"
        limit = self._jobs.max_failures
        failed = sum(end.outcome is TrialOutcome.FAILED for end in self._ends.values())
        return f"{failed} trials failed (--max-failures)" if limit and failed >= limit else ""

    def _note(self, row: SearchRow) -> None:
        """Record what the owner should know."""
        note = self._writer.error if self._writer is not None else ""
        known = [end.results for end in self._ends.values() if end.results]
        if not note and len(known) >= MOST_EQUAL and len(set(known)) == 1:
            names = ", ".join(each.metric for each in self._definition.objectives)
            note = (
                f"all {len(known)} trials reported the same {names}. "
                "The program may not use its arguments"
            )
        if note != row.reason:
            self._store.searches.set_note(self._number, note)

    def _prune(self, trials: Mapping[int, Sequence[TrialRow]]) -> None:
        """End running trials whose steps are worse than those of others."""
        running = [rows[0] for rows in trials.values() if rows and rows[0].state is State.RUNNING]
        if not running:
            return
        self._schedule_next_look(STEPS_S)
        for row in running:
            steps = self._jobs.steps(row)
            if not steps:
                continue
            self._study.report(row.number, steps)
            if self._study.should_prune(row.number):
                self._store.job_control.prune(row.job, steps[-1][0], time.time())
                wake(self._home)

    def _queue_trials(self, row: SearchRow, rows: Sequence[TrialRow]) -> Sequence[TrialRow]:
        """Queue as many jobs as can start. Return the jobs of all trials."""
        while True:
            trials = group_by_number(rows)
            pending = self._next_repeat(trials)
            if pending is None and (
                self._is_exhausted or len(self._list_numbers(trials)) >= self._definition.trials
            ):
                return rows
            opened = [row for rows in trials.values() for row in rows if row.state in OPEN_STATES]
            if self._definition.parallel and len(opened) >= self._definition.parallel:
                return rows
            waits = any(row.state is not State.RUNNING for row in opened)
            if not self._room.fits(
                self._jobs.template(), self._jobs.context, opened_count=len(opened), waits=waits
            ):
                self._schedule_next_look(ROOM_S)
                return rows
            try:
                added = self._add(pending, trials)
            except Exhausted:
                self._is_exhausted, added = True, False
            if not added:  # the study has a trial too many
                self._make_study(row, rows)
                return rows
            rows = self._store.searches.trials(self._number)
            self._record_ended(rows)  # values are chosen by the newest results

    def _schedule_next_look(self, span_s: float) -> None:
        """Look at the queue after at most some seconds, also if it has not changed."""
        self._next_look_at = min(self._next_look_at, time.monotonic() + span_s)

    def _list_numbers(self, trials: Mapping[int, Sequence[TrialRow]]) -> range:
        """Return the numbers of all trials so far, also of deleted ones."""
        return range(max(trials, default=-1) + 1)

    def _next_repeat(self, trials: Mapping[int, Sequence[TrialRow]]) -> TrialRow | None:
        """Return a trial of which a further seed is to be queued."""
        for rows in trials.values():
            if missing_repeats(rows, self._definition):
                return rows[0]
        return None

    def _add(self, trial: TrialRow | None, trials: Mapping[int, Sequence[TrialRow]]) -> bool:
        """Queue the next job. Return whether the search is still open.

        Raises:
            Exhausted: all values were tried.
        """
        if trial is not None:
            repeat = missing_repeats(trials[trial.number], self._definition)[0]
            chosen = {name: trial.values[name] for name in self._definition.space}
            new = NewTrial(trial.number, repeat, chosen, trial.attributes, trial.told)
        else:
            number = len(self._list_numbers(trials))
            if number != self._asked:  # the user has added a trial
                return False
            self._asked += 1
            values, attrs = self._study.ask(number)
            new = NewTrial(number, 0, values, attrs, len(self._ends))
        return self._jobs.queue(new)

    def _is_over(self, trials: Mapping[int, Sequence[TrialRow]]) -> bool:
        asked = len(self._list_numbers(trials))
        if asked < self._definition.trials and not self._is_exhausted:
            return False
        return all(has_ended(rows, self._definition) for rows in trials.values())

    def _summary(self) -> str:
        number = len(self._ends)
        if not any(end.results for end in self._ends.values()):
            names = ", ".join(each.metric for each in self._definition.objectives)
            what = f"no trial has a finite {names} ({pluralize(number, 'trial')})"
            return f"{what}{self._first_failure()}"
        if self._is_exhausted and number < self._definition.trials:
            return (
                "the only combination was tried"
                if number == 1
                else f"all {number} combinations were tried"
            )
        return pluralize(number, "trial")

    def _first_failure(self, first: int = 0) -> str:
        """Return the job of a trial that failed first, and why, as the end of a sentence; empty if none failed.

        Args:
            first: The first trial that counts.
        """
        rows = self._store.searches.trials(self._number)
        failed = [row.job for row in rows if row.state is State.FAILED and row.number >= first]
        for job in self._store.read.jobs_by_id(failed[:1]):
            return f". Job {job.id} failed: {job.reason.removeprefix('failed: ')}"
        return ""

    def _record_standing(self, row: SearchRow, *, last: bool = False) -> None:
        """Record how far the search is; the importance of parameters is computed once a minute, and at the end."""
        definition, now = self._definition, time.monotonic()
        self._next_standing_at = now + STANDING_S
        complete = sum(end.outcome is TrialOutcome.COMPLETE for end in self._ends.values())
        known = row.progress.get("importance")
        importance: Mapping[str, Json] = known if isinstance(known, dict) else {}
        if complete >= LEAST_FOR_IMPORTANCE and (last or now >= self._next_importance_at):
            self._next_importance_at = now + IMPORTANCE_S
            importance = {**self._study.importances()}
        recent = self._durations[-RECENT_TRIALS:]
        standing = standing_of(
            self._ended_in_order(),
            definition.objectives,
            max(definition.trials, len(self._ends)),
            running_count=len(self._store.searches.open_jobs([self._number])),
            mean_s=sum(recent) / len(recent) if recent else None,
        )
        rows = self._store.searches.trials(self._number)
        jobs = {each.number: each.job for each in reversed(rows)}
        record = standing_record(standing, definition.objectives, jobs, importance)
        if last or record != row.progress:
            self._store.searches.set_progress(self._number, record)

    def _end(self, row: SearchRow, why: str, *, has_failed: bool) -> None:
        self._record_standing(row, last=True)
        if self._writer is not None:
            self._writer.flush()
        if has_failed:
            end_failed(self._home, self._store, self._number, why)
        else:
            self._store.searches.end(self._number, why, has_failed=False)

    def _flush(self, row: SearchRow) -> bool:
        """Write the rest of the journal; return whether the search continues, which it does not."""
        del row
        if self._writer is not None:
            self._writer.flush()
        self._stop_writing()
        return False

    def _stop_writing(self) -> None:
        if self._writer is not None:
            self._writer.stop()
