"""The tables of attributes that a job's settings name."""

from collections.abc import Sequence
from pathlib import Path

from launcher.api import Job, Json
from trueface.data.attributes.attributes import Attributes, attribute_files, paths_below
from trueface.data.index import Image
from trueface.data.settings import DataSettings
from trueface.training import provenance


def attributes_of(job: Job, settings: DataSettings) -> Attributes | None:
    """Return the attributes of a job's images; None where its settings name no table.

    Raises:
        DataError: what is wrong in a table, with file and line.
    """
    files = files_of(job, settings)
    return Attributes.read(files, job.path(settings.data_root)) if files else None


def files_of(job: Job, settings: DataSettings) -> tuple[Path, ...]:
    """Return the tables that a job's settings name."""
    return attribute_files(settings.attributes, job.path)


def checked(job: Job, settings: DataSettings, images: Sequence[Image]) -> dict[str, Json]:
    """Read the attributes of a test's images, and return what is written of them beside its results.

    No score depends on them: what is wrong with them is said before images are scored.

    Raises:
        DataError: what is wrong in a table; or images without a row, unless they shall be passed over.
    """
    attributes = attributes_of(job, settings)
    if attributes is None:
        return {}
    paths = paths_below(images, job.path(settings.data_root))
    attributes.check(paths, missing=settings.missing_attributes)
    return provenance.of_attributes(attributes.files)
