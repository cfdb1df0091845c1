"""Exact unlearning of a last layer that was fitted in closed form: other labels, or fewer rows.

See `trueface.training.ridge.fit` for the mathematics. Rows are all views of an image that the layer
was fitted on; the factor of all of them is kept in the cache, so that later requests on the same
model take a second.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.data.examples import Examples
from trueface.models.head import RidgeHead
from trueface.runtime.errors import JobError
from trueface.training.ridge.fit import Layer, factor_of, is_dual, refit, standard_of
from trueface.training.ridge.regression import BLOCK, DualFactor, Features, Rows, Standard
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import retain_set
from trueface.unlearning.cache import fingerprint

Positions = NDArray[np.int64]

SAME = 1e-3  # deviations by which means may differ: another device rounds otherwise


def refit_ridge(request: Request, head: RidgeHead) -> Result:
    """Fit a ridge head anew, in place, without what shall be forgotten or with its true labels.

    Raises:
        JobError: stopped, nothing is kept, no features, or the head was not fitted in closed form.
    """
    penalty = float(head.penalty)
    if penalty <= 0:
        raise JobError("the last layer was not fitted in closed form: train it with solver: ridge")
    forget, kept = request.forget, retain_set(request)
    relabels = request.goal == "flips" and forget.true is not None
    if relabels and forget.true is not None:
        forget = forget.relabelled(forget.true)
    every = forget + kept
    rows, positions = _rows(request, head, every)
    if len(rows) != int(head.rows):
        raise JobError(
            f"the last layer was fitted on {int(head.rows)} rows, and these images have {len(rows)}: "
            "exact unlearning needs all that it was fitted on; train it anew without the forgotten"
        )
    forgotten = np.isin(positions, every.positions[: len(forget)])
    standard = standard_of(head)
    if not is_fitted_on(rows, standard):
        raise JobError(
            "the last layer was fitted on other features than these images have now: images, "
            "their copies or the program have changed; train it anew without the forgotten"
        )
    factor = None
    if is_dual(rows):
        follows = (every.source.identity, repr(sorted(every.positions)), _digest(head))
        factor = _factor(request, rows, standard, penalty, follows)
    gone = np.empty(0, np.int64) if relabels else np.flatnonzero(forgotten)
    try:
        layer = refit(rows, standard, penalty, gone=gone, factor=factor)
    except ValueError as error:
        raise JobError(f"nothing can be fitted on what stays: {error}") from error
    _put(layer, head)
    changed = "relabelled" if relabels else "forgotten"
    note = (
        f"exact in closed form: {int(forgotten.sum())} of {len(rows)} rows {changed}, with the "
        f"means, deviations and penalty ({penalty:.4g}) of the fit"
    )
    return Result(model=request.model, notes=(note,))


def is_fitted_on(rows: Rows, standard: Standard) -> bool:
    """Return whether the means of a standard are those of these rows, by its first columns."""
    columns = slice(0, BLOCK)
    means = rows.columns(0, BLOCK).mean(0)
    apart = np.abs(means - standard.mean[columns]) / standard.scale[columns]
    return bool((apart < SAME).all())


def _rows(request: Request, head: RidgeHead, examples: Examples) -> tuple[Rows, Positions]:
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
        for inputs, places in examples.source(examples.positions, epoch=view, batch_size=None):
            request.check_stop()
            loaded.append((_raw(request, head, inputs), places.numpy()))
        if not loaded:
            raise JobError(f"not one of {len(examples)} samples could be read")
        features, places_read = (np.concatenate(column) for column in zip(*loaded, strict=True))
        order = np.argsort(places_read)
        parts.append(features[order])
        positions.append(places_read[order])
    every = np.concatenate(positions)
    return Rows.of(parts, [labels[position] for position in every.tolist()], every), every


def _raw(request: Request, head: RidgeHead, inputs: Tensor) -> Features:
    """Return raw features (B, F) of inputs: these themselves, or what the body makes of them."""
    values = inputs
    if request.model is not head:
        body = getattr(request.model, "forward_features", None)
        if body is None:
            raise JobError("a ridge head is unlearned on features, or as part of a detector")
        with torch.inference_mode():
            values = body(inputs.to(request.watch.device))
    raw: Features = values.float().cpu().numpy()
    return raw


def _factor(
    request: Request, rows: Rows, standard: Standard, penalty: float, follows: Sequence[str]
) -> DualFactor:
    """Return the factor of all rows, from the cache where it lies there."""

    def make() -> dict[str, Tensor]:
        made = factor_of(rows, standard, penalty, request.check_stop)
        return {
            "lower": torch.from_numpy(np.ascontiguousarray(made.lower)),
            "ones": torch.from_numpy(made.solved_ones),
        }

    kept = request.cache.tensors("ridge-factor", follows, make)
    return DualFactor(np.asfortranarray(kept["lower"].numpy()), kept["ones"].numpy())


def _digest(head: RidgeHead) -> str:
    """Return what is equal for heads that standardise alike and have the same penalty and views."""
    return fingerprint(dict(head.named_buffers()))


def _put(layer: Layer, head: RidgeHead) -> None:
    temperature = float(head.temperature)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(layer.weight[None] / temperature))
        head.bias.fill_(layer.bias / temperature)
