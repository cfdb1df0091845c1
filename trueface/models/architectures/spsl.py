"""Spatial-phase shallow learning: H. Liu et al., CVPR 2021, arXiv 2103.01856.

Enlarging an image in a generator repeats its spectrum, which the phase keeps whatever the content.
The fourth channel is the grey image whose spectrum has the same phases, and amplitudes of 1. The
network is shallow, as textures are wanted and no scenes: the beginning of Xception (F. Chollet,
CVPR 2017, arXiv 1610.02357).
"""

import torch
from torch import Tensor, nn

from trueface.models.blocks.xception import ShallowXception
from trueface.models.registry import register_model

WIDTH = 256  # channels of the last block of `ShallowXception`
HALF = (0.5, 0.5, 0.5)
LEAST_AMPLITUDE = 1e-8  # below it a phase means nothing, and becomes 0


class SpatialPhase(ShallowXception):
    """Colours and phase into the beginning of Xception."""

    def __init__(self) -> None:
        super().__init__(channels=4)
        self.fc = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        x = torch.cat([images, phase_image(images)], dim=1)  # (B, 4, H, W)
        return self.fc(super().forward(x))  # type: ignore[no-any-return]  # torch: modules return Any


def phase_image(images: Tensor) -> Tensor:
    """Return the grey image of the same phases with amplitudes of 1, (B, 1, H, W).

    The transform is of each image alone: an image's answer does not depend on its batch.

    Args:
        images: (B, 3, H, W).
    """
    grey = images.float().mean(1, keepdim=True)
    spectrum = torch.fft.fft2(grey)
    phases = spectrum / spectrum.abs().clamp(min=LEAST_AMPLITUDE)
    phase: Tensor = torch.fft.ifft2(phases).real
    return phase.to(images.dtype)


@register_model(
    "spsl", summary="shallow Xception on colours and phase", mean=HALF, std=HALF, width=WIDTH
)
def spsl() -> nn.Module:
    """Return the network, with random weights."""
    return SpatialPhase()
