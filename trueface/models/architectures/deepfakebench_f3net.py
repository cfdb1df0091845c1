"""DeepfakeBench's F3-Net: the frequency-aware decomposition of Y. Qian et al., ECCV 2020, on one Xception.

See `blocks.deepfakebench`. The image is divided into bands of its spectrum: below anti-diagonal size //
2.82, up to size // 2, above, and all of it. A filter is a band plus a learned term 2 sigmoid(x) - 1 of one
number per coefficient, so that all images have one size. The paper's second branch is left out there.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from trueface.models.blocks.deepfakebench import BenchDetector, last_layer
from trueface.models.pixel_statistics import cosine_matrix
from trueface.models.registry import register_model

HALF = (0.5, 0.5, 0.5)
WIDTH = 2048  # features of Xception
SIDE = 256  # pixels
LIMITS = (0, SIDE // 2.82, SIDE // 2, 2 * SIDE)  # anti-diagonals; both limits belong to a band
BANDS = (*pairwise(LIMITS), (0, 2 * SIDE))
COLOURS = 3
LEARNED_SPREAD = 0.1  # initial deviation of the learned numbers


class Filter(nn.Module):
    """A band of a spectrum, and a learned part."""

    base: Tensor

    def __init__(self, first: float, last: float) -> None:
        super().__init__()
        place = torch.arange(SIDE)
        diagonal = place[:, None] + place
        self.register_buffer("base", ((diagonal >= first) & (diagonal <= last)).float())
        self.learnable = nn.Parameter(torch.empty(SIDE, SIDE))
        nn.init.normal_(self.learnable, 0.0, LEARNED_SPREAD)

    def forward(self) -> Tensor:
        """Return the filter (256, 256)."""
        return self.base + torch.tanh(self.learnable / 2)  # the second term is 2 sigmoid(x) - 1


class Decomposition(nn.Module):
    """An image as the parts that filters let pass."""

    _DCT_all: Tensor
    _DCT_all_T: Tensor

    def __init__(self) -> None:
        super().__init__()
        matrix = cosine_matrix(SIDE)
        self.register_buffer("_DCT_all", matrix)
        self.register_buffer("_DCT_all_T", matrix.T.contiguous())
        self.filters = nn.ModuleList(Filter(*band) for band in BANDS)

    def forward(self, images: Tensor) -> Tensor:
        """Return the parts (B, 12, 256, 256) of images (B, 3, 256, 256), the colours of a part in a row."""
        spectrum = self._DCT_all @ images @ self._DCT_all_T
        filters = torch.stack([each() for each in self.filters])[:, None]  # (4, 1, 256, 256)
        parts = self._DCT_all_T @ (spectrum[:, None] * filters) @ self._DCT_all
        return parts.flatten(1, 2)


class BenchF3Net(BenchDetector):
    """An Xception on the parts of an image."""

    def __init__(self) -> None:
        super().__init__(len(BANDS) * COLOURS, nn.Sequential(nn.Identity(), last_layer()))
        self.FAD_head = Decomposition()

    def widen_stem(self, weight: Tensor) -> Tensor:
        """Return the weights of colours for each part, divided by the number of parts."""
        return weight.repeat(1, len(BANDS), 1, 1) / len(BANDS)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, 256, 256)."""
        # high frequencies are weak compared with low ones: half precision would lose them
        with torch.autocast(images.device.type, enabled=False):
            parts = self.FAD_head(images.float())
        return self.backbone(parts)  # type: ignore[no-any-return]  # torch: modules return Any


@register_model(
    "deepfakebench/f3net",
    summary="F3-Net of DeepfakeBench, an Xception on frequency bands",
    head="backbone.last_linear.1",
    head_dropout=0.5,
    mean=HALF,
    std=HALF,
    width=WIDTH,
    input_size=SIDE,
)
def deepfakebench_f3net() -> nn.Module:
    """Return the network, with random weights."""
    return BenchF3Net()
