"""The last layer of a detector that is fitted in closed form: standardised features, one logit."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.mlp_head import MlpHead

CLIP = 8.0  # standard deviations: a feature of an unusual image counts no more than that


class RidgeHead(nn.Linear):
    """logit = W · (weights * clip((x - mean) / scale, -clip, clip)) + b, of raw features x (B, F).

    Mean and scale are those of the images that it was fitted on, and lie in the state dict with
    the layer; an unfitted one answers 0. It computes in float32 at least, whatever the precision of
    the body: sums of ten thousands of terms.

    Attributes:
        mean: (F,) of the raw features.
        scale: (F,) their standard deviations, > 0.
        weights: (F,) of the standardised features: how much each counts in the penalty.
        clip: (), in standard deviations, > 0.
        penalty: (), of squared weights of the logit before its temperature; 0: not fitted.
        temperature: (), what weight and bias were divided by.
        views: (), how many views of each image it was fitted on.
        rows: (), how many rows: views of images that could be read, and of examples added.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    clip: Tensor
    penalty: Tensor
    temperature: Tensor
    views: Tensor
    rows: Tensor

    def __init__(self, features: int, *, clip: float = CLIP) -> None:
        super().__init__(features, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("weights", torch.ones(features))
        facts = {"clip": clip, "penalty": 0.0, "temperature": 1.0, "views": 1.0, "rows": 0.0}
        for name, value in facts.items():  # float64: a refit shall be the same to the last digits
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def standardised(self, features: Tensor) -> Tensor:
        """Return what the linear layer gets, (B, F), of raw features (B, F)."""
        scaled = (features.to(self.mean.dtype) - self.mean) / self.scale
        clip = float(self.clip)
        return scaled.clamp(-clip, clip) * self.weights

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of raw features (B, F)."""
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(self.standardised(input), self.weight, self.bias)


def linear_inputs(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return what a last layer multiplies by its weights, (B, H), of what it gets, (B, F)."""
    if isinstance(layer, RidgeHead):
        return layer.standardised(features)
    return layer.units(features) if isinstance(layer, MlpHead) else features
