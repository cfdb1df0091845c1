"""The actions of a job's owner: cancel, hold, release, prioritise, retry, forget, limit."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from launcher.states import ENDED, OPEN, Reason, ReasonCode, State
from launcher.store.connection import Connection
from launcher.store.transitions import CANCELLED

# One point of priority is worth a day of waiting. As all jobs age alike, the order of
# "priority + age" never changes: it is kept in `rank`, and ageing costs nothing.
AGEING_S = 86_400.0

HELD = Reason(code=ReasonCode.HELD, text="held by its owner")
HELD_AGAIN = Reason(code=ReasonCode.HELD, text="asked to run again; held as it was before")
RELEASED = Reason(code=ReasonCode.RELEASED, text="released")
RETRIED = Reason(code=ReasonCode.RETRIED, text="asked to run again")


def rank_of(submitted: float, priority: int) -> float:
    """Return a job's place in the queue, the smallest first: priority, then age, ageing slowly."""
    return submitted - priority * AGEING_S


class UserActions:
    """Changes that a person asks for; each is one transaction over all jobs named."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection

    def cancel(self, jobs: Sequence[int], now: float) -> list[int]:
        """Cancel what waits, ask for the end of what runs; return the jobs that this concerns."""
        with self._db.writing():
            # the newest first: what needs another of them is cancelled itself, not skipped
            touched = [
                job
                for job in sorted(jobs, reverse=True)
                if self._wish(job, "cancel") or self._cancel_waiting(job, now)
            ]
        return touched[::-1]

    def hold(self, jobs: Iterable[int], now: float) -> list[int]:
        """Keep queued jobs from starting; return those that are held now."""
        with self._db.writing():
            return [
                job
                for job in jobs
                if self._db.move(job, State.HELD, HELD, now, only_from=(State.QUEUED,))
            ]

    def release(self, jobs: Iterable[int], now: float) -> list[int]:
        """Let held jobs start; return those."""
        held = (State.HELD,)
        with self._db.writing():
            return [
                job
                for job in jobs
                if self._db.move(job, State.QUEUED, RELEASED, now, only_from=held)
            ]

    def rename(self, job: int, name: str) -> None:
        """Give an ended job another name, so that a new one can have its own. Inside `writing`."""
        self._db.execute(
            "UPDATE jobs SET name = ?1, spec = json_set(spec, '$.name', ?1)"
            " WHERE id = ?2 AND state NOT IN ('queued', 'held', 'running')",
            (name, job),
        )

    def prioritise(self, jobs: Iterable[int], priority: int) -> list[int]:
        """Set the priority of jobs that wait; return those."""
        changed = []
        with self._db.writing():
            for job in jobs:
                row = self._db.execute(
                    "UPDATE jobs SET priority = ?1, rank = submitted - ?1 * ?2"
                    " WHERE id = ?3 AND state IN ('queued', 'held') RETURNING id",
                    (priority, AGEING_S, job),
                ).fetchone()
                changed += [job] if row else []
        return changed

    def again(self, jobs: Collection[int]) -> list[int]:
        """Return which jobs `retry` would queue: these, what they need, what was skipped for them.

        A job that is open already is none of them; a need that is done stays so.
        """
        chosen: set[int] = set()
        todo = list(jobs)
        while todo:
            job = todo.pop()
            if job in chosen or self._db.state_of(job) in {None, *OPEN}:
                continue
            chosen.add(job)
            todo += self._db.numbers(
                "SELECT need FROM needs JOIN jobs ON jobs.id = need WHERE job = ?"
                " AND any_end = 0 AND state IN ('failed', 'cancelled', 'skipped')",
                job,
            )
            todo += self._db.numbers(
                "SELECT job FROM needs JOIN jobs ON jobs.id = job WHERE need = ?"
                " AND any_end = 0 AND state = 'skipped'",
                job,
            )
        return sorted(chosen)

    def retry(
        self,
        jobs: Collection[int],
        now: float,
        reasons: Mapping[int, Reason] = MappingProxyType({}),
    ) -> list[int]:
        """Queue ended jobs again, those of `again`, with their counters at zero; return them all.

        Those that `held_before` names are held again. `reasons` says why, where it is not only that.
        """
        with self._db.writing():
            chosen = self.again(jobs)
            held = self.held_before(chosen)
            for job in chosen:
                state, reason = State.QUEUED, RETRIED
                if job in held:
                    state, reason = State.HELD, HELD_AGAIN
                reason = reasons.get(job, reason)
                self._db.move(job, state, reason, now, only_from=ENDED)
                self._db.execute(
                    "UPDATE jobs SET failures = 0, lost = 0, excused = 0, wish = '' WHERE id = ?",
                    (job,),
                )
                self._db.execute("DELETE FROM timers WHERE job = ?", (job,))
            below = [
                number
                for job in chosen
                for number in self._db.numbers("SELECT job FROM needs WHERE need = ?", job)
            ]
            self._db.count_waits({*chosen, *below})
        return chosen

    def held_before(self, jobs: Iterable[int]) -> set[int]:
        """Return which ended jobs were held when they were cancelled or skipped."""
        last = (
            "SELECT state FROM events WHERE job = ? AND state NOT IN ('cancelled', 'skipped')"
            " ORDER BY id DESC LIMIT 1"
        )
        last_states = {job: self._db.execute(last, (job,)).fetchone() for job in jobs}
        return {job for job, row in last_states.items() if row and row[0] == State.HELD}

    def forgettable(self, jobs: Iterable[int]) -> set[int]:
        """Return which of these `forget` would delete, were it asked to delete them all.

        One stays that is open, that an open job needs, or that may be run again with a job that
        would not find it done.
        """
        gone = {job for job in jobs if self._db.state_of(job) not in {None, *OPEN}}
        while kept := {job for job in gone if not self._bound(job) <= gone}:
            gone -= kept
        return gone

    def forget(self, jobs: Iterable[int]) -> list[int]:
        """Delete ended jobs with all that the queue knows of them; return those."""
        with self._db.writing():
            gone = sorted(self.forgettable(jobs))
            for job in gone:
                self._db.execute("DELETE FROM needs WHERE need = ?", (job,))
                self._db.execute("DELETE FROM jobs WHERE id = ?", (job,))
        return gone

    def forget_contexts(self) -> None:
        """Delete the environments of which no job is left; their numbers are never used again."""
        with self._db.writing():
            self._db.execute(
                "UPDATE contexts SET body = '', digest = 'forgotten ' || id"
                " WHERE body <> '' AND id NOT IN (SELECT context FROM jobs)"
            )

    def _bound(self, job: int) -> set[int]:
        """Return the jobs that could not go on without an ended one."""
        waiting = "IN ('queued', 'held', 'running')"
        which = waiting if self._db.state_of(job) is State.DONE else "<> 'done'"
        return set(
            self._db.numbers(
                "SELECT job FROM needs JOIN jobs ON jobs.id = job"
                f" WHERE need = ? AND any_end = 0 AND state {which}",
                job,
            )
        )

    def share(self, run: str, share: float) -> None:
        """Give all runs with a name a share of the machine, wherever their results lie."""
        with self._db.writing():
            self._db.execute("UPDATE runs SET share = ? WHERE name = ?", (share, run))

    def limit(self, group: str, slots: int | None) -> None:
        """Let at most `slots` jobs of a group run at once; None: as many as there is room for."""
        with self._db.writing():
            if slots is None:
                self._db.execute("DELETE FROM groups WHERE name = ?", (group,))
                return
            self._db.execute(
                "INSERT INTO groups VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET slots = excluded.slots",
                (group, slots),
            )

    def _cancel_waiting(self, job: int, now: float) -> bool:
        waiting = (State.QUEUED, State.HELD)
        if not self._db.move(job, State.CANCELLED, CANCELLED, now, only_from=waiting):
            return False
        self._db.execute("DELETE FROM timers WHERE job = ?", (job,))
        self._db.count_waits([job])
        self._db.propagate_end(job, State.CANCELLED, now)
        return True

    def _wish(self, job: int, wish: str) -> bool:
        changed = self._db.execute(
            "UPDATE jobs SET wish = ? WHERE id = ? AND state = 'running'", (wish, job)
        )
        return changed.rowcount == 1
