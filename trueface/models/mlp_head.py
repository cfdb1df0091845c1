"""A last layer with one hidden layer before it, on standardised features: for frozen networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

CLIP = 8.0  # standard deviations: a feature of an unusual image counts no more than that
HIDDEN = 64  # units
LEAST_DEVIATION = 1e-6  # of the raw features: what varies less is constant but for rounding


class MlpHead(nn.Linear):
    """logit = W · dropout(relu(V z + c)) + b, z = clip((x - mean) / deviation), of raw features x (B, F).

    It is the linear layer W, b, with what makes its inputs of the features before it. Mean and
    deviation are those of the images that it was first trained on; they are no parameters, and lie in
    the state dict with the layer.

    Attributes:
        hidden: V and c.
        mean: (F,) of the raw features.
        deviation: (F,) likewise, > 0.
        rows: () int64, of how many images they are; 0: not yet known, features pass as they are.
    """

    mean: Tensor
    deviation: Tensor
    rows: Tensor

    def __init__(self, features: int, *, hidden: int = HIDDEN, dropout: float = 0.0) -> None:
        super().__init__(hidden, 1)
        self.in_features = features  # what callers give, not what W gets
        self.hidden = nn.Linear(features, hidden)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("rows", torch.tensor(0))

    @property
    def is_standardised(self) -> bool:
        """Whether mean and deviation are known."""
        return bool(self.rows)

    @torch.no_grad()
    def standardise(self, sums: Tensor, squares: Tensor, rows: int) -> None:
        """Take mean and deviation of raw features.

        Args:
            sums: (F,) of the features, float64.
            squares: (F,) of their squares, float64.
            rows: how many of each were added, at least 1.
        """
        mean = sums / rows
        deviation = (squares / rows - mean.square()).clamp_min(0).sqrt()
        constant = deviation <= LEAST_DEVIATION * mean.abs().clamp_min(1)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.masked_fill(constant, 1.0))
        self.rows.fill_(rows)

    def units(self, features: Tensor) -> Tensor:
        """Return the hidden units (B, H), >= 0, of raw features (B, F)."""
        scaled = (features.to(self.mean.dtype) - self.mean) / self.deviation
        return functional.relu(self.hidden(scaled.clamp(-CLIP, CLIP)))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of raw features (B, F)."""
        return super().forward(self.dropout(self.units(input)))
