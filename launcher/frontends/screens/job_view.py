"""The view of a job on all screens, on the web page and in JSON: identity, state, progress or reason, and result."""

import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.screens.code_notes import code_change_notes
from launcher.frontends.screens.termination import TerminationStatus, termination_of
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.params import (
    format_params,
    params_in_job_name,
    swept_values,
    varying_names,
)
from launcher.queue.jobs.states import OPEN_STATES, Reason, ReasonCode, State, strip_state_prefix
from launcher.queue.store.job_queries import CompletionEvent, UnmetDependency
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import first_line, iso_time, iso_time_or_none, reason_to_show
from launcher.queue.workers.progress.hashing import read_hashing_report
from launcher.queue.workers.progress.steps import NO_PROGRESS, AttemptProgress, ProgressReport
from launcher.system.executables import script_of
from launcher.system.files import Json, describe_full_disk
from launcher.system.processes import boot_id, is_alive
from launcher.system.secret_arguments import hide_secrets
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import ELLIPSIS

RECENT = 10  # ended attempts that are listed
WAITING = 40  # waiting jobs that are listed
MOST_WITH_NUMBERS = 100  # jobs of a list; the numbers of a program are read from its files
LONGEST_PROGRAM = 40  # characters of a command line in a list
UNRECORDED_END = "waiting for disk space: its program has ended"
METRICS = 3  # results of a job that are shown in its line
_NUMBERED = f"{PROGRAM}/"
_ABSENT = object()
# reasons of a running job, shown instead of its progress
_OVER_PROGRESS = {ReasonCode.ENDING, ReasonCode.SETTLING, ReasonCode.FROZEN}


class GpuMemoryUsage(NamedTuple):
    """GPU memory of a running job, in bytes on the GPU where it uses most; None is unknown."""

    now: int | None = None
    peak: int | None = None
    requested: int | None = None
    estimate: int | None = None  # bytes without a request: they follow the measured usage
    exclusive: bool = False  # the job shares its GPUs with no other job

    @property
    def exceeds_request(self) -> bool:
        """Whether the job has used more than its request."""
        return self.requested is not None and max(self.now or 0, self.peak or 0) > self.requested


class JobView(NamedTuple):
    """A job as the screens show it: as it is now, or as it was when an attempt ended."""

    id: int
    run: str
    name: str
    kind: str
    state: State  # an ended attempt is failed even if requeued, and queued if only stopped
    priority: int
    since: float  # when the job ended, started, or was queued
    reason: str  # reason of the state; progress of a running job; result, or reason and action, of an ended attempt
    program: str = ""  # the job's command, if its name is only a number
    params: Mapping[str, Json] = {}  # parameters of a program or a function
    params_text: str = ""  # parameters in which jobs of the run differ, except those in the name
    code: ReasonCode | None = None  # code of the reason; None for progress and the last output line
    need: str = ""  # beginning of the reason, if the rest describes the machine
    situation: str = ""  # rest of the reason, equal for jobs that wait for the same resource
    # fields of a running job, if measured
    devices: str = "cpu"  # or the GPUs of the job, such as cuda:0
    node: str = ""  # host of the job's pilot; '' on this machine
    memory: GpuMemoryUsage | None = None  # None for a CPU job; of a waiting job its request
    step: ProgressReport | None = None
    ends: float | None = None  # when the job is expected to end; None: unknown
    cost_key: str = ""  # jobs with the same one take about as long
    # fields of an ended attempt
    seconds: float | None = None  # duration of the attempt
    short: str = ""  # the exception of a failed program; '' if there is none
    requeued: bool = False  # the reason already says that the job was queued again
    latest: State | None = None  # current state of the job
    # status of a running job that is being ended, if read
    termination: TerminationStatus | None = None
    code_note: str = ""  # code that was changed after the job was queued

    @property
    def is_open_again(self) -> bool:
        """Whether this is an ended attempt of a job that is open again."""
        return self.latest in OPEN_STATES

    def to_json(self) -> dict[str, Json]:
        """Return the job for JSON."""
        return {
            "id": self.id,
            "run": self.run,
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "priority": self.priority,
            "since": iso_time(self.since),
            "note": self.reason,
            "note_code": self.code,
            "params": {**self.params},
            "code_note": self.code_note or None,
        }


DifferingParams = Mapping[int, frozenset[str]]  # run → parameters
NO_DIFFERENCES: DifferingParams = {}


def job_view(
    job: JobRow,
    progress: AttemptProgress = NO_PROGRESS,
    *,
    start_time: float | None = None,
    need: UnmetDependency | None = None,
    differing_params: DifferingParams | None = NO_DIFFERENCES,
    end_reason: Reason | None = None,
) -> JobView:
    """Return a job as it is now, with its progress or last output line if it runs, otherwise with its reason.

    Args:
        job: the row of the database.
        progress: its newest report, if it runs.
        start_time: start of its attempt, if it runs.
        need: its first open dependency, if known.
        differing_params: run → parameters in which its jobs differ. With None the view has neither these nor the program.
        end_reason: why it is being ended; None if it is not.
    """
    works = job.state is State.RUNNING and job.paused is None
    reason = end_reason
    if reason is None and not (
        works and progress != NO_PROGRESS and job.state_reason.code not in _OVER_PROGRESS
    ):
        reason = reason_to_show(job, need)
    data = {} if reason is None else reason.data
    # half the cost of a line
    params_text, program = ("", "") if differing_params is None else _label(job, differing_params)
    return JobView(
        id=job.id,
        run=sanitize_terminal(job.run),
        name=sanitize_terminal(job.name),
        kind=sanitize_terminal(job.kind),
        state=job.state,
        priority=job.priority,
        since=job.ended or start_time or job.submitted,
        reason=sanitize_terminal(
            str(progress.step or progress.line)
            if reason is None
            else strip_state_prefix(first_line(reason.text))
        ),
        program=program,
        params=job.params,
        params_text=params_text,
        code=None if reason is None else reason.code,
        need=sanitize_terminal(str(data.get("need", ""))),
        situation=sanitize_terminal(str(data.get("situation", ""))),
    )


def view_of_end(
    job: JobView, event: CompletionEvent, result: Mapping[str, object] | None = None
) -> JobView:
    """Return a job as it was when an attempt ended.

    Args:
        job: job as it is now.
        event: the end of the attempt.
        result: the returned values of the job.
    """
    reason, is_done = event.reason, event.state is State.DONE
    why = "" if is_done else sanitize_terminal(strip_state_prefix(first_line(reason.text)))
    return job._replace(
        state=event.state,
        since=event.at,
        reason=why or (format_numbers(result or {}) if is_done else ""),
        short=sanitize_terminal(str(reason.data.get("short", ""))),
        requeued=bool(reason.data.get("requeued")),
        latest=job.state,
        seconds=event.seconds,
    )


def format_numbers(result: Mapping[str, object]) -> str:
    """Return the first few numbers of a job's result, as `key=value`."""
    numbers = [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sanitize_terminal(" ".join(numbers[:METRICS]))


def with_numbers(
    home: Home, store: Store, rows: Sequence[JobRow], views: Sequence[JobView]
) -> list[JobView]:
    """Return jobs with the last numbers of those that are done in place of "done"; of a long list the newest ones.

    Args:
        home: Queue folder.
        store: Its database.
        rows: The jobs.
        views: The same jobs.
    """
    done = [row for row in rows if row.state is State.DONE][-MOST_WITH_NUMBERS:]
    results = store.read.results([row.id for row in done])
    numbers = {
        row.id: format_numbers(results.get(row.id) or read_final_metrics(home, row)) for row in done
    }
    return [view._replace(reason=numbers.get(view.id) or view.reason) for view in views]


def _label(job: JobRow, differing_params: DifferingParams) -> tuple[str, str]:
    """Return the parameters and the command line that follow the name of a job. No value is in both.

    A command line follows only a number. A job of a sweep has the parameters in which the run's jobs differ instead.
    Swept values that are not in the name follow the name that a user gave.
    """
    number = job.name.removeprefix(_NUMBERED).rstrip("'")
    if not (job.name.startswith(_NUMBERED) and number.isdecimal()):
        swept = swept_values(job.spec.settings) if job.kind == PROGRAM else job.params
        return _differing_params_text(job, differing_params, swept), ""
    names, argv = differing_params.get(job.run_id, frozenset()), job.spec.argv
    if swept := swept_values(job.spec.settings):
        return format_params(job.params, swept if names.isdisjoint(swept) else names), ""
    words = sanitize_terminal(shlex.join(hide_secrets(argv)))
    if len(words) <= LONGEST_PROGRAM:
        return "", words
    if params := _differing_params_text(job, differing_params, job.params):
        return params, sanitize_terminal(Path(script_of(argv) or argv[0]).name)
    return "", words[: LONGEST_PROGRAM - 1] + ELLIPSIS


def differing_params(store: Store, jobs: Iterable[JobRow]) -> DifferingParams:
    """Return run → parameters in which its jobs differ, from a sample of them."""
    by_run: dict[int, list[Mapping[str, Json]]] = {}
    for job in jobs:
        if job.params:
            by_run.setdefault(job.run_id, []).append(job.params)
    for job in store.read.first_and_last_jobs(by_run) if by_run else ():
        by_run[job.run_id].append(job.params)
    return {run: frozenset(varying_names(those)) for run, those in by_run.items()}


def _differing_params_text(
    job: JobRow, params: DifferingParams, chosen_params: Mapping[str, Json]
) -> str:
    """Return those of some parameters in which jobs of the run differ and that the job's name does not contain."""
    names = params.get(job.run_id)
    if not names:
        return ""
    named = params_in_job_name(job.name)
    return format_params(
        job.params,
        [
            name
            for name in names
            if name in chosen_params and named.get(name, _ABSENT) != job.params.get(name)
        ],
    )


def read_final_metrics(home: Home, job: JobRow) -> Mapping[str, Json]:
    """Return the last reported metrics of a done program; empty for any other job."""
    if job.kind != PROGRAM or job.state is not State.DONE or not job.attempts:
        return {}
    was_pruned = job.state_reason.code is ReasonCode.PRUNED
    return _numbers_of(job.attempt_in(home), job.ended, may_be_cut=was_pruned)


@lru_cache(maxsize=256)  # the metrics do not change, and a screen is drawn many times
def _numbers_of(
    attempt: Attempt, _end_time: float | None, *, may_be_cut: bool
) -> Mapping[str, Json]:
    from launcher.queue.workers.progress.attempt_progress import (
        read_last_metrics,  # 3 ms, only for programs that are done
    )

    return read_last_metrics(attempt, may_be_cut=may_be_cut)


def read_newest_progress(home: Home, job: JobRow) -> AttemptProgress:
    """Return the progress of a running job: the hashing of a large file, its newest report, or its last output line.

    A Python program that has printed nothing for a while gets a hint instead, and a program whose end cannot be
    recorded the reason.
    """
    if job.state is not State.RUNNING:
        return NO_PROGRESS
    # 4 ms, only for running jobs
    from launcher.queue.workers.progress.attempt_progress import read_attempt_progress
    from launcher.queue.workers.progress.buffering import buffering_hint

    attempt = job.attempt_in(home)
    line = UNRECORDED_END if _is_end_unrecorded(home, attempt) else read_hashing_report(attempt)
    progress = AttemptProgress(line=line) if line else read_attempt_progress(attempt)
    if progress == NO_PROGRESS:
        return AttemptProgress(line=buffering_hint(attempt, time.time()))
    return progress


def _is_end_unrecorded(home: Home, attempt: Attempt) -> bool:
    """Return whether the program of an attempt here has ended, and the disk is too full to record that."""
    if not describe_full_disk(home.folder):
        return False
    with suppress(OSError):
        from launcher.queue.workers.attempt_journal import read_program  # few jobs need this module

        program = read_program(attempt)
        return program is not None and program.boot == boot_id() and not is_alive(program)
    return False


def ending_reason_of(home: Home, job: JobRow) -> Reason | None:
    """Return why a running job is being ended, as of now; None if it is not."""
    found = termination_of(home, job)
    return None if found is None else found.reason(time.time())


class GroupStatus(NamedTuple):
    """A group of jobs with a limit."""

    name: str  # as the user gave the group: may contain control characters
    limit: int
    running: int
    paused: float | None = None  # since when none of the group's jobs starts

    def to_json(self) -> dict[str, Json]:
        """Return the group as JSON."""
        return {**self._asdict(), "paused": iso_time_or_none(self.paused)}


def limited_groups(store: Store, running_jobs: Sequence[JobRow]) -> tuple[GroupStatus, ...]:
    """Return the groups with a limit, and the number of running jobs of each."""
    at_work = Counter(job.spec.terms.group for job in running_jobs)
    groups = store.read.group_limits()
    return tuple(
        GroupStatus(group.name, group.slots, at_work[group.name], group.paused) for group in groups
    )


def job_views(
    home: Home, store: Store, jobs: Sequence[JobRow], *, is_compared: bool = True
) -> list[JobView]:
    """Return jobs as they are now, with their programs and the parameters in which jobs of their runs differ."""
    needs = store.read.first_unmet_dependencies(
        job.id for job in jobs if job.waits and job.state in OPEN_STATES
    )
    begun = {claim.job: claim.claimed for claim in store.claims.open_claims()}
    differ = differing_params(store, jobs) if is_compared else None
    code = code_change_notes(store, jobs)
    views = []
    for job in jobs:
        termination = termination_of(home, job)
        view = job_view(
            job,
            read_newest_progress(home, job),
            start_time=begun.get(job.id),
            need=needs.get(job.id),
            differing_params=differ,
            end_reason=None if termination is None else termination.reason(time.time()),
        )._replace(code_note=code.get(job.id, ""))
        views.append(view if termination is None else view._replace(termination=termination))
    return views
