"""An unlearning task: a model, its forget set, and the samples on which it is measured."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from torch import nn

from trueface.data.examples import CostCounter, Examples
from trueface.models.detectors import Classifier
from trueface.runtime.errors import JobError
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import stream_seed
from trueface.unlearning.image_copies import draw_images
from trueface.unlearning.record import NoiseSearchResult, Probe, TrainingCost
from trueface.unlearning.registry import Goal, TaskProperties
from trueface.unlearning.settings import ForgettingSettings, UnlearningSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifiedExamples:
    """Samples with their true labels, to measure on, and the ID of each."""

    examples: Examples
    ids: tuple[str, ...]

    @classmethod
    def from_source_names(cls, examples: Examples, names: Sequence[str]) -> "IdentifiedExamples":
        """Return samples with their IDs; `names` has one for each position of their source."""
        return cls(examples=examples, ids=tuple(names[at] for at in examples.positions))

    def subset(self, rows: Sequence[int]) -> "IdentifiedExamples":
        """Return the samples at these places of this sequence."""
        ids = tuple(self.ids[row] for row in rows)
        return IdentifiedExamples(examples=self.examples.subset(rows), ids=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSets:
    """The samples that a method may be given."""

    forget: Examples
    retain: Examples
    validation: Examples  # samples of the classes that the result shall know
    found: NoiseSearchResult | None = None  # result of a search for the forget set. None: no search
    seconds: float = 0.0  # time of the search, without what the cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalModel:
    """A model to unlearn, as its record names it, and the cost of its training."""

    name: str = ""  # its model ID
    unlearned_name: str = ""  # the model ID of the unlearned model
    training: TrainingCost
    cache: Path  # folder for what later unlearnings of it can use again


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """The facts about a task that a record contains."""

    goal: Goal
    class_names: tuple[str, ...]
    forgotten: tuple[int, ...] = ()  # classes that the result shall not know
    fraction: float | None = None  # fraction of the images that shall go
    rate: float | None = None  # fraction of the training labels that was flipped
    known: float = 1.0  # fraction of these that the method is given


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskModel:
    """The model of a task, whole or in part, with its origin."""

    original: OriginalModel
    module: nn.Module  # module that the method changes, in place: the classifier, or its last layer
    whole: Callable[[nn.Module], Classifier]  # from a method's result to its classifier
    fresh: Callable[[], nn.Module]  # makes the module as it was before the original's training
    class_names: tuple[str, ...]


class LinearProbe(Protocol):
    """Measures how well a linear classifier separates the forget set from the retain set."""

    def __call__(
        self,
        original: nn.Module,
        unlearned_model: nn.Module,
        forget: IdentifiedExamples,
        retain: IdentifiedExamples,
        watch: RunContext,
        *,
        seed: int = 0,
    ) -> Probe | None:
        """Return the accuracies before and after the unlearning, None if there are too few samples."""


@dataclass(frozen=True, kw_only=True)
class UnlearningTask:
    """The forget set of a classifier, and the samples to unlearn and to measure on.

    Build it with `from_flips`, `from_class` or `from_instances`.
    """

    model: TaskModel
    settings: UnlearningSettings | ForgettingSettings
    facts: TaskFacts
    parts: Mapping[str, IdentifiedExamples]  # measured: forget, retain, validation, and test if any
    given: MethodSets
    search: bool = False  # whether hidden flips are searched in the retain set, and given as well
    keep_retain: bool = True  # whether the method may read the retain set
    # whether the flips depend on nothing in the image, neither on its class nor on a patch
    random_flips: bool = True
    attacked: Examples | None = None  # class 1, to be predicted as class 0. None: no attack
    probe: LinearProbe | None = None  # None if no probe can detect the forget set
    meter: CostCounter = field(default_factory=CostCounter)

    @classmethod
    def from_flips(
        cls,
        model: TaskModel,
        settings: UnlearningSettings,
        train: IdentifiedExamples,
        flipped_rows: Sequence[int],
        held_out: Mapping[str, IdentifiedExamples],
        *,
        rate: float,
        random_flips: bool = True,
        attacked_fakes: Examples | None = None,
        meter: CostCounter | None = None,
    ) -> "UnlearningTask":
        """Return the task to forget flipped labels.

        A method is given those of a fraction (`known`) of the images, with all copies of each. The hidden
        ones are searched with `find`, and otherwise pass for true labels.

        Args:
            model: trained on the flipped labels.
            settings: of the unlearning.
            train: the training set with the labels that were learned.
            flipped_rows: the rows of flipped labels, in order.
            held_out: validation, and the test if there is one.
            rate: the fraction of the labels that was flipped.
            random_flips: see `UnlearningTask`.
            attacked_fakes: see `UnlearningTask`.
            meter: counts what the sources of the samples read for their caches.
        """
        known = list(flipped_rows)
        if settings.known < 1:
            seed = stream_seed("known", settings.seed)
            known = draw_images(flipped_rows, train.ids, settings.known, seed)
        retain = train.subset(other_rows(train.examples, known)).examples
        return cls(
            model=model,
            settings=settings,
            facts=TaskFacts(
                goal="flips", class_names=model.class_names, rate=rate, known=settings.known
            ),
            parts=_parts(train, flipped_rows, held_out),
            given=MethodSets(
                forget=train.subset(known).examples,
                retain=replace(retain, true=retain.trained),
                validation=held_out["validation"].examples,
            ),
            search=settings.find,
            keep_retain=settings.keep_retain,
            random_flips=random_flips,
            attacked=attacked_fakes,
            meter=meter or CostCounter(),
        )

    @classmethod
    def from_class(
        cls,
        model: TaskModel,
        settings: ForgettingSettings,
        train: IdentifiedExamples,
        label: int,
        held_out: Mapping[str, IdentifiedExamples],
        *,
        earlier_classes: Collection[int] = (),
        probe: LinearProbe | None = None,
    ) -> "UnlearningTask":
        """Return the task to forget a class; classes that were forgotten earlier are not learned again.

        Raises:
            JobError: no sample has the class.
        """
        labels = train.examples.trained
        present = train.subset(
            [row for row, each in enumerate(labels) if each not in earlier_classes]
        )
        rows = [row for row, each in enumerate(present.examples.trained) if each == label]
        if not rows:
            raise JobError(
                f"no training image has class {model.class_names[label]!r}, so there is nothing to forget"
            )
        facts = TaskFacts(
            goal="class",
            class_names=model.class_names,
            forgotten=tuple(sorted({*earlier_classes, label})),
        )
        parts = _parts(present, rows, held_out)
        return cls(
            model=model,
            settings=settings,
            facts=facts,
            parts=parts,
            given=_method_sets(parts, facts.forgotten),
            probe=probe,
        )

    @classmethod
    def from_instances(
        cls,
        model: TaskModel,
        settings: ForgettingSettings,
        train: IdentifiedExamples,
        rows: Sequence[int],
        held_out: Mapping[str, IdentifiedExamples],
        *,
        probe: LinearProbe | None = None,
    ) -> "UnlearningTask":
        """Return the task to forget the samples at some rows of the training set."""
        facts = TaskFacts(
            goal="instances",
            class_names=model.class_names,
            fraction=settings.forget_fraction or None,
        )
        parts = _parts(train, rows, held_out)
        return cls(
            model=model,
            settings=settings,
            facts=facts,
            parts=parts,
            given=_method_sets(parts),
            probe=probe,
        )

    @property
    def properties(self) -> TaskProperties:
        """The facts that decide whether a method can be applied."""
        return TaskProperties(
            goal=self.facts.goal,
            classes=len(self.facts.class_names),
            rate=self.facts.rate,
            random=self.random_flips,
            known=self.facts.known,
            finding=self.search,
            retain=self.keep_retain,
        )

    @property
    def shared_parts(self) -> frozenset[str]:
        """The measured parts that the method is given unchanged, so that one prediction serves both."""
        sets = {"forget": () if self.search else self.given.forget.positions}
        sets["validation"] = self.given.validation.positions
        return frozenset(
            name for name, rows in sets.items() if rows == self.parts[name].examples.positions
        )


def _parts(
    train: IdentifiedExamples, rows: Sequence[int], held_out: Mapping[str, IdentifiedExamples]
) -> dict[str, IdentifiedExamples]:
    """Return the measured parts, with some rows of the training set as the forget set."""
    retain = train.subset(other_rows(train.examples, rows))
    return {"forget": train.subset(rows), "retain": retain, **held_out}


def _method_sets(
    parts: Mapping[str, IdentifiedExamples], forgotten_classes: Collection[int] = ()
) -> MethodSets:
    return MethodSets(
        forget=parts["forget"].examples,
        retain=parts["retain"].examples,
        validation=parts["validation"].examples.without_classes(forgotten_classes),
    )


def other_rows(samples: Examples, rows: Sequence[int]) -> list[int]:
    """Return all rows of samples except these."""
    left_out = frozenset(rows)
    return [row for row in range(len(samples)) if row not in left_out]
