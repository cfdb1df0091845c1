"""Rows of the queue as values; nothing outside the store sees a database row."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from launcher.specs import Context, Spec, read_context, read_spec
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
    reason: str
    submitted: float
    ended: float | None
    spec_text: str
    outputs: Mapping[str, tuple[int, int]]

    @cached_property
    def spec(self) -> Spec:
        """The job's spec."""
        return read_spec(json.loads(self.spec_text))


@dataclass(frozen=True)
class QueuedJob:
    """A job that could start now."""

    id: int
    spec: Mapping[str, Any]
    priority: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An attempt that was promised a place on this machine and has not ended."""

    job: int
    number: int
    boot: str
    device: str
    cpus: int
    claimed: float
    wish: str
    spec: Spec
    context: Context


def job_row(row: sqlite3.Row) -> JobRow:
    """Read a row of jobs joined with runs."""
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
        reason=row["reason"],
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
        claimed=row["claimed"],
        wish=row["wish"],
        spec=read_spec(json.loads(row["spec"])),
        context=read_context(json.loads(row["context"])),
    )
