"""The changes that owners make to jobs which are in the queue already."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

from launcher.states import Reason
from launcher.store.connection import Connection
from launcher.store.job_queries import JobQueries
from launcher.store.rows import JobRow
from launcher.store.steering import pauses, tags
from launcher.store.steering.revisions import ChangedJob, start_at, write_change
from launcher.store.user_actions import UserActions


class Steering:
    """Each change is one transaction over all jobs named: all of it happens or nothing."""

    def __init__(self, connection: Connection, read: JobQueries, owning: UserActions) -> None:
        """Work over a store's connection."""
        self._db, self._read, self._owning = connection, read, owning

    def dependants(self, job: int) -> list[JobRow]:
        """Return all jobs that need one done, directly or not, in any state; each after those that it needs."""
        needs: dict[int, list[int]] = {}
        todo = [job]
        while todo:
            need = todo.pop()
            for below in self._db.numbers(
                "SELECT job FROM needs WHERE need = ? AND any_end = 0", need
            ):
                if below not in needs:
                    todo.append(below)
                needs.setdefault(below, []).append(need)
        order = [number for number in TopologicalSorter(needs).static_order() if number != job]
        rows = {row.id: row for row in self._read.jobs_by_id(order)}
        return [rows[number] for number in order]

    def behind(self, job: int) -> list[JobRow]:
        """Return all jobs that wait for the end of one, or did, directly or not, done or not."""
        numbers: set[int] = set()
        todo = [job]
        while todo:
            below = self._db.numbers("SELECT job FROM needs WHERE need = ?", todo.pop())
            todo += [number for number in below if number not in numbers]
            numbers.update(below)
        return self._read.jobs_by_id(numbers)

    def keep_place(self, job: int, submitted: float, rank: float) -> None:
        """Give a job the place in the queue of when it was submitted first. Inside `writing`."""
        self._db.execute(
            "UPDATE jobs SET submitted = ?, rank = ? WHERE id = ?", (submitted, rank, job)
        )

    def change(self, jobs: Sequence[ChangedJob], now: float) -> None:
        """Give jobs that wait or have ended other settings and terms.

        Raises:
            Meanwhile: one of them is not any more as it was when its change was worked out; nothing was changed.
        """
        with self._db.writing():
            for changed in jobs:
                write_change(self._db, changed, now)

    def retry(self, jobs: Collection[int], changes: Sequence[ChangedJob], now: float) -> list[int]:
        """Queue ended jobs again, some of them with other settings and terms; see `UserActions.retry`.

        Raises:
            Meanwhile: one of them is not any more as it was when its change was worked out; nothing was changed.
        """
        with self._db.writing():
            self.change(changes, now)
            reasons = {changed.row.id: changed.reason for changed in changes}
            queued = self._owning.retry(jobs, now, reasons)
            for changed in changes:
                if changed.spec.terms.not_before != changed.row.spec.terms.not_before:
                    start_at(self._db, changed.row.id, changed.spec.terms.not_before)
        return queued

    def pause(self, reasons: Mapping[int, Reason], now: float) -> list[int]:
        """Let running programs be paused; return whose are now. What is said of each is its reason."""
        with self._db.writing():
            return pauses.pause(self._db, reasons.items(), now)

    def resume(self, jobs: Sequence[int], now: float) -> list[int]:
        """Let paused programs go on; return whose do now."""
        with self._db.writing():
            return pauses.resume(self._db, jobs, now)

    def change_tags(
        self, jobs: Iterable[int], add: Collection[str], remove: Collection[str]
    ) -> list[int]:
        """Give tags to jobs, and take others from them; return the jobs that are tagged otherwise now."""
        with self._db.writing():
            return tags.change_tags(self._db, jobs, add, remove)

    def set_note(self, jobs: Iterable[int], text: str) -> list[int]:
        """Write a note on jobs; return those whose note is another now."""
        with self._db.writing():
            return tags.set_note(self._db, jobs, text)

    def tags_of(self, jobs: Iterable[int]) -> dict[int, list[str]]:
        """Return job → its tags in the order of their names, of those that have some."""
        return tags.tags_of(self._db, jobs)

    def all_tags(self) -> dict[str, int]:
        """Return each tag with the number of its jobs."""
        return tags.all_tags(self._db)

    def tagged(self, pattern: str) -> list[int]:
        """Return the jobs that have a tag, or one that a glob matches."""
        return tags.tagged(self._db, pattern)
