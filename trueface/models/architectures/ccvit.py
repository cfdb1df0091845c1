"""Cross-Efficient-ViT: D. Coccomini et al., ICIAP 2021, arXiv 2107.02612, after its program (MIT).

Each of two branches makes tokens of patches of the maps of an EfficientNet-B0. One has patches of 7 by 7 of the last
maps, the other of 56 by 56 of the maps after block 2. Two transformers alternate with attention of the first token of
a branch to the tokens of the other one. The logit is the sum of two linear layers, so the network has no last layer.

As in the program, pixels are blue, green, red in 0 … 255, and the side of an image is a multiple of 224 pixels.
Positions beyond those of an image are not used.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.blocks.efficientnet import EfficientNet, with_backbone
from trueface.models.blocks.transformer import FeedForward, Normalised
from trueface.models.registry import register_model

SIDE = 224  # pixels
DROPOUT = 0.15
HEADS, HEAD_WIDTH = 8, 64
MLP_WIDTH = 2048
ROUNDS, CROSS_ROUNDS = (
    4,
    2,
)  # rounds of both transformers, and of the attention between branches in each
SMALL, LARGE = 192, 384  # width of the tokens of each branch
SMALL_DEPTH, LARGE_DEPTH = 2, 3
SMALL_PATCH, LARGE_PATCH = 7, 56  # sides of patches of the maps
LARGE_BLOCKS, LARGE_CHANNELS = 3, 24
LARGE_UNUSED = tuple(f"_blocks.{number}" for number in range(LARGE_BLOCKS, 16))


class SelfAttention(nn.Module):
    """Attention of tokens to themselves, or to themselves and others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(DROPOUT))

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """Return (B, N, width) of tokens (B, N, width) and others (B, M, width)."""
        seen = tokens if others is None else torch.cat([tokens, others], 1)
        query, key, value = (
            part.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)  # (B, heads, N, width of a head)
            for part in (self.to_q(tokens), *self.to_kv(seen).chunk(2, 2))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # torch


class Transformer(nn.Module):
    """Attention and feed-forward layers in turn, and a last norm."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Normalised(width, SelfAttention(width)),
                    Normalised(width, FeedForward(width, inner_width=MLP_WIDTH, dropout=DROPOUT)),
                ]
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) of tokens (B, N, width)."""
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                tokens = part(tokens) + tokens
        return self.norm(tokens)  # type: ignore[no-any-return]  # torch: modules return Any


class CrossAttention(nn.Module):
    """Attention of a token of one branch to the tokens of the other, in the width of the latter."""

    def __init__(self, width: int, other_width: int) -> None:
        super().__init__()
        self.fn = Normalised(other_width, SelfAttention(other_width))
        self.project_in = nn.Linear(width, other_width)
        self.project_out = nn.Linear(other_width, width)

    def forward(self, token: Tensor, others: Tensor) -> Tensor:
        """Return (B, 1, width) of a token (B, 1, width) and others (B, N, other_width)."""
        return self.project_out(self.fn(self.project_in(token), others))  # type: ignore[no-any-return]


class CrossTransformer(nn.Module):
    """Rounds in which the first token of each branch attends to the tokens of the other branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([CrossAttention(SMALL, LARGE), CrossAttention(LARGE, SMALL)])
            for _ in range(CROSS_ROUNDS)
        )

    def forward(self, small: Tensor, large: Tensor) -> tuple[Tensor, Tensor]:
        """Return both branches' tokens, (B, N, 192) and (B, M, 384)."""
        first_small, first_large = small[:, :1], large[:, :1]
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            first_small = layer[0](first_small, large[:, 1:]) + first_small
            first_large = layer[1](first_large, small[:, 1:]) + first_large
        return torch.cat([first_small, small[:, 1:]], 1), torch.cat([first_large, large[:, 1:]], 1)


class Embedder(nn.Module):
    """The tokens of images: one that is learned, and those of the patches of maps."""

    def __init__(self, width: int, network: EfficientNet, *, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.efficient_net = network
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.Linear(channels * patch**2, width)
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2 + 1, width))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, 1 + N, width) of images (B, 3, H, W)."""
        maps = self.efficient_net(images)  # (B, C, h, w)
        rows, columns = (side // self.patch for side in maps.shape[2:])
        patches = maps.unflatten(3, (columns, self.patch)).unflatten(2, (rows, self.patch))
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, N, P·P·C)
        tokens = self.to_patch_embedding(patches)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], 1)
        return self.dropout(tokens + self.pos_embedding[:, : tokens.shape[1]])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Rounds of both transformers and of the attention between the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Transformer(SMALL, SMALL_DEPTH),
                    Transformer(LARGE, LARGE_DEPTH),
                    CrossTransformer(),
                ]
            )
            for _ in range(ROUNDS)
        )

    def forward(self, small: Tensor, large: Tensor) -> tuple[Tensor, Tensor]:
        """Return both branches' tokens, (B, N, 192) and (B, M, 384)."""
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            small, large = layer[2](layer[0](small), layer[1](large))
        return small, large


class CrossEfficientViT(nn.Module):
    """Both branches, and the sum of their logits."""

    # complete copies of EfficientNet-B0 are in the authors' files, but these layers are not computed
    unused_parts = (
        "sm_image_embedder.efficient_net._fc",
        *(
            f"lg_image_embedder.efficient_net.{part}"
            for part in (*LARGE_UNUSED, "_conv_head", "_bn1", "_fc")
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        small, large = EfficientNet("b0"), EfficientNet("b0", blocks=LARGE_BLOCKS)
        self.sm_image_embedder = Embedder(SMALL, small, channels=small.width, patch=SMALL_PATCH)
        self.lg_image_embedder = Embedder(LARGE, large, channels=large.width, patch=LARGE_PATCH)
        self.multi_scale_encoder = Encoder()
        self.sm_mlp_head = nn.Sequential(nn.LayerNorm(SMALL), nn.Linear(SMALL, 1))
        self.lg_mlp_head = nn.Sequential(nn.LayerNorm(LARGE), nn.Linear(LARGE, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W), red, green, blue in 0 … 255."""
        images = images.flip(1)
        small, large = self.multi_scale_encoder(
            self.sm_image_embedder(images), self.lg_image_embedder(images)
        )
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.sm_mlp_head(small[:, 0].float())
            return logits + self.lg_mlp_head(large[:, 0].float())  # type: ignore[no-any-return]

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of EfficientNet; None if it is another file."""
        return with_backbone(self, state)


@register_model(
    "ccvit",
    summary="Cross-Efficient-ViT: two branches of EfficientNet-B0 and transformers",
    head=None,
    draws=True,
    raw_pixels=True,
    side_step=SIDE,
    usual_side=SIDE,
)
def ccvit() -> nn.Module:
    """Return the network, with random weights."""
    return CrossEfficientViT()
