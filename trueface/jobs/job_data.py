"""The images of a job: which ones its data and its split mean on this disk."""

from launcher.api import Job, JobError
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.data.splits import SplitList
from trueface.runtime.ids import DataId
from trueface.training import image_lists
from trueface.training.image_lists import DataPlace


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
