"""Small models and images for tests of purifiers."""

import torch
from torch import Tensor

from tests.trueface.generators.diffusion.closed_forms import drawn, gaussian
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.schedule import ScheduleName, make_schedule

SIDE = 8


def a_gaussian_diffuser(
    deviation: float = 0.3, *, channels: int = 3, t_max: int = 0, schedule: ScheduleName = "linear"
) -> Diffuser:
    """A diffuser of images of Gaussian pixels, of 8 pixels a side; it takes any side."""
    made = gaussian(deviation, make_schedule(schedule), t_max, size=SIDE, channels=channels)
    made.network.eval().requires_grad_(requires_grad=False)
    return made


def smooth_images(count: int = 4, side: int = 32, seed: int = 1) -> Tensor:
    """Images of slow waves in each channel, within ±.8: count×3×side×side."""
    rng = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0, 1, side)
    slopes = torch.rand(count, 3, 2, 1, 1, generator=rng) * 4 - 2
    shift = torch.rand(count, 3, 1, 1, generator=rng) * 6
    return 0.8 * torch.sin(
        slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid[None, :] + shift
    )


def normal(shape: torch.Size, seed: int = 2) -> Tensor:
    """Standard normal numbers of a seed."""
    return drawn(*shape, seed=seed)
