"""All running attempts, on this machine and on pilots: how each is polled, which have ended, which were asked to stop."""

import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.states import Outcome
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.started_attempts import Assignment, LaunchedAttempt
from launcher.queue.store.rows import Claim
from launcher.queue.workers.attempt_handles import (
    NO_DESCRIPTOR,
    POLL_S,
    AdoptedAttempt,
    AttemptHandle,
    SupervisedAttempt,
)


class StopRequests(NamedTuple):
    """The jobs whose attempts are to end."""

    jobs: Collection[int]
    killed: Collection[int] = ()  # jobs to end that get no grace period
    all_jobs: bool = False  # every attempt is to end


REMIND_S = 1.0  # while a program without a supervisor is asked to stop


class RunningAttempts:
    """The watch on each running job's attempt, by job; a job has at most one."""

    def __init__(self) -> None:
        """Begin without attempts."""
        self._watches: dict[int, tuple[Claim, AttemptHandle]] = {}
        self._kill_at: dict[int, float] = {}  # job that was asked to stop → monotonic
        self._paused: set[int] = set()  # jobs whose programs stand still
        self._killed: set[int] = set()  # jobs whose programs were ordered to be killed

    def __bool__(self) -> bool:
        return bool(self._watches)

    def add(self, claim: Claim, watch: AttemptHandle) -> None:
        """Watch an attempt."""
        self._watches[claim.job] = claim, watch
        if isinstance(watch, AdoptedAttempt) and watch.attempt.paused.exists():
            self._paused.add(claim.job)

    def remove(self, job: int) -> None:
        """Forget an attempt whose end is known from elsewhere."""
        del self._watches[job]
        self._kill_at.pop(job, None)
        self._paused.discard(job)
        self._killed.discard(job)

    def claims(self) -> list[Claim]:
        """Return the claims of all attempts."""
        return [claim for claim, _ in self._watches.values()]

    def local(self) -> Iterator[tuple[Claim, SupervisedAttempt | AdoptedAttempt]]:
        """Yield the attempts whose processes are on this machine."""
        for claim, watch in self._watches.values():
            if isinstance(watch, SupervisedAttempt | AdoptedAttempt):
                yield claim, watch

    def kill_at(self, job: int) -> float | None:
        """Return when an attempt that was asked to stop is to be killed, monotonic; None if it was not asked."""
        return self._kill_at.get(job)

    def newest_assignment(self) -> Assignment | None:
        """Return the place of the attempt that was started last, None if none has one."""
        _, watch = next(reversed(self._watches.values()), (None, None))
        return watch.assignment if isinstance(watch, LaunchedAttempt) else None

    def prefetch_spec(self, assignment: Assignment, attempt: Attempt) -> None:
        """Let the supervisor read an order that will get it if the eldest job of its lane ends first."""
        for _, watch in self._watches.values():
            if (
                isinstance(watch, LaunchedAttempt)
                and watch.assignment.job.lane_id == assignment.job.lane_id
            ):
                watch.supervisor.read_ahead(attempt)
                return

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when an attempt has news."""
        for _, watch in self._watches.values():
            if watch.descriptor >= 0:
                yield watch.descriptor

    def list_unsupervised(self) -> dict[int, int]:
        """Return pid → job of programs whose supervisors are dead."""
        return {
            watch.program: job
            for job, (_, watch) in self._watches.items()
            if isinstance(watch, AdoptedAttempt) and watch.program
        }

    def poll_events(
        self, readable: Collection[int] | None
    ) -> Iterator[tuple[Claim, AttemptHandle, Outcome | AttemptHandle]]:
        """Remove the attempts that have news; return each with its outcome or with the processes that still live.

        Args:
            readable: the descriptors that are readable; None: not known.
        """
        for job, (claim, watch) in list(self._watches.items()):
            silent = readable is not None and watch.descriptor not in readable
            if silent and watch.descriptor >= 0:
                continue
            news = watch.poll_outcome()
            if news is None:
                continue
            self.remove(job)
            yield claim, watch, news

    def stop(self, stops: StopRequests, result: CycleResult) -> list[Claim]:
        """Ask attempts to stop, and kill unsupervised ones after their grace period.

        Args:
            stops: Attempts to stop.
            result: Receives the time of the next cycle.

        Returns the claims of the attempts that were asked to end now.
        """
        asked = []
        for job, (claim, watch) in self._watches.items():
            if job in stops.killed and job not in self._killed:
                if watch.kill():
                    self._killed.add(job)
                else:
                    result.wake_within(REMIND_S)
                if job not in self._kill_at:
                    asked.append(claim)
                    watch.stop()
                self._kill_at[job] = time.monotonic()
            elif job in self._kill_at:
                if time.monotonic() >= self._kill_at[job]:
                    watch.kill_unsupervised()
            elif stops.all_jobs or job in stops.jobs:
                self._kill_at[job] = time.monotonic() + claim.spec.terms.grace_s
                asked.append(claim)
                watch.stop()
        if any(isinstance(self._watches[job][1], AdoptedAttempt) for job in self._kill_at):
            result.wake_within(REMIND_S)
        if any(watch.descriptor == NO_DESCRIPTOR for _, watch in self._watches.values()):
            result.wake_within(POLL_S)
        return asked

    def pause(self, jobs: Collection[int], result: CycleResult) -> None:
        """Suspend the programs of some jobs, and resume those of all others.

        Args:
            jobs: Jobs to pause.
            result: Receives the time of the next try if a program could not be signalled.
        """
        wanted = self._watches.keys() & jobs - self._kill_at.keys()
        for job in wanted ^ self._paused:
            if job in self._kill_at:  # a paused attempt that is to end continues
                continue
            if not self._watches[job][1].pause(is_paused=job in wanted):
                result.wake_within(REMIND_S)
            elif job in wanted:
                self._paused.add(job)
            else:
                self._paused.discard(job)
