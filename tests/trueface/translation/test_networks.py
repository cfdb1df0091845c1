"""StarGAN's networks: the authors' names and sizes, and what a translator refuses."""

import pytest
import torch

from tests.trueface.translation.build import a_translator, tiny
from trueface.runtime.errors import JobError
from trueface.translation.settings import critic_layers
from trueface.translation.translator import Generator, GeneratorShape, build_critic


def test_the_full_generator_has_the_names_and_sizes_of_the_authors() -> None:
    state = Generator(GeneratorShape(5)).state_dict()
    assert state["main.0.weight"].shape == (64, 8, 7, 7)
    assert state["main.6.weight"].shape == (256, 128, 4, 4)
    blocks = [f"main.{number}.main.0.weight" for number in range(9, 15)]
    assert all(state[name].shape == (256, 256, 3, 3) for name in blocks)
    assert state["main.15.weight"].shape == (256, 128, 4, 4)
    assert state["main.18.weight"].shape == (128, 64, 4, 4)
    assert state["main.21.weight"].shape == (3, 64, 7, 7)
    assert sum(tensor.numel() for tensor in state.values()) == 8_430_528


@pytest.mark.parametrize(("size", "layers"), [(128, 6), (32, 4), (24, 3), (256, 6), (20, 2)])
def test_the_critic_halves_down_to_two_pixels_and_at_most_six_times(size: int, layers: int) -> None:
    assert critic_layers(size) == layers


@pytest.mark.parametrize("gan", ["hinge", "wgan-gp"])
@pytest.mark.parametrize("size", [24, 32])
def test_the_critic_judges_places_and_attributes(gan: str, size: int) -> None:
    critic = build_critic(tiny(size=size, gan=gan), 3, seed=1)
    realness, logits = critic(torch.zeros(2, 3, size, size))
    assert realness.shape[:2] == (2, 1)
    assert logits.shape == (2, 3)


def test_translated_images_stay_within_range_and_follow_the_labels() -> None:
    translator = a_translator()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    none = translator(images, torch.zeros(2, 3))
    every = translator(images, torch.ones(2, 3))
    assert none.shape == images.shape
    assert none.abs().max() <= 1
    assert not torch.equal(none, every)


def test_an_attack_gets_gradients_of_images_and_none_of_weights() -> None:
    translator = a_translator()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    translator(images, torch.ones(1, 3)).square().sum().backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in translator.generator.parameters())


@pytest.mark.parametrize(
    ("images", "targets", "reason"),
    [
        ((2, 1, 32, 32), (2, 3), "takes images of 3 channels"),
        ((2, 3, 30, 32), (2, 3), "multiples of 4, and got 32x30"),
        ((2, 3, 32, 32), (2, 5), "has 3 labels .dark_hair, light_background, warm_skin., and got"),
        ((2, 3, 32, 32), (3, 3), "targets 3×3 for 2 images"),
    ],
)
def test_images_and_labels_of_another_shape_are_refused(
    images: tuple[int, ...], targets: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(JobError, match=reason):
        a_translator()(torch.zeros(images), torch.zeros(targets))
