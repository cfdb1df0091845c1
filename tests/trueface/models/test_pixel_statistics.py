import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from torch import Tensor

from trueface.models.pixel_statistics import (
    BINS,
    TRANSFORM_EPSILON,
    BlockCosine,
    CosineTransform,
    RadialSpectrum,
    ResidualEnergy,
    Residuals,
    luma,
    luma_chroma,
    rounded_luma_chroma,
)
from trueface.runtime.errors import JobError

torch.set_num_threads(1)
Plane = NDArray[np.float64]


def classes() -> list[frozenset[tuple[int, ...]]]:
    """Return the sets of words that count as one, in the order of their first word."""
    seen: dict[frozenset[tuple[int, ...]], None] = {}
    for word in product(range(-2, 3), repeat=4):
        negative = tuple(-value for value in word)
        seen[frozenset({word, word[::-1], negative, negative[::-1]})] = None
    return list(seen)


def words_along(residual: Plane, step: float) -> Counter[tuple[int, ...]]:
    levels = np.clip(np.round(residual / step), -2, 2).astype(int)
    return Counter(
        tuple(row[start : start + 4].tolist())
        for row in levels
        for start in range(levels.shape[1] - 3)
    )


def slow_reference(plane: Plane, scale: int) -> list[float]:
    numbers = []
    for order, step in enumerate((1, 2, 3, 4), 1):
        if order < 4:
            turned = np.diff(plane.T, order, axis=1)
            words = words_along(np.diff(plane, order, axis=1), step * scale)
        else:
            residual = np.diff(np.diff(plane, 2, axis=1), 2, axis=0)
            turned, words = residual.T, words_along(residual, step * scale)
        words += words_along(turned, step * scale)
        total = sum(words.values())
        numbers += [(sum(words[word] for word in members) / total) ** 0.5 for members in classes()]
    return numbers


@pytest.mark.parametrize("halved", [False, True])
def test_they_are_those_of_a_slow_reference(halved: bool) -> None:
    pixels = images(1, side=128)
    planes = rounded_luma_chroma(pixels)[0].double().numpy()
    if halved:
        planes = planes.reshape(3, 64, 2, 64, 2).sum((2, 4))
    expected = slow_reference(planes[0], 4 if halved else 1)
    ours = Residuals(half_scale=halved)(pixels)[0, : len(expected)]
    assert np.allclose(ours.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("halved", [False, True])
def test_mirrored_image_has_same_statistics(halved: bool) -> None:
    pixels = images(2, side=128)
    module = Residuals(half_scale=halved)
    assert torch.allclose(module(pixels), module(pixels.flip(-1)), rtol=0, atol=1e-6)


def test_small_image_is_refused_with_remedy() -> None:
    with pytest.raises(JobError, match=r"128 by 128 pixels, got 100 by 128. Set resize_size"):
        Residuals()(images(1, side=128)[..., :100])


def test_noise_appears_at_its_frequency_and_the_mirrored_one() -> None:
    pixels = torch.full((1, 3, 130, 130), 100.0)
    pixels[:, :, 60:70:2, 20] += 40
    energies = ResidualEnergy()(pixels).exp().view(3, 16, 8)[0] - 0.05
    assert {int(row) for row in energies.argwhere()[:, 0]} >= {7, 8}
    assert math.isclose(float(energies[:5].abs().max().detach()), 0, abs_tol=1e-4)
    assert int(energies.sum(0).argmax()) == 2  # the cell of columns 16 to 23


def images(count: int = 3, side: int = 64, seed: int = 0) -> Tensor:
    """Return smooth random images with some noise, in whole grey levels."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=rng) * 255
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    noise = 4 * torch.randn(count, 3, side, side, generator=rng)
    return (smooth + noise).round().clamp(0, 255)


def grey(plane: Tensor) -> Tensor:
    return plane.expand(1, 3, *plane.shape)


class TestTransform:
    def test_constant_image_has_only_first_coefficient(self) -> None:
        magnitudes = (
            CosineTransform(32)(grey(torch.full((32, 32), 100.0))).exp() - TRANSFORM_EPSILON
        )
        assert float(magnitudes[0, 0]) == pytest.approx(100 * 32, rel=1e-5)
        assert float(magnitudes[0, 1:].abs().max()) < 0.01

    def test_cosine_of_one_frequency_has_only_that_coefficient(self) -> None:
        place = torch.arange(32) + 0.5
        wave = 50 * torch.cos(math.pi / 32 * 5 * place).expand(32, 32)
        magnitudes = CosineTransform(32)(grey(wave)).exp() - TRANSFORM_EPSILON
        assert int(magnitudes.argmax()) == 5
        # 32 rows of sqrt(1/32), and a cosine of norm sqrt(32/2) along them
        assert float(magnitudes.max()) == pytest.approx(
            50 * math.sqrt(32) * math.sqrt(16), rel=1e-5
        )
        assert float(magnitudes.flatten().topk(2).values[1]) < 0.01

    def test_transform_matches_scipy(self) -> None:
        pixels = images(side=64)
        theirs = dctn(luma(pixels).double().numpy(), norm="ortho", axes=(1, 2))
        ours = CosineTransform(64)(pixels).exp().view(-1, 64, 64) - TRANSFORM_EPSILON
        assert np.allclose(ours.numpy(), np.abs(theirs), rtol=1e-3, atol=0.01)


class TestBlocks:
    def test_they_are_those_of_a_slow_reference(self) -> None:
        pixels = images(1, side=72)
        planes = luma_chroma(pixels)[0].double().numpy()
        ours = BlockCosine()(pixels).view(3, 3, 8, 8).numpy()
        for plane, numbers in zip(planes, ours, strict=True):
            blocks = plane.reshape(9, 8, 9, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
            coefficients = dctn(blocks, norm="ortho", axes=(1, 2))
            assert np.allclose(numbers[0], np.log(np.abs(coefficients).mean(0) + 0.01), atol=1e-3)
            assert np.allclose(numbers[1], np.log(coefficients.std(0) + 0.01), atol=1e-3)
            assert np.allclose(numbers[2], (np.abs(coefficients) < 0.5).mean(0), atol=0.02)

    def test_a_small_image_is_refused(self) -> None:
        with pytest.raises(JobError, match="at least 64 by 64 pixels, got 63 by 72"):
            BlockCosine()(images(1, side=72)[..., :63])


class TestSpectrum:
    def test_wave_appears_at_its_frequency(self) -> None:
        wave = 50 * torch.cos(2 * math.pi * 40 / 256 * torch.arange(256.0)).expand(256, 256)
        profile = RadialSpectrum()(grey(wave)).view(3, BINS)[0]
        assert abs(int(profile[1:].argmax()) + 1 - 40) <= 1

    def test_images_of_any_size_have_equally_many_statistics(self) -> None:
        for height, width in ((32, 33), (100, 64)):
            assert RadialSpectrum()(images(2, side=104)[..., :height, :width]).shape == (2, 540)


def test_gradient_reaches_pixels() -> None:
    for module in (CosineTransform(64), RadialSpectrum()):
        pixels = images(2).requires_grad_()
        module(pixels).sum().backward()
        assert pixels.grad is not None
        assert bool(pixels.grad.isfinite().all())
        assert float(pixels.grad.abs().max()) > 0
