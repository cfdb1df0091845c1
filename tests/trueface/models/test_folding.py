"""Batch norms that become part of convolutions, where that is right."""

import pytest
import torch
from torch import Tensor, nn

from trueface.models.detectors import build
from trueface.models.head import inputs_of
from trueface.models.inference import folded


class Crossed(nn.Module):
    """Its batch norm was registered after one convolution, and follows another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.second(self.norm(self.first(images)))
        return self.fc(features.mean((2, 3)))  # type: ignore[no-any-return]  # torch


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), inputs_of(network.get_submodule("fc")) as inputs:
        network(images)
    return inputs[0]


@pytest.mark.parametrize("crossed", [False, True])
def test_a_folded_network_has_the_features_of_the_original(*, crossed: bool) -> None:
    torch.manual_seed(1)
    network: nn.Module = Crossed()
    if not crossed:
        layers = {"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}
        network = nn.Sequential()
        for name, layer in (layers | {"pool": nn.AdaptiveAvgPool2d(1)}).items():
            network.add_module(name, layer)
        network.add_module("flat", nn.Flatten())
        network.add_module("fc", nn.Linear(4, 1))
    for _ in range(20):  # statistics far from those of the beginning
        network(torch.randn(8, 3, 8, 8) * 3 + 2)
    network.eval()
    images = torch.randn(2, 3, 8, 8)
    copy = folded(network, "fc")
    torch.testing.assert_close(features(copy, images), features(network, images))
    norms = [module for module in copy.modules() if isinstance(module, nn.BatchNorm2d)]
    assert bool(norms) == crossed


@pytest.mark.parametrize("name", ["mesonet", "f3net", "spsl"])
def test_a_folded_detector_has_the_logits_of_the_original(name: str) -> None:
    network = build(name, weights="none", seed=1).network.train()
    images = torch.rand(8, 3, 64, 64)
    with torch.no_grad():
        for _ in range(20):
            network(images)
        torch.testing.assert_close(
            folded(network, "fc")(images), network.eval()(images), rtol=1e-3, atol=1e-3
        )
