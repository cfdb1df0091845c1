"""What is tried on a model after an unlearning: does it learn again at once, is it still in there?

Both see what accuracy does not: a method that changes the last layer alone leaves the features as
they were, and what was forgotten comes back with a few steps, or with another last layer.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trueface.data.examples import Examples, examples
from trueface.evaluation.predictions import answered
from trueface.models.logits import Split, cross_entropy, wide
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.runtime.rng import numpy_stream
from trueface.unlearning.evaluation.cross_entropy import loss
from trueface.unlearning.hyperparameters import DescentOptions
from trueface.unlearning.optimization import Descent, teach
from trueface.unlearning.record import Probe, Relearn

LOOKED_AT = 256  # of the forgotten, whose loss is looked at after every step
PROBED = 1000  # samples of either side
LEAST_PROBED = 8  # of either side: half of them are held out

Features = NDArray[np.float32]


def forget_loss(model: nn.Module, forget: Examples, watch: Watch, *, seed: int = 0) -> float:
    """Return the loss on at most 256 of the forgotten, with the labels as trained.

    Of flips these are the wrong ones. The same samples are looked at for the same seed.

    Raises:
        JobError: stopped, or an answer is no finite number.
    """
    answers = answered(model, _subset(forget, LOOKED_AT, "relearn", seed), watch)
    return loss(answers, answers.trained)


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
    looked_at = _in_memory(_subset(forget, LOOKED_AT, "relearn", seed))
    if forget_loss(model, looked_at, watch, seed=seed) <= target:
        return Relearn(steps=0, most=most, loss=target)
    descent = Descent(model.parameters(), DescentOptions(lr=lr, momentum=0.9, clip=5.0))
    step, epoch = 0, 0
    while step < most:
        before = step
        for batch in forget.batches("trained", epoch=epoch, batch_size=batch_size):
            if watch.stop.is_set():
                raise JobError(f"stopped while it was tried to learn again, in step {step + 1}")
            teach(model, "eval")
            with autocast(watch.device, watch.precision):
                logits = wide(model(batch.inputs.to(watch.device)))
            descent.step(cross_entropy(logits, batch.labels.to(watch.device)))
            step += 1
            if forget_loss(model, looked_at, watch, seed=seed) <= target:
                return Relearn(steps=step, most=most, loss=target)
            if step == most:
                break
        if step == before:
            raise JobError("not one of the forgotten samples could be read")
        epoch += 1
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
    count = min(len(forget), len(retain), PROBED)
    if count < LEAST_PROBED:
        return None
    sides = (
        _subset(forget, count, "probe/forget", seed),
        _subset(retain, count, "probe/retain", seed),
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
    model.eval()
    split, features, positions = Split(model), [], []
    with torch.inference_mode():
        for batch in samples.batches("trained", epoch=None):
            if watch.stop.is_set():
                raise JobError("stopped while features were looked at")
            features.append(split.features(batch.inputs.to(watch.device)).cpu())
            positions += batch.positions.tolist()
    if not features:
        raise JobError(f"not one of {len(samples)} samples could be read")
    return torch.cat(features).numpy(), np.array(positions, np.int64)


def _in_memory(samples: Examples) -> Examples:
    """Return samples in memory, as they are tested: they are looked at again and again."""
    batches = list(samples.batches("trained", epoch=None))
    if not batches:
        raise JobError(f"not one of {len(samples)} samples could be read")
    labels = [int(label) for batch in batches for label in batch.labels]
    return examples(torch.cat([batch.inputs for batch in batches]), labels)


def _subset(samples: Examples, most: int, name: str, seed: int) -> Examples:
    return samples.subset(drawn(len(samples), most, f"afterwards/{name}", seed))


def drawn(count: int, most: int, name: str, seed: int) -> Sequence[int]:
    """Return at most `most` of `count` rows, drawn without replacement, in order."""
    if count <= most:
        return range(count)
    rows: list[int] = np.sort(numpy_stream(name, seed).choice(count, most, replace=False)).tolist()
    return rows
