"""From a decision to a running attempt, here or on a pilot: claimed in a transaction, launched after its commit."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from launcher.backends.node_paths import NodePaths
from launcher.backends.pilot_link import PilotLink
from launcher.backends.settings import BackendSettings
from launcher.context import uses_job_folder
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU, NUMBERS
from launcher.scheduler.cycle import Reasons
from launcher.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.scheduler.policy.model import Start
from launcher.scheduler.started_attempts import (
    Assignment,
    LaunchedAttempt,
    PilotAttempt,
    name_of_claim,
    spec_text_of,
)
from launcher.scheduler.unrecorded_attempts import (
    UnrecordedAttempts,
    find_unrecorded,
    no_supervisor,
)
from launcher.staging.earlier_stages import take_earlier_stage
from launcher.states import Reason, ReasonCode
from launcher.store.claims import ClaimPlacement, Claims
from launcher.store.rows import PILOT_PREFIX, Claim, ReadyJob
from launcher.system.answering import FilesystemTimeout, run_with_timeout
from launcher.system.config import WatchedConfig, read_table
from launcher.system.environment import queue_variables
from launcher.system.error_log import ErrorThrottle
from launcher.system.files import DISK_FULL_ERRORS, describe_full_disk, sync, write_whole
from launcher.system.log_setting import LOG_LIMIT
from launcher.system.paths import LOG, SPEC, Attempt, Home
from launcher.system.processes import Identity, boot_id
from launcher.workers.attempt_handles import POLL_S
from launcher.workers.attempt_journal import revoke_attempt
from launcher.workers.attempt_spec import AttemptSpecWriter, attempt_spec_text
from launcher.workers.fork_server_pool import CannotStartWorker, ForkServerPool
from launcher.workers.start_pauses import StartBackoff

WORKER_STARTING = Reason(code=ReasonCode.WORKER_STARTING, text="waiting for its worker to start")
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
        fork_servers: ForkServerPool,
        clock: Callable[[], float],
        start_backoff: StartBackoff,
        gpus: SchedulerGpus,
    ) -> None:
        """Begin with nothing."""
        self._start_backoff, self._gpus, self._errors = start_backoff, gpus, ErrorThrottle()
        self._home, self._claims, self._fork_servers, self._clock = (
            home,
            claims,
            fork_servers,
            clock,
        )
        # in a transaction that is still open; with the reason, where it cannot be started
        self._open: list[LaunchedAttempt | PilotAttempt] = []
        self._open_failed: list[tuple[Claim, CannotStartWorker]] = []
        # committed attempts by the supervisor or pilot that starts them
        self._committed: dict[Hashable, list[LaunchedAttempt | PilotAttempt]] = {}
        self._failed_claims: list[tuple[Claim, CannotStartWorker]] = []
        self._spec_writer = AttemptSpecWriter(home)
        self._variables = queue_variables(home.folder, os.environ)
        # the scheduler already warns about a mistake in the file
        self._log_limit = WatchedConfig(
            os.environ, partial(read_table, LOG_LIMIT), lambda _: None, LOG_LIMIT.default
        )
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

    def launch_committed(self) -> Iterator[LaunchedAttempt | PilotAttempt]:
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
                claim = start.claim  # logged only now: it starts earlier so
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
            if isinstance(start, LaunchedAttempt):
                self._fork_servers.give_back(start.environment, start.supervisor)
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

    def without_unclear(self, ready: Sequence[ReadyJob]) -> tuple[list[ReadyJob], Reasons]:
        """Return the jobs whose folder is clear or checked again now, and why the others wait.

        The others would take the place of jobs that can start.
        """
        now, checked, reasons = time.monotonic(), list[ReadyJob](), Reasons()
        for job in ready:
            again_at, unclear = self._unclear_folders.get(job.id, (0.0, ""))
            if now < again_at:
                reasons[job.lane_id] = _unclear_reason(unclear)
                self.retry_s = min(again_at - now, self.retry_s or UNCLEAR_PAUSE_S)
            else:
                checked.append(job)
        return checked, reasons

    def claim(self, ready: ReadyJob, start: Start) -> Reason | None:
        """Claim a job for a place here. Return the reason if it cannot start yet."""
        environment = ready.lane.environment
        if not self._start_backoff.allows_start(time.monotonic()):
            self.retry_s = POLL_S
            return self._start_backoff.reason
        before = self._find_obstacles(ready.id)
        if before.unclear or before.living:
            return self._obstacle_reason(before)
        try:
            supervisor = self._fork_servers.take_supervisor(environment)
        except CannotStartWorker as error:
            self._claim_unstartable(ready, start, error, before.number)
            return None
        if supervisor is None:
            why = self._fork_servers.why_delayed(environment)
            return (
                WORKER_STARTING._replace(text=f"{WORKER_STARTING.text}: {why}")
                if why
                else WORKER_STARTING
            )
        try:
            claim = self._claim(
                ready, claim_placement(start, supervisor.who), start.reason, before.number
            )
        except OSError as error:  # nothing is claimed; what goes on elsewhere must not wait for it
            self._fork_servers.give_back(environment, supervisor)
            self.retry_s = POLL_S
            self._errors.log_error(error)
            return _cannot_prepare(error, self._home)
        except BaseException:
            self._fork_servers.give_back(environment, supervisor)
            raise
        if claim is None:
            self._fork_servers.give_back(environment, supervisor)
            return None
        if self._must_not_run(claim, before):
            self._fork_servers.give_back(environment, supervisor)
            return None
        self._start_backoff.record_start(time.monotonic())
        self._open.append(
            LaunchedAttempt(
                claim=claim,
                attempt=self._home.attempt(*claim.key),
                supervisor=supervisor,
                environment=environment,
                assignment=Assignment(job=ready, start=start),
            )
        )
        return None

    def claim_on_pilot(
        self, ready: ReadyJob, start: Start, link: PilotLink, settings: BackendSettings
    ) -> Reason | None:
        """Claim a job for a place on a pilot. Return the reason if it cannot start yet."""
        before = self._find_obstacles(ready.id)
        if before.unclear or before.living:
            return self._obstacle_reason(before)
        seat = claim_placement(start, no_supervisor(f"{PILOT_PREFIX}{link.token}"))
        reason = f"{start.reason}, {_describe_pilot(link)} of {settings.name}"
        lay_out = partial(self._make_pilot_folder, link, NodePaths(settings))
        try:
            claim = self._claim(ready, seat, reason, before.number, lay_out)
        except OSError as error:  # starts in other places must not wait for this file system
            self.retry_s = POLL_S
            where = link.folder.attempts_folder
            text = f"cannot create the folder of its attempt in {where}: {error.strerror or error}"
            return Reason(code=ReasonCode.CANNOT_START, text=text)
        if claim is None:
            return None
        attempt = PilotAttempt(claim=claim, link=link, clock=self._clock, reason=start.reason)
        if self._must_not_run(claim, before):
            revoke_attempt(attempt.attempt)  # so that the next scheduler does not send it
        else:
            self._open.append(attempt)
        return None

    def prepare_next_spec(self, assignment: Assignment) -> Attempt | None:
        """Write the order of the job that will probably follow in a place: it starts earlier then.

        Nothing is claimed. Where another one follows, or nothing does, the order is deleted.

        Returns whose order was written now; None: none was.

        Raises:
            OSError: the disk is full.
        """
        seat = claim_placement(assignment.start, no_supervisor(boot_id()))
        claim = self._claims.next_claim(assignment.job, seat, self._clock())
        if claim is not None and self._spec_writer.prepared_number(claim.job) == claim.number:
            return None
        self._spec_writer.discard()
        if claim is None or claim.job in self._unclear_folders:
            return None
        if find_unrecorded(self._home, *claim.key) != UnrecordedAttempts(number=claim.number):
            return None  # obstacles are checked when it is claimed
        return self._spec_writer.prepare(
            claim.job,
            claim.number,
            self._attempt_spec_text(claim),
        )

    def _find_obstacles(self, job: int) -> UnrecordedAttempts:
        """Check the folder of a job's next attempt. An unclear folder delays no other job."""
        if ahead := self._spec_writer.prepared_number(job):
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
        number: int,
        prepare: Callable[[Claim], None] | None = None,
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
            number=number,
            prepare_folder=prepare or self._write_attempt_spec,
        )
        if claim is None:
            self.retry_s = 0.0  # there may be others behind it
        return claim

    def _write_attempt_spec(self, claim: Claim) -> None:
        """Make an attempt's folder.

        Raises:
            OSError: the disk is full.
        """
        self._spec_writer.write(
            claim.job,
            claim.number,
            self._attempt_spec_text(claim),
        )

    def _attempt_spec_text(self, claim: Claim) -> str:
        """Return the order of an attempt on this machine.

        Raises:
            OSError: that cannot be taken now which those before it have left.
        """
        return make_attempt_spec(
            self._home,
            claim,
            claim.spec_text,
            claim.context_text,
            variables=self._variables,
            machine_gpus=self._gpus.gpus,
            log_limit=self._log_limit(),
        )

    def _make_pilot_folder(self, link: PilotLink, paths: NodePaths, claim: Claim) -> None:
        """Create an attempt's folder in its pilot's folder, and its link in the queue folder.

        Raises:
            OSError: The disk is full.
        """
        spec, context = paths.spec(spec_text_of(claim)), paths.context(claim.context_text)
        queue = {name: paths.path(text) for name, text in self._variables.items()}
        gpus = () if link.registration is None else link.registration.gpus
        text = make_attempt_spec(
            self._home,
            claim,
            spec,
            context,
            variables=queue,
            machine_gpus=gpus,
            log_limit=self._log_limit(),
        )
        run_with_timeout(link.root, partial(self._write_pilot_folder, link, claim, text))

    def _write_pilot_folder(self, link: PilotLink, claim: Claim, text: str) -> None:
        there = link.folder.attempt(name_of_claim(claim))
        there.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(there.path_text(SPEC), text)
        if claim.spec.log_link is not None:  # it has another name from the start
            write_whole(there.path_text(LOG), "")
        _link_attempt(self._home.attempt(*claim.key), there)

    def _claim_unstartable(
        self, ready: ReadyJob, start: Start, why: CannotStartWorker, number: int
    ) -> None:
        """Claim a job without a supervisor, so that its attempt can end."""
        claim = self._claim(
            ready, claim_placement(start, no_supervisor(boot_id())), start.reason, number
        )
        if claim is not None:
            self._open_failed.append((claim, why))

    def _must_not_run(self, claim: Claim, before: UnrecordedAttempts) -> bool:
        """Give up what must never run twice where an attempt of it may have begun that is not on record."""
        if not before.began or claim.spec.terms.rerun != "never":
            return False
        why = RAN_BEFORE.format(before.began[-1].folder)
        self._open_failed.append((claim, CannotStartWorker(why, is_certain=False)))
        return True

    def _obstacle_reason(self, before: UnrecordedAttempts) -> Reason:
        """Return why a job does not start in whose way something lies."""
        self.retry_s = POLL_S
        if before.unclear:
            return _unclear_reason(before.unclear)
        text = STILL_RUNS.format(before.living[0].folder)
        return Reason(code=ReasonCode.ATTEMPT_RUNS, text=text)


def _unclear_reason(unclear: str) -> Reason:
    return Reason(code=ReasonCode.ATTEMPT_UNCLEAR, text=UNCLEAR_BEFORE.format(unclear))


def _cannot_prepare(error: OSError, home: Home) -> Reason:
    """Return why the folder of an attempt cannot be made now."""
    if isinstance(error, FilesystemTimeout):
        text = f"waiting for its files: {error.strerror}"
    elif error.errno in DISK_FULL_ERRORS:
        text = f"waiting for room: {describe_full_disk(home.folder) or error}"
    else:
        text = f"waiting for the folder of its attempt: {error}"
    return Reason(code=ReasonCode.CANNOT_START, text=text)


def claim_placement(start: Start, who: Identity) -> ClaimPlacement:
    """Return the reservations of an attempt and its supervisor."""
    return ClaimPlacement(
        device=",".join(start.devices) or CPU,
        cpus=start.cpus,
        vram=start.vram,
        exclusive=start.exclusive,
        boot=who.boot,
        pid=who.pid,
        start_ticks=who.start_ticks,
    )


def make_attempt_spec(
    home: Home,
    claim: Claim,
    spec_text: str,
    context_text: str,
    *,
    variables: Mapping[str, str],
    machine_gpus: Sequence[GpuSnapshot],
    log_limit: int,
) -> str:
    """Return the order of an attempt. It resumes from the staging folder of earlier attempts.

    Args:
        home: The queue folder.
        claim: The attempt.
        spec_text: Spec of the job as JSON.
        context_text: Its context as JSON.
        variables: Variables by which `launcher` in the job finds this queue.
        machine_gpus: GPUs of the machine on which it runs.
        log_limit: Size limit of its log in bytes, 0 for none.

    Raises:
        OSError: The earlier staging folder cannot be taken over now.
    """
    run_folder = claim.spec.run_folder
    goes_on = claim.number > 1 and (claim.spec.entry or uses_job_folder(claim.spec))
    return attempt_spec_text(
        job=claim.job,
        number=claim.number,
        device=claim.device,
        cpus=claim.cpus,
        vram=claim.vram,
        earlier_stage=run_with_timeout(
            run_folder, partial(take_earlier_stage, home, *claim.key, run_folder)
        )
        if goes_on
        else "",
        queue_variables=variables,
        gpu_numbers=gpu_numbers_of(claim.gpus, machine_gpus)
        if claim.spec.resources.gpu_ids == NUMBERS
        else (),
        log_limit=log_limit,
        spec_text=spec_text,
        context_text=context_text,
    )


def gpu_numbers_of(gpus: Sequence[str], machine_gpus: Sequence[GpuSnapshot]) -> tuple[int, ...]:
    """Return the numbers of GPUs in PCI bus order; none if one is unknown, or MIG makes them ambiguous.

    Args:
        gpus: their UUIDs.
        machine_gpus: all GPUs that a process there can see.
    """
    numbers = {gpu.uuid: gpu.index for gpu in machine_gpus}
    if any(gpu.mig is not None for gpu in machine_gpus) or not numbers.keys() >= {*gpus}:
        return ()
    return tuple(numbers[uuid] for uuid in gpus)


def _describe_pilot(link: PilotLink) -> str:
    """Return the location of a pilot in words. Its token has no meaning for users."""
    hello = link.registration
    if hello is None:
        return f"pilot {link.token}"
    node = f"node {hello.node or hello.host}"
    return f"{node}, job {hello.job}" if hello.job else node


def _link_attempt(here: Attempt, there: Attempt) -> None:
    """Link an attempt's folder on a pilot in the queue folder. A link of a rolled back transaction is replaced.

    Raises:
        OSError: Another file exists there, or the disk is full.
    """
    try:
        here.folder.symlink_to(there.folder)
    except FileExistsError:
        if here.folder.is_symlink():
            here.folder.unlink()
        else:  # an order that was written ahead, and an empty log
            here.log.unlink(missing_ok=True)
            here.spec.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                here.folder.rmdir()
        here.folder.symlink_to(there.folder)
