"""The first code of ours inside a child: its surroundings, then the kind's entry."""

import contextlib
import errno
import importlib
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from launcher.ids import model_folder_name, read_words
from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import KIND_GROUP, entry_variables
from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.params import PARAMS
from launcher.queue.jobs.run_folders import MADE
from launcher.queue.staging.acceptance import hand_over
from launcher.queue.staging.stages import stage_of
from launcher.queue.staging.view import DeclaredOutputs, NotWritable, make_stage, outputs_inside
from launcher.queue.workers.attempt_spec import AttemptSpec
from launcher.queue.workers.job_forks import ProcessLocalHandler, exit_in_forks
from launcher.queue.workers.log_stream import drop_output_on_full_disk
from launcher.queue.workers.memory_share import Share
from launcher.queue.workers.preloads import (
    THREADS,
    first_import_failure,
    forget_changed_plugins,
    forget_modules_below,
    reset_after_fork,
)
from launcher.queue.workers.process_end import WaitInterrupted, begin_process, end_process
from launcher.queue.workers.progress.steps import ProgressWriter
from launcher.queue.workers.shortage import find_oom_in_exception
from launcher.queue.workers.worker_job import Job, refuse_abandoned
from launcher.system.entry_points import find_entry_points
from launcher.system.environment import (
    SITE_VARIABLE,
    SWEEP_VARIABLE,
    attempt_environment,
    with_site_changes,
)
from launcher.system.errors import Error, MachineError
from launcher.system.files import ABSENT_ERRORS, Json, write_atomic, write_json, write_when_possible
from launcher.system.process_limits import changes_for
from launcher.system.process_trees import ATTEMPT_VARIABLE
from launcher.system.stop_event import StopEvent

MODEL_FILE = "model_id.txt"
MOST_CAUSES = 8  # causes of an error that are checked
FAILURE_PATIENCE_S = 60.0  # a failure's message and exception wait this long for room


class OutputNotStaged(MachineError):
    """Files that a job made while the folder of its attempt was away are missing in its staging folder."""


def make_attempt_environment(order: AttemptSpec, attempt: Attempt) -> dict[str, str]:
    """Return the environment of an attempt: its owner's, and the variables that describe its resources.

    The devices must be set before CUDA is used for the first time. An attempt without GPUs sees none, because
    memory that it used on a GPU could be reserved for others.
    """
    cpus = str(order.cpus)
    place = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": order.visible_gpus,
        "LAUNCHER_CPUS": cpus,
        "LAUNCHER_JOB": str(order.job),
        ATTEMPT_VARIABLE: str(attempt.folder),
    }
    if order.vram is not None:
        place["LAUNCHER_VRAM"] = str(order.vram)
    if order.spec.kind == PROGRAM and (params := order.spec.settings.get(PARAMS)):
        place[SWEEP_VARIABLE] = json.dumps(params)
    named = entry_variables(order.spec)  # variables that the entry of the job sets stay
    queue = {name: text for name, text in order.queue_variables.items() if name not in named}
    owner = {**order.context.environment, **queue}  # the queue may have been moved since
    if SITE_VARIABLE in os.environ:  # we are below a pilot, on a node whose site has a prologue
        own = {  # except search paths, to which a site adds
            name: text for name, text in named.items() if not name.endswith("PATH")
        }
        place = with_site_changes(owner, os.environ[SITE_VARIABLE]) | own | place
    if (copy := order.code_copy) is not None:
        place |= copy.variables({**owner, **place})
    return attempt_environment(owner, place, unless_set=dict.fromkeys(THREADS, cpus))


def apply_environment(order: AttemptSpec, attempt: Attempt) -> None:
    """Make this process find itself where its owner queued it."""
    os.umask(order.context.umask)
    own = make_attempt_environment(order, attempt)
    os.environ.clear()
    os.environ.update(own)
    with contextlib.suppress(OSError):  # cores may have been taken offline since
        os.sched_setaffinity(0, order.context.affinity)
    changes_for(order.context.limits, order.context.niceness).apply()
    os.chdir(order.context.folder)


def work(order: AttemptSpec, attempt: Attempt, *, device: str, gpus: int = 1) -> int:
    """Run a kind's entry function, record what it returned or how it failed; return the exit code.

    Args:
        order: the work to do.
        attempt: where the records go.
        device: "cpu" or "cuda:0".
        gpus: number of GPUs of the job, from cuda:0 on.
    """
    spec, stop = order.spec, StopEvent()
    for number in (signal.SIGTERM, signal.SIGHUP):  # logind ends a session with both
        signal.signal(number, ProcessLocalHandler(lambda *_: stop.set()))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as in any Python: such signals become an OSError
    drop_output_on_full_disk()
    begin_process()
    try:
        reset_after_fork(os.environ)
        forget_changed_plugins()
        if (copy := order.code_copy) is not None:
            forget_modules_below(copy.top)
            copy.follow(str(attempt.folder))
        job = make_job(order, attempt, device=device, gpus=gpus, stop=stop)
        _write_model_id(job)
        with exit_in_forks():
            result: Mapping[str, Json] = _entry_function(spec)(job)
        end_process(stop, write_log_line)
        made = _hand_over_output(job, spec, attempt)
        record: dict[str, Json] = {"schema": 1, "ok": True, "made": made, "result": dict(result)}
        _write_result(attempt, record, stop)
    except Error as error:
        return _record_failure(attempt, error, str(error), error.exit_code, stop)
    except BaseException as error:  # noqa: BLE001  # the worker's top: whatever it was is recorded
        # the frames of the exception still hold the memory that was missing
        with contextlib.suppress(MemoryError):
            print_traceback(error)
        return _record_failure(attempt, error, f"{type(error).__name__}: {error}", 1, stop)
    return 0


def make_job(
    order: AttemptSpec, attempt: Attempt, *, device: str, gpus: int, stop: threading.Event
) -> Job:
    """Return the job as its entry function gets it: with a view of the run's folder that is its own.

    Raises:
        OSError: the disk is full, or does not answer.
    """
    spec = order.spec
    real = spec.run_folder
    models = () if spec.model is None else (model_folder_name(spec.model),)
    wanted = DeclaredOutputs(
        models=frozenset(models), outputs=outputs_inside(real, spec.outputs), replaced_below=MADE
    )
    view = None
    with contextlib.suppress(NotWritable):  # a job that only reads continues
        view = make_stage(
            attempt,
            real,
            wanted,
            job=order.job,
            attempt_number=order.number,
            earlier=order.earlier_stage,
        )
    run_folder = real if view is None else view.accepted
    own_folder = real if view is None else view.writable
    above = f"{real}/"
    outputs = (
        f"{own_folder}/{path.removeprefix(above)}" if path.startswith(above) else path
        for path in spec.outputs
    )
    check = (lambda: None) if view is None else partial(refuse_abandoned, run_folder, attempt, stop)
    return Job(
        name=spec.name,
        kind=spec.kind,
        run=spec.run,
        run_folder=run_folder,
        folder=Path(order.context.folder),
        attempt_folder=attempt.folder,
        attempt=order.number,
        device=device,
        cpus=order.cpus,
        gpus=gpus,
        model=spec.model,
        base=spec.base,
        data=spec.data,
        images=spec.images,
        settings=spec.settings,
        words=read_words(spec.words),
        outputs=tuple(map(Path, outputs)),
        progress=ProgressWriter(attempt.progress, check),
        stop=stop,
        share=Share(attempt.folder),
        own_folder=None if view is None else own_folder,
        own=tuple(sorted(wanted.entries)),
        root=real,
    )


def _hand_over_output(job: Job, spec: Spec, attempt: Attempt) -> bool:
    """Leave a job's outputs for its scheduler to accept; wait for room when the disk is full.

    Returns whether there are any.

    Raises:
        OutputNotStaged: the folder of the attempt was away, and the outputs of the job are not there.
    """
    staged, was_away = job.own_folder is not None, attempt.is_away()

    def leave() -> bool:
        if staged and stage_of(attempt, spec.run_folder) is None:
            raise FileNotFoundError(errno.ENOENT, "the link to its staging folder is missing")
        if staged and was_away and not all(map(os.path.lexists, job.outputs)):
            raise OutputNotStaged(
                "the last files of the job were written below an empty mount point"
            )
        return hand_over(attempt, spec.run_folder)

    try:
        return write_when_possible(leave, is_away=attempt.is_away, is_over=job.stop.is_set)
    except FileNotFoundError:  # the job has deleted the folder of its attempt
        if attempt.is_away():
            raise
        return False


def _entry_function(spec: Spec) -> Callable[[object], Mapping[str, Json]]:
    """Return the entry function of a job's kind.

    A job keeps the entry that its kind had when it was queued. If a newer version of the
    plugin package has moved that function, the kind of the same name names its new place.

    Raises:
        MachineError: it cannot be imported, and neither could a module before the fork; a second
            import of a module that failed half-way may fail in words that mislead.
    """
    try:
        try:
            return _import_entry(spec.entry)
        except (ModuleNotFoundError, AttributeError) as error:
            if not _is_absent(error, spec.entry):
                raise  # something that the module itself lacks
            entry = _installed_entry(spec.kind)
            if entry in {"", spec.entry}:
                raise MachineError(
                    f"{spec.entry} does not exist, and no job type {spec.kind!r} is installed ({error}). "
                    "Install the plugin package that this job was planned with."
                ) from error
            return _import_entry(entry)
    except BaseException as error:
        if not first_import_failure():
            raise
        print_traceback(error)
        raise MachineError(first_import_failure()) from error


def _installed_entry(kind: str) -> str:
    """Return the entry that the installed kind of a name has now; '' if not exactly one package offers it."""
    points = [point for point in find_entry_points(KIND_GROUP) if point.name == kind]
    return str(points[0].load().entry) if len(points) == 1 else ""


def _import_entry(entry: str) -> Callable[[object], Mapping[str, Json]]:
    module, _, name = entry.partition(":")
    function: Callable[[object], Mapping[str, Json]] = getattr(
        importlib.import_module(module), name
    )
    return function


def _is_absent(error: ModuleNotFoundError | AttributeError, entry: str) -> bool:
    """Return whether an error says that the entry's module or its function is not there."""
    module, _, name = entry.partition(":")
    if isinstance(error, AttributeError):
        return error.name == name
    return error.name is not None and f"{module}.".startswith(f"{error.name}.")


def _write_model_id(job: Job) -> None:
    """Write the ID of the job's model beside its files where the folder's name is too short for it."""
    if job.model is None or model_folder_name(job.model) == job.model:
        return
    folder = job.model_folder(job.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MODEL_FILE, f"{job.model}\n")


def _write_result(attempt: Attempt, record: Mapping[str, Json], stop: threading.Event) -> None:
    """Write the result of a job; wait for room when the disk is full, because the job is done.

    If the job has deleted the folder of its attempt, it is made again, because a job without a report has failed.

    Raises:
        OSError: the job was asked to end while it waited, or the folder was away for too long.
    """
    waits = f"the job is done and waits to write {attempt.result}"

    def write() -> None:
        try:
            write_json(attempt.result, record)
        except FileNotFoundError:
            if attempt.is_away():
                raise
            attempt.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(attempt.result, record)

    write_when_possible(
        write,
        is_away=attempt.is_away,
        is_over=stop.is_set,
        transient_errors=errno.errorcode.keys() - ABSENT_ERRORS,  # whatever the disk says
        warn=lambda why: write_log_line(f"launcher: {waits}: {why}"),
    )


def _record_failure(
    attempt: Attempt, error: BaseException, text: str, code: int, stop: threading.Event
) -> int:
    """Record how a job failed; return the exit code."""
    away, shortage = _is_caused_by_absence(error, attempt), find_oom_in_exception(error)
    if shortage is not None and not isinstance(error, Error):
        text = shortage.message
    write_log_line(f"error: {text}")
    awaited = f"{error}" if isinstance(error, WaitInterrupted) else ""
    try:
        end_process(stop, write_log_line, "failed")
    except WaitInterrupted as interrupted:  # the event is set
        awaited = f"{interrupted}"
    record: dict[str, Json] = {"schema": 1, "ok": False, "error": text}
    if awaited:
        record["awaited"] = awaited
    if stop.is_set():  # the supervisor checks whether the signal was meant for all
        record["signalled"] = True
    if away:
        record["away"] = True
    if shortage is not None:
        record["shortage"] = shortage.to_json()
    with contextlib.suppress(OSError):  # the supervisor says that the disk is full
        write_failure(partial(write_json, attempt.result, record), attempt, stop)
    return code


def _is_caused_by_absence(error: BaseException | None, attempt: Attempt) -> bool:
    """Return whether a job failed because its attempt's folder is away; then its error is not the job's own."""
    for _ in range(MOST_CAUSES):
        if error is None or isinstance(error, OutputNotStaged):
            return error is not None
        if f"{attempt.folder}/" in str(getattr(error, "filename", "")):
            return attempt.is_away()
        error = error.__cause__ or error.__context__
    return False


def write_failure(write: Callable[[], None], attempt: Attempt, stop: threading.Event) -> None:
    """Write a record of a failure; wait for room only for a while, because the exit code also shows the failure.

    The wait is not reported. Without a record, the error in the log is used as the reason of the failure.

    Raises:
        OSError: there was no room.
    """
    until = time.monotonic() + FAILURE_PATIENCE_S
    write_when_possible(
        write,
        is_away=attempt.is_away,
        is_over=lambda: stop.is_set() or time.monotonic() > until,
    )


def write_log_line(text: str) -> None:
    """Write a line into the log, where it can be written: it may be on a full disk, too."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))


def print_traceback(error: BaseException | None) -> None:
    """Print an error with its traceback into the log, if it can be written."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
