"""Common steps of entry functions that compute: settings, log, cores, GPU memory, initial weights, written files."""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch

from launcher.api import DataId, Job, Json, Settings, write_atomic, write_json
from trueface.data.loading.processes import BadFile
from trueface.jobs.rule import refuse_broken_rules
from trueface.models import assembly, checkpoint
from trueface.runtime import logs, memory, paths
from trueface.runtime.memory import keep_freed_memory
from trueface.runtime.progress import RunContext
from trueface.training import provenance
from trueface.training.checkpointing import TrainingStart
from trueface.training.ineffective_settings import ineffective_on_reshared
from trueface.training.settings import LearningSettings

OWN_WEIGHTS = ("default", "none")  # others are files
Model = TypeVar("Model", bound=Settings)
Result = Mapping[str, Json]
log = logging.getLogger(__name__)


def entry(
    model: type[Model],
) -> Callable[[Callable[[Job, Model], Result]], Callable[[Job], Result]]:
    """Make an entry function of a job's work. It asks the rules, and applies the limits of cores and memory."""

    def entry_of(work: Callable[[Job, Model], Result]) -> Callable[[Job], Result]:
        @wraps(work)
        def run_entry(job: Job) -> Result:
            settings = model.model_validate(job.settings)
            refuse_broken_rules(job, settings, work.__module__)
            with logs.log_to_stderr(logging.INFO):  # in the queue, stderr is the job's log
                log_without_effect(settings)
                return work(apply_resource_limits(job), settings)

        return run_entry

    return entry_of


def log_without_effect(settings: Settings, *, only_reshared: bool = False) -> None:
    """Log the settings that differ from their defaults and have no effect, unless the command line has named its flags.

    A job cannot know which values its task file gives for other jobs, so only the plan warns of such settings.

    Args:
        settings: of the job.
        only_reshared: all training images are re-shared.
    """
    if logs.FLAGS_ARE_NAMED.get():
        return
    fields = type(settings).model_fields
    values = settings.model_dump()
    idle = settings.without_effect(values)
    if only_reshared:
        idle = {**ineffective_on_reshared(values, settings.without_effect), **idle}
    for name, reason in idle.items():
        if name.endswith("seed"):  # one seed may serve all studies
            continue
        if name in fields and getattr(settings, name) != fields[name].default:
            log.info("setting=%s state=without effect reason=%s", name, reason)


def apply_resource_limits(job: Job) -> Job:
    """Limit the process to the job's cores and GPU memory share; return the job that applies later changes."""
    torch.set_num_threads(job.cpus)
    keep_freed_memory()
    return memory.cap_job_memory(job, os.environ)


def process_count(job: Job, processes: int) -> int:
    """Return the number of processes of a job: the setting if given, otherwise one per GPU."""
    if processes:
        return processes
    return 1 if job.device == "cpu" else max(1, job.gpus)


def run_context(job: Job, precision: str = "fp32") -> RunContext:
    """Return the job's device, and where its progress goes."""
    return RunContext(device=job.device, precision=precision, progress=job.progress, stop=job.stop)


def make_start(
    job: Job, settings: LearningSettings, base: str | None, *, is_warm_start: bool = False
) -> TrainingStart:
    """Return the start from new weights or from another model of the run (`is_warm_start`: from its own output)."""
    weights = assembly.resolve_weights(settings.weights, os.environ)
    return TrainingStart(
        model=base,
        folder=None if base is None else job.model_folder(base),
        weights=weights if weights in OWN_WEIGHTS else str(job.path(weights)),
        is_warm_start=is_warm_start,
    )


def job_provenance(job: Job, settings: Settings, **facts: Any) -> dict[str, Json]:
    """Return the data, settings and code of a model, for its provenance.

    Args:
        job: that makes it.
        settings: of the job; those of random work contain `seed`.
        facts: of the base, of the images and of the network.
    """
    values = settings.model_dump(mode="json")
    return {
        "job": job.name,
        "model": job.model,
        "images": job.data,
        "settings": values,
        "seed": values.get("seed"),
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(provenance.PACKAGE),
        "code": provenance.archive_code(job.run_folder),
        **facts,
    }


def learning_provenance(job: Job, data: DataId) -> dict[str, Json]:
    """Return what `job_provenance` says besides of a detector that learns from images."""
    return {
        "base": job.base,
        "images": str(data),
        "device_name": provenance.device_name(job.device),
    }


def write_facts(folder: Path, source: Mapping[str, Json], result: Mapping[str, Json]) -> None:
    """Write the provenance and the summary of a model to its folder."""
    write_record(paths.provenance(folder), source)
    write_record(paths.summary(folder), result)


def write_record(path: Path, record: Mapping[str, Json]) -> None:
    """Write a file of JSON that says of which schema it is."""
    write_json(path, {"schema": paths.SCHEMA, **record})


def count_bad_images(path: Path) -> int:
    """Return the number of images in a list, or 0 if there is no list."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    except FileNotFoundError:
        return 0


def write_bad_images(path: Path, bad_images: Iterable[BadFile]) -> None:
    """List images that gave no pixels as CSV, atomically; without any, an older list goes away."""
    rows = sorted(bad_images)
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows((file.path, file.reason) for file in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode(errors="surrogateescape"))
