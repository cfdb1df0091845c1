"""Small models and images for tests of purifiers."""

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser, ScheduleName, make_schedule
from trueface.diffusion.networks import EpsNetwork, NetworkShape

SIDE = 8


class GaussianScore(EpsNetwork):
    """The exact answer for images whose pixels are independent, normal, of mean 0 and deviation s."""

    def __init__(self, deviation: float, channels: int, schedule: ScheduleName) -> None:
        shape = NetworkShape(
            network="mlp", size=SIDE, channels=channels, classes=0, embedding=0, widths=(1,)
        )
        super().__init__(shape)
        self.weight = torch.nn.Parameter(torch.tensor(deviation))  # a network has a device
        self.schedule = make_schedule(schedule)

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return E[noise | x_t]."""
        del embedding
        signal = self.schedule.alpha_bar_at(t, x).to(x.dtype)
        return (1 - signal).sqrt() / (signal * self.weight**2 + 1 - signal) * x

    def condition_maps(self) -> tuple[torch.nn.Linear, ...]:
        """Return none: it is of no class."""
        return ()


def a_gaussian_diffuser(
    deviation: float = 0.3,
    *,
    channels: int = 3,
    t_max: int = 0,
    schedule: ScheduleName = "linear",
) -> Diffuser:
    """A diffuser of images of Gaussian pixels, of 8 pixels a side; it takes any side."""
    network = GaussianScore(deviation, channels, schedule)
    network.eval().requires_grad_(requires_grad=False)
    return Diffuser(
        network=network,
        schedule=make_schedule(schedule),
        t_max=t_max,
        size=SIDE,
        channels=channels,
    )


def smooth_images(count: int = 4, side: int = 32, seed: int = 1) -> Tensor:
    """Images of slow waves in each channel, within ±.8: count×3×side×side."""
    chance = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0, 1, side)
    slopes = torch.rand(count, 3, 2, 1, 1, generator=chance) * 4 - 2
    shift = torch.rand(count, 3, 1, 1, generator=chance) * 6
    return 0.8 * torch.sin(
        slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid[None, :] + shift
    )


def normal(shape: torch.Size, seed: int = 2) -> Tensor:
    """Standard normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
