"""The first code of ours inside a child: its surroundings, then the kind's entry."""

import contextlib
import errno
import importlib
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from launcher.context import own_variables
from launcher.draft import MADE
from launcher.errors import Error, MachineError
from launcher.ids import model_folder_name, read_words
from launcher.job import PROGRAM, Spec
from launcher.params import PARAMS
from launcher.staging.acceptance import hand_over
from launcher.staging.stages import stage_of
from launcher.staging.view import NotWritable, Wanted, inside, make
from launcher.system.environment import SITE, SWEPT, placed_environment, with_site
from launcher.system.files import ABSENT, Json, when_there_is_room, write_atomic, write_json
from launcher.system.paths import Attempt
from launcher.system.process_limits import changes_for
from launcher.system.process_trees import MARK
from launcher.system.stop_event import StopEvent
from launcher.workers.job import Job, refuse_given_up
from launcher.workers.job_forks import NotInherited, forks_end_here
from launcher.workers.memory_share import Share
from launcher.workers.order import Order
from launcher.workers.preloads import THREADS, failure, settle
from launcher.workers.progress.steps import Progress
from launcher.workers.shortage import read_error

MODEL_FILE = "model_id.txt"
MOST_CAUSES = 8  # of an error that are looked at
FAILURE_PATIENCE_S = 60.0  # so long the words of a failure wait for room, and its exception


class WrittenElsewhere(MachineError):
    """What a job made while the folder of its attempt was away is not in its stage."""


def environment(order: Order, attempt: Attempt) -> dict[str, str]:
    """Return the environment of an attempt: its owner's, and what it is to know of its place.

    The devices must be there before CUDA is touched for the first time. Who was given none sees none:
    what it took of a GPU would have been promised to others.
    """
    cpus = str(order.cpus)
    place = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": order.visible_gpus,
        "LAUNCHER_CPUS": cpus,
        "LAUNCHER_JOB": str(order.job),
        MARK: str(attempt.folder),
    }
    if order.reservation is not None:
        place["LAUNCHER_VRAM"] = str(order.reservation)
    if order.spec.kind == PROGRAM and (params := order.spec.settings.get(PARAMS)):
        place[SWEPT] = json.dumps(params)
    named = own_variables(order.spec)  # which its entry sets stay
    queue = {name: text for name, text in order.queue.items() if name not in named}
    owner = {**order.context.environment, **queue}  # the queue may have been moved since
    if SITE in os.environ:  # we are below a pilot, on a node whose site has a prologue
        own = {  # but search paths, to which a site adds
            name: text for name, text in named.items() if not name.endswith("PATH")
        }
        place = with_site(owner, os.environ[SITE]) | own | place
    return placed_environment(owner, place, unless_set=dict.fromkeys(THREADS, cpus))


def surround(order: Order, attempt: Attempt) -> None:
    """Make this process find itself where its owner queued it."""
    os.umask(order.context.umask)
    own = environment(order, attempt)
    os.environ.clear()
    os.environ.update(own)
    with contextlib.suppress(OSError):  # cores may have been taken offline since
        os.sched_setaffinity(0, order.context.affinity)
    changes_for(order.context.limits, order.context.niceness).apply()
    os.chdir(order.context.folder)


def work(order: Order, attempt: Attempt, *, device: str, gpus: int = 1) -> int:
    """Run a kind's entry function, record what it returned or how it failed; return the exit code.

    Args:
        order: what to do.
        attempt: where the records go.
        device: "cpu" or "cuda:0".
        gpus: how many cards are the job's, from cuda:0 on.
    """
    spec, stop = order.spec, StopEvent()
    for number in (signal.SIGTERM, signal.SIGHUP):  # logind ends a session with both
        signal.signal(number, NotInherited(lambda *_: stop.set()))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as in any Python: they become an OSError
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # `logs -f` shows a line when it is printed
    try:
        settle(os.environ)
        job = view_of_job(order, attempt, device=device, gpus=gpus, stop=stop)
        _tell_model(job)
        with forks_end_here():
            result: Mapping[str, Json] = _function(spec)(job)
        made = _hand_over(job, spec, attempt)
        record: dict[str, Json] = {"schema": 1, "ok": True, "made": made, "result": dict(result)}
        _tell_result(attempt, record, stop)
    except Error as error:
        return _failed(attempt, error, str(error), error.exit_code, stop)
    except BaseException as error:  # noqa: BLE001  # the worker's top: whatever it was is recorded
        with contextlib.suppress(MemoryError):  # its frames still hold what left no room
            print_traceback(error)
        return _failed(attempt, error, f"{type(error).__name__}: {error}", 1, stop)
    return 0


def view_of_job(
    order: Order, attempt: Attempt, *, device: str, gpus: int, stop: threading.Event
) -> Job:
    """Return the job as its entry function gets it: with a view of the run's folder that is its own.

    Raises:
        OSError: the disk is full, or does not answer.
    """
    spec = order.spec
    real = spec.run_folder
    models = () if spec.model is None else (model_folder_name(spec.model),)
    wanted = Wanted(models=frozenset(models), outputs=inside(real, spec.outputs), anew=MADE)
    view = None
    with contextlib.suppress(NotWritable):  # a job that only reads goes on
        view = make(attempt, real, wanted, job=order.job, number=order.number, left=order.left)
    run_folder = real if view is None else view.accepted
    own_folder = real if view is None else view.own
    above = f"{real}/"
    outputs = (
        f"{own_folder}/{path.removeprefix(above)}" if path.startswith(above) else path
        for path in spec.outputs
    )
    check = (lambda: None) if view is None else partial(refuse_given_up, run_folder, attempt, stop)
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
        progress=Progress(attempt.progress, check),
        stop=stop,
        share=Share(attempt.folder),
        own_folder=None if view is None else own_folder,
        own=tuple(sorted(wanted.entries)),
        root=real,
    )


def _hand_over(job: Job, spec: Spec, attempt: Attempt) -> bool:
    """Leave what the job has made for its scheduler to accept; wait for room when the disk is full.

    Returns whether there is anything.

    Raises:
        WrittenElsewhere: the folder of the attempt was away, and what the job should have made is not there.
    """
    staged, was_away = job.own_folder is not None, attempt.is_away()

    def leave() -> bool:
        if staged and stage_of(attempt, spec.run_folder) is None:
            raise FileNotFoundError(errno.ENOENT, "the link to its staging folder is missing")
        if staged and was_away and not all(map(os.path.lexists, job.outputs)):
            raise WrittenElsewhere(
                "the last files of the job were written below an empty mount point"
            )
        return hand_over(attempt, spec.run_folder)

    try:
        return when_there_is_room(leave, is_away=attempt.is_away, over=job.stop.is_set)
    except FileNotFoundError:  # the job has deleted its attempt's folder
        if attempt.is_away():
            raise
        return False


def _function(spec: Spec) -> Callable[[object], Mapping[str, Json]]:
    """Return the entry function of a job's kind.

    A job keeps the entry that its kind had when it was queued. Where a newer version of the
    laboratory has moved that function, the kind of the same name says where it is now.

    Raises:
        MachineError: it cannot be imported, and neither could a module before the fork; a second
            import of a module that failed half-way may fail in words that mislead.
    """
    from launcher.kinds import installed  # the border of `work`

    try:
        try:
            return _imported(spec.entry)
        except (ModuleNotFoundError, AttributeError) as error:
            if not _is_absent(error, spec.entry):
                raise  # something that the module itself lacks
            kind = installed([spec.kind]).get(spec.kind)
            if kind is None or kind.entry in {"", spec.entry}:
                raise MachineError(
                    f"{spec.entry} does not exist, and no job type {spec.kind!r} is installed ({error}). "
                    "Install the plugin package that this job was planned with."
                ) from error
            return _imported(kind.entry)
    except BaseException as error:
        if not failure():
            raise
        print_traceback(error)
        raise MachineError(failure()) from error


def _imported(entry: str) -> Callable[[object], Mapping[str, Json]]:
    module, _, name = entry.partition(":")
    function: Callable[[object], Mapping[str, Json]] = getattr(
        importlib.import_module(module), name
    )
    return function


def _is_absent(error: ModuleNotFoundError | AttributeError, entry: str) -> bool:
    """Tell whether an error says that the entry's module or its function is not there."""
    module, _, name = entry.partition(":")
    if isinstance(error, AttributeError):
        return error.name == name
    return error.name is not None and f"{module}.".startswith(f"{error.name}.")


def _tell_model(job: Job) -> None:
    """Write the ID of the job's model beside its files where the folder's name is too short for it."""
    if job.model is None or model_folder_name(job.model) == job.model:
        return
    folder = job.model_folder(job.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MODEL_FILE, f"{job.model}\n")


def _tell_result(attempt: Attempt, record: Mapping[str, Json], stop: threading.Event) -> None:
    """Write what a job came to; wait for room when the disk is full: the job is done, after all.

    If the job has deleted the folder of its attempt, it is made again: without a report the job has failed.

    Raises:
        OSError: it was asked to end while it waited, or the folder was away for too long.
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

    when_there_is_room(
        write,
        is_away=attempt.is_away,
        over=stop.is_set,
        passing=errno.errorcode.keys() - ABSENT,  # whatever the disk says
        warn=lambda why: say(f"launcher: {waits}: {why}"),
    )


def _failed(
    attempt: Attempt, error: BaseException, text: str, code: int, stop: threading.Event
) -> int:
    """Record how a job failed; return the exit code."""
    away, shortage = _is_of_absence(error, attempt), read_error(error)
    if shortage is not None and not isinstance(error, Error):
        text = shortage.message
    say(f"error: {text}")
    record: dict[str, Json] = {"schema": 1, "ok": False, "error": text}
    if stop.is_set():  # its supervisor looks whether the signal was meant for all
        record["signalled"] = True
    if away:
        record["away"] = True
    if shortage is not None:
        record["shortage"] = shortage.record()
    with contextlib.suppress(OSError):  # the supervisor says that the disk is full
        write_failure(partial(write_json, attempt.result, record), attempt, stop)
    return code


def _is_of_absence(error: BaseException | None, attempt: Attempt) -> bool:
    """Tell whether a job failed as its attempt's folder is away, which says nothing of the job itself."""
    for _ in range(MOST_CAUSES):
        if error is None or isinstance(error, WrittenElsewhere):
            return error is not None
        if f"{attempt.folder}/" in str(getattr(error, "filename", "")):
            return attempt.is_away()
        error = error.__cause__ or error.__context__
    return False


def write_failure(write: Callable[[], None], attempt: Attempt, stop: threading.Event) -> None:
    """Write something of a failure; for a while, wait for room: its exit code tells that it failed.

    Nothing is said of that: without a record, the last line of the log is why it failed.

    Raises:
        OSError: there was none.
    """
    until = time.monotonic() + FAILURE_PATIENCE_S
    when_there_is_room(
        write,
        is_away=attempt.is_away,
        over=lambda: stop.is_set() or time.monotonic() > until,
    )


def say(text: str) -> None:
    """Write a line into the log, where it can be written: it may be on a full disk, too."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))


def print_traceback(error: BaseException | None) -> None:
    """Print an error with its traceback into the log, likewise."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
