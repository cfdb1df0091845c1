"""Meso-4 at the published size and at others."""

import pytest
import torch

from trueface.models.detectors import build

torch.set_num_threads(1)


def test_the_network_has_the_size_that_was_published() -> None:
    model = build("mesonet", weights="none", seed=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 27_977


def test_at_256_pixels_the_last_pooling_is_over_4_by_4_as_published() -> None:
    blocks = build("mesonet", weights="none", seed=1).network.get_submodule("blocks")
    *before, last = list(blocks.children())
    maps = torch.nn.Sequential(*before)(torch.rand(1, 3, 256, 256))
    assert torch.equal(last(maps), torch.nn.functional.max_pool2d(maps, 4))


@pytest.mark.parametrize("size", [(8, 8), (32, 48), (64, 64), (299, 299)])
def test_images_of_any_size_have_a_logit(size: tuple[int, int]) -> None:
    model = build("mesonet", weights="none", seed=1)
    with torch.inference_mode():
        assert model(torch.rand(2, 3, *size)).shape == (2, 1)
