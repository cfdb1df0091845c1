"""The plan of a task file: its jobs, dependencies first, as the queue and the screens read it.

A job is built from its step: its files, the code of its kind, and its resources. Its hash is the digest of everything
that determines its result, so jobs with equal hashes run only once.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.planning.dependencies import MISSING_CODE
from launcher.experiments.taskfile.language import Reuse
from launcher.experiments.taskfile.legacy_names import LegacyAction
from launcher.experiments.taskfile.searches import SearchEntry
from launcher.ids import NO_WORDS, Words
from launcher.provenance.code_identity import WHOLE_CODE, CodeIndex
from launcher.queue.job_options.notifications import RunNotify
from launcher.queue.jobs.job import Resources, Terms
from launcher.system.errors import Problem, Severity
from launcher.system.files import Json

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode
# many jobs share these kilobytes of text
_encode_once = lru_cache(maxsize=256)(encode_basestring_ascii)


NO_CODE = "{}"  # in the hash of a program


@dataclass(frozen=True, slots=True)
class JobCode:
    """The code that does a job's work."""

    entry: str  # "module:function"; '' of a program
    sources: Mapping[str, str]  # module → digest of its code; and that of all of it

    @property
    def digest(self) -> str:
        """The digest of all of the code."""
        return self.sources.get(WHOLE_CODE, NO_CODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """Everything that determines the result of a job."""

    job: str = field(compare=False)  # name of the job, which determines nothing
    kind: str
    model: str | None
    base: str | None
    images: str | None
    settings: str  # those that can change a result, as JSON
    dependencies: tuple["JobIdentity", ...]  # identities of the jobs whose results it reads
    code: JobCode
    input_digests: tuple[str, ...]  # digests of the files that the job reads and that no job makes
    words: Words = NO_WORDS  # the user's own words among those of the job's data
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        needs = (need.hash for need in self.dependencies)
        object.__setattr__(self, "hash", self.digest(self.code, self.settings, needs))

    def digest(self, code: JobCode, settings: str, needs: Iterable[str]) -> str:
        """Return the hash that the job has with other code and settings.

        Args:
            code: the code of its kind.
            settings: settings that can change a result, as JSON.
            needs: hashes of the jobs whose results it reads.
        """
        # the JSON of these fields in the order of their names, put together here: a plan of ten
        # thousand jobs has the same few settings and sources in each
        text = (
            f'{{"base":{_json(self.base)},"entry":"","given":{_list(self.input_digests)},'
            f'"images":{_json(self.images)},"kind":{_json(self.kind)},"model":{_json(self.model)},'
            f'"needs":{_list(sorted(needs))},"settings":{_encode_once(settings)},'
            f'"sources":{_encode_once(code.digest)}'
        )
        text += f',"words":{_encode(self.words.to_json())}}}' if self.words else "}"
        return hashlib.sha256(text.encode()).hexdigest()


def _json(text: str | None) -> str:
    return "null" if text is None else encode_basestring_ascii(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(map(encode_basestring_ascii, texts))}]"


class PlannedJob(NamedTuple):
    """One job of a plan, ready to be queued."""

    name: str  # unique within the job's run
    kind: str
    role: Role
    model: str | None  # ID of the model made or tested
    base: str | None  # ID of the model the job starts from
    data: str | None  # data ID as written
    images: str | None  # data ID with real data added
    settings: Mapping[str, Json]
    words: Words  # the user's own words among those of the job's data
    needs: tuple[str, ...]  # names of earlier jobs, in the plan's order
    resources: Resources
    terms: Terms
    priority: int
    gpus: int | None  # as in the job's file; None if the file does not set it
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]
    preload: tuple[str, ...]
    identity: JobIdentity  # everything that determines the result
    signature: str  # signature of the job's cost, see `launcher.experiments.kinds.signature_of`
    condition: str  # condition of a test: "corrupt=jpeg50"
    after_any: tuple[str, ...]  # names of earlier jobs that must have ended, done or not

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


class SharedWorkSavings(NamedTuple):
    """The work that shared jobs save."""

    kind: str  # kind of these jobs
    unit: str  # unit of the items of a pass: "images"
    items: int | None  # number of items; None if unknown
    passes: int  # passes that would be made without these jobs
    saved: int  # number of these passes that are saved
    size: int | None  # bytes of the results; None: not known
    most_bytes: int | None  # bytes that are kept at most; None: no limit

    def to_json(self) -> dict[str, Json]:
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


class SharedJobPlan(NamedTuple):
    """A job that does once what others repeat, which start after its end."""

    job: PlannedJob
    users: frozenset[str]  # names of the others
    savings: SharedWorkSavings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All jobs of a task file. The jobs that a job needs are before it."""

    file: str
    name: str  # name of the run
    about: str
    run_folder: Path
    jobs: tuple[PlannedJob, ...]
    # jobs that `phases` leaves out, but that one of the jobs needs
    left_out: tuple[PlannedJob, ...]
    reuse: Reuse
    # weight relative to other waiting runs; None keeps the current one, which is 1 at first
    share: float | None
    notify: RunNotify  # events of which the owner of the run is notified
    # variables that the plan's jobs remember though they look like secrets
    pass_env: tuple[str, ...]
    # action for a file of the original: only list the run, or only its results
    wanted: LegacyAction
    kinds: Mapping[str, Kind]  # by name, with the words of the user
    warnings: tuple[Problem, ...]
    # gives, for the names of jobs that are not done, the jobs that do once what these repeat
    shares: Callable[[Collection[str]], tuple[SharedJobPlan, ...]]
    searches: tuple[SearchEntry, ...] = ()
    # with which the code of the jobs was identified; None: plug-ins that came later count like any code
    index: CodeIndex | None = field(default=None, compare=False)

    @property
    def missing(self) -> tuple[Problem, ...]:
        """Errors on missing inputs that no job makes; with one of them nothing is queued."""
        return as_errors(self.warnings)

    def with_terms(self, change: Callable[[Terms], Terms]) -> "Plan":
        """Return the plan with other terms of its jobs, and of those that do shared work."""
        changed: dict[Terms, Terms] = {}  # few differ among thousands of jobs

        def job_with(job: PlannedJob) -> PlannedJob:
            if job.terms not in changed:
                changed[job.terms] = change(job.terms)
            terms = changed[job.terms]
            return job if terms == job.terms else job._replace(terms=terms)

        def shares(names: Collection[str]) -> tuple[SharedJobPlan, ...]:
            return tuple(share._replace(job=job_with(share.job)) for share in self.shares(names))

        return replace(self, jobs=tuple(map(job_with, self.jobs)), shares=shares)


def as_errors(warnings: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return those of inputs that no job makes, as errors."""
    return tuple(
        warning._replace(severity=Severity.ERROR)
        for warning in warnings
        if warning.code == MISSING_CODE
    )
