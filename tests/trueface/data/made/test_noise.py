"""Noise that belongs to an image."""

import torch

from trueface.data.made.folders import ImageNoise

NAMES = ("a/1.png", "a/2.png", "b.png")
LIKE = torch.zeros(3, 2, 5, 5)


def test_an_image_has_the_same_noise_in_every_batch() -> None:
    together = ImageNoise(NAMES, seed=7).normal("z1", LIKE)
    alone = [ImageNoise([name], seed=7).normal("z1", LIKE[:1]) for name in NAMES]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(
        ImageNoise(NAMES, seed=7).of_rows([2, 0]).normal("z1", LIKE[:2]), together[[2, 0]]
    )


def test_the_suffix_of_a_name_does_not_count() -> None:
    one, other = (
        ImageNoise([f"x{suffix}"], 1).normal("z", LIKE[:1]) for suffix in (".png", ".jpg")
    )
    assert torch.equal(one, other)


def test_names_streams_and_seeds_draw_other_noise() -> None:
    draws = [
        ImageNoise([name], seed).normal(stream, LIKE[:1])
        for name, seed, stream in (("a", 1, "z"), ("b", 1, "z"), ("a", 2, "z"), ("a", 1, "y"))
    ]
    for place, drawn in enumerate(draws):
        assert all(not torch.equal(drawn, other) for other in draws[place + 1 :])


def test_normal_and_uniform_numbers_have_their_moments() -> None:
    like = torch.zeros(1, 100, 100)
    noise = ImageNoise(["a"], 3)
    normal, uniform = noise.normal("n", like), noise.uniform("u", like)
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    assert -1 <= float(uniform.min()) < -0.99 < 0.99 < float(uniform.max()) < 1


def test_noise_takes_the_type_of_the_batch() -> None:
    assert ImageNoise(["a"], 1).normal("z", LIKE[:1].double()).dtype == torch.float64
