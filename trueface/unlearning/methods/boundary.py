"""Boundary unlearning: the forget set is moved over a decision boundary, to another class.

shrink: to the nearest other class. One step of the fast gradient sign method against the original
    model finds that class. Then the model is trained on the forget set with these classes.
expand: to an additional class, which is then dropped. The last layer gets one more row, the model is
    trained on the forget set with that class, and the row is removed again. Predictions are then
    those of the other rows.

Source: M. Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the
decision boundary", CVPR 2023, arXiv 2303.11570. Difference in both: batch statistics are unchanged,
because those of the forget set alone would break all other predictions. Differences in shrink:
- If the step does not leave the own class, the most likely other class is taken. Otherwise the sample
  would be trained on its label once more.
- The nearest class is found once for each sample, without augmentation. This costs two more passes in
  total instead of two per epoch. With two classes it is the other one.
- `BOUND` is a fraction of the inputs' range, which equals the paper's for images in [0, 1].
In expand the row is a separate layer on the same features. The model never changes its shape, and a
single logit z becomes the three logits 0, z and that of the row.
"""

import math
from collections.abc import Iterable
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.examples import Examples
from trueface.models.logits import BackboneHeadSplit, as_multiclass_logits, cross_entropy
from trueface.runtime.field_types import Count
from trueface.runtime.precision import autocast
from trueface.runtime.rng import torch_rng
from trueface.unlearning.adversarial import (
    pgd_linf,
    range_of,
    runner_up_class,
    to_unit_float,
    untargeted_gradient,
)
from trueface.unlearning.api import Request
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions, Positive
from trueface.unlearning.registry import FORGETTING, register_method

BOUND = 0.1  # largest change by the attack, as a fraction of the inputs' range


class ShrinkOptions(DescentOptions):
    """Boundary shrink."""

    epochs: Count = Field(10, description="Passes over the forget set")
    lr: Positive = Field(1e-4, description="Learning rate")


class ExpandOptions(DescentOptions):
    """Boundary expanding."""

    epochs: Count = Field(10, description="Passes over the forget set")
    lr: Positive = Field(1e-4, description="Learning rate")


@register_method(
    "shrink",
    summary="Boundary shrink: trains the forget set with the nearest other class",
    hyperparameters=ShrinkOptions,
)
class Shrink(GradientMethod[ShrinkOptions]):
    """Train the model on the forget set with the nearest other classes."""

    def samples(self) -> Examples:
        """Return the forget set with the nearest classes of the model before unlearning."""
        return self._nearest_class_samples

    @cached_property
    def _nearest_class_samples(self) -> Examples:
        return label_with_nearest_class(self.request)


@register_method(
    "expand",
    summary="Boundary expanding: moves the forget set to an extra class and removes that class",
    hyperparameters=ExpandOptions,
    needs={"last layer"},
    goals=FORGETTING,
    other_goals="moves the forget set to a class that it removes, but flipped labels must be replaced by true ones",
)
class Expand(GradientMethod[ExpandOptions]):
    """Train the model on the forget set with a class more, and drop that class."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return those of the model, and the row of the additional class."""
        return (*self.model.parameters(), self._row)

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy with the class that is dropped, of a softmax over K + 1."""
        with autocast(self.request.watch.device, self.request.watch.precision):
            features = self._split.features(
                batch.inputs.to(self.request.watch.device, non_blocking=True)
            )  # (B, F)
        head, row = self._split.head, self._row
        own = as_multiclass_logits(functional.linear(features, head.weight, head.bias))
        logits = torch.cat([own, (features @ row[:-1] + row[-1])[:, None]], 1)  # (B, K + 1)
        extra = torch.full((len(logits),), self.request.classes, device=logits.device)
        return cross_entropy(logits, extra)

    @cached_property
    def _split(self) -> BackboneHeadSplit:
        return BackboneHeadSplit(self.model)

    @cached_property
    def _row(self) -> nn.Parameter:
        """A row (F + 1,) as Xavier's among K + 1, the last entry its bias, 0."""
        width, request = self._split.width, self.request
        reach = math.sqrt(6 / (width + request.classes + 1))
        rng = torch_rng("expand/row", request.seed)
        weights = (2 * torch.rand(width, generator=rng) - 1) * reach
        return nn.Parameter(torch.cat([weights, torch.zeros(1)]).to(request.watch.device))


def label_with_nearest_class(request: Request) -> Examples:
    """Return the forget set, each sample labelled with its nearest class.

    Args:
        request: the model before unlearning, and the forget set.

    Raises:
        JobError: nothing could be read, or stopped.
    """
    if request.classes == 2:
        return request.forget.replace_labels([1 - label for label in request.forget.trained])
    request.model.eval()
    # a separate pass: one batch does not bound the values of the others
    within = range_of(to_unit_float(batch.inputs) for batch in request.forget.read(request.watch))
    nearest_class: dict[int, int] = {}
    for inputs, labels, positions, _ in request.forget.read(request.watch):
        slope, eps = untargeted_gradient(request.logits, labels), BOUND * within.width
        attacked = pgd_linf(slope, to_unit_float(inputs), eps=eps, steps=1, value_range=within)
        with torch.no_grad():
            classes = runner_up_class(request.logits(attacked), labels)
        nearest_class.update(zip(positions.tolist(), classes.tolist(), strict=True))
    rows = [
        row for row, position in enumerate(request.forget.positions) if position in nearest_class
    ]
    readable = request.forget.subset(rows)
    return readable.replace_labels([nearest_class[position] for position in readable.positions])
