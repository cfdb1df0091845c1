"""The Xception of DeepfakeBench's F3-Net and SPSL, which gets images of more channels than three.

Z. Yan et al., "DeepfakeBench", NeurIPS 2023 Datasets and Benchmarks, arXiv 2307.01426. Names and results
are those of its code (github.com/SCLBD/DeepfakeBench, CC BY-NC 4.0), which has images of 256 by 256
pixels in -1 … 1. These networks are not those of the papers; `f3net` and `spsl` are closer to them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from trueface.models.blocks.full_xception import FEATURES, XceptionMaps, insert_xception

PART = "backbone"
STEM = "conv1.weight"  # first tensor of an Xception, (32, channels, 3, 3)


class BenchXception(XceptionMaps):
    """Xception, whose last layer is called `last_linear`.

    Args:
        channels: of the images.
        last_linear: from features (B, 2048) to logits.
    """

    def __init__(self, channels: int, last_linear: nn.Module) -> None:
        super().__init__(channels)
        self.last_linear = last_linear

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, channels, H, W)."""
        return self.last_linear(self.forward_maps(images).mean((2, 3)))  # type: ignore[no-any-return]  # torch


class BenchDetector(nn.Module, ABC):
    """A network of DeepfakeBench on an Xception.

    Args:
        channels: that the Xception gets.
        last_linear: its last layer.
    """

    unused_parts = (f"{PART}.adjust_channel",)  # part of the published files

    def __init__(self, channels: int, last_linear: nn.Module) -> None:
        super().__init__()
        self.backbone = BenchXception(channels, last_linear)

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of an Xception; None if it is another file."""
        if STEM not in state:
            return None
        return insert_xception(self, PART, {**state, STEM: self.widen_stem(state[STEM])})

    @abstractmethod
    def widen_stem(self, weight: Tensor) -> Tensor:
        """Return the first weights (32, channels, 3, 3) of those of an Xception of colours, (32, 3, 3, 3)."""


def last_layer() -> nn.Linear:
    """Return a last layer of one logit."""
    return nn.Linear(FEATURES, 1)
