"""Neighbouring pixel relationships."""

import torch
from torch.nn import functional

from trueface.models.architectures.npr import residual
from trueface.models.detectors import build

torch.set_num_threads(1)


def test_an_image_that_was_enlarged_by_repetition_leaves_nothing() -> None:
    small = torch.rand(2, 3, 9, 7)
    large = functional.interpolate(small, scale_factor=2, mode="nearest")
    assert residual(large).abs().max() == 0


def test_a_pixel_differs_by_what_it_is_more_than_the_upper_left_of_its_four() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert residual(image)[0, 0, :2, :2].tolist() == [[0, 1], [4, 5]]


def test_an_odd_last_row_or_column_is_left_out() -> None:
    odd = torch.rand(2, 3, 5, 7)
    assert torch.equal(residual(odd), residual(odd[..., :4, :6]))


def test_the_network_has_the_size_that_was_published() -> None:
    model = build("npr", weights="none", seed=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_437_761
    assert model.feature_dim == 512
