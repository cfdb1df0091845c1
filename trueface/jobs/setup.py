"""What entry functions have in common: a job's settings, images, models and folders, what it may use of a machine, and what is written of a model."""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch

from launcher.api import DataId, Job, JobError, Json, Settings, write_atomic, write_json
from trueface.data.index import Image
from trueface.data.loading import BadFile
from trueface.data.settings import PlaceSettings
from trueface.data.splits import SplitList
from trueface.models import assembly, checkpoint
from trueface.runtime import gpu_memory, logs, paths
from trueface.runtime.heap import keep_freed_memory
from trueface.runtime.progress import Watch
from trueface.training import image_lists, provenance
from trueface.training.image_lists import DataPlace
from trueface.training.settings import LearningSettings
from trueface.training.start import Start


def of_split(
    job: Job, settings: PlaceSettings, data: DataId, name: str
) -> tuple[tuple[Image, ...], SplitList]:
    """Return the images of one list of the split, and the list.

    Raises:
        DataError: a part of the data has no image, or the split names images that are not there.
    """
    return image_lists.load_list(place(job, settings), data, name)


def place(job: Job, settings: PlaceSettings) -> DataPlace:
    """Return where the images of a job lie."""
    return DataPlace.of(settings, job.words, job.path)


def images(job: Job) -> DataId:
    """Return which images the job's last stage means, real ones included."""
    return image_lists.data_of(job.images, job.model, job.words)


def model_name(job: Job) -> str:
    """Return the ID of the job's model.

    Raises:
        JobError: it has none.
    """
    if job.model is None:
        raise JobError(f"job {job.name} of kind {job.kind} names no model")
    return job.model


def folder_of(job: Job) -> Path:
    """Return the folder of the job's model.

    Raises:
        JobError: it has none.
    """
    return job.model_folder(model_name(job))


def checkpoint_of(job: Job, model: str) -> Path:
    """Return where the checkpoint of another model of a job's run lies."""
    return paths.checkpoint(job.model_folder(model))


def made_folder_of(job: Job) -> Path:
    """Return the folder that a job of the role FOLDER makes.

    Raises:
        JobError: it was planned without one.
    """
    if not job.outputs:
        raise JobError(f"{job.name} has no folder to write; run it by a task file")
    return Path(job.outputs[0])


def progress_of(job: Job, noun: str = "images") -> Callable[[int, int], None]:
    """Return what the maker of a set tells how many of how many it has made; it ends with a stop."""

    def progress(made: int, total: int) -> None:
        job.progress(step=made, total=total)
        if job.stop.is_set():
            raise JobError(f"stopped after {made} of {total} {noun}; the next attempt begins anew")

    return progress


OWN_WEIGHTS = ("default", "none")  # others are files
Model = TypeVar("Model", bound=Settings)
Result = Mapping[str, Json]


def entry(
    model: type[Model],
) -> Callable[[Callable[[Job, Model], Result]], Callable[[Job], Result]]:
    """Make an entry function of work with a job and its settings: they are checked, and its share is taken."""

    def entry_of(work: Callable[[Job, Model], Result]) -> Callable[[Job], Result]:
        @wraps(work)
        def begun(job: Job) -> Result:
            settings = model.model_validate(job.settings)
            with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
                return work(settled(job), settings)

        return begun

    return entry_of


def settled(job: Job) -> Job:
    """Take the job's cores, and no more of its card than its share; return the job that keeps to it."""
    torch.set_num_threads(job.cpus)
    keep_freed_memory()
    return gpu_memory.hold(job, os.environ)


def watch_of(job: Job, precision: str = "fp32") -> Watch:
    """Return the job's device, and where its progress goes."""
    return Watch(device=job.device, precision=precision, progress=job.progress, stop=job.stop)


def start_from(
    job: Job, settings: LearningSettings, base: str | None, *, own: bool = False
) -> Start:
    """Return the start from another model of the job's run, or anew; `own`: from the model that it makes."""
    weights = assembly.chosen_weights(settings.weights, os.environ)
    return Start(
        model=base,
        folder=None if base is None else job.model_folder(base),
        weights=weights if weights in OWN_WEIGHTS else str(job.path(weights)),
        own=own,
    )


def source_of(job: Job, settings: Settings, **facts: Any) -> dict[str, Json]:
    """Return what a model is made of and by what, for its provenance.

    Args:
        job: that makes it.
        settings: of the job; one of them is `seed`.
        facts: of the base, of the images and of the network.
    """
    values = settings.model_dump(mode="json")
    return {
        "job": job.name,
        "model": job.model,
        "images": job.data,
        "settings": values,
        "seed": values["seed"],
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(provenance.PACKAGE),
        "code": provenance.keep(job.run_folder),
        **facts,
    }


def facts_of_learning(job: Job, data: DataId) -> dict[str, Json]:
    """Return what `source_of` says besides of a detector that learns from images."""
    return {
        "base": job.base,
        "images": str(data),
        "device_name": provenance.device_name(job.device),
    }


def write_facts(folder: Path, source: Mapping[str, Json], result: Mapping[str, Json]) -> None:
    """Write beside a model what it is made of, and the numbers of its making."""
    write_record(paths.provenance(folder), source)
    write_record(paths.summary(folder), result)


def write_record(path: Path, record: Mapping[str, Json]) -> None:
    """Write a file of JSON that says of which schema it is."""
    write_json(path, {"schema": paths.SCHEMA, **record})


def count_bad_images(path: Path) -> int:
    """Return how many images a list names; 0 where there is none."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    except FileNotFoundError:
        return 0


def write_bad_images(path: Path, bad: Iterable[BadFile]) -> None:
    """List images that gave no pixels as CSV, atomically; without any, an older list goes away."""
    rows = sorted(bad)
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows((file.path, file.reason) for file in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode(errors="surrogateescape"))
