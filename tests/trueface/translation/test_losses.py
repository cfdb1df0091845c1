"""Losses against values worked out by hand."""

import math

import pytest
import torch

from trueface.translation.training import (
    attribute_loss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    reconstruction_loss,
)


def test_the_wasserstein_loss_is_the_difference_of_means() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5])
    assert critic_loss("wgan-gp", real, fake).item() == -2.0


def test_the_hinge_loss_is_zero_beyond_the_margins() -> None:
    real, fake = torch.tensor([2.0, 0.25]), torch.tensor([-3.0, 0.5])
    assert critic_loss("hinge", real, fake).item() == pytest.approx(0.75 / 2 + 1.5 / 2)


def test_the_generator_wants_its_images_to_look_real() -> None:
    assert generator_loss(torch.tensor([1.0, 2.0])).item() == -1.5


def test_the_gradient_penalty_of_a_linear_critic_is_its_slope_beyond_one() -> None:
    slope = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)  # norm 5: (5 - 1)² = 16
    real, fake = torch.randn(3, 2, 1, 1), torch.randn(3, 2, 1, 1)
    penalty = gradient_penalty(
        lambda x: (x * slope).sum((1, 2, 3)), real, fake, torch.rand(3, 1, 1, 1)
    )
    assert penalty.item() == pytest.approx(16.0, rel=1e-5)


def test_the_gradient_penalty_looks_between_real_and_fake() -> None:
    seen = []

    def squares(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return (x**2).sum((1, 2, 3)) / 2  # its slope at x is x

    real, fake = torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 1, 1, 1)
    penalty = gradient_penalty(squares, real, fake, torch.full((1, 1, 1, 1), 0.75))
    assert seen[0].item() == 3.0
    assert penalty.item() == pytest.approx(4.0)  # (3 - 1)²


def test_the_gradient_penalty_trains_the_critic() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    penalty = gradient_penalty(
        lambda x: weight * x.flatten(1).sum(1),
        torch.ones(2, 1, 1, 1),
        torch.zeros(2, 1, 1, 1),
        torch.full((2, 1, 1, 1), 0.5),
    )
    penalty.backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(4.0)  # d(w - 1)²/dw at 3


def test_attributes_sum_over_labels_and_average_over_images() -> None:
    loss = attribute_loss(torch.zeros(2, 3), torch.tensor([[1.0, 0, 1], [0, 0, 1]]))
    assert loss.item() == pytest.approx(3 * math.log(2))


def test_reconstruction_is_the_mean_absolute_difference() -> None:
    assert reconstruction_loss(torch.tensor([1.0, -1.0]), torch.zeros(2)).item() == 1.0
