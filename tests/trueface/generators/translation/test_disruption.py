"""Disruptions of an adversarial training: they raise the loss that they claim, within their bound."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.translation.build import SIZE, a_translator, tiny
from trueface.generators.translation.disruption import COLOURS, disrupt_training_images
from trueface.generators.translation.translator import GeneratorShape, build_generator

EPS = 0.05


def pictures(count: int = 4) -> tuple[Tensor, Tensor]:
    """Return images and labels, some pixels at the ends of the range."""
    rng = torch.Generator().manual_seed(4)
    images = (torch.rand((count, 3, SIZE, SIZE), generator=rng) * 2.4 - 1.2).clamp(-1, 1)
    return images, torch.randint(0, 2, (count, 3), generator=rng).float()


def disrupted(seed: int = 7, **attack: Any) -> Tensor:
    images, labels = pictures()
    given = {f"adversarial_{name}": value for name, value in attack.items()}
    settings = tiny(adversarial="generator", **given)
    rng = torch.Generator().manual_seed(seed)
    return disrupt_training_images(a_translator(), images, labels, settings, rng)


@pytest.mark.parametrize(
    ("attack", "target"),
    [("fgsm", "grey"), ("fgsm", "away"), ("bim", "black"), ("pgd", "grey"), ("pgd", "away")],
)
def test_outputs_get_closer_to_the_target_or_further_away_within_eps(
    attack: str, target: str
) -> None:
    images, labels = pictures()
    made = disrupted(attack=attack, target=target, eps=EPS)
    assert float((made - images).abs().max()) <= EPS + 1e-6
    assert float(made.abs().max()) <= 1
    before, after = (a_translator()(each, labels) for each in (images, made))
    wanted = before if target == "away" else torch.full_like(images, COLOURS[target])
    errors = [(each - wanted).square().flatten(1).mean(1) for each in (before, after)]
    assert bool((errors[1] > errors[0] if target == "away" else errors[1] < errors[0]).all())


def test_one_step_follows_the_sign_of_the_gradient() -> None:
    images, labels = pictures()
    asked = images.clone().requires_grad_()
    a_translator()(asked, labels).pow(2).mean().backward()  # type: ignore[no-untyped-call]  # torch
    assert asked.grad is not None
    expected = (images - EPS * asked.grad.sign()).clamp(-1, 1)
    assert torch.allclose(disrupted(attack="fgsm", eps=EPS), expected, atol=1e-6)


def test_attack_leaves_no_gradients_in_the_trained_generator() -> None:
    images, labels = pictures()
    generator = build_generator(GeneratorShape(3, width=4, blocks=1), seed=1)
    rng = torch.Generator().manual_seed(1)
    settings = tiny(adversarial="both", adversarial_steps=1)
    made = disrupt_training_images(generator, images, labels, settings, rng)
    assert not made.requires_grad
    assert all(each.grad is None and each.requires_grad for each in generator.parameters())
