"""A poisoned detector as an unlearning problem: what a method is given, and what it is measured on.

A method is given a fraction of the flipped labels (`known`, `find`); it is measured on all of them.
Where the backbone stays as it is, the problem is one of the last layer, and samples are features.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import nn

from trueface.data.examples import Examples, Label, Meter, Source
from trueface.data.index import Image
from trueface.data.loaders import ExampleFeed, Pass, still
from trueface.features.body import fingerprint
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector, freeze
from trueface.poisoning import poison_record
from trueface.poisoning.loaders import augmented
from trueface.poisoning.poison_record import PATCH, PoisonRecord
from trueface.runtime.progress import Watch
from trueface.runtime.rng import derive
from trueface.training.feature_bank import is_constant
from trueface.training.image_lists import Lists
from trueface.training.ridge.trainer import views_of
from trueface.training.trainer import fit
from trueface.unlearning.applicability import Situation
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.log import Step
from trueface.unlearning.record import Training
from trueface.unlearning.registry import METHODS
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.tasks.image_source import Pixels, features_of

READ = frozenset({"train", "validation"})  # lists that methods read


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedDetector:
    """A detector that was trained on flipped labels, with the images of its training and test."""

    detector: Detector  # on the device; unlearning changes it in place
    fresh: Callable[[], Detector]  # makes it as it was before its training
    lists: Lists
    test: tuple[Image, ...]  # () without a test list
    poison: PoisonRecord  # which labels of `lists` were flipped
    training: Training  # what its training took
    cache: Path  # folder for what later unlearnings of it can use again
    store: FeatureStore | None = None  # of its body's features; None: they are computed anew
    name: str = ""  # its model ID, for the record
    unlearned_name: str = ""  # the model ID of what is made of it
    copies: tuple[str, ...] = ()  # of each image that it learned in closed form
    copies_seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Samples with their true labels, to measure on, and the ID of each."""

    examples: Examples
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSets:
    """The forget set and the retain set, as a method is given them."""

    forget: Examples
    retain: Examples


class Problem:
    """A poisoned detector, or its last layer, with the examples to unlearn and to measure on.

    Args:
        poisoned: the detector and its images.
        settings: of the unlearning.
        watch: device, precision, progress, stop.
    """

    def __init__(
        self, poisoned: PoisonedDetector, settings: UnlearningSettings, watch: Watch
    ) -> None:
        self._poisoned, self._settings, self._watch = poisoned, settings, watch
        self.meter = Meter()
        self.detector = poisoned.detector
        if settings.freeze:
            freeze(self.detector)
        self.of_head = is_constant(settings) and self._same_start()
        train, record = poisoned.lists.train, poisoned.poison
        self._true = tuple(image.label for image in train)
        self._flipped = frozenset(poison_record.positions(train, record))
        learned = augmented(train, settings, record)
        self._trained = learned.image_set.labels
        stamped = poison_record.stamped(train, record)
        views = self._views(learned) if poisoned.copies else []
        tested = still(train, settings, stamped)
        self._train = self._source(Pixels(learned, tested), "train", views)

    @property
    def model(self) -> nn.Module:
        """What the method works on: the detector, or its last layer."""
        return self.detector.head if self.of_head else self.detector

    def whole(self, model: nn.Module) -> Detector:
        """Return the detector that a method's result belongs to."""
        if not self.of_head:
            return cast(Detector, model)
        self.detector.replace_head(cast(nn.Linear, model))
        return self.detector

    def fresh(self) -> nn.Module:
        """Return the model as it was before the base's training, or its last layer."""
        detector = self._poisoned.fresh()
        return detector.head if self.of_head else detector

    def method_sets(self) -> MethodSets:
        """Return the fraction `known` of the flipped examples, and the rest as it was trained."""
        flipped = sorted(self._flipped)
        count = round(len(flipped) * self._settings.known)
        draw = random.Random(derive("known", self._settings.seed))
        forget = frozenset(draw.sample(flipped, count))
        rest = [place for place in range(len(self._true)) if place not in forget]
        retain = self._examples(rest)
        # the hidden flips among them pass for true labels
        as_trained = replace(retain, true=retain.trained)
        return MethodSets(forget=self._examples(sorted(forget)), retain=as_trained)

    def is_flipped(self, position: int) -> bool:
        """Return whether the label of a training image was flipped."""
        return position in self._flipped

    def parts(self) -> dict[str, Part]:
        """Return what is measured: forget (every flipped label), retain, validation, test if any."""
        unflipped = [place for place in range(len(self._true)) if place not in self._flipped]
        lists = self._poisoned.lists
        parts = {
            "forget": self._part(self._examples(sorted(self._flipped)), lists.train),
            "retain": self._part(self._examples(unflipped), lists.train),
            "validation": self._clean(lists.val, "validation"),
        }
        if self._poisoned.test:
            parts["test"] = self._clean(self._poisoned.test, "test")
        return parts

    def attack(self) -> Examples | None:
        """Return the fakes of the test list with the backdoor's patch on; None without one."""
        fakes = [image for image in self._poisoned.test if image.label]
        if self._poisoned.poison.kind != PATCH or not fakes:
            return None
        return self._clean(fakes, "attacked", stamped=range(len(fakes))).examples

    def learn(
        self,
        model: nn.Module,
        samples: Examples,
        label: Label,
        *,
        validation: Examples,
        options: TrainingOptions,
        watch: Watch,
    ) -> tuple[Step, ...]:
        """Train as the base was trained; see `plain_training.Learn`."""
        detector = self.whole(model)
        changed = {"num_epochs": options.epochs, "lr": options.lr}
        given = {key: value for key, value in changed.items() if value is not None}
        trained = fit(
            detector,
            ExampleFeed(samples, label),
            ExampleFeed(validation, "trained", augmented=False),
            self._settings.model_copy(update=given).trainer,
            watch=watch,
        )
        return tuple(
            Step(
                step=epoch.epoch,
                metrics={
                    "loss": epoch.loss,
                    "accuracy": epoch.accuracy,
                    "val_loss": epoch.val_loss,
                    "val_accuracy": epoch.val_accuracy,
                },
            )
            for epoch in trained.epochs
        )

    def _same_start(self) -> bool:
        """Return whether a new start would have the backbone that the model has."""
        if "untrained model" not in METHODS[self._settings.method].needs:
            return True
        return fingerprint(self._poisoned.fresh()) == fingerprint(self.detector)

    def _views(self, learned: Pass) -> list[Pass]:
        """Return the copies of the images that a layer in closed form was fitted on."""
        poisoned = self._poisoned
        settings = self._settings.model_copy(update={"augment_seed": poisoned.copies_seed})
        return views_of(learned, settings, poisoned.copies)

    def _source(self, pixels: Pixels, what: str, views: Sequence[Pass] = ()) -> Source:
        if not self.of_head:
            return pixels
        # what is measured alone is no cost of a method
        meter = self.meter if what in READ else Meter()
        return features_of(
            pixels, self.detector, self._settings, self._watch,
            meter=meter, store=self._poisoned.store, views=views,
        )  # fmt: skip

    def _examples(self, positions: Sequence[int]) -> Examples:
        return Examples(
            source=self._train,
            positions=tuple(positions),
            trained=tuple(self._trained[position] for position in positions),
            true=tuple(self._true[position] for position in positions),
        )

    def _part(self, examples: Examples, images: Sequence[Image]) -> Part:
        ids = tuple(images[place].name for place in examples.positions)
        return Part(examples=examples, ids=ids)

    def _clean(self, images: Sequence[Image], what: str, stamped: Sequence[int] = ()) -> Part:
        feed = still(images, self._settings, stamped)
        labels = tuple(image.label for image in images)
        examples = Examples(
            source=self._source(Pixels(feed, feed), what),
            positions=tuple(range(len(images))),
            trained=labels,
            true=labels,
        )
        return self._part(examples, images)


def situation(settings: UnlearningSettings, record: PoisonRecord) -> Situation:
    """Return the facts of a problem that decide, before its images are read, which methods fit."""
    return Situation(
        goal="flips",
        rate=float(record.rate),
        random=poison_record.is_random(record.kind),
        known=settings.known,
        finding=settings.find,
        retain=settings.keep_retain,
    )
