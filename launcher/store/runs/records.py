"""The accounts of runs in the database: who used how much, and whose share is what."""

from collections.abc import Callable, Iterable
from math import isfinite
from sqlite3 import Cursor

from launcher.states import Outcome
from launcher.store.connection import Connection
from launcher.store.rows import Claim
from launcher.store.runs.accounts import RunAccount, account, cards_of

_ACCOUNT = "SELECT id, name, share, used, used_at FROM runs"


def charge(db: Connection, claim: Claim, outcome: Outcome) -> None:
    """Count what an ended attempt had of the machine as used by its run. Inside `writing`."""
    seconds = outcome.at - claim.claimed
    row = db.execute(f"{_ACCOUNT} WHERE id = ?", (claim.run,)).fetchone()
    if row is None or not isfinite(seconds) or seconds <= 0:  # a clock was set back
        return
    after = account(*row).charged(cards_of(claim.gpus, claim.cpus), seconds, outcome.at)
    db.execute(
        "UPDATE runs SET used = ?, used_at = ? WHERE id = ?", (after.used, after.at, claim.run)
    )


def set_share(db: Connection, runs: Iterable[int], share: float) -> None:
    """Give runs a share of the machine."""
    with db.writing():
        db.executemany("UPDATE runs SET share = ? WHERE id = ?", [(share, run) for run in runs])


def accounts(execute: Callable[..., Cursor], name: str) -> list[RunAccount]:
    """Return the accounts of all runs with a name, wherever their results lie."""
    rows = execute(f"{_ACCOUNT} WHERE name = ? ORDER BY id", (name,))
    return [account(*row) for row in rows]
