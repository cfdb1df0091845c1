"""Rows of the queue's database as values; no other package reads database rows."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.accounts import NO_ACCOUNT, FairShareAccount
from launcher.queue.jobs.job import CPU, FUNCTION, PROGRAM, Spec, stored_params
from launcher.queue.jobs.states import Done, Reason, ReasonCode, State, outcome_record
from launcher.queue.jobs.stored_specs import add_sources, read_part_of_spec, read_spec
from launcher.queue.store.connection import known_code, known_record, known_state, reason_of
from launcher.queue.store.lanes import Lane
from launcher.system.files import FileVersion, read_version
from launcher.system.processes import Identity
from launcher.system.stored_fields import Unreadable, parse_record

PILOT_PREFIX = (
    "pilot:"  # before the token of the pilot where an attempt runs, in the place of a boot ID
)
# the same in SQL, of a row of attempts; NULL of one on this machine
PILOT_TOKEN_SQL = f"iif(substr(boot, 1, {len(PILOT_PREFIX)}) = '{PILOT_PREFIX}', substr(boot, {len(PILOT_PREFIX) + 1}), NULL)"
# beginning of the records of those that were done: to read all of each takes four times as long, and
# the result of a program may hold NaN, which Python writes and SQLite takes for no JSON
DONE_RECORD = json.dumps(dict(list(outcome_record(Done(at=0)).items())[:2]))[:-1]
WAS_DONE_SQL = f"substr(outcome, 1, {len(DONE_RECORD)}) = '{DONE_RECORD}'"
ATTEMPT_COLUMNS = (  # in the order of AttemptRow
    "job, number, device, cpus, claimed, attempts.ended, attempts.paused, outcome,"
    f" attempts.reason_code, vram, exclusive, peak, {PILOT_TOKEN_SQL}"
)
_JOB_COLUMNS = (  # columns that are as the database has them
    "id", "name", "root", "share", "kind", "priority", "waits", "wish", "hash", "attempts", "failures",
    "lost", "starts_at", "submitted", "ended", "paused", "code",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as the queue knows it; the spec is read when it is asked for."""

    id: int
    name: str
    run: str
    run_id: int
    root: str
    share: float = 1.0  # share of the job's run
    kind: str
    state: State
    priority: int
    waits: int
    wish: str
    hash: str
    attempts: int
    failures: int
    lost: int
    state_reason: Reason  # why the job is in its state
    lane_reason: Reason | None  # why the first job of its lane cannot start; None: it can
    starts_at: float | None  # earliest start of the job
    submitted: float
    ended: float | None
    paused: float | None = None  # since when the job's running program is paused
    code: int | None = None  # ID of the record of the job's code when it was queued
    owner_note: str = ""
    spec_text: str  # without the digests of modules, where these are stored once for many jobs
    sources_text: str | None = None  # digests of modules, if stored once for many jobs
    outputs: Mapping[str, FileVersion]

    @property
    def reason(self) -> str:
        """Why it is in its state, for people."""
        return self.state_reason.text

    @property
    def is_held_by_failures(self) -> bool:
        """Whether it is held because too many of the jobs that were queued with it failed."""
        return self.state is State.HELD and self.state_reason.code is ReasonCode.FAILURE_LIMIT

    @property
    def is_accepted_unrun(self) -> bool:
        """Whether it is done although its program was not: its owner accepted its files."""
        return self.state_reason.code is ReasonCode.TOUCHED and "was" in self.state_reason.data

    def attempt_in(self, home: Home) -> Attempt:
        """Return the folder of its newest attempt, of which there must be one."""
        return home.attempt(self.id, self.attempts)

    @cached_property
    def spec(self) -> Spec:
        """The job's spec; only what can be understood of it, where a newer version wrote it."""
        return self._read_spec_text(add_sources(self.spec_text, self.sources_text))

    @cached_property
    def spec_without_sources(self) -> Spec:
        """The spec without the digests of modules: a tenth of the time, where only planners need these."""
        return self._read_spec_text(self.spec_text)

    @cached_property
    def params(self) -> Mapping[str, Any]:
        """The parameters of a program or a function, without reading the whole spec."""
        return _read_params(self.kind, self.spec_text) if self.kind in {PROGRAM, FUNCTION} else {}

    def _read_spec_text(self, text: str) -> Spec:
        def plain() -> Spec:
            return Spec(name=self.name, kind=self.kind, role="", run=self.run, root=self.root)

        return _read_spec_or_part(text, plain)[0]


@lru_cache(maxsize=2048)  # the jobs of a screen are mostly those of the screen before
def _read_params(kind: str, text: str) -> Mapping[str, Any]:
    record = known_record(text)
    settings, argv = record.get("settings"), record.get("argv")
    return stored_params(
        kind,
        settings if isinstance(settings, dict) else {},
        tuple(map(str, argv)) if isinstance(argv, list) else (),
    )


class AttemptRow(NamedTuple):
    """An attempt as the queue knows it; its outcome is read when it is asked for."""

    job: int
    number: int
    device: str  # "cpu", or the UUIDs of the attempt's GPUs with commas between
    cpus: int
    claimed: float  # seconds since 1970
    ended: float | None
    paused: float  # seconds for which the attempt stood still
    outcome_text: str | None  # None: the attempt has not ended
    code: str  # code of the reason for the attempt's end
    # bytes reserved on each of the attempt's GPUs; None: estimated, or `exclusive`
    vram: int | None
    exclusive: int  # whether the attempt shared its GPUs with none of ours
    peak: int | None
    pilot: str | None  # the token of the pilot where the attempt is; None: this machine

    @property
    def seconds(self) -> float | None:
        """Duration in seconds without its pauses, None if it has not ended."""
        return None if self.ended is None else self.ended - self.claimed - self.paused

    @property
    def is_done(self) -> bool:
        """Whether it was done: that is known without reading what it returned."""
        return (self.outcome_text or "").startswith(DONE_RECORD)

    @property
    def outcome(self) -> dict[str, Any] | None:
        """The record of its end, empty if it cannot be read. None if it has not ended."""
        return known_record(self.outcome_text) if self.outcome_text else None

    @property
    def reason_code(self) -> ReasonCode | None:
        """The reason code of its end, None if it has not ended."""
        return known_code(self.code) if self.outcome_text else None

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        names = [{"outcome_text": "outcome", "code": "reason_code"}.get(n, n) for n in self._fields]
        return {name: getattr(self, name) for name in names[1:]}


class ReadyJob(NamedTuple):
    """A job that could start now."""

    id: int
    rank: float  # order within a run: the smallest starts first
    lane_id: int
    lane: Lane
    numbers: tuple[str, ...] | None = (
        None  # numbers of a program's command line, if the job's memory is estimated by them
    )
    program: str = ""  # program that the job runs, if it may need a GPU
    priority: int = 0
    account: FairShareAccount = NO_ACCOUNT  # account of the job's run

    @property
    def job_class(self) -> tuple[int, int, int]:
        """Its priority, run and lane: the first of those that agree in them starts first."""
        return self.priority, self.account.run, self.lane_id


class GroupLimit(NamedTuple):
    """A limit that jobs share."""

    name: str
    slots: int
    # since when none of the group's jobs starts; None: it is not paused
    paused: float | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An attempt that has a place, on this machine or on a pilot, and has not ended."""

    job: int
    number: int
    run: int = 0
    boot: str
    device: str  # "cpu", or the UUIDs of the attempt's GPUs with commas between
    cpus: int
    pid: int  # pid of the attempt's supervisor
    start_ticks: int  # start time of the same process in clock ticks
    spec_text: str
    context_text: str
    vram: int | None = None  # bytes reserved on each of the attempt's GPUs
    exclusive: bool = False  # the attempt shares its GPUs with none of ours
    claimed: float = 0.0  # seconds since 1970
    code: int | None = None  # ID of the record of the attempt's code when it was queued

    @property
    def key(self) -> tuple[int, int]:
        """Its job and its number, by which an attempt is known."""
        return self.job, self.number

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of its GPUs; none where it works on the CPU."""
        return () if self.device == CPU else tuple(self.device.split(","))

    @property
    def supervisor(self) -> Identity:
        """The supervisor that starts it on this machine."""
        return Identity(pid=self.pid, start_ticks=self.start_ticks, boot=self.boot)

    @property
    def pilot(self) -> str:
        """The token of the pilot where it runs; '' on this machine."""
        return self.boot.removeprefix(PILOT_PREFIX) if self.boot.startswith(PILOT_PREFIX) else ""

    @property
    def spec(self) -> Spec:
        """The job's spec; only what can be understood of it, where a newer version started it."""
        return self._read[0]

    @property
    def spec_error(self) -> str:
        """The invalid part of its spec, '' if there is none."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Spec, str]:
        return _read_claimed_spec(self.job, self.spec_text)


@lru_cache(maxsize=8)
def _read_claimed_spec(job: int, text: str) -> tuple[Spec, str]:
    """Return a job's spec and its invalid part. Prepared jobs are claimed soon after."""
    return _read_spec_or_part(
        text, lambda: Spec(name=f"job {job}", kind="", role="", run="", root="/")
    )


def _read_spec_or_part(text: str, plain: Callable[[], Spec]) -> tuple[Spec, str]:
    """Return a spec and '', or its valid part and a description of the invalid one.

    Args:
        text: The stored text.
        plain: Creates the spec of a job whose text is completely invalid.
    """
    try:
        record = parse_record(text, "its spec")
    except Unreadable as error:
        return plain(), str(error)
    try:
        return read_spec(record), ""
    except Unreadable as error:
        why = str(error)
    try:
        return read_part_of_spec(record), why
    except Unreadable:
        return plain(), why


def job_row(row: sqlite3.Row, sources_text: str | None) -> JobRow:
    """Read a row of jobs joined with runs, lanes and timers, and the sources that it refers to."""
    # a row searches each name among all of its columns
    stored = dict(zip(row.keys(), row, strict=True))
    lane_waits = stored["lane_code"], stored["lane_reason"], stored["lane_data"]
    written = stored["outputs"]
    # none of the hundreds of jobs that may wait has outputs
    outputs = {} if written == "{}" else known_record(written)
    return JobRow(
        **{name: stored[name] for name in _JOB_COLUMNS},
        run=stored["run_name"],
        run_id=stored["run"],
        state=known_state(stored["state"]),
        state_reason=reason_of(stored["reason_code"], stored["reason"], stored["reason_data"]),
        lane_reason=reason_of(*lane_waits) if stored["lane_reason"] else None,
        owner_note=stored["note"],
        spec_text=stored["spec"],
        sources_text=sources_text,
        outputs={
            path: version
            for path, record in outputs.items()
            if (version := read_version(record)) is not None
        },
    )


def claim_row(row: sqlite3.Row) -> Claim:
    """Read a row of attempts joined with jobs, sources and contexts."""
    return Claim(
        job=row["job"],
        number=row["number"],
        run=row["run"],
        boot=row["boot"],
        device=row["device"],
        cpus=row["cpus"],
        pid=row["pid"],
        start_ticks=row["start_ticks"],
        spec_text=add_sources(row["spec"], row["sources_text"]),
        context_text=row["context"],
        vram=row["vram"],
        exclusive=bool(row["exclusive"]),
        claimed=row["claimed"],
    )
