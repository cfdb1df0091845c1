"""A job's images, models and folders on this disk, and its progress. No torch here."""

from collections.abc import Callable
from pathlib import Path

from launcher.api import Job, JobError
from trueface.data.clips import Clips
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.data.splits.split_files import SplitList
from trueface.runtime import paths
from trueface.runtime.ids import DataId
from trueface.training import image_lists
from trueface.training.image_lists import DataLocation


def load_split_images(
    job: Job, settings: PlaceSettings, data: DataId, name: str, clips: Clips | None = None
) -> tuple[tuple[Image, ...], SplitList]:
    """Return the images of one list of the split, or their clips, and the list.

    Raises:
        DataError: see `image_lists.load_lists`.
    """
    return image_lists.load_list(data_location(job, settings), data, name, clips)


def data_location(job: Job, settings: PlaceSettings) -> DataLocation:
    """Return the location of a job's images."""
    return DataLocation.from_place_settings(settings, job.words, job.path)


def job_data_id(job: Job) -> DataId:
    """Return which images the job's last stage means, real ones included."""
    return image_lists.data_of(job.images, job.model, job.words)


def model_name(job: Job) -> str:
    """Return the ID of the job's model.

    Raises:
        JobError: it has none.
    """
    if job.model is None:
        raise JobError(f"job {job.name} of type {job.kind} has no model")
    return job.model


def folder_of(job: Job) -> Path:
    """Return the folder of the job's model.

    Raises:
        JobError: it has none.
    """
    return job.model_folder(model_name(job))


def checkpoint_of(job: Job, model: str) -> Path:
    """Return the path of the checkpoint of another model of a job's run."""
    return paths.checkpoint(job.model_folder(model))


def output_folder_of_job(job: Job) -> Path:
    """Return the folder that a job of the role FOLDER makes.

    Raises:
        JobError: it was planned without one.
    """
    if not job.outputs:
        raise JobError(f"{job.name} has no folder to write. Run it from a task file.")
    return Path(job.outputs[0])


def progress_callback(job: Job, noun: str = "images") -> Callable[[int, int], None]:
    """Return a progress callback for the creation of a dataset, which raises an error on a stop."""

    def progress(count: int, total: int) -> None:
        if total:
            job.progress(step=count, total=total)
        else:
            job.progress(step=0, waiting="another process writes the folder")
        if job.stop.is_set():
            raise JobError(
                f"stopped after {count} of {total} {noun}. The next attempt starts from the beginning."
            )

    return progress
