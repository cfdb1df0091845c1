from typing import Any

import torch

from tests.trueface.class_toys import SMALL
from trueface.data.class_images import Images
from trueface.training.class_settings import ClassifySettings
from trueface.training.class_source import Pixels, augmented


def settings(**changed: Any) -> ClassifySettings:
    return ClassifySettings.model_validate({**SMALL, "num_epochs": 2, **changed})


def colours(per_class: int, **changed: Any) -> Pixels:
    labels = torch.arange(3).repeat(per_class)
    random = torch.Generator().manual_seed(per_class)
    pixels = torch.randint(0, 90, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=random)
    pixels[torch.arange(len(labels)), labels] += 150
    names = tuple(f"{at}.png" for at in range(len(labels)))
    return Pixels(Images(pixels, tuple(labels.tolist()), names), settings(**changed))


def test_an_epochs_batches_follow_from_the_epoch_and_a_tests_are_as_they_lie() -> None:
    pixels = colours(4, crop=True)
    first, again, other = (
        torch.cat([images for images, _ in pixels(range(12), epoch=epoch, batch_size=5)])
        for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    ((still, places),) = pixels([3, 1], epoch=None, batch_size=None)
    assert places.tolist() == [3, 1]
    assert torch.equal(still, pixels.images.pixels[[3, 1]])


def test_images_are_mirrored_and_moved_each_on_its_own() -> None:
    batch = torch.randint(1, 256, (64, 3, 16, 16), dtype=torch.uint8)
    random = torch.Generator().manual_seed(1)
    flipped = augmented(batch, random, flip=True, crop=False)
    same = (flipped == batch).flatten(1).all(1)
    assert 10 < int(same.sum()) < 54
    assert torch.equal(flipped[~same], batch[~same].flip(-1))
    moved = augmented(batch, random, flip=False, crop=True)
    assert moved.shape == batch.shape
    for image, shifted in zip(batch, moved, strict=True):
        assert any(
            torch.equal(torch.roll(image, (y, x), (1, 2))[:, 2:-2, 2:-2], shifted[:, 2:-2, 2:-2])
            for y in range(-2, 3)
            for x in range(-2, 3)
        )


def test_the_identity_tells_images_and_what_is_done_to_them() -> None:
    torch.manual_seed(0)
    first = colours(2)
    assert Pixels(first.images, first.settings).identity == first.identity
    assert Pixels(first.images, settings(flip=False)).identity != first.identity
    assert colours(3).identity != first.identity
