"""Rows of the queue as values; nothing outside the store sees a database row."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from launcher.specs import Breed, Context, Resources, Spec, breed_of, read_spec
from launcher.states import State


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as the queue knows it; the spec is read when it is asked for."""

    id: int
    name: str
    run: str
    run_id: int
    root: str
    kind: str
    state: State
    priority: int
    waits: int
    wish: str
    hash: str
    attempts: int
    failures: int
    lost: int
    reason: str
    hindrance: str  # why the first job of its lane cannot start
    starts_at: float | None  # it must not start before
    submitted: float
    ended: float | None
    spec_text: str
    outputs: Mapping[str, tuple[int, int]]

    @cached_property
    def spec(self) -> Spec:
        """The job's spec."""
        return read_spec(json.loads(self.spec_text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What jobs ask for; jobs of one lane are alike in all that decides where and when they start."""

    group: str
    resources: Resources
    breed: Breed

    @property
    def key(self) -> str:
        """The lane as text, by which it is found again."""
        return json.dumps(
            {
                "group": self.group,
                "resources": asdict(self.resources),
                "breed": [self.breed.interpreter, self.breed.preload, self.breed.python_path],
            },
            sort_keys=True,
        )


def lane_of(spec: Spec, context: Context) -> Lane:
    """Return the lane of a job."""
    breed = breed_of(spec, context)
    return Lane(group=spec.terms.group, resources=spec.resources, breed=breed)


def read_lane(key: str) -> Lane:
    """Return the lane that `Lane.key` wrote."""
    record = json.loads(key)
    interpreter, preload, python_path = record["breed"]
    return Lane(
        group=record["group"],
        resources=Resources(**record["resources"]),
        breed=Breed(interpreter, tuple(preload), python_path),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyJob:
    """A job that could start now."""

    id: int
    rank: float  # the smallest starts first
    lane_id: int
    lane: Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A limit that jobs share."""

    name: str
    slots: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An attempt that was promised a place on this machine and has not ended."""

    job: int
    number: int
    boot: str
    device: str
    cpus: int
    pid: int  # its supervisor
    start_ticks: int  # likewise
    spec_text: str
    context_text: str

    @cached_property
    def spec(self) -> Spec:
        """The job's spec."""
        return read_spec(json.loads(self.spec_text))


def job_row(row: sqlite3.Row) -> JobRow:
    """Read a row of jobs joined with runs, lanes and timers."""
    return JobRow(
        id=row["id"],
        name=row["name"],
        run=row["run_name"],
        run_id=row["run"],
        root=row["root"],
        kind=row["kind"],
        state=State(row["state"]),
        priority=row["priority"],
        waits=row["waits"],
        wish=row["wish"],
        hash=row["hash"],
        attempts=row["attempts"],
        failures=row["failures"],
        lost=row["lost"],
        reason=row["reason"],
        hindrance=row["hindrance"] or "",
        starts_at=row["starts_at"],
        submitted=row["submitted"],
        ended=row["ended"],
        spec_text=row["spec"],
        outputs={path: (size, at) for path, (size, at) in json.loads(row["outputs"]).items()},
    )


def claim_row(row: sqlite3.Row) -> Claim:
    """Read a row of attempts joined with jobs and contexts."""
    return Claim(
        job=row["job"],
        number=row["number"],
        boot=row["boot"],
        device=row["device"],
        cpus=row["cpus"],
        pid=row["pid"],
        start_ticks=row["start_ticks"],
        spec_text=row["spec"],
        context_text=row["context"],
    )
