"""A plan compared with the queue, as a value with the action for each job."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from launcher.experiments.planning.plan import Plan, PlannedJob, SharedWorkSavings
from launcher.queue.store.rows import JobRow
from launcher.system.files import Json

ACCEPT_CODE = "--accept-code"
ADOPT = "--adopt"


class Action(StrEnum):
    """The action of a submission on a planned job."""

    RUN = "run"
    CACHED = "cached"  # done before, and the job's files are as it left them
    JOIN = "join"  # waits or runs already


class ComparedJob(NamedTuple):
    """A planned job compared with the job of its name in the queue."""

    job: PlannedJob
    action: Action
    state: str  # for the listing: new, cached, changed, queued, running, failed …
    reason: str
    changes: tuple[str, ...] = ()  # since the job was queued last: settings, modules, words, inputs
    is_other_code: bool = False  # the job was done with other code, and nothing else is different
    options: tuple[str, ...] = ()  # options of the waiting job, not those of the plan
    # definitions whose code is another than when it was queued last: `module.function`, or the module alone
    # if nothing more is known; for a program, files
    other_definitions: tuple[str, ...] = ()
    number: int | None = None  # number of the job in the queue, None if the job is new
    shared: tuple[str, ...] = ()  # names of jobs that do work of it for others, too

    @property
    def after_any(self) -> tuple[str, ...]:
        """Names of jobs that must have ended before it, done or not."""
        return (*self.job.after_any, *self.shared)


def open_jobs(compared_jobs: Iterable[ComparedJob]) -> list[ComparedJob]:
    """Return the jobs that are not done yet."""
    return [compared for compared in compared_jobs if compared.action is not Action.CACHED]


class AdoptableRoot(NamedTuple):
    """A folder in which jobs of a plan are done."""

    root: str
    jobs: int  # jobs that are new here, and were done there in the same way


class Adoption(NamedTuple):
    """The results of another folder that a plan takes over."""

    root: str  # the other folder
    rows: Mapping[str, JobRow]  # name → row, as if the job had been done here
    waiting: tuple[int, ...] = ()  # jobs of the plan that wait there, and stay there
    # the numbers that programs printed, by name; files of the attempts there hold them
    printed_numbers: Mapping[str, Mapping[str, Json]] = MappingProxyType({})

    @property
    def keeps_original(self) -> bool:
        """Whether the other folder still exists, so that its jobs keep their results."""
        return Path(self.root).exists()


class Comparison(NamedTuple):
    """A plan compared with the queue."""

    plan: Plan
    jobs: tuple[ComparedJob, ...]  # in the plan's order
    accepted: Mapping[str, str]  # jobs whose result of other code is kept, and their queued hashes
    savings: tuple[SharedWorkSavings, ...] = ()  # by jobs that do shared work
    files: Mapping[str, Mapping[str, str]] = {}  # accepted program → file that it reads → digest
    adoption: Adoption | None = None  # adoption of results of another folder; None: there is none
    adoptable_roots: tuple[AdoptableRoot, ...] = ()  # folders with done jobs that are new here
