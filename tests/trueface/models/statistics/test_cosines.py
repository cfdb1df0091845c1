import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from trueface.models.pixel_statistics import (
    BINS,
    TRANSFORM_EPSILON,
    BlockCosine,
    CosineTransform,
    RadialSpectrum,
    luma,
    luma_chroma,
)
from trueface.runtime.errors import JobError

torch.set_num_threads(1)


def images(count: int = 3, side: int = 64, seed: int = 0) -> Tensor:
    """Return smooth random images with some noise, in whole grey levels."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=random) * 255
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    noise = 4 * torch.randn(count, 3, side, side, generator=random)
    return (smooth + noise).round().clamp(0, 255)


def grey(plane: Tensor) -> Tensor:
    return plane.expand(1, 3, *plane.shape)


class TestTransform:
    def test_a_constant_image_has_its_first_coefficient_alone(self) -> None:
        magnitudes = (
            CosineTransform(32)(grey(torch.full((32, 32), 100.0))).exp() - TRANSFORM_EPSILON
        )
        assert float(magnitudes[0, 0]) == pytest.approx(100 * 32, rel=1e-5)
        assert float(magnitudes[0, 1:].abs().max()) < 0.01

    def test_a_cosine_of_one_frequency_has_that_coefficient_alone(self) -> None:
        place = torch.arange(32) + 0.5
        wave = 50 * torch.cos(math.pi / 32 * 5 * place).expand(32, 32)
        magnitudes = CosineTransform(32)(grey(wave)).exp() - TRANSFORM_EPSILON
        assert int(magnitudes.argmax()) == 5
        # 32 rows of sqrt(1/32), and a cosine of norm sqrt(32/2) along them
        assert float(magnitudes.max()) == pytest.approx(
            50 * math.sqrt(32) * math.sqrt(16), rel=1e-5
        )
        assert float(magnitudes.flatten().topk(2).values[1]) < 0.01

    def test_it_is_that_of_scipy(self) -> None:
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

    def test_what_is_left_beside_the_last_block_does_not_count(self) -> None:
        pixels = images(1, side=72)
        assert torch.equal(BlockCosine()(pixels), BlockCosine()(pixels.clone()))
        assert torch.allclose(
            BlockCosine()(pixels[..., :64, :64]),
            BlockCosine()(pixels[..., :69, :71]),
            atol=1e-5,
        )

    def test_a_small_image_is_refused(self) -> None:
        with pytest.raises(JobError, match="at least 64 by 64 pixels, and these are 63 by 72"):
            BlockCosine()(images(1, side=72)[..., :63])


class TestSpectrum:
    def test_white_noise_has_a_flat_profile_of_its_variance(self) -> None:
        noise = torch.randn(4, 1, 256, 256, generator=torch.Generator().manual_seed(1))
        profile = RadialSpectrum()(10 * noise.expand(4, 3, 256, 256)).view(4, 3, BINS).mean(0)[0]
        assert torch.allclose(profile[10:-10], torch.tensor(100.0).log(), atol=0.2)

    def test_a_wave_stands_at_its_frequency(self) -> None:
        wave = 50 * torch.cos(2 * math.pi * 40 / 256 * torch.arange(256.0)).expand(256, 256)
        profile = RadialSpectrum()(grey(wave)).view(3, BINS)[0]
        assert abs(int(profile[1:].argmax()) + 1 - 40) <= 1

    def test_images_of_any_size_have_as_many_numbers(self) -> None:
        for height, width in ((32, 33), (100, 64)):
            assert RadialSpectrum()(images(2, side=104)[..., :height, :width]).shape == (2, 540)


def test_a_gradient_reaches_the_pixels() -> None:
    for module in (CosineTransform(64), RadialSpectrum()):
        pixels = images(2).requires_grad_()
        module(pixels).sum().backward()
        assert pixels.grad is not None
        assert bool(pixels.grad.isfinite().all())
        assert float(pixels.grad.abs().max()) > 0


@pytest.mark.parametrize("module", [CosineTransform(64), BlockCosine(), RadialSpectrum()])
def test_an_image_has_the_same_numbers_alone_and_in_a_batch(module: torch.nn.Module) -> None:
    pixels = images()
    alone = torch.cat([module(image[None]) for image in pixels])
    # logs of small coefficients follow rounding
    assert torch.allclose(module(pixels), alone, atol=2e-3)
