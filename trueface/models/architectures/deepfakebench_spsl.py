"""DeepfakeBench's SPSL: colours and phase, as of H. Liu et al., CVPR 2021, on a whole Xception.

See `blocks.deepfakebench`. The fourth channel is the grey image whose spectrum has the same phases, and
amplitudes of 1, also if an amplitude is 0.
"""

import torch
from torch import Tensor, nn

from trueface.models.blocks.deepfakebench import BenchDetector, last_layer
from trueface.models.registry import register_model

HALF = (0.5, 0.5, 0.5)
WIDTH = 2048  # features of Xception
CHANNELS = 4  # three colours and the phase


class BenchSpsl(BenchDetector):
    """An Xception on colours and phase."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, last_layer())

    def widen_stem(self, weight: Tensor) -> Tensor:
        """Return the mean of the weights of colours for each channel."""
        return weight.mean(1, keepdim=True).repeat(1, CHANNELS, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        x = torch.cat([images, phase_image(images)], dim=1)  # (B, 4, H, W)
        return self.backbone(x)  # type: ignore[no-any-return]  # torch: modules return Any


def phase_image(images: Tensor) -> Tensor:
    """Return the grey image of the same phases with amplitudes of 1, (B, 1, H, W).

    Args:
        images: (B, 3, H, W).
    """
    with torch.autocast(images.device.type, enabled=False):
        spectrum = torch.fft.fft2(images.float().mean(1, keepdim=True))
        phases = spectrum.sgn() + (spectrum == 0)  # the phase of 0 is 0
        phase: Tensor = torch.fft.ifft2(phases).real
    return phase.to(images.dtype)


@register_model(
    "deepfakebench/spsl",
    summary="SPSL of DeepfakeBench, an Xception on colours and phase",
    head="backbone.last_linear",
    mean=HALF,
    std=HALF,
    width=WIDTH,
    usual_side=256,
)
def deepfakebench_spsl() -> nn.Module:
    """Return the network, with random weights."""
    return BenchSpsl()
