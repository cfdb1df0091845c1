"""What is measured of an unlearned model besides its answers: relearning, a linear probe, an embedding.

Both see what accuracy does not: a method that changes the last layer alone leaves the features as
they were, and what was forgotten comes back with a few steps, or with another last layer.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trueface.data.examples import Examples, examples
from trueface.evaluation.forward import answered
from trueface.models.logits import ModelSplit, cross_entropy, wide
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.runtime.rng import numpy_stream
from trueface.unlearning.evaluation.planes import Axes, Features, Plane
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.optimization import Descent, teach
from trueface.unlearning.record import Probe, Relearn

LOOKED_AT = 256  # of the forgotten, whose loss is looked at after every step
PROBED = 1000  # samples of either side
LEAST_PROBED = 8  # of either side: half of them are held out


def forget_loss(model: nn.Module, forget: Examples, watch: Watch, *, seed: int = 0) -> float:
    """Return the loss on at most 256 of the forgotten, with the labels as trained.

    Of flips these are the wrong ones. The same samples are looked at for the same seed.

    Raises:
        JobError: stopped, or an answer is no finite number.
    """
    answers = answered(model, _subset(forget, LOOKED_AT, "relearn", seed), watch)
    return answers.loss(answers.trained)


def relearn(
    model: nn.Module,
    forget: Examples,
    watch: Watch,
    *,
    target: float,
    most: int = 200,
    lr: float = 0.01,
    batch_size: int = 64,
    seed: int = 0,
) -> Relearn:
    """Return after how many steps of SGD a model knows again what it forgot; it is not changed.

    Args:
        model: after the unlearning, on the device of `watch`.
        forget: what was forgotten, with the labels as trained: of flips the wrong ones.
        watch: device, precision, stop.
        target: `forget_loss` of the model before, with the same seed.
        most: steps after which it is given up.
        lr: of the steps, with momentum 0.9; batch statistics stay as they are.
        batch_size: samples a step.
        seed: which samples are looked at.

    Raises:
        JobError: stopped, or no finite loss.

    Source: A. Golatkar, A. Achille, S. Soatto, arXiv 1911.04933, section 6 ("readout: re-learn
        time"), in steps in place of epochs.
    """
    model = copy.deepcopy(model)
    looked_at = _in_memory(_subset(forget, LOOKED_AT, "relearn", seed), watch)
    if forget_loss(model, looked_at, watch, seed=seed) <= target:
        return Relearn(steps=0, most=most, loss=target)
    descent = Descent(model.parameters(), DescentOptions(lr=lr, momentum=0.9, clip=5.0))
    passes = (
        forget.read(watch, epoch=epoch, batch_size=batch_size, what="forgotten samples")
        for epoch in count()
    )
    for step, batch in enumerate(islice(chain.from_iterable(passes), most), 1):
        teach(model, "eval")
        with autocast(watch.device, watch.precision):
            logits = wide(model(batch.inputs))
        descent.step(cross_entropy(logits, batch.labels))
        if forget_loss(model, looked_at, watch, seed=seed) <= target:
            return Relearn(steps=step, most=most, loss=target)
    return Relearn(steps=None, most=most, loss=target)


def probe(
    before: nn.Module,
    after: nn.Module,
    forget: Examples,
    retain: Examples,
    watch: Watch,
    *,
    seed: int = 0,
) -> Probe | None:
    """Return how well a linear classifier of features tells the forgotten from the kept.

    As many of either side are drawn, at most 1,000; it learns from half of them and is asked about
    the other half, so that chance is one half. A retrained model says how much is in the images
    themselves. None: there are too few samples.

    Args:
        before: the model as it came.
        after: the one that has unlearned.
        forget: what was forgotten: a class, or some samples.
        retain: the rest of the training set.
        watch: device, stop.
        seed: of what is drawn and held out.

    Raises:
        JobError: stopped, or a model has no last linear layer.
    """
    most = min(len(forget), len(retain), PROBED)
    if most < LEAST_PROBED:
        return None
    sides = (
        _subset(forget, most, "probe/forget", seed),
        _subset(retain, most, "probe/retain", seed),
    )
    accuracies = []
    for model in (before, after):
        first, second = (penultimate(model, side, watch)[0] for side in sides)
        accuracies.append(separable(first, second, seed=seed))
    return Probe(before=accuracies[0], after=accuracies[1], chance=0.5)


def separable(first: Features, second: Features, *, seed: int = 0) -> float:
    """Return the balanced accuracy, on a held-out half, of a logistic regression on features.

    Args:
        first: (N, F) of one side.
        second: (M, F) of the other.
        seed: which half is held out.
    """
    values = np.concatenate([first, second]).astype(np.float64)
    side = np.repeat(np.array([1, 0]), [len(first), len(second)])
    learned, asked, learned_side, asked_side = train_test_split(
        values, side, test_size=0.5, stratify=side, random_state=seed
    )
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
    )
    right = model.fit(learned, learned_side).predict(asked) == asked_side
    return float((right[asked_side == 1].mean() + right[asked_side == 0].mean()) / 2)


def penultimate(
    model: nn.Module, samples: Examples, watch: Watch
) -> tuple[Features, NDArray[np.int64]]:
    """Return what the last layer gets of samples, as they are tested: (N, F), and their positions.

    Raises:
        JobError: stopped, none could be read, or the model has no last linear layer.
    """
    features, positions = ModelSplit(model.eval()).read(samples, replace(watch, precision="fp32"))
    return features.numpy(), positions.numpy()


def _in_memory(samples: Examples, watch: Watch) -> Examples:
    """Return samples in memory, as they are tested: they are looked at again and again."""
    inputs, labels, _ = zip(*samples.read(watch), strict=True)
    return examples(torch.cat(inputs), torch.cat(labels))


def _subset(samples: Examples, most: int, name: str, seed: int) -> Examples:
    return samples.subset(drawn(len(samples), most, f"afterwards/{name}", seed))


def drawn(count: int, most: int, name: str, seed: int) -> Sequence[int]:
    """Return at most `most` of `count` rows, drawn without replacement, in order."""
    if count <= most:
        return range(count)
    rows: list[int] = np.sort(numpy_stream(name, seed).choice(count, most, replace=False)).tolist()
    return rows


MOST = 600
MOST_FORGOTTEN = 200  # of these


def plane(
    before: nn.Module,
    after: nn.Module,
    forget: Examples,
    retain: Examples,
    watch: Watch,
    *,
    seed: int = 0,
) -> Plane:
    """Return features of at most 600 samples in the plane in which they differ most before.

    Both models are shown by the same axes, those of the first: a method that trained anew has
    other features, and where its samples lie says nothing but how far apart they are.

    Args:
        before: the model as it came.
        after: the one that has unlearned.
        forget: at most 200 of them are shown.
        retain: the rest.
        watch: device, stop.
        seed: of what is drawn.

    Raises:
        JobError: stopped, or a model has no last linear layer.
    """
    lost = forget.subset(drawn(len(forget), MOST_FORGOTTEN, "plane/forget", seed))
    stay = retain.subset(drawn(len(retain), MOST - len(lost), "plane/retain", seed))
    read_by_model = [
        [penultimate(model, side, watch) for side in (lost, stay)] for model in (before, after)
    ]
    first, second = (np.concatenate([features for features, _ in sides]) for sides in read_by_model)
    axes = Axes.of(first)
    labels = [
        _labels(side, read) for side, (_, read) in zip((lost, stay), read_by_model[0], strict=True)
    ]
    return Plane(
        before=axes.places(first),
        after=axes.places(second),
        label=np.concatenate(labels),
        forget=np.repeat(np.array([True, False]), [len(side) for side in labels]),
    )


def _labels(samples: Examples, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the classes of those that could be read."""
    label_of = dict(zip(samples.positions, samples.true or samples.trained, strict=True))
    return np.array([label_of[int(position)] for position in positions], np.int64)
