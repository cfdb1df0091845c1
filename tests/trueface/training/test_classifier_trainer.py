from threading import Event
from typing import Any

import pytest
import torch

from launcher.api import JobError
from tests.trueface.class_toys import SMALL
from trueface.data.class_images import Images
from trueface.models import classifiers
from trueface.models.classifiers import Classifier
from trueface.models.registry import Shape
from trueface.runtime.progress import Watch
from trueface.training.class_settings import ClassifySettings
from trueface.training.classifier_trainer import Pixels, augmented, fit, rate
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.tasks.class_forgetting import Learning


def settings(**changed: Any) -> ClassifySettings:
    return ClassifySettings.model_validate({**SMALL, "num_epochs": 2, **changed})


def colours(per_class: int, **changed: Any) -> Pixels:
    labels = torch.arange(3).repeat(per_class)
    random = torch.Generator().manual_seed(per_class)
    pixels = torch.randint(0, 90, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=random)
    pixels[torch.arange(len(labels)), labels] += 150
    names = tuple(f"{at}.png" for at in range(len(labels)))
    return Pixels(Images(pixels, tuple(labels.tolist()), names), settings(**changed))


def network() -> Classifier:
    return classifiers.build(Shape(model="resnet18", stem="large", size=16, classes=3), seed=1)


def test_an_epochs_batches_follow_from_the_epoch_and_a_tests_are_as_they_lie() -> None:
    pixels = colours(4, crop=True)
    first, again, other = (
        torch.cat([one for one, _ in pixels(range(12), epoch=epoch, batch_size=5)])
        for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    ((still, places),) = pixels([3, 1], epoch=None, batch_size=None)
    assert places.tolist() == [3, 1]
    assert torch.equal(still, pixels.images.pixels[[3, 1]])


def test_images_are_mirrored_and_moved_each_on_its_own() -> None:
    batch = torch.randint(1, 256, (64, 3, 16, 16), dtype=torch.uint8)
    chance = torch.Generator().manual_seed(1)
    flipped = augmented(batch, chance, flip=True, crop=False)
    same = (flipped == batch).flatten(1).all(1)
    assert 10 < int(same.sum()) < 54
    assert torch.equal(flipped[~same], batch[~same].flip(-1))
    moved = augmented(batch, chance, flip=False, crop=True)
    assert moved.shape == batch.shape
    for image, shifted in zip(batch, moved, strict=True):
        assert any(
            torch.equal(torch.roll(image, (y, x), (1, 2))[:, 2:-2, 2:-2], shifted[:, 2:-2, 2:-2])
            for y in range(-2, 3)
            for x in range(-2, 3)
        )


def test_a_training_learns_keeps_the_best_epoch_and_can_be_repeated() -> None:
    pixels, checked = colours(16), colours(4)
    found = []
    for _ in range(2):
        model = network()
        done = fit(
            model, pixels.examples(), "trained",
            validation=checked.examples(), settings=settings(num_epochs=8, lr=0.005), watch=Watch(),
        )  # fmt: skip
        assert not model.training
        assert done.chosen.merit == max(epoch.merit for epoch in done.epochs)
        assert done.chosen.val_accuracy > 0.6
        assert done.samples_read == 8 * 48
        found.append(model.network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    "changed", [{"schedule": "onecycle", "lr": 2e-3}, {"optimizer": "adamw", "lr": 1e-3}]
)
def test_every_rule_of_the_rate_and_of_the_steps_is_a_training(changed: dict[str, Any]) -> None:
    chosen = settings(**changed)
    done = fit(
        network(), colours(6).examples(), "trained",
        validation=colours(2).examples(), settings=chosen, watch=Watch(),
    )  # fmt: skip
    assert len(done.epochs) == 2
    assert done.epochs[-1].lr < chosen.recipe.lr


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_the_rate_rises_to_its_highest_and_falls_to_nothing(schedule: str) -> None:
    shares = [rate(step, 100, schedule) for step in range(100)]
    top = shares.index(max(shares))
    assert max(shares) == pytest.approx(1)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert 0 < shares[0] < 0.5
    assert 0 < shares[-1] < 0.001
    assert all(0 < rate(0, total, schedule) <= 1 for total in (1, 2, 3))


def test_half_precision_is_taken() -> None:
    for precision in ("bf16", "fp16"):
        done = fit(
            network(), colours(4).examples(), "trained",
            validation=colours(2).examples(), settings=settings(), watch=Watch(precision=precision),
        )  # fmt: skip
        assert done.epochs[-1].loss < 5


def test_a_last_image_alone_joins_the_batch_before_it() -> None:
    done = fit(
        network(), colours(3).examples(), "trained",
        validation=colours(2).examples(), settings=settings(), watch=Watch(),
    )  # fmt: skip
    assert done.samples_read == 2 * 9  # in batches of eight


def test_a_method_may_train_for_other_epochs_at_another_rate() -> None:
    steps = Learning(settings())(
        network(), colours(4).examples(), "trained", validation=colours(2).examples(),
        options=TrainingOptions(epochs=1, lr=0.001), watch=Watch(),
    )  # fmt: skip
    assert [step.step for step in steps] == [1]
    assert set(steps[0].metrics) >= {"loss", "val_accuracy"}


def test_a_training_that_diverges_or_is_stopped_says_so() -> None:
    with pytest.raises(JobError, match=r"diverged in epoch 1 .* take a lower lr"):
        fit(
            network(), colours(8).examples(), "trained",
            validation=colours(2).examples(), settings=settings(lr=1e30), watch=Watch(),
        )  # fmt: skip
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped in epoch 1 of 2"):
        fit(
            network(), colours(8).examples(), "trained",
            validation=colours(2).examples(), settings=settings(), watch=Watch(stop=stop),
        )  # fmt: skip


def test_the_identity_tells_images_and_what_is_done_to_them() -> None:
    torch.manual_seed(0)
    first = colours(2)
    assert Pixels(first.images, first.settings).identity == first.identity
    assert Pixels(first.images, settings(flip=False)).identity != first.identity
    assert colours(3).identity != first.identity
