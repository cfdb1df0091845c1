"""The scheduler's side of the queue: how attempts ended, why jobs wait, whose time has come, what attempts used of GPUs.

Of what was used, the newest few attempts of each signature are kept; jobs that are alike are judged by it.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from launcher.job import is_exact, numbers_of
from launcher.states import (
    Done,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Reason,
    State,
    Stopped,
    Void,
    outcome_record,
)
from launcher.store.claims import Claims, ReadyJobs
from launcher.store.connection import Connection, reason_columns
from launcher.store.history_queries import PastUse, past_use
from launcher.store.rows import Claim
from launcher.store.runs import charge, set_vtimes
from launcher.store.transitions import Requeue, Transitions
from launcher.store.usage import (
    LONGEST_S,
    NO_USAGE,
    NOT_MEASURED,
    Measured,
    Usage,
    card_of,
    lesson_of,
    usage_of,
    within,
)

KEPT = 64  # attempts of a signature that are remembered, and of a kind
RECENT = 1024  # attempts among which those of a kind are looked for
EARLY_S = 600.0  # what failed or was stopped sooner may not have taken all its memory yet
MOST_SIGNATURES = 10_000  # whose usage is kept in memory
_COLUMNS = "signature, seconds, peak, shared, slowdown, sm, machine, numbers"


class UsageRecords:
    """What attempts used, by the signature of their jobs; of each the newest few."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._here: frozenset[str] = frozenset()
        self._cached: dict[tuple[str, str], Usage] = {}
        # kinds and seconds, the oldest first
        self._recent: deque[tuple[str, float]] | None = None
        self._of_kind: dict[str, tuple[float, ...]] = {}

    def know(self, machines: Iterable[str]) -> None:
        """Know which cards and drivers are this machine's; what others taught counts less.

        Args:
            machines: their fingerprints; none: all that was learned counts as learned here.
        """
        here = frozenset(filter(None, machines))
        if here != self._here:
            self._here = here
            self.forget()

    def usage(self, signature: str, machine: str = "") -> Usage:
        """Return what the newest attempts of jobs with a signature used.

        Args:
            signature: of a job; where none of its like was done, the durations are those of its kind.
            machine: the fingerprint of a card; '': any of this machine's.
        """
        if not signature:
            return NO_USAGE
        key = (signature, machine)
        if key not in self._cached:
            if len(self._cached) >= MOST_SIGNATURES:
                self._cached.clear()
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons WHERE signature = ? ORDER BY id DESC LIMIT ?",
                (signature, KEPT),
            ).fetchall()
            here = frozenset({machine}) if machine else self._here
            lessons = [lesson_of(*row[1:]) for row in rows]
            self._cached[key] = usage_of(lessons, here, exact=is_exact(signature))
        usage = self._cached[key]
        if usage.seconds or not (seconds := self._kind(signature)):
            return usage
        return usage._replace(seconds=seconds, own=False)

    def _kind(self, signature: str) -> tuple[float, ...]:
        """Return how long the newest jobs of a signature's kind took, else the newest of all."""
        if self._recent is None:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons ORDER BY id DESC LIMIT ?", (RECENT,)
            ).fetchall()
            oldest_first = [(_kind_of(row[0]), lesson_of(*row[1:])) for row in reversed(rows)]
            timed = [(kind, lesson) for kind, lesson in oldest_first if lesson.seconds is not None]
            same_card = [item for item in timed if item[1].alike(self._here, card_of)]
            self._recent = deque(
                ((kind, lesson.seconds or 0.0) for kind, lesson in same_card or timed), RECENT
            )
        kind = _kind_of(signature)
        if kind not in self._of_kind:
            newest_first = [*reversed(self._recent)]
            own = [seconds for other, seconds in newest_first if other == kind]
            every = [seconds for _, seconds in newest_first]
            self._of_kind[kind] = tuple((own or every)[:KEPT])
        return self._of_kind[kind]

    def record(self, claim: Claim, outcome: Outcome, measured: Measured = NOT_MEASURED) -> None:
        """Record what an attempt used on GPUs. Inside `writing`.

        Args:
            claim: the attempt.
            outcome: its end; only one that was done tells how long such a job takes.
            measured: what was seen of it.
        """
        signature = claim.spec.signature
        took = _duration(outcome.at - claim.claimed, measured)
        seconds = took if isinstance(outcome, Done) and claim.gpus else None
        peak = _needed(outcome, measured.peak)
        if isinstance(outcome, Failed | Lost | Stopped) and (took is None or took < EARLY_S):
            peak = self._if_more(claim, peak)
        if not signature or (seconds is None and peak is None):
            return
        numbers = None if is_exact(signature) else json.dumps(numbers_of(claim.spec.argv))
        row = (
            seconds,
            peak,
            measured.shared_s,
            measured.slowdown,
            measured.sm,
            measured.machine,
            numbers,
        )
        self._db.execute(
            f"INSERT INTO lessons (at, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (outcome.at, signature, *row),
        )
        self._db.execute(
            "DELETE FROM lessons WHERE signature = ?1 AND id NOT IN"
            " (SELECT id FROM lessons WHERE signature = ?1 ORDER BY id DESC LIMIT ?2)",
            (signature, KEPT),
        )
        for key in [key for key in self._cached if key[0] == signature]:
            del self._cached[key]
        if self._recent is not None and (alone := lesson_of(*row).seconds) is not None:
            self._recent.append((_kind_of(signature), alone))
            self._of_kind.clear()

    def _if_more(self, claim: Claim, peak: int | None) -> int | None:
        """Return what an attempt took that ended early, where it is more than is expected of its like.

        It may not have come to what takes most of the memory: less than is known says nothing.
        """
        known = self.usage(claim.spec.signature).peak if is_exact(claim.spec.signature) else None
        expected = [amount for amount in (known, claim.spec.resources.min_vram) if amount]
        return peak if peak is not None and expected and peak > max(expected) else None

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._cached.clear()
        self._recent = None
        self._of_kind.clear()


def _duration(by_wall: float, measured: Measured) -> float | None:
    """Return how long an attempt took without its pauses; None where the clock was set, and nobody can tell."""
    seconds = by_wall if measured.elapsed_s is None else min(by_wall, measured.elapsed_s)
    return within(seconds - measured.paused_s, 0, LONGEST_S)


def _needed(outcome: Outcome, peak: int | None) -> int | None:
    """Return what an attempt took on one GPU, with what it was refused there."""
    if not isinstance(outcome, OutOfMemory) or outcome.where != "gpu":
        return peak
    held = max(peak or 0, outcome.held or 0)
    return held + (outcome.wanted or 0) if held else peak


def _kind_of(signature: str) -> str:
    return signature.partition(" ")[0]


class Scheduling:
    """What the one scheduler of a home does to the queue; what could start is in `ReadyJobs`, promises in `Claims`."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._transitions = Transitions(connection)
        self._usage = UsageRecords(connection)
        self.usage, self.know_machines = self._usage.usage, self._usage.know
        self._ready_jobs = ReadyJobs(connection, self.usage)
        self.ready, self.next_in = self._ready_jobs.ready, self._ready_jobs.next_in
        self.waiting_by_lane, self.mend = self._ready_jobs.waiting_by_lane, self._ready_jobs.mend
        self.lane_of = self._ready_jobs.lane_of
        self._claims = Claims(connection)
        self.claim, self.next_claim = self._claims.claim, self._claims.next_claim
        self.claims = self._claims.claims

    def set_vtimes(self, vtimes: Mapping[str, float]) -> None:
        """Set the virtual times of runs that have just come beside others."""
        set_vtimes(self._db, vtimes)

    def is_needed(self, job: int) -> bool:
        """Tell whether other jobs need this one."""
        row = self._db.execute("SELECT 1 FROM needs WHERE need = ? LIMIT 1", (job,)).fetchone()
        return row is not None

    def limits(self) -> dict[str, int]:
        """Return how many jobs of a group may run at once, where there is a limit."""
        return dict(self._db.execute("SELECT name, slots FROM groups").fetchall())

    def explain(self, reasons: Mapping[int, Reason | None]) -> None:
        """Record why the first job of each lane cannot start; None where it can."""
        rows = self._db.execute("SELECT id, reason_code, reason, reason_data FROM lanes")
        before = {int(lane): columns for lane, *columns in rows}
        after = {
            lane: ["", "", None] if reason is None else [*reason_columns(reason)]
            for lane, reason in reasons.items()
        }
        changed = [(*row, lane) for lane, row in after.items() if before.get(lane) != row]
        if changed:
            update = "UPDATE lanes SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"
            with self._db.writing():
                self._db.executemany(update, changed)

    def next_attempt(self, job: int) -> int:
        """Return the number of a job's next attempt, as far as the queue knows."""
        row = self._db.execute("SELECT attempts FROM jobs WHERE id = ?", (job,)).fetchone()
        return 1 + (int(row[0]) if row else 0)

    def past_use(self, since: float, now: float) -> list[PastUse]:
        """Return what the attempts used that ended between two times."""
        return past_use(self._db, since, now)

    def paused(self) -> frozenset[int]:
        """Return the running jobs whose programs are to be paused."""
        query = "SELECT id FROM jobs WHERE state = 'running' AND paused IS NOT NULL"
        return frozenset(self._db.numbers(query))

    def wishes(self) -> dict[int, str]:
        """Return what owners ask of running jobs."""
        rows = self._db.execute("SELECT id, wish FROM jobs WHERE state = 'running' AND wish <> ''")
        return {int(job): str(wish) for job, wish in rows}

    def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        outputs: Mapping[str, Sequence[int]],
        now: float,
        measured: Measured = NOT_MEASURED,
        requeue: Requeue | None = None,
    ) -> State | None:
        """Take in how an attempt ended, and what follows for the job and those that need it.

        Args:
            claim: the attempt.
            outcome: its end.
            outputs: size and time of what it has written, by path.
            now: seconds since 1970.
            measured: what was seen of it on its GPUs.
            requeue: given where it did not end well and its job is not to blame.

        Returns the job's new state, or None when this end was taken in before.
        """
        if isinstance(outcome, Void) and outcome.whose == "machine":
            return self._transitions.take_back(claim, outcome, now)
        record = json.dumps(outcome_record(outcome))
        with self._db.writing():
            taken = self._db.execute(
                "UPDATE attempts SET outcome = ?1, ended = ?2, peak = ?3, paused = paused + coalesce("
                "(SELECT max(0, ?2 - jobs.paused) FROM jobs WHERE id = ?4), 0)"
                " WHERE job = ?4 AND number = ?5 AND outcome IS NULL RETURNING paused",
                (record, outcome.at, measured.peak, claim.job, claim.number),
            ).fetchone()
            if taken is None:
                return None
            measured = measured.without(float(taken[0]))
            self._usage.record(claim, outcome, measured)
            charge(self._db, claim, outcome, measured)
            return self._transitions.follow(
                claim, outcome, outputs=outputs, now=now, requeue=requeue
            )

    def forget(self) -> None:
        """Read everything anew that is kept in memory: a transaction was rolled back."""
        self._ready_jobs.forget()
        self._claims.forget()
        self._usage.forget()

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
