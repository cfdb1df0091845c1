"""ICT: X. Dong et al., "Protecting celebrities from DeepFake with identity consistency transformer", CVPR 2022.

A vision transformer embeds the identity of the inner and of the outer face. The score is the squared distance of both
embeddings, 0 … 4. ICT-Ref also has a reference set of embeddings of real faces. Its score is a weighted sum of that
distance and two others. These are the distances of each embedding to its counterpart at the nearest reference of the
other. The nearer a reference is, the more its distance counts.

No linear layer computes the score, and the authors publish no threshold. The logit is the score minus its weights,
which are 1, or 2 in total. So it is 0 at half of the distance that embeddings without relation have.

Names and results are those of the published program (github.com/LightDXY/ICT_DeepFake, without a licence), which has
no training. Images are aligned faces of 112 by 112 pixels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.registry import register_model
from trueface.runtime.errors import WeightsError

SIDE, PATCH = 112, 8  # pixels
WIDTH, BLOCKS, HEADS, EXPANSION = 384, 12, 12, 4
EPSILON = 1e-6  # epsilon of the layer norms
MOST_WEIGHT = 0.75  # weight of each distance to a reference, if that is near
CENTRE, SPREAD = (
    0.5,
    0.5,
)  # squared distance to the nearest reference at half of that weight, and its scale
REFERENCES = ("inner", "outer")  # embeddings of the reference set, (N, 384) each


class Attention(nn.Module):
    """Attention of tokens to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, 384) of tokens (B, N, 384)."""
        parts = self.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)  # (B, heads, N, width of a head)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # torch


class FeedForward(nn.Module):
    """Two layers on each token."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, EXPANSION * WIDTH)
        self.fc2 = nn.Linear(EXPANSION * WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, 384) of tokens (B, N, 384)."""
        return self.fc2(functional.gelu(self.fc1(tokens)))  # type: ignore[no-any-return]  # torch


class Block(nn.Module):
    """Attention and two layers, each after a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=EPSILON) for _ in range(2))
        self.attn, self.mlp = Attention(), FeedForward()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, 384) of tokens (B, N, 384)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]  # torch


class Patches(nn.Module):
    """A token for each patch of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 196, 384) of images (B, 3, 112, 112)."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]  # torch


class Ict(nn.Module):
    """The transformer, and the distance of its two embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = Patches()
        self.cls_token, self.outer_token = (
            nn.Parameter(torch.zeros(1, 1, WIDTH)) for _ in REFERENCES
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, (SIDE // PATCH) ** 2 + 2, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.bn = nn.BatchNorm1d(WIDTH)
        for each in (self.cls_token, self.outer_token, self.pos_embed):
            nn.init.trunc_normal_(each, std=0.02)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of inner and outer faces, (B, 384) of length 1, of images (B, 3, 112, 112)."""
        tokens = self.patch_embed(images)
        first = (each.expand(len(images), -1, -1) for each in (self.cls_token, self.outer_token))
        tokens = torch.cat([*first, tokens], 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        with torch.autocast(images.device.type, enabled=False):
            inner, outer = (self.bn(each) for each in self.norm(tokens.float())[:, :2].unbind(1))
        return functional.normalize(inner, dim=1), functional.normalize(outer, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, 112, 112)."""
        return _squared_distance(*self.embed(images))[:, None] - 1


class IctWithReferences(Ict):
    """The transformer, and a weighted sum of three distances."""

    inner: Tensor
    outer: Tensor
    start_parts = REFERENCES

    def __init__(self) -> None:
        super().__init__()
        for name in REFERENCES:
            self.register_buffer(name, torch.zeros(1, WIDTH))

    def take_sizes(self, state: Mapping[str, Tensor]) -> None:
        """Make room for as many references as a state dict has.

        Raises:
            WeightsError: they are not pairs of embeddings.
        """
        shapes = [tuple(state[name].shape) for name in REFERENCES if name in state]
        if len(shapes) < len(REFERENCES):
            return
        inner, outer = shapes
        if inner != outer or inner[1:] != (WIDTH,) or not inner[0]:
            raise WeightsError(
                f"the reference set has inner {inner} and outer {outer}, but needs as many rows in both, of {WIDTH} "
                "numbers"
            )
        for name in REFERENCES:
            self.register_buffer(name, self.get_buffer(name).new_zeros(inner))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, 112, 112)."""
        inner, outer = self.embed(images)
        of_inner, of_outer = _nearest(inner, self.inner), _nearest(outer, self.outer)
        weights = [
            MOST_WEIGHT * ((CENTRE - _squared_distance(*pair)) / SPREAD).sigmoid()
            for pair in ((inner, self.inner[of_inner]), (outer, self.outer[of_outer]))
        ]
        score = (
            (2 - weights[0] - weights[1]) * _squared_distance(inner, outer)
            + weights[0] * _squared_distance(outer, self.outer[of_inner])
            + weights[1] * _squared_distance(inner, self.inner[of_outer])
        )
        return score[:, None] - 2


def _squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared distance (B,) of vectors (B, F) and others (B, F)."""
    return (first - second).square().sum(1)


def _nearest(embeddings: Tensor, references: Tensor) -> Tensor:
    """Return the index (B,) of the reference (N, F) that is nearest to each embedding (B, F)."""
    return (references.square().sum(1) - 2 * embeddings @ references.T).argmin(1)


@register_model(
    "ict",
    summary="distance of the identities of inner and outer face, ICT",
    head=None,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    input_size=112,
    not_trained="its authors publish no training",
)
def ict() -> nn.Module:
    """Return the network, with random weights."""
    return Ict()


@register_model(
    "ict_ref",
    summary="ICT with a reference set of real faces, ICT-Ref",
    head=None,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    input_size=112,
    not_trained="its authors publish no training",
    start_file="the reference set, with the tensors inner and outer",
)
def ict_ref() -> nn.Module:
    """Return the network with one reference, and random weights."""
    return IctWithReferences()
