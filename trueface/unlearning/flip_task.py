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
    poisoned_detector: PoisonedDetector, settings: UnlearningSettings, watch: RunContext
) -> UnlearningTask:
    """Return a poisoned detector, or its last layer, that shall forget the flipped labels.

    The model is measured on every flipped label (forget), the rest (retain), validation, and the test if
    there is one. If the labels were flipped with a patch, the fakes of the test are attacked with it.

    Args:
        poisoned_detector: the detector and its images.
        settings: of the unlearning.
        watch: device, precision, progress, stop.

    Raises:
        JobError: stopped, or features are not finite.
    """
    detector, lists, record = (
        poisoned_detector.detector,
        poisoned_detector.lists,
        poisoned_detector.poison,
    )
    if settings.freeze:
        freeze_backbone(detector)
    of_head = has_frozen_backbone(settings) and _same_start(poisoned_detector, settings)
    meter = CostCounter()

    def build_whole_model(model: nn.Module) -> Detector:
        if not of_head:
            return cast(Detector, model)
        detector.replace_head(cast(nn.Linear, model))
        return detector

    def identify_examples(
        train_loader: ImageLoader,
        test_loader: ImageLoader,
        copies: Sequence[str] = (),
        cost_counter: CostCounter = meter,
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
                meter=cost_counter,
                store=poisoned_detector.store,
                copies=copies,
                copies_seed=poisoned_detector.copies_seed,
            )
        examples = Examples(
            source=source,
            positions=tuple(range(len(images))),
            trained=train_loader.dataset.labels,
            true=tuple(image.label for image in images),
        )
        return IdentifiedExamples(examples=examples, ids=tuple(image.name for image in images))

    def load_clean_examples(
        images: Sequence[Image],
        triggered_rows: Sequence[int] = (),
        cost_counter: CostCounter = meter,
    ) -> IdentifiedExamples:
        feed = eval_loader(images, settings, triggered_rows)
        return identify_examples(feed, feed, cost_counter=cost_counter)

    train_images = poisoned_train_loader(lists.train, settings, record)
    test_images = eval_loader(
        lists.train, settings, poison_record.triggered_positions(lists.train, record)
    )
    train = identify_examples(train_images, test_images, poisoned_detector.copies)
    held_out = {"validation": load_clean_examples(lists.val)}
    # pure measurements do not count as cost of a method
    if poisoned_detector.test:
        held_out["test"] = load_clean_examples(poisoned_detector.test, cost_counter=CostCounter())
    fakes = [image for image in poisoned_detector.test if image.label]
    attacked = None
    if record.kind == PATCH and fakes:
        attacked = load_clean_examples(fakes, range(len(fakes)), CostCounter()).examples
    return UnlearningTask.from_flips(
        TaskModel(
            original=poisoned_detector.base,
            module=detector.head if of_head else detector,
            whole=build_whole_model,
            fresh=(lambda: poisoned_detector.fresh().head) if of_head else poisoned_detector.fresh,
            class_names=CLASSES,
        ),
        settings,
        train,
        sorted(poison_record.poisoned_positions(lists.train, record)),
        held_out,
        rate=float(record.rate),
        random_flips=poison_record.is_random(record.kind),
        attacked_fakes=attacked,
        meter=meter,
    )


def _same_start(poisoned_detector: PoisonedDetector, settings: UnlearningSettings) -> bool:
    """Return whether a new start would have the backbone that the model has."""
    if "untrained model" not in METHODS[settings.method].needs:
        return True
    from trueface.models.inference import fingerprint  # other methods do not need it

    return fingerprint(poisoned_detector.fresh()) == fingerprint(poisoned_detector.detector)
