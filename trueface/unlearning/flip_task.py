"""A poisoned detector as an unlearning task: the inputs of a method, and the samples it is measured on.

A method is given a fraction of the flipped labels (`known`, `find_flipped_labels`); it is measured on all of them.
If the backbone stays as it is, the task covers only the last layer. Its samples are the inputs of
that layer: features of images, which come from the feature store if they are there.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import nn

from trueface.data.examples import CostCounter, Examples
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.models.detectors import Detector, freeze_backbone
from trueface.poisoning import poison_record
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.poisoning.poison_record import PATCH, PoisonRecord
from trueface.runtime.progress import RunContext
from trueface.training.image_lists import TrainingLists
from trueface.training.settings import has_frozen_backbone
from trueface.unlearning.image_source import pixel_source
from trueface.unlearning.registry import METHODS
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.task import IdentifiedExamples, OriginalModel, TaskModel, UnlearningTask

if TYPE_CHECKING:  # a network whose backbone learns has no stored features
    from trueface.features.store import FeatureStore

CLASSES = ("real", "fake")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedDetector:
    """A detector that was trained on flipped labels, with the images of its training and test."""

    detector: Detector  # on the device; unlearning changes it in place
    fresh: Callable[[], Detector]  # makes it as it was before its training
    lists: TrainingLists
    test: tuple[Image, ...]  # () without a test list
    poison: PoisonRecord  # flipped labels of `lists`
    base: OriginalModel  # its name, and what its training took
    store: "FeatureStore | None" = None  # the features of its backbone. None computes them again
    copies: tuple[str, ...] = ()  # copies of each image that it learned in closed form
    copies_seed: int = 0


def make_flip_task(
    poisoned: PoisonedDetector, settings: UnlearningSettings, watch: RunContext
) -> UnlearningTask:
    """Return a poisoned detector, or its last layer, that shall forget the flipped labels.

    The model is measured on every flipped label (forget), the rest (retain), validation, and the test if
    there is one. If the labels were flipped with a patch, the fakes of the test are attacked with it.

    Args:
        poisoned: the detector and its images.
        settings: of the unlearning.
        watch: device, precision, progress, stop.

    Raises:
        JobError: stopped, or features are not finite.
    """
    detector, lists, record = poisoned.detector, poisoned.lists, poisoned.poison
    if settings.freeze:
        freeze_backbone(detector)
    of_head = has_frozen_backbone(settings) and _same_start(poisoned, settings)
    meter = CostCounter()

    def whole(model: nn.Module) -> Detector:
        if not of_head:
            return cast(Detector, model)
        detector.replace_head(cast(nn.Linear, model))
        return detector

    def identify_examples(
        train_loader: ImageLoader,
        test_loader: ImageLoader,
        copies: Sequence[str] = (),
        counted: CostCounter = meter,
    ) -> IdentifiedExamples:
        images = test_loader.dataset.images
        if not of_head:
            source = pixel_source(train_loader, test_loader, settings)
        else:
            from trueface.unlearning.head_features import feature_source

            source = feature_source(
                train_loader,
                test_loader,
                detector,
                settings,
                watch,
                meter=counted,
                store=poisoned.store,
                copies=copies,
                copies_seed=poisoned.copies_seed,
            )
        examples = Examples(
            source=source,
            positions=tuple(range(len(images))),
            trained=train_loader.dataset.labels,
            true=tuple(image.label for image in images),
        )
        return IdentifiedExamples(examples=examples, ids=tuple(image.name for image in images))

    def clean(
        images: Sequence[Image], stamped: Sequence[int] = (), counted: CostCounter = meter
    ) -> IdentifiedExamples:
        feed = eval_loader(images, settings, stamped)
        return identify_examples(feed, feed, counted=counted)

    train_images = poisoned_train_loader(lists.train, settings, record)
    test_images = eval_loader(
        lists.train, settings, poison_record.triggered_positions(lists.train, record)
    )
    train = identify_examples(train_images, test_images, poisoned.copies)
    held_out = {"validation": clean(lists.val)}
    # pure measurements do not count as cost of a method
    if poisoned.test:
        held_out["test"] = clean(poisoned.test, counted=CostCounter())
    fakes = [image for image in poisoned.test if image.label]
    attacked = None
    if record.kind == PATCH and fakes:
        attacked = clean(fakes, range(len(fakes)), CostCounter()).examples
    return UnlearningTask.from_flips(
        TaskModel(
            original=poisoned.base,
            module=detector.head if of_head else detector,
            whole=whole,
            fresh=(lambda: poisoned.fresh().head) if of_head else poisoned.fresh,
            class_names=CLASSES,
        ),
        settings,
        train,
        sorted(poison_record.poisoned_positions(lists.train, record)),
        held_out,
        rate=float(record.rate),
        random_flips=poison_record.is_random(record.kind),
        attacked=attacked,
        meter=meter,
    )


def _same_start(poisoned: PoisonedDetector, settings: UnlearningSettings) -> bool:
    """Return whether a new start would have the backbone that the model has."""
    if "untrained model" not in METHODS[settings.method].needs:
        return True
    from trueface.models.inference import fingerprint  # other methods do not need it

    return fingerprint(poisoned.fresh()) == fingerprint(poisoned.detector)
