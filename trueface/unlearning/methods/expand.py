"""Boundary expanding: what is forgotten goes to a class of its own, which is then dropped.

The last layer gets one more row, the model is trained on the forget set with that class, and the
row is taken away again: the answers are then those of the other rows, spread over what lies around.

Source: M. Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the
decision boundary", CVPR 2023, arXiv 2303.11570. What differs: the row is a layer
beside the last one, on the same features, so that the model never changes its shape, and a single
logit z becomes the three 0, z and the row's; batch statistics stay as they are.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.logits import Split, cross_entropy, wide
from trueface.runtime.precision import autocast
from trueface.runtime.rng import derive
from trueface.unlearning.api import Request, Result
from trueface.unlearning.hyperparameters import ExpandOptions
from trueface.unlearning.log import Step
from trueface.unlearning.methods.common import descend
from trueface.unlearning.optimization import Descent, teach


def unlearn(request: Request) -> Result:
    """Train the model on the forget set with a class more, and drop that class.

    Raises:
        JobError: the model is no body with a last layer, stopped, or no finite result.
    """
    options, split = request.own(ExpandOptions), Split(request.model)
    row = _row(split, request.classes, request.seed, request.watch.device)
    descent, log = Descent((*request.model.parameters(), row), options), []
    for epoch in range(options.epochs):
        teach(request.model, options.bn)
        loss = descend(
            request,
            descent,
            request.forget.batches("trained", epoch=epoch, batch_size=options.batch_size),
            lambda batch: _loss(request, split, row, batch.inputs),
        )
        request.watch.progress(step=epoch + 1, total=options.epochs, loss=loss)
        log.append(Step(step=epoch + 1, metrics={"loss": loss, **request.measured()}))
    return Result(model=request.model, log=tuple(log))


def _row(split: Split, classes: int, seed: int, device: str) -> nn.Parameter:
    """Return a row (F + 1,) as Xavier's among K + 1, the last entry its bias, 0."""
    reach = math.sqrt(6 / (split.width + classes + 1))
    random = torch.Generator().manual_seed(derive("expand/row", seed))
    weights = (2 * torch.rand(split.width, generator=random) - 1) * reach
    return nn.Parameter(torch.cat([weights, torch.zeros(1)]).to(device))


def _loss(request: Request, split: Split, row: Tensor, inputs: Tensor) -> Tensor:
    """Return the cross entropy with the class that is dropped, of a softmax over K + 1."""
    with autocast(request.watch.device, request.watch.precision):
        features = split.features(inputs.to(request.watch.device))  # (B, F)
    own = wide(functional.linear(features, split.head.weight, split.head.bias))
    logits = torch.cat([own, (features @ row[:-1] + row[-1])[:, None]], 1)  # (B, K + 1)
    return cross_entropy(logits, torch.full((len(logits),), request.classes, device=logits.device))
