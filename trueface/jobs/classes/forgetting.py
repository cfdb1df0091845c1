"""The entry function of `forget`: from a job to files and numbers."""

from collections.abc import Mapping
from pathlib import Path

from launcher.api import Job, JobError, Json, write_json
from trueface.data import class_folders
from trueface.evaluation import predictions
from trueface.jobs.classes.classification import keep, lists_of, provenance_of
from trueface.jobs.setup import entry, folder_of, watch_of
from trueface.models import checkpoint, classifiers
from trueface.models.checkpoint import Checkpoint
from trueface.models.classifier_registry import Shape
from trueface.models.classifiers import Classifier
from trueface.models.pretrained import load_state
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.runtime.paths import SCHEMA
from trueface.unlearning import record
from trueface.unlearning.class_settings import (
    SINGLE,
    ForgetSettings,
    ForgettingSettings,
    differences,
)
from trueface.unlearning.evaluation import embedding
from trueface.unlearning.tasks.class_forgetting import Problem, unlearn


@entry(ForgetSettings)
def forget(job: Job, settings: ForgettingSettings) -> Mapping[str, Json]:
    """Make the job's network from its base by forgetting a class or some images; write it beside what it took."""
    if job.base is None:
        raise JobError(f"{job.model} needs a model that forgets: give the one to start from")
    folder, base = folder_of(job), job.model_folder(job.base)
    kept = checkpoint.load(paths.checkpoint(base))
    _refuse_other(kept, settings, job.base)
    lists = lists_of(job, settings)
    source = provenance_of(job, settings, lists)
    if kept.provenance.get("train_images_sha256") != source["train_images_sha256"]:
        raise CheckpointError(
            f"{job.base} was trained on other images than those in {source['data_root']} today; "
            "train it again, or bring the images back"
        )
    shape, earlier = classifiers.shape_of(settings, len(lists.names)), record.read(base)
    if earlier is not None and "instances" in {earlier.goal, settings.goal}:
        raise JobError(SINGLE.format(base=job.base))
    problem = Problem(
        lists=lists,
        shape=shape,
        settings=settings,
        forgotten=None
        if settings.goal == "instances"
        else class_folders.number(lists.names, settings.forget_class),
        earlier=() if earlier is None else earlier.forgotten,
        training=record.training(base),
        cache=base / "cache",
        base=job.base,
        model=job.model or "",
    )
    model = _revived(kept, shape, paths.checkpoint(base), settings).to(job.device)
    done = unlearn(problem, model, watch_of(job, settings.precision))
    predictions.write(paths.answers_before(folder), done.before)
    predictions.write(paths.answers_after(folder), done.after)
    if done.embedding is not None:
        embedding.write(paths.plane(folder), done.embedding)
    keep(folder, done.model, source, settings.model)
    record.write(folder, done.record)
    result = done.numbers
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
    return result


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
    model = classifiers.build(shape, seed=0, channels_last=settings.channels_last)
    try:
        load_state(model.network, kept.state, f"the parameters of checkpoint {path}")
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return model
