"""Waits of programs for jobs of the queue: inside a job, they end if the awaited jobs can never start."""

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from launcher.queue.home.paths import Home
from launcher.queue.store.client import enclosing_attempt, open_queue_readonly
from launcher.queue.store.wait_records import write_wait_record
from launcher.system.errors import MachineError

CHECK_EVERY_S = 2.0  # most waits are shorter, and each check reads the queue
REMEDY = (
    "Queue it with after=[…] instead of waiting for it, or let fewer of these jobs run at once. "
    "See: launcher help python"
)


class JobWait:
    """A wait for jobs. Inside a job of the same queue, `check` finds out whether it can never return.

    Args:
        home: the queue folder.
        jobs: numbers of the jobs, all of which must end.
        is_limited: whether the wait has a time limit, or may return earlier; then nothing is checked.
    """

    def __init__(self, home: Home, jobs: Iterable[int], *, is_limited: bool = False) -> None:
        self._home, self._jobs = home, tuple(jobs)
        self._attempt = None if is_limited else enclosing_attempt(home)
        self._due = time.monotonic() + CHECK_EVERY_S
        self._record: Path | None = None

    @property
    def is_checked(self) -> bool:
        """Whether this process runs inside a job and has no time limit."""
        return self._attempt is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def check(self) -> None:
        """Record this wait, and see whether it can never return; not at each call.

        Raises:
            MachineError: running jobs hold the resources that the jobs need, and wait for such jobs themselves.
        """
        if self._attempt is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + CHECK_EVERY_S
        if self._record is None:
            self._record = write_wait_record(self._attempt, self._jobs)
            return  # other waiting jobs can see this wait before this job gives up
        # they take 5 ms, and few waits are that long
        from launcher.queue.scheduler.deadlock_state import read_queue
        from launcher.queue.scheduler.policy.deadlock import find_deadlock

        own = int(self._attempt.folder.name.partition("-")[0])
        with open_queue_readonly(self._home) as (home, store), store.database.reading():
            why = find_deadlock(own, read_queue(home, store))
        if why:
            raise MachineError(f"{why}. {REMEDY}")
