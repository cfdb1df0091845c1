"""`nodown`: which networks it is for, and what it does to them."""

import pytest
import torch
from torch import nn

from launcher.api import JobError
from trueface.models.assembly import keep_resolution
from trueface.models.detectors import build

torch.set_num_threads(1)


class Branches(nn.Module):
    """Two convolutions that read the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 4, 3, stride=2, padding=1) for _ in range(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.first(images) + self.second(images)
        return made.mean((1, 2, 3)).view(-1, 1)


def test_the_setting_makes_of_a_resnet_the_network_that_is_called_nodown() -> None:
    setting = build("baseline18", weights="none", seed=1, nodown=True)
    name = build("nodown18", weights="none", seed=1)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(setting(images), name(images))


@pytest.mark.parametrize("family", ["layers", "patch", "linear"])
def test_a_family_is_made_of_the_network_that_keeps_the_resolution(family: str) -> None:
    setting = build(f"{family}/baseline18", weights="none", seed=1, nodown=True)
    name = build(f"{family}/nodown18", weights="none", seed=1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(setting.forward_features(images), name.forward_features(images))


@pytest.mark.parametrize("name", ["mobilenet", "patch/squeezenet"])
def test_maps_of_other_networks_become_twice_as_large(name: str) -> None:
    sides = []
    for nodown in (False, True):
        network = build(name, weights="none", seed=1, nodown=nodown).network
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        shapes = list[int]()
        first.register_forward_hook(lambda *call, shapes=shapes: shapes.append(call[2].shape[-1]))
        with torch.inference_mode():
            network(torch.rand(1, 3, 64, 64))
        sides += shapes
    assert sides[1] in {2 * sides[0], 2 * sides[0] - 1, 2 * sides[0] + 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("slim18", r"conv1 of slim18 has stride 1 and a kernel of 3; leave nodown out"),
        ("srmconv", r"blocks\.0\.0 of srmconv has stride 1"),
        ("mesonet", r"blocks\.0 of mesonet has stride 1"),
    ],
)
def test_a_network_without_such_a_layer_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        build(name, weights="none", seed=1, nodown=True)


def test_a_network_that_begins_in_several_places_is_refused() -> None:
    with pytest.raises(JobError, match=r"begins with 2 convolutions \(first, second\)"):
        keep_resolution(Branches(), "branches", None)


def test_a_network_of_no_convolution_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
    with pytest.raises(JobError, match="begins with none"):
        keep_resolution(network, "flat", 32)
