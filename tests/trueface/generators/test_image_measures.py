"""Distances and features of images against values that a hand can compute, and against slow loops."""

import math
from pathlib import Path

import pytest
import torch

from trueface.generators.image_measures import (
    feature_network,
    fraction_above,
    frechet_distance,
    l1,
    linf,
    mse,
    psnr,
    ssim,
)
from trueface.runtime.errors import UsageError

SQUEEZENET = Path(__file__).parents[4] / "shared/data/weights/squeezenet1_1_imagenet_tv_fp16.pt"


def pictures(n: int = 2, side: int = 16, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand((n, 3, side, side), generator=rng) * 2 - 1


def test_distances_are_per_image() -> None:
    black = torch.full((2, 3, 4, 4), -1.0)
    other = black.clone()
    other[1, :, 0, 0] = 1.0  # one pixel of sixteen is two away
    assert mse(black, other).tolist() == [0, 4 / 16]
    assert l1(black, other).tolist() == [0, 2 / 16]
    assert linf(black, other).tolist() == [0, 2]
    assert psnr(black, other).tolist() == [math.inf, pytest.approx(10 * math.log10(16))]


def test_rate_counts_images_not_batches() -> None:
    assert fraction_above(torch.tensor([0.04, 0.05, 0.06, 1.0])) == 0.5
    with pytest.raises(ValueError, match="no image"):
        fraction_above(torch.empty(0))


def test_images_without_partners_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        mse(pictures(2), pictures(3))


def slow_ssim(a: torch.Tensor, b: torch.Tensor, side: int) -> float:
    """Return the structural similarity of one channel, H×W in [-1, 1], window by window."""
    offsets = [at - (side - 1) / 2 for at in range(side)]
    row = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in offsets]
    weights = torch.tensor([[x * y for x in row] for y in row], dtype=torch.float64)
    weights /= weights.sum()
    likeness = []
    for top in range(len(a) - side + 1):
        for left in range(len(a) - side + 1):
            x = (a[top : top + side, left : left + side].double() + 1) / 2
            y = (b[top : top + side, left : left + side].double() + 1) / 2
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            vxy = (weights * (x - mx) * (y - my)).sum()
            c1, c2 = 0.01**2, 0.03**2
            likeness.append(
                (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return float(torch.stack(likeness).mean())


@pytest.mark.parametrize(("side", "window"), [(13, 11), (8, 7)])
def test_ssim_equals_a_slow_loop(side: int, window: int) -> None:
    first = pictures(1, side)
    second = (first + 0.2 * pictures(1, side, seed=1)).clamp(-1, 1)
    expected = [slow_ssim(first[0, c], second[0, c], window) for c in range(3)]
    assert ssim(first, second).tolist() == [pytest.approx(sum(expected) / 3, abs=1e-9)]


def test_ssim_is_high_for_equal_images_and_low_for_their_negatives() -> None:
    images = pictures(2)
    assert ssim(images, images).tolist() == [pytest.approx(1)] * 2
    assert (ssim(images, -images) < 0).all()


def test_frechet_distance_of_known_gaussians_equals_the_closed_form() -> None:
    """Of diagonal covariances it is |m1 - m2|² + Σ (s1 - s2)²."""
    signs = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])  # uncorrelated
    unit = signs * (3 / 4) ** 0.5  # values of variance 1, with N - 1 below
    first, second = unit * torch.tensor([1.0, 2.0]), unit * torch.tensor([3.0, 2.0]) + 5
    assert frechet_distance(first, second) == pytest.approx(50 + 4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_does_not_depend_on_the_axes() -> None:
    rng = torch.Generator().manual_seed(3)
    first, second = (torch.randn((40, 6), generator=rng) for _ in range(2))
    turned, _ = torch.linalg.qr(torch.randn((6, 6), generator=rng).double())
    expected = frechet_distance(first, second)
    assert frechet_distance(first.double() @ turned, second.double() @ turned) == pytest.approx(
        expected
    )
    assert frechet_distance(second, first) == pytest.approx(expected)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 of each"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))


def test_random_network_is_always_the_same() -> None:
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    features = feature_network("random")(images)
    assert features.shape == (3, 64)
    assert torch.equal(features, feature_network("random")(images))


def test_missing_file_of_a_trained_network_is_an_error_with_advice() -> None:
    with pytest.raises(UsageError, match="feature_weights"):
        feature_network("squeezenet")


def test_network_of_the_lab_returns_the_input_of_its_last_layer() -> None:
    if not SQUEEZENET.is_file():
        pytest.skip("../shared/data/weights is not here")
    network = feature_network("squeezenet", SQUEEZENET)
    assert network.name == "squeezenet"
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 512)
