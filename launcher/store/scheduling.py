"""The scheduler's side of the queue: what could start, what was promised, how it ended."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from launcher.states import (
    Done,
    Failed,
    Lost,
    Outcome,
    State,
    Stopped,
    Void,
    ending,
    outcome_record,
)
from launcher.store.connection import Connection
from launcher.store.rows import Claim, Lane, ReadyJob, claim_row, read_lane
from launcher.store.steps import fill_lanes
from launcher.units import format_seconds

LOST_LIMIT = 5  # a job whose end was lost this often probably kills its machine
LONGEST_BACKOFF_S = 3600.0
VOID_PAUSE_S = 1.0  # between attempts that cannot be started
MOST_CONTEXTS = 64  # kept in memory; each is as large as an environment
_NEXT_LANE = (
    "SELECT lane, rank, id FROM jobs WHERE state = 'queued' AND waits = 0 AND lane > ?"
    " ORDER BY lane, rank, id LIMIT ?"
)
_CLAIM = (
    "SELECT attempts.*, jobs.spec, contexts.body AS context FROM attempts"
    " JOIN jobs ON jobs.id = attempts.job JOIN contexts ON contexts.id = jobs.context"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where an attempt runs, and who supervises it."""

    device: str  # "cpu" or a GPU's UUID
    cpus: int
    boot: str
    pid: int
    start_ticks: int


class Scheduling:
    """What the one scheduler of a home does to the queue."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._lanes: dict[int, Lane] = {}  # neither of them ever changes
        self._contexts: dict[int, str] = {}

    def ready(self, each: int) -> list[ReadyJob]:
        """Return the first `each` jobs of every lane that wait for nothing, the most urgent first."""
        found: list[ReadyJob] = []
        lane = -1
        while rows := self._db.execute(_NEXT_LANE, (lane, each)).fetchall():
            lane = int(rows[0][0])
            if lane == 0:  # an older command line put it in while the queue was brought up to date
                with self._db.writing():
                    fill_lanes(self._db)
                continue
            asked = self._lane(lane)
            found += [
                ReadyJob(id=job, rank=rank, lane_id=lane, lane=asked)
                for own, rank, job in rows
                if own == lane  # the rest belongs to lanes behind it
            ]
        return sorted(found, key=lambda one: (one.rank, one.id))

    def limits(self) -> dict[str, int]:
        """Return how many jobs of a group may run at once, where there is a limit."""
        return dict(self._db.execute("SELECT name, slots FROM groups").fetchall())

    def explain(self, reasons: Mapping[int, str]) -> None:
        """Put down why the first job of each lane cannot start; '' where it can."""
        told = {
            int(lane): str(reason)
            for lane, reason in self._db.execute("SELECT id, reason FROM lanes")
        }
        news = [(text, lane) for lane, text in reasons.items() if told.get(lane) != text]
        if news:
            with self._db.writing():
                self._db.executemany("UPDATE lanes SET reason = ? WHERE id = ?", news)

    def claim(
        self,
        job: int,
        seat: Seat,
        *,
        reason: str,
        now: float,
        prepare: Callable[[Claim], None] = lambda _: None,
    ) -> Claim | None:
        """Promise a queued job to a new attempt; None when it is not queued any more.

        Args:
            job: its number.
            seat: the place.
            reason: why it starts there.
            now: seconds since 1970.
            prepare: makes the attempt's folder. When it raises, nothing was claimed; and nothing is
                claimed whose folder was not there.
        """
        with self._db.writing():
            row = self._db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, reason = ?, wish = ''"
                " WHERE id = ? AND state = 'queued' AND waits = 0"
                " RETURNING attempts, spec, context",
                (reason, job),
            ).fetchone()
            if row is None:
                return None
            number, spec, context = row
            self._db.execute(
                "INSERT INTO attempts (job, number, boot, device, cpus, pid, start_ticks, claimed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job,
                    number,
                    seat.boot,
                    seat.device,
                    seat.cpus,
                    seat.pid,
                    seat.start_ticks,
                    now,
                ),
            )
            self._db.event(job, State.RUNNING, reason, now)
            claim = Claim(
                job=job,
                number=number,
                boot=seat.boot,
                device=seat.device,
                cpus=seat.cpus,
                pid=seat.pid,
                start_ticks=seat.start_ticks,
                spec_text=spec,
                context_text=self._context(context),
            )
            prepare(claim)
        return claim

    def claims(self) -> list[Claim]:
        """Return every attempt whose end is not known yet."""
        rows = self._db.execute(f"{_CLAIM} WHERE attempts.outcome IS NULL ORDER BY attempts.job")
        return [claim_row(row) for row in rows]

    def wishes(self) -> dict[int, str]:
        """Return what owners ask of running jobs."""
        rows = self._db.execute("SELECT id, wish FROM jobs WHERE state = 'running' AND wish <> ''")
        return {int(job): str(wish) for job, wish in rows}

    def finish(
        self, claim: Claim, outcome: Outcome, *, outputs: Mapping[str, Sequence[int]], now: float
    ) -> State | None:
        """Take in how an attempt ended, and what follows for the job and those that need it.

        Returns the job's new state, or None when this end was taken in before.
        """
        record = json.dumps(outcome_record(outcome))
        with self._db.writing():
            taken = self._db.execute(
                "UPDATE attempts SET outcome = ?, ended = ? WHERE job = ? AND number = ?"
                " AND outcome IS NULL RETURNING number",
                (record, outcome.at, claim.job, claim.number),
            ).fetchone()
            if taken is None:
                return None
            state, reason = self._follows(claim, outcome, now)
            if self._db.move(claim.job, state, reason, now, only_from=(State.RUNNING,)):
                self._after(claim, state, outcome, outputs, now)
            return state

    # --- times

    def let_go(self, now: float) -> float | None:
        """Let jobs go whose time has come; return when the next one comes, None for never.

        A pause that began in the future tells that the clock was set back: it is over, too, or a
        job would wait for a day.
        """
        soonest, newest = self._db.execute(
            "SELECT (SELECT min(at) FROM timers), (SELECT max(since) FROM timers)"
        ).fetchone()
        if soonest is None:
            return None
        if soonest > now and (newest is None or newest <= now):
            return float(soonest)
        due = self._db.numbers("SELECT job FROM timers WHERE at <= ?1 OR since > ?1", now)
        with self._db.writing():
            self._db.executemany("DELETE FROM timers WHERE job = ?", [(job,) for job in due])
            self._db.count_waits(due)
        (soonest,) = self._db.execute("SELECT min(at) FROM timers").fetchone()
        return None if soonest is None else float(soonest)

    # --- what follows from an end

    def _follows(self, claim: Claim, outcome: Outcome, now: float) -> tuple[State, str]:
        """Return a job's next state and its reason; counts failures and lost attempts."""
        if isinstance(outcome, Done):
            return State.DONE, "done"
        wish, failures, lost = self._db.execute(
            "SELECT wish, failures, lost FROM jobs WHERE id = ?", (claim.job,)
        ).fetchone()
        match outcome:
            case _ if wish == "cancel":
                return State.CANCELLED, "cancelled by its owner"
            case Failed(error=error):
                self._count(claim.job, "failures")
                return self._failed(claim, error, failures, now)
            case Stopped():
                return State.QUEUED, "stopped, goes on later"
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
        before = json.loads(row[0]) if row and row[0] else {}
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

    def _context(self, number: int) -> str:
        if number not in self._contexts:
            if len(self._contexts) >= MOST_CONTEXTS:
                self._contexts.clear()
            (self._contexts[number],) = self._db.execute(
                "SELECT body FROM contexts WHERE id = ?", (number,)
            ).fetchone()
        return self._contexts[number]

    def _lane(self, number: int) -> Lane:
        if number not in self._lanes:
            (key,) = self._db.execute("SELECT key FROM lanes WHERE id = ?", (number,)).fetchone()
            self._lanes[number] = read_lane(key)
        return self._lanes[number]
