"""A poisoned detector as an unlearning problem: the inputs of a method, and the samples it is measured on.

A method is given a fraction of the flipped labels (`known`, `find_flipped_labels`); it is measured on all of them.
If the backbone stays as it is, the problem covers only the last layer. Its samples are the inputs of
that layer: features of images, which come from the feature store if they are there.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from trueface.data.dataset import ImageLoader, eval_loader
from trueface.data.examples import (
    BATCH_SIZE,
    CostCounter,
    Examples,
    ExampleSource,
    groups,
)
from trueface.data.index import Image
from trueface.features.bank import Bank, feature_matrix
from trueface.features.matrix import Cost, FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector, freeze_backbone
from trueface.models.inference import FrozenBackbone, fingerprint
from trueface.poisoning import poison_record
from trueface.poisoning.loaders import poisoned_train_loader
from trueface.poisoning.poison_record import PATCH, PoisonRecord
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training.image_lists import TrainingLists
from trueface.training.parts.bank import has_frozen_backbone
from trueface.training.ridge import views_of
from trueface.training.settings import LearningSettings
from trueface.unlearning import problem
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


@dataclass(frozen=True)
class Pixels:
    """Images of one list: augmented in epochs, as they are tested otherwise."""

    learned: ImageLoader
    tested: ImageLoader

    @cached_property
    def identity(self) -> str:
        """A checksum of the files in their order and of their processing."""
        settings = self.learned.settings.model_dump(mode="json")
        description = [
            [(image.name, *_stamp(image.file)) for image in self.tested.image_set.images],
            sorted(self.tested.image_set.stamped),
            {
                **self.learned.image_set.transform.id.identity,
                **self.tested.image_set.transform.id.identity,
                "decode": settings.get("decode"),
                "seed": settings.get("seed"),  # of the order
            },
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `examples.ExampleSource`."""
        if not len(positions):
            return
        feed = self.tested if epoch is None else self.learned
        for batch in feed.iter_positions(positions, epoch or 0, batch_size=batch_size):
            yield batch.images, batch.indices


@dataclass(slots=True)
class Features:
    """The inputs of the last layer for images, (B, F), instead of pixels."""

    pixels: Pixels
    body_sha256: str  # what the features follow from besides the images
    eval_features: Tensor  # (N, F) as they are tested; rows of images that cannot be read are nan
    learned: Bank  # as they are augmented
    settings: LearningSettings
    watch: RunContext
    meter: CostCounter
    held: dict[int, Tensor] = field(default_factory=dict)  # augmented ones that repeat
    views: tuple[Bank, ...] = ()  # what epochs see in turn, in the place of `learned`

    @property
    def identity(self) -> str:
        """The identity of the pixels and of the backbone."""
        return f"{self.pixels.identity}/{self.body_sha256}"

    @property
    def period(self) -> int:
        """After how many epochs features come again; 0: never."""
        return len(self.views) or self.pixels.learned.image_set.transform.id.period

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `examples.ExampleSource`."""
        period = self.period
        if epoch is not None and period == 0:  # it never repeats
            if len(positions):
                before = self.learned.cost
                for batch in self.learned.iter_positions(positions, epoch, batch_size=batch_size):
                    before = self._note_saved(before)
                    yield batch.images, batch.indices
                if self.watch.stop.is_set():  # the pass may have ended before its first batch
                    raise JobError(
                        "stopped. Nothing was written, so the next attempt starts from the beginning."
                    )
            return
        rows = self.eval_features if epoch is None else self._view(epoch % period)
        readable = ~rows[:, 0].isnan()
        good = [position for position in positions if readable[position]]
        size = batch_size or BATCH_SIZE
        for places in groups(good, epoch, size, self.settings.seed):
            yield rows[places], places

    def _view(self, number: int) -> Tensor:
        bank = self.views[number] if self.views else self.learned
        if bank.is_test:
            return self.eval_features
        if number not in self.held:
            before = bank.cost
            matrix = bank.full_matrix(number)
            self._note_saved(before, bank)
            self.held[number] = _rows(matrix, len(self.eval_features))
        return self.held[number]

    def _note_saved(self, before: Cost, bank: Bank | None = None) -> Cost:
        """Count the samples that the store saved since, so that a method costs the same with and without it."""
        cost = (bank or self.learned).cost
        self.meter.saved_seconds += cost.saved_s - before.saved_s
        return cost


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
        images, pixels = tested.image_set.images, Pixels(learned, tested)
        source: ExampleSource = pixels
        if of_head:
            source = features_of(
                pixels, detector, settings, watch, meter=counted, store=poisoned.store, views=views
            )
        examples = Examples(
            source=source,
            positions=tuple(range(len(images))),
            trained=learned.image_set.labels,
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


def features_of(
    pixels: Pixels,
    model: Detector,
    settings: LearningSettings,
    watch: RunContext,
    *,
    meter: CostCounter,
    store: FeatureStore | None = None,
    views: Sequence[ImageLoader] = (),
) -> Features:
    """Return the images of `pixels` as features of the model's backbone.

    Args:
        pixels: the images.
        model: the owner of the backbone.
        settings: of the training.
        watch: device, precision, stop.
        meter: counts the images that are read, and the time that it takes, or took for the store.
        store: the feature store of all jobs. None: no store.
        views: the views that epochs read in turn. (): those of `pixels`.

    Raises:
        JobError: stopped, or the features are not finite.
    """
    began = now()
    body = FrozenBackbone(model, device=watch.device, precision=watch.precision)
    matrix = feature_matrix(body, pixels.tested, watch, store=store)
    meter.cached_samples += len(matrix)
    meter.cached_seconds += matrix.cost.seconds
    if matrix.cost.computed:
        meter.making_seconds += now() - began
    return Features(
        pixels=pixels,
        body_sha256=body.sha256,
        eval_features=_rows(matrix, len(pixels.tested)),
        learned=Bank(body, pixels.learned, watch=watch, store=store),
        views=tuple(Bank(body, view, watch=watch, store=store) for view in views),
        settings=settings,
        watch=watch,
        meter=meter,
    )


def _rows(matrix: FeatureMatrix, count: int) -> Tensor:
    """Return (count, F) features; rows of images that could not be read are nan."""
    rows = np.full((count, matrix.features.shape[1]), np.nan, dtype=np.float32)
    rows[matrix.positions] = matrix.features
    return torch.from_numpy(rows)


def _stamp(file: str) -> tuple[int, int]:
    """Return size and modification time of a file, since another image may get the same name."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # it is read as little as it is stamped
        return 0, 0
    return status.st_size, status.st_mtime_ns
