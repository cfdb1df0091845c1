"""The job as its entry function gets it: it sees its run's folder, and what it makes there stays its own."""

import errno
import threading
import time
from functools import partial
from pathlib import Path

from launcher.ids import model_folder_name, read_words
from launcher.job import Spec
from launcher.kind_interface.draft import MADE
from launcher.staging.sealing import seal
from launcher.staging.stages import stage_of
from launcher.staging.view import Wanted, inside, make
from launcher.system.paths import Attempt
from launcher.workers.job import Job, refuse_given_up
from launcher.workers.memory_share import Share
from launcher.workers.order import Order
from launcher.workers.progress import Progress

ROOM_PAUSE_S = 1.0  # before a record that did not fit on the disk is tried again
# nobody can write there: there is nothing to keep apart, and a job that only reads goes on
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}


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
    try:
        view = make(attempt, real, wanted, job=order.job, number=order.number, left=order.left)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    run_folder = real if view is None else view.accepted
    own_folder = real if view is None else view.own
    above = f"{real}/"
    outputs = (
        f"{own_folder}/{path.removeprefix(above)}" if path.startswith(above) else path
        for path in spec.outputs
    )
    check = (lambda: None) if view is None else partial(refuse_given_up, run_folder)
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


def hand_over(spec: Spec, attempt: Attempt) -> None:
    """Leave what the job has made for its scheduler to accept; wait for room when the disk is full."""
    stage = stage_of(attempt, spec.run_folder)
    while stage is not None:
        try:
            seal(stage)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            time.sleep(ROOM_PAUSE_S)
        else:
            return
