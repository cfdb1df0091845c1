"""A poisoned detector as an unlearning problem: what a method is told, and what is true besides.

A method is told of the wrong labels that are known (`known`, `find`); it is measured on all of them.
Where the body stays as it is the problem is one of the last layer, and samples are features.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from launcher.api import Job
from trueface.data.examples import Examples, Label, Meter, Source
from trueface.data.index import Image
from trueface.data.loaders import ExampleFeed, still
from trueface.models.detectors import Detector, freeze
from trueface.poisoning import label_flips as poisoning
from trueface.poisoning.label_flips import PATCH, PoisonRecord
from trueface.poisoning.loaders import augmented
from trueface.runtime.errors import DataError
from trueface.runtime.ids import parse_model
from trueface.runtime.progress import Watch
from trueface.runtime.rng import derive
from trueface.training.feature_bank import is_constant
from trueface.training.image_lists import Lists, Place, data_of, load_list
from trueface.training.initialization import Start, load_start
from trueface.training.trainer import fit
from trueface.unlearning.applicability import Situation
from trueface.unlearning.cache import Cache
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.log import Step
from trueface.unlearning.registry import METHODS
from trueface.unlearning.settings import UnlearningSettings
from trueface.unlearning.tasks.image_source import Pixels, body_fingerprint, features_of

READ = frozenset({"train", "validation"})  # lists that methods read

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Samples with the truth, to measure on, and what each is called."""

    some: Examples
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a method is told."""

    forget: Examples
    retain: Examples


class Problem:
    """One poisoned detector, its images, and which labels of them are wrong.

    Args:
        job: the unlearning; its base is the detector.
        settings: of the job.
        found: the images of the base's training.
        record: which of their labels are wrong.
        watch: device, precision, progress, stop.
    """

    def __init__(
        self,
        job: Job,
        settings: UnlearningSettings,
        found: Lists,
        record: PoisonRecord,
        watch: Watch,
    ) -> None:
        self._job, self._settings, self._found, self._record = job, settings, found, record
        self._watch, self.meter = watch, Meter()
        self.detector = self._start(job.base)
        if settings.freeze:
            freeze(self.detector)
        self.cache_folder = job.model_folder(job.base or "") / "cache"
        self.of_head = is_constant(settings) and self._same_start()
        self._true = tuple(image.label for image in found.train)
        self._wrong = frozenset(poisoning.positions(found.train, record))
        learned = augmented(found.train, settings, record)
        self._trained = learned.image_set.labels
        stamped = poisoning.stamped(found.train, record)
        self._train = self._source(Pixels(learned, still(found.train, settings, stamped)), "train")

    @property
    def model(self) -> nn.Module:
        """What the method works on: the detector, or its last layer."""
        return self.detector.last if self.of_head else self.detector

    def whole(self, model: nn.Module) -> Detector:
        """Return the detector that a method's result belongs to."""
        if not self.of_head:
            return cast(Detector, model)
        self.detector.take_last(cast(nn.Linear, model))
        return self.detector

    def fresh(self) -> nn.Module:
        """Return the model as it was before the base's training, or its last layer."""
        made = self._begun()
        return made.last if self.of_head else made

    def told(self) -> Told:
        """Return what is known to be wrong, and the rest as it was trained."""
        wrong = sorted(self._wrong)
        count = round(len(wrong) * self._settings.known)
        draw = random.Random(derive("known", self._settings.seed))
        known = frozenset(draw.sample(wrong, count))
        rest = [place for place in range(len(self._true)) if place not in known]
        retain = self._examples(rest)
        believed = Examples(
            source=retain.source,
            positions=retain.positions,
            trained=retain.trained,
            true=retain.trained,  # nobody knows better
        )
        return Told(forget=self._examples(sorted(known)), retain=believed)

    def is_wrong(self, position: int) -> bool:
        """Tell whether the label of a training image was turned round."""
        return position in self._wrong

    def parts(self) -> dict[str, Part]:
        """Return what is measured: forget (every wrong label), retain, validation, test if any."""
        sound = [place for place in range(len(self._true)) if place not in self._wrong]
        train = self._found.train
        parts = {
            "forget": self._part(self._examples(sorted(self._wrong)), train),
            "retain": self._part(self._examples(sound), train),
            "validation": self._clean(self._found.val, "validation"),
        }
        test = self._test_images()
        if test:
            parts["test"] = self._clean(test, "test")
        return parts

    def attack(self) -> Examples | None:
        """Return the fakes of the test list with the backdoor's patch on; None without one."""
        fakes = [image for image in self._test_images() if image.label]
        if self._record.kind != PATCH or not fakes:
            return None
        return self._clean(fakes, "attacked", stamped=range(len(fakes))).some

    def learn(
        self,
        model: nn.Module,
        some: Examples,
        which: Label,
        *,
        validation: Examples,
        options: TrainingOptions,
        watch: Watch,
    ) -> tuple[Step, ...]:
        """Train as the base was trained; see `unlearn.learning.Learn`."""
        detector = self.whole(model)
        changed = {"num_epochs": options.epochs, "lr": options.lr}
        given = {key: value for key, value in changed.items() if value is not None}
        trained = fit(
            detector,
            ExampleFeed(some, which),
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
        """Tell whether a new start would have the body that the model has."""
        if not METHODS[self._settings.method].fresh:
            return True
        return body_fingerprint(self._begun()) == body_fingerprint(self.detector)

    def _begun(self) -> Detector:
        before = parse_model(self._job.base or "").stages[:-1]
        return self._start("#".join(map(str, before)) or None)

    def _start(self, base: str | None) -> Detector:
        job, settings = self._job, self._settings
        start = Start.of(settings, base, path=job.path, model_folder=job.model_folder)
        return load_start(start, settings, job.device)

    def _source(self, pixels: Pixels, what: str) -> Source:
        if not self.of_head:
            return pixels
        # what is measured alone is no cost of a method
        meter = self.meter if what in READ else Meter()
        cache = Cache(self.cache_folder / what, meter)
        return features_of(pixels, self.detector, self._settings, cache, self._watch, meter=meter)

    def _examples(self, positions: Sequence[int]) -> Examples:
        return Examples(
            source=self._train,
            positions=tuple(positions),
            trained=tuple(self._trained[position] for position in positions),
            true=tuple(self._true[position] for position in positions),
        )

    def _part(self, some: Examples, images: Sequence[Image]) -> Part:
        return Part(some=some, ids=tuple(images[place].name for place in some.positions))

    def _clean(self, images: Sequence[Image], what: str, stamped: Sequence[int] = ()) -> Part:
        feed = still(images, self._settings, stamped)
        labels = tuple(image.label for image in images)
        some = Examples(
            source=self._source(Pixels(feed, feed), what),
            positions=tuple(range(len(images))),
            trained=labels,
            true=labels,
        )
        return self._part(some, images)

    def _test_images(self) -> tuple[Image, ...]:
        job = self._job
        try:
            place = Place.of(self._settings, job.words, job.path)
            return load_list(place, data_of(job.images, job.model, job.words), "test")[0]
        except DataError as error:  # no such list, or nothing of these parts in it
            log.warning("test=none reason=%s", error)
            return ()


def situation(settings: UnlearningSettings, record: PoisonRecord) -> Situation:
    """Return what is known of a problem before its images are read: which methods fit it?"""
    return Situation(
        goal="flips",
        rate=float(record.rate),
        random=poisoning.is_random(record.kind),
        known=settings.known,
        finding=settings.find,
        retain=settings.keep_retain,
    )
