"""The groups of a job's images: read from the tables that its settings name, checked, and given to the batches of a training."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from launcher.api import Job, JobError, Json
from trueface.data.attributes.attributes import Attributes, attribute_files, paths_below
from trueface.data.attributes.table import FORGERY_GROUP, GROUPS_BY, UNKNOWN, Cells, named, numbered
from trueface.data.dataset import ImageSet
from trueface.data.index import Image
from trueface.data.settings import ATTRIBUTE_COLUMNS, DataSettings
from trueface.training import provenance
from trueface.training.fairness_settings import DEMOGRAPHIC
from trueface.training.settings import TrainSettings

log = logging.getLogger(__name__)


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


def checked_attributes(
    job: Job, settings: DataSettings, images: Sequence[Image]
) -> dict[str, Json]:
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


def give_groups(
    attributes: Attributes | None,
    settings: TrainSettings,
    data_root: Path,
    training: ImageSet,
    validation: ImageSet,
    needed: Collection[str],
) -> dict[str, Json]:
    """Give the batches of a training and its validation the columns that tables of attributes say.

    `demographic` is the place of an image's group among the sorted groups of both sets by the column
    `groups_by`; both get it wherever there is such a column. `forgery` is the number in spe_label, 0 of
    a real image; both get it where it is needed. With `missing_attributes: skip` images without a value
    are a further group, the last one.

    Args:
        attributes: of the images; None: no table is named.
        settings: of the training.
        data_root: absolute.
        training: images to learn from.
        validation: images to validate on.
        needed: columns of batches that the objective reads.

    Returns:
        What the provenance says of them; {} without attributes.

    Raises:
        JobError: a column is needed, and no table is named.
        UnknownName: no table has a column that is needed.
        DataError: images without a row, unless they are a group of their own.
    """
    wanted = [name for name in ATTRIBUTE_COLUMNS if name in needed]
    if attributes is None:
        if wanted:
            raise JobError(
                f"the objective needs {' and '.join(wanted)} of each image: name the CSV file that "
                "says it as `attributes`"
            )
        return {}
    facts = provenance.of_attributes(attributes.files)
    by, missing = settings.groups_by, settings.missing_attributes
    if DEMOGRAPHIC in wanted or by in attributes.columns or by != GROUPS_BY:
        of_both = [
            attributes.values(by, paths_below(images.images, data_root), missing=missing)
            for images in (training, validation)
        ]
        names = named([group for groups in of_both for group in groups])
        for images, groups in zip((training, validation), of_both, strict=True):
            images.give_column(DEMOGRAPHIC, numbered(groups, names), names)
        cells = Cells.of(of_both[0], [image.label for image in training.images])
        log.info("groups_by=%s groups=%s", by, _shown(cells))
        facts["train_groups"] = {name: list(counts) for name, counts in cells.counts.items()}
    if FORGERY_GROUP in wanted:
        names = (*attributes.forgeries, UNKNOWN)
        for images in (training, validation):
            paths = paths_below(images.images, data_root)
            forgeries = attributes.values(FORGERY_GROUP, paths, missing=missing)
            known = names if None in forgeries else names[:-1]
            images.give_column(FORGERY_GROUP, numbered(forgeries, names), known)
    return facts


def _shown(cells: Cells) -> str:
    return " ".join(f"{name}:{real}+{fake}" for name, (real, fake) in cells.counts.items())
