"""EfficientNet-B4 with attention: N. Bonettini et al., ICPR 2020, arXiv 2004.07676, section III.

The sigmoid of a 1 by 1 convolution of the maps after block 9 weights their places, before block 10. Images have 224
pixels, but the padding is that of efficientnet_pytorch 0.7.1 for 380. The objective `triplet` trains the features
alone, as the paper's second training does.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trueface.models.blocks.efficientnet import EfficientNet, with_backbone
from trueface.models.registry import register_model

ATTENDED = 10  # blocks before the attention
CHANNELS = 56  # channels of the last one of them
SIDE = 224  # pixels
WIDTH = 1792
DROPOUT = 0.4  # before the last layer


class AttentiveEfficientNet(EfficientNet):
    """EfficientNet-B4 whose maps after block 9 are weighted by place."""

    def __init__(self) -> None:
        super().__init__("b4")
        self.attconv = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the last maps (B, 1792, h, w) of images (B, 3, H, W)."""
        x = self.run_blocks(self.stem(images), 0, ATTENDED)
        x = x * torch.sigmoid(self.attconv(x))  # (B, 56, H/16, W/16)
        return self.last_maps(self.run_blocks(x, ATTENDED))


class AttentiveDetector(nn.Module):
    """The network and its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.efficientnet = AttentiveEfficientNet()
        self.classifier = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.classifier(self.efficientnet(images).mean((2, 3)))  # type: ignore[no-any-return]  # torch

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of EfficientNet; None if it is another file."""
        return with_backbone(self, state)


@register_model(
    "effb4att",
    summary="EfficientNet-B4 with attention, padded for 380 pixels",
    head="classifier",
    head_dropout=DROPOUT,
    draws=True,
    usual_side=SIDE,
    width=WIDTH,
)
def effb4att() -> nn.Module:
    """Return the network, with random weights."""
    return AttentiveDetector()
