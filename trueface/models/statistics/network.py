"""A detector by statistics: fixed numbers of an image, and a last layer that is fitted on them."""

import torch
from torch import Tensor, nn

from trueface.models.ridge_head import RidgeHead
from trueface.models.statistics.families import Families

REVISION = 2  # of what the numbers are: a change of any gets the next, so that no store mixes them


class StatisticsNetwork(nn.Module):
    """Families of statistics, which count alike whatever their widths, and a ridge layer.

    A ridge penalises all coefficients alike, so that a family of many numbers would drown the
    others. The layer's weights make up for it; their mean square is 1.

    Args:
        families: modules from pixels to numbers, with `width` and `weights`.
    """

    def __init__(self, *families: nn.Module) -> None:
        super().__init__()
        self.features = Families(families)
        weights = self.features.weights()
        self.fc = RidgeHead(self.features.width)
        self.fc.weights.copy_(weights / weights.square().mean().sqrt())

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see in tensors and layers."""
        return f"revision={REVISION}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, 1) of pixels (B, 3, H, W) in 0 … 255, float32."""
        with torch.autocast(pixels.device.type, enabled=False):
            features = self.features(pixels)
        return self.fc(features)  # type: ignore[no-any-return]  # torch: modules return Any
