"""Parts of transformers, by the names of authors' files."""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two layers on each token."""

    def __init__(self, width: int, *, inner_width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, inner_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(inner_width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) of tokens (B, N, width)."""
        return self.net(tokens)  # type: ignore[no-any-return]  # torch: modules return Any


class Normalised(nn.Module):
    """A layer norm before a layer. It does not apply to the second input."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), layer

    def forward(self, tokens: Tensor, *others: Tensor) -> Tensor:
        """Return (B, N, width) of tokens (B, N, width)."""
        return self.fn(self.norm(tokens), *others)  # type: ignore[no-any-return]  # torch
