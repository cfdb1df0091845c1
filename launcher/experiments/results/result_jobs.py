"""The jobs and attempts whose results count: for each name the newest attempt that was done.

A name has a newer job if it was queued again, and a job has a newer attempt if it runs again. Until these are done,
the older result counts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.experiments.kind_interface import Role
from launcher.ids import model_folder_name
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import AttemptRow, JobRow
from launcher.queue.store.tags import REMOVED_TAG
from launcher.queue.workers.attempt_spec import read_job_spec
from launcher.system.errors import pluralize
from launcher.system.files import Json

MAKERS = frozenset({Role.TRAIN, Role.METHOD})
# jobs that are rows in the table of a plugin package
RESULT_ROLES = frozenset({Role.TEST, Role.FOLDER})
WAITING = "waiting"
_AGAIN = (WAITING, str(State.RUNNING))
_ENDED = {
    "failed": "failed when {} ran again",
    "cancelled": "{was} cancelled before {} ran again",
    "skipped": "{was} skipped before {} ran again",
}
_WORST_FIRST = ("failed", "cancelled", "skipped", "running", WAITING)


class ResultJob(NamedTuple):
    """A name of a run: the job whose result counts, and the newest job."""

    # row at the done attempt whose result counts; without such an attempt, the newest job
    job: JobRow
    newest: JobRow  # the job's current state

    @property
    def has_result(self) -> bool:
        """Whether an attempt was done."""
        return self.job.state is State.DONE

    @property
    def is_older(self) -> bool:
        """Whether the newest job is not done and an older result counts."""
        return self.has_result and self.newest.state is not State.DONE


def result_jobs(
    home: Home, store: Store, jobs: Sequence[JobRow], *, all_jobs: bool = False
) -> list[ResultJob]:
    """Return the jobs whose results count, each name once, in the order in which the newest jobs were queued.

    A job without a result is omitted if its task file does not contain its values any more.

    Args:
        home: Queue folder.
        store: Queue.
        jobs: Jobs of one or several runs.
        all_jobs: Include superseded jobs.
    """
    superseded = {} if all_jobs else newest_by_superseded(store.database.execute, jobs)
    names: dict[int, list[JobRow]] = {}
    for job in jobs:
        names.setdefault(superseded.get(job.id, job.id), []).append(job)
    again = [job.id for job in jobs if job.state is not State.DONE and job.attempts]
    done = {each.job: each for each in store.read.attempts(again) if each.is_done}
    chosen = _drop_stale_results(
        [_newest_with_result(home, names[number], done) for number in sorted(names)]
    )
    tags = store.job_control.tags_of(each.job.id for each in chosen if not each.has_result)
    return [each for each in chosen if REMOVED_TAG not in tags.get(each.job.id, ())]


def _newest_with_result(
    home: Home, jobs: Sequence[JobRow], done_attempts: Mapping[int, AttemptRow]
) -> ResultJob:
    """Return the newest job of a name, and the job with the result that counts.

    Args:
        home: Queue folder.
        jobs: Jobs with the same name.
        done_attempts: Job → its newest done attempt, for jobs that are not done now.
    """
    newest_first = sorted(jobs, key=lambda job: job.id, reverse=True)
    newest = newest_first[0]
    for job in newest_first:
        if job.state is State.DONE:
            return ResultJob(job, newest)
        attempt = done_attempts.get(job.id)
        if attempt is not None and (before := _as_last_done(home, job, attempt)) is not None:
            return ResultJob(before, newest)
    return ResultJob(newest, newest)


def _as_last_done(home: Home, job: JobRow, attempt: AttemptRow) -> JobRow | None:
    """Return a job with the settings of an earlier done attempt; its current settings may differ.

    None if the settings of that attempt are unknown.
    """
    try:
        record = read_job_spec(home.attempt(job.id, attempt.number).spec.read_bytes())
    except (OSError, ValueError):
        return None
    text = json.dumps({**record, "name": job.name})
    return replace(
        job, state=State.DONE, attempts=attempt.number, ended=attempt.ended, spec_text=text
    )


def _drop_stale_results(selected_jobs: list[ResultJob]) -> list[ResultJob]:
    """Return the jobs without older results of tests whose model was made again since."""
    if not any(each.is_older for each in selected_jobs):
        return selected_jobs
    made = {
        each.job.spec_without_sources.model: each.job.ended or 0.0
        for each in selected_jobs
        if each.has_result and each.job.spec_without_sources.role in MAKERS
    }

    def is_stale(each: ResultJob) -> bool:
        spec = each.job.spec_without_sources
        later = made.get(spec.model, 0.0) > (each.job.ended or 0.0)
        return each.is_older and spec.role == Role.TEST and later

    return [
        ResultJob(each.newest, each.newest) if is_stale(each) else each for each in selected_jobs
    ]


def unfinished_states(selected_jobs: Iterable[ResultJob]) -> dict[str, str]:
    """Return model ID, or name of an output folder → the worst state of its jobs without a result."""
    states: dict[str, str] = {}
    for each in selected_jobs:
        spec = each.newest.spec_without_sources
        of = made_folder_name(spec) if spec.role == Role.FOLDER else spec.model or ""
        if of and not each.has_result:
            words = {state_word(each.newest.state), states.get(of, WAITING)}
            states[of] = next(word for word in _WORST_FIRST if word in words)
    return states


def made_folder_name(spec: Spec) -> str:
    """Return the name of the output folder of a job in its run's folder."""
    return model_folder_name(spec.name.partition("/")[2])


def state_word(state: State) -> str:
    """Return the state of a job without a result as a word for tables; a held job is also waiting."""
    return WAITING if state in OPEN_STATES - {State.RUNNING} else str(state)


def states_text(states: Mapping[str, int]) -> str:
    """Return "1 failed, 2 waiting"."""
    return ", ".join(f"{number:,} {word}" for word, number in states.items() if number)


class ResultCounts(NamedTuple):
    """The number of jobs in a table of results, and of those with an older result or none."""

    jobs: int  # number of jobs with a result, and of jobs that wait or failed
    older: Mapping[str, int]  # state of the newest job → number of jobs
    missing: Mapping[str, int]  # state of the newest job → number of jobs

    def notes(self) -> list[str]:
        """Return the notes about the table, one sentence each."""
        return [*self.older_notes(), *_missing_notes(self.missing, self.jobs)]

    def older_notes(self) -> list[str]:
        """Return the notes about older results."""
        return [*_older_notes(self.older, self.jobs)]

    def to_json(self) -> dict[str, Json]:
        """Return the counts as JSON."""
        return {
            "jobs": self.jobs,
            "older_results": dict(self.older),
            "without_result": dict(self.missing),
        }


def count_results(
    selected_jobs: Iterable[ResultJob], *, tests: bool, silent_count: int = 0
) -> ResultCounts:
    """Count the jobs in a table of results.

    Args:
        selected_jobs: Jobs of a run.
        tests: Count only tests and folders, as in the table of a plugin package, instead of all jobs.
        silent_count: Number of done jobs that returned no number, as similar ones did.
    """
    of_table = [
        each
        for each in selected_jobs
        if not tests or each.job.spec_without_sources.role in RESULT_ROLES
    ]

    def states(jobs: Iterable[ResultJob]) -> Mapping[str, int]:
        return dict(Counter(state_word(each.newest.state) for each in jobs))

    return ResultCounts(
        jobs=len(of_table),
        older=states(each for each in of_table if each.is_older),
        missing={
            **states(each for each in of_table if not each.has_result),
            **({str(State.DONE): silent_count} if silent_count else {}),
        },
    )


def _older_notes(older: Mapping[str, int], jobs: int) -> Iterable[str]:
    again = [word for word in _AGAIN if older.get(word)]
    if again:
        number = sum(older[word] for word in again)
        yield _older_note(number, jobs, f"{{are}} {' or '.join(again)} again")
    for word, text in _ENDED.items():
        if number := older.get(word, 0):
            yield _older_note(number, jobs, text)


def _older_note(number: int, jobs: int, text: str) -> str:
    words = {"are": "are", "was": "were"} if number > 1 else {"are": "is", "was": "was"}
    what = text.format("they" if number > 1 else "it", **words)
    results = "their older results are shown" if number > 1 else "its older result is shown"
    return f"{number:,} of {pluralize(jobs, 'job')} {what}; {results}"


def _missing_notes(missing_counts: Mapping[str, int], jobs: int) -> Iterable[str]:
    if number := sum(missing_counts.values()):
        verb = "have" if number > 1 else "has"
        text = f"{number:,} of {pluralize(jobs, 'job')} {verb} no result"
        yield f"{text}: {states_text(missing_counts)}"
