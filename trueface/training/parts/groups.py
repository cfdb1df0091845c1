"""The groups of a training's images: read from the tables in its settings, and added to its batches."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from trueface.data.attribute_table import (
    FORGERY_GROUP,
    GROUPS_BY,
    UNKNOWN,
    AttributeCounts,
    group_indices,
    sorted_group_names,
)
from trueface.data.attributes import Attributes, attribute_files, paths_below
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.pass_order import Order
from trueface.data.settings import ATTRIBUTE_COLUMNS
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.training.cells import image_subgroup_ids
from trueface.training.config import DEMOGRAPHIC
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part
from trueface.training.provenance import attributes_provenance
from trueface.training.settings import TrainSettings

log = logging.getLogger(__name__)


@register_part("groups", chosen_by=("attributes",))
class GroupColumns(Part):
    """Adds columns from tables of attributes, and draws images by cell if the objective requires it."""

    identity: ClassVar[tuple[str, ...]] = ("attributes_sha256",)
    _facts: Mapping[str, Json] = {}

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return both loaders with the columns, and the training images with the cells to draw by.

        Raises:
            DataError: a table has an error (the message contains file and line), or images have no row.
            JobError: the objective needs a column, and the settings name no table.
        """
        settings, root = self.training.settings, self.training.place.data_root
        files = attribute_files(settings.attributes, self.training.path)
        known = Attributes(files, root) if files else None
        sets = train_loader.dataset, validation_loader.dataset
        self._facts = attach_group_columns(known, settings, root, *sets, settings.columns_read)
        cells = _cells(train_loader.dataset, settings)
        return replace(
            train_loader, order=Order(seed=train_loader.order.seed, cells=cells)
        ), validation_loader

    def facts(self) -> Mapping[str, Json]:
        """Return digests of the tables, and the number of images of each group."""
        return self._facts


def attach_group_columns(
    attributes: Attributes | None,
    settings: TrainSettings,
    data_root: Path,
    training: ImageSet,
    validation: ImageSet,
    column_names: Collection[str],
) -> dict[str, Json]:
    """Attach columns from tables of attributes to the batches of a training and its validation.

    `demographic` is the index of an image's group among the sorted groups of both sets in the
    column `groups_by`. Both sets get it if there is such a column. `forgery` is the number in
    spe_label, 0 for a real image. Both sets get it if it is needed. With `missing_attributes: skip`
    images without a value are a separate group, the last one.

    Args:
        attributes: attributes of the images, or None if the settings name no table.
        settings: settings of the training.
        data_root: absolute path of the data root.
        training: training images.
        validation: validation images.
        column_names: columns of batches that the objective reads.

    Returns:
        The entries of the columns in the provenance, or {} without attributes.

    Raises:
        JobError: a column is needed, and the settings name no table.
        UnknownName: no table has a column that is needed.
        DataError: images have no row and are not a separate group.
    """
    columns = [name for name in ATTRIBUTE_COLUMNS if name in column_names]
    if attributes is None:
        if columns:
            raise JobError(
                f"the objective needs the {' and '.join(columns)} of each image. Name the CSV file "
                "with these columns in attributes."
            )
        return {}
    facts = attributes_provenance(attributes.files)
    by, missing = settings.groups_by, settings.missing_attributes
    if DEMOGRAPHIC in columns or by in attributes.columns or by != GROUPS_BY:
        of_both = [
            attributes.values(by, paths_below(images.images, data_root), missing=missing)
            for images in (training, validation)
        ]
        names = sorted_group_names([group for groups in of_both for group in groups])
        for images, groups in zip((training, validation), of_both, strict=True):
            images.attach_column(DEMOGRAPHIC, group_indices(groups, names), names)
        cells = AttributeCounts.from_groups(of_both[0], [image.label for image in training.images])
        log.info("groups_by=%s groups=%s", by, _format_cell_counts(cells))
        facts["train_groups"] = {name: list(counts) for name, counts in cells.counts.items()}
    if FORGERY_GROUP in columns:
        names = (*attributes.forgeries, UNKNOWN)
        for images in (training, validation):
            paths = paths_below(images.images, data_root)
            forgeries = attributes.values(FORGERY_GROUP, paths, missing=missing)
            known = names if None in forgeries else names[:-1]
            images.attach_column(FORGERY_GROUP, group_indices(forgeries, names), known)
    return facts


def _cells(images: ImageSet, settings: TrainSettings) -> tuple[int, ...] | None:
    """Return the cell of each training image, or None if images are not drawn by cell."""
    if settings.balances_classes:
        return images.labels
    return image_subgroup_ids(images, settings.fair) if settings.balances_subgroups else None


def _format_cell_counts(cells: AttributeCounts) -> str:
    return " ".join(f"{name}:{real}+{fake}" for name, (real, fake) in cells.counts.items())
