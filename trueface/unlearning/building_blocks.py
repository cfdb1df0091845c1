"""Building blocks of several methods: epochs of gradient steps, a training, random labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.examples import Examples, Label
from trueface.models.logits import cross_entropy
from trueface.runtime.errors import JobError
from trueface.runtime.rng import numpy_rng, torch_rng
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import DescentOptions, TrainingOptions
from trueface.unlearning.optimization import Step

ONLY_OTHER = (
    "with two classes, the other label is the true one, so this method only corrected the labels"
)


def epochs(
    request: Request,
    take: Callable[[int], Mapping[str, float]],
    measure: Callable[[], Mapping[str, float | None]],
) -> Iterator[Step]:
    """Go through the epochs of a method that takes steps; yield each one's entry of the log.

    Training stops if the caller requests no further value.

    Args:
        request: its options give the number.
        take: takes the steps of an epoch, counted from 0; returns "loss", and what else is logged.
        measure: returns the values that are logged after that, such as accuracies.
    """
    total = request.own(DescentOptions).epochs
    for epoch in range(total):
        metrics = take(epoch)
        measured = dict(measure())
        request.watch.progress(step=epoch + 1, total=total, loss=metrics["loss"])
        yield Step(step=epoch + 1, metrics={**metrics, **measured})


def train_until_forgotten(
    request: Request,
    take_epoch: Callable[[int], float],
    measure_retained: Callable[[], float],
    note: str,
) -> Result:
    """Go through epochs as long as a forgotten sample is answered with its label.

    Args:
        request: what the method may use; `DescentOptions` among it.
        take_epoch: takes the steps of an epoch; returns the mean loss.
        measure_retained: the fraction of the samples that are answered so.
        note: how many samples were read, in words.
    """
    log: list[Step] = []
    last: float | None = measure_retained()
    steps = epochs(
        request,
        lambda epoch: {"loss": take_epoch(epoch)},
        lambda: {"forget_accuracy_trained": measure_retained()},
    )
    for step in steps if last else ():
        log.append(step)
        if not (last := step.metrics["forget_accuracy_trained"]):
            break
    notes = [note]
    if last:
        notes.append(
            f"{last:.1%} of these still get their trained label. Choose more epochs or a higher lr."
        )
    return Result(model=request.model, log=tuple(log), notes=tuple(notes))


def batch_cross_entropy(request: Request, batch: Batch) -> Tensor:
    """Return the mean cross entropy of a batch, whose labels are on the device."""
    return cross_entropy(request.logits(batch.inputs), batch.labels)


def retain_set(request: Request) -> Examples:
    """Return the samples to keep.

    Raises:
        JobError: there are none.
    """
    if request.retain is None or not len(request.retain):
        raise JobError("there are no images to keep, so there is nothing to learn from")
    return request.retain


def draw_subset(samples: Examples, count: int, name: str, seed: int) -> Examples:
    """Return `count` of N samples, or all where there are fewer, drawn at random, in their order.

    Args:
        samples: (N,) to draw from.
        count: how many, from 0.
        name: of the draw; others of the same seed do not depend on it.
        seed: of the job.
    """
    rng = torch_rng(name, seed)
    rows = torch.randperm(len(samples), generator=rng)[:count]
    return samples.subset(sorted(rows.tolist()))


def relabelled_dataset(request: Request) -> Examples:
    """Return the forget set with its true labels, and the retain set as it was trained.

    Raises:
        JobError: the true labels are not known.
    """
    if request.forget.true is None:
        raise JobError("the true labels of the forget set are unknown")
    relabelled = request.forget.replace_labels(request.forget.true)
    return relabelled if request.retain is None else relabelled + request.retain


def untrained_model(request: Request) -> nn.Module:
    """Return a model as the one at hand was before its training.

    Raises:
        JobError: the request cannot make one.
    """
    if request.fresh is None:
        raise JobError("a new training needs `fresh`, a function that returns the untrained model")
    return request.fresh().to(request.watch.device)


def train(request: Request, model: nn.Module, samples: Examples, label: Label) -> Result:
    """Train a model in place, as models of its kind are trained."""
    log = request.learn(
        model,
        samples,
        label,
        validation=request.validation,
        options=request.own(TrainingOptions),
        watch=request.watch,
    )
    return Result(model=model, log=log)


def random_other_labels(request: Request, epoch: int) -> tuple[int, ...]:
    """Return a random other label for each forgotten sample, the same for the same seed and epoch.

    Where classes shall go, it is one of those that stay, as long as there are any.
    """
    trained = request.forget.trained
    rng = numpy_rng(f"random labels/{epoch}", request.seed)
    gone = set(trained) if request.goal == "class" else set()
    left = [label for label in range(request.classes) if label not in gone]
    if gone and left:
        return tuple(rng.choice(left, len(trained)).tolist())
    return _draw_other_labels(trained, request.classes, rng)


def _draw_other_labels(
    labels: Sequence[int], classes: int, rng: np.random.Generator
) -> tuple[int, ...]:
    moves = rng.integers(1, classes, len(labels))
    return tuple(((np.asarray(labels) + moves) % classes).tolist())
