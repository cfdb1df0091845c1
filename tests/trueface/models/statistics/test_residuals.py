from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.trueface.models.statistics.test_cosines import images
from trueface.models.pixel_statistics import Residuals, whole_luma_chroma, word_classes
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
    planes = whole_luma_chroma(pixels)[0].double().numpy()
    if halved:
        planes = planes.reshape(3, 64, 2, 64, 2).sum((2, 4))
    expected = slow_reference(planes[0], 4 if halved else 1)
    ours = Residuals(halved=halved)(pixels)[0, : len(expected)]
    assert np.allclose(ours.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("halved", [False, True])
def test_a_mirrored_image_has_the_same_numbers(halved: bool) -> None:
    pixels = images(2, side=128)
    module = Residuals(halved=halved)
    assert torch.allclose(module(pixels), module(pixels.flip(-1)), rtol=0, atol=1e-6)


def test_frequencies_of_each_residual_sum_to_1() -> None:
    sums = Residuals()(images(2, side=128)).square().view(2, 3, 4, 169).sum(3)
    assert torch.allclose(sums, torch.ones(()), atol=1e-5)


def test_words_of_a_class_count_as_they_would_apart() -> None:
    weights = Residuals().weights().view(12, 169)
    sizes = torch.tensor([float(len(members)) for members in classes()])
    assert len(word_classes()) == sizes.sum() == 625
    assert torch.allclose(weights[0].square() / weights[0, 0].square(), sizes / sizes[0])
    assert float(weights.square().sum()) == pytest.approx(1, rel=1e-5)


def test_an_image_has_the_same_numbers_alone_and_in_a_batch() -> None:
    pixels = images(3, side=128)
    alone = torch.cat([Residuals()(image[None]) for image in pixels])
    assert torch.equal(Residuals()(pixels), alone)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(Residuals()(channels_last), alone)


def test_a_small_image_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        JobError, match=r"128 by 128 pixels, and these are 100 by 128; set resize_size"
    ):
        Residuals()(images(1, side=128)[..., :100])
