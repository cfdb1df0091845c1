"""From the right to start an attempt to its living process, on record.

An attempt's own process is started in one of two ways: a program is spawned, a worker is forked ahead and held.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from launcher.provenance.file_digests import FileDigests
from launcher.provenance.snapshots.programs import StartedProgram
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import (
    JOBS,
    attempt_job_folder,
    job_folder,
    job_folder_link,
    started_words,
    substitute_folders,
)
from launcher.queue.jobs.params import PARAMS
from launcher.queue.jobs.states import Failed, NeverStarted
from launcher.queue.staging.view import DeclaredOutputs, NotWritable, make_stage
from launcher.queue.workers.attempt_journal import acquire_start
from launcher.queue.workers.attempt_process import (
    CANNOT_EXECUTE,
    NOT_FOUND,
    CannotStart,
    StandbyWorker,
    open_logs,
    spawn,
)
from launcher.queue.workers.attempt_spec import AttemptSpec, read_attempt_spec
from launcher.queue.workers.program_files import (
    files_read_now,
    missing_input,
    move_outputs_aside,
    read_files_of,
)
from launcher.queue.workers.worker import make_attempt_environment as environment_of
from launcher.system import cgroups, memory
from launcher.system.files import (
    AWAY_TIMEOUT_S,
    DISK_FULL_ERRORS,
    TIMEOUT_ERRORS,
    Json,
    read_all,
    read_bytes,
    write_json,
)
from launcher.system.processes import Identity, identity
from launcher.system.program_paths import ProgramGone

# the machine lacks something, whatever is to be started
NO_ROOM_ERRORS = {
    *(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR),
    *DISK_FULL_ERRORS,
}
_PROGRAM_POLL_S = 0.2  # seconds between two looks at a missing program
# a program that is being written, or is on a disk or server that does not answer
_TRANSIENT_ERRORS = {errno.ETXTBSY, *TIMEOUT_ERRORS}


_NO_GPU_NUMBERS = (
    "gpu_ids=numbers does not work here: a GPU has MIG instances, or the GPU numbers are unknown. "
    "Use gpu_ids=uuids"
)


class StartedAttempt(NamedTuple):
    """An attempt whose process lives; from here on it counts as begun."""

    attempt_spec: AttemptSpec  # the order; that of a program has folders in place of their names
    spec_text: bytes  # text of the order as it was written
    program: int  # pid of the program
    started_at: float  # monotonic
    file_digests: tuple[str, ...]  # digests of those that a program may read
    # processes killed for lack of memory before the start; None: not reported by the kernel
    oom_kills: int | None


class AttemptStarter:
    """Starts one attempt after another, and keeps the next worker forked ahead."""

    def __init__(
        self,
        me: Identity,
        group: Path | None,
        digests: FileDigests,
        *,
        is_ahead: bool,
        check: Callable[[], None],
    ) -> None:
        """Begin.

        Args:
            me: this supervisor.
            group: its control group; None if it has none.
            digests: digests of the files that programs read.
            is_ahead: fork a worker before there is work for it.
            check: called while a program is awaited; it may raise `HashingStopped`.
        """
        self._identity_line = _identity_line(
            me, {} if group is None else {cgroups.RECORD_KEY: str(group)}
        )
        self._digests, self._forks_ahead, self._check = digests, is_ahead, check
        self._standby: StandbyWorker | None = None
        self._read_ahead_spec: tuple[AttemptSpec, dict[str, str]] | None = (
            None  # the order that was read ahead
        )
        self._read_ahead_text = b""
        self.fork_standby()

    @property
    def standby_pid(self) -> int:
        """The pid of the worker that waits for the next attempt, 0 when there is none."""
        return self._standby.who.pid if self._standby else 0

    def start_attempt(self, attempt: Attempt) -> StartedAttempt | Failed | NeverStarted | None:
        """Bring an attempt's process to life and put it on record.

        Returns how it ended if it never began, and None if it is not ours to start: a
        scheduler has voided it.

        Raises:
            HashingStopped: by the `HashProgress` of its digests, or while its program is missing,
                before its process lives.
        """
        with contextlib.ExitStack() as opened:
            try:
                record = acquire_start(attempt)
                if record is None:
                    return None
                opened.callback(_close, record)
                text = self._sign_record(record)
                order, environment = self._read_spec(text, attempt)
                if order.lacks_gpu_numbers:
                    return _make_failure(attempt, _NO_GPU_NUMBERS, CANNOT_EXECUTE)
                logs = open_logs(order, attempt)
                for descriptor in {*logs}:
                    opened.callback(_close, descriptor)
                if order.spec.log_link is not None:
                    link_log(Path(order.spec.log_link), attempt, order.context.umask)
                held = self._take_standby() if order.spec.entry else None
                if held is not None:
                    os.write(record, _identity_line(held.who))
            except (OSError, ValueError) as error:  # a full disk, a deleted folder, no process
                return _never_started(error)
            try:
                files: tuple[str, ...] = ()
                if held is None:
                    order, environment = _with_own_folder(order, attempt, environment)
                started = order if held is not None else self._with_programs(order, attempt)
                _begin_snapshot(order, attempt)
                if held is None:
                    files = self._prepare_files(order, attempt)
                if order.spec.terms.metrics or order.spec.terms.tensorboard:
                    _begin_named_files(order, attempt)
                oom_kills = memory.count_oom_kills()
                program = spawn(started, environment, logs) if held is None else held.who.pid
            except CannotStart as error:
                if error.errno in NO_ROOM_ERRORS | _TRANSIENT_ERRORS:
                    return _never_started(error)
                return _cannot_start(order, attempt, error)
            if held is None:
                who = identity(program, include_ended=True) or Identity(
                    pid=program, start_ticks=0, boot=""
                )
                # the mark in its environment still finds the process
                with contextlib.suppress(OSError):
                    os.write(record, _identity_line(who))
        if held is not None:
            self._standby = None  # a worker must be released only once
            held.release(attempt, text)
        return StartedAttempt(
            attempt_spec=order,
            spec_text=text,
            program=program,
            started_at=time.monotonic(),
            file_digests=files,
            oom_kills=oom_kills,
        )

    def read_ahead(self, attempt: Attempt) -> None:
        """Read the order of an attempt that is not begun yet; another one may come in its stead."""
        self._read_ahead_spec = None
        with contextlib.suppress(
            OSError, ValueError, RecursionError
        ):  # `start_attempt` reports the same error
            self._read_ahead_text = read_bytes(attempt.spec)
            order = read_attempt_spec(self._read_ahead_text)
            self._read_ahead_spec = order, _environment(order, attempt)

    def fork_standby(self) -> None:
        """Fork the next worker, where that is asked for and can be done."""
        if self._forks_ahead and self._standby is None:
            with contextlib.suppress(OSError):  # the next attempt tries again
                self._standby = StandbyWorker()

    def dismiss_standby(self) -> None:
        """Let the waiting worker go."""
        if self._standby:
            self._standby.dismiss()
            self._standby = None

    def _read_spec(self, text: bytes, attempt: Attempt) -> tuple[AttemptSpec, dict[str, str]]:
        """Return an attempt's order and environment; those that were read ahead, if the text is the same.

        Raises:
            ValueError: the text is not an order.
        """
        ahead, self._read_ahead_spec = self._read_ahead_spec, None
        if ahead is not None and text == self._read_ahead_text:
            return ahead
        order = read_attempt_spec(text)
        return order, _environment(order, attempt)

    def _prepare_files(self, order: AttemptSpec, attempt: Attempt) -> tuple[str, ...]:
        """Return digests of the files that a program reads; existing files at its outputs are put aside.

        Raises:
            CannotStart: that cannot be done.
        """
        folder = order.context.folder
        files = read_files_of(order, attempt, self._digests)
        if name := missing_input(order.spec, folder, files):
            raise CannotStart(CANNOT_EXECUTE, f"its input {name} is missing")
        try:
            move_outputs_aside(order)
        except OSError as error:
            why = f"cannot rename the earlier output {error.filename}: {error.strerror}"
            raise CannotStart(CANNOT_EXECUTE, why, error.errno) from error
        return files

    def _with_programs(self, order: AttemptSpec, attempt: Attempt) -> AttemptSpec:
        """Return the order with the programs that the job had when it was queued; wait for a missing one.

        Raises:
            CannotStart: it is missing for too long.
            HashingStopped: we are to leave or to end the attempt.
        """
        until = None
        while True:
            try:
                argv = started_words(order.spec, order.context)
            except ProgramGone as gone:
                if until is None:
                    until = time.monotonic() + AWAY_TIMEOUT_S
                    _write_log(attempt, f"waiting up to {AWAY_TIMEOUT_S:g} s for {gone.path}")
                if time.monotonic() >= until:
                    why = (
                        f"{gone.path}, which was {gone.name!r} when job {order.job} was queued, does not exist. "
                        f"To run it in the present environment: launcher retry {order.job} --environment"
                    )
                    raise CannotStart(NOT_FOUND, why) from gone
                time.sleep(_PROGRAM_POLL_S)
                self._check()
            else:
                return order._replace(spec=order.spec._replace(argv=argv))

    def _take_standby(self) -> StandbyWorker:
        if self._standby and not self._standby.is_waiting():  # the worker was killed
            self.dismiss_standby()
        if self._standby is None:
            self._standby = StandbyWorker()
        return self._standby

    def _sign_record(self, record: int) -> bytes:
        """Record this process as the one that starts the attempt; return its order.

        Until the record is closed, we and our child lock it, up to the instant when the child
        becomes the program. If another process finds it unlocked and us dead, it finds the program, if there is one,
        by its mark.

        Raises:
            OSError: there is no room for it.
        """
        fcntl.flock(record, fcntl.LOCK_EX)
        text = read_all(record)
        os.write(record, self._identity_line)
        return text


def _environment(order: AttemptSpec, attempt: Attempt) -> dict[str, str]:
    """Return the environment of a program; a worker makes its own."""
    return {} if order.spec.entry else environment_of(order, attempt)


def _begin_snapshot(order: AttemptSpec, attempt: Attempt) -> None:
    """Check that the snapshot of a job is as it was copied, and note the start.

    Raises:
        CannotStart: the snapshot has changed, or there is no room for the note.
    """
    if (copy := order.code_copy) is None:
        return
    if fault := copy.fault():
        raise CannotStart(CANNOT_EXECUTE, fault)
    argv = () if order.spec.entry else order.spec.argv
    program = StartedProgram(argv, order.context.folder, order.context.environment)
    try:
        copy.begin(str(attempt.folder), program, files_read_now(order))
    except OSError as error:
        raise CannotStart(CANNOT_EXECUTE, error.strerror or str(error), error.errno) from error


def _begin_named_files(order: AttemptSpec, attempt: Attempt) -> None:
    """Record which files of numbers a program may write, before it can write them."""
    # 30 ms of modules that few jobs need
    from launcher.queue.workers.progress.named_files import begin_named_files

    begin_named_files(order, attempt)


def _with_own_folder(
    order: AttemptSpec, attempt: Attempt, environment: dict[str, str]
) -> tuple[AttemptSpec, dict[str, str]]:
    """Return the order and the environment of a program with the folders that it names.

    Raises:
        CannotStart: a folder cannot be made.
    """
    spec, context = substitute_folders(
        order.spec, order.context, partial(_make_own_folder, order, attempt)
    )
    if spec is order.spec:
        return order, environment
    order = order._replace(spec=spec, context=context)
    _make_folder(spec.run_folder, context.umask)
    return order, environment_of(order, attempt)


def _make_own_folder(order: AttemptSpec, attempt: Attempt) -> Path:
    """Make the folder of a program's attempt: in a staging folder, so that its run gets it when the program is done.

    Raises:
        CannotStart: it cannot be made.
    """
    spec, run_folder = order.spec, order.spec.run_folder
    final = str(job_folder(spec, order.job).relative_to(run_folder))
    name = str(attempt_job_folder(spec, order.job).relative_to(run_folder))
    wanted = DeclaredOutputs(
        outputs=frozenset({final}),
        replaced_below=JOBS,
        renamed=(name, final) if name != final else (),
    )
    before = os.umask(order.context.umask)
    try:
        view = make_stage(
            attempt,
            run_folder,
            wanted,
            job=order.job,
            attempt_number=order.number,
            earlier=order.earlier_stage,
        )
        folder = view.writable / name
        folder.mkdir(parents=True, exist_ok=True)
        if link := job_folder_link(spec, order.job):
            _link_folder(folder.parent / link, Path(final).name)
        if params := spec.settings.get(PARAMS):
            write_json(folder / f"{PARAMS}.json", params)
    except NotWritable as error:
        raise CannotStart(
            CANNOT_EXECUTE, f"cannot make a folder in {run_folder}: {error}"
        ) from error
    except OSError as error:
        why = f"cannot make a folder in {run_folder}: {error.strerror or error}"
        raise CannotStart(CANNOT_EXECUTE, why, error.errno) from error
    finally:
        os.umask(before)
    return folder


def _link_folder(link: Path, folder: str) -> None:
    """Make a link to a folder beside it. An earlier attempt may have left one."""
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder)


def note_changes(order: AttemptSpec, attempt: Attempt) -> None:
    """Note the files of a snapshot's project that an attempt has changed, for later attempts."""
    if (copy := order.code_copy) is not None:
        copy.note_changes(str(attempt.folder))


def _never_started(error: OSError | ValueError | CannotStart) -> NeverStarted:
    lacking = getattr(error, "errno", None) in NO_ROOM_ERRORS
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return NeverStarted(at=time.time(), why=why, blamed_on="machine" if lacking else "job")


def _cannot_start(order: AttemptSpec, attempt: Attempt, error: CannotStart) -> Failed:
    return _make_failure(attempt, f"cannot start {order.spec.argv[0]!r}: {error}", error.code)


def _make_failure(attempt: Attempt, message: str, code: int) -> Failed:
    _write_log(attempt, message)
    return Failed(at=time.time(), error=message, exit_code=code)


def _write_log(attempt: Attempt, message: str) -> None:
    with contextlib.suppress(OSError), attempt.log.open("a", encoding="utf-8") as log:
        log.write(f"launcher: {message}\n")


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full quota is reported only now, on some file systems
        os.close(descriptor)


def _identity_line(
    process_identity: Identity, more: Mapping[str, Json] = MappingProxyType({})
) -> bytes:
    return (json.dumps({**process_identity.to_json(), **more}) + "\n").encode()


def link_log(link: Path, attempt: Attempt, umask: int) -> None:
    """Let an attempt's log also appear in its run's folder; if that fails, only the attempt's folder has the log.

    Args:
        link: the name there.
        attempt: whose log is there already.
        umask: umask of the job's owner, who also owns the folders of the run.
    """
    with contextlib.suppress(OSError):
        _make_folder(link.parent, umask)
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(attempt.log)
        except OSError:
            link.symlink_to(attempt.log)  # another file system


def _make_folder(folder: Path, umask: int) -> None:
    """Make a folder of a run, as its owner would; an error is reported by the code that needs the folder."""
    ours = os.umask(umask)
    try:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(ours)
