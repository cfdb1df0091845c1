"""The entry function of `forget`: from a job to files and numbers."""

from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.data.vocabulary import class_number
from trueface.jobs.classes.classification import lists_of, provenance_of
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import entry, watch_of, write_facts
from trueface.models import checkpoint
from trueface.models.checkpoint import Checkpoint
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.unlearning import class_problem, problem, record
from trueface.unlearning.problem import Base
from trueface.unlearning.settings import SINGLE, ForgetSettings, ForgettingSettings, differences


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
    shape, earlier = settings.shape(len(lists.names)), record.read(base)
    if earlier is not None and "instances" in {earlier.goal, settings.goal}:
        raise JobError(SINGLE.format(base=job.base))
    forgotten = None
    if settings.goal == "class":
        forgotten = class_number(lists.names, settings.forget_class)
    model = checkpoint.revive_classifier(
        kept, paths.checkpoint(base), shape, channels_last=settings.channels_last
    )
    task = class_problem.problem_of(
        model.to(job.device),
        shape,
        lists,
        settings,
        Base(
            name=job.base,
            unlearned_name=job.model or "",
            training=record.training(base),
            cache=base / "cache",
        ),
        forgotten=forgotten,
        earlier=() if earlier is None else earlier.forgotten,
        device=job.device,
    )
    done = problem.unlearn(task, watch_of(job, settings.precision))
    checkpoint.save_model(paths.checkpoint(folder), done.model, source)
    problem.write(folder, done)
    result = class_problem.numbers(done)
    write_facts(folder, source, result)
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
