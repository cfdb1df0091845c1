"""Attempts that have ended and are not taken in yet, and what is to be known of them for that."""

import contextlib
import errno
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

from launcher.scheduler.endings.requeue_policy import requeue_of
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.gpus.shared_time import slowdown_by_duration
from launcher.scheduler.policy.model import Machine
from launcher.staging.acceptance import accept, is_staged, withdraw
from launcher.staging.view import remove_earlier
from launcher.states import (
    Done,
    Failed,
    Lost,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    State,
    Void,
)
from launcher.store.rows import Claim
from launcher.store.scheduler_actions import Scheduling
from launcher.store.transitions import Requeue
from launcher.store.usage import NOT_MEASURED, Measured
from launcher.system.files import Stamp, stamp
from launcher.system.paths import Home

MOVE_PATIENCE_S = 60.0  # so long a disk that does not answer is waited for
# and a full one; and what a node has made, of which a network file system may show nothing for minutes
LONG_PATIENCE_S = 600.0
MOVE_AGAIN_S = 1.0
UNSEEN = "it says that it has made something, and {}/runs is not seen on this host"
KEPT = "what it made is kept, and its next attempt goes on from there: launcher retry"
UNSTARTED_PAUSE_S = 1.0  # before what could not be started is tried again; doubles each time
PUZZLE_S = (
    3.0  # so long a failure on a GPU waits for a look at the GPU, which may have failed itself
)

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Ended:
    """An attempt that has ended."""

    claim: Claim
    outcome: Outcome
    measured: Measured  # as far as it was seen on its GPUs
    others_usage: dict[
        str, int
    ]  # UUID of its GPU → bytes that all others had there in its last seconds
    since: float  # monotonic
    outputs: dict[str, Stamp] = field(default_factory=dict)  # path → size and time
    requeue: Requeue | None = None
    again_at: float = 0.0  # monotonic; what it made could not be moved into its run's folder before
    trouble: str = ""  # why not


def _patience_s(error: OSError, claim: Claim) -> float:
    """Return how long results that cannot be moved are tried again."""
    is_long = bool(claim.pilot) or error.errno in {errno.ENOSPC, errno.EDQUOT}
    return LONG_PATIENCE_S if is_long else MOVE_PATIENCE_S


class Gauge(Protocol):
    """What measures the attempts of a machine on its GPUs."""

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on its GPUs lately."""


class Endings:
    """The ends that one scheduler has still to take in; a full disk makes it try again."""

    def __init__(
        self,
        home: Home,
        queue: Scheduling,
        gpus: Accelerators,
        elsewhere: Callable[[Claim], Gauge | None] = lambda _: None,
    ) -> None:
        """Begin with none.

        Args:
            home: where the attempts' folders lie.
            queue: that takes them in.
            gpus: tells whether a GPU has failed, and what an attempt took there.
            elsewhere: returns what measured an attempt on a pilot, as far as that is known.
        """
        self._home, self._queue = home, queue
        self._gpus, self._elsewhere = gpus, elsewhere
        self._open: list[Ended] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def on_gpus(self) -> bool:
        """Whether one of them was on a GPU, which is to be looked at."""
        return any(ended.claim.gpus and not ended.claim.pilot for ended in self._open)

    @property
    def pressing(self) -> bool:
        """Whether one of them can be taken in at once."""
        return not all(map(self._waits, self._open))

    @property
    def wait_s(self) -> float:
        """How long until results are tried again that could not be moved; infinite where all could."""
        waiting = (ended.again_at for ended in self._open if ended.again_at)
        return min(waiting, default=inf) - time.monotonic()

    def add(self, claim: Claim, outcome: Outcome) -> None:
        """Record that an attempt has ended."""
        gauge: Gauge | None = self._elsewhere(claim) if claim.pilot else self._gpus
        measured = NOT_MEASURED if gauge is None else gauge.measured(claim)
        self._open.append(
            Ended(
                claim=claim,
                outcome=outcome,
                measured=self._compared(claim, outcome, measured),
                others_usage={} if gauge is None else gauge.others_usage(claim),
                since=time.monotonic(),
            )
        )

    def _compared(self, claim: Claim, outcome: Outcome, measured: Measured) -> Measured:
        """Return what was measured, with how much slower it was beside others where only its duration tells."""
        if not isinstance(outcome, Done) or measured.slowdown is not None or not measured.shared_s:
            return measured
        alone = self._queue.usage(claim.spec.signature).alone
        slowdown = slowdown_by_duration(outcome.at - claim.claimed, measured.shared_s, alone)
        return replace(measured, slowdown=slowdown)

    def due(self, machine: Callable[[Claim], Machine]) -> list[Ended]:
        """Return what can be taken in now, with all that is needed for it.

        To be called outside a transaction: a slow disk must not lock the queue.

        Args:
            machine: returns that of an attempt, without those that have ended.
        """
        due = [ended for ended in self._open if not self._waits(ended)]
        due = [ended for ended in due if self._accepted(ended)]
        for ended in due:
            if isinstance(ended.outcome, Done):
                paths = ended.claim.spec.outputs
                ended.outputs = {path: at for path in paths if (at := stamp(path)) is not None}
            elif not isinstance(ended.outcome, Void):
                ended.requeue = self._requeue(ended, machine(ended.claim))
            elif ended.outcome.whose == "job":
                text = f"could not be started: {ended.outcome.why}; queued again"
                reason = Reason(code=ReasonCode.NOT_STARTED, text=text)
                ended.requeue = Requeue(reason=reason, pause_s=UNSTARTED_PAUSE_S)
        return due

    def _waits(self, ended: Ended) -> bool:
        return time.monotonic() < ended.again_at or self._puzzles(ended)

    def _accepted(self, ended: Ended) -> bool:
        """Move what a job that is done has made into its run's folder; False: later.

        Its outcome is on record, and only this scheduler takes it in; where that is killed, the next
        one does the same again.
        """
        claim, outcome = ended.claim, ended.outcome
        if not isinstance(outcome, Done) or not claim.spec.entry:
            return True
        attempt, run_folder = self._home.attempt(claim.job, claim.number), claim.spec.run_folder
        try:
            if claim.pilot and outcome.made is not False and not is_staged(attempt, run_folder):
                patience_s = LONG_PATIENCE_S if outcome.made else MOVE_PATIENCE_S
                if self._again(ended, UNSEEN.format(attempt.folder), patience_s):
                    return False
                if outcome.made:
                    ended.outcome = Failed(at=outcome.at, error=f"{ended.trouble}; {KEPT}")
                return True
            accept(attempt, run_folder)
        except OSError as error:
            why = f"its results cannot be moved to {run_folder}: {error.strerror or error}"
            if self._again(ended, why, _patience_s(error, claim)):
                return False
            withdraw(attempt, run_folder)
            ended.outcome = Failed(at=outcome.at, error=f"{why}; {KEPT}")
            return True
        with contextlib.suppress(OSError):
            remove_earlier(self._home, claim.job, claim.number, run_folder)
        return True

    def _again(self, ended: Ended, trouble: str, patience_s: float) -> bool:
        """Have results tried again that could not be moved; False where that has taken too long."""
        if trouble != ended.trouble:
            ended.trouble, claim = trouble, ended.claim
            logger.warning("job=%d attempt=%d trouble=%r", claim.job, claim.number, trouble)
        if time.monotonic() >= ended.since + patience_s:
            return False
        ended.again_at = time.monotonic() + MOVE_AGAIN_S
        return True

    def finish(self, ended: Ended, now: float) -> State | None:
        """Take an end in; return its job's new state, None when it was taken in before."""
        return self._queue.finish(
            ended.claim,
            ended.outcome,
            outputs=ended.outputs,
            now=now,
            measured=ended.measured,
            requeue=ended.requeue,
        )

    def settle(self, taken_in: Sequence[Ended]) -> None:
        """Know that the transaction is committed in which these were taken in."""
        self._open = [ended for ended in self._open if ended not in taken_in]
        for ended in taken_in:
            self._gpus.moved.pop(ended.claim.job, None)

    def _puzzles(self, ended: Ended) -> bool:
        """Tell whether to wait for a look at the GPU on which an attempt failed: was it the GPU?"""
        if (
            not ended.claim.gpus
            or ended.claim.pilot
            or not isinstance(ended.outcome, Failed | OutOfMemory | Lost)
        ):
            return False
        late = time.monotonic() > ended.since + PUZZLE_S
        return not (late or self._gpus.seen_since(ended.since))

    def _requeue(self, ended: Ended, machine: Machine) -> Requeue | None:
        """Return why an end is not held against its job, None where it is."""
        job = ended.claim.job
        return requeue_of(
            ended.claim,
            self._queue.lane_of(job),
            ended.outcome,
            machine,
            peak=ended.measured.peak,
            others_usage=ended.others_usage,
            moved=self._gpus.moved.get(job, ""),
        )
