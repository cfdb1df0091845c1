"""Attempts that have ended and are not recorded yet, and the measurements that are recorded with them."""

import contextlib
import errno
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Protocol

from launcher.context import has_folder, job_folder
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.gpus.shared_time import slowdown_by_duration
from launcher.scheduler.policy.model import Machine
from launcher.scheduler.requeue import requeue_of
from launcher.staging.acceptance import accept, is_staged, withdraw
from launcher.staging.left_stages import remove_earlier
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
from launcher.system.answering import NoAnswer, within
from launcher.system.files import FileVersion, stamp
from launcher.system.paths import Home
from launcher.units import format_seconds
from launcher.workers.exit_outcome import NOT_REPORTED, done_of, word_of
from launcher.workers.program_files import settle

MOVE_PATIENCE_S = 60.0  # so long a disk that does not answer is waited for
# and a full one; and what a node has made, of which a network file system may show nothing for minutes
LONG_PATIENCE_S = 600.0
MOVE_AGAIN_S = 1.0
UNSEEN = "its worker reported results, but {}/runs is not visible on this host"
KEPT = "Its files are kept, and the next attempt continues from them: launcher retry"
UNSTARTED_PAUSE_S = 1.0  # before what could not be started is tried again; doubles each time
PUZZLE_S = (
    3.0  # so long a failure on a GPU waits for a look at the GPU, which may have failed itself
)
logger = logging.getLogger(__name__)


def _written_version(path: str, seen: FileVersion | None) -> FileVersion | None:
    """Return an output of a program.

    Its supervisor's look at the file comes first: this host may show an old one for a while.
    """
    if seen is not None:
        return seen
    at = stamp(path)
    return None if at is None else FileVersion(*at)


def _accepted_version(path: str, seen: FileVersion | None) -> FileVersion | None:
    """Return an output that was moved into its run, with the digest that its supervisor found in the stage."""
    at = stamp(path)
    if at is None:
        return None
    return FileVersion(*at, seen.digest if seen is not None and seen.size == at[0] else "")


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
    outputs: dict[str, FileVersion] = field(default_factory=dict)  # by path
    requeue: Requeue | None = None
    again_at: float = 0.0  # monotonic; what it made could not be moved into its run's folder before
    trouble: str = ""  # why not
    remark: str = ""  # what the reason of its end says in addition


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
        return measured._replace(slowdown=slowdown)

    def due(self, machine: Callable[[Claim], Machine]) -> list[Ended]:
        """Return what can be taken in now, with all that is needed for it.

        To be called outside a transaction: a slow disk must not lock the queue.

        Args:
            machine: returns that of an attempt, without those that have ended.
        """
        due = [ended for ended in self._open if not self._waits(ended)]
        due = [
            ended
            for ended in due
            if self._reported(ended)
            and self._accepted(ended)
            and self._settled(ended)
            and self._stamped(ended)
        ]
        for ended in due:
            if isinstance(ended.outcome, Done):
                continue
            if not isinstance(ended.outcome, Void):
                job = ended.claim.job
                ended.requeue = requeue_of(
                    ended.claim,
                    self._queue.lane_of(job),
                    ended.outcome,
                    machine(ended.claim),
                    peak=ended.measured.peak,
                    others_usage=ended.others_usage,
                    moved=self._gpus.moved.get(job),
                )
            elif ended.outcome.whose == "job":
                text = f"could not be started: {ended.outcome.why}"
                reason = Reason(code=ReasonCode.NOT_STARTED, text=text)
                ended.requeue = Requeue(reason=reason, pause_s=UNSTARTED_PAUSE_S)
        return due

    def _waits(self, ended: Ended) -> bool:
        return time.monotonic() < ended.again_at or self._puzzles(ended)

    def _reported(self, ended: Ended) -> bool:
        """Return whether it is known if the worker of a job that is done has reported a result.

        The supervisors of older versions recorded exit code 0 as done. They may end after an upgrade. Where a
        worker of this version reported, its outcome says whether it made something.
        """
        claim, outcome = ended.claim, ended.outcome
        if not (isinstance(outcome, Done) and claim.spec.entry and outcome.made is None):
            return True
        attempt = self._home.attempt(*claim.key)
        try:
            report = done_of(within(attempt.folder, partial(word_of, attempt)), outcome.at)
        except NoAnswer as error:
            return not self._again(ended, f"{error.strerror}", inf)
        if report is not None:
            return True
        unseen = f"the report of its worker is not visible in {attempt.folder}"
        if claim.pilot and self._again(ended, unseen, MOVE_PATIENCE_S):
            return False
        ended.outcome = Failed(at=outcome.at, error=NOT_REPORTED, exit_code=0)
        return True

    def _accepted(self, ended: Ended) -> bool:
        """Move what a job that is done has made into its run's folder; False: later.

        Its outcome is on record, and only this scheduler takes it in; where that is killed, the next
        one does the same again.
        """
        claim, outcome = ended.claim, ended.outcome
        own = has_folder(claim.spec)
        if not isinstance(outcome, Done) or not (claim.spec.entry or own):
            return True
        made = own or outcome.made  # a program's folder is there, even if it is empty
        attempt, run_folder = self._home.attempt(*claim.key), claim.spec.run_folder
        try:
            unseen = claim.pilot and made is not False
            if unseen and not within(run_folder, partial(is_staged, attempt, run_folder)):
                patience_s = LONG_PATIENCE_S if made else MOVE_PATIENCE_S
                if self._again(ended, UNSEEN.format(attempt.folder), patience_s):
                    return False
                if made:
                    ended.outcome = Failed(at=outcome.at, error=f"{ended.trouble}. {KEPT}")
                return True
            within(run_folder, partial(self._move, claim))
        except NoAnswer as error:
            return not self._again(ended, f"{error.strerror}", inf)
        except OSError as error:
            why = f"cannot move its results to {run_folder}: {error.strerror or error}"
            is_long = bool(claim.pilot) or error.errno in {errno.ENOSPC, errno.EDQUOT}
            if self._again(ended, why, LONG_PATIENCE_S if is_long else MOVE_PATIENCE_S):
                return False
            withdraw(attempt, run_folder)
            ended.outcome = Failed(at=outcome.at, error=f"{why}. {KEPT}")
            return True
        return True

    def _move(self, claim: Claim) -> None:
        """Move what an attempt has made into its run's folder.

        Raises:
            OSError: that is not possible now.
        """
        accept(self._home.attempt(*claim.key), claim.spec.run_folder)
        with contextlib.suppress(OSError):
            remove_earlier(self._home, *claim.key, claim.spec.run_folder)

    def _stamped(self, ended: Ended) -> bool:
        """Note when what a job that is done has made was written; False: later."""
        claim, outcome = ended.claim, ended.outcome
        paths = claim.spec.outputs
        if has_folder(claim.spec):
            paths = (*paths, str(job_folder(claim.spec, claim.job)))
        if not isinstance(outcome, Done) or not paths:
            return True
        seen = dict(zip(paths, outcome.outputs, strict=False))
        look = _accepted_version if claim.spec.entry else _written_version
        try:
            versions = within(
                Path(paths[0]).parent,
                lambda: [(path, look(path, seen.get(path))) for path in paths],
            )
        except NoAnswer as error:
            return not self._again(ended, f"{error.strerror}", inf)
        ended.outputs = {path: version for path, version in versions if version is not None}
        return True

    def _settled(self, ended: Ended) -> bool:
        """Decide what becomes of what stood where a program writes; False: later."""
        claim = ended.claim
        try:
            if (outputs := claim.spec.outputs) and not claim.spec.entry:
                done = isinstance(ended.outcome, Done)
                within(Path(outputs[0]).parent, partial(settle, outputs, claim.job, done=done))
        except NoAnswer as error:
            return not self._again(ended, f"{error.strerror}", inf)
        except OSError as error:
            output, aside = error.filename2 or error.filename, error.filename
            why = f"cannot restore the earlier file of its output {output}: {error.strerror}"
            if isinstance(ended.outcome, Done):
                why = f"cannot delete {aside}, an earlier file of its output: {error.strerror}"
            if self._again(ended, why, MOVE_PATIENCE_S):
                return False
            ended.remark = f"an earlier output is left as {aside} ({error.strerror})"
        return True

    def _again(self, ended: Ended, trouble: str, patience_s: float) -> bool:
        """Have results tried again that could not be moved; False where that has taken too long."""
        is_new = trouble != ended.trouble
        if is_new:
            ended.trouble, claim = trouble, ended.claim
            logger.warning("job=%d attempt=%d trouble=%r", *claim.key, trouble)
        if time.monotonic() >= ended.since + patience_s:
            return False
        if is_new:
            limit = "" if patience_s == inf else f" for up to {format_seconds(patience_s)}"
            text = f"its program has ended, but its files are not in place: {trouble}. Trying again{limit}"
            reason = Reason(code=ReasonCode.SETTLING, text=text)
            self._queue.note_running(ended.claim.job, reason, ended.outcome.at)
        ended.again_at = time.monotonic() + MOVE_AGAIN_S
        return True

    def finish(self, ended: Ended, now: float) -> State | None:
        """Take an end in; return its job's new state, None when it was taken in before."""
        return self._queue.finish(
            ended.claim,
            ended.outcome,
            outputs={path: version.record() for path, version in ended.outputs.items()},
            now=now,
            measured=ended.measured,
            requeue=ended.requeue,
            remark=ended.remark,
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
