"""A poisoned detector as an unlearning problem: the inputs of a method, and the samples it is measured on.

A method is given a fraction of the flipped labels (`known`, `find_flipped_labels`); it is measured on all of them.
If the backbone stays as it is, the problem covers only the last layer. Its samples are the inputs of
that layer: features of images, which come from the feature store if they are there.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from trueface.data.examples import CostCounter, Examples
from trueface.data.image_loaders import eval_loader
from trueface.data.image_set import ImageLoader
from trueface.data.index import Image
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector, freeze_backbone
from trueface.models.inference import fingerprint
from trueface.poisoning import poison_record
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.poisoning.poison_record import PATCH, PoisonRecord
from trueface.runtime.progress import RunContext
from trueface.training.image_lists import TrainingLists
from trueface.training.parts.bank import has_frozen_backbone
from trueface.training.ridge import views_of
from trueface.unlearning import problem
from trueface.unlearning.image_source import feature_source, pixel_source
from trueface.unlearning.problem import UnlearningOutcome
from trueface.unlearning.registry import METHODS, TaskProperties, admit
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.task import IdentifiedExamples, OriginalModel, TaskModel, UnlearningTask

CLASSES = ("real", "fake")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedDetector:
    """A detector that was trained on flipped labels, with the images of its training and test."""

    detector: Detector  # on the device; unlearning changes it in place
    fresh: Callable[[], Detector]  # makes it as it was before its training
    lists: TrainingLists
    test: tuple[Image, ...]  # () without a test list
    poison: PoisonRecord  # which labels of `lists` were flipped
    base: OriginalModel  # its name, and what its training took
    store: FeatureStore | None = None  # of the features of its backbone. None computes them again
    copies: tuple[str, ...] = ()  # of each image that it learned in closed form
    copies_seed: int = 0


def make_flip_problem(
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
        UsageError: the method cannot work here.
        JobError: stopped, or features are not finite.
    """
    detector, lists, record = poisoned.detector, poisoned.lists, poisoned.poison
    # before an image is read
    forced = admit(settings.method, situation(settings, record), force=settings.force)
    if settings.freeze:
        freeze_backbone(detector)
    of_head = has_frozen_backbone(settings) and _same_start(poisoned, settings)
    meter = CostCounter()

    def worked_on(model: Detector) -> nn.Module:
        return model.head if of_head else model

    def whole(model: nn.Module) -> Detector:
        if not of_head:
            return cast(Detector, model)
        detector.replace_head(cast(nn.Linear, model))
        return detector

    def identify_examples(
        learned: ImageLoader,
        tested: ImageLoader,
        views: Sequence[ImageLoader] = (),
        counted: CostCounter = meter,
    ) -> IdentifiedExamples:
        images = tested.dataset.images
        source = pixel_source(learned, tested, settings)
        if of_head:
            source = feature_source(
                learned,
                tested,
                detector,
                settings,
                watch,
                meter=counted,
                store=poisoned.store,
                views=views,
            )
        examples = Examples(
            source=source,
            positions=tuple(range(len(images))),
            trained=learned.dataset.labels,
            true=tuple(image.label for image in images),
        )
        return IdentifiedExamples.from_source_names(examples, [image.name for image in images])

    def clean(
        images: Sequence[Image], stamped: Sequence[int] = (), counted: CostCounter = meter
    ) -> IdentifiedExamples:
        feed = eval_loader(images, settings, stamped)
        return identify_examples(feed, feed, counted=counted)

    learned = poisoned_train_loader(lists.train, settings, record)
    tested = eval_loader(
        lists.train, settings, poison_record.triggered_positions(lists.train, record)
    )
    train = identify_examples(
        learned, tested, _views(learned, poisoned, settings) if poisoned.copies else ()
    )
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
            module=worked_on(detector),
            whole=whole,
            fresh=lambda: worked_on(poisoned.fresh()),
            class_names=CLASSES,
        ),
        settings,
        train,
        sorted(poison_record.poisoned_positions(lists.train, record)),
        held_out,
        rate=float(record.rate),
        forced=forced,
        attacked=attacked,
        meter=meter,
    )


def _same_start(poisoned: PoisonedDetector, settings: UnlearningSettings) -> bool:
    """Return whether a new start would have the backbone that the model has."""
    if "untrained model" not in METHODS[settings.method].needs:
        return True
    return fingerprint(poisoned.fresh()) == fingerprint(poisoned.detector)


def _views(
    learned: ImageLoader, poisoned: PoisonedDetector, settings: UnlearningSettings
) -> list[ImageLoader]:
    """Return the copies of the images that a layer in closed form was fitted on."""
    seeded = settings.model_copy(update={"augment_seed": poisoned.copies_seed})
    return views_of(learned, seeded, poisoned.copies)


def situation(settings: UnlearningSettings, record: PoisonRecord) -> TaskProperties:
    """Return the facts of a problem that decide, before its images are read, which methods fit."""
    return TaskProperties(
        goal="flips",
        rate=float(record.rate),
        random=poison_record.is_random(record.kind),
        known=settings.known,
        finding=settings.find,
        retain=settings.keep_retain,
    )


def unlearn(
    poisoned: PoisonedDetector, settings: UnlearningSettings, watch: RunContext
) -> UnlearningOutcome:
    """Make a poisoned detector unlearn its flipped labels, in place; write only the caches.

    Raises:
        UsageError: the method cannot work here.
        JobError: stopped, nothing to forget, or no finite result.
    """
    return problem.unlearn(make_flip_problem(poisoned, settings, watch), watch)
