"""Between a fit and the last layer of a detector."""

from typing import Any

import numpy as np
import torch

from trueface.models.detectors import Detector, freeze
from trueface.models.head import RidgeHead
from trueface.training.ridge.fit import RidgeFit
from trueface.training.ridge.rows import Features, Standard


def ridge_head(model: Detector) -> RidgeHead:
    """Return the model's ridge head, put in the place of another last layer; it alone may learn."""
    if not isinstance(model.head, RidgeHead):
        device = model.head.weight.device
        model.replace_head(RidgeHead(model.feature_dim).to(device))
    freeze(model)
    model.eval()
    head = model.head
    if not isinstance(head, RidgeHead):
        raise TypeError("a replaced head is the head")
    return head


def standard_of(head: RidgeHead) -> Standard:
    """Return how a last layer standardises features."""
    return Standard(
        mean=_numbers(head.mean),
        scale=_numbers(head.scale),
        weights=_numbers(head.weights),
        clip=float(head.clip),
    )


def put(fitted: RidgeFit, head: RidgeHead, *, views: int) -> None:
    """Write a fit on so many views of each image into a last layer, on any device."""
    values: dict[str, Any] = {
        "mean": fitted.standard.mean,
        "scale": fitted.standard.scale,
        "weights": fitted.standard.weights,
        "weight": fitted.weight[None],
        "bias": np.array([fitted.bias]),
        "clip": fitted.standard.clip,
        "penalty": fitted.penalty,
        "temperature": fitted.calibration.temperature,
        "views": float(views),
        "rows": float(len(fitted.own)),
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(head, name).copy_(torch.from_numpy(np.asarray(value)))


def _numbers(values: torch.Tensor) -> Features:
    numbers: Features = values.detach().cpu().numpy().astype(np.float32)
    return numbers
