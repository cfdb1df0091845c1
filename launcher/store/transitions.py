"""What follows from the end of an attempt for its job, and for those that need it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from launcher.job import LONGEST_BACKOFF_S
from launcher.states import Done, Failed, Lost, Outcome, OutOfMemory, State, Stopped, Void, ending
from launcher.store.connection import Connection
from launcher.store.rows import Claim, known_record, read_lane
from launcher.system.stored_fields import Unreadable
from launcher.units import format_seconds

EXCUSED_LIMIT = 20  # a job that fails this often without its fault will not be done by itself
LOST_LIMIT = 5  # a job whose end was lost this often probably kills its machine
VOID_PAUSE_S = 1.0  # between attempts that nobody starts
SIGNALLED_PAUSE_S = 2.0  # after a signal to a supervisor: a machine that goes down ends us, too
UNSTARTED = "this machine could not start it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """Why an attempt that did not end well is not held against its job, and what follows."""

    reason: str
    claim: int | None = None  # bytes that the next attempt gets at least, on each GPU
    pause_s: float = 0.0  # before the next attempt; doubles each time
    hopeless: bool = False  # this machine can never give it what it needs: it fails


class Following:
    """Moves jobs on when an attempt has ended; all of it inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection

    def follow(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        outputs: Mapping[str, Sequence[int]],
        now: float,
        excuse: Excuse | None,
    ) -> State:
        """Bring a job, and those that need it, to their next states; return its own."""
        state, reason = self._follows(claim, outcome, now, excuse)
        if self._db.move(claim.job, state, reason, now, only_from=(State.RUNNING,)):
            self._after(claim, state, outcome, outputs, now)
        return state

    def _follows(
        self, claim: Claim, outcome: Outcome, now: float, excuse: Excuse | None
    ) -> tuple[State, str]:
        """Return a job's next state and its reason; counts what it has behind it."""
        if isinstance(outcome, Done):
            return State.DONE, "done"
        wish, failures, lost, excused = self._db.execute(
            "SELECT wish, failures, lost, excused FROM jobs WHERE id = ?", (claim.job,)
        ).fetchone()
        if wish == "cancel":
            return State.CANCELLED, "cancelled by its owner"
        if excuse is not None:
            return self._excused(claim, excuse, excused, now)
        match outcome:
            case Failed(error=error) | OutOfMemory(error=error):
                self._count(claim.job, "failures")
                return self._failed(claim, error, failures, now)
            case Stopped(by=by):
                stopped = f"stopped by {by}" if by else "stopped"
                if claim.spec.terms.rerun == "never":
                    return State.FAILED, f"{stopped}, and it must never run twice"
                if by:
                    self._pause(claim.job, SIGNALLED_PAUSE_S, now)
                return State.QUEUED, f"{stopped}, goes on later"
            case Void(whose="machine", why=why):
                return State.QUEUED, f"{UNSTARTED}: {why}"
            case Void():
                if self._was_void_before(claim):
                    self._pause(claim.job, VOID_PAUSE_S, now)
                return State.QUEUED, "was not started"
            case Lost(why=why):
                self._count(claim.job, "lost")
                if claim.spec.terms.rerun == "never":
                    return State.FAILED, f"lost ({why}), and it must never run twice"
                if lost + 1 >= LOST_LIMIT:
                    return State.FAILED, f"lost {lost + 1} times, the last time: {why}"
                return State.QUEUED, f"lost ({why}), runs again"
            case _:
                assert_never(outcome)

    def _excused(self, claim: Claim, excuse: Excuse, excused: int, now: float) -> tuple[State, str]:
        """Queue a job again whose attempt failed without its fault; not for ever."""
        self._count(claim.job, "excused")
        if excuse.hopeless:
            return State.FAILED, excuse.reason
        if excused + 1 >= EXCUSED_LIMIT:
            return State.FAILED, f"{excuse.reason}, {excused + 1} times by now"
        if excuse.claim is not None:
            self._raise(claim.job, excuse.claim)
        if excuse.pause_s:
            self._pause(claim.job, min(excuse.pause_s * 2**excused, LONGEST_BACKOFF_S), now)
        return State.QUEUED, excuse.reason

    def _raise(self, job: int, claim: int) -> None:
        """Have a job promised more memory of a GPU from now on: it goes to another lane."""
        row = self._db.execute(
            "SELECT key FROM lanes JOIN jobs ON lane = lanes.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        if row is None:  # an older command line put it in; it gets its lane before it starts again
            return
        try:
            lane = read_lane(row[0])
        except Unreadable:  # a newer version's; it is set aside before it starts again
            return
        key = replace(lane, least=max(lane.least, claim)).key
        self._db.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (key,))
        self._db.execute(
            "UPDATE jobs SET lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?", (key, job)
        )

    def _failed(self, claim: Claim, error: str, failures: int, now: float) -> tuple[State, str]:
        terms = claim.spec.terms
        if failures >= terms.retries:
            return State.FAILED, error
        pause_s = min(terms.backoff_s * 2 ** min(failures, 30), LONGEST_BACKOFF_S)
        self._pause(claim.job, pause_s, now)
        tries = f"retry {failures + 1} of {terms.retries} after {format_seconds(pause_s)}"
        return State.QUEUED, f"{tries}: {error}"

    def _pause(self, job: int, span_s: float, now: float) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO timers (job, at, since) VALUES (?, ?, ?)",
            (job, now + span_s, now),
        )
        self._db.count_waits([job])

    def _was_void_before(self, claim: Claim) -> bool:
        """Tell whether the attempt before was not started either: there is no room, or no process."""
        row = self._db.execute(
            "SELECT outcome FROM attempts WHERE job = ? AND number = ?",
            (claim.job, claim.number - 1),
        ).fetchone()
        # not in SQL: a result may hold NaN, which Python writes and SQLite takes for no JSON
        before = known_record(row[0]) if row else {}
        return bool(before.get("ending") == ending(Void(at=0.0)))

    def _count(self, job: int, column: str) -> None:
        self._db.execute(f"UPDATE jobs SET {column} = {column} + 1 WHERE id = ?", (job,))

    def _after(
        self,
        claim: Claim,
        state: State,
        outcome: Outcome,
        outputs: Mapping[str, Sequence[int]],
        now: float,
    ) -> None:
        job = claim.job
        if state is State.DONE and isinstance(outcome, Done):
            if claim.number > 1:  # one of an earlier time
                self._db.execute("DELETE FROM results WHERE job = ?", (job,))
            if outcome.result:
                self._db.execute(
                    "INSERT INTO results VALUES (?, ?, ?)",
                    (job, outcome.at, json.dumps(dict(outcome.result))),
                )
            if outputs:
                self._db.execute(
                    "UPDATE jobs SET outputs = ? WHERE id = ?", (json.dumps(dict(outputs)), job)
                )
            self._db.execute(
                "UPDATE jobs SET waits = waits - 1"
                " WHERE id IN (SELECT job FROM needs WHERE need = ?) AND waits > 0",
                (job,),
            )
            return
        if state in {State.FAILED, State.CANCELLED}:
            self._db.skip_dependants(job, state, now)
