"""A job as all screens, pages and programs are shown it: what it is, how far it is or why it waits, what came out."""

import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from launcher.job import PROGRAM
from launcher.params import in_name, pairs_of, varying
from launcher.screens.format import first_line, harmless, iso, reason_to_show
from launcher.screens.termination import ShownTermination, termination_of
from launcher.screens.text_table import ELLIPSIS
from launcher.states import OPEN, Reason, ReasonCode, State, without_state
from launcher.store.job_queries import Ending, Need
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Attempt, Home
from launcher.workers.progress.attempt_progress import NOTHING, Newest, last_metrics, newest
from launcher.workers.progress.hashing import reported_hashing
from launcher.workers.progress.steps import Step

RECENT = 10  # ends that are listed
WAITING = 40  # waiting jobs that are listed
LONGEST_PROGRAM = 40  # characters of a command line in a list
METRICS = 3  # results of a job that are shown in its line
_NUMBERED = f"{PROGRAM}/"
_ABSENT = object()
_OVER_PROGRESS = {ReasonCode.ENDING, ReasonCode.SETTLING}  # a running job's, shown before its step


class UsedMemory(NamedTuple):
    """GPU memory of a running job, in bytes on the GPU where it takes most; None: not known."""

    now: int | None = None
    peak: int | None = None
    asked: int | None = None
    estimate: int | None = None  # where nothing is asked for: it follows the use
    alone: bool = False  # it shares its GPUs with no other job

    @property
    def beyond(self) -> bool:
        """It took more than it was promised."""
        return self.asked is not None and max(self.now or 0, self.peak or 0) > self.asked


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
    told: str = ""  # those in which jobs of its run differ, where its name does not tell
    code: ReasonCode | None = None  # of the note; None: that is its progress, or its last line
    need: str = ""  # the beginning of the note, where the rest tells the machine's situation
    situation: str = ""  # that rest: jobs that wait for the same have the same
    # of one that runs, where it was looked at
    devices: str = "cpu"  # the GPUs as people call them
    node: str = ""  # where its pilot is; '' on this machine
    memory: UsedMemory | None = (
        None  # None: it works on the CPU; of one that waits, what it asks for
    )
    step: Step | None = None
    ends: float | None = None  # when it is expected to end; None: unknown
    # of an end
    seconds: float | None = None  # how long its attempt took
    short: str = ""  # why it failed, cut to the program's exception; empty: there is none
    requeued: bool = False  # the note says itself that the job was queued again
    latest: State | None = None  # the state of the job by now
    # of one that runs and is being ended, where that was looked at
    termination: ShownTermination | None = None

    @property
    def again(self) -> bool:
        """It is an end, and the job is open again."""
        return self.latest in OPEN

    def columns(self) -> tuple[str, ...]:
        """Return it for pipes: full values, absolute times."""
        params = pairs_of(self.params, self.params)
        return (str(self.id), self.run, self.name, self.state, iso(self.since), self.note, params)

    def record(self) -> dict[str, Json]:
        """Return it for JSON."""
        return {
            "id": self.id,
            "run": self.run,
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "priority": self.priority,
            "since": iso(self.since),
            "note": self.note,
            "note_code": self.code,
            "params": {**self.params},
        }


Differing = Mapping[int, Collection[str]]  # run → parameters
NO_DIFFERENCES: Differing = {}


def job_view(
    job: JobRow,
    now: Newest = NOTHING,
    *,
    started: float | None = None,
    need: Need | None = None,
    differing: Differing | None = NO_DIFFERENCES,
    ending: Reason | None = None,
) -> JobView:
    """Return a job as it is; a running one tells its progress or what it printed last, any other why it is as it is.

    Args:
        job: as the queue knows it.
        now: how far it is, if it runs and reports that.
        started: when its attempt began, where it runs.
        need: the first of the jobs that must still be done before it, where it is known.
        differing: in which parameters jobs of its run differ; None: only people are told, by them and its program.
        ending: why it is being ended; None if it is not.
    """
    works = job.state is State.RUNNING and job.paused is None
    reason = ending
    if reason is None and not (works and now != NOTHING and job.why.code not in _OVER_PROGRESS):
        reason = reason_to_show(job, need)
    data = {} if reason is None else reason.data
    program = "" if differing is None else _program(job)  # half of what a line costs
    return JobView(
        id=job.id,
        run=harmless(job.run),
        name=harmless(job.name),
        kind=harmless(job.kind),
        state=job.state,
        priority=job.priority,
        since=job.ended or started or job.submitted,
        note=harmless(
            str(now.step or now.line) if reason is None else without_state(first_line(reason.text))
        ),
        program=program,
        params=job.params,
        # a command line that is shown whole tells them already
        told="" if program and not program.endswith(ELLIPSIS) else _told(job, differing or {}),
        code=None if reason is None else reason.code,
        need=harmless(str(data.get("need", ""))),
        situation=harmless(str(data.get("situation", ""))),
    )


def at_end(job: JobView, ending: Ending, result: Mapping[str, object] | None = None) -> JobView:
    """Return a job as it was when an attempt of it ended.

    Args:
        job: as it is now.
        ending: what happened.
        result: what the job returned.
    """
    reason, is_done = ending.reason, ending.state is State.DONE
    why = "" if is_done else harmless(without_state(first_line(reason.text)))
    return job._replace(
        state=ending.state,
        since=ending.at,
        note=why or (numbers_of(result or {}) if is_done else ""),
        short=harmless(str(reason.data.get("short", ""))),
        requeued=bool(reason.data.get("requeued")),
        latest=job.state,
        seconds=ending.seconds,
    )


def numbers_of(result: Mapping[str, object]) -> str:
    """Return the first few numbers of a job's result, as `key=value`."""
    numbers = [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return harmless(" ".join(numbers[:METRICS]))


def _program(job: JobRow) -> str:
    """Return the beginning of what a command runs whose name is only a number."""
    number = job.name.removeprefix(_NUMBERED).rstrip("'")
    if not (job.name.startswith(_NUMBERED) and number.isdecimal()):
        return ""
    words = harmless(shlex.join(job.spec.argv))
    return words if len(words) <= LONGEST_PROGRAM else words[: LONGEST_PROGRAM - 1] + ELLIPSIS


def differing(store: Store, jobs: Iterable[JobRow]) -> Differing:
    """Return run → the parameters in which its jobs differ, as far as some of them tell."""
    by_run: dict[int, list[Mapping[str, Json]]] = {}
    for job in jobs:
        if job.params:
            by_run.setdefault(job.run_id, []).append(job.params)
    for job in store.read.outermost(by_run) if by_run else ():
        by_run[job.run_id].append(job.params)
    return {run: frozenset(varying(those)) for run, those in by_run.items()}


def _told(job: JobRow, differing: Differing) -> str:
    """Return the parameters of a job in which jobs of its run differ and that its name does not tell."""
    names = differing.get(job.run_id)
    if not names:
        return ""
    named = in_name(job.name)
    return pairs_of(
        job.params, [name for name in names if named.get(name, _ABSENT) != job.params.get(name)]
    )


def numbers_told(home: Home, job: JobRow) -> Mapping[str, Json]:
    """Return what a program that is done told last; nothing of any other job."""
    if job.kind != PROGRAM or job.state is not State.DONE or not job.attempts:
        return {}
    return _numbers_of(job.attempt_in(home), job.ended)


@lru_cache(maxsize=256)  # it does not change, and a screen is drawn many times
def _numbers_of(attempt: Attempt, _ended: float | None) -> Mapping[str, Json]:
    return last_metrics(attempt)


def newest_of(home: Home, job: JobRow) -> Newest:
    """Return how far a running job is, or what it printed last; while a large file is hashed, that."""
    if job.state is not State.RUNNING:
        return NOTHING
    attempt = job.attempt_in(home)
    hashing = reported_hashing(attempt)
    return Newest(line=hashing) if hashing else newest(attempt)


def ending_reason_of(home: Home, job: JobRow) -> Reason | None:
    """Return why a running job is being ended, as of now; None if it is not."""
    found = termination_of(home, job)
    return None if found is None else found.reason(time.time())


class Group(NamedTuple):
    """A group of jobs that has a limit."""

    name: str  # as it was given: it may steer a terminal
    limit: int
    running: int


def groups_of(store: Store, running: Sequence[JobRow]) -> tuple[Group, ...]:
    """Return the groups that have a limit, and how many of the running jobs are theirs."""
    at_work = Counter(job.spec.terms.group for job in running)
    groups = store.read.groups()
    return tuple(Group(group.name, group.slots, at_work[group.name]) for group in groups)


def views_of(
    home: Home, store: Store, jobs: Sequence[JobRow], *, compared: bool = True
) -> list[JobView]:
    """Return jobs as they are at this moment, for people compared with the others of their runs, and with their programs."""
    needs = store.read.needs(job.id for job in jobs if job.waits and job.state in OPEN)
    begun = {claim.job: claim.claimed for claim in store.scheduling.claims()}
    differ = differing(store, jobs) if compared else None
    views = []
    for job in jobs:
        termination = termination_of(home, job)
        view = job_view(
            job,
            newest_of(home, job),
            started=begun.get(job.id),
            need=needs.get(job.id),
            differing=differ,
            ending=None if termination is None else termination.reason(time.time()),
        )
        views.append(view if termination is None else view._replace(termination=termination))
    return views
