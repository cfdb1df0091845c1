"""Problems on which a method takes a second: blobs in the plane, small images, flipped labels."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueface.data.examples import CostCounter, Examples, examples
from trueface.runtime.progress import RunContext
from trueface.unlearning.api import Request, UnlearningReport, run
from trueface.unlearning.cache import Cache
from trueface.unlearning.hyperparameters import Options, TrainingOptions
from trueface.unlearning.optimization import default_training
from trueface.unlearning.registry import Goal

torch.set_num_threads(1)

SIDE = 8
PER_CLASS = 32


@dataclass(frozen=True)
class SmallTask:
    """A trained model and its forget set."""

    model: nn.Module
    forget: Examples
    retain: Examples
    validation: Examples
    test: Examples
    fresh: Callable[[], nn.Module]
    classes: int

    def run(self, name: str, **changed: Any) -> UnlearningReport:
        """Apply a method, with changes to what it is given."""
        given: dict[str, Any] = {
            "forget": self.forget,
            "retain": self.retain,
            "validation": self.validation,
            "fresh": self.fresh,
        }
        return run(name, self.model, **{**given, **changed})


def perceptron(logits: int, seed: int = 0) -> nn.Module:
    """Return a small network on points, untrained."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, logits)).eval()


def network(logits: int, seed: int = 0) -> nn.Module:
    """Return a tiny convolutional network with batch norm, untrained; inputs (B, 3, 8, 8)."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, logits),
    ).eval()


def points(classes: int, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return separable blobs on a circle: (N, 2) and classes (N,)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(per_class)
    angle = labels * (2 * torch.pi / classes)
    centres = torch.stack([angle.cos(), angle.sin()], 1) * 3
    return centres + 0.5 * torch.randn(len(labels), 2, generator=rng), labels


def images(classes: int, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return small images whose colour depends on their class: (N, 3, 8, 8) in [0, 1], and classes."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(per_class)
    colours = torch.rand(classes, 3, generator=torch.Generator().manual_seed(7))
    noise = 0.15 * torch.randn(len(labels), 3, SIDE, SIDE, generator=rng)
    return (colours[labels][:, :, None, None] + noise).clamp(0, 1), labels


def make_flip_task(
    *, pictures: bool = False, rate: float = 0.25, logits: int = 1, epochs: int = 20
) -> SmallTask:
    """Return a model of two classes that was trained with some labels flipped."""
    return _copy_model(_train_flip_task(pictures, rate, logits, epochs))


@cache
def _train_flip_task(pictures: bool, rate: float, logits: int, epochs: int) -> SmallTask:
    make, data = (network, images) if pictures else (perceptron, points)
    inputs, labels = data(2, PER_CLASS, 1)
    wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(3)) < rate
    trained = torch.where(wrong, 1 - labels, labels)
    everything = examples(inputs, trained, labels)
    rows = torch.arange(len(labels))
    return _small_task(make, logits, 2, everything, rows[wrong].tolist(), data, epochs)


def make_class_task(*, pictures: bool = False, classes: int = 3, epochs: int = 20) -> SmallTask:
    """Return a model of K classes with the last as the forget set."""
    return _copy_model(_train_class_task(pictures, classes, epochs))


@cache
def _train_class_task(pictures: bool, classes: int, epochs: int) -> SmallTask:
    make, data = (network, images) if pictures else (perceptron, points)
    inputs, labels = data(classes, PER_CLASS, 1)
    everything = examples(inputs, labels)
    rows = torch.arange(len(labels))[labels == classes - 1]
    return _small_task(make, classes, classes, everything, rows.tolist(), data, epochs)


def _copy_model(task: SmallTask) -> SmallTask:
    """Return a task trained once per process, with a copy of its model."""
    torch.manual_seed(0)  # as for whoever is the first to train it
    return replace(task, model=deepcopy(task.model))


def _small_task(
    make: Callable[..., nn.Module],
    logits: int,
    classes: int,
    everything: Examples,
    forget: list[int],
    data: Callable[[int, int, int], tuple[Tensor, Tensor]],
    epochs: int,
) -> SmallTask:
    model = make(logits, 0)
    checked, test = examples(*data(classes, 16, 2)), examples(*data(classes, 16, 3))
    options = TrainingOptions(epochs=epochs, lr=0.1)
    default_training(
        model, everything, "trained", validation=checked, options=options, watch=RunContext()
    )
    task = split_task(model, everything, forget, validation=checked, classes=classes)
    return replace(task, test=test, fresh=lambda: make(logits, 5))


def inputs_of(samples: Examples) -> Tensor:
    """Return the inputs of samples in memory, also of those in other parts of their dataset."""
    return torch.cat([batch.inputs for batch in samples.source.test_loader(0)])


def make_request(
    task: SmallTask,
    options: Options,
    *,
    goal: Goal = "flips",
    cache: Path | None = None,
    **of: Any,
) -> Request:
    """Return a request as `run` makes it."""
    meter = CostCounter()
    request = Request(
        model=task.model,
        forget=task.forget,
        retain=task.retain,
        validation=task.validation,
        options=options,
        goal=goal,
        classes=task.classes,
        fresh=None,
        learn=default_training,
        cache=Cache(cache, meter),
        meter=meter,
        watch=RunContext(),
        seed=0,
    )
    return replace(request, **of)


def split_task(
    model: nn.Module,
    everything: Examples,
    gone: Iterable[int],
    *,
    kept: Iterable[int] | None = None,
    validation: Examples | None = None,
    classes: int = 2,
) -> SmallTask:
    """Return a task with some samples as the forget set, and the others or `kept` as the retain set."""
    gone = set(gone)
    rest = [row for row in range(len(everything)) if row not in gone]
    return SmallTask(
        model=model,
        forget=everything.subset(sorted(gone)),
        retain=everything.subset(rest if kept is None else [*kept]),
        validation=everything if validation is None else validation,
        test=everything,
        fresh=lambda: model,
        classes=classes,
    )
