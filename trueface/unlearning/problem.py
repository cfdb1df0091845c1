"""An unlearning from end to end: a problem, a method applied to it, and everything measured.

What `write` puts beside the model is enough for every later table: the predictions before and
after, and `unlearning.json`.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trueface.data.dataset import ExampleFeed
from trueface.data.examples import Examples, Label, Meter
from trueface.evaluation import forward, predictions
from trueface.evaluation.predictions import Answered
from trueface.models.detectors import Classifier
from trueface.runtime import paths
from trueface.runtime.progress import Watch, with_phases
from trueface.training.class_settings import ClassifySettings
from trueface.training.settings import LearningSettings
from trueface.training.trainer import fit
from trueface.unlearning import api, record
from trueface.unlearning.api import Unlearned
from trueface.unlearning.evaluation import afterwards, planes
from trueface.unlearning.evaluation.planes import Plane
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import Step
from trueface.unlearning.record import Found, Record, TrainingCost
from trueface.unlearning.registry import Goal, Situation
from trueface.unlearning.settings import ForgettingSettings, UnlearningSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedExamples:
    """Samples with their true labels, to measure on, and the ID of each."""

    examples: Examples
    ids: tuple[str, ...]

    @classmethod
    def of(cls, examples: Examples, names: Sequence[str]) -> "NamedExamples":
        """Return samples whose source has these IDs, one a position."""
        return cls(examples=examples, ids=tuple(names[at] for at in examples.positions))

    def subset(self, rows: Sequence[int]) -> "NamedExamples":
        """Return the samples at these places of this sequence."""
        ids = tuple(self.ids[row] for row in rows)
        return NamedExamples(examples=self.examples.subset(rows), ids=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSets:
    """The forget set and the retain set, as a method is given them."""

    forget: Examples
    retain: Examples | None  # None: the method may not read it
    found: Found | None = None  # of a search for what shall go; None: nothing was looked for
    seconds: float = 0.0  # that the search took, without what the cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model that shall forget, as its record names it, and what its training took."""

    name: str = ""  # its model ID
    unlearned_name: str = ""  # the model ID of what is made of it
    training: TrainingCost
    cache: Path  # folder for what later unlearnings of it can use again


@dataclass(frozen=True, kw_only=True)
class ProblemFacts:
    """What a record says of a problem."""

    goal: Goal
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...] = ()  # classes that the result shall not know
    fraction: float | None = None  # of the images that shall go
    rate: float | None = None  # fraction of the training labels that was flipped
    known: float = 1.0  # fraction of these that the method is given


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a classifier shall forget, and the samples to unlearn and to measure on."""

    base: Base
    settings: UnlearningSettings | ForgettingSettings
    facts: ProblemFacts
    model: nn.Module  # what the method works on, in place: the classifier, or its last layer
    whole: Callable[[nn.Module], Classifier]  # from a method's result to its classifier
    fresh: Callable[[], nn.Module]  # makes the model as it was before the base's training
    parts: Mapping[str, NamedExamples]  # measured: forget, retain, validation, and test if any
    # what the method is given; looks for what shall go where that is asked for
    sets: "Callable[[Problem], MethodSets]"
    attacked: Examples | None = (
        None  # of class 1, that shall pass for class 0; None: nobody attacks
    )
    situation: Situation | None = None  # further facts that decide which methods fit
    earlier: Collection[int] = ()  # classes that were forgotten before, and shall not be learned
    probes: bool = True  # a linear probe tells something of what was forgotten
    meter: Meter = field(default_factory=Meter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A classifier that has unlearned, with its record and predictions."""

    model: Classifier
    unlearned: Unlearned
    record: Record
    before: Mapping[str, Answered]
    after: Mapping[str, Answered]
    embedding: Plane | None  # None: it was not asked for


def unlearn(problem: Problem, watch: Watch) -> Done:
    """Solve a problem, its model in place; write nothing but the caches.

    Raises:
        UsageError: the method cannot work here.
        JobError: stopped, nothing to forget or nothing kept, or no finite result.
    """
    settings, parts, attacked = problem.settings, problem.parts, problem.attacked
    # measures and answers, the attack, and what is measured afterwards
    phases = 2 + (attacked is not None) + (2 + problem.probes) * settings.afterwards
    watch = with_phases(watch, phases)
    before = _answers(problem.model, parts, watch)
    attack_before = None if attacked is None else _attack_success(problem.model, attacked, watch)
    sets = problem.sets(problem)
    base = copy.deepcopy(problem.model) if settings.afterwards else None
    unlearned = api.run(
        settings.method,
        problem.model,
        forget=sets.forget,
        retain=sets.retain,
        validation=parts["validation"].examples.without_classes(problem.earlier),
        options=settings.options,
        goal=problem.facts.goal,
        fresh=problem.fresh,
        learn=lambda model, *given, **more: learn_as_trained(
            problem.whole(model), *given, settings=settings, **more
        ),
        cache=problem.base.cache,
        watch=watch,
        seed=settings.seed,
        force=settings.force,
        situation=problem.situation,
    )
    unlearned = replace(unlearned, seconds=unlearned.seconds + sets.seconds)
    if attacked is not None:
        watch.doing("attack success")
    attack = None if attacked is None else _attack_success(unlearned.model, attacked, watch)
    entry = _record(
        problem, unlearned, found=sets.found, attack=attack, attack_before=attack_before
    )
    watch.doing("answers")
    done = Done(
        model=problem.whole(unlearned.model),
        unlearned=unlearned,
        record=entry,
        before=before,
        after=_answers(unlearned.model, parts, watch),
        embedding=None,
    )
    return done if base is None else _measured_afterwards(problem, done, base, parts, watch)


def learn_as_trained(
    model: nn.Module,
    samples: Examples,
    label: Label,
    *,
    settings: LearningSettings | ClassifySettings,
    validation: Examples,
    options: TrainingOptions,
    watch: Watch,
) -> tuple[Step, ...]:
    """Train `model` as its settings say, unless the options say otherwise; see `optimization.Learn`."""
    changed = {"num_epochs": options.epochs, "lr": options.lr}
    given = {key: value for key, value in changed.items() if value is not None}
    trained = fit(
        model,
        ExampleFeed(samples, label),
        ExampleFeed(validation, "trained", augmented=False),
        settings.model_copy(update=given).trainer,
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


def write(folder: Path, done: Done) -> None:
    """Write record, predictions and embedding into the folder of the unlearned model."""
    predictions.write(paths.answers_before(folder), done.before)
    predictions.write(paths.answers_after(folder), done.after)
    if done.embedding is None:
        paths.plane(folder).unlink(missing_ok=True)
    else:
        planes.write(paths.plane(folder), done.embedding)
    record.write(folder, done.record)


def _measured_afterwards(
    problem: Problem, done: Done, base: nn.Module, parts: Mapping[str, NamedExamples], watch: Watch
) -> Done:
    """Return `done` with how soon the model learns the forgotten again, a probe and an embedding."""
    model, seed = done.unlearned.model, problem.settings.seed
    forget, retain = parts["forget"].examples, parts["retain"].examples
    watch.doing("relearning")
    target = afterwards.forget_loss(base, forget, watch, seed=seed)
    relearn = afterwards.relearn(model, forget, watch, target=target, seed=seed)
    probe = None
    if problem.probes:
        watch.doing("probe")
        probe = afterwards.probe(base, model, forget, retain, watch, seed=seed)
    watch.doing("embedding")
    return replace(
        done,
        record=replace(done.record, relearn=relearn, probe=probe),
        embedding=afterwards.plane(base, model, forget, retain, watch, seed=seed),
    )


def _record(problem: Problem, done: Unlearned, **measured: Any) -> Record:
    settings, facts, base, meter = problem.settings, problem.facts, problem.base, problem.meter
    return Record(
        method=settings.method,
        model=base.unlearned_name,
        base=base.name,
        **vars(facts),
        **measured,
        classes=len(facts.class_names),
        seed=settings.seed,
        forced=settings.force,
        options=settings.options.model_dump(mode="json"),
        notes=done.notes,
        seconds=done.seconds,
        samples_read=done.samples_read,
        cached_seconds=done.cached_seconds + meter.cached_seconds,
        cached_samples=done.cached_samples + meter.cached_samples,
        peak_bytes=done.peak_bytes,
        training_seconds=base.training.seconds,
        training_samples=base.training.samples,
        relearn=None,
        probe=None,
        log=tuple({"step": step.step, **step.metrics} for step in done.log),
    )


def _answers(
    model: nn.Module, parts: Mapping[str, NamedExamples], watch: Watch
) -> dict[str, Answered]:
    return {
        name: forward.answered(model, part.examples, watch, part.ids)
        for name, part in parts.items()
    }


def _attack_success(model: nn.Module, attacked: Examples, watch: Watch) -> float:
    """Return the fraction of fakes with a patch on that are predicted real."""
    predicted = forward.answered(model, attacked, watch)
    return float(np.mean(predicted.logits.argmax(1) == 0))
