"""FTCN: Y. Zheng et al., "Exploring temporal coherence for more general video face forgery detection", ICCV 2021.

arXiv 2108.06693. Three stages of an I3D with temporal kernels, and a transformer over the frames. A clip has 32 frames,
published for faces of 224 by 224 pixels. Names and results are those of the published code
(github.com/yinglinzheng/FTCN, without a licence), with one difference. Its network ends in a sigmoid, and this one in
the logit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.blocks.i3d import I3d, I3dDetector
from trueface.models.blocks.transformer import FeedForward, Normalised
from trueface.models.registry import register_model

FRAMES = 32
SIDE = 224  # pixels
WIDTH = 1024  # channels of the third stage
STAGES = 3
HEADS, HEAD_WIDTH = 16, 64
MLP_WIDTH = 2048
DROPOUT = 0.1


class Attention(nn.Module):
    """Attention of tokens to themselves."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_qkv = nn.Linear(WIDTH, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, WIDTH), nn.Dropout(DROPOUT))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, 1024) of tokens (B, N, 1024)."""
        query, key, value = (
            part.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)  # (B, heads, N, width of a head)
            for part in self.to_qkv(tokens).chunk(3, 2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # torch


class Residual(nn.Module):
    """A layer whose inputs are added to its outputs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fn = layer

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) of tokens (B, N, width)."""
        return tokens + self.fn(tokens)  # type: ignore[no-any-return]  # torch: modules return Any


class Transformer(nn.Module):
    """Attention, then two layers on each token."""

    def __init__(self) -> None:
        super().__init__()
        parts = Attention(), FeedForward(WIDTH, inner_width=MLP_WIDTH, dropout=DROPOUT)
        self.layers = nn.Sequential(
            nn.Sequential(*(Residual(Normalised(WIDTH, part)) for part in parts))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, 1024) of tokens (B, N, 1024)."""
        return self.layers(tokens)  # type: ignore[no-any-return]  # torch: modules return Any


class TimeTransformer(nn.Module):
    """A token of each frame, and one that is learned, from which the logit comes."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, FRAMES // 2 + 1, WIDTH))
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.transformer = Transformer()
        self.mlp_head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logits (B, 1) of the vectors of frames (B, 16, 1024)."""
        tokens = torch.cat([self.cls_token.expand(len(frames), -1, -1), frames], 1)
        tokens = self.transformer(self.dropout(tokens + self.pos_embedding))
        return self.mlp_head(tokens[:, 0])  # type: ignore[no-any-return]  # torch


class TimeHead(nn.Module):
    """The transformer over the frames' means over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.time_T = TimeTransformer()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (B, 1) of maps (B, 1024, 16, H, W)."""
        return self.time_T(maps.mean((3, 4)).transpose(1, 2))  # type: ignore[no-any-return]  # torch


@register_model(
    "ftcn",
    summary="temporal convolutions and a transformer of clips of 32 frames, FTCN",
    head="resnet.head.time_T.mlp_head.1",
    draws=True,
    width=WIDTH,
    frames=FRAMES,
    most_frames=FRAMES,
    usual_side=SIDE,
)
def ftcn() -> nn.Module:
    """Return the network, with random weights."""
    return I3dDetector(I3d(TimeHead(), stages=STAGES, temporal=True))
