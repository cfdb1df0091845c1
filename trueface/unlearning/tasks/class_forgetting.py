"""Unlearning of a class, or of a subset of images, from end to end: applied, and measured."""

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from trueface.data.class_images import Lists
from trueface.data.examples import Examples, Label
from trueface.data.loaders import ExampleFeed
from trueface.evaluation import predictions
from trueface.evaluation.predictions import Answered
from trueface.models import classifiers
from trueface.models.classifier_registry import Shape
from trueface.models.classifiers import Classifier
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch, with_phases
from trueface.runtime.rng import derive
from trueface.training.class_settings import ClassifySettings
from trueface.training.class_source import Pixels
from trueface.training.trainer import fit
from trueface.unlearning import api
from trueface.unlearning.api import Unlearned
from trueface.unlearning.class_settings import ForgettingSettings
from trueface.unlearning.evaluation import embedding, relearn_and_probe
from trueface.unlearning.evaluation.embedding import Plane
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.log import Step
from trueface.unlearning.record import Record, Training


@dataclass(frozen=True, slots=True)
class Learning:
    """The training of such networks, for methods that are trainings; see `plain_training.Learn`."""

    settings: ClassifySettings

    def __call__(
        self,
        model: nn.Module,
        samples: Examples,
        label: Label,
        *,
        validation: Examples,
        options: TrainingOptions,
        watch: Watch,
    ) -> tuple[Step, ...]:
        """Train `model` as the base was, unless the options say otherwise."""
        changed = {"num_epochs": options.epochs, "lr": options.lr}
        given = {key: value for key, value in changed.items() if value is not None}
        trainer = self.settings.model_copy(update=given).trainer
        done = fit(
            model,
            ExampleFeed(samples, label, batch_size=trainer.batch_size),
            ExampleFeed(validation, "trained", augmented=False),
            trainer,
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
            for epoch in done.epochs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What shall be forgotten, and the facts of the base's training."""

    lists: Lists
    shape: Shape
    settings: ForgettingSettings
    forgotten: int | None  # the class; None: a fraction of the images, see the settings
    earlier: tuple[int, ...]  # classes that the base was made to forget before, and shall not learn
    training: Training  # of the base
    cache: Path
    base: str = ""  # its model ID, for the record
    model: str = ""  # the model ID of what is made of it

    @property
    def gone(self) -> tuple[int, ...]:
        """All classes that the result shall not know, in order."""
        new = () if self.forgotten is None else (self.forgotten,)
        return tuple(sorted({*self.earlier, *new}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A network that has forgotten, with its record and predictions."""

    model: nn.Module
    record: Record
    before: Mapping[str, Answered]
    after: Mapping[str, Answered]
    embedding: Plane | None  # None: it was not asked for
    numbers: dict[str, Json]  # for tables


def unlearn(problem: Problem, model: Classifier, watch: Watch) -> Done:
    """Make `model` forget, in place; write nothing but the caches.

    Raises:
        UsageError: the method cannot work here.
        JobError: stopped, nothing to forget or nothing kept, or no finite result.
    """
    settings = problem.settings
    # measures and answers, relearning, probe and embedding
    watch = with_phases(watch, 2 + 3 * settings.afterwards)
    parts = _parts(problem, watch.device)
    base = copy.deepcopy(model) if settings.afterwards else None
    before = _answers(problem, model, parts, watch)
    unlearned = api.run(
        settings.method,
        model,
        forget=parts["forget"],
        retain=parts["retain"],
        validation=parts["validation"].without_classes(problem.earlier),
        options=settings.options,
        goal=settings.goal,
        fresh=lambda: _fresh(problem, watch.device),
        learn=Learning(settings),
        cache=problem.cache,
        watch=watch,
        seed=settings.seed,
        force=settings.force,
    )
    watch.doing("answers")
    after = _answers(problem, unlearned.model, parts, watch)
    done = Done(
        model=unlearned.model,
        record=_record(problem, unlearned),
        before=before,
        after=after,
        embedding=None,
        numbers=_numbers(problem, unlearned, before, after),
    )
    return done if base is None else _measured_afterwards(done, base, parts, watch, settings.seed)


def _measured_afterwards(
    done: Done, base: nn.Module, parts: Mapping[str, Examples], watch: Watch, seed: int
) -> Done:
    """Return `done` with how soon the model learns the forgotten again, a probe and an embedding."""
    forget, retain = parts["forget"], parts["retain"]
    watch.doing("relearning")
    target = relearn_and_probe.forget_loss(base, forget, watch, seed=seed)
    relearn = relearn_and_probe.relearn(done.model, forget, watch, target=target, seed=seed)
    watch.doing("probe")
    probe = relearn_and_probe.probe(base, done.model, forget, retain, watch, seed=seed)
    watch.doing("embedding")
    return replace(
        done,
        record=replace(done.record, relearn=relearn, probe=probe),
        embedding=embedding.plane(base, done.model, forget, retain, watch, seed=seed),
        numbers={
            **done.numbers,
            "relearn_steps": relearn.steps,
            "probe": None if probe is None else probe.after,
        },
    )


def _parts(problem: Problem, device: str) -> dict[str, Examples]:
    lists, settings = problem.lists, problem.settings
    train = Pixels(lists.train, settings, device)
    gone, kept = _divided(problem)
    return {
        "forget": train.examples(gone),
        "retain": train.examples(kept),
        "validation": Pixels(lists.validation, settings, device).examples(),
        "test": Pixels(lists.test, settings, device).examples(),
    }


def _divided(problem: Problem) -> tuple[list[int], list[int]]:
    """Return the places of the training images that shall go, and of those that shall be kept."""
    labels = problem.lists.train.labels
    present = [at for at, label in enumerate(labels) if label not in problem.earlier]
    if problem.forgotten is None:
        gone = set(drawn(present, problem.settings.forget_fraction, problem.settings.seed))
    else:
        gone = {at for at in present if labels[at] == problem.forgotten}
        if not gone:
            name = problem.lists.names[problem.forgotten]
            raise JobError(f"no training image is of class {name!r}: there is nothing to forget")
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


def _answers(
    problem: Problem, model: nn.Module, parts: Mapping[str, Examples], watch: Watch
) -> dict[str, Answered]:
    lists = problem.lists
    named = {"validation": lists.validation.names, "test": lists.test.names}
    return {
        name: predictions.answered(
            model, part, watch, [named.get(name, lists.train.names)[at] for at in part.positions]
        )
        for name, part in parts.items()
    }


def _fresh(problem: Problem, device: str) -> nn.Module:
    settings = problem.settings
    made = classifiers.build(
        problem.shape, seed=settings.seed, channels_last=settings.channels_last
    )
    return made.to(device)


def _record(problem: Problem, done: Unlearned) -> Record:
    settings = problem.settings
    return Record(
        method=settings.method,
        model=problem.model,
        base=problem.base,
        goal=settings.goal,
        classes=len(problem.lists.names),
        class_names=problem.lists.names,
        forgotten=problem.gone,
        fraction=settings.forget_fraction or None,
        seed=settings.seed,
        rate=None,
        known=1.0,
        found=None,
        forced=settings.force,
        options=settings.options.model_dump(mode="json"),
        notes=done.notes,
        seconds=done.seconds,
        samples_read=done.samples_read,
        cached_seconds=done.cached_seconds,
        cached_samples=done.cached_samples,
        peak_bytes=done.peak_bytes,
        training_seconds=problem.training.seconds,
        training_samples=problem.training.samples,
        relearn=None,
        probe=None,
        attack=None,
        attack_before=None,
        log=tuple({"step": step.step, **step.metrics} for step in done.log),
    )


def _numbers(
    problem: Problem,
    done: Unlearned,
    before: Mapping[str, Answered],
    after: Mapping[str, Answered],
) -> dict[str, Json]:
    """Return accuracies on both training parts, and on the test; where a class goes, of both sorts."""
    numbers: dict[str, Json] = {"steps": len(done.log) - 2}
    for when, parts in (("_before", before), ("", after)):
        numbers[f"retain_accuracy{when}"] = parts["retain"].accuracy("trained")
        numbers[f"forget_accuracy{when}"] = parts["forget"].accuracy("trained")
        if problem.forgotten is None:
            numbers[f"test_accuracy{when}"] = parts["test"].accuracy("trained")
            continue
        test = parts["test"]
        gone = np.isin(test.trained, problem.gone)
        right = test.logits.argmax(1) == test.trained
        numbers[f"test_retain_accuracy{when}"] = float(right[~gone].mean())
        numbers[f"test_forget_accuracy{when}"] = float(right[gone].mean())
    numbers |= {
        "seconds": done.seconds,
        "samples_read": done.samples_read,
        "cached_seconds": done.cached_seconds,
        "cached_samples": done.cached_samples,
    }
    return numbers
