"""A job as all screens, pages and programs are shown it: what it is, how far it is or why it waits, what came out."""

import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from launcher.job import PROGRAM
from launcher.params import format_params, params_in_job_name, varying_names
from launcher.screens.format import first_line, iso_time, reason_to_show
from launcher.screens.termination import TerminationStatus, termination_of
from launcher.screens.text_table import ELLIPSIS
from launcher.states import OPEN_STATES, Reason, ReasonCode, State, strip_state_prefix
from launcher.store.job_queries import CompletionEvent, UnmetDependency
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Attempt, Home
from launcher.system.text import sanitize_terminal
from launcher.workers.progress.attempt_progress import (
    NO_PROGRESS,
    AttemptProgress,
    read_attempt_progress,
    read_last_metrics,
)
from launcher.workers.progress.hashing import read_hashing_report
from launcher.workers.progress.steps import ProgressReport

RECENT = 10  # ends that are listed
WAITING = 40  # waiting jobs that are listed
LONGEST_PROGRAM = 40  # characters of a command line in a list
METRICS = 3  # results of a job that are shown in its line
_NUMBERED = f"{PROGRAM}/"
_ABSENT = object()
_OVER_PROGRESS = {ReasonCode.ENDING, ReasonCode.SETTLING}  # a running job's, shown before its step


class GpuMemoryUsage(NamedTuple):
    """GPU memory of a running job, in bytes on the GPU where it takes most; None: not known."""

    now: int | None = None
    peak: int | None = None
    requested: int | None = None
    estimate: int | None = None  # where nothing is asked for: it follows the use
    exclusive: bool = False  # it shares its GPUs with no other job

    @property
    def exceeds_request(self) -> bool:
        """It took more than it was promised."""
        return self.requested is not None and max(self.now or 0, self.peak or 0) > self.requested


class JobView(NamedTuple):
    """A job as it is shown everywhere: as it is now, or as it was when an attempt of it ended."""

    id: int
    run: str
    name: str
    kind: str
    state: State  # of an end: failed, too, where it was queued again; queued, where it had only to stop
    priority: int
    since: float  # it ended, started, or was queued
    note: str  # its progress, or why it is in its state; of an end its result, or why and what was done
    program: str = ""  # what it runs, where its name does not tell
    params: Mapping[str, Json] = {}  # of a program or a function
    params_text: str = ""  # those in which jobs of its run differ, where its name does not tell
    code: ReasonCode | None = None  # of the note; None: that is its progress, or its last line
    need: str = ""  # the beginning of the note, where the rest tells the machine's situation
    situation: str = ""  # that rest: jobs that wait for the same have the same
    # of one that runs, where it was looked at
    devices: str = "cpu"  # the GPUs as people call them
    node: str = ""  # where its pilot is; '' on this machine
    memory: GpuMemoryUsage | None = (
        None  # None: it works on the CPU; of one that waits, what it asks for
    )
    step: ProgressReport | None = None
    ends: float | None = None  # when it is expected to end; None: unknown
    # of an end
    seconds: float | None = None  # how long its attempt took
    short: str = ""  # why it failed, cut to the program's exception; empty: there is none
    requeued: bool = False  # the note says itself that the job was queued again
    latest: State | None = None  # the state of the job by now
    # of one that runs and is being ended, where that was looked at
    termination: TerminationStatus | None = None

    @property
    def is_open_again(self) -> bool:
        """It is an end, and the job is open again."""
        return self.latest in OPEN_STATES

    def columns(self) -> tuple[str, ...]:
        """Return it for pipes: full values, absolute times."""
        params = format_params(self.params, self.params)
        return (
            str(self.id),
            self.run,
            self.name,
            self.state,
            iso_time(self.since),
            self.note,
            params,
        )

    def record(self) -> dict[str, Json]:
        """Return it for JSON."""
        return {
            "id": self.id,
            "run": self.run,
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "priority": self.priority,
            "since": iso_time(self.since),
            "note": self.note,
            "note_code": self.code,
            "params": {**self.params},
        }


DifferingParams = Mapping[int, Collection[str]]  # run → parameters
NO_DIFFERENCES: DifferingParams = {}


def job_view(
    job: JobRow,
    progress: AttemptProgress = NO_PROGRESS,
    *,
    started: float | None = None,
    need: UnmetDependency | None = None,
    differing: DifferingParams | None = NO_DIFFERENCES,
    ending: Reason | None = None,
) -> JobView:
    """Return a job as it is; a running one tells its progress or what it printed last, any other why it is as it is.

    Args:
        job: as the queue knows it.
        progress: how far it is, if it runs and reports that.
        started: when its attempt began, where it runs.
        need: the first of the jobs that must still be done before it, where it is known.
        differing: in which parameters jobs of its run differ; None: only people are told, by them and its program.
        ending: why it is being ended; None if it is not.
    """
    works = job.state is State.RUNNING and job.paused is None
    reason = ending
    if reason is None and not (
        works and progress != NO_PROGRESS and job.state_reason.code not in _OVER_PROGRESS
    ):
        reason = reason_to_show(job, need)
    data = {} if reason is None else reason.data
    program = "" if differing is None else _program(job)  # half of what a line costs
    return JobView(
        id=job.id,
        run=sanitize_terminal(job.run),
        name=sanitize_terminal(job.name),
        kind=sanitize_terminal(job.kind),
        state=job.state,
        priority=job.priority,
        since=job.ended or started or job.submitted,
        note=sanitize_terminal(
            str(progress.step or progress.line)
            if reason is None
            else strip_state_prefix(first_line(reason.text))
        ),
        program=program,
        params=job.params,
        # a command line that is shown whole tells them already
        params_text=""
        if program and not program.endswith(ELLIPSIS)
        else _differing_params_text(job, differing or {}),
        code=None if reason is None else reason.code,
        need=sanitize_terminal(str(data.get("need", ""))),
        situation=sanitize_terminal(str(data.get("situation", ""))),
    )


def view_of_end(
    job: JobView, ending: CompletionEvent, result: Mapping[str, object] | None = None
) -> JobView:
    """Return a job as it was when an attempt of it ended.

    Args:
        job: as it is now.
        ending: what happened.
        result: what the job returned.
    """
    reason, is_done = ending.reason, ending.state is State.DONE
    why = "" if is_done else sanitize_terminal(strip_state_prefix(first_line(reason.text)))
    return job._replace(
        state=ending.state,
        since=ending.at,
        note=why or (format_numbers(result or {}) if is_done else ""),
        short=sanitize_terminal(str(reason.data.get("short", ""))),
        requeued=bool(reason.data.get("requeued")),
        latest=job.state,
        seconds=ending.seconds,
    )


def format_numbers(result: Mapping[str, object]) -> str:
    """Return the first few numbers of a job's result, as `key=value`."""
    numbers = [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sanitize_terminal(" ".join(numbers[:METRICS]))


def _program(job: JobRow) -> str:
    """Return the beginning of what a command runs whose name is only a number."""
    number = job.name.removeprefix(_NUMBERED).rstrip("'")
    if not (job.name.startswith(_NUMBERED) and number.isdecimal()):
        return ""
    words = sanitize_terminal(shlex.join(job.spec.argv))
    return words if len(words) <= LONGEST_PROGRAM else words[: LONGEST_PROGRAM - 1] + ELLIPSIS


def differing_params(store: Store, jobs: Iterable[JobRow]) -> DifferingParams:
    """Return run → the parameters in which its jobs differ, as far as some of them tell."""
    by_run: dict[int, list[Mapping[str, Json]]] = {}
    for job in jobs:
        if job.params:
            by_run.setdefault(job.run_id, []).append(job.params)
    for job in store.read.first_and_last_jobs(by_run) if by_run else ():
        by_run[job.run_id].append(job.params)
    return {run: frozenset(varying_names(those)) for run, those in by_run.items()}


def _differing_params_text(job: JobRow, differing: DifferingParams) -> str:
    """Return the parameters of a job in which jobs of its run differ and that its name does not tell."""
    names = differing.get(job.run_id)
    if not names:
        return ""
    named = params_in_job_name(job.name)
    return format_params(
        job.params, [name for name in names if named.get(name, _ABSENT) != job.params.get(name)]
    )


def read_final_metrics(home: Home, job: JobRow) -> Mapping[str, Json]:
    """Return what a program that is done told last; nothing of any other job."""
    if job.kind != PROGRAM or job.state is not State.DONE or not job.attempts:
        return {}
    return _numbers_of(job.attempt_in(home), job.ended)


@lru_cache(maxsize=256)  # it does not change, and a screen is drawn many times
def _numbers_of(attempt: Attempt, _ended: float | None) -> Mapping[str, Json]:
    return read_last_metrics(attempt)


def read_newest_progress(home: Home, job: JobRow) -> AttemptProgress:
    """Return how far a running job is, or what it printed last; while a large file is hashed, that."""
    if job.state is not State.RUNNING:
        return NO_PROGRESS
    attempt = job.attempt_in(home)
    hashing = read_hashing_report(attempt)
    return AttemptProgress(line=hashing) if hashing else read_attempt_progress(attempt)


def ending_reason_of(home: Home, job: JobRow) -> Reason | None:
    """Return why a running job is being ended, as of now; None if it is not."""
    found = termination_of(home, job)
    return None if found is None else found.reason(time.time())


class GroupStatus(NamedTuple):
    """A group of jobs that has a limit."""

    name: str  # as it was given: it may steer a terminal
    limit: int
    running: int


def groups_of(store: Store, running: Sequence[JobRow]) -> tuple[GroupStatus, ...]:
    """Return the groups that have a limit, and how many of the running jobs are theirs."""
    at_work = Counter(job.spec.terms.group for job in running)
    groups = store.read.group_limits()
    return tuple(GroupStatus(group.name, group.slots, at_work[group.name]) for group in groups)


def job_views(
    home: Home, store: Store, jobs: Sequence[JobRow], *, compared: bool = True
) -> list[JobView]:
    """Return jobs as they are at this moment, for people compared with the others of their runs, and with their programs."""
    needs = store.read.first_unmet_dependencies(
        job.id for job in jobs if job.waits and job.state in OPEN_STATES
    )
    begun = {claim.job: claim.claimed for claim in store.scheduler_actions.open_claims()}
    differ = differing_params(store, jobs) if compared else None
    views = []
    for job in jobs:
        termination = termination_of(home, job)
        view = job_view(
            job,
            read_newest_progress(home, job),
            started=begun.get(job.id),
            need=needs.get(job.id),
            differing=differ,
            ending=None if termination is None else termination.reason(time.time()),
        )
        views.append(view if termination is None else view._replace(termination=termination))
    return views
