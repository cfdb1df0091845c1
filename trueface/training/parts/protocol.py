"""A part of a training, and what every part knows of the training that it belongs to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trueface.data.image_set import ImageLoader
from trueface.data.loader import Dataset, Loader
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
    """What is known of a training before its first list of images is read."""

    settings: TrainSettings
    model: str  # ID of the resulting model
    folder: Path  # of that model
    place: DataLocation  # of the images
    path: Callable[[str], Path]  # makes a path of the settings absolute
    start: TrainingStart
    store: FeatureStore | None  # of features for all jobs; None: none, or of no use to it
    watch: RunContext
    group: ProcessGroup  # of the processes that share it


class Part:
    """A feature of trainings: hooks that are called in this order, each of which does nothing by default.

    Args:
        training: that it is a part of.
    """

    identity: ClassVar[tuple[str, ...]] = ()  # facts that decide whether an interrupted one goes on

    def __init__(self, training: TrainingContext) -> None:
        self.training = training

    def lists(self, lists: TrainingLists) -> TrainingLists:
        """Return the images to learn from and to validate on, before any of them is read."""
        return lists

    def images(self, learned: ImageLoader, checked: ImageLoader) -> tuple[ImageLoader, ImageLoader]:
        """Return both sets as they shall be seen: labels, transforms, columns, order."""
        return learned, checked

    def feeds(
        self, learned: Loader[Dataset], checked: Loader[Dataset], model: Detector
    ) -> tuple[Loader[Dataset], Loader[Dataset]]:
        """Return what the model, which is there now, reads by steps in the place of the images."""
        del model
        return learned, checked

    def objective(self, objective: Objective) -> Objective:
        """Return what is minimized in the place of an objective."""
        return objective

    def facts(self) -> Mapping[str, Json]:
        """Return what the provenance says of it; asked after `images`, and again at every save."""
        return {}

    def finish(self, lists: TrainingLists, model: Detector, trained: TrainingResult) -> None:
        """Write further files to the model folder, or extend its checkpoint, in the first process."""

    def result(self) -> Mapping[str, Json]:
        """Return its numbers for the training's result."""
        return {}
