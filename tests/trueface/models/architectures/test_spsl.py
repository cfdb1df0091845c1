"""The phase as a fourth channel."""

import torch

from trueface.models.architectures.spsl import phase_image
from trueface.models.detectors import build

torch.set_num_threads(1)


def test_the_phase_image_has_amplitudes_of_one_and_the_phases_of_the_grey_image() -> None:
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64).float()
    spectrum = torch.fft.fft2(phase_image(images))
    torch.testing.assert_close(spectrum.abs(), torch.ones_like(spectrum.abs()))
    grey = torch.fft.fft2(images.mean(1, keepdim=True))
    # of real coefficients the phase is 0 or pi, with either sign
    torch.testing.assert_close(spectrum * grey.abs(), grey, rtol=1e-3, atol=1e-3)


def test_contrast_does_not_change_the_phase() -> None:
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(phase_image(images), phase_image(images / 2), rtol=0, atol=1e-5)


def test_the_answer_for_an_image_does_not_depend_on_its_batch() -> None:
    model = build("spsl", weights="none", seed=1)
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-5)


def test_gradients_reach_the_pixels_even_of_an_image_of_one_colour() -> None:
    model = build("spsl", weights="none", seed=1)
    images = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
