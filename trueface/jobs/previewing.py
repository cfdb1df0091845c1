"""What a training's network would see, drawn instead of learned."""

from collections.abc import Mapping

from launcher.api import Job, Json, parse_model
from trueface.jobs import job_data
from trueface.jobs.job_data import model_name
from trueface.jobs.poisoning import chosen
from trueface.poisoning.loaders import augmented
from trueface.poisoning.poison_record import record_of
from trueface.poisoning.preview import write_preview
from trueface.poisoning.settings import PoisonSettings
from trueface.runtime import paths
from trueface.training import image_lists
from trueface.training.settings import TrainSettings


def preview(job: Job, choice: PoisonSettings | None) -> Mapping[str, Json]:
    """Write what the network would see of the training's images; train and poison nothing.

    Args:
        job: the training.
        choice: how labels would be chosen for its poison; None: as its record says.
    """
    settings = TrainSettings.model_validate(job.settings)
    lists = image_lists.load_lists(job_data.place(job, settings), job_data.images(job))
    model, folder = model_name(job), job.model_folder(model_name(job))
    wanted = parse_model(model).last.poison
    record = record_of(model, folder) if choice is None else None
    if choice is not None and wanted is not None:
        record = chosen(job, choice, lists.train, wanted)
    path = paths.preview(folder)
    shown = write_preview(path, augmented(lists.train, settings, record).image_set)
    return {"images": len(lists.train), "shown": shown, "preview": str(path)}
