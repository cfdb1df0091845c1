"""A class, or a fraction of the images, as an unlearning problem of a network of classes."""

import random
from collections.abc import Sequence

import numpy as np
from torch import nn

from trueface.data.class_images import ClassLists, ClassPixels, Images
from trueface.models.detectors import Classifier, build_classifier
from trueface.models.registry import Shape
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import derive
from trueface.unlearning.problem import Base, Done, MethodSets, NamedExamples, Problem, ProblemFacts
from trueface.unlearning.settings import ForgettingSettings


def problem_of(
    model: Classifier,
    shape: Shape,
    lists: ClassLists,
    settings: ForgettingSettings,
    base: Base,
    *,
    forgotten: int | None,
    earlier: tuple[int, ...],
    device: str,
) -> Problem:
    """Return a network that shall forget one class more, or some of its images.

    Args:
        model: as it was trained, on the device; unlearning changes it in place.
        shape: of the network.
        lists: the images of its training and test.
        settings: of the unlearning.
        base: its name, and what its training took.
        forgotten: the class that shall go; None: a fraction of the images, see the settings.
        earlier: classes that it was made to forget before.
        device: where images and new networks are put.

    Raises:
        JobError: there is nothing to forget.
    """
    labels = lists.train.labels
    present = [at for at, label in enumerate(labels) if label not in earlier]
    if forgotten is None:
        gone = drawn(present, settings.forget_fraction, settings.seed)
    else:
        gone = [at for at in present if labels[at] == forgotten]
        if not gone:
            raise JobError(
                f"no training image is of class {lists.names[forgotten]!r}: there is nothing to forget"
            )

    def named(images: Images) -> NamedExamples:
        return NamedExamples.of(ClassPixels(images, settings, device).examples(), images.names)

    train = named(lists.train)
    parts = {
        "forget": train.subset(gone),
        "retain": train.subset(sorted(set(present).difference(gone))),
        "validation": named(lists.validation),
        "test": named(lists.test),
    }
    return Problem(
        base=base,
        settings=settings,
        facts=ProblemFacts(
            goal=settings.goal,
            class_names=lists.names,
            forgotten=tuple(sorted({*earlier, *(() if forgotten is None else (forgotten,))})),
            fraction=settings.forget_fraction or None,
        ),
        model=model,
        whole=_classifier,
        fresh=lambda: build_classifier(
            shape, seed=settings.seed, channels_last=settings.channels_last
        ).to(device),
        parts=parts,
        sets=lambda _: MethodSets(forget=parts["forget"].examples, retain=parts["retain"].examples),
        earlier=earlier,
    )


def _classifier(model: nn.Module) -> Classifier:
    if not isinstance(model, Classifier):
        raise TypeError(f"a method gave a {type(model).__name__} back")
    return model


def numbers(done: Done) -> dict[str, Json]:
    """Return what an unlearning changed and what it took, for tables.

    Accuracies are those on both training parts and on the test; where a class goes, of the test's
    images of forgotten classes and of the others.
    """
    record = done.record
    numbers: dict[str, Json] = {"steps": len(done.unlearned.log) - 2}
    for when, answers in (("_before", done.before), ("", done.after)):
        for part in ("retain", "forget"):
            numbers[f"{part}_accuracy{when}"] = answers[part].accuracy("trained")
        test = answers["test"]
        if record.goal == "instances":
            numbers[f"test_accuracy{when}"] = test.accuracy("trained")
            continue
        gone = np.isin(test.trained, record.forgotten)
        right = test.logits.argmax(1) == test.trained
        numbers[f"test_retain_accuracy{when}"] = float(right[~gone].mean())
        numbers[f"test_forget_accuracy{when}"] = float(right[gone].mean())
    for name in ("seconds", "samples_read", "cached_seconds", "cached_samples"):
        numbers[name] = getattr(done.unlearned, name)
    if record.relearn is not None:
        numbers["relearn_steps"] = record.relearn.steps
        numbers["probe"] = None if record.probe is None else record.probe.after
    return numbers


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
