"""The noise estimated in an image."""

import pytest
import torch

from tests.trueface.purification.build import normal, smooth_images
from trueface.data.made_folders import rounded
from trueface.purification.steps import estimated_noise


@pytest.mark.parametrize("deviation", [0.01, 0.02, 0.05, 0.1])
def test_white_noise_on_smooth_images_is_measured(deviation: float) -> None:
    clean = smooth_images(6)
    noisy = clean + deviation * normal(clean.shape)
    assert estimated_noise(noisy) == pytest.approx(torch.full((6,), deviation), rel=0.12)


def test_random_signs_are_measured_as_well() -> None:
    clean = smooth_images(6)
    noisy = clean + 0.05 * normal(clean.shape).sign()
    assert estimated_noise(noisy) == pytest.approx(torch.full((6,), 0.05), rel=0.15)


def test_smooth_images_hold_hardly_any_even_when_they_are_rounded() -> None:
    assert float(estimated_noise(smooth_images(6)).max()) < 0.001
    assert float(estimated_noise(rounded(smooth_images(6))).max()) < 0.005


def test_an_edge_is_not_taken_for_noise() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1
    image[..., 10:20, :] -= 0.5
    assert float(estimated_noise(image)) == 0


def test_each_image_has_a_noise_of_its_own_in_any_batch() -> None:
    clean = smooth_images(3)
    noisy = clean + torch.tensor([0.0, 0.03, 0.1])[:, None, None, None] * normal(clean.shape)
    together = estimated_noise(noisy)
    assert torch.equal(together, torch.cat([estimated_noise(row[None]) for row in noisy]))
    assert together[0] < together[1] < together[2]


def test_an_image_of_two_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="3x3 is needed"):
        estimated_noise(torch.zeros(1, 3, 2, 9))
