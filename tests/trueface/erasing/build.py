"""A diffuser small enough to reckon by hand, and a small real one."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trueface.diffusion.diffuser import Diffuser, make_schedule
from trueface.diffusion.networks import EpsNetwork, NetworkShape, build_network
from trueface.erasing.erasure import ErasingProblem
from trueface.erasing.registry import ErasureOptions

CONCEPT, ANCHOR, NULL = 2.0, -1.0, 0.5  # embeddings of the linear network
NAMES = ("anchor", "concept", "other")


class LinearEps(EpsNetwork):
    """eps(z, e) = a z + b e, of images of one pixel: two parameters, `a` and the map's weight b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__(
            NetworkShape(network="mlp", size=1, channels=1, classes=2, embedding=1, widths=(1,))
        )
        self.a = nn.Parameter(torch.tensor([a]))
        self.map = nn.Linear(1, 1, bias=False)
        assert self.table is not None
        with torch.no_grad():
            self.map.weight.fill_(b)
            self.table.weight.copy_(torch.tensor([[ANCHOR], [CONCEPT], [NULL]]))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        assert embedding is not None
        added: Tensor = self.map(embedding)
        return self.a * x + added.reshape(-1, 1, 1, 1)

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return (self.map,)


def linear(a: float, b: float) -> Diffuser:
    return Diffuser(
        network=LinearEps(a, b),
        schedule=make_schedule("linear"),
        size=1,
        channels=1,
        class_names=NAMES[:2],
        has_null=True,
    )


def gradients(diffuser: Diffuser, loss: Tensor) -> tuple[float, float]:
    """Return the loss's derivatives by a and b."""
    network = diffuser.network
    assert isinstance(network, LinearEps)
    by_a, by_b = torch.autograd.grad(
        loss, (network.a, network.map.weight), allow_unused=True, materialize_grads=True
    )
    return float(by_a), float(by_b)


def small(*, has_null: bool = True, seed: int = 0) -> Diffuser:
    """Return a small untrained network of three classes, whose maps and last layer are not zero."""
    shape = NetworkShape(network="mlp", size=4, channels=1, classes=3, embedding=4, widths=(16, 16))
    network = build_network(shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Diffuser(
        network=network.eval(),
        schedule=make_schedule("linear"),
        size=4,
        channels=1,
        class_names=NAMES,
        has_null=has_null,
    )


FEW: dict[str, Any] = {
    "num_steps": 3, "batch_size": 8, "paths": 4, "sample_steps": 3, "refresh": 2, "lr": 1e-2,
}  # fmt: skip


def few(options: ErasureOptions, **more: Any) -> ErasureOptions:
    """Return a method's options with few steps."""
    return replace(options, **{**FEW, **more})


def a_problem(options: ErasureOptions, **more: Any) -> ErasingProblem:
    return ErasingProblem(**{"erase": 1, "anchor": 0, "options": options, "seed": 3, **more})
