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
from launcher.lastwords import read_error
from launcher.orders import Order
from launcher.paths import Attempt
from launcher.placement import placed_environment
from launcher.processes import MARK
from launcher.progress import Progress
from launcher.records import Json, write_atomic, write_json
from launcher.share import Share
from launcher.shortage import Shortage
from launcher.specs import Spec
from launcher.words import read_words

MODEL_FILE = "model_id.txt"
# what libraries take for the number of cores that are theirs; what the owner set stays
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(order: Order, attempt: Attempt) -> dict[str, str]:
    """Return the environment of an attempt: its owner's, and what it is to know of its place.

    The devices must be there before CUDA is touched for the first time. Who was given none sees none:
    what it took of a GPU would have been promised to others.
    """
    cpus = str(order.cpus)
    place = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(order.gpus),
        "LAUNCHER_CPUS": cpus,
        "LAUNCHER_JOB": str(order.job),
        MARK: str(attempt.folder),
    }
    if order.claim is not None:
        place["LAUNCHER_VRAM"] = str(order.claim)
    return placed_environment(
        order.context.environment, place, unless_set=dict.fromkeys(THREADS, cpus)
    )


def surround(order: Order, attempt: Attempt) -> None:
    """Make this process find itself where its owner queued it."""
    os.umask(order.context.umask)
    os.environ.clear()
    os.environ.update(environment(order, attempt))
    with contextlib.suppress(OSError):  # cores may have been taken offline since
        os.sched_setaffinity(0, order.context.affinity)
    os.chdir(order.context.folder)


def work(order: Order, attempt: Attempt, *, device: str, gpus: int = 1) -> int:
    """Run a kind's entry function, record what it returned or how it failed; return the exit code.

    Args:
        order: what to do.
        attempt: where the records go.
        device: "cpu" or "cuda:0".
        gpus: how many cards are the job's, from cuda:0 on.
    """
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
        gpus=gpus,
        model=spec.model,
        base=spec.base,
        data=spec.data,
        images=spec.images,
        settings=spec.settings,
        words=read_words(spec.words),
        progress=Progress(attempt.progress),
        stop=stop,
        share=Share(attempt.folder),
    )
    try:
        _tell_model(spec)
        module, _, function = spec.entry.partition(":")
        result: Mapping[str, Json] = getattr(importlib.import_module(module), function)(job)
        write_json(attempt.result, {"schema": 1, "ok": True, "result": dict(result)})
    except Error as error:
        return _failed(attempt, str(error), error.exit_code, read_error(error))
    except BaseException as error:  # noqa: BLE001  # the worker's top: whatever it was is recorded
        with contextlib.suppress(MemoryError):  # its frames still hold what left no room
            traceback.print_exc()
        shortage = read_error(error)
        said = f"{type(error).__name__}: {error}" if shortage is None else shortage.said
        return _failed(attempt, said, 1, shortage)
    return 0


def _tell_model(spec: Spec) -> None:
    """Write the ID of the job's model beside its files where the folder's name is too short for it."""
    if spec.model is None or model_folder_name(spec.model) == spec.model:
        return
    folder = spec.run_folder / model_folder_name(spec.model)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / MODEL_FILE, f"{spec.model}\n")


def _failed(attempt: Attempt, message: str, code: int, shortage: Shortage | None) -> int:
    os.write(2, f"error: {message}\n".encode(errors="replace"))
    record: dict[str, Json] = {"schema": 1, "ok": False, "error": message}
    if shortage is not None:
        record["shortage"] = shortage.record()
    with contextlib.suppress(OSError):  # a full disk must not hide the message in the log
        write_json(attempt.result, record)
    return code
