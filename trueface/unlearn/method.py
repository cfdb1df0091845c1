"""What an unlearning method is given and what it gives back.

A method knows pixels, labels and a network; it knows neither files nor data IDs nor the launcher.
A module of `METHODS` offers one function, `unlearn(request) -> Unlearned`.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from trueface.data import Batch
from trueface.evaluate import Answers, Watch, evaluate
from trueface.history import Epoch
from trueface.models import Detector
from trueface.settings import UnlearnSettings
from trueface.steps import Feed
from trueface.unlearn import METHODS

Label = Literal["trained", "true"]


class Source(Protocol):
    """The training images of a model, by position."""

    def __call__(self, positions: Sequence[int], *, epoch: int | None) -> Iterator[Batch]:
        """Start a pass over some of them.

        Args:
            positions: which ones.
            epoch: augmented and shuffled as in this epoch of a training; None: as in a test, in
                the order of `positions`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Some training images with both labels of each: as it was trained, and the true one."""

    source: Source
    positions: tuple[int, ...]
    trained: tuple[int, ...]  # 1 fake, 0 real
    true: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.positions) == len(self.trained) == len(self.true):
            raise ValueError("each example needs its two labels")

    def __len__(self) -> int:
        return len(self.positions)

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(
            source=self.source,
            positions=self.positions + other.positions,
            trained=self.trained + other.trained,
            true=self.true + other.true,
        )

    def feed(self, label: Label) -> Feed:
        """Return these examples as a training set that is labelled by one of the two."""
        return _Labelled(self, label)

    def batches(self, label: Label, *, epoch: int | None) -> Iterator[Batch]:
        """Yield one pass, labelled by one of the two; see `Source`."""
        labels = torch.full((max(self.positions, default=-1) + 1, 1), torch.nan)
        chosen = self.trained if label == "trained" else self.true
        labels[list(self.positions), 0] = torch.tensor(chosen, dtype=torch.float32)
        for batch in self.source(self.positions, epoch=epoch):
            yield Batch(batch.images, labels[batch.indices], batch.indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a method may use."""

    model: Detector  # trained with the wrong labels; the method may change it in place
    fresh: Callable[[], Detector]  # a new model, as that one was before its training
    forget: Examples  # whose influence shall go: `trained` is wrong, `true` is right
    retain: Examples | None  # the rest of the training set; None: it must not be read
    validation: Feed  # clean, never part of the training
    settings: UnlearnSettings
    cache: Path  # folder for what is worth keeping between calls: importances, features
    watch: Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a method's log."""

    step: int  # 0 is the model as it came
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlearned:
    """What a method made, and what it took."""

    model: Detector
    log: tuple[Step, ...]
    seconds: float  # of the method alone, as papers count it: no loading, no final tests
    samples_read: int  # images that went through the network, repeated ones counted again


def unlearn(name: str, request: Request) -> Unlearned:
    """Apply the method called `name`; its log begins and ends with the same measures.

    Raises:
        JobError: stopped, or the method came to no finite result.
    """
    before = Step(step=0, metrics=_measures(request.model, request))
    started = time.monotonic()
    done: Unlearned = importlib.import_module(METHODS[name]).unlearn(request)
    seconds = time.monotonic() - started
    last = max((step.step for step in done.log), default=0) + 1
    after = Step(step=last, metrics=_measures(done.model, request))
    return Unlearned(
        model=done.model,
        log=(before, *done.log, after),
        seconds=seconds,
        samples_read=done.samples_read,
    )


def steps(epochs: Sequence[Epoch]) -> tuple[Step, ...]:
    """Return the history of a training as a method's log."""
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
        for epoch in epochs
    )


def _measures(model: Detector, request: Request) -> dict[str, float | None]:
    """Return accuracies, in 0 … 1: on the forget set against both labels, and on validation."""
    watch = Watch(device=request.watch.device, stop=request.watch.stop)
    forget, validation = request.forget, request.validation
    wrong = evaluate(model, forget.batches("trained", epoch=None), total=len(forget), watch=watch)
    clean = evaluate(model, validation(0), total=len(validation), watch=watch)
    return {
        "forget_accuracy_trained": _accuracy(wrong),
        "forget_accuracy_true": 1 - _accuracy(wrong),
        "val_accuracy": _accuracy(clean),
    }


def _accuracy(answers: Answers) -> float:
    return float(np.mean((answers.logits > 0) == (answers.labels == 1)))


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Examples as a `Feed`."""

    examples: Examples
    label: Label

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        return self.examples.batches(self.label, epoch=epoch)
