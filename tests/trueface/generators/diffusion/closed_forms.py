"""Networks whose answers are known, and small diffusers of untrained ones."""

import torch
from torch import Tensor, nn

from trueface.generators.diffusion.diffuser import Diffuser, Prediction
from trueface.generators.diffusion.networks import EpsNetwork, NetworkShape, build_network
from trueface.generators.diffusion.schedule import Schedule, make_schedule

SIDE = 4


class GaussianNoise(EpsNetwork):
    """The exact noise in images whose pixels are drawn from N(0, spread²): E[eps | x_t]."""

    def __init__(self, schedule: Schedule, spread: float, size: int, channels: int) -> None:
        super().__init__(
            NetworkShape(
                network="mlp", size=size, channels=channels, classes=0, embedding=0, widths=(1,)
            )
        )
        self.schedule, self.spread = schedule, spread
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        alpha_bar = self.schedule.alpha_bar_at(t, x)
        variance = alpha_bar * self.spread**2 + (1 - alpha_bar)
        return ((1 - alpha_bar).sqrt() / variance).to(x.dtype) * x

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return ()


def gaussian(
    spread: float,
    schedule: Schedule | None = None,
    t_max: int = 0,
    *,
    size: int = SIDE,
    channels: int = 1,
) -> Diffuser:
    """Return a diffuser of images of Gaussian pixels; it takes any side."""
    schedule = schedule or make_schedule("linear")
    network = GaussianNoise(schedule, spread, size, channels)
    return Diffuser(network=network, schedule=schedule, size=size, channels=channels, t_max=t_max)


def small(
    *, classes: int = 3, has_null: bool = True, prediction: Prediction = "eps", size: int = SIDE
) -> Diffuser:
    """Return a diffuser whose weights are random, those that begin at zero included."""
    shape = NetworkShape(
        network="mlp", size=size, channels=1, classes=classes, embedding=4, widths=(8, 8)
    )
    network = build_network(shape, seed=1).eval()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng) / 3)
    return Diffuser(
        network=network,
        schedule=make_schedule("linear"),
        prediction=prediction,
        size=size,
        channels=1,
        class_names=("cross", "disc", "square")[:classes],
        has_null=has_null,
    )


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
