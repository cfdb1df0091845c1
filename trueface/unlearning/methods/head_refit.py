"""The last layer alone fitted again, on cached features: exact if the backbone was never trained.

With a frozen backbone only the last layer has seen labels. Refitting it without the forget set, or with
corrected labels, is then exact retraining: the loss is convex, and its minimum does not depend on the
start. If other layers were also trained, the features keep information about the forget set. Then this
is a start, not an unlearning. Source: head refit as the linear case of exact unlearning, A. Golatkar et
al., "Mixed-privacy forgetting in deep networks", CVPR 2021, arXiv 2012.13431; S. Goel et al., arXiv
2402.14015 (EU-k with k = 1).

Features are read once, without augmentation, and cached under the weights of the backbone. The next
request on the same backbone reads no image, whatever its labels. The softmax or logistic loss with a
penalty on squared weights (none on biases) is minimized by L-BFGS in float64. The search starts with
zero weights at the strongest penalty. It returns the best by validation accuracy, then by validation
loss. Features are centred and divided by one number, the root of their mean variance. Weights and biases
are folded back. Penalties then mean the same for every backbone, and the geometry of the penalty is that
of the features.

A last layer that was itself fitted in closed form (`solver: ridge`) needs no steps.

See `trueface.training.ridge` for the mathematics. The rows are all views of an image that the layer was
fitted on. Their factor is cached, so that later requests on the same model take a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.optim import LBFGS

from trueface.data.examples import Examples, count, union_by_position
from trueface.models.head import MlpHead, RidgeHead
from trueface.models.logits import BackboneHeadSplit
from trueface.runtime.errors import JobError
from trueface.runtime.field_types import Count
from trueface.runtime.gradient_step import GradientStep
from trueface.training.ridge import LinearLayer, factor_of, is_dual, refit, standardization_of_head
from trueface.training.ridge_regression import (
    BLOCK,
    DualFactor,
    FeatureRows,
    Features,
    Standardization,
)
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import retain_set
from trueface.unlearning.cache import fingerprint
from trueface.unlearning.hyperparameters import NotNegative, Options
from trueface.unlearning.optimization import Step
from trueface.unlearning.registry import register_method

Positions = NDArray[np.int64]
SAME = 1e-3  # deviations by which means may differ: another device rounds otherwise
HISTORY = 20  # steps that L-BFGS remembers
FLAT = 1e-7  # largest entry of a gradient at a minimum


def refit_ridge(request: Request, head: RidgeHead) -> Result:
    """Fit a ridge head again, in place, without the forget set or with its true labels.

    Raises:
        JobError: stopped, an empty retain set, no features, or the head was not fitted in closed form.
    """
    penalty = float(head.penalty)
    if penalty <= 0:
        raise JobError(
            "the last layer was not fitted in closed form. Train the model with solver: ridge"
        )
    forget, kept = request.forget, retain_set(request)
    relabels = request.goal == "flips" and forget.true is not None
    if relabels and forget.true is not None:
        forget = forget.replace_labels(forget.true)
    every = forget + kept
    rows, positions = _rows(request, head, every)
    if len(rows) != int(head.rows):
        raise JobError(
            f"the last layer was fitted on {int(head.rows)} rows, but these images have {len(rows)}. "
            "Exact unlearning needs the rows of the fit. Train again without the forget set."
        )
    forgotten = np.isin(positions, every.positions[: len(forget)])
    standard = standardization_of_head(head)
    if not is_fitted_on(rows, standard):
        raise JobError(
            "the features of these images differ from those of the fit. Images, their copies or "
            "the program have changed. Train again without the forget set."
        )
    factor = None
    if is_dual(rows):
        follows = (every.source.identity, repr(sorted(every.positions)), _digest(head))
        factor = _factor(request, rows, standard, penalty, follows)
    gone = np.empty(0, np.int64) if relabels else np.flatnonzero(forgotten)
    try:
        layer = refit(rows, standard, penalty, removed_rows=gone, factor=factor)
    except ValueError as error:
        raise JobError(f"cannot fit the last layer on the kept images: {error}") from error
    _write_layer(layer, head)
    changed = "relabelled" if relabels else "forgotten"
    note = (
        f"exact in closed form: {int(forgotten.sum())} of {len(rows)} rows {changed}, with the "
        f"means, standard deviations and penalty ({penalty:.4g}) of the fit"
    )
    return Result(model=request.model, notes=(note,))


def is_fitted_on(rows: FeatureRows, standard: Standardization) -> bool:
    """Return whether the means of a standard are those of these rows, by its first columns."""
    columns = slice(0, BLOCK)
    means = rows.columns(0, BLOCK).mean(0)
    apart = np.abs(means - standard.mean[columns]) / standard.scale[columns]
    return bool((apart < SAME).all())


def _rows(request: Request, head: RidgeHead, examples: Examples) -> tuple[FeatureRows, Positions]:
    """Return all rows that the layer was fitted on, whatever is forgotten, and the position of each.

    They are sorted by view and position, so that every request with these samples has the same ones.
    """
    labels = dict(zip(examples.positions, examples.trained, strict=True))
    parts: list[Features] = []
    positions: list[Positions] = []
    views = int(head.views)
    # the one view of a layer that learned no copies is what a test sees
    for view in range(views) if views > 1 else (None,):
        loaded = []
        for batch in examples.batches(epoch=view):
            request.watch.raise_if_stopped()
            loaded.append((_raw_features(request, head, batch.inputs), batch.indices.numpy()))
        if not loaded:
            raise JobError(f"none of the {len(examples)} samples could be read")
        features, places_read = (np.concatenate(column) for column in zip(*loaded, strict=True))
        order = np.argsort(places_read)
        parts.append(features[order])
        positions.append(places_read[order])
    every = np.concatenate(positions)
    return FeatureRows.from_parts(
        parts, [labels[position] for position in every.tolist()], every
    ), every


def _raw_features(request: Request, head: RidgeHead, inputs: Tensor) -> Features:
    """Return raw features (B, F) of inputs: these themselves, or the features of the backbone."""
    values = inputs
    if request.model is not head:
        body = getattr(request.model, "forward_features", None)
        if body is None:
            raise JobError(
                "a ridge head can only be unlearned on features or as part of a detector"
            )
        with torch.inference_mode():
            values = body(inputs.to(request.watch.device))
    raw: Features = values.float().cpu().numpy()
    return raw


def _factor(
    request: Request,
    rows: FeatureRows,
    standard: Standardization,
    penalty: float,
    follows: Sequence[str],
) -> DualFactor:
    """Return the factor of all rows, from the cache if it is there."""

    def make() -> dict[str, Tensor]:
        factor = factor_of(rows, standard, penalty, request.watch.raise_if_stopped)
        return {
            "lower": torch.from_numpy(np.ascontiguousarray(factor.lower)),
            "ones": torch.from_numpy(factor.solved_ones),
        }

    kept = request.cache.tensors("ridge-factor", follows, make)
    return DualFactor(np.asfortranarray(kept["lower"].numpy()), kept["ones"].numpy())


def _digest(head: RidgeHead) -> str:
    """Return a key that is equal for heads with the same standardization, penalty and views."""
    return fingerprint(dict(head.named_buffers()))


def _write_layer(layer: LinearLayer, head: RidgeHead) -> None:
    temperature = float(head.temperature)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(layer.weight[None] / temperature))
        head.bias.fill_(layer.bias / temperature)


DECAYS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.01, 1e-3, 1e-4)
"""Penalties tried; stronger is a constant, weaker an interpolation of a thousand features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHead:
    """A linear layer in float64."""

    weight: Tensor  # (K, F), K = 1 for a single logit
    bias: Tensor | None  # (K,)

    def logits(self, features: Tensor) -> Tensor:
        """Return wide logits (N, K), float64, of features (N, F)."""
        logits = functional.linear(features, self.weight, self.bias)
        return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledFeatures:
    """Features with their labels, centred and scaled, on the device."""

    features: Tensor  # (N, F) float64
    labels: Tensor  # (N,) int64

    def loss(self, head: LinearHead) -> Tensor:
        """Return the mean cross entropy."""
        return functional.cross_entropy(head.logits(self.features), self.labels)

    def accuracy(self, head: LinearHead) -> float:
        """Return the accuracy, in 0 … 1."""
        return float((head.logits(self.features).argmax(1) == self.labels).double().mean())


class ExactOptions(Options):
    """The last layer refitted."""

    decay: NotNegative | None = Field(
        None,
        description="L2 penalty for features with a mean variance of 1 (default: the best of several on "
        "validation)",
    )
    steps: Count = Field(100, description="L-BFGS steps per penalty")


@register_method(
    "exact",
    summary="Fits the last layer again on cached features of the retain set",
    hyperparameters=ExactOptions,
    needs={"last layer", "retain set"},
)
def exact(request: Request) -> Result:
    """Fit the last layer again, in place; nothing else of the model changes.

    Raises:
        JobError: stopped, nothing is kept or could be read, the model's last layer is not linear, is
            frozen or has a hidden layer, or no finite result.
    """
    options = request.own(ExactOptions)
    request.model.eval()
    split = BackboneHeadSplit(request.model)
    if isinstance(split.head, RidgeHead):
        return refit_ridge(request, split.head)
    if isinstance(split.head, MlpHead):
        raise JobError(
            "the head has a hidden layer that also learned from the forget set, so a refit is not "
            "exact. Choose another method, or train with solver: ridge."
        )
    if not all(parameter.requires_grad for parameter in split.head.parameters()):
        raise JobError(
            f"the last layer ({split.name}) is frozen, but exact changes only this layer"
        )
    sound = _sound(request)
    features, labels = _read(
        request, split, union_by_position(request.forget, request.retain), sound
    )
    validation_features, validation_labels = _read(
        request, split, (request.validation,), (request.validation,)
    )
    centre = features.mean(0) if _has_bias(split) else torch.zeros_like(features[0])
    scale = float(features.var(0, correction=0).mean().sqrt()) or 1.0
    training = ScaledFeatures(features=(features - centre) / scale, labels=labels)
    validation = ScaledFeatures(
        features=(validation_features - centre) / scale, labels=validation_labels
    )
    decay, head, log = _select_penalty(request, split, training, validation)
    with torch.no_grad():
        split.head.weight.copy_(head.weight / scale)
        if head.bias is not None:
            split.head.bias.copy_(head.bias - head.weight @ centre / scale)
    note = f"the last layer was fitted on {len(labels)} samples with penalty {decay:g}"
    if options.decay is None:
        note += f", the best of {len(DECAYS)} on validation"
    return Result(model=request.model, log=log, notes=(note,))


def fit_linear_head(
    request: Request, examples: ScaledFeatures, start: LinearHead, *, decay: float, steps: int
) -> tuple[LinearHead, float]:
    """Return the minimum of mean loss + decay / 2 · squared weights, and its mean loss.

    Raises:
        JobError: stopped, or it is not finite.
    """
    weight = start.weight.clone().requires_grad_()
    bias = None if start.bias is None else start.bias.clone().requires_grad_()
    head = LinearHead(weight=weight, bias=bias)
    optimizer = LBFGS(
        [weight] if bias is None else [weight, bias],
        max_iter=steps,
        history_size=HISTORY,
        tolerance_grad=FLAT,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    gradient_step = GradientStep(optimizer)

    def closure() -> float:
        request.watch.raise_if_stopped()
        loss = examples.loss(head) + decay / 2 * weight.square().sum()
        gradient_step.backward(loss)
        return gradient_step.read_loss(loss)

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch
    fit = LinearHead(weight=weight.detach(), bias=None if bias is None else bias.detach())
    loss = float(examples.loss(fit))
    if not math.isfinite(loss):
        raise JobError(f"the loss became {loss} with penalty {decay:g}. Choose a larger decay.")
    return fit, loss


def _select_penalty(
    request: Request, split: BackboneHeadSplit, training: ScaledFeatures, validation: ScaledFeatures
) -> tuple[float, LinearHead, tuple[Step, ...]]:
    """Return the penalty that validation likes best, its head, and a step for each penalty."""
    options = request.own(ExactOptions)
    decays = DECAYS if options.decay is None else (options.decay,)
    shape = split.head.weight.shape
    head = LinearHead(
        weight=training.features.new_zeros(shape),
        bias=training.features.new_zeros(shape[0]) if _has_bias(split) else None,
    )
    candidates: list[tuple[float, float, float, LinearHead]] = []
    log = []
    for decay in decays:
        head, loss = fit_linear_head(request, training, head, decay=decay, steps=options.steps)
        accuracy, tested_loss = validation.accuracy(head), float(validation.loss(head))
        candidates.append((-accuracy, tested_loss, decay, head))
        metrics = {"loss": loss, "decay": decay, "val_accuracy": accuracy, "val_loss": tested_loss}
        log.append(Step(step=len(candidates), metrics=metrics))
        request.watch.progress(step=len(candidates), total=len(decays), loss=loss)
    _, _, decay, head = min(candidates, key=lambda candidate: candidate[:2])
    return decay, head, tuple(log)


def _sound(request: Request) -> tuple[Examples, ...]:
    """Return the samples for fitting the layer, with trusted labels."""
    if request.goal == "flips" and request.forget.true is not None:
        forgotten = request.forget.replace_labels(request.forget.true)
        return (forgotten,) if request.retain is None else (forgotten, request.retain)
    return (retain_set(request),)


def _read(
    request: Request,
    split: BackboneHeadSplit,
    parts: Sequence[Examples],
    selected_parts: Sequence[Examples],
) -> tuple[Tensor, Tensor]:
    """Return features (N, F) float64 and labels (N,) of those wanted among all parts.

    Raises:
        JobError: stopped, or not one of them could be read.
    """
    body, cache, watch = _fingerprint(split), request.cache, request.watch
    features, labels = [], []
    read_parts = {}
    for part in parts:
        follows = (body, part.source.identity, repr(part.positions), watch.precision)
        read_parts[part.source.identity] = cache.features(
            "features", follows, split.model, part, watch
        )
    for part in selected_parts:
        cached, positions = read_parts[part.source.identity]
        places = {int(position): row for row, position in enumerate(positions)}
        chosen = [
            (places[position], label)
            for position, label in zip(part.positions, part.trained, strict=True)
            if position in places
        ]
        features.append(cached[[row for row, _ in chosen]])
        labels += [label for _, label in chosen]
    if not labels:
        raise JobError(f"none of the {count(selected_parts)} samples could be read")
    rows = torch.cat(features).to(watch.device, torch.float64)
    return rows, torch.tensor(labels, device=watch.device)


def _fingerprint(split: BackboneHeadSplit) -> str:
    """Return a key that is equal for the same backbone, for any last layer."""
    own = {id(parameter) for parameter in split.head.parameters()}
    body = {
        name: value
        for name, value in (*split.model.named_parameters(), *split.model.named_buffers())
        if id(value) not in own
    }
    return f"{fingerprint(body)} {split.model}"


def _has_bias(split: BackboneHeadSplit) -> bool:
    return "bias" in dict(split.head.named_parameters())
