"""Which jobs and attempts the results of a run are of: for each name the newest attempt that was done.

A name has a newer job if it was queued again, and a job has a newer attempt if it runs again. Until these are done,
the older result counts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.errors import pluralize
from launcher.ids import model_folder_name
from launcher.job import Spec
from launcher.kind_interface import Role
from launcher.states import OPEN_STATES, State
from launcher.store.queue import Store
from launcher.store.rows import AttemptRow, JobRow
from launcher.store.tags import REMOVED_TAG
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.workers.order import read_job_spec

MAKERS = frozenset({Role.TRAIN, Role.METHOD})
RESULT_ROLES = frozenset({Role.TEST, Role.FOLDER})  # jobs that are rows of a laboratory's table
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

    job: JobRow  # as it was when the attempt was done whose result counts; without one, the newest job as it is
    newest: JobRow  # as it is now

    @property
    def has_result(self) -> bool:
        """Whether an attempt was done."""
        return self.job.state is State.DONE

    @property
    def is_older(self) -> bool:
        """Whether the newest job is not done, and an older result counts."""
        return self.has_result and self.newest.state is not State.DONE


def result_jobs(
    home: Home, store: Store, jobs: Sequence[JobRow], *, all_jobs: bool = False
) -> list[ResultJob]:
    """Return the jobs whose results count, each name once, in the order in which the newest jobs were queued.

    A job without a result is left out if its task file does not have its values any more.

    Args:
        home: whose jobs.
        store: its queue.
        jobs: of a run, or of some runs.
        all_jobs: also those that a newer job of the same name replaced.
    """
    superseded = {} if all_jobs else store.read.superseded(jobs)
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
    home: Home, jobs: Sequence[JobRow], done: Mapping[int, AttemptRow]
) -> ResultJob:
    """Return the newest of the jobs of one name, and which of them has a result.

    Args:
        home: whose jobs.
        jobs: of one name.
        done: job → its newest attempt that was done, of jobs that are not done now.
    """
    newest_first = sorted(jobs, key=lambda job: job.id, reverse=True)
    newest = newest_first[0]
    for job in newest_first:
        if job.state is State.DONE:
            return ResultJob(job, newest)
        attempt = done.get(job.id)
        if attempt is not None and (before := _as_last_done(home, job, attempt)) is not None:
            return ResultJob(before, newest)
    return ResultJob(newest, newest)


def _as_last_done(home: Home, job: JobRow, attempt: AttemptRow) -> JobRow | None:
    """Return a job as it was when an earlier attempt was done: it may have other settings now.

    None if the settings of that attempt are not known.
    """
    try:
        record = read_job_spec(home.attempt(job.id, attempt.number).spec.read_bytes())
    except (OSError, ValueError):
        return None
    text = json.dumps({**record, "name": job.name})
    return replace(
        job, state=State.DONE, attempts=attempt.number, ended=attempt.ended, spec_text=text
    )


def _drop_stale_results(chosen: list[ResultJob]) -> list[ResultJob]:
    """Return the same without older results of tests whose model was made again since."""
    if not any(each.is_older for each in chosen):
        return chosen
    made = {
        each.job.spec_without_sources.model: each.job.ended or 0.0
        for each in chosen
        if each.has_result and each.job.spec_without_sources.role in MAKERS
    }

    def is_stale(each: ResultJob) -> bool:
        spec = each.job.spec_without_sources
        later = made.get(spec.model, 0.0) > (each.job.ended or 0.0)
        return each.is_older and spec.role == Role.TEST and later

    return [ResultJob(each.newest, each.newest) if is_stale(each) else each for each in chosen]


def unfinished_states(chosen: Iterable[ResultJob]) -> dict[str, str]:
    """Return ID of a model, or name of a made folder → the worst state of its jobs that have no result."""
    states: dict[str, str] = {}
    for each in chosen:
        spec = each.newest.spec_without_sources
        of = made_folder_name(spec) if spec.role == Role.FOLDER else spec.model or ""
        if of and not each.has_result:
            words = {state_word(each.newest.state), states.get(of, WAITING)}
            states[of] = next(word for word in _WORST_FIRST if word in words)
    return states


def made_folder_name(spec: Spec) -> str:
    """Return the name of the folder that a job makes in its run's folder."""
    return model_folder_name(spec.name.partition("/")[2])


def state_word(state: State) -> str:
    """Return the state of a job without a result in a word of a table; a held job waits, too."""
    return WAITING if state in OPEN_STATES - {State.RUNNING} else str(state)


def states_text(states: Mapping[str, int]) -> str:
    """Return "1 failed, 2 waiting"."""
    return ", ".join(f"{number:,} {word}" for word, number in states.items() if number)


class ResultCounts(NamedTuple):
    """How many jobs a table of results is of, and of which of them it shows an older result or none."""

    jobs: int  # with a result, or without one that is to come or failed
    older: Mapping[str, int]  # state of the newest job → number of jobs
    missing: Mapping[str, int]  # likewise

    def notes(self) -> list[str]:
        """Return what people have to know of the table, a sentence each."""
        return [*self.older_notes(), *_missing_notes(self.missing, self.jobs)]

    def older_notes(self) -> list[str]:
        """Return which rows are older results."""
        return [*_older_notes(self.older, self.jobs)]

    def record(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "jobs": self.jobs,
            "older_results": dict(self.older),
            "without_result": dict(self.missing),
        }


def count_results(chosen: Iterable[ResultJob], *, tests: bool) -> ResultCounts:
    """Return how many jobs a table is of.

    Args:
        chosen: the jobs of a run.
        tests: the table is that of a laboratory, of tests and folders; otherwise of all jobs.
    """
    of_table = [
        each for each in chosen if not tests or each.job.spec_without_sources.role in RESULT_ROLES
    ]

    def states(jobs: Iterable[ResultJob]) -> Mapping[str, int]:
        return dict(Counter(state_word(each.newest.state) for each in jobs))

    return ResultCounts(
        jobs=len(of_table),
        older=states(each for each in of_table if each.is_older),
        missing=states(each for each in of_table if not each.has_result),
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


def _missing_notes(missing: Mapping[str, int], jobs: int) -> Iterable[str]:
    if number := sum(missing.values()):
        verb = "have" if number > 1 else "has"
        text = f"{number:,} of {pluralize(jobs, 'job')} {verb} no result"
        yield f"{text}: {states_text(missing)}"
