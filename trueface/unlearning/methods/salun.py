"""SalUn: random labels for the forget set, learned by the salient weights alone.

Source: C. Fan et al., "SalUn: empowering machine unlearning via gradient-based weight saliency",
ICLR 2024, arXiv 2310.12508, equations 3 to 5. The mask contains the largest entries of |gradient of the
forget set's loss|, over all weights together. The gradient is summed over the batches of the original
model in evaluation mode. Each epoch reads the forget set with other labels, then the retain set. Weights
outside the mask are restored after each step, because weight decay and momentum would change them
without a gradient.

Labels are never the trained one, as in the paper's equation 5; its code draws from all classes. Flipped
labels are corrected if the true ones are known, so only salient weights learn the relabelling. There are
two differences. Batch statistics are fixed while the forget set is read, because those of a single class
no longer separate it from others. Gradients are clipped, after the mask.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from trueface.data.examples import Examples
from trueface.runtime.errors import JobError
from trueface.runtime.field_types import Count, Finite
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import (
    ONLY_OTHER,
    batch_cross_entropy,
    random_other_labels,
    retain_set,
)
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive, Statistics
from trueface.unlearning.importance import are_finite
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import register_method

TRUE_LABELS = (
    "flipped labels were corrected, not replaced by random ones (corrective variant of SalUn)"
)


class SalunOptions(DescentOptions):
    """SalUn. Defaults: the authors' for a tenth of CIFAR-10."""

    epochs: Count = Field(10, description="Passes over both sets")
    lr: Positive = Field(0.013, description="Learning rate")
    weight_decay: NotNegative = Field(5e-4, description="Weight decay")
    batch_size: Count = Field(256, description="Images per step")
    share: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.5, description="Fraction of the trainable weights to train"
    )
    bn: Statistics = Field("train", description="Mode of batch normalization on the retain set")


@register_method(
    "salun",
    summary="Random labels, trained only with the salient weights",
    hyperparameters=SalunOptions,
    needs={"retain set"},
)
class Salun(GradientMethod[SalunOptions]):
    """Relabel the forget set and learn both sets with the salient weights."""

    def run(self) -> Result:
        """Find the salient weights, and let only these learn."""
        retain_set(self.request)  # refused before the first pass
        parameters, options = self.descent.parameters, self.options
        masks = largest_entries(
            saliency(self.request, parameters, options.batch_size), options.share
        )
        with restrict_steps_to_masks(self.descent, masks):
            return super().run()

    def take_epoch(self) -> Mapping[str, float]:
        """Learn the forget set with other labels, then the retain set."""
        forgotten = self.take_pass(self.samples(), bn="eval")
        return {"loss": self.take_pass(retain_set(self.request)), "loss_forget": forgotten}

    def samples(self) -> Examples:
        """Return the forget set with true labels, if it is flipped and they are known, or random ones."""
        forget = self.request.forget
        if self.request.goal == "flips" and forget.true is not None:
            return forget.replace_labels(forget.true)
        return forget.replace_labels(random_other_labels(self.request, self.epoch))

    def notes(self) -> tuple[str, ...]:
        """Return a remark on the labels of flips."""
        if self.request.goal != "flips":
            return ()
        if self.request.forget.true is not None:
            return (TRUE_LABELS,)
        return (ONLY_OTHER,) if self.request.classes == 2 else ()


def saliency(request: Request, parameters: Iterable[nn.Parameter], batch_size: int) -> list[Tensor]:
    """Return |sum over batches of the gradient of the forget set's loss|, a tensor a parameter.

    Raises:
        JobError: stopped, or a gradient is not finite.
    """
    chosen = list(parameters)
    sums = [torch.zeros_like(parameter) for parameter in chosen]
    request.model.eval()
    for batch in request.forget.read(request.watch, batch_size=batch_size):
        gradients = torch.autograd.grad(
            batch_cross_entropy(request, batch), chosen, allow_unused=True
        )
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += gradient
    if not all(are_finite(sums)):
        raise JobError("the gradient of the forget set is not finite, so the model is broken")
    return [total.abs() for total in sums]


def largest_entries(importances: list[Tensor], share: float) -> list[Tensor]:
    """Return masks of the largest entries over all tensors together, at least one of them."""
    flat = torch.cat([importance.flatten() for importance in importances])
    count = max(1, round(share * flat.numel()))
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(count, sorted=False).indices] = True
    parts = torch.split(mask, [importance.numel() for importance in importances])
    return [part.view_as(importance) for part, importance in zip(parts, importances, strict=True)]


@contextmanager
def restrict_steps_to_masks(descent: Descent, masks: list[Tensor]) -> Iterator[None]:
    """Let steps move nothing outside of masks, one a parameter; all else stays bit by bit."""
    pairs = list(zip(descent.parameters, masks, strict=True))
    begun = [parameter.detach().clone() for parameter in descent.parameters]

    @torch.no_grad()
    def restore(*_: object) -> None:
        for (parameter, mask), start in zip(pairs, begun, strict=True):
            parameter.copy_(torch.where(mask, parameter, start))

    handles = [parameter.register_hook(mask.mul) for parameter, mask in pairs]  # type: ignore[no-untyped-call]  # torch
    handles.append(descent.optimizer.register_step_post_hook(restore))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
