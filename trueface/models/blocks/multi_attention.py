"""MAT: H. Zhao et al., "Multi-attentional Deepfake Detection", CVPR 2021, arXiv 2103.02406, section 3.

Four attention maps of deep maps weight two things: the texture of shallow maps, each map alone, and the last maps,
all of them together. A texture is what remains of maps without their means over the cells of an attention map
(section 3.2). The network is written from the paper. Names, shapes and numbers fit models/MAT.py of
github.com/yoctta/multiple-attention at bb069ccd. Its EfficientNet-B4 has the padding of efficientnet_pytorch 0.6 for
images of 380 pixels. Textures are those after block 5, and attention is computed after block 21. The place of the last
dropout is not in the paper. As in that file, a dropped attention map weights neither textures nor the last maps.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.blocks.efficientnet import EfficientNet, with_backbone

ATTENTIONS = 4
TEXTURE_BLOCKS, TEXTURE_CHANNELS = 6, 32
ATTENTION_BLOCKS, ATTENTION_CHANNELS = 22, 160
UNITS = 256  # units of each projection, and of the layer before the last
CELLS, BORDER = 24, 2  # side of the mask, and cells without attention at each edge
DROPOUT, LAST_DROPOUT = 0.25, 0.5
EPSILON = 1e-8  # added to the sum of an attention map, which may be 0


class AttentionMaps(nn.Module):
    """Maps that weight places, >= 0, and 0 at the edges."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv_extract = nn.Conv2d(ATTENTION_CHANNELS, ATTENTION_CHANNELS, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(ATTENTION_CHANNELS)
        self.conv2 = nn.Conv2d(ATTENTION_CHANNELS, ATTENTIONS, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(ATTENTIONS)
        inner = torch.ones(1, 1, CELLS - 2 * BORDER, CELLS - 2 * BORDER)
        self.register_buffer("mask", functional.pad(inner, (BORDER,) * 4))

    def forward(self, maps: Tensor) -> Tensor:
        """Return attention maps (B, 4, h, w) of maps (B, 160, h, w)."""
        x = functional.relu(self.bn1(self.conv_extract(maps)))
        x = functional.elu(self.bn2(self.conv2(x))) + 1
        return x * functional.interpolate(self.mask, x.shape[2:], mode="nearest")


class TextureEnhancement(nn.Module):
    """The texture of shallow maps, in a dense block for each attention map."""

    def __init__(self) -> None:
        super().__init__()
        width, groups = TEXTURE_CHANNELS * ATTENTIONS, ATTENTIONS
        self.conv_extract = nn.Conv2d(TEXTURE_CHANNELS, TEXTURE_CHANNELS, 3, padding=1)
        self.conv0 = nn.Conv2d(width, width, 5, padding=2, groups=groups)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1, groups=groups)
        self.bn3 = nn.BatchNorm2d(3 * width)
        self.conv3 = nn.Conv2d(3 * width, width, 3, padding=1, groups=groups)
        self.bn4 = nn.BatchNorm2d(4 * width)
        self.conv_last = nn.Conv2d(4 * width, width, 1, groups=groups)
        self.bn_last = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Return textures and means of maps (B, 32, H, W), for attention maps (B, 4, h, w).

        Textures are (B, 4, 32, H, W), and means over the cells of the attention maps (B, 32, h, w).
        """
        size, (rows, columns) = maps.shape[2:], attention.shape[2:]
        x = self.conv_extract(maps)
        means = functional.adaptive_avg_pool2d(x, (rows, columns))
        texture = x - functional.interpolate(means, size, mode="nearest")
        weights = torch.tanh(_resize_attention(attention, size))
        x = self.conv0((weights[:, :, None] * texture[:, None]).flatten(1, 2))  # (B, 128, H, W)
        layers = ((self.bn1, self.conv1), (self.bn2, self.conv2), (self.bn3, self.conv3))
        for norm, layer in layers:
            x = _concat_channels(x, layer(functional.relu(norm(x))))
        x = self.conv_last(functional.relu(self.bn4(x)))
        return _separate_attentions(functional.relu(self.bn_last(x))), means


class Parts(NamedTuple):
    """Outputs of the network that its losses use."""

    logits: Tensor  # (B, 1)
    attention: Tensor  # (B, 4, h, w), >= 0
    regions: Tensor  # (B, 4, 32) of norm 1, means of shallow maps weighted by each attention map


class MultiAttention(nn.Module):
    """The network, and its last layers on both vectors."""

    # layers of the backbone's classes, and the state of the objective, are in the authors' files
    unused_parts = ("net._fc", "auxiliary_loss")

    def __init__(self) -> None:
        super().__init__()
        self.net = EfficientNet("b4", version="0.6")
        self.attentions = AttentionMaps()
        self.texture_enhance = TextureEnhancement()
        self.dropout = nn.Dropout1d(DROPOUT)
        self.projection_local = nn.Sequential(
            nn.Linear(ATTENTIONS * TEXTURE_CHANNELS, UNITS), nn.Hardswish(), nn.Linear(UNITS, UNITS)
        )
        self.project_final = nn.Linear(self.net.width, UNITS)
        self.last_dropout = nn.Dropout(LAST_DROPOUT)
        self.ensemble_classifier_fc = nn.Sequential(
            nn.Linear(2 * UNITS, UNITS), nn.Hardswish(), nn.Linear(UNITS, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.parts(images).logits

    def parts(self, images: Tensor) -> Parts:
        """Return the logits of images (B, 3, H, W), with the parts that losses use."""
        shallow = self.net.run_blocks(self.net.stem(images), 0, TEXTURE_BLOCKS)
        deep = self.net.run_blocks(shallow, TEXTURE_BLOCKS, ATTENTION_BLOCKS)
        last = self.net.last_maps(self.net.run_blocks(deep, ATTENTION_BLOCKS))
        attention = self.attentions(deep)
        textures, means = self.texture_enhance(shallow, attention)
        used = self.dropout(attention.new_ones(len(images), ATTENTIONS, 1))  # 0 for a dropped map
        local = (used * pool_textures(textures, attention)).flatten(1)
        whole = pool_maps(last, (used[..., None] * attention).sum(1, keepdim=True))
        vectors = [self.projection_local(local), self.project_final(self.last_dropout(whole))]
        logits = self.ensemble_classifier_fc(functional.hardswish(torch.cat(vectors, 1)))
        regions = pool_textures(means[:, None].expand(-1, ATTENTIONS, -1, -1, -1), attention)
        return Parts(logits, attention, regions)

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of EfficientNet; None if it is another file."""
        return with_backbone(self, state)


def pool_textures(textures: Tensor, attention: Tensor) -> Tensor:
    """Return the sums of textures (B, M, C, H, W) weighted by attention maps (B, M, h, w), of norm 1, (B, M, C)."""
    weights = _resize_attention(attention, textures.shape[3:])
    return functional.normalize(torch.einsum("bmchw,bmhw->bmc", textures, weights), dim=2)


def pool_maps(maps: Tensor, attention: Tensor) -> Tensor:
    """Return the means of maps (B, C, H, W) weighted by an attention map (B, 1, h, w), (B, C)."""
    weights = _resize_attention(attention, maps.shape[2:])
    return (maps * weights).sum((2, 3)) / (weights.sum((2, 3)) + EPSILON)


def _resize_attention(attention: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(attention, size, mode="bilinear", align_corners=True)


def _concat_channels(first: Tensor, second: Tensor) -> Tensor:
    """Return the channels of both, those of an attention map together."""
    return torch.cat([_separate_attentions(first), _separate_attentions(second)], 2).flatten(1, 2)


def _separate_attentions(maps: Tensor) -> Tensor:
    """Return maps (B, 4, C, H, W) of maps (B, 4·C, H, W)."""
    return maps.reshape(len(maps), ATTENTIONS, -1, *maps.shape[2:])
