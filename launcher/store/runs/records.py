"""The accounts of runs in the database: who used how much, and whose share is what."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from sqlite3 import Cursor

from launcher.job import CPU
from launcher.states import Outcome
from launcher.store.connection import Connection
from launcher.store.rows import Claim, JobRow
from launcher.store.runs.accounts import RunAccount, account, cards_of
from launcher.store.usage import LONGEST_S, Measured

_ACCOUNT = "SELECT id, name, share, vtime, used, used_at FROM runs"


def charge(db: Connection, claim: Claim, outcome: Outcome, measured: Measured) -> None:
    """Count what an ended attempt had of the machine as used by its run. Inside `writing`.

    Args:
        db: the store's.
        claim: the attempt.
        outcome: its end.
        measured: how long it ran by a clock that nobody sets, and how long it was paused, which is no use.
    """
    seconds, elapsed_s = outcome.at - claim.claimed, measured.elapsed_s
    if elapsed_s is not None:
        seconds = min(seconds, elapsed_s) if seconds > 0 else elapsed_s
    seconds -= measured.paused_s
    row = db.execute(f"{_ACCOUNT} WHERE id = ?", (claim.run,)).fetchone()
    if row is None or not 0 < seconds <= LONGEST_S:  # the wall clock was set
        return
    after = account(*row).charged(cards_of(claim.gpus, claim.cpus) * seconds, outcome.at)
    db.execute(
        "UPDATE runs SET vtime = ?, used = ?, used_at = ? WHERE id = ?",
        (after.vtime, after.used, after.at, claim.run),
    )


def set_vtimes(db: Connection, vtimes: Mapping[str, float]) -> None:
    """Set the virtual times of runs that come beside others."""
    with db.writing():
        db.executemany(
            "UPDATE runs SET vtime = ? WHERE id = ?",
            [(vtime, int(run)) for run, vtime in vtimes.items()],
        )


def open_runs(execute: Callable[..., Cursor]) -> list[tuple[RunAccount, int, int]]:
    """Return the runs that have jobs which have not ended, with how many of these run and wait."""
    rows = execute(
        "SELECT runs.id, name, share, vtime, used, used_at, sum(CASE state WHEN 'running' THEN n ELSE 0 END),"
        " sum(CASE state WHEN 'running' THEN 0 ELSE n END) FROM counters"
        " JOIN runs ON runs.id = run WHERE state IN ('queued', 'held', 'running') AND n > 0"
        " GROUP BY run ORDER BY run"
    )
    return [(account(*row[:6]), int(row[6]), int(row[7])) for row in rows]


def account_of(execute: Callable[..., Cursor], root: Path, name: str) -> RunAccount:
    """Return the account of a run, one without use where there is no such run yet."""
    row = execute(f"{_ACCOUNT} WHERE root = ? AND name = ?", (str(root), name)).fetchone()
    return RunAccount(name=name) if row is None else account(*row)


def places(execute: Callable[..., Cursor]) -> list[tuple[int, float, tuple[str, ...], int]]:
    """Return of each running job its run, when its attempt was claimed, its GPUs and its cores."""
    rows = execute(
        "SELECT jobs.run, claimed, device, cpus FROM jobs JOIN attempts ON attempts.job = jobs.id"
        " AND attempts.outcome IS NULL WHERE jobs.state = 'running'"
    )
    return [
        (run, claimed, () if device == CPU else tuple(device.split(",")), cpus)
        for run, claimed, device, cpus in rows
    ]


def jobs_before(execute: Callable[..., Cursor], row: JobRow, priorities: Collection[int]) -> int:
    """Return how many jobs of its run start before one that waits for nothing but room.

    Args:
        execute: of a database.
        row: the job.
        priorities: those of the jobs of its run that could start.
    """
    (rank,) = execute("SELECT rank FROM jobs WHERE id = ?", (row.id,)).fetchone() or (0.0,)
    (number,) = execute(
        "SELECT count(*) FROM jobs WHERE state = 'queued' AND waits = 0 AND run = ?1"
        " AND priority IN (SELECT value FROM json_each(?4)) AND (rank, id) < (?2, ?3)",
        (row.run_id, rank, row.id, json.dumps([*priorities])),
    ).fetchone()
    return int(number)
