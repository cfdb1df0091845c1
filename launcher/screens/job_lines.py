"""Jobs as lines of a list: what each is, how far it is or why it waits."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from launcher.screens.format import first_line, harmless, iso, reason_to_show
from launcher.states import OPEN, ReasonCode, State
from launcher.store.job_queries import Need
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import NOTHING, Newest, newest
from launcher.workers.progress.steps import Step

RECENT = 10  # ends that are listed
WAITING = 40  # waiting jobs that are listed
LONGEST_PROGRAM = 40  # characters of a command line in a list
_NUMBERED = "command/"


class JobLine(NamedTuple):
    """One job as a line of a list."""

    id: int
    run: str
    name: str
    kind: str
    state: State
    priority: int
    since: float  # it ended, started, or was queued
    note: str
    program: str = ""  # what it runs, where its name does not tell
    code: ReasonCode | None = None  # of the note; None: that is its progress, or its last line
    need: str = ""  # the beginning of the note, where the rest tells the machine's situation
    situation: str = ""  # that rest: jobs that wait for the same have the same

    def columns(self) -> tuple[str, ...]:
        """Return the line for pipes: full values, absolute times."""
        return (str(self.id), self.run, self.name, self.state, iso(self.since), self.note)

    def record(self) -> dict[str, Json]:
        """Return the line for JSON."""
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
        }


def job_line(
    job: JobRow,
    step: Step | None = None,
    *,
    printed: str = "",
    started: float | None = None,
    need: Need | None = None,
) -> JobLine:
    """Return a job's line; a running one tells its progress or what it printed last, any other why it is as it is.

    Args:
        job: as the queue knows it.
        step: its progress, if it runs and has reported any.
        printed: the last line of its log, if it runs and reports no progress.
        started: when its attempt began, where it runs.
        need: the first of the jobs that must still be done before it, where it is known.
    """
    works = job.state is State.RUNNING and job.paused is None
    reports = works and (step is not None or bool(printed))
    reason = None if reports else reason_to_show(job, need)
    data = {} if reason is None else reason.data
    return JobLine(
        id=job.id,
        run=harmless(job.run),
        name=harmless(job.name),
        kind=harmless(job.kind),
        state=job.state,
        priority=job.priority,
        since=job.ended or started or job.submitted,
        note=harmless(str(step or printed) if reason is None else first_line(reason.text)),
        program=_program(job),
        code=None if reason is None else reason.code,
        need=harmless(str(data.get("need", ""))),
        situation=harmless(str(data.get("situation", ""))),
    )


def _program(job: JobRow) -> str:
    """Return the beginning of what a command runs whose name is only a number."""
    number = job.name.removeprefix(_NUMBERED).rstrip("'")
    if not (job.name.startswith(_NUMBERED) and number.isdecimal()):
        return ""
    words = harmless(shlex.join(job.spec.argv))
    return words if len(words) <= LONGEST_PROGRAM else f"{words[: LONGEST_PROGRAM - 1]}…"


def newest_of(home: Home, job: JobRow) -> Newest:
    """Return how far a running job is, or what it printed last."""
    if job.state is not State.RUNNING:
        return NOTHING
    return newest(job.attempt_in(home))


def lines_of(home: Home, store: Store, jobs: Sequence[JobRow]) -> list[JobLine]:
    """Return the lines of jobs as they are at this moment."""
    needs = store.read.needs(job.id for job in jobs if job.waits and job.state in OPEN)
    begun = {claim.job: claim.claimed for claim in store.scheduling.claims()}
    return [
        job_line(job, now.step, printed=now.line, started=begun.get(job.id), need=needs.get(job.id))
        for job in jobs
        for now in (newest_of(home, job),)
    ]
