"""The first code of ours inside a child: its surroundings, then the kind's entry."""

import contextlib
import importlib
import io
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import Error
from launcher.ids import model_folder_name
from launcher.orders import Order
from launcher.paths import Attempt
from launcher.processes import MARK
from launcher.progress import Progress
from launcher.records import Json, write_atomic, write_json
from launcher.specs import Spec
from launcher.words import read_words

MODEL_FILE = "model_id.txt"
# what libraries take for the number of cores that are theirs; what the owner set stays
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(order: Order, attempt: Attempt, *, gpu: str | None) -> dict[str, str]:
    """Return the environment of an attempt: its owner's, and what it is to know of its place.

    The device must be there before CUDA is touched for the first time.
    """
    cpus = str(order.cpus)
    place = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LAUNCHER_CPUS": cpus,
        "LAUNCHER_JOB": str(order.job),
        MARK: str(attempt.folder),
    }
    if gpu is not None:
        place["CUDA_VISIBLE_DEVICES"] = gpu
    return dict.fromkeys(THREADS, cpus) | dict(order.context.environment) | place


def surround(order: Order, attempt: Attempt, *, gpu: str | None) -> None:
    """Make this process find itself where its owner queued it."""
    os.umask(order.context.umask)
    os.environ.clear()
    os.environ.update(environment(order, attempt, gpu=gpu))
    with contextlib.suppress(OSError):  # cores may have been taken offline since
        os.sched_setaffinity(0, order.context.affinity)
    os.chdir(order.context.folder)


def work(order: Order, attempt: Attempt, *, device: str) -> int:
    """Run a kind's entry function, record what it returned or how it failed; return the exit code."""
    from launcher.kinds import Job  # a border: pydantic is none of a plain program's business

    spec, stop = order.spec, threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for one in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(one, signal.SIG_IGN)  # as in any Python: they become an OSError
    random.seed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # `logs -f` shows a line when it is printed
    job = Job(
        name=spec.name,
        kind=spec.kind,
        run=spec.run,
        run_folder=spec.run_folder,
        folder=Path(order.context.folder),
        attempt_folder=attempt.folder,
        attempt=order.number,
        device=device,
        cpus=order.cpus,
        model=spec.model,
        base=spec.base,
        data=spec.data,
        images=spec.images,
        settings=spec.settings,
        words=read_words(spec.words),
        progress=Progress(attempt.progress),
        stop=stop,
    )
    try:
        _tell_model(spec)
        module, _, function = spec.entry.partition(":")
        result: Mapping[str, Json] = getattr(importlib.import_module(module), function)(job)
        write_json(attempt.result, {"schema": 1, "ok": True, "result": dict(result)})
    except Error as error:
        return _failed(attempt, str(error), error.exit_code)
    except BaseException as error:  # noqa: BLE001  # the worker's top: whatever it was is recorded
        traceback.print_exc()
        return _failed(attempt, f"{type(error).__name__}: {error}", 1)
    return 0


def _tell_model(spec: Spec) -> None:
    """Write the ID of the job's model beside its files where the folder's name is too short for it."""
    if spec.model is None or model_folder_name(spec.model) == spec.model:
        return
    folder = spec.run_folder / model_folder_name(spec.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MODEL_FILE, f"{spec.model}\n")


def _failed(attempt: Attempt, message: str, code: int) -> int:
    os.write(2, f"error: {message}\n".encode(errors="replace"))
    with contextlib.suppress(OSError):  # a full disk must not hide the message in the log
        write_json(attempt.result, {"schema": 1, "ok": False, "error": message})
    return code
