"""What is measured of an unlearned model besides its answers: relearning, a linear probe, an embedding.

Both see what accuracy does not: a method that changes the last layer alone leaves the features as
they were, and what was forgotten comes back with a few steps, or with another last layer.
"""

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trueface.data.examples import Examples, examples
from trueface.evaluation.predictions import answered
from trueface.models.logits import ModelSplit, cross_entropy, wide
from trueface.runtime import npz_files
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.runtime.rng import numpy_stream
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The same samples before and after, M of them."""

    before: NDArray[np.float64]  # (M, 2)
    after: NDArray[np.float64]  # (M, 2)
    label: NDArray[np.int64]  # (M,) the true class; the trained one where that is unknown
    forget: NDArray[np.bool_]  # (M,)

    def __post_init__(self) -> None:
        count = len(self.label)
        shapes = (self.before.shape, self.after.shape, self.forget.shape)
        if shapes != ((count, 2), (count, 2), (count,)):
            raise ValueError(f"a plane of {count} samples has the shapes {shapes}")


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


@dataclass(frozen=True, slots=True)
class Axes:
    """The two directions in which features differ most, and their middle."""

    middle: NDArray[np.float64]  # (F,)
    directions: NDArray[np.float64]  # (2, F)

    @staticmethod
    def of(features: Features) -> "Axes":
        """Return the principal axes of features (M, F); each points to its largest entry."""
        values = features.astype(np.float64)
        middle = values.mean(0)
        principal = _principal(values - middle)
        directions = np.zeros((2, values.shape[1]))
        directions[: len(principal)] = principal  # one feature, or one sample, has no second
        largest = np.abs(directions).argmax(1)
        signs = np.where(directions[[0, 1], largest] < 0, -1.0, 1.0)
        return Axes(middle, directions * signs[:, None])

    def places(self, features: Features) -> NDArray[np.float64]:
        """Return where features (M, F) lie: (M, 2)."""
        points: NDArray[np.float64] = (features - self.middle) @ self.directions.T
        return points


def _principal(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at most two principal axes of samples (M, F), as unit rows, the largest first.

    They are eigenvectors of the smaller of the two Gram matrices: for 600 samples of 2,048 features
    six times as fast as a singular value decomposition, which would find all axes.
    """
    samples, features = centred.shape
    gram = centred @ centred.T if samples < features else centred.T @ centred
    most = min(2, len(gram))
    _, vectors = eigh(gram, subset_by_index=(len(gram) - most, len(gram) - 1))
    axes: NDArray[np.float64] = vectors.T[::-1]
    if samples < features:
        axes = axes @ centred
        lengths = np.linalg.norm(axes, axis=1, keepdims=True)
        # of samples on a line the second axis is rounding error: none
        beyond = lengths > 1e-9 * lengths.max()
        axes = np.divide(axes, lengths, out=np.zeros_like(axes), where=beyond)
    return axes


def write(path: Path, plane: Plane) -> None:
    """Write a plane as one .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, before=plane.before, after=plane.after, label=plane.label, forget=plane.forget
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> Plane:
    """Return what `write` wrote; nothing in the file is executed.

    Raises:
        DataError: it cannot be read, or is no such file.
        MachineError: there is not enough memory.
    """
    arrays: dict[str, NDArray[Any]] = dict(npz_files.read(path, "the plane"))
    try:
        return Plane(**{field.name: arrays[field.name] for field in fields(Plane)})
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"cannot read the plane {path}: {error}; do again what wrote it") from error


def _labels(samples: Examples, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the classes of those that could be read."""
    label_of = dict(zip(samples.positions, samples.true or samples.trained, strict=True))
    return np.array([label_of[int(position)] for position in positions], np.int64)
