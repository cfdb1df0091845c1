"""Networks of classes in the trainer that detectors have, too."""

from dataclasses import replace
from threading import Event
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD

from launcher.api import JobError
from tests.trueface.class_toys import colours, settings
from trueface.data.class_images import ClassPixels
from trueface.models.detectors import Classifier, build_classifier
from trueface.models.registry import ClassifierShape
from trueface.runtime.progress import RunContext
from trueface.training import trainer
from trueface.training.class_settings import ClassifySettings
from trueface.training.schedules import warmup_cosine
from trueface.training.trainer import TrainingResult


def network() -> Classifier:
    return build_classifier(ClassifierShape(model="cnn", stem="small", size=16, classes=3), seed=1)


def fit(
    model: nn.Module,
    train_images: ClassPixels,
    validation_images: ClassPixels,
    chosen: ClassifySettings,
    *,
    watch: RunContext,
) -> TrainingResult:
    return trainer.fit(
        model,
        train_images.examples().loader(batch_size=chosen.batch_size),
        validation_images.examples().loader(augment=False),
        chosen.trainer,
        watch=watch,
    )


@pytest.mark.parametrize(
    "changed", [{"schedule": "onecycle", "lr": 2e-3}, {"optimizer": "adamw", "lr": 1e-3}]
)
def test_every_learning_rate_schedule_and_optimizer_trains(changed: dict[str, Any]) -> None:
    chosen = settings(**changed)
    # whole batches: two images in a batch norm over 1 by 1 pixels have gradients of up to 1/√eps
    done = fit(network(), colours(8), colours(2), chosen, watch=RunContext())
    assert len(done.epochs) == 2
    assert done.epochs[-1].lr < chosen.recipe.lr


def test_diverged_or_stopped_training_is_reported() -> None:
    with pytest.raises(JobError, match=r"loss became (inf|nan) in epoch 1, .* Use a lower lr"):
        fit(network(), colours(8), colours(2), settings(lr=1e30), watch=RunContext())
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped in epoch 1 of 2"):
        fit(network(), colours(8), colours(2), settings(), watch=RunContext(stop=stop))


def test_training_equals_reference_loop_bit_by_bit() -> None:
    chosen, learned = settings(lr=0.01, optimizer="sgd", weight_decay=5e-4), colours(4)
    model, plain = network(), network()
    trainer.fit(
        model,
        learned.examples().loader(batch_size=8),
        colours(2).examples().loader(augment=False),
        replace(chosen.trainer, select="last"),
        watch=RunContext(),
    )
    optimizer = SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    step, steps = 0, 2 * 2
    for epoch in range(2):
        plain.train()
        for batch in learned.examples().batches(epoch=epoch, batch_size=8):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * warmup_cosine(step, steps)
            labels = torch.tensor([learned.images.labels[position] for position in batch.indices])
            loss = functional.cross_entropy(plain(batch.inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
            step += 1
    assert step == steps
    pairs = zip(
        model.network.state_dict().values(), plain.network.state_dict().values(), strict=True
    )
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
