"""A class, or a fraction of the images, as an unlearning problem of a network of classes."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from trueface.data.class_images import ClassLists, ClassPixels
from trueface.models.detectors import Classifier, build_classifier
from trueface.models.registry import Shape
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import derive
from trueface.unlearning.problem import Base, Done, MethodSets, NamedExamples, Problem, ProblemFacts
from trueface.unlearning.settings import ForgettingSettings


class ClassProblem(Problem):
    """A network that shall forget one class more, or some of its images.

    Args:
        model: as it was trained, on the device; unlearning changes it in place.
        shape: of the network.
        lists: the images of its training and test.
        settings: of the unlearning.
        base: its name, and what its training took.
        forgotten: the class that shall go; None: a fraction of the images, see the settings.
        earlier: classes that it was made to forget before.
        device: where images and new networks are put.
    """

    settings: ForgettingSettings

    def __init__(
        self,
        model: Classifier,
        shape: Shape,
        lists: ClassLists,
        settings: ForgettingSettings,
        base: Base,
        *,
        forgotten: int | None,
        earlier: tuple[int, ...],
        device: str,
    ) -> None:
        new = () if forgotten is None else (forgotten,)
        facts = ProblemFacts(
            goal=settings.goal,
            class_names=lists.names,
            forgotten=tuple(sorted({*earlier, *new})),
            fraction=settings.forget_fraction or None,
        )
        super().__init__(base=base, settings=settings, facts=facts, earlier=earlier)
        self._model, self._shape, self._lists = model, shape, lists
        self._new, self._device = forgotten, device

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self._model

    def whole(self, model: nn.Module) -> Classifier:
        """Return the network that a method gave back.

        Raises:
            TypeError: it is another sort of model.
        """
        if not isinstance(model, Classifier):
            raise TypeError(f"a method gave a {type(model).__name__} back")
        return model

    def fresh(self) -> nn.Module:
        """Return the network as it was before the base's training."""
        settings = self.settings
        made = build_classifier(
            self._shape, seed=settings.seed, channels_last=settings.channels_last
        )
        return made.to(self._device)

    def parts(self) -> dict[str, NamedExamples]:
        """Return what is measured: forget, retain, validation and test.

        Raises:
            JobError: there is nothing to forget.
        """
        lists = self._lists
        train, validation, test = (
            ClassPixels(images, self.settings, self._device)
            for images in (lists.train, lists.validation, lists.test)
        )
        gone, kept = self._divided()
        chosen = {
            "forget": (train, gone),
            "retain": (train, kept),
            "validation": (validation, None),
            "test": (test, None),
        }
        return {
            name: NamedExamples.of(pixels.examples(places), pixels.images.names)
            for name, (pixels, places) in chosen.items()
        }

    def method_sets(self, parts: Mapping[str, NamedExamples]) -> MethodSets:
        """Return all that shall go, and all that shall be kept."""
        return MethodSets(forget=parts["forget"].examples, retain=parts["retain"].examples)

    def numbers(self, done: Done) -> dict[str, Json]:
        """Return what an unlearning changed and what it took, for tables.

        Accuracies are those on both training parts and on the test; where a class goes, of the test's
        images of forgotten classes and of the others.
        """
        numbers: dict[str, Json] = {"steps": len(done.unlearned.log) - 2}
        for when, answers in (("_before", done.before), ("", done.after)):
            for part in ("retain", "forget"):
                numbers[f"{part}_accuracy{when}"] = answers[part].accuracy("trained")
            test = answers["test"]
            if self._new is None:
                numbers[f"test_accuracy{when}"] = test.accuracy("trained")
                continue
            gone = np.isin(test.trained, self.facts.forgotten)
            right = test.logits.argmax(1) == test.trained
            numbers[f"test_retain_accuracy{when}"] = float(right[~gone].mean())
            numbers[f"test_forget_accuracy{when}"] = float(right[gone].mean())
        for name in ("seconds", "samples_read", "cached_seconds", "cached_samples"):
            numbers[name] = getattr(done.unlearned, name)
        relearn, probe = done.record.relearn, done.record.probe
        if relearn is not None:
            numbers["relearn_steps"] = relearn.steps
            numbers["probe"] = None if probe is None else probe.after
        return numbers

    def _divided(self) -> tuple[list[int], list[int]]:
        """Return the places of the training images that shall go, and of those that shall be kept."""
        labels, settings = self._lists.train.labels, self.settings
        present = [at for at, label in enumerate(labels) if label not in self.earlier]
        if self._new is None:
            gone = set(drawn(present, settings.forget_fraction, settings.seed))
        else:
            gone = {at for at in present if labels[at] == self._new}
            if not gone:
                name = self._lists.names[self._new]
                raise JobError(
                    f"no training image is of class {name!r}: there is nothing to forget"
                )
        return sorted(gone), [at for at in present if at not in gone]


def drawn(places: Sequence[int], fraction: float, seed: int) -> list[int]:
    """Return a fraction of the places, in order: at least one, and never all.

    Every method with the same seed gets the same ones, and so does the retrained model.

    Args:
        places: of the images to draw from; two at least.
        fraction: above 0, below 1; rounded to a whole number of images.
        seed: of the job.
    """
    count = min(max(1, round(fraction * len(places))), len(places) - 1)
    return sorted(random.Random(derive("forget", seed)).sample(places, count))
