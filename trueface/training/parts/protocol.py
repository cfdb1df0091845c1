"""The interface of a part of a training, and the context that all parts share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.loader import Dataset, Loader
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext
from trueface.training.checkpointing import TrainingStart
from trueface.training.distributed import ProcessGroup
from trueface.training.image_lists import DataLocation, TrainingLists
from trueface.training.objectives.protocol import Objective
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingContext:
    """The facts on a training that are known before images are listed."""

    settings: TrainSettings
    model: str  # ID of the resulting model
    folder: Path  # folder of that model
    place: DataLocation  # location of the images
    path: Callable[[str], Path]  # makes a path of the settings absolute
    start: TrainingStart
    teacher: Path | None  # checkpoint of the teacher; None if the settings name none
    store: FeatureStore | None  # feature store of all jobs; None if absent or not applicable
    watch: RunContext
    group: ProcessGroup  # processes of the training


class Part:
    """A part of a training. Its hooks are called in the order below. By default they do nothing.

    Args:
        training: context of the training.
    """

    # names of facts that must be equal to resume a training
    identity: ClassVar[tuple[str, ...]] = ()

    def __init__(self, training: TrainingContext) -> None:
        self.training = training

    def lists(self, lists: TrainingLists) -> TrainingLists:
        """Return the lists of training and validation images, before images are read."""
        return lists

    def images(
        self, train_loader: ImageLoader, validation_loader: ImageLoader
    ) -> tuple[ImageLoader, ImageLoader]:
        """Return the loaders of training and validation, with changed labels, transforms, columns or order."""
        return train_loader, validation_loader

    def feeds(
        self, train_loader: Loader[Dataset], validation_loader: Loader[Dataset], model: Detector
    ) -> tuple[Loader[Dataset], Loader[Dataset]]:
        """Return loaders that replace the images as the input of the model."""
        del model
        return train_loader, validation_loader

    def objective(self, objective: Objective) -> Objective:
        """Return the objective, or one that replaces it."""
        return objective

    def facts(self) -> Mapping[str, Json]:
        """Return the facts for the provenance. It is called after `images`, and at every save."""
        return {}

    def finish(self, lists: TrainingLists, model: Detector, result: TrainingResult) -> None:
        """Write further files to the model folder, or extend its checkpoint. Only the first process calls it."""

    def result(self) -> Mapping[str, Json]:
        """Return the values for the result of the training."""
        return {}
