"""The entry functions of `classify` and `forget`: from a job to files and numbers."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from launcher.api import Job, JobError, Json, write_json
from trueface import checkpoint, keeping, layout, logs, memory, snapshot
from trueface.checkpoint import Checkpoint
from trueface.classes import datasets, networks, places
from trueface.classes.datasets import Lists
from trueface.classes.forgetting import Problem, unlearn
from trueface.classes.kinds import differences
from trueface.classes.learning import Pixels, balanced, fit
from trueface.classes.networks import Classifier, Shape
from trueface.classes.settings import ClassifySettings, ForgetSettings, ForgettingSettings
from trueface.errors import CheckpointError, WeightsError
from trueface.history import write_history
from trueface.results import SCHEMA
from trueface.unlearn import answers, plane, record
from trueface.watch import Watch
from trueface.weights import load_state

ANSWERS = "trained.npz"  # in the folder answers/, of a training


def classify(job: Job) -> Mapping[str, Json]:
    """Train the job's network; write it with its history and its answers."""
    settings = ClassifySettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _classify(_settled(job), settings)


def _classify(job: Job, settings: ClassifySettings) -> Mapping[str, Json]:
    folder = _folder(job)
    lists = _lists(job, settings)
    source = _provenance(job, settings, lists)
    watch = _watch(job, settings)
    shape = networks.shape_of(settings, len(lists.names))
    model = networks.build(shape, seed=settings.seed, channels_last=settings.channels_last)
    model = model.to(job.device)
    parts = {
        name: Pixels(images, settings, job.device).examples()
        for name, images in _parts(lists).items()
    }
    trained = fit(
        model,
        parts["train"],
        "trained",
        validation=parts["validation"],
        settings=settings,
        watch=watch,
        noted=lambda epochs: write_history(layout.history(folder), epochs),
    )
    said = {
        name: answers.answered(model, some, watch, _parts(lists)[name].names)
        for name, some in parts.items()
    }
    answers.write(folder / "answers" / ANSWERS, said)
    _keep(folder, model, {**source, "epochs": trained.chosen.epoch}, settings.model)
    result: dict[str, Json] = {
        "images": len(lists.train),
        "classes": len(lists.names),
        "epochs": len(trained.epochs),
        "best_epoch": trained.chosen.epoch,
        "loss": trained.chosen.loss,
        "val_accuracy": trained.chosen.val_accuracy,
        "accuracy": said["test"].accuracy("trained"),
        "balanced_accuracy": balanced(said["test"]),
        "seconds": trained.seconds,
        "samples_read": trained.samples_read,
        "images_per_s": trained.samples_read / trained.seconds,
    }
    write_json(layout.summary(folder), {"schema": SCHEMA, **result})
    return result


def forget(job: Job) -> Mapping[str, Json]:
    """Make the job's network from its base by forgetting a class; write it beside what it took."""
    settings = ForgetSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _forget(_settled(job), settings)


def _forget(job: Job, settings: ForgettingSettings) -> Mapping[str, Json]:
    if job.base is None:
        raise JobError(f"{job.model} needs a model that forgets: give the one to start from")
    folder, base = _folder(job), job.model_folder(job.base)
    kept = checkpoint.load(layout.checkpoint(base))
    _refuse_other(kept, settings, job.base)
    lists = _lists(job, settings)
    source = _provenance(job, settings, lists)
    if kept.provenance.get("train_images_sha256") != source["train_images_sha256"]:
        raise CheckpointError(
            f"{job.base} was trained on other images than those in {source['data_root']} today; "
            "train it again, or bring the images back"
        )
    shape, earlier = networks.shape_of(settings, len(lists.names)), record.read(base)
    problem = Problem(
        lists=lists,
        shape=shape,
        settings=settings,
        forgotten=places.number(lists.names, settings.forget_class),
        earlier=() if earlier is None else earlier.forgotten,
        training=record.training(base),
        cache=base / "cache",
    )
    model = _revived(kept, shape, layout.checkpoint(base), settings).to(job.device)
    done = unlearn(job, problem, model, _watch(job, settings))
    answers.write(layout.answers_before(folder), done.before)
    answers.write(layout.answers_after(folder), done.after)
    if done.plane is not None:
        plane.write(layout.plane(folder), done.plane)
    _keep(folder, done.model, source, settings.model)
    record.write(folder, done.record)
    result = done.numbers
    write_json(layout.summary(folder), {"schema": SCHEMA, **result})
    return result


def _settled(job: Job) -> Job:
    torch.set_num_threads(job.cpus)
    return memory.hold(job, os.environ)


def _folder(job: Job) -> Path:
    if job.model is None:
        raise JobError(f"{job.name} names no model to make")
    return job.model_folder(job.model)


def _watch(job: Job, settings: ClassifySettings) -> Watch:
    return Watch(
        device=job.device, precision=settings.precision, progress=job.progress, stop=job.stop
    )


def _lists(job: Job, settings: ClassifySettings) -> Lists:
    place = places.find(places.sort_of(job.data or ""), job.path(settings.data_root))
    return datasets.collect(place, settings, cpus=job.cpus, stop=job.stop)


def _parts(lists: Lists) -> dict[str, datasets.Images]:
    return {"train": lists.train, "validation": lists.validation, "test": lists.test}


def _provenance(job: Job, settings: ClassifySettings, lists: Lists) -> dict[str, Json]:
    """Return all that determines the weights, and what makes them."""
    return {
        "job": job.name,
        "model": job.model,
        "base": job.base,
        "images": job.data,
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "class_names": list(lists.names),
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(Path(__file__).parent),
        "code": snapshot.keep(job.run_folder),
        "data_root": str(job.path(settings.data_root)),
        "train_images": len(lists.train),
        "val_images": len(lists.validation),
        "test_images": len(lists.test),
        "train_images_sha256": lists.train.sha256,
        "val_images_sha256": lists.validation.sha256,
    }


def _keep(folder: Path, model: torch.nn.Module, source: Mapping[str, Json], arch: str) -> None:
    if not isinstance(model, Classifier):
        raise TypeError(f"a method gave a {type(model).__name__} back")
    kept = Checkpoint(arch=arch, state=model.network.state_dict(), provenance=source)
    checkpoint.save(layout.checkpoint(folder), kept)
    write_json(layout.provenance(folder), {"schema": keeping.SCHEMA, **source})


def _refuse_other(kept: Checkpoint, settings: ForgettingSettings, base: str) -> None:
    """Refuse a base that was trained with other settings of those that are the model's own.

    Raises:
        CheckpointError: so it was; says with which.
    """
    trained = kept.provenance.get("settings")
    if not isinstance(trained, dict) or "class_names" not in kept.provenance:
        raise CheckpointError(f"{base} is no network that classify has trained")
    used = settings.model_dump(mode="json")
    for key in differences(trained, used):
        if key != "data_root":  # the images themselves are compared
            raise CheckpointError(
                f"{base} was trained with {key}: {trained.get(key)}, and this is {used[key]}"
            )


def _revived(
    kept: Checkpoint, shape: Shape, path: Path, settings: ForgettingSettings
) -> Classifier:
    if kept.arch != shape.model:
        raise CheckpointError(f"checkpoint {path} is a {kept.arch}, not a {shape.model}")
    model = networks.build(shape, seed=0, channels_last=settings.channels_last)
    try:
        load_state(model.network, kept.state, f"the parameters of checkpoint {path}")
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return model
