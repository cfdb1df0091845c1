"""The plan of a task file: its jobs in the order of their needs, as the queue and the screens read it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import Problem, Severity
from launcher.ids import Words
from launcher.job import Resources, Terms
from launcher.job_options.notifications import RunNotify
from launcher.kind_interface import Kind, Role
from launcher.planning.dependencies import MISSING
from launcher.planning.identity import Identity
from launcher.system.files import Json
from launcher.taskfile.header import Reuse
from launcher.taskfile.legacy_names import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job, complete but for its place in the queue."""

    name: str  # unique within its run
    kind: str
    role: Role
    model: str | None  # ID of the model made or tested
    base: str | None  # ID of the model it starts from
    data: str | None  # as written
    images: str | None  # with real data added
    settings: Mapping[str, Json]
    words: Words  # the user's own among those of its data
    needs: tuple[str, ...]  # names of earlier jobs, in the plan's order
    resources: Resources
    terms: Terms
    priority: int
    gpus: int | None  # as its file says; None: it does not
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]
    preload: tuple[str, ...]
    identity: Identity  # everything that determines the result
    signature: str  # of what it costs, see `launcher.kinds.signature_of`
    condition: str = ""  # under which a model is tested: "corrupt=jpeg50"
    after_any: tuple[str, ...] = ()  # names of earlier jobs that must have ended, done or not

    @property
    def entry(self) -> str:
        """The function that does the work; '' of a program."""
        return self.identity.code.entry

    @property
    def sources(self) -> Mapping[str, str]:
        """A digest of each module whose code decides the result."""
        return self.identity.code.sources

    @property
    def hash(self) -> str:
        """A digest of everything that determines the result."""
        return self.identity.hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What jobs that do shared work save others."""

    kind: str  # of these jobs
    unit: str  # what a pass goes over: "images"
    items: int | None  # how many of them there are; None: not known
    passes: int  # that would be made without these jobs
    saved: int  # of these
    size: int | None  # bytes of the results; None: not known
    most_bytes: int | None  # that are kept at most; None: no limit

    def record(self) -> dict[str, Json]:
        """Return the numbers as JSON."""
        return {
            "kind": self.kind,
            "unit": self.unit,
            "items": self.items,
            "passes": self.passes,
            "passes_saved": self.saved,
            "bytes": self.size,
            "limit_bytes": self.most_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShare:
    """A job that does once what others repeat, which start after its end."""

    job: PlannedJob
    users: frozenset[str]  # names of the others
    savings: Savings


def _no_shares(_: Collection[str]) -> tuple[PlannedShare, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All jobs of a task file; each one's needs come before it."""

    file: str
    name: str  # of the run
    about: str
    run_folder: Path
    jobs: tuple[PlannedJob, ...]
    left_out: tuple[PlannedJob, ...]  # by `phases`, but needed by one of the jobs
    reuse: Reuse
    share: float | None  # of the machine, beside other runs that wait; None: as it was, 1 at first
    notify: RunNotify  # what its owner is told of it
    pass_env: tuple[str, ...]  # variables that its jobs remember though they look like secrets
    wanted: Wanted  # of a file of the original: to be listed only, or its results
    kinds: Mapping[str, Kind]  # by name, with the words of the user
    warnings: tuple[Problem, ...]
    # gives, for the names of jobs that are not done, the jobs that do once what these repeat
    shares: Callable[[Collection[str]], tuple[PlannedShare, ...]] = _no_shares

    @property
    def missing(self) -> tuple[Problem, ...]:
        """What the jobs read and no job makes, as errors: with one of them nothing is queued."""
        return tuple(
            replace(warning, severity=Severity.ERROR)
            for warning in self.warnings
            if warning.code == MISSING
        )

    def with_terms(self, change: Callable[[Terms], Terms]) -> "Plan":
        """Return the plan with other terms of its jobs, and of those that do shared work."""
        changed: dict[Terms, Terms] = {}  # few differ among thousands of jobs

        def job_with(job: PlannedJob) -> PlannedJob:
            if job.terms not in changed:
                changed[job.terms] = change(job.terms)
            terms = changed[job.terms]
            return job if terms == job.terms else replace(job, terms=terms)

        def shares(names: Collection[str]) -> tuple[PlannedShare, ...]:
            return tuple(replace(share, job=job_with(share.job)) for share in self.shares(names))

        return replace(self, jobs=tuple(map(job_with, self.jobs)), shares=shares)
