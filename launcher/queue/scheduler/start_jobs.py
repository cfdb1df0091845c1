"""From a decision to a running attempt, here or on a pilot: claimed in a transaction, launched after its commit."""

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import CPU
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.attempt_specs import AttemptSpecs
from launcher.queue.scheduler.node import Node
from launcher.queue.scheduler.policy.model import Decision, Start
from launcher.queue.scheduler.started_attempts import Assignment, StartedAttempt
from launcher.queue.scheduler.unrecorded_attempts import (
    UnrecordedAttempts,
    find_unrecorded,
    no_supervisor,
)
from launcher.queue.store.claims import ClaimPlacement, Claims
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.workers.attempt_handles import POLL_S
from launcher.queue.workers.attempt_spec import AttemptSpecWriter
from launcher.queue.workers.fork_server_pool import CannotStartWorker
from launcher.system.files import sync
from launcher.system.processes import Identity, boot_id

STILL_RUNS = "waiting for the end of an attempt that the queue has no record of ({})"
UNCLEAR_BEFORE = (
    "waiting for a readable folder of its next attempt: cannot read {}. "
    "If nothing of this job runs, move the folder away"
)
UNCLEAR_PAUSE_S = (
    5.0  # seconds until an unclear folder is checked again: a check may take half a second
)
RAN_BEFORE = "the queue has no record of the attempt in {}"

logger = logging.getLogger(__name__)


class LaunchBatch:
    """What one turn of the scheduler starts, here and on pilots; nothing of it runs before `launch_committed`."""

    def __init__(
        self,
        home: Home,
        claims: Claims,
        clock: Callable[[], float],
    ) -> None:
        """Begin with nothing."""
        self._home, self._claims, self._clock = home, claims, clock
        # in a transaction that is still open; with the reason, where it cannot be started
        self._open: list[StartedAttempt] = []
        self._open_failed: list[tuple[Claim, CannotStartWorker]] = []
        # committed attempts by the supervisor or pilot that starts them
        self._committed: dict[Hashable, list[StartedAttempt]] = {}
        self._failed_claims: list[tuple[Claim, CannotStartWorker]] = []
        self.spec_writer, self.specs = AttemptSpecWriter(home), AttemptSpecs(home)
        # job → (time of the next check, monotonic; reason)
        self._unclear_folders: dict[int, tuple[float, str]] = {}
        self.retry_s: float | None = (
            None  # seconds until the next check, which no event will trigger
        )

    def commit(self) -> None:
        """Note that the transaction is committed: the claimed jobs must be launched."""
        for start in self._open:
            self._committed.setdefault(start.starter, []).append(start)
        self._failed_claims += self._open_failed
        self._open.clear()
        self._open_failed.clear()

    def launch_committed(self) -> Iterator[StartedAttempt]:
        """Hand what is committed to its supervisors, and to pilots; each pilot gets all of its own at once.

        Raises:
            OSError: the claim of one that must never run twice cannot be synced to the disk; it
                and those behind it are launched another time.
        """
        while self._committed:
            starter, together = next(iter(self._committed.items()))
            if any(start.claim.spec.terms.rerun == "never" for start in together):
                # a claim must survive a power cut: without it the job would be started again
                for path in (self._home.database_log, self._home.attempts, self._home.folder):
                    sync(path)
            del self._committed[starter]
            together[0].launch(together)
            for start in together:
                yield start
                claim = start.claim  # logged only now, so that the job starts earlier
                logger.info("job=%d attempt=%d start reason=%r", *claim.key, start.reason)

    def pending_claims(self) -> Iterator[Claim]:
        """Return what is claimed and could not be launched yet, also in the transaction that is still open."""
        starts = chain(self._open, *self._committed.values())
        yield from (start.claim for start in starts)

    def open_claims(self) -> Iterator[Claim]:
        """Return what is claimed in the transaction that is still open."""
        yield from (start.claim for start in self._open)
        yield from (claim for claim, _ in self._open_failed)

    def rollback(self) -> None:
        """Take everything back; the transaction came to nothing."""
        for start in self._open:
            start.withdraw()
        self._open.clear()
        self._open_failed.clear()

    def pop_failed_claims(self) -> list[tuple[Claim, CannotStartWorker]]:
        """Return what was claimed although it cannot be started, and why.

        Its attempt has failed, or counts as lost where that may pass, so that the job ends some time.
        """
        hopeless, self._failed_claims = self._failed_claims, []
        return hopeless

    @property
    def unclear_jobs(self) -> int:
        """The number of jobs whose folder was unclear when it was checked last."""
        return len(self._unclear_folders)

    def without_unclear(
        self, ready: Sequence[ReadyJob]
    ) -> tuple[list[ReadyJob], dict[int, Reason]]:
        """Return the jobs whose folder is clear or checked again now, and why the others wait.

        The others would take the place of jobs that can start.
        """
        now, checked, reasons = time.monotonic(), list[ReadyJob](), dict[int, Reason]()
        for job in ready:
            again_at, unclear = self._unclear_folders.get(job.id, (0.0, ""))
            if now < again_at:
                reasons[job.id] = _unclear_reason(unclear)
                self.retry_s = min(again_at - now, self.retry_s or UNCLEAR_PAUSE_S)
            else:
                checked.append(job)
        return checked, reasons

    def apply(self, ready: ReadyJob, decision: Decision | Reason, node: Node) -> Reason | None:
        """Apply the decision for a job on a node. Return why it does not start there, None if it does."""
        if isinstance(decision, Start):
            return self.claim(ready, decision, node)
        return decision if isinstance(decision, Reason) else decision.full_reason

    def claim(self, ready: ReadyJob, start: Start, node: Node) -> Reason | None:
        """Claim a job for a place on a node. Return the reason if it cannot start yet."""
        if (refusal := node.why_no_start()) is not None:
            self.retry_s = POLL_S
            return refusal
        before = self._find_obstacles(ready.id)
        if before.unclear or before.living:
            return self._obstacle_reason(before)
        seat = node.take_seat(ready.lane.environment)
        if isinstance(seat, Reason):
            return seat
        claim = None
        try:
            claim = self._claim(
                ready,
                claim_placement(start, seat.who),
                f"{start.reason}{seat.address}",
                before.number,
                seat.prepare_folder,
            )
        except OSError as error:  # nothing is claimed; starts in other places must not wait for it
            self.retry_s = POLL_S
            return seat.why_unprepared(error)
        finally:
            if claim is None:
                seat.give_back()
        if claim is None:
            return None
        if seat.trouble is not None:
            self._open_failed.append((claim, seat.trouble))
        elif self._must_not_run(claim, before):
            seat.void(claim)
        else:
            self._open.append(seat.begin(claim, Assignment(job=ready, start=start)))
        return None

    def prepare_next_spec(
        self, assignment: Assignment, gpus: Sequence[GpuSnapshot]
    ) -> Attempt | None:
        """Write the order of the job that will probably follow in a place: it starts earlier then.

        Nothing is claimed. Where another one follows, or nothing does, the order is deleted.

        Args:
            assignment: the place on this machine.
            gpus: GPUs of this machine.

        Returns whose order was written now; None: none was.

        Raises:
            OSError: the disk is full.
        """
        seat = claim_placement(assignment.start, no_supervisor(boot_id()))
        claim = self._claims.next_claim(assignment.job, seat, self._clock())
        if claim is not None and self.spec_writer.prepared_number(claim.job) == claim.number:
            return None
        self.spec_writer.discard()
        if claim is None or claim.job in self._unclear_folders:
            return None
        if find_unrecorded(self._home, *claim.key) != UnrecordedAttempts(number=claim.number):
            return None  # obstacles are checked when the job is claimed
        text = self.specs.local_text(claim, gpus)
        return self.spec_writer.prepare(claim.job, claim.number, text)

    def _find_obstacles(self, job: int) -> UnrecordedAttempts:
        """Check the folder of a job's next attempt. An unclear folder delays no other job."""
        if ahead := self.spec_writer.prepared_number(job):
            return UnrecordedAttempts(number=ahead)
        number, now = self._claims.next_attempt(job), time.monotonic()
        again_at, unclear = self._unclear_folders.pop(job, (0.0, ""))
        if now < again_at:
            self._unclear_folders[job] = again_at, unclear
            return UnrecordedAttempts(number=number, unclear=unclear)
        before = find_unrecorded(self._home, job, number)
        if before.unclear:
            if not unclear:
                logger.warning("job=%d unclear=%r", job, before.unclear)
            self._unclear_folders[job] = time.monotonic() + UNCLEAR_PAUSE_S, before.unclear
        return before

    def _claim(
        self,
        ready: ReadyJob,
        placement: ClaimPlacement,
        reason: str,
        attempt_number: int,
        prepare_folder: Callable[[Claim], None],
    ) -> Claim | None:
        """Claim a job; return None if it was cancelled or set aside, or if another job writes the same path.

        Raises:
            OSError: the disk is full.
        """
        claim = self._claims.claim(
            ready.id,
            placement,
            reason=reason,
            now=self._clock(),
            least_attempt_number=attempt_number,
            prepare_folder=prepare_folder,
        )
        if claim is None:
            self.retry_s = 0.0  # other jobs may wait behind the failed one
        return claim

    def _must_not_run(self, claim: Claim, earlier_attempts: UnrecordedAttempts) -> bool:
        """Fail a job that must never run twice if an attempt that is not on record may have begun."""
        if not earlier_attempts.began or claim.spec.terms.rerun != "never":
            return False
        why = RAN_BEFORE.format(earlier_attempts.began[-1].folder)
        self._open_failed.append((claim, CannotStartWorker(why, is_certain=False)))
        return True

    def _obstacle_reason(self, earlier_attempts: UnrecordedAttempts) -> Reason:
        """Return why a job does not start in whose way something lies."""
        self.retry_s = POLL_S
        if earlier_attempts.unclear:
            return _unclear_reason(earlier_attempts.unclear)
        text = STILL_RUNS.format(earlier_attempts.living[0].folder)
        return Reason(code=ReasonCode.ATTEMPT_RUNS, text=text)


def _unclear_reason(unclear: str) -> Reason:
    return Reason(code=ReasonCode.ATTEMPT_UNCLEAR, text=UNCLEAR_BEFORE.format(unclear))


def claim_placement(start: Start, process_identity: Identity) -> ClaimPlacement:
    """Return the reservations of an attempt and its supervisor."""
    return ClaimPlacement(
        device=",".join(start.devices) or CPU,
        cpus=start.cpus,
        vram=start.vram,
        exclusive=start.exclusive,
        boot=process_identity.boot,
        pid=process_identity.pid,
        start_ticks=process_identity.start_ticks,
    )
