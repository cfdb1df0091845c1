"""Attempts that have ended and are not recorded yet, and the measurements that are recorded with them."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path

from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import job_folder, uses_job_folder
from launcher.queue.jobs.job_folders import is_owned_by_another
from launcher.queue.jobs.states import (
    Done,
    Failed,
    Lost,
    NeverStarted,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    State,
    clock_shift_s,
)
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.gpus.shared_time import slowdown_by_duration
from launcher.queue.scheduler.node import AttemptHost
from launcher.queue.scheduler.requeue import decide_requeue
from launcher.queue.staging.acceptance import (
    accept,
    has_accepted_earlier,
    is_accepted,
    is_staged,
    undo_acceptance,
)
from launcher.queue.staging.earlier_stages import remove_earlier_stages
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim
from launcher.queue.store.transitions import RequeueDecision
from launcher.queue.store.usage import NOT_MEASURED, MeasuredUsage
from launcher.queue.workers.program_files import NotDeletedError, restore_or_delete_outputs
from launcher.system.answering import FilesystemTimeout, run_with_timeout
from launcher.system.files import FileVersion, file_stamp
from launcher.system.units import format_seconds

MOVE_TIMEOUT_S = 60.0  # longest time to wait for an unresponsive disk
# the same for a full disk, and for outputs of a node, which a network file system may show only
# after minutes
LONG_MOVE_TIMEOUT_S = 600.0
MOVE_RETRY_S = 1.0
RESULTS_NOT_VISIBLE = "its worker reported results, but {}/runs is not visible on this host"
FILES_KEPT_ADVICE = "Its files are kept, and the next attempt continues from them: launcher retry"
FOREIGN_FOLDER = (
    "cannot move its results to {}: it has the files of another job. Move that folder away, and continue with: "
    "launcher retry {}"
)
# seconds before what could not be started is tried again; doubles each time
UNSTARTED_PAUSE_S = 1.0
GPU_SAMPLE_WAIT_S = 3.0  # longest time for which a failure on a GPU waits for a reading of the GPU, which may have failed itself
logger = logging.getLogger(__name__)


def _written_version(path: str, seen_version: FileVersion | None) -> FileVersion | None:
    """Return the version of an output of a program.

    The version read by its supervisor takes precedence: this host may show an old file for a while.
    """
    if seen_version is not None:
        return seen_version
    at = file_stamp(path)
    return None if at is None else FileVersion(*at)


def _accepted_version(path: str, seen_version: FileVersion | None) -> FileVersion | None:
    """Return an output that was moved into its run, with the digest that its supervisor found in the stage."""
    at = file_stamp(path)
    if at is None:
        return None
    return FileVersion(
        *at, seen_version.digest if seen_version is not None and seen_version.size == at[0] else ""
    )


@dataclass(slots=True, kw_only=True, eq=False)
class FinishedAttempt:
    """An attempt that has ended."""

    claim: Claim
    outcome: Outcome
    measured: MeasuredUsage  # usage of the attempt, as far as its GPUs reported it
    # UUID of its GPU → bytes that all others had there in its last seconds
    others_usage: dict[str, int]
    since: float  # monotonic
    outputs: dict[str, FileVersion] = field(default_factory=dict)  # path → version
    requeue: RequeueDecision | None = None
    retry_at: float = (
        0.0  # monotonic; an earlier try to move the attempt's outputs into the run folder failed
    )
    error: str = ""  # why that try failed
    remark: str = ""  # addition to the reason of the attempt's end

    @property
    def has_files(self) -> bool:
        """Whether files that it made, or earlier ones in their places, have to be looked after."""
        spec = self.claim.spec
        return bool(spec.entry or spec.outputs) or uses_job_folder(spec)


class FinishedAttempts:
    """The ends that one scheduler has still to take in; a full disk makes it try again."""

    def __init__(
        self,
        home: Home,
        store: Store,
        gpus: SchedulerGpus,
        host_of: Callable[[Claim], AttemptHost],
    ) -> None:
        """Start without finished attempts.

        Args:
            home: Queue folder with the folders of the attempts.
            store: Records the ends.
            gpus: Knows which jobs had to leave their GPUs.
            host_of: Returns where an attempt was.
        """
        self._home, self._store = home, store
        self._gpus, self._host_of = gpus, host_of
        self._pending: list[FinishedAttempt] = []

    def __len__(self) -> int:
        return len(self._pending)

    def claims(self) -> list[Claim]:
        """Return the claims of all ended attempts."""
        return [ended.claim for ended in self._pending]

    @property
    def has_due(self) -> bool:
        """Whether the end of an attempt can be recorded at once."""
        return not all(map(self._is_waiting, self._pending))

    @property
    def wait_s(self) -> float:
        """How long until results are tried again that could not be moved; infinite where all could."""
        waiting = (ended.retry_at for ended in self._pending if ended.retry_at)
        return min(waiting, default=inf) - time.monotonic()

    def add(self, claim: Claim, outcome: Outcome) -> None:
        """Record that an attempt has ended."""
        measured, others_usage = NOT_MEASURED, dict[str, int]()
        if claim.gpus:
            host = self._host_of(claim)
            measured, others_usage = host.measured_usage(claim), host.others_usage(claim)
        if shift_s := clock_shift_s(outcome):  # start of the attempt by the clock of its end
            claim = replace(claim, claimed=claim.claimed + shift_s)
        self._pending.append(
            FinishedAttempt(
                claim=claim,
                outcome=outcome,
                measured=self._with_slowdown(claim, outcome, measured),
                others_usage=others_usage,
                since=time.monotonic(),
            )
        )

    def _with_slowdown(
        self, claim: Claim, outcome: Outcome, measured_usage: MeasuredUsage
    ) -> MeasuredUsage:
        """Return the measurements, with a slowdown that is computed from the duration if there are no steps."""
        if (
            not isinstance(outcome, Done)
            or measured_usage.slowdown is not None
            or not measured_usage.shared_s
        ):
            return measured_usage
        alone = self._store.usage_records.usage(claim.spec.signature).seconds_alone
        slowdown = slowdown_by_duration(outcome.at - claim.claimed, measured_usage.shared_s, alone)
        return measured_usage._replace(slowdown=slowdown)

    def prepare_due(self) -> list[FinishedAttempt]:
        """Return the ends that can be recorded now, with all that is needed to record them.

        To be called outside a transaction: a slow disk must not lock the queue.
        """
        due = [ended for ended in self._pending if not self._is_waiting(ended)]
        due = [ended for ended in due if not ended.has_files or self._settle_files(ended)]
        for ended in due:
            if isinstance(ended.outcome, Done):
                continue
            if not isinstance(ended.outcome, NeverStarted):
                job = ended.claim.job
                ended.requeue = decide_requeue(
                    ended.claim,
                    self._store.ready_jobs.lane_of_job(job),
                    ended.outcome,
                    self._host_of(ended.claim).machine({}),
                    peak=ended.measured.peak,
                    others_usage=ended.others_usage,
                    eviction=self._gpus.evictions.get(job),
                )
            elif ended.outcome.blamed_on == "job":
                text = f"could not be started: {ended.outcome.why}"
                reason = Reason(code=ReasonCode.NOT_STARTED, text=text)
                ended.requeue = RequeueDecision(reason=reason, backoff_s=UNSTARTED_PAUSE_S)
        return due

    def _is_waiting(self, ended_attempt: FinishedAttempt) -> bool:
        return time.monotonic() < ended_attempt.retry_at or self._awaits_gpu_sample(ended_attempt)

    def _settle_files(self, ended_attempt: FinishedAttempt) -> bool:
        """Have all its files in place and on record. False to try again later."""
        return (
            self._accept_results(ended_attempt)
            and self._restore_outputs(ended_attempt)
            and self._record_outputs(ended_attempt)
        )

    def _accept_results(self, ended_attempt: FinishedAttempt) -> bool:
        """Move the outputs of a done job into its run folder. False to try again later.

        Its outcome is on record, and only this scheduler records its end. After a kill the next
        scheduler repeats the same.
        """
        claim, outcome = ended_attempt.claim, ended_attempt.outcome
        own = uses_job_folder(claim.spec)
        if not isinstance(outcome, Done) or not (claim.spec.entry or own):
            return True
        made = own or outcome.has_results  # the folder of a program exists even without results
        attempt, run_folder = self._home.attempt(*claim.key), claim.spec.run_folder
        try:
            unseen = made is not False and self._host_of(claim).shows_files_late
            if unseen and not run_with_timeout(run_folder, partial(is_staged, attempt, run_folder)):
                patience_s = LONG_MOVE_TIMEOUT_S if made else MOVE_TIMEOUT_S
                if self._retry_later(
                    ended_attempt, RESULTS_NOT_VISIBLE.format(attempt.folder), patience_s
                ):
                    return False
                if made:
                    ended_attempt.outcome = Failed(
                        at=outcome.at,
                        error=f"{ended_attempt.error}. {FILES_KEPT_ADVICE}",
                        cpu_s=outcome.cpu_s,
                    )
                return True
            was_done = claim.number > 1 and any(
                attempt.is_done for attempt in self._store.read.attempts([claim.job])
            )
            move = partial(self._move_results, claim, was_done=was_done)
            if not run_with_timeout(run_folder, move):
                folder = job_folder(claim.spec, claim.job)
                ended_attempt.outcome = Failed(
                    at=outcome.at,
                    error=FOREIGN_FOLDER.format(folder, claim.job),
                    cpu_s=outcome.cpu_s,
                )
        except FilesystemTimeout as error:
            return not self._retry_later(ended_attempt, f"{error.strerror}", inf)
        except OSError as error:
            why = f"cannot move its results to {run_folder}: {error.strerror or error}"
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            is_long = is_full or self._host_of(claim).shows_files_late
            if self._retry_later(
                ended_attempt, why, LONG_MOVE_TIMEOUT_S if is_long else MOVE_TIMEOUT_S
            ):
                return False
            undo_acceptance(attempt, run_folder)
            ended_attempt.outcome = Failed(
                at=outcome.at, error=f"{why}. {FILES_KEPT_ADVICE}", cpu_s=outcome.cpu_s
            )
            return True
        return True

    def _move_results(self, claim: Claim, *, was_done: bool) -> bool:
        """Move what an attempt has made into its run's folder.

        Args:
            claim: the attempt.
            was_done: whether an earlier attempt was done.

        Returns False if the job's folder has the files of another job. Nothing is moved then.

        Raises:
            OSError: that is not possible now.
        """
        spec, own_folder = claim.spec, ""
        if uses_job_folder(spec):
            own_folder = str(job_folder(spec, claim.job).relative_to(spec.run_folder))
            if self._meets_foreign_folder(claim, was_done=was_done):
                return False
        accept(self._home.attempt(*claim.key), spec.run_folder, own_folder)
        with contextlib.suppress(OSError):
            remove_earlier_stages(self._home, *claim.key, claim.spec.run_folder)
        return True

    def _meets_foreign_folder(self, claim: Claim, *, was_done: bool) -> bool:
        """Return whether the folder of an added job has the files of a job of another queue folder.

        Raises:
            OSError: that cannot be found out now.
        """
        spec = claim.spec
        if spec.hash or not os.path.lexists(job_folder(spec, claim.job)):
            return False
        if is_accepted(self._home.attempt(*claim.key), spec.run_folder):
            return False
        has_folder = was_done or has_accepted_earlier(self._home, *claim.key)
        return not has_folder or is_owned_by_another(spec.run_folder, self._home)

    def _record_outputs(self, ended_attempt: FinishedAttempt) -> bool:
        """Record when the outputs of a done job were written. False to try again later."""
        claim, outcome = ended_attempt.claim, ended_attempt.outcome
        paths = claim.spec.outputs
        if uses_job_folder(claim.spec):
            paths = (*paths, str(job_folder(claim.spec, claim.job)))
        if not isinstance(outcome, Done) or not paths:
            return True
        seen = dict(zip(paths, outcome.outputs, strict=False))
        look = _accepted_version if claim.spec.entry else _written_version
        try:
            versions = run_with_timeout(
                Path(paths[0]).parent,
                lambda: [(path, look(path, seen.get(path))) for path in paths],
            )
        except FilesystemTimeout as error:
            return not self._retry_later(ended_attempt, f"{error.strerror}", inf)
        ended_attempt.outputs = {path: version for path, version in versions if version is not None}
        return True

    def _restore_outputs(self, ended_attempt: FinishedAttempt) -> bool:
        """Restore or remove earlier files at the output paths of a program. False to try again later."""
        claim = ended_attempt.claim
        try:
            if (outputs := claim.spec.outputs) and not claim.spec.entry:
                done = isinstance(ended_attempt.outcome, Done)
                run_with_timeout(
                    Path(outputs[0]).parent,
                    partial(restore_or_delete_outputs, outputs, *claim.key, is_done=done),
                )
        except FilesystemTimeout as error:
            return not self._retry_later(ended_attempt, f"{error.strerror}", inf)
        except OSError as error:
            output, aside = error.filename2 or error.filename, error.filename
            why = f"cannot restore the earlier file of its output {output}: {error.strerror}"
            left = "an earlier output"
            if isinstance(error, NotDeletedError):
                what = "an earlier file of its output"
                if not isinstance(ended_attempt.outcome, Done):
                    left = what = "its incomplete output"
                why = f"cannot delete {aside}, {what}: {error.strerror}"
            if self._retry_later(ended_attempt, why, MOVE_TIMEOUT_S):
                return False
            ended_attempt.remark = f"{left} is left as {aside} ({error.strerror})"
        return True

    def _retry_later(self, ended_attempt: FinishedAttempt, error: str, patience_s: float) -> bool:
        """Have results tried again that could not be moved; False if that has taken too long."""
        is_new = error != ended_attempt.error
        if is_new:
            ended_attempt.error, claim = error, ended_attempt.claim
            logger.warning("job=%d attempt=%d trouble=%r", *claim.key, error)
        if time.monotonic() >= ended_attempt.since + patience_s:
            return False
        if is_new:
            limit = "" if patience_s == inf else f" for up to {format_seconds(patience_s)}"
            text = f"its program has ended, but its files are not in place: {error}. Trying again{limit}"
            reason = Reason(code=ReasonCode.SETTLING, text=text)
            self._store.running_jobs.record_running_reason(
                ended_attempt.claim.job, reason, ended_attempt.outcome.at
            )
        ended_attempt.retry_at = time.monotonic() + MOVE_RETRY_S
        return True

    def finish(self, ended_attempt: FinishedAttempt, now: float) -> State | None:
        """Take an end in; return its job's new state, None when it was taken in before."""
        return self._store.transitions.finish_attempt(
            ended_attempt.claim,
            ended_attempt.outcome,
            outputs={path: version.to_json() for path, version in ended_attempt.outputs.items()},
            now=now,
            measured_usage=ended_attempt.measured,
            requeue=ended_attempt.requeue,
            remark=ended_attempt.remark,
        )

    def clear_committed(self, committed_attempts: Sequence[FinishedAttempt]) -> None:
        """Know that the transaction is committed in which these were taken in."""
        self._pending = [ended for ended in self._pending if ended not in committed_attempts]
        for ended in committed_attempts:
            self._gpus.evictions.pop(ended.claim.job, None)

    def _awaits_gpu_sample(self, ended_attempt: FinishedAttempt) -> bool:
        """Whether to wait for a reading of the GPU on which an attempt failed, as the GPU may be the cause."""
        if not ended_attempt.claim.gpus or not isinstance(
            ended_attempt.outcome, Failed | OutOfMemory | Lost
        ):
            return False
        if time.monotonic() > ended_attempt.since + GPU_SAMPLE_WAIT_S:
            return False
        return not self._host_of(ended_attempt.claim).has_sample_since(ended_attempt.since)
