"""Loaders for a training on images in several qualities, with pixels or features.

See `training.collaboration` for the dependence between the features of different qualities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from trueface.data.index import Image
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import Dataset, Loader
from trueface.data.qualities import SOURCE_ADVICE, QualityList, files_of
from trueface.data.quality_feed import ChunkedSet, QualitySet, qualities_of, with_qualities
from trueface.features.bank import FeatureSet
from trueface.models.detectors import Detector
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, file_sha256
from trueface.training.collaboration import CollaborationObjective
from trueface.training.objectives.protocol import Objective
from trueface.training.objectives.registry import objectives
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part
from trueface.training.settings import TrainSettings


@register_part(
    "qualities",
    chosen_by=("qualities", "quality_list"),
    conflicts={
        "ridge": "qualities: {model} is fitted in closed form and learns its own corrupted copies "
        "(copies). Leave qualities and collab out, or set solver: gradient.",
    },
)
class Qualities(Part):
    """Adds the qualities of the training to its images."""

    identity: ClassVar[tuple[str, ...]] = ("quality_list_sha256",)

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return the loaders, with all qualities of the training images.

        Raises:
            DataError: the list of files does not fit the images, or the objective.
        """
        return with_qualities_of(
            train_loader, self.training.settings, self.training.path
        ), validation_loader

    def feeds(
        self, train_loader: Loader[Dataset], validation_loader: Loader[Dataset], model: Detector
    ) -> tuple[Loader[Dataset], Loader[Dataset]]:
        """Return the loaders, with a row for each quality of a training image."""
        del model
        return rows_of(train_loader, self.training.settings), validation_loader

    def facts(self) -> Mapping[str, Json]:
        """Return the digest of the list of files, if there is one."""
        path = self.training.settings.quality_list
        return {"quality_list_sha256": file_sha256(self.training.path(path))} if path else {}


@register_part(
    "collab",
    chosen_by=("collab",),
    conflicts={
        "compile": "collab cannot be used with compile: true, which hides the features of layers. Leave "
        "compile out.",
        "shards": "collab measures the dependence within a whole batch and cannot be used with several "
        "processes. Set gpus: 1, or leave processes out.",
    },
)
class CollaborationPart(Part):
    """Adds the dependence between the features of different qualities to the objective."""

    def objective(self, objective: Objective) -> Objective:
        """Return the objective with the additional term."""
        options = self.training.settings.collaboration
        return objective if options is None else CollaborationObjective(objective, options)


def with_qualities_of(
    images: ImageLoader, settings: TrainSettings, path: Callable[[str], Path]
) -> ImageLoader:
    """Return the training images in the qualities of the settings, or unchanged if there are none.

    Args:
        images: training images with their augmentation.
        settings: settings of the training.
        path: function that makes a path of the settings absolute.

    Raises:
        DataError: the list of files does not fit the images, or the objective.
    """
    if not settings.quality_names:
        return images
    partners = None
    if settings.quality_list:
        partners = QualityList.read(path(settings.quality_list))
    qualities = qualities_of(settings.quality_names, images.dataset.images, partners)
    if partners is not None and objectives()[settings.objective].pairs:
        _refuse_own_sources(images.dataset.images, settings, partners)
    return with_qualities(images, qualities, settings.quality_batch)


def _refuse_own_sources(
    images: Sequence[Image], settings: TrainSettings, partners: QualityList
) -> None:
    """Refuse a fake that is its own real image, for an objective that compares the two."""
    words = filter(None, map(files_of, settings.quality_names))
    for image in filter(None, (partners.own_source(images, word) for word in words)):
        raise DataError(
            f"objective: {settings.objective}: fake {image.file} is its own real image in {partners.path}. "
            f"{SOURCE_ADVICE}"
        )


def rows_of(images: Loader[Dataset], settings: TrainSettings) -> Loader[Dataset]:
    """Return a loader of the images from `with_qualities_of`, or of their features, with a row per quality."""
    dataset = images.dataset
    if not settings.quality_names or isinstance(dataset, ChunkedSet):
        return images
    assert isinstance(dataset, ImageSet | FeatureSet)
    rows = QualitySet(dataset, dataset.image_set, settings.quality_batch)
    return replace(images, dataset=rows)
