"""The entry function of `erase`: from a job to files and numbers."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from launcher.api import Job, JobError, Json, write_json
from trueface.generators.diffusion.diffuser import (
    Diffuser,
    StoredDiffuser,
    read_diffuser,
    save_diffuser,
)
from trueface.generators.diffusion.settings import training_folder
from trueface.generators.diffusion.training import load_classes
from trueface.generators.erasing.erasure import ErasureTask, run_erasure
from trueface.generators.erasing.registry import METHODS, EraseSettings
from trueface.generators.made_folders import (
    digest_of,
    digest_of_images,
    image_names,
    load_image_batch,
)
from trueface.jobs.job_data import checkpoint_of, folder_of
from trueface.jobs.setup import entry, job_provenance, run_context, write_record
from trueface.runtime import paths
from trueface.runtime.errors import DataError

MOST_ROWS = 100  # rows of the losses in the record


@entry(EraseSettings)
def erase(job: Job, settings: EraseSettings) -> Mapping[str, Json]:
    """Erase a concept from the job's diffuser; write the new diffuser and the cost.

    A stopped job leaves no files, and the next attempt starts again: erasing takes seconds to minutes.
    Only the method `retrain`, which is a training, resumes.

    Raises:
        CheckpointError: the diffuser cannot be read.
        UnknownName: it has no such class; names the nearest.
        JobError: the concept cannot be erased, the job was stopped, or a loss is not finite.
    """
    if job.base is None:
        raise JobError(f"{job.model} needs a diffuser to start from. Give it as base.")
    folder = folder_of(job)
    kept = read_diffuser(checkpoint_of(job, job.base), job.device)
    task = _task(job, settings, kept)
    started = time.monotonic()
    erased = run_erasure(settings.method, kept.diffuser, task)
    numbers: dict[str, Json] = {
        "method": settings.method,
        "concept": settings.concept,
        "anchor": settings.anchor,
        "seconds": time.monotonic() - started,
        "steps": task.history[-1][0] if task.history else 0,
        "loss": task.history[-1][1] if task.history else None,
        "changed_parameters": erased.changed,
        "parameters": erased.parameters,
    }
    source = _source(job, settings, kept)
    save_diffuser(paths.checkpoint(folder), erased.diffuser, source)
    write_json(paths.provenance(folder), source)
    write_record(
        paths.erasing(folder),
        {
            **numbers,
            "options": {
                name: getattr(settings.options, name) for name in METHODS[settings.method].defaults
            },
            "settings": settings.model_dump(mode="json"),
            "class_names": list(kept.diffuser.class_names),
            "losses": [list(row) for row in shorten_history(task.history)],
        },
    )
    write_record(paths.summary(folder), numbers)
    paths.resume(folder).unlink(missing_ok=True)  # state of a retraining
    return numbers


def _task(job: Job, settings: EraseSettings, stored_teacher: StoredDiffuser) -> ErasureTask:
    teacher, training = stored_teacher.diffuser, training_of(stored_teacher.provenance)
    images = labels = None
    erased = teacher.label(settings.concept)
    if "images" in METHODS[settings.method].needs:
        _refuse_remembering(settings, stored_teacher.provenance)
        root = settings.data_root or str(training.get("data_root", ""))
        if not root:
            raise JobError(
                f"{settings.method} needs the training images of the diffuser. Give data_root."
            )
        where = training_folder(job.path(root), job.data or "classes:all")
        images, labels, names = load_classes(
            where, size=teacher.size, channels=teacher.channels, cpus=job.cpus
        )
        _refuse_other_classes(where, names, teacher)
        _refuse_other_images(
            where, stored_teacher.provenance, digest_of_images(images, labels, names)
        )
    return ErasureTask(
        erase=erased,
        anchor=teacher.label(settings.anchor) if settings.anchor else None,
        options=settings.options,
        seed=settings.seed,
        watch=run_context(job, str(training.get("precision", "fp32"))),
        images=images,
        labels=labels,
        training=training,
        folder=folder_of(job),
        concept_images=_concept_images(job, settings),
    )


def _concept_images(job: Job, settings: EraseSettings) -> Tensor | None:
    if not settings.options.images:
        return None
    root = job.path(settings.options.images)
    return load_image_batch(root, image_names(root))


def training_of(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that a diffuser was trained with, from its provenance or its teacher's."""
    training = source.get("training", source.get("settings"))
    return training if isinstance(training, dict) else {}


def _refuse_remembering(settings: EraseSettings, source: Mapping[str, Any]) -> None:
    """Reject a training that would restore a concept that was erased from the teacher before."""
    gone = [name for name in _erased_before(source) if name != settings.concept]
    if gone:
        raise JobError(
            f"{', '.join(gone)} was already erased from this diffuser. {settings.method} would train on "
            "these images again, because it leaves out only one class."
        )


def _erased_before(source: Mapping[str, Any]) -> Sequence[str]:
    """Return what a chain of erasings took from a diffuser, the first one first."""
    names = source.get("erased", ())
    return [str(name) for name in names]


def _refuse_other_classes(where: Path, names: Sequence[str], teacher: Diffuser) -> None:
    if tuple(names) != teacher.class_names:
        raise DataError(
            f"{where} has the classes {', '.join(names)}, but the diffuser was trained on "
            f"{', '.join(teacher.class_names)}. Set data_root to the folder of its training."
        )


def _refuse_other_images(where: Path, source: Mapping[str, Any], images_sha256: str) -> None:
    if source.get("train_images_sha256", images_sha256) != images_sha256:
        raise DataError(
            f"the images in {where} differ from the training images of the diffuser. Train it again, or "
            "restore the images."
        )


def _source(job: Job, settings: EraseSettings, stored_teacher: StoredDiffuser) -> dict[str, Json]:
    inherited = ("data_root", "train_images_sha256")
    used: dict[str, Json] = {}
    if settings.options.images:
        root = job.path(settings.options.images)
        used["concept_images_sha256"] = digest_of(root, image_names(root))
    return job_provenance(
        job,
        settings,
        base=job.base,
        method=settings.method,
        erased=[*_erased_before(stored_teacher.provenance), settings.concept],
        training=dict(training_of(stored_teacher.provenance)),
        **{
            name: stored_teacher.provenance[name]
            for name in inherited
            if name in stored_teacher.provenance
        },
        **used,
        class_names=list(stored_teacher.diffuser.class_names),
    )


def shorten_history(history: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most a hundred rows of a history of step and loss: means over equal stretches."""
    length = -(-len(history) // MOST_ROWS) or 1
    parts = [history[start : start + length] for start in range(0, len(history), length)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]
